"""
Signature Version 4: what a request claims, and whether the claim is true.

Pure: bytes and a moment in, a verdict out. A signature in the Authorization header and one in the query
(presigned) are read alike; a body that comes in signed chunks is checked chunk by chunk by `chunks`.

A signature holds for the time that AWS grants a clock (5 minutes to either side, for S3 15), a presigned URL
for its own lifetime. Whether a request came before is asked of `replays`.

Source: AWS, "Signature Version 4 signing process", "Authenticating requests: using query parameters".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Header = tuple[bytes, bytes]

ALGORITHM: Final = "AWS4-HMAC-SHA256"
SKEW_S: Final = 300
"""How far the caller's clock may be from the node's."""
S3_SKEW_S: Final = 900
"""The same for S3."""
PRESIGNED_S_MAX: Final = 604_800
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
EMPTY_DIGEST: Final = hashlib.sha256(b"").hexdigest()
_CREDENTIAL: Final = re.compile(r"([^/,\s]+)/(\d{8})/([^/,\s]*)/([^/,\s]*)/aws4_request")
_PARTS: Final = re.compile(r"(Credential|SignedHeaders|Signature)=([^,\s]*)")
_LIFETIME: Final = re.compile(r"[0-9]{1,9}")
_DATE: Final = "%Y%m%dT%H%M%SZ"

MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)


class SignatureError(Exception):
    """
    A request that is not signed as it should be.

    Args:
        code: AWS's name of the error.
        message: The text as the caller sees it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Signed(NamedTuple):
    """A request as it came: target raw, still percent-encoded; header names in lower case."""

    method: bytes
    path: bytes
    query: bytes
    headers: Sequence[Header]


class Claim(NamedTuple):
    """
    What a request says of its signature.

    Args:
        access_key: Identifier of the key that it was made with.
        date: Day of the scope, `YYYYMMDD`.
        region: Region of the scope.
        service: Service of the scope.
        signed_headers: Names in lower case, as listed.
        signature: 64 hexadecimal digits, if it is one.
        moment: When it was made, `YYYYMMDDTHHMMSSZ`.
        token: Session token; empty if there is none.
        lifetime_s: How long it holds from then on, seconds; None unless it is presigned.
    """

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    moment: str
    token: str
    lifetime_s: int | None

    @property
    def scope(self) -> str:
        """The scope as it is signed."""
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def read_claim(request: Signed) -> Claim | None:
    """
    Read what a request says of its signature.

    Returns:
        The claim; None if the request does not say that it is signed.

    Raises:
        SignatureError: IncompleteSignatureException for a claim that lacks something.
    """
    authorization = _header(request, b"authorization")
    if authorization is not None:
        return _read_authorization(request, authorization)
    if b"X-Amz-Algorithm=" in request.query or b"X-Amz-Signature=" in request.query:
        return _read_query(request)
    return None


def verify(claim: Claim, secret: str, request: Signed, payload_digest: str, now_s: float) -> float:
    """
    Check a claim.

    Args:
        claim: From `read_claim`.
        secret: The key's secret.
        request: The request.
        payload_digest: From `payload_digest`.
        now_s: The present, seconds since 1970.

    Returns:
        Until when it holds, seconds since 1970.

    Raises:
        SignatureError: InvalidSignatureException, IncompleteSignatureException.
    """
    until_s = _check_time(claim, now_s)
    names = claim.signed_headers
    if "host" not in names:
        raise SignatureError(
            "InvalidSignatureException", "'Host' must be a 'SignedHeader' in the AWS Authorization."
        )
    for name, _ in request.headers:
        if name.startswith(b"x-amz-") and name.decode("latin-1") not in names:
            text = f"'{name.decode('latin-1')}' must be a 'SignedHeader' in the AWS Authorization."
            raise SignatureError("InvalidSignatureException", text)
    digest = hashlib.sha256(_canonical(claim, request, payload_digest)).hexdigest()
    signature = sign(claim, secret, f"{ALGORITHM}\n{claim.moment}\n{claim.scope}\n{digest}")
    if not hmac.compare_digest(signature.encode(), claim.signature.encode()):
        raise SignatureError("InvalidSignatureException", MISMATCH)
    return until_s


def payload_digest(claim: Claim, request: Signed, body: bytes) -> str:
    """
    Return what a request signs in place of its body.

    S3 lets the caller choose, by header; elsewhere it is the body's digest, whatever a header says.

    Raises:
        SignatureError: XAmzContentSHA256Mismatch if the header names another body.
    """
    if claim.service != "s3":
        return hashlib.sha256(body).hexdigest() if body else EMPTY_DIGEST
    named = (_header(request, b"x-amz-content-sha256") or b"").decode("latin-1")
    if not named:
        return UNSIGNED
    if named == UNSIGNED or named.startswith("STREAMING-"):
        return named
    if named != hashlib.sha256(body).hexdigest():
        text = "The provided 'x-amz-content-sha256' header does not match what was computed."
        raise SignatureError("XAmzContentSHA256Mismatch", text)
    return named


# --- reading ----------------------------------------------------------------------------------------------


def _read_authorization(request: Signed, authorization: bytes) -> Claim:
    text = authorization.decode("latin-1")
    if not text.startswith(ALGORITHM):
        message = f"Unsupported AWS 'algorithm': '{text.partition(' ')[0][:40]}'."
        raise SignatureError("IncompleteSignatureException", message)
    parts = dict(_PARTS.findall(text))
    for name in ("Credential", "Signature", "SignedHeaders"):
        if not parts.get(name):
            message = f"Authorization header requires '{name}' parameter."
            raise SignatureError("IncompleteSignatureException", message)
    moment = _header(request, b"x-amz-date") or b""
    if not moment:
        message = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        raise SignatureError("IncompleteSignatureException", message)
    token = _header(request, b"x-amz-security-token") or b""
    return _claim(parts, moment.decode("latin-1"), token.decode("latin-1"), None)


