"""
Random requests for every operation of the Lambda API: each is answered, none from 500 on.

The node is real but for its pool and its runtimes.
"""

from __future__ import annotations

import http.client
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from tests.control.conftest import _run_node

from .endurance import PATIENCE_S, endure, examples
from .shapes import requests

RENEWED_EVERY = 10
"""After so many requests there is a function to ask about again, if there was none."""
ANSWER_S = 20
"""No request may take longer."""


@pytest.fixture
def ask(tmp_path: Path, caplog):
    """Send a request to a node; nothing may go wrong with it, whatever it is."""
    with _run_node(tmp_path / "data") as node:
        node.create("f")
        node.layer("l")

        numbers = count()

        def run(method, target, headers, body):
            if next(numbers) % RENEWED_EVERY == 0:
                with suppress(ClientError):
                    node.create("f", wait=False, Publish=True)
                with suppress(ClientError):
                    node.client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
            line = target.encode("utf-8", "surrogatepass").replace(b"\r", b"").replace(b"\n", b"")
            lines = [f"{method} ".encode() + line.replace(b" ", b"+") + b" HTTP/1.1", b"Host: localhost"]
            lines += [f"{name}: {_on_one_line(value)}".encode() for name, value in headers]
            lines += [b"Content-Length: %d" % len(body), b"Connection: close"]
            with node.connect() as connection:
                connection.settimeout(ANSWER_S)
                connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
                answer = http.client.HTTPResponse(connection, method=method)
                answer.begin()
                content = answer.read()
            assert answer.status < 500, (answer.status, content)
            assert caplog.text == ""

        yield run
        # Then: it still does what it is for.
        node.create("last")
        assert node.invoke("last", Payload=b'"x"') == "x"
        assert caplog.text == ""


def _on_one_line(value):
    return value.replace("\r", " ").replace("\n", " ")


@pytest.mark.slow
@examples(700)
@given(request=requests())
def test_whatever_is_asked_is_answered(ask, request):
    ask(*request)


@pytest.mark.slow_soak
@pytest.mark.timeout(PATIENCE_S)
def test_whatever_is_asked_for_minutes_is_answered(ask):
    def make():
        @given(request=requests())
        def answered(request):
            ask(*request)

        return answered

    endure(make)
