"""Links to zips on this node, signed and valid for ten minutes, and the answer to whoever follows one."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from typing import TYPE_CHECKING, BinaryIO, Final

from remora.spec import limits
from remora.spec.codec import parse_query
from remora.spec.errors import ApiError, not_found

if TYPE_CHECKING:
    from pathlib import Path

    from remora.control.context import Control
    from remora.http.exchange import Exchange

PREFIX: Final = b"/_packages/"
_CHUNK_BYTES: Final = 256 * 1024
_DIGEST: Final = re.compile(rb"[0-9a-f]{64}")
_NUMBER: Final = re.compile(r"[0-9]{1,12}")


def location(control: Control, base_url: str, digest: str) -> str:
    """
    Return a link to a zip.

    Args:
        control: The node's parts.
        base_url: Where the caller reaches the node, if the settings do not say.
        digest: SHA-256 of the zip, hexadecimal.
    """
    expires = control.clock.wall_ms() // 1000 + limits.DOWNLOAD_URL_S
    signature = _sign(control, digest, expires)
    base = control.settings.endpoint or base_url
    return f"{base.rstrip('/')}{PREFIX.decode()}{digest}?Expires={expires}&Signature={signature}"


async def download(control: Control, exchange: Exchange) -> None:
    """
    Answer a link that `location` made; the zip is read in threads, as fast as the peer takes it.

    Raises:
        ApiError: If the link is not valid (any more), or the zip is gone.
    """
    digest = exchange.path[len(PREFIX) :]
    query = parse_query(exchange.query)
    expires, signature = (query.get(name, [""])[0] for name in ("Expires", "Signature"))
    if exchange.method != b"GET" or not _DIGEST.fullmatch(digest) or not _NUMBER.fullmatch(expires):
        raise not_found("There is no such download.")
    expected = _sign(control, digest.decode(), int(expires))
    if not hmac.compare_digest(signature.encode(), expected.encode()):
        raise ApiError("InvalidSignatureException", "The signature of the download link is wrong.")
    if control.clock.wall_ms() // 1000 > int(expires):
        raise ApiError("ExpiredTokenException", "The download link has expired; ask for a new one.")
    try:
        file = await asyncio.to_thread(_open, await control.artifacts.sound(digest.decode()))
    except FileNotFoundError as error:
        raise not_found("The package has been deleted.") from error
    try:
        exchange.begin(200, [(b"Content-Type", b"application/zip")])
        while exchange.is_open and (chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES)):
            exchange.write(chunk)
            await exchange.drain()
        exchange.finish()
    finally:
        file.close()


def _open(path: Path) -> BinaryIO:
    return path.open("rb", buffering=0)


def _sign(control: Control, digest: str, expires: int) -> str:
    message = f"{digest}\n{expires}".encode()
    return hmac.new(control.settings.signing_key, message, hashlib.sha256).hexdigest()