def _read_query(request: Signed) -> Claim:
    given = {name.decode("latin-1"): value.decode("latin-1") for name, value in _pairs(request.query)}
    names = ("Algorithm", "Credential", "Signature", "Date", "SignedHeaders", "Expires")
    for name in names:
        if not given.get(f"X-Amz-{name}"):
            message = f"AWS query-string parameters must include 'X-Amz-{name}'."
            raise SignatureError("IncompleteSignatureException", message)
    parts = {name: given[f"X-Amz-{name}"] for name in names}
    lifetime = parts["Expires"]
    if parts["Algorithm"] != ALGORITHM:
        raise SignatureError(
            "IncompleteSignatureException", f"Unsupported AWS 'algorithm': '{parts['Algorithm']}'."
        )
    if not _LIFETIME.fullmatch(lifetime) or not 0 < int(lifetime) <= PRESIGNED_S_MAX:
        message = f"X-Amz-Expires must be a number of seconds between 1 and {PRESIGNED_S_MAX}."
        raise SignatureError("IncompleteSignatureException", message)
    return _claim(parts, parts["Date"], given.get("X-Amz-Security-Token", ""), int(lifetime))


def _claim(parts: dict[str, str], moment: str, token: str, lifetime_s: int | None) -> Claim:
    credential = _CREDENTIAL.fullmatch(parts["Credential"])
    if credential is None:
        message = (
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term."
        )
        raise SignatureError("IncompleteSignatureException", message)
    access_key, date, region, service = credential.groups()
    signed = tuple(parts["SignedHeaders"].split(";"))
    return Claim(access_key, date, region, service, signed, parts["Signature"], moment, token, lifetime_s)


def _check_time(claim: Claim, now_s: float) -> float:
    try:
        made_s = datetime.strptime(claim.moment, _DATE).replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        message = "Date must be in ISO-8601 'basic format', YYYYMMDDTHHMMSSZ."
        raise SignatureError("IncompleteSignatureException", message) from error
    if claim.moment[:8] != claim.date:
        message = (
            f"Date in Credential scope does not match the date of the request: {claim.date}, {claim.moment}."
        )
        raise SignatureError("InvalidSignatureException", message)
    skew_s = S3_SKEW_S if claim.service == "s3" else SKEW_S
    lasts_s = skew_s if claim.lifetime_s is None else claim.lifetime_s
    is_early, is_late = made_s - skew_s > now_s, made_s + lasts_s < now_s
    if not is_early and not is_late:
        return made_s + lasts_s
    if claim.service == "s3" and claim.lifetime_s is None:
        message = "The difference between the request time and the current time is too large."
        raise SignatureError("RequestTimeTooSkewed", message)
    if claim.service == "s3":
        raise SignatureError(
            "AccessDenied", "Request is not yet valid" if is_early else "Request has expired"
        )
    now = _moment(now_s)
    if is_early:
        latest = f"{_moment(now_s + skew_s)} ({now} + {skew_s // 60} min.)"
        message = f"Signature not yet current: {claim.moment} is still later than {latest}"
    else:
        granted = f"{skew_s // 60} min." if claim.lifetime_s is None else f"{claim.lifetime_s} s"
        earliest = f"{_moment(now_s - lasts_s)} ({now} - {granted})"
        message = f"Signature expired: {claim.moment} is now earlier than {earliest}"
    raise SignatureError("InvalidSignatureException", message)


def _moment(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime(_DATE)


# --- computing --------------------------------------------------------------------------------------------


def _canonical(claim: Claim, request: Signed, digest: str) -> bytes:
    names = claim.signed_headers
    path = request.path.decode("latin-1") or "/"
    uri = path if claim.service == "s3" else quote(_without_dots(path), safe="/~", encoding="latin-1")
    found: dict[str, list[str]] = {name: [] for name in names}
    for name, value in request.headers:
        values = found.get(name.decode("latin-1"))
        if values is not None:
            values.append(" ".join(value.decode("latin-1").split()))
    headers = "".join(f"{name}:{','.join(found[name])}\n" for name in names)
    query = _canonical_query(request.query)
    text = f"{request.method.decode()}\n{uri}\n{query}\n{headers}\n{';'.join(names)}\n{digest}"
    return text.encode("latin-1")


def _canonical_query(query: bytes) -> str:
    if not query:
        return ""
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in _pairs(query)
        if name != b"X-Amz-Signature"
    )
    return "&".join(f"{name}={value}" for name, value in pairs)


def _pairs(query: bytes) -> Iterable[tuple[bytes, bytes]]:
    for part in query.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            yield unquote_to_bytes(name), unquote_to_bytes(value)


def _without_dots(path: str) -> str:
    """Return a path without empty, `.` and `..` segments; a slash at its end stays."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    end = "/" if path.endswith("/") and kept else ""
    return f"/{'/'.join(kept)}{end}"


def sign(claim: Claim, secret: str, text: str) -> str:
    """Return the signature of a text, hexadecimal, by a key for the scope of a claim."""
    key = _signing_key(secret, claim.date, claim.region, claim.service)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


@lru_cache(maxsize=1024)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _header(request: Signed, name: bytes) -> bytes | None:
    return next((value for other, value in request.headers if other == name), None)
