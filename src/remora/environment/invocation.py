"""The invocation that an environment is working on, as its invoker sees it: one answer, whole or streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from remora.environment.answers import failure_payload
from remora.environment.base import InvokeResult
from remora.environment.posting import Posted
from remora.environment.streaming import ResponseStream, StreamEnd
from remora.lifecycle.messages import Failure
from remora.spec.limits import RESPONSE_STREAM_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.environment.base import InvokeRequest
    from remora.http.exchange import Exchange

_BROKE = Failure("Sandbox.Failure", "The environment broke down; the node's log tells why")


class Invocation(msgspec.Struct):
    """
    One invocation; its invoker hears of it through `answer`, exactly once.

    Args:
        request_id: Its identifier, a UUID.
        request: What is to run.
        deadline_ms: When it must be done, milliseconds since 1970.
        executed_version: `$LATEST` or a number.
        answer: Takes the answer as soon as it is known.
    """

    request_id: str
    request: InvokeRequest
    deadline_ms: int
    executed_version: str
    answer: Callable[[InvokeResult], None]
    error_cause: bytes | None = None
    """What the runtime said about the cause of its error, JSON; for traces."""
    _result: InvokeResult | None = None
    """An answer that waits for the end of the log."""
    _is_answered: bool = False
    _stream: ResponseStream | None = None
    """The response, if it is handed on while it is produced."""
    _end: StreamEnd | None = None
    """An end of the stream that waits for the end of the log."""

    def begin_stream(self, exchange: Exchange) -> None:
        """Answer with a body that has only begun, if the invoker takes it so; `complete` ends it."""
        if not self.request.streams:
            return
        exchange.body_bytes_max = RESPONSE_STREAM_BYTES_MAX
        stream = self._stream = ResponseStream(exchange)
        exchange.hand_over(stream.put)
        content_type = exchange.header(b"content-type") or b"application/octet-stream"
        self._is_answered = True
        self.answer(
            InvokeResult(
                request_id=self.request_id,
                payload=b"",
                function_error=None,
                executed_version=self.executed_version,
                content_type=content_type.decode("latin-1"),
                stream=stream,
            )
        )

    def complete(self, posted: Posted, failure: Failure | None, *, is_error: bool) -> None:
        """
        Give the answer, or keep it until the log is complete if the invoker wants its tail.

        Args:
            posted: What the runtime posted; passed over if there is a failure.
            failure: What the platform words itself.
            is_error: True if the function failed.
        """
        if failure is not None:
            posted = Posted(failure_payload(failure, self.request_id), "application/json")
        self.error_cause = posted.cause
        if self._stream is not None:
            self._end = StreamEnd(posted.error_code, posted.error_details)
            if failure is not None:
                self._end = StreamEnd(failure.error_type, posted.body.decode())
            if not self.request.tail:
                self._stream.finish(self._end)
            return
        result = InvokeResult(
            request_id=self.request_id,
            payload=posted.body,
            function_error="Unhandled" if is_error else None,
            executed_version=self.executed_version,
            content_type=posted.content_type,
        )
        if self.request.tail:
            self._result = result
        else:
            self._is_answered = True
            self.answer(result)

    def finish(self, tail: bytes) -> None:
        """Give an answer that has waited for the log's tail."""
        if self._result is not None:
            self.answer(msgspec.structs.replace(self._result, log_tail=tail))
        elif self._stream is not None and self._end is not None:
            self._stream.finish(self._end._replace(log_tail=tail))

    def break_down(self) -> None:
        """Answer that the environment broke down, if there was no answer yet."""
        payload = failure_payload(_BROKE, self.request_id)
        if self._stream is not None:
            self._stream.finish(StreamEnd(_BROKE.error_type, payload.decode()))
        elif not self._is_answered:
            self.answer(InvokeResult(self.request_id, payload, "Unhandled", self.executed_version))
