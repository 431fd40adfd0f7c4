"""The rule of revisions: who changes a thing may say which state of it was seen last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remora.spec.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_revision(
    request: Mapping[str, Any], revision_id: str, reader: str = "GetFunction/GetAlias"
) -> None:
    """
    Check that the caller has seen the latest revision, if the request names one.

    Args:
        request: May have a RevisionId.
        revision_id: The latest one.
        reader: The operation that the message tells to call.

    Raises:
        ApiError: PreconditionFailedException.
    """
    given = request.get("RevisionId")
    if given is not None and given != revision_id:
        raise ApiError(
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. "
            f"Call the {reader} API to retrieve the latest Revision Id",
        )
