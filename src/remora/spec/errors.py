"""
The closed table of errors that the Lambda API answers with, and the one exception that names them.

Source: error shapes of the service model (status and the case of the message member); `ValidationException`
and the authentication failures are not in the model but on the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class ErrorKind(NamedTuple):
    """
    How one error looks on the wire.

    Args:
        status: HTTP status.
        message_member: Name of the JSON member that holds the text: `Message` or `message`.
        has_type: True if the body has a `Type` member (`User` or `Service`).
    """

    status: int
    message_member: str = "message"
    has_type: bool = True


ERRORS: Final[Mapping[str, ErrorKind]] = {
    "ValidationException": ErrorKind(400, has_type=False),
    "SerializationException": ErrorKind(400, "Message"),
    "InvalidParameterValueException": ErrorKind(400),
    "InvalidRequestContentException": ErrorKind(400),
    "AliasLimitExceededException": ErrorKind(400),
    "CodeStorageExceededException": ErrorKind(400),
    "CodeVerificationFailedException": ErrorKind(400, "Message"),
    "InvalidCodeSignatureException": ErrorKind(400, "Message"),
    "NoPublishedVersionException": ErrorKind(400, "Message"),
    "PolicyLengthExceededException": ErrorKind(400),
    "PublicPolicyException": ErrorKind(400, "Message"),
    "RecursiveInvocationException": ErrorKind(400, "Message"),
    "ResourceInUseException": ErrorKind(400, "Message"),
    "SnapStartException": ErrorKind(400, "Message"),
    "ServiceQuotaExceededException": ErrorKind(402, "Message"),
    "AccessDeniedException": ErrorKind(403, "Message"),
    "ExpiredTokenException": ErrorKind(403),
    "IncompleteSignatureException": ErrorKind(403),
    "InvalidSignatureException": ErrorKind(403),
    "MissingAuthenticationTokenException": ErrorKind(403),
    "UnrecognizedClientException": ErrorKind(403),
    "CodeSigningConfigNotFoundException": ErrorKind(404, "Message"),
    "ProvisionedConcurrencyConfigNotFoundException": ErrorKind(404),
    "ResourceNotFoundException": ErrorKind(404, "Message"),
    "SnapStartTimeoutException": ErrorKind(408, "Message"),
    "CodeArtifactUserDeletedException": ErrorKind(409),
    "CodeArtifactUserFailedException": ErrorKind(409),
    "CodeArtifactUserPendingException": ErrorKind(409),
    "ResourceConflictException": ErrorKind(409),
    "SnapStartNotReadyException": ErrorKind(409, "Message"),
    "SnapStartRegenerationFailureException": ErrorKind(409, "Message"),
    "PreconditionFailedException": ErrorKind(412),
    "RequestEntityTooLargeException": ErrorKind(413),
    "UnsupportedMediaTypeException": ErrorKind(415),
    "TooManyRequestsException": ErrorKind(429),
    "ServiceException": ErrorKind(500, "Message"),
    "InvalidRuntimeException": ErrorKind(502, "Message"),
    "InvalidZipFileException": ErrorKind(502, "Message"),
    "ResourceNotReadyException": ErrorKind(502),
}
"""Code on the wire to its form. The model says `RequestTooLargeException` for the longer name."""


class ApiError(Exception):
    """
    The caller's fault (or ours, below 600): ends a request with one of the errors in the table.

    Args:
        code: Key of `ERRORS`.
        message: The text as the caller sees it; None leaves the member away.
        headers: Further answer headers, name to value.
        extra: Further members of the body, `Reason` for example.
    """

    def __init__(
        self,
        code: str,
        message: str | None,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: str,
    ) -> None:
        super().__init__(f"{code}: {message}")
        assert code in ERRORS, f"{code} is in the table of errors"
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.extra = extra

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return ERRORS[self.code].status

    def body(self) -> dict[str, str]:
        """Members of the JSON answer."""
        kind = ERRORS[self.code]
        members: dict[str, str] = {}
        if kind.has_type:
            members["Type"] = "User" if kind.status < 500 else "Service"
        members.update(self.extra)
        if self.message is not None:
            members[kind.message_member] = self.message
        return members


def invalid(message: str) -> ApiError:
    """Make the most frequent error: InvalidParameterValueException, 400."""
    return ApiError("InvalidParameterValueException", message)


def not_found(message: str) -> ApiError:
    """Make a ResourceNotFoundException, 404."""
    return ApiError("ResourceNotFoundException", message)
