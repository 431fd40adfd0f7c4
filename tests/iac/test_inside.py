"""A request without a connection hears and says what one with a connection does."""

from __future__ import annotations

import asyncio

import pytest

from remora.iac.inside import Inside

HEADERS = [(b"host", b"127.0.0.1"), (b"x-twice", b"1"), (b"x-twice", b"2")]


def inside(body: bytes = b"body") -> Inside:
    return Inside("POST", b"/path/%20?a=b&c", HEADERS, body, None)


def test_a_request():
    """Path and query are as they were sent; the first of several headers counts."""
    exchange = inside()
    assert (exchange.method, exchange.path, exchange.query) == (b"POST", b"/path/%20", b"a=b&c")
    assert (exchange.header(b"x-twice"), exchange.header(b"other")) == (b"1", None)
    assert (exchange.body, exchange.received_bytes, exchange.is_open) == (b"body", 4, True)
    pieces: list[bytes] = []
    exchange.hand_over(pieces.append)
    exchange.pause()
    exchange.resume()
    assert pieces == [b"body"]


def test_a_body_may_be_too_long():
    """It is known as soon as it is said how long one may be."""
    exchange = inside()
    assert not exchange.is_oversized
    exchange.body_bytes_max = 3
    assert exchange.is_oversized
    exchange.body_bytes_max = 4
    assert not exchange.is_oversized


@pytest.mark.parametrize("headers", [[(b"A", b"b: c"), (b"D", b"e")], b"A: b: c\r\nD: e\r\n"])
def test_an_answer_at_once(headers):
    """Headers are a list, or lines; what follows an answer is not looked at."""
    exchange = inside()
    exchange.respond(201, headers, b"answer")
    exchange.respond(500, [], b"another")
    exchange.write(b"more")
    exchange.close()
    assert (exchange.status, exchange.answer) == (201, b"answer")
    assert exchange.answer_headers == [(b"A", b"b: c"), (b"D", b"e")]
    assert not exchange.is_open


def test_an_answer_in_pieces(run):
    """An answer is complete when it was finished."""

    async def main():
        exchange = inside()
        waiting = asyncio.ensure_future(exchange.answered())
        exchange.begin(200, [], 6)
        for piece in (b"ans", b"wer"):
            exchange.write(piece)
            await exchange.drain()
            assert not waiting.done()
        exchange.finish()
        await waiting
        assert (exchange.status, exchange.answer) == (200, b"answer")

    run(main())


def test_no_answer(run):
    """An answer that breaks off is none."""

    async def main():
        exchange = inside()
        exchange.begin(200, [])
        exchange.write(b"half")
        exchange.close()
        await exchange.answered()
        assert (exchange.status, exchange.answer) == (0, b"")

    run(main())
