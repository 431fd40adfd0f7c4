"""Bodies that are handed over piece by piece, and held back."""

from __future__ import annotations

import asyncio

import pytest

CHUNKED = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
BIG = 8 * 1024 * 1024


class Taker:
    """Takes what is handed over, holding the peer back after `pause_at` bytes."""

    def __init__(self, pause_at=None):
        self.pieces = []
        self.pause_at = pause_at
        self.exchange = None
        self.paused = asyncio.Event()
        self.some = asyncio.Event()

    def began(self, exchange):
        self.exchange = exchange
        exchange.hand_over(self.take)

    def take(self, piece):
        self.pieces.append(piece)
        self.some.set()
        if self.pause_at is not None and sum(map(len, self.pieces)) >= self.pause_at:
            self.exchange.pause()
            self.exchange.pause()
            self.paused.set()

    @property
    def whole(self):
        return b"".join(self.pieces)


def test_pieces_come_as_they_are_sent(play):
    async def scene(stage):
        taker = Taker()
        stage.app.on_began[b"/x"] = taker.began
        peer = await stage.connect()
        await peer.send(CHUNKED + b"3\r\nabc\r\n")
        await stage.app.until("began", "/x")
        await taker.some.wait()
        await peer.send(b"3\r\ndef\r\n0\r\nX-One: 1\r\n\r\n")
        assert (await peer.answer())[2] == b"/x:"
        assert taker.pieces == [b"abc", b"def"]
        assert tuple(taker.exchange.trailers) == ((b"x-one", b"1"),)

    play(scene)


def test_a_body_that_waited_in_line_is_handed_over_from_its_beginning(play):
    async def scene(stage):
        taker = Taker()
        stage.app.on_began[b"/x"] = taker.began
        peer = await stage.connect()
        await peer.send(b"GET /park HTTP/1.1\r\n\r\n" + CHUNKED + b"3\r\nabc\r\n")
        await stage.app.until("ended", "/park")
        await peer.nothing()
        assert not taker.pieces
        stage.app.parked["/park"].respond(200, (), b"")
        await peer.answer()
        await peer.send(b"3\r\ndef\r\n0\r\n\r\n")
        assert (await peer.answer())[2] == b"/x:"
        assert taker.whole == b"abcdef"

    play(scene)


def test_a_whole_body_that_waited_in_line(play):
    async def scene(stage):
        taker = Taker()
        stage.app.on_began[b"/x"] = taker.began
        peer = await stage.connect()
        await peer.send(
            b"GET /park HTTP/1.1\r\n\r\n" + CHUNKED + b"3\r\nabc\r\n0\r\n\r\nGET /y HTTP/1.1\r\n\r\n"
        )
        await stage.app.until("ended", "/park")
        stage.app.parked["/park"].respond(200, (), b"")
        assert [(await peer.answer())[2] for _ in range(3)] == [b"", b"/x:", b"/y:"]
        assert taker.whole == b"abc"

    play(scene)


def test_a_peer_is_held_back_and_let_go(play):
    async def scene(stage):
        taker = Taker(pause_at=1)
        stage.app.on_began[b"/x"] = taker.began
        peer = await stage.connect()
        sending = asyncio.ensure_future(
            peer.send(b"POST /x HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % BIG + bytes(BIG))
        )
        await taker.paused.wait()
        held = len(taker.whole)
        await peer.nothing()
        assert len(taker.whole) == held <= 512 * 1024
        taker.pause_at = None
        taker.exchange.resume()
        taker.exchange.resume()
        assert (await peer.answer())[2] == b"/x:"
        assert len(taker.whole) == BIG
        await sending
        await peer.send(b"GET /after HTTP/1.1\r\n\r\n")
        assert (await peer.answer())[2] == b"/after:"

    play(scene)


def test_an_answer_lets_a_held_peer_go(play):
    async def scene(stage):
        taker = Taker(pause_at=1)
        stage.app.on_began[b"/x"] = taker.began
        peer = await stage.connect()
        sending = asyncio.ensure_future(
            peer.send(b"POST /x HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % BIG + bytes(BIG))
        )
        await taker.paused.wait()
        taker.exchange.respond(400, (), b"no")
        assert (await peer.answer())[0] == 400
        await sending
        assert len(taker.whole) < BIG
        await peer.send(b"GET /after HTTP/1.1\r\n\r\n")
        assert (await peer.answer())[2] == b"/after:"

    play(scene)


def test_too_much_is_not_handed_over(play):
    async def scene(stage):
        taker = Taker()

        def began(exchange):
            exchange.body_bytes_max = 5
            taker.began(exchange)

        stage.app.on_began[b"/x"] = began
        peer = await stage.connect()
        await peer.send(CHUNKED + b"3\r\nabc\r\n3\r\ndef\r\n3\r\nghi\r\n0\r\n\r\n")
        assert (await peer.answer())[2] == b"/x:"
        assert taker.whole == b"abc"
        assert taker.exchange.is_oversized

    play(scene)


@pytest.mark.parametrize("is_held", [False, True])
def test_a_peer_that_leaves_within_its_body(play, is_held):
    async def scene(stage):
        taker = Taker(pause_at=1 if is_held else None)
        stage.app.on_began[b"/x"] = taker.began
        peer = await stage.connect()
        await peer.send(CHUNKED + b"3\r\nabc\r\n")
        await taker.some.wait()
        peer.reset()
        if is_held:
            await peer.leave()
            taker.exchange.resume()
        await stage.app.until("aborted", "/x")
        assert taker.exchange.is_truncated

    play(scene)


def test_a_taker_that_fails_costs_its_connection_only(play, caplog):
    async def scene(stage):
        def began(exchange):
            exchange.hand_over(lambda piece: 1 / 0)

        stage.app.on_began[b"/x"] = began
        peer, other = await stage.connect(), await stage.connect()
        await peer.send(CHUNKED + b"3\r\nabc\r\n")
        assert (await peer.answer())[0] == 500
        assert await peer.rest() == b""
        await other.send(b"GET /y HTTP/1.1\r\n\r\n")
        assert (await other.answer())[2] == b"/y:"

    play(scene)
    assert "could not be served" in caplog.text


def test_holding_back_what_has_ended_does_nothing(play):
    async def scene(stage):
        taker = Taker()
        stage.app.on_began[b"/park"] = taker.began
        peer = await stage.connect()
        await peer.send(b"POST /park HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
        await stage.app.until("ended", "/park")
        taker.exchange.pause()
        taker.exchange.respond(200, (), b"")
        taker.exchange.pause()
        taker.exchange.resume()
        await peer.answer()
        await peer.send(b"GET /after HTTP/1.1\r\n\r\n")
        assert (await peer.answer())[2] == b"/after:"

    play(scene)
