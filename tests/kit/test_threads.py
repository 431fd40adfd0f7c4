"""Blocking work is done once, wherever there is a thread for it."""

import asyncio
import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from remora.kit.threads import begin, in_thread


class Exhausted(ThreadPoolExecutor):
    """Queues work, and finds that there are no more threads: as the library's does when the table is full."""

    def submit(self, work, /, *args, **kwargs):
        super().submit(work, *args, **kwargs)
        raise RuntimeError("can't start new thread")


def test_work_is_done_in_another_thread_and_its_outcome_handed_over():
    async def main():
        here = threading.get_ident()
        assert await in_thread(threading.get_ident) != here
        assert await in_thread(dict, a=1) == {"a": 1}
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0)

    asyncio.run(main())


def test_where_there_is_no_thread_it_is_done_here_and_only_once():
    async def main():
        asyncio.get_running_loop().set_default_executor(Exhausted(1))
        done = []
        for number in range(50):
            await in_thread(done.append, number)
        assert done == list(range(50))
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0)

    asyncio.run(main())


def test_nobody_is_told_of_the_error_of_work_that_nobody_waits_for():
    told = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        may_fail = threading.Event()

        def work():
            may_fail.wait()
            raise OSError("for a test")

        waiting = asyncio.ensure_future(in_thread(work))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        may_fail.set()

    asyncio.run(main())
    gc.collect()
    assert told == []


def test_work_goes_on_when_nobody_waits_any_more():
    async def main():
        may_go_on, done = threading.Event(), threading.Event()

        def work():
            may_go_on.wait()
            done.set()

        for start in (lambda: asyncio.ensure_future(in_thread(work)), lambda: begin(work)):
            waiting = start()
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not done.is_set()
            may_go_on.set()
            await asyncio.to_thread(done.wait)
            may_go_on.clear()
            done.clear()

    asyncio.run(main())


def test_nobody_waits_at_exit_for_work_that_depends_on_other_machines():
    code = """
import asyncio, time
from remora.kit.threads import in_daemon
async def main():
    assert await in_daemon(lambda: 1) == 1
    try:
        await in_daemon(lambda: 1 // 0)
    except ZeroDivisionError:
        pass
    waiting = asyncio.ensure_future(in_daemon(time.sleep, 1000))
    await asyncio.sleep(0.1)
    waiting.cancel()
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
