"""
Layers of other accounts, asked for where they are: at another node, or at AWS itself.

Source: AWS Lambda API Reference, GetLayerVersionByArn.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import time
import urllib.request
from typing import IO, Any, Final, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from remora.artifacts.blobs import digest_of
from remora.kit.aws import new_client
from remora.kit.endpoints import REAL
from remora.kit.threads import in_daemon
from remora.spec.limits import UNZIPPED_BYTES_MAX

READ_S: Final = 20
DOWNLOAD_S: Final = 300
"""A zip has come by then."""
ASKED_AT_ONCE: Final = 4
_PIECE_BYTES: Final = 256 * 1024
_DIGEST_BYTES: Final = 32
_REFUSED: Final = frozenset({"AccessDeniedException", "AccessDenied"})
_UNKNOWN: Final = "ResourceNotFoundException"


class Offer(NamedTuple):
    """
    A layer version that may be had.

    Args:
        arn: Its ARN.
        digest: SHA-256 of its zip, hexadecimal.
        size_bytes: Length of its zip.
        location: URL of its zip.
    """

    arn: str
    digest: str
    size_bytes: int
    location: str


class LayerUnknown(Exception):  # noqa: N818 - what it is
    """There is no such layer version."""


class ElsewhereError(Exception):
    """Another account's layers could not be asked for; the text says why."""


class LayersElsewhere:
    """
    Layers of other accounts.

    Args:
        endpoint: Base URL of the Lambda API that has them, `aws` for AWS itself.
        region: Where they are.
    """

    def __init__(self, endpoint: str, region: str) -> None:
        self._endpoint = endpoint
        self._region = region
        self._client: Any = None
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)
        self.turn = asyncio.Semaphore(1)
        """For whoever has a layer in memory: one may take 250 MB, and others may want the same."""

    def __repr__(self) -> str:
        return f"<LayersElsewhere at {self._endpoint}>"

    async def find(self, arn: str) -> Offer | None:
        """
        Ask for a layer version; None if it is not shared with us.

        Raises:
            LayerUnknown: If there is none.
            ElsewhereError: If that could not be found out.
        """
        async with self._asking:
            return await in_daemon(self._find, arn)

    async def download(self, offer: Offer) -> bytes:
        """
        Return the zip of a layer version; it is what was offered.

        Raises:
            ElsewhereError: If it could not be had.
        """
        return await in_daemon(self._download, offer)

    def _find(self, arn: str) -> Offer | None:
        try:
            if self._client is None:
                self._client = new_client(get_session(), "lambda", self._region, self._endpoint, attempts=1)
            content = self._client.get_layer_version_by_arn(Arn=arn)["Content"]
            return Offer(
                arn, _digest(content["CodeSha256"]), int(content["CodeSize"]), str(content["Location"])
            )
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in _REFUSED:
                return None
            if code == _UNKNOWN:
                raise LayerUnknown(arn) from error
            raise self._failed(arn, str(error)) from error
        except BotoCoreError as error:
            raise self._failed(arn, str(error)) from error
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise self._failed(arn, f"its answer was not understood ({error!r})") from error

    def _download(self, offer: Offer) -> bytes:
        if not offer.location.startswith(("http://", "https://")):
            raise self._failed(offer.arn, f"it is said to be at {offer.location}")
        if offer.size_bytes > UNZIPPED_BYTES_MAX:
            raise self._failed(offer.arn, f"its {offer.size_bytes} bytes are more than a layer may have")
        try:
            with urllib.request.urlopen(offer.location, timeout=READ_S) as reply:  # noqa: S310 - see above
                content = _read(reply, offer.size_bytes + 1)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._failed(offer.arn, f"its zip could not be downloaded: {error}") from error
        if digest_of(content) != offer.digest:
            raise self._failed(offer.arn, "its zip is not the one that was offered")
        return content

    def _failed(self, arn: str, why: str) -> ElsewhereError:
        where = "AWS" if self._endpoint == REAL else self._endpoint
        return ElsewhereError(f"The layer {arn} could not be had from {where}: {why}")


def _read(reply: IO[bytes], bytes_max: int) -> bytes:
    """Read what there is, so many bytes at most; raises TimeoutError."""
    deadline_s = time.monotonic() + DOWNLOAD_S
    pieces: list[bytes] = []
    left = bytes_max
    while left and (piece := reply.read1(min(left, _PIECE_BYTES))):  # type: ignore[attr-defined]
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"it took more than {DOWNLOAD_S} s")
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _digest(text: str) -> str:
    digest = base64.b64decode(text, validate=True)
    if len(digest) != _DIGEST_BYTES:
        raise ValueError(f"{text!r} is no digest")
    return digest.hex()
