"""A receiver of OTLP over HTTP that decodes what it gets with the protocol's own message types."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUESTS = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}


class Receiver:
    """
    What came.

    Args:
        statuses: What the first requests are answered; all others 200.
        answer: Body of every answer.
    """

    def __init__(self, statuses: Iterator[int], answer: bytes) -> None:
        self.statuses, self.answer = statuses, answer
        self.headers: list[dict[str, str]] = []
        self.refused = 0
        self.let_go = threading.Event()
        """Nothing is answered before it is set."""
        self.let_go.set()
        self._messages: dict[str, list[Any]] = {path: [] for path in REQUESTS}
        self._changed = threading.Condition()
        self.url = ""

    def take(self, path: str, headers: Any, body: bytes) -> int:
        self.let_go.wait(60)
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        message = REQUESTS[path].FromString(body)
        with self._changed:
            self.headers.append(dict(headers))
            status = next(self.statuses, 200)
            if status == 200:
                self._messages[path].append(message)
            else:
                self.refused += 1
            self._changed.notify_all()
        return status

    def wait(self, is_there: Any, within_s: float = 60) -> Any:
        """Wait until `is_there()` is true of what has come; returns its value."""
        with self._changed:
            assert self._changed.wait_for(is_there, within_s), self._messages
            return is_there()

    def spans(self) -> list[tuple[dict[str, Any], Any]]:
        """Return all spans, each with the attributes of its resource."""
        return [
            (attributes(resource.resource), span)
            for message in self._messages["/v1/traces"]
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def logs(self) -> list[tuple[dict[str, Any], Any]]:
        return [
            (attributes(resource.resource), record)
            for message in self._messages["/v1/logs"]
            for resource in message.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def metrics(self) -> dict[str, Any]:
        """Return the metrics of the last message, by name."""
        return {
            metric.name: metric
            for message in self._messages["/v1/metrics"][-1:]
            for resource in message.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def attributes(carrier: Any) -> dict[str, Any]:
    """Return the attributes of a resource, span or record as a dictionary."""

    def value(any_value: Any) -> Any:
        kind = any_value.WhichOneof("value")
        if kind == "array_value":
            return [value(each) for each in any_value.array_value.values]
        return getattr(any_value, kind)

    return {each.key: value(each.value) for each in carrier.attributes}


@contextmanager
def receiving(*statuses: int, answer: bytes = b"") -> Iterator[Receiver]:
    receiver = Receiver(iter(statuses), answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.take(self.path, self.headers, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(receiver.answer)))
            self.end_headers()
            self.wfile.write(receiver.answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.let_go.set()
        server.shutdown()
        thread.join()
        server.server_close()
