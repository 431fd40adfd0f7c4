"""Large bodies next to each other: there is room for so much, and whoever finds none waits for it."""

import asyncio

from remora.http.limits import Limits

SIZE = 150_000
BODY = b"x" * SIZE
MAX = 250_000


def head(name, size=SIZE):
    return b"POST /%s HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (name.encode(), size)


def test_a_large_body_waits_for_room(play):
    async def scene(stage):
        first, second, third, small = [await stage.connect() for _ in range(4)]
        await first.send(head("park1") + BODY)
        await stage.app.until("ended", "/park1")
        assert stage.server.room.held_bytes == SIZE
        # Given one that finds no room, and another one behind it
        await second.send(head("two") + BODY[:100_000])
        await stage.app.until("began", "/two")
        await third.send(head("three") + BODY[:100_000])
        await stage.app.until("began", "/three")
        # Then small ones are answered all the same
        await small.send(b"POST /small HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
        assert (await small.answer())[2] == b"/small:abc"
        # and those that waited are read in turn, when there is room.
        stage.app.parked.pop("/park1").respond(200, (), b"")
        assert (await first.answer())[0] == 200
        stage.app.exchanges.clear()
        await third.send(BODY[100_000:])
        await second.send(BODY[100_000:])
        assert (await second.answer())[0] == 200
        stage.app.exchanges.clear()
        assert (await third.answer())[0] == 200

    play(scene, Limits(held_bytes_max=MAX))


def test_who_waits_for_too_long_is_refused(play):
    async def scene(stage):
        first, second = await stage.connect(), await stage.connect()
        await first.send(head("park1") + BODY)
        await stage.app.until("ended", "/park1")
        await second.send(head("two") + BODY)
        assert (await second.answer())[0] == 503
        assert stage.app.exchanges[-1].is_crowded_out
        stage.app.parked.pop("/park1").respond(200, (), b"")
        assert (await first.answer())[0] == 200
        stage.app.exchanges.clear()
        await asyncio.sleep(0)  # the loop hears of what is freed
        assert stage.server.room.held_bytes == 0

    play(scene, Limits(held_bytes_max=MAX, held_wait_s=0.05))
