"""Random requests and rubbish, split at random places: no crash, no hang, answers in order."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remora.http import connection
from remora.http.known import KnownRequests
from remora.http.limits import Limits
from remora.http.server import Server

LIMITS = Limits(
    header_bytes_max=2000,
    headers_max=20,
    body_bytes_max=300,
    body_bytes_read_max=1000,
    linger_s=0.2,
    idle_timeout_s=5,
    header_timeout_s=5,
    body_timeout_s=5,
    write_timeout_s=5,
)
TIMEOUT_S = 60

bodies = st.binary(max_size=400)
paths = st.sampled_from([b"/now", b"/later", b"/stream", b"/began"])


@st.composite
def requests(draw):
    """One correct request and the body of its answer."""
    path, body = draw(paths), draw(bodies)
    lines = draw(
        st.lists(st.sampled_from([b"A: b", b"Host: h", b"Accept: */*", b"Upgrade: x\r\nConnection: upgrade"]))
    )
    lines = list(dict.fromkeys(lines))
    if draw(st.booleans()):
        sizes = draw(st.lists(st.integers(1, 50), max_size=6))
        pieces, rest = [], body
        for size in sizes:
            pieces, rest = [*pieces, rest[:size]], rest[size:]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*pieces, rest) if part)
        framed = chunks + b"0\r\n" + draw(st.sampled_from([b"", b"T: 1\r\n"])) + b"\r\n"
        lines.append(b"Transfer-Encoding: chunked")
    else:
        framed = body
        lines.append(b"Content-Length: %d" % len(body))
    head = b"POST " + path + b" HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    if path == b"/began":
        return head + framed, b"/began:"
    return head + framed, path + b":" + (body if len(body) <= LIMITS.body_bytes_max else b"")


class Application:
    """Answers from every place from which one can answer; checks what it hears."""

    def __init__(self, loop):
        self.loop = loop

    def began(self, exchange):
        assert exchange.slot is None
        exchange.slot = "began"
        if exchange.path == b"/began":
            exchange.respond(200, (), b"/began:")

    def ended(self, exchange):
        assert exchange.slot == "began"
        exchange.slot = "ended"
        assert exchange.is_open
        answer = exchange.path + b":" + exchange.body
        if exchange.path == b"/stream":
            exchange.begin(200, [(b"Stream", b"1")])
            for start in range(0, len(answer), 100):
                exchange.write(answer[start : start + 100])
            exchange.finish()
        elif exchange.path == b"/now":
            exchange.respond(200, (), answer)
        else:
            self.loop.call_soon(exchange.respond, 200, (), answer)

    def aborted(self, exchange):
        if exchange.is_truncated:
            assert exchange.slot == "began"
        else:
            assert exchange.is_oversized or exchange.slot == "ended"


class Complaints:
    """Stands in for the log: an application that fails is a failure of the test."""

    def __init__(self, problems):
        self.problems = problems

    def exception(self, *args):
        self.problems.append((args, sys.exc_info()[1]))


@pytest.fixture(params=["asyncio", "uvloop", "known"])
def talk(request, monkeypatch):
    """Send pieces to a fresh connection and return all that is answered until the server closes."""
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop
    known = KnownRequests() if request.param == "known" else None
    problems = []
    monkeypatch.setattr(connection, "_log", Complaints(problems))
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        server = Server(Application(loop), socket.create_server(("127.0.0.1", 0)), LIMITS, known=known)
        runner.run(server.start())

        async def converse(pieces, leaves):
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                try:
                    for piece in pieces:
                        if writer.is_closing():  # the server has refused it, and more of it
                            break
                        writer.write(piece)
                        await asyncio.sleep(0)
                    if leaves:
                        return b""
                    if not writer.is_closing():
                        writer.write_eof()
                    return await reader.read()
                except OSError:
                    return b""
                finally:
                    writer.transport.abort()

        def run(pieces, *, leaves=False):
            answers = runner.run(converse(pieces, leaves))
            assert not problems
            return answers

        yield run
        runner.run(server.close())
        assert not problems
        assert not server.connections


def split(data, cuts):
    """Cut `data` at the given places, taken modulo its length."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [
        data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True) if end > start
    ]


def bodies_of(answers):
    """Read answers, chunked or not, without the server's own code."""
    found = []
    while answers:
        head, _, answers = answers.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK"), head
        if b"chunked" in head:
            body = b""
            while True:
                size, _, answers = answers.partition(b"\r\n")
                part, end, answers = answers[: int(size, 16)], *_cut(answers, int(size, 16))
                assert end == b"\r\n"
                if not part:
                    break
                body += part
        else:
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            body, answers = answers[:length], answers[length:]
        found.append(body)
    return found


def _cut(answers, size):
    return answers[size : size + 2], answers[size + 2 :]


relaxed = settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
cuts = st.lists(st.integers(0, 5000), max_size=8)


@pytest.mark.slow
@relaxed
@given(wanted=st.lists(requests(), min_size=1, max_size=6), cuts=cuts)
def test_correct_requests_are_answered_in_order(talk, wanted, cuts):
    data = b"".join(request for request, _ in wanted)
    assert bodies_of(talk(split(data, cuts))) == [body for _, body in wanted]


@pytest.mark.slow
@relaxed
@given(
    wanted=st.lists(requests(), min_size=1, max_size=4),
    place=st.integers(0, 5000),
    rubbish=st.binary(max_size=40),
    removed=st.integers(0, 30),
    cuts=cuts,
    leaves=st.booleans(),
)
def test_damaged_requests_end(  # noqa: PLR0917 - hypothesis passes them by name
    talk, wanted, place, rubbish, removed, cuts, leaves
):
    data = b"".join(request for request, _ in wanted)
    place %= len(data) + 1
    talk(split(data[:place] + rubbish + data[place + removed :], cuts), leaves=leaves)


@pytest.mark.slow
@relaxed
@given(data=st.binary(max_size=3000), cuts=cuts)
def test_rubbish_ends(talk, data, cuts):
    talk(split(data, cuts))
