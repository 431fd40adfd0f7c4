"""Takes in the zip of a request: checked, kept, unpacked, and held until a record refers to it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from remora.artifacts.archive import ArchiveError
from remora.resources.packages import S3Source, find_package, source_of
from remora.spec.errors import invalid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from remora.control.context import Control
    from remora.resources.packages import Package


@asynccontextmanager
async def uploaded(control: Control, source: dict[str, Any]) -> AsyncIterator[Package]:
    """
    Keep the zip in `source` (which loses it), or in the node's S3, for the time of the block.

    If the block fails, nobody refers to the zip, and it is removed in the background.

    Raises:
        ApiError: If there is no zip, or if it is refused.
    """
    content = await _content(control, source)
    source.pop("ZipFile", None)
    try:
        async with control.artifacts.receiving(content) as package:
            yield package
    except ArchiveError as error:
        raise invalid(str(error)) from error
    except BaseException:
        control.cleaning.request()
        raise


async def _content(control: Control, source: dict[str, Any]) -> bytes:
    origin = source_of(source)
    if not isinstance(origin, S3Source):
        return origin
    found = find_package(control.state.view, origin)
    with control.artifacts.holding((found.digest,)):
        path = await control.artifacts.sound(found.digest)
        return await asyncio.to_thread(path.read_bytes)
