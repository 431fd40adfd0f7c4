"""Waiting until the log is written."""

import asyncio

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
        async with asyncio.timeout(5):
            await store.flush()
        assert [line.message for line in await store.read("g")] == ["one", "two"]

    asyncio.run(main())
