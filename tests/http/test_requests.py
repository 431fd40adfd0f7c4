"""What the server understands: framing of requests, keep-alive, order."""

from __future__ import annotations

import socket

import pytest

from remora.http.limits import Limits


def test_get(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /a/%20b?x=1&y HTTP/1.1\r\nHost: h\r\nX-Two: 1\r\nx-two: 2\r\n\r\n")
        assert await peer.answer() == (200, {"content-length": "8"}, b"/a/%20b:")
        [exchange] = stage.app.exchanges
        assert (exchange.method, exchange.path, exchange.query) == (b"GET", b"/a/%20b", b"x=1&y")
        assert exchange.headers == [(b"host", b"h"), (b"x-two", b"1"), (b"x-two", b"2")]
        assert exchange.header(b"x-two") == b"1"
        assert exchange.header(b"absent") is None
        assert not exchange.is_open
        assert stage.app.heard == [("began", "/a/%20b"), ("ended", "/a/%20b")]

    play(scene)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://host:1/p?q", b"/p", b"q"),
        (b"http://host", b"/", b""),
        (b"/?", b"/", b""),
        (b"/a?b?c", b"/a", b"b?c"),
    ],
)
def test_targets(play, target, path, query):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET " + target + b" HTTP/1.1\r\n\r\n")
        await peer.answer()
        [exchange] = stage.app.exchanges
        assert (exchange.path, exchange.query) == (path, query)

    play(scene)


def test_connection_is_kept(play):
    async def scene(stage):
        peer = await stage.connect()
        for number in range(5):
            await peer.send(b"GET /%d HTTP/1.1\r\n\r\n" % number)
            assert (await peer.answer())[2] == b"/%d:" % number
        assert len(stage.server.connections) == 1

    play(scene)


