"""Waiting until the log is written."""

import asyncio

from remora.telemetry import logs
from remora.telemetry.log_files import LogLine
from remora.telemetry.logs import LogStore


def test_waiting_in_the_very_moment_in_which_the_writing_has_ended(tmp_path):
    async def main():
        store = LogStore(tmp_path)
        store.append("g", "s", LogLine(1, "one", ""))
        store._start_flush()
        writing = store._writing
        store.append("g", "s", LogLine(2, "two", ""))
        # A task that is woken before the store itself hears that the writing has ended.
        ended = asyncio.get_running_loop().create_future()
        writing.remove_done_callback(store._flushed)
        writing.add_done_callback(lambda _: ended.set_result(None))
        await ended
        writing.add_done_callback(store._flushed)
        async with asyncio.timeout(120):
            await store.flush()
        assert [line.message for line in await store.read("g")] == ["one", "two"]

    asyncio.run(main())


def test_the_first_lines_are_written_soon_and_those_that_follow_together(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "FLUSH_AFTER_S", 0.0)
    monkeypatch.setattr(logs, "FLUSH_EVERY_S", 0.3)
    written = []

    async def main():
        loop = asyncio.get_running_loop()
        store = LogStore(tmp_path)
        write = store._write
        monkeypatch.setattr(store, "_write", lambda pending: (written.append(loop.time()), write(pending)))
        async with asyncio.timeout(120):
            while len(written) < 3:
                store.append("g", "s", LogLine(1, "a line", ""))
                await asyncio.sleep(0.001)
        await store.flush()

    asyncio.run(main())
    assert written[1] - written[0] >= 0.29
    assert written[2] - written[1] >= 0.29


def test_a_follower_that_does_not_read_is_bounded_in_lines_and_characters(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "FOLLOWER_LINES_MAX", 5)
    monkeypatch.setattr(logs, "FOLLOWER_CHARACTERS_MAX", 100)

    async def main():
        store = LogStore(tmp_path)
        follower = store.follow("g")

        def write(*texts):
            store.extend("g", "s", [LogLine(0, text) for text in texts])
            return [line.message for line in follower._lines], follower.take_lost()

        assert write("1", "2", "3", "4", "5", "6", "7") == (["3", "4", "5", "6", "7"], 2)
        assert write("x" * 98) == (["6", "7", "x" * 98], 3)
        assert write("y" * 1000) == (["y" * 1000], 3)
        assert [line.message for line in follower.take()] == ["y" * 1000]
        assert write("a" * 60, "b" * 60) == (["b" * 60], 1)
        assert (await anext(follower.lines())).message == "b" * 60
        assert write("c" * 60, "d" * 40) == (["c" * 60, "d" * 40], 0)
        store.unfollow(follower)
        await store.flush()

    asyncio.run(main())


def test_who_prints_without_end_waits_for_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "ROOM_BYTES", 1000)

    async def main():
        store = LogStore(tmp_path)
        resumed = asyncio.Event()
        store.append("g", "s", LogLine(0, "x" * 900))
        assert store.has_room(resumed.set)
        store.append("g", "s", LogLine(0, "x" * 900))
        assert not store.has_room(resumed.set)
        async with asyncio.timeout(120):
            await resumed.wait()
        assert store.has_room(resumed.set)
        assert [len(line.message) for line in await store.read("g")] == [900, 900]

    asyncio.run(main())


def test_lines_do_not_wait_for_a_slow_disk_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "PENDING_BYTES_MAX", 1000)
    told = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        store = LogStore(tmp_path)
        for _ in range(5):
            store.append("g", "s", LogLine(0, "x" * 300))
        await store.flush()
        store.append("g", "s", LogLine(1, "after"))
        await store.flush()
        return [line.message[:5] for line in await store.read("g")]

    assert asyncio.run(main()) == ["xxxxx"] * 3 + ["after"]
    assert told == ["2 log lines were lost: the disk is too slow for them"]
