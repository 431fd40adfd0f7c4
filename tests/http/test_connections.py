"""How connections end: peers that leave, failing applications, time-outs, limits, closing the server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from dataclasses import replace

import pytest

from remora.http.limits import Limits
from remora.http.server import Server


@pytest.mark.parametrize("is_parked", [False, True])
def test_half_closed_peer_gets_its_answers(play, is_parked):
    async def scene(stage):
        peer = await stage.connect()
        path = b"/park" if is_parked else b"/now"
        await peer.send(b"GET " + path + b" HTTP/1.1\r\n\r\nGET /two HTTP/1.1\r\n\r\n")
        peer.half_close()
        if is_parked:
            await stage.app.until("ended", "/park")
            await peer.nothing()
            assert stage.app.parked["/park"].is_open
            stage.app.parked["/park"].respond(200, (), b"late")
        assert (await peer.answer())[2] == (b"late" if is_parked else b"/now:")
        assert (await peer.answer())[2] == b"/two:"
        assert await peer.rest() == b""
        assert not [what for what, _ in stage.app.heard if what == "aborted"]

    play(scene)


def test_peer_that_is_gone_aborts_what_is_parked(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /park HTTP/1.1\r\n\r\n")
        await stage.app.until("ended", "/park")
        peer.reset()
        await stage.app.until("aborted", "/park")
        exchange = stage.app.parked["/park"]
        assert not exchange.is_open
        assert not exchange.is_truncated
        exchange.respond(200, (), b"nobody reads it")
        assert stage.app.heard.count(("aborted", "/park")) == 1

    play(scene)


@pytest.mark.parametrize(
    "start",
    [
        b"POST /t HTTP/1.1\r\nContent-Length: 100\r\n\r\n0123456789",
        b"POST /t HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
    ],
)
@pytest.mark.parametrize("is_reset", [False, True])
def test_truncated_body(play, start, is_reset):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(start)
        await stage.app.until("began", "/t")
        if is_reset:
            peer.reset()
        else:
            peer.half_close()
        await stage.app.until("aborted", "/t")
        assert stage.app.heard == [("began", "/t"), ("aborted", "/t")]
        assert stage.app.exchanges[0].is_truncated
        if not is_reset:
            assert (await peer.answer())[0] == 400
            assert await peer.rest() == b""

    play(scene)


def test_truncation_can_be_answered_by_the_application(play):
    async def scene(stage):
        stage.app.on_aborted[b"/t"] = lambda exchange: exchange.respond(400, (), b"truncated")
        peer = await stage.connect()
        await peer.send(b"POST /t HTTP/1.1\r\nContent-Length: 9\r\n\r\nx")
        peer.half_close()
        assert (await peer.answer())[::2] == (400, b"truncated")
        assert await peer.rest() == b""

    play(scene)


def test_truncated_head(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /t HT")
        peer.half_close()
        assert (await peer.answer())[0] == 400
        assert await peer.rest() == b""
        assert stage.app.heard == []

    play(scene)


@pytest.mark.parametrize("moment", ["on_began", "on_ended"])
def test_failing_application(play, moment, caplog):
    def fail(_exchange):
        raise RuntimeError("on purpose")

    async def scene(stage):
        getattr(stage.app, moment)[b"/f"] = fail
        peer = await stage.connect()
        await peer.send(b"GET /f HTTP/1.1\r\n\r\nGET /g HTTP/1.1\r\n\r\n")
        status, headers, _ = await peer.answer()
        assert (status, headers["connection"]) == (500, "close")
        peer.half_close()
        assert await peer.rest() == b""
        assert ("began", "/g") not in stage.app.heard
        other = await stage.connect()
        await other.send(b"GET /g HTTP/1.1\r\n\r\n")
        assert (await other.answer())[0] == 200

    play(scene)
    assert "on purpose" in caplog.text


def test_failing_application_within_an_answer(play, caplog):
    def fail(exchange):
        exchange.begin(200, ())
        exchange.write(b"abc")
        raise RuntimeError("on purpose")

    async def scene(stage):
        stage.app.on_ended[b"/f"] = fail
        peer = await stage.connect()
        await peer.send(b"GET /f HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert not (await peer.rest()).endswith(b"0\r\n\r\n")

    play(scene)
    assert "on purpose" in caplog.text


def test_exchange_can_drop_its_connection(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /park HTTP/1.1\r\n\r\n")
        await stage.app.until("ended", "/park")
        stage.app.parked["/park"].close()
        assert await peer.rest() == b""
        assert ("aborted", "/park") not in stage.app.heard

    play(scene)


def test_exchange_can_drop_its_connection_after_the_answer(play):
    async def scene(stage):
        def answer(exchange):
            exchange.respond(200, (), b"bye")
            exchange.close()

        stage.app.on_ended[b"/bye"] = answer
        peer = await stage.connect()
        await peer.send(b"GET /bye HTTP/1.1\r\n\r\n")
        assert (await peer.answer())[2] == b"bye"
        assert await peer.rest() == b""

    play(scene)


def test_too_many_connections(play):
    async def scene(stage):
        peers = [await stage.connect() for _ in range(2)]
        for peer in peers:
            await peer.send(b"GET /a HTTP/1.1\r\n\r\n")
            await peer.answer()
        refused = await stage.connect()
        assert (await refused.answer())[0] == 503
        refused.half_close()
        assert await refused.rest() == b""
        await peers[0].leave()
        await stage.until_connections(1)
        again = await stage.connect()
        await again.send(b"GET /b HTTP/1.1\r\n\r\n")
        assert (await again.answer())[2] == b"/b:"

    play(scene, Limits(connections_max=2))


SHORT = Limits(
    header_timeout_s=0.05, body_timeout_s=0.05, idle_timeout_s=0.05, write_timeout_s=0.05, linger_s=0.05
)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (b"GET / HT", 408),
        (b"GET / HTTP/1.1\r\nA: b\r\n", 408),
        (b"POST /b HTTP/1.1\r\nContent-Length: 9\r\n\r\nx", 408),
    ],
)
def test_silent_peers_are_left(play, sent, status):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(sent)
        if status is not None:
            assert (await peer.answer())[0] == status
        assert await peer.rest() == b""
        assert stage.app.heard in ([], [("began", "/b"), ("aborted", "/b")])

    play(scene, SHORT)


def test_slow_headers_do_not_prolong_their_time(play):
    async def scene(stage):
        peer = await stage.connect()

        async def trickle():
            while True:
                await peer.send(b"GET /"[:1] if not started else b"A")
                started.append(1)
                await asyncio.sleep(0.01)

        started = []
        task = asyncio.ensure_future(trickle())
        answer = await peer.answer()
        task.cancel()
        assert answer[0] in {400, 408}

    play(scene, replace(SHORT, linger_s=60))  # else a peer that sends on may hear a reset before the answer


def test_the_first_byte_begins_a_request(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"G")
        assert (await peer.answer())[0] == 408
        other = await stage.connect()
        await other.send(b"\r\n")  # may precede a request, and is none
        assert await other.rest() == b""

    play(scene, SHORT)


def test_idle_connection_is_closed_after_its_answers(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /a HTTP/1.1\r\n\r\n")
        assert (await peer.answer())[2] == b"/a:"
        assert await peer.rest() == b""

    play(scene, SHORT)


def test_silence_in_a_body_that_had_to_wait_is_not_endured(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /park HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 9\r\n\r\nx")
        await stage.app.until("ended", "/park")
        stage.app.parked["/park"].respond(200, (), b"")
        assert (await peer.answer())[0] == 200
        assert (await peer.answer())[0] == 408
        assert await peer.rest() == b""

    play(scene, SHORT)


def test_parked_request_outlives_all_time_outs(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /park HTTP/1.1\r\n\r\n")
        await stage.app.until("ended", "/park")
        other = await stage.connect()
        assert await other.rest() == b""  # its time-out has passed
        stage.app.parked["/park"].respond(200, (), b"late")
        assert (await peer.answer())[2] == b"late"

    play(scene, SHORT)


def test_peer_that_takes_nothing_is_dropped(play):
    async def scene(stage):
        stage.app.on_ended[b"/big"] = lambda exchange: exchange.respond(200, (), b"x" * 30_000_000)
        raw = socket.create_connection(("127.0.0.1", stage.server.port))
        with raw:
            raw.sendall(b"GET /big HTTP/1.1\r\n\r\n")
            await stage.app.until("ended", "/big")
            await stage.until_connections(0)

    play(scene, SHORT)


def test_lingering_ends(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"rubbish\r\n\r\n")
        assert (await peer.answer())[0] == 400
        await stage.until_connections(0)  # though the peer never closes

    play(scene, SHORT)


def test_no_timer_without_time_outs(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /park HTTP/1.1\r\n\r\n")
        await stage.app.until("ended", "/park")
        assert stage.server._timer is None

    play(scene)


def test_close_drops_parked_and_keeps_what_was_said(play):
    async def scene(stage):
        parked, answered = await stage.connect(), await stage.connect()
        await parked.send(b"GET /park HTTP/1.1\r\n\r\n")
        await answered.send(b"GET /park2 HTTP/1.1\r\n\r\n")
        await stage.app.until("ended", "/park")
        await stage.app.until("ended", "/park2")
        stage.app.parked["/park2"].respond(200, (), b"last words")
        await asyncio.gather(stage.server.close(), stage.server.close())
        assert ("aborted", "/park") in stage.app.heard
        assert ("aborted", "/park2") not in stage.app.heard
        assert (await answered.answer())[2] == b"last words"
        assert not stage.server.connections
        with pytest.raises(OSError):
            await stage.connect()
        assert repr(stage.server) == "<Server closed, 0 connections>"

    play(scene)


def test_finish_waits_for_what_was_asked(play):
    async def scene(stage):
        # Given an idle peer, one half of whose headers have come, one that waits, one within its body, and
        # one with a second request behind the first
        idle, half, parked, sending, two = [await stage.connect() for _ in range(5)]
        await idle.send(b"GET /early HTTP/1.1\r\n\r\n")
        assert (await idle.answer())[1].get("connection") is None
        await half.send(b"GET /half HTTP/1.1\r\nA: b\r\n")
        await parked.send(b"GET /park HTTP/1.1\r\n\r\n")
        await sending.send(b"POST /sent HTTP/1.1\r\nContent-Length: 4\r\n\r\nab")
        await two.send(b"GET /park2 HTTP/1.1\r\n\r\nGET /second HTTP/1.1\r\n\r\n")
        await stage.app.until("ended", "/park")
        await stage.app.until("began", "/sent")
        await stage.app.until("ended", "/park2")
        await stage.until_connections(5)
        # When the server finishes
        finishing = asyncio.ensure_future(stage.server.finish(60))
        # Then those who have asked for nothing are let go, nobody else is taken,
        assert (await idle.rest(), await half.rest()) == (b"", b"")
        with pytest.raises(OSError):
            await stage.connect()
        assert not finishing.done()
        # and the others get their answers, and hear that there will be no more.
        await sending.send(b"cd")
        assert (await sending.answer())[1:] == (
            {"content-length": "10", "connection": "close"},
            b"/sent:abcd",
        )
        stage.app.parked["/park"].respond(200, (), b"done")
        assert (await parked.answer())[2] == b"done"
        stage.app.parked["/park2"].respond(200, (), b"first")
        assert (await two.answer())[2] == b"first"
        assert (await two.answer())[2] == b"/second:"
        await finishing
        assert not stage.server.connections
        assert ("aborted", "/park") not in stage.app.heard

    play(scene)


def test_finish_does_not_wait_for_ever(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /park HTTP/1.1\r\n\r\n")
        await stage.app.until("ended", "/park")
        await stage.server.finish(0.01)
        assert len(stage.server.connections) == 1
        await stage.server.close()
        assert ("aborted", "/park") in stage.app.heard

    play(scene)


def test_a_connection_that_comes_while_it_closes_is_not_waited_for(play):
    async def scene(stage):
        # Given a peer whose connection the loop has accepted, and has told nobody of yet
        ours, theirs = socket.socketpair()
        with theirs:
            await stage.connect()
            await stage.until_connections(1)
            closing = asyncio.ensure_future(stage.server.close())
            await asyncio.sleep(0)
            await asyncio.get_running_loop().create_connection(stage.server._made, sock=ours)
            # When it does nothing, then the server closes all the same.
            await closing
            await stage.until_connections(0)
        ours.detach()  # uvloop has closed what is below it, and leaves it unaware of that

    play(scene)


def test_server_that_never_started_closes(play):
    async def scene(stage):
        listener = socket.create_server(("127.0.0.1", 0))
        server = Server(stage.app, listener)
        assert repr(server) == "<Server new, 0 connections>"
        await server.close()
        assert listener.fileno() == -1

    play(scene)


def test_hundred_servers_with_parked_requests(play):
    async def scene(stage):
        servers = [Server(stage.app, socket.create_server(("127.0.0.1", 0))) for _ in range(100)]
        for server in servers:
            await server.start()
        peers = []
        for number, server in enumerate(servers):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /park%d HTTP/1.1\r\n\r\n" % number)
            peers.append((reader, writer))
        for number in range(100):
            await stage.app.until("ended", f"/park{number}")
            stage.app.parked[f"/park{number}"].respond(200, (), b"%d" % number)
        for number, (reader, writer) in enumerate(peers):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(len(str(number))) == b"%d" % number
            writer.transport.abort()
        await asyncio.gather(*(server.close() for server in servers))

    play(scene)


def test_unix_sockets(play, tmp_path):
    async def scene(stage):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        server = Server(stage.app, listener)
        await server.start()
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "socket"))
        writer.write(b"GET /u HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"/u:")
        writer.transport.abort()
        await server.close()

    play(scene)


def test_connections_leave_nothing_behind(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /a HTTP/1.1\r\n\r\n")
        await peer.answer()
        exchange = stage.app.exchanges.pop()
        [connection] = stage.server.connections
        assert exchange not in gc.get_referents(connection)

    play(scene)


def test_dropped_connections_are_closed_and_new_ones_served(play):
    async def scene(stage):
        parked = await stage.connect()
        await parked.send(b"GET /park HTTP/1.1\r\n\r\n")
        await stage.app.until("ended", "/park")
        waiting = socket.create_connection(("127.0.0.1", stage.server.port))
        waiting.sendall(b"GET /stale HTTP/1.1\r\n\r\n")
        stage.server.drop_connections()
        assert await parked.rest() == b""
        await stage.app.until("aborted", "/park")
        with waiting:
            waiting.settimeout(60)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.to_thread(waiting.recv, 10) == b""
        fresh = await stage.connect()
        await fresh.send(b"GET /new HTTP/1.1\r\n\r\n")
        assert (await fresh.answer())[2] == b"/new:"
        assert ("began", "/stale") not in stage.app.heard

    play(scene)


def test_a_body_that_trickles_is_not_endured(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"POST /t HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        await stage.app.until("began", "/t")
        while ("aborted", "/t") not in stage.app.heard:
            peer.writer.write(b"x")
            await asyncio.sleep(0.01)
        assert (await peer.answer())[0] == 408
        assert stage.app.exchanges[0].received_bytes < 1000

    play(scene, Limits(body_timeout_s=0.05, body_rate_min=10_000))
