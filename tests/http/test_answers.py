"""What the server says: framing of answers, streaming, flow control."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime

import pytest

from remora.http.answers import DateLine, head
from remora.http.limits import Limits


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 600, b"x" * 200_000])
def test_lengths(play, body):
    async def scene(stage):
        stage.app.on_ended[b"/"] = lambda exchange: exchange.respond(200, [(b"A", b"b")], body)
        peer = await stage.connect()
        for _ in range(3):
            await peer.send(b"GET / HTTP/1.1\r\n\r\n")
            assert await peer.answer() == (200, {"a": "b", "content-length": str(len(body))}, body)

    play(scene)


def test_head_has_length_but_no_body(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"HEAD /h HTTP/1.1\r\n\r\nGET /g HTTP/1.1\r\nConnection: close\r\n\r\n")
        answers = await peer.rest()
        assert answers.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK")

    play(scene)


@pytest.mark.parametrize("status", [204, 304])
def test_answers_that_never_have_a_body(play, status):
    async def scene(stage):
        stage.app.on_ended[b"/"] = lambda exchange: exchange.respond(status, (), b"")
        peer = await stage.connect()
        await peer.send(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        answer = await peer.rest()
        assert b"Content-Length" not in answer
        assert answer.endswith(b"\r\n\r\n")

    play(scene)


def test_unusual_status(play):
    async def scene(stage):
        stage.app.on_ended[b"/"] = lambda exchange: exchange.respond(599, (), b"")
        peer = await stage.connect()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        assert (await peer.answer())[0] == 599

    play(scene)


def test_date(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        _, headers, _ = await peer.answer()
        assert parsedate_to_datetime(headers["date"]).tzinfo is not None

    play(scene, Limits(send_date=True))


def test_date_is_made_once_a_second():
    class Clock:
        now = 1_000_000_000_000

        def wall_ms(self):
            return self.now

    clock = Clock()
    date = DateLine(clock)
    first = date.line()
    assert first == b"Date: Sun, 09 Sep 2001 01:46:40 GMT\r\n"
    clock.now += 999
    assert date.line() is first
    clock.now += 1
    assert date.line() == b"Date: Sun, 09 Sep 2001 01:46:41 GMT\r\n"


@pytest.mark.parametrize(
    "bad", [(b"A", b"b\r\nSet-Cookie: x"), (b"A\nB", b"c"), (b"A", b"b\rc"), (b"A", b"b\n")]
)
@pytest.mark.parametrize("container", [list, tuple])
def test_line_breaks_in_headers_are_refused(bad, container):
    with pytest.raises(ValueError, match="line break"):
        head(200, container([(b"Fine", b"1"), bad]))


def test_constant_headers_are_remembered():
    headers = ((b"Content-Type", b"text/x-remembered"),)
    assert head(200, headers) is head(200, headers)
    for number in range(1000):
        head(200, ((b"N", b"%d" % number),))
    assert head(200, headers) == b"HTTP/1.1 200 OK\r\nContent-Type: text/x-remembered\r\n"


def test_stream(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /park HTTP/1.1\r\n\r\n")
        await stage.app.until("ended", "/park")
        exchange = stage.app.parked["/park"]
        exchange.begin(200, [(b"Content-Type", b"text/plain")])
        assert exchange.is_open
        head_ = await peer.reader.readuntil(b"\r\n\r\n")
        assert head_ == b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
        exchange.write(b"abc")
        exchange.write(b"")
        assert await peer.reader.readexactly(8) == b"3\r\nabc\r\n"
        exchange.finish([(b"T", b"1")])
        assert not exchange.is_open
        assert await peer.reader.readexactly(11) == b"0\r\nT: 1\r\n\r\n"
        await peer.send(b"GET /next HTTP/1.1\r\n\r\n")
        assert (await peer.answer())[2] == b"/next:"

    play(scene)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc"),
        (
            b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc",
        ),
        (
            b"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        ),
    ],
)
def test_stream_without_chunks(play, request_, answer):
    async def scene(stage):
        def stream(exchange):
            exchange.begin(200, ())
            exchange.write(b"abc")
            exchange.finish([(b"T", b"1")])

        stage.app.on_ended[b"/"] = stream
        peer = await stage.connect()
        await peer.send(request_)
        assert await peer.rest() == answer

    play(scene)


def test_drain_waits_for_the_peer(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /park HTTP/1.1\r\n\r\n")
        await stage.app.until("ended", "/park")
        exchange = stage.app.parked["/park"]
        exchange.begin(200, ())
        await exchange.drain()
        for _ in range(200):
            exchange.write(b"x" * 100_000)
        waiting = asyncio.ensure_future(exchange.drain())
        await asyncio.sleep(0)
        assert not waiting.done()
        while not waiting.done():
            await peer.reader.read(1_000_000)
        exchange.finish()
        await exchange.drain()
        await waiting

    play(scene)


def test_drain_ends_when_the_peer_leaves(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /park HTTP/1.1\r\n\r\n")
        await stage.app.until("ended", "/park")
        exchange = stage.app.parked["/park"]
        exchange.begin(200, ())
        for _ in range(200):
            exchange.write(b"x" * 100_000)
        waiting = asyncio.ensure_future(exchange.drain())
        await asyncio.sleep(0)
        assert not waiting.done()
        peer.reset()
        await waiting
        await stage.app.until("aborted", "/park")
        exchange.write(b"x")
        exchange.finish()
        assert not exchange.is_open

    play(scene)


def test_requests_wait_while_the_peer_does_not_read(play):
    async def scene(stage):
        stage.app.on_ended[b"/big"] = lambda exchange: exchange.respond(200, (), b"x" * 1_000_000)
        peer = await stage.connect()
        peer.writer.write(b"GET /big HTTP/1.1\r\n\r\n" * 100)
        await stage.app.until("ended", "/big")
        assert len(stage.app.exchanges) < 40
        for _ in range(100):
            assert len((await peer.answer())[2]) == 1_000_000

    play(scene)


def test_late_answers_and_double_answers(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /park HTTP/1.1\r\n\r\n")
        await stage.app.until("ended", "/park")
        exchange = stage.app.parked["/park"]
        exchange.respond(200, (), b"1")
        exchange.respond(200, (), b"2")
        exchange.begin(200, ())
        exchange.write(b"3")
        exchange.finish()
        assert (await peer.answer())[2] == b"1"
        await peer.send(b"GET /a HTTP/1.1\r\n\r\n")
        assert (await peer.answer())[2] == b"/a:"

    play(scene)


def test_begun_answer_cannot_be_given_whole(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /park HTTP/1.1\r\n\r\n")
        await stage.app.until("ended", "/park")
        exchange = stage.app.parked["/park"]
        exchange.begin(200, ())
        with pytest.raises(AssertionError, match="cannot be answered"):
            exchange.respond(200, (), b"")
        with pytest.raises(AssertionError, match="twice"):
            exchange.begin(200, ())
        exchange.finish()

    play(scene)
