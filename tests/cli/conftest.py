"""A node that is only a HTTP server with fixed answers, and a way to run a command line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from remora.cli.main import main


@dataclass
class FakeNode:
    """Answers by path (without the query), and remembers what it was asked."""

    endpoint: str = ""
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def node() -> Iterator[FakeNode]:
    fake = FakeNode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.asked.append(self.path)
            status, body = fake.answers.get(self.path.partition("?")[0], (404, b'{"message":"nothing here"}'))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield fake
        server.shutdown()
        thread.join()


@pytest.fixture
def remora(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., SimpleNamespace]:
    """Run a command line; returns its exit code, standard output and standard error."""
    for name in ("REMORA_ENDPOINT", "REMORA_DRIVER", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> SimpleNamespace:
        with pytest.raises(SystemExit) as exit_info:
            main(arguments)
        captured = capfdbinary.readouterr()
        return SimpleNamespace(
            code=exit_info.value.code, out=captured.out.decode(), err=captured.err.decode()
        )

    return run
