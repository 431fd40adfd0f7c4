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


def test_long_lines_do_not_wait_for_a_slow_disk_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "PENDING_CHARACTERS_MAX", 1000)
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
