"""
InvokeWithResponseStream: the answer is a sequence of events, sent as the function produces it.

A function that does not stream, or fails before it begins, is one event and the end. What goes wrong later is
told by the end: the status was sent long ago.

Source: AWS Lambda API Reference, InvokeWithResponseStream; Amazon event stream encoding.
"""

from __future__ import annotations

import base64
import struct
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from remora.pool.base import StreamEnd

if TYPE_CHECKING:
    from remora.http.exchange import Exchange, Header
    from remora.pool.base import InvokeResult

_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_PRELUDE: Final = struct.Struct(">II")
_TEXT: Final = b"\x07"
"""The type of a header whose value is text."""
_FRAME_BYTES: Final = 16
"""Lengths and checksums of a message."""

_encode: Final = msgspec.json.Encoder().encode


@lru_cache(maxsize=8)
def _event_headers(event_type: str, content_type: str) -> bytes:
    pairs = ((":message-type", "event"), (":event-type", event_type), (":content-type", content_type))
    parts = []
    for name, value in pairs:
        parts += [bytes([len(name)]), name.encode(), _TEXT, _U16.pack(len(value)), value.encode()]
    return b"".join(parts)


def event(event_type: str, content_type: str, payload: bytes) -> bytes:
    """Return one event as a message: lengths, headers, payload, each followed by its checksum."""
    headers = _event_headers(event_type, content_type)
    lengths = _PRELUDE.pack(_FRAME_BYTES + len(headers) + len(payload), len(headers))
    message = b"".join((lengths, _U32.pack(zlib.crc32(lengths)), headers, payload))
    return message + _U32.pack(zlib.crc32(message))


def payload_chunk(payload: bytes) -> bytes:
    """Return the event that carries a piece of the response."""
    return event("PayloadChunk", "application/octet-stream", payload)


def invoke_complete(end: StreamEnd) -> bytes:
    """Return the event that ends every response."""
    members = {}
    if end.error_code:
        members = {"ErrorCode": end.error_code, "ErrorDetails": end.error_details}
    if end.log_tail is not None:
        members["LogResult"] = base64.b64encode(end.log_tail).decode()
    return event("InvokeComplete", "application/json", _encode(members))


async def write_stream(exchange: Exchange, result: InvokeResult) -> None:
    """
    Answer with a result, whether it has only begun or is whole.

    **Cancellation:** the function runs on, nobody hears of it.
    """
    exchange.begin(200, _headers(result))
    if result.stream is None:
        end = _write_whole(exchange, result)
    else:
        try:
            async for chunk in result.stream.chunks():
                exchange.write(payload_chunk(chunk))
                await exchange.drain()
                if not exchange.is_open:
                    return
        finally:
            result.stream.abandon()
        end = result.stream.end
    exchange.write(invoke_complete(end))
    exchange.finish()


def _write_whole(exchange: Exchange, result: InvokeResult) -> StreamEnd:
    if result.function_error is not None:
        return StreamEnd(result.function_error, result.payload.decode(errors="replace"), result.log_tail)
    if result.payload:
        exchange.write(payload_chunk(result.payload))
    return StreamEnd(log_tail=result.log_tail)


def _headers(result: InvokeResult) -> list[Header]:
    return [
        (b"Content-Type", b"application/vnd.amazon.eventstream"),
        (b"x-amzn-RequestId", result.request_id.encode()),
        (b"X-Amz-Executed-Version", result.executed_version.encode()),
        (b"X-Amzn-Remapped-Content-Type", result.content_type.encode("latin-1", "replace")),
    ]
