"""Layers of other accounts that a function is to have: asked for, kept, held for a record."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from remora.artifacts.archive import ArchiveError
from remora.artifacts.blobs import BlobDamaged
from remora.artifacts.elsewhere import ElsewhereError, LayerUnknown
from remora.resources.layers import missing_layer, not_shared, stand_ins
from remora.spec.errors import ApiError, invalid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from remora.artifacts.artifacts import Artifacts
    from remora.artifacts.elsewhere import LayersElsewhere, Offer
    from remora.control.context import Control
    from remora.control.operations.call import Call
    from remora.resources.layers import Shared
    from remora.resources.packages import Package
    from remora.resources.records import LayerReference

NOWHERE: Final = "the layer %s is of another account; name where such layers are: --layers-endpoint"

_log = logging.getLogger("remora.control")


@asynccontextmanager
async def shared_layers(
    control: Control, call: Call, check: Callable[[Shared], object]
) -> AsyncIterator[Shared]:
    """
    Keep the layers of other accounts that a request names, for the time of the block.

    If the block fails, nobody refers to them, and they are removed in the background.

    Args:
        control: The node's parts.
        call: Of an operation that may have `Layers`.
        check: Goes through the rules as if all layers were shared; nobody else is asked before that.

    Raises:
        ApiError: As `check`; if a layer is not shared, there is none, its zip is refused or could not be had.
    """
    wanted = stand_ins(control.place, call.request.get("Layers", ()))
    check(wanted)
    found: dict[str, LayerReference] = {}
    try:
        async with AsyncExitStack() as held:
            for arn, stand_in in wanted.items():
                package = await _package(control, call.caller, stand_in.arn, held)
                found[arn] = msgspec.structs.replace(
                    stand_in,
                    code_size_bytes=package.size_bytes,
                    digest=package.digest,
                    unzipped_bytes=package.unzipped_bytes,
                )
            yield found
    except BaseException:
        if found:
            control.cleaning.request()
        raise


async def _package(control: Control, caller: str, arn: str, held: AsyncExitStack) -> Package:
    elsewhere, artifacts = control.layers_elsewhere, control.artifacts
    if elsewhere is None:
        _log.warning(NOWHERE, arn)
        raise not_shared(caller, arn)
    try:
        offer = await elsewhere.find(arn)
        if offer is None:
            raise not_shared(caller, arn)
        async with elsewhere.turn:
            content = await _content(elsewhere, artifacts, offer)
            return await held.enter_async_context(artifacts.receiving(content))
    except LayerUnknown as error:
        raise missing_layer(arn) from error
    except ElsewhereError as error:
        raise ApiError("ServiceException", str(error)) from error
    except ArchiveError as error:
        raise invalid(str(error)) from error


async def _content(elsewhere: LayersElsewhere, artifacts: Artifacts, offer: Offer) -> bytes:
    """Return a layer's zip: the one that another function has, or the one that is offered."""
    with artifacts.holding((offer.digest,)):
        try:
            path = await artifacts.sound(offer.digest)
            return await asyncio.to_thread(path.read_bytes)
        except (FileNotFoundError, BlobDamaged):
            return await elsewhere.download(offer)
