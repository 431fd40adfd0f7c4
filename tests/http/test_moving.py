"""Connections that change their server, with a request that waits, and without."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from remora.http.limits import Limits
from remora.http.moving import CannotMoveError, adopt, hand_over
from remora.http.server import Server

from .conftest import Notebook

PARKED = b"GET /park?x=1 HTTP/1.1\r\nHost: h\r\nX-Case: Kept\r\n\r\n"


@asynccontextmanager
async def another(limits=None):
    """Run a second server, with an application of its own."""
    app = Notebook()
    server = Server(app, socket.create_server(("127.0.0.1", 0)), limits)
    await server.start()
    try:
        yield server, app
    finally:
        await server.close()


async def parked(stage):
    """Return a peer whose request waits."""
    peer = await stage.connect()
    await peer.send(PARKED)
    await stage.app.until("ended", "/park")
    return peer


def test_a_request_that_waits_is_answered_by_its_new_server(play):
    async def scene(stage):
        peer = await parked(stage)
        # When its connection changes its server
        (moved,) = hand_over(stage.server)
        await stage.until_connections(0)
        assert moved.exchange is stage.app.parked["/park"]
        assert not moved.exchange.is_open
        moved.exchange.respond(200, (), b"never sent")
        assert moved.request == PARKED.replace(b"Host", b"host").replace(b"X-Case", b"x-case")
        async with another() as (server, app):
            exchange = await adopt(server, moved.socket, moved.request)
            await peer.nothing()
            # Then neither application hears of that
            assert app.heard == []
            assert ("aborted", "/park") not in stage.app.heard
            assert (exchange.path, exchange.query, exchange.header(b"x-case")) == (b"/park", b"x=1", b"Kept")
            # And it is answered, and the connection serves on
            exchange.respond(200, (), b"there")
            assert (await peer.answer())[2] == b"there"
            for _ in range(2):
                await peer.send(b"GET /after HTTP/1.1\r\n\r\n")
                assert (await peer.answer())[2] == b"/after:"
            assert app.heard == [("began", "/after"), ("ended", "/after")] * 2

    play(scene)


def test_an_idle_connection_serves_on_and_may_move_twice(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /one HTTP/1.1\r\n\r\n")
        await peer.answer()
        (moved,) = hand_over(stage.server)
        assert (moved.request, moved.exchange) == (None, None)
        async with another() as (first, _), another() as (second, _):
            assert await adopt(first, moved.socket, None) is None
            (moved,) = hand_over(first)
            assert await adopt(second, moved.socket, None) is None
            await peer.send(b"GET /two HTTP/1.1\r\n\r\n")
            assert (await peer.answer())[2] == b"/two:"
            assert len(second.connections) == 1

    play(scene)


def test_what_is_sent_in_between_is_not_lost(play):
    async def scene(stage):
        peer = await parked(stage)
        (moved,) = hand_over(stage.server)
        await peer.send(b"GET /next HTTP/1.1\r\n\r\n")
        async with another() as (server, app):
            exchange = await adopt(server, moved.socket, moved.request)
            await peer.nothing()
            assert app.heard == []
            exchange.respond(200, (), b"first")
            assert [(await peer.answer())[2] for _ in range(2)] == [b"first", b"/next:"]

    play(scene)


def test_a_peer_that_leaves_aborts_it(play):
    async def scene(stage):
        peer = await parked(stage)
        (moved,) = hand_over(stage.server)
        async with another() as (server, app):
            exchange = await adopt(server, moved.socket, moved.request)
            peer.reset()
            await app.until("aborted", "/park")
            assert not exchange.is_open
            assert app.heard == [("aborted", "/park")]

    play(scene)


def test_an_idle_time_out_and_garbage_end_it(play):
    async def scene(stage):
        quiet, noisy = await stage.connect(), await stage.connect()
        await stage.until_connections(2)
        first, second = hand_over(stage.server)
        async with another(Limits(idle_timeout_s=0.05)) as (server, _):
            await adopt(server, first.socket, None)
            await adopt(server, second.socket, None)
            await noisy.send(b"\x00garbage\r\n\r\n")
            assert (await noisy.answer())[0] == 400
            assert await noisy.rest() == b""
            assert await quiet.rest() == b""

    play(scene)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /half HTTP/1.1\r\nX-",
        b"POST /half HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc",
        b"GET /park HTTP/1.1\r\n\r\nGET /line HTTP/1.1\r\n\r\n",
        b"POST /park HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /park HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /park HTTP/1.0\r\n\r\n",
    ],
)
def test_none_is_moved_if_one_is_busy(play, sent):
    async def scene(stage):
        idle, busy = await stage.connect(), await stage.connect()
        await stage.until_connections(2)
        await busy.send(sent)
        await busy.nothing()
        while all(each.is_between for each in stage.server.connections):  # noqa: ASYNC110 - nothing else would be told
            await asyncio.sleep(0)
        with pytest.raises(CannotMoveError, match="within a request or an answer"):
            hand_over(stage.server)
        await idle.send(b"GET /idle HTTP/1.1\r\n\r\n")
        assert (await idle.answer())[2] == b"/idle:"

    play(scene)


@pytest.mark.parametrize("request_head", [b"", b"GET /half HTTP/1.1\r\n", b"nonsense\r\n\r\n"])
def test_what_is_no_request_is_not_adopted(play, request_head):
    async def scene(stage):
        ours, theirs = socket.socketpair()
        with theirs, pytest.raises(CannotMoveError):
            await adopt(stage.server, ours, request_head)
        await stage.until_connections(0)

    play(scene)


def test_a_server_that_is_full_or_closed_adopts_none(play):
    async def scene(stage):
        ours, theirs = socket.socketpair()
        with theirs:
            async with another(Limits(connections_max=0)) as (full, _):
                with pytest.raises(CannotMoveError, match="takes no further"):
                    await adopt(full, ours, None)
            with pytest.raises(CannotMoveError, match="closed"):
                await adopt(full, ours, None)

    play(scene)