def test_no_delay_is_set(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        await peer.answer()
        [connection] = stage.server.connections
        ours = connection.transport.get_extra_info("socket")
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    play(scene)


def test_body_with_length_in_pieces(play):
    async def scene(stage):
        peer = await stage.connect()
        request = b"POST /p HTTP/1.1\r\nContent-Length: 6\r\n\r\nabcdef"
        for byte in request:
            await peer.send(bytes([byte]))
        assert (await peer.answer())[2] == b"/p:abcdef"

    play(scene)


def test_chunked_body_with_trailers(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await peer.send(b"3;extension=1\r\ndef\r\n0\r\nOne: 1\r\nTWO: 2\r\n\r\n")
        assert (await peer.answer())[2] == b"/c:abcdef"
        assert list(stage.app.exchanges[0].trailers) == [(b"one", b"1"), (b"two", b"2")]
        await peer.send(b"POST /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert (await peer.answer())[2] == b"/d:"
        assert not stage.app.exchanges[1].trailers

    play(scene)


def test_pipelined_requests_are_heard_in_turn(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(
            b"GET /park1 HTTP/1.1\r\n\r\nPOST /two HTTP/1.1\r\nContent-Length: 2\r\n\r\nok"
            b"GET /park3 HTTP/1.1\r\n\r\nGET /four HTTP/1.1\r\n\r\n"
        )
        await stage.app.until("ended", "/park1")
        await peer.nothing()
        assert stage.app.heard == [("began", "/park1"), ("ended", "/park1")]
        stage.app.parked["/park1"].respond(200, (), b"1")
        assert (await peer.answer())[2] == b"1"
        assert (await peer.answer())[2] == b"/two:ok"
        await stage.app.until("ended", "/park3")
        assert ("began", "/four") not in stage.app.heard
        stage.app.parked["/park3"].respond(200, (), b"3")
        assert (await peer.answer())[2] == b"3"
        assert (await peer.answer())[2] == b"/four:"

    play(scene)


def test_reading_stops_behind_a_parked_request(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /park HTTP/1.1\r\n\r\n")
        await stage.app.until("ended", "/park")
        flood = b"GET /x HTTP/1.1\r\n\r\n" * 20_000
        peer.writer.write(flood)
        [connection] = stage.server.connections
        while connection.transport.is_reading():
            await peer.nothing()
        held = len(connection._waiting)
        assert 0 < held < 14_000  # one read's worth
        await peer.nothing()
        assert len(connection._waiting) == held
        stage.app.parked["/park"].respond(200, (), b"")
        said = b""
        while said.count(b"HTTP/1.1 200 OK\r\n") < 20_001:
            said += await peer.reader.readexactly(1) + await peer.reader.read(1024 * 1024)

    play(scene)


def test_body_behind_a_parked_request_is_not_read_but_kept(play):
    async def scene(stage):
        peer = await stage.connect()
        body = bytes(range(256)) * 8192
        await peer.send(
            b"GET /park HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        peer.writer.write(body)
        await stage.app.until("ended", "/park")
        stage.app.parked["/park"].respond(200, (), b"")
        await peer.answer()
        assert (await peer.answer())[2] == b"/b:" + body

    play(scene)


def test_limit_set_by_the_application_counts_for_requests_that_waited(play):
    async def scene(stage):
        def allow(exchange):
            exchange.body_bytes_max = 3

        stage.app.on_began[b"/small"] = allow
        peer = await stage.connect()
        await peer.send(
            b"GET /park HTTP/1.1\r\n\r\n"
            b"POST /small HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd"
            b"POST /other HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd"
        )
        await stage.app.until("ended", "/park")
        stage.app.parked["/park"].respond(200, (), b"")
        await peer.answer()
        assert (await peer.answer())[2] == b"/small:"
        assert (await peer.answer())[2] == b"/other:abcd"
        assert stage.app.exchanges[1].is_oversized
        assert not stage.app.exchanges[2].is_oversized

    play(scene)


def test_expect_continue(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"POST /e HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert await peer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await peer.send(b"3\r\n")
        await peer.send(b"abc\r\n0\r\n\r\n")
        assert (await peer.answer())[2] == b"/e:abc"
        await peer.send(b"POST /f HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc")
        assert (await peer.answer())[2] == b"/f:abc"

    play(scene)


def test_expect_of_too_much_is_refused_at_once(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"POST /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n")
        assert (await peer.answer())[0] == 413
        assert await peer.rest() == b""
        assert stage.app.heard == [("began", "/e"), ("aborted", "/e")]
        assert stage.app.exchanges[0].is_oversized

    play(scene, Limits(body_bytes_read_max=1000, body_bytes_max=10))


def test_expect_answered_from_began_ends_the_connection(play):
    async def scene(stage):
        stage.app.on_began[b"/no"] = lambda exchange: exchange.respond(404, (), b"")
        peer = await stage.connect()
        await peer.send(b"POST /no HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        status, headers, _ = await peer.answer()
        assert (status, headers["connection"]) == (404, "close")
        assert await peer.rest() == b""
        assert stage.app.heard == [("began", "/no")]

    play(scene)


def test_answer_from_began_keeps_the_connection(play):
    async def scene(stage):
        stage.app.on_began[b"/no"] = lambda exchange: exchange.respond(404, (), b"")
        peer = await stage.connect()
        await peer.send(b"POST /no HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc")
        assert (await peer.answer())[0] == 404
        await peer.send(b"defGET /next HTTP/1.1\r\n\r\n")
        assert (await peer.answer())[2] == b"/next:"
        assert ("ended", "/no") not in stage.app.heard
        assert stage.app.exchanges[0].body == b""

    play(scene)


def test_http10_ends_by_default_and_stays_if_asked(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        _, headers, body = await peer.answer()
        assert (headers["connection"], body) == ("keep-alive", b"/a:")
        await peer.send(b"GET /b HTTP/1.0\r\n\r\n")
        _, headers, body = await peer.answer()
        assert (headers["connection"], body) == ("close", b"/b:")
        assert await peer.rest() == b""

    play(scene)


def test_connection_close(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
        _, headers, _ = await peer.answer()
        assert headers["connection"] == "close"
        assert await peer.rest() == b""
        assert len(stage.app.exchanges) == 1

    play(scene)


@pytest.mark.parametrize("tail", [b"", b"GET /b HTTP/1.1\r\n\r\n"])
def test_wish_to_upgrade_is_ignored(play, tail):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(
            b"POST /u HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AA\r\nContent-Length: 4\r\n\r\nab"
        )
        await peer.send(b"cd" + tail)
        assert (await peer.answer())[2] == b"/u:abcd"
        if tail:
            assert (await peer.answer())[2] == b"/b:"
        assert stage.app.exchanges[0].header(b"http2-settings") == b"AA"

    play(scene)


def test_a_wish_to_upgrade_with_a_body_that_is_too_large(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(
            b"POST /u HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2000\r\n\r\n"
            + b"a" * 2000
        )
        assert (await peer.answer())[0] == 413
        assert await peer.rest() == b""

    play(scene, Limits(body_bytes_max=10, body_bytes_read_max=1000))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"FETCH / HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"CONNECT host:1 HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 3000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 51 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"A:\r\n" * 60, 431),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 600_000, 431),
    ],
)
def test_refused_and_closed(play, request_, status):
    async def scene(stage):
        peer = await stage.connect()
        peer.writer.write(request_)
        got, headers, _ = await peer.answer()
        assert (got, headers["connection"]) == (status, "close")
        assert await peer.rest() == b""
        assert stage.app.heard == []

    play(scene, Limits(header_bytes_max=2000, headers_max=50))


def test_large_body_does_not_count_as_headers(play):
    async def scene(stage):
        peer = await stage.connect()
        one = b"POST /b HTTP/1.1\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000
        peer.writer.write(one * 20)
        for _ in range(20):
            assert (await peer.answer())[0] == 200

    play(scene, Limits(header_bytes_max=100))


def test_mistake_behind_a_parked_request_is_answered_in_its_turn(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"GET /park HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nrubbish")
        await stage.app.until("ended", "/park")
        await peer.nothing()
        stage.app.parked["/park"].respond(200, (), b"late")
        assert (await peer.answer())[2] == b"late"
        assert (await peer.answer())[2] == b"/b:"
        assert (await peer.answer())[0] == 400
        assert await peer.rest() == b""

    play(scene)


def test_oversized_body_is_thrown_away(play):
    async def scene(stage):
        peer = await stage.connect()
        for body, oversized in ((b"x" * 1000, False), (b"x" * 1001, True), (b"x" * 10_000, True)):
            await peer.send(b"POST /o HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert (await peer.answer())[2] == b"/o:" + (b"" if oversized else body)
            assert stage.app.exchanges[-1].is_oversized is oversized

    play(scene, Limits(body_bytes_max=1000, body_bytes_read_max=10_000))


@pytest.mark.parametrize("is_chunked", [False, True])
def test_body_beyond_the_hard_limit_ends_the_connection(play, is_chunked):
    async def scene(stage):
        peer = await stage.connect()
        framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: 9999999"
        await peer.send(b"POST /o HTTP/1.1\r\n" + framing + b"\r\n\r\n")
        peer.writer.write(b"186A0\r\n" + b"x" * 100_000 + b"\r\n" if is_chunked else b"x" * 100_000)
        assert (await peer.answer())[0] == 413
        peer.half_close()
        assert await peer.rest() == b""
        assert stage.app.heard == [("began", "/o"), ("aborted", "/o")]
        assert stage.app.exchanges[0].is_oversized
        assert not stage.app.exchanges[0].is_truncated

    play(scene, Limits(body_bytes_max=1000, body_bytes_read_max=10_000))


def test_application_may_allow_more_and_may_explain_too_much(play):
    async def scene(stage):
        def allow(exchange):
            exchange.body_bytes_max = 20_000

        stage.app.on_began[b"/big"] = allow
        stage.app.on_aborted[b"/big"] = lambda exchange: exchange.respond(413, (), b"too much")
        peer = await stage.connect()
        await peer.send(b"POST /big HTTP/1.1\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000)
        assert len((await peer.answer())[2]) == 20_005
        peer.writer.write(b"POST /big HTTP/1.1\r\nContent-Length: 20001\r\n\r\n" + b"x" * 20_001)
        assert (await peer.answer())[::2] == (413, b"too much")

    play(scene, Limits(body_bytes_max=1000, body_bytes_read_max=10_000))


def test_endless_trailer_is_refused(play):
    async def scene(stage):
        peer = await stage.connect()
        await peer.send(b"POST /t HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: ")
        peer.writer.write(b"x" * 700_000)
        assert (await peer.answer())[0] == 431
        assert stage.app.heard == [("began", "/t"), ("aborted", "/t")]

    play(scene, Limits(header_bytes_max=1000))
