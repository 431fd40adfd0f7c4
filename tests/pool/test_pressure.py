import asyncio
import os
import socket

import pytest

from remora.pool.pressure import PRESSURE, Pressure


def feel(count, act):
    """Watch one end of a connection, act on the other; return how often pressure was felt, to `count`."""

    async def main():
        felt = asyncio.Queue()
        pressure = Pressure(asyncio.get_running_loop(), lambda: felt.put_nowait(None))
        assert repr(pressure) == "<Pressure not watched>"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
        with ours, theirs:
            pressure.watch(os.dup(theirs.fileno()))
            assert repr(pressure) == "<Pressure watched>"
            await act(ours, theirs, felt)
            assert felt.qsize() == count
            pressure.close()
            pressure.close()

    asyncio.run(main())


def test_urgent_data_is_pressure():
    async def act(ours, theirs, felt):
        for _ in range(2):
            ours.send(b"!", socket.MSG_OOB)
            async with asyncio.timeout(120):
                await felt.get()
            theirs.recv(1, socket.MSG_OOB)
            while not felt.empty():
                felt.get_nowait()

    feel(0, act)


def test_other_data_is_none():
    async def act(ours, theirs, felt):
        ours.send(b"data")
        theirs.recv(4)
        await asyncio.sleep(0)

    feel(0, act)


def test_what_breaks_is_watched_no_more():
    async def main():
        pressure = Pressure(asyncio.get_running_loop(), lambda: pytest.fail("nobody waited for memory"))
        reader, writer = os.pipe()
        pressure.watch(writer)
        os.close(reader)
        async with asyncio.timeout(120):
            while "not" not in repr(pressure):  # noqa: ASYNC110 - nothing else would be told
                await asyncio.sleep(0.001)

    asyncio.run(main())


def test_without_pressure_information_nothing_is_watched(tmp_path):
    async def main():
        pressure = Pressure(asyncio.get_running_loop(), lambda: None)
        pressure.open(tmp_path / "none")
        assert repr(pressure) == "<Pressure not watched>"
        pressure.open(tmp_path)
        assert repr(pressure) == "<Pressure not watched>"
        pressure.close()

    asyncio.run(main())


def test_what_takes_the_trigger_but_cannot_be_watched_is_closed(tmp_path):
    (tmp_path / "plain").touch()  # the kernel refuses to watch a plain file

    async def main():
        pressure = Pressure(asyncio.get_running_loop(), lambda: None)
        before = os.listdir("/proc/self/fd")  # noqa: PTH208 - as one sees it
        pressure.open(tmp_path / "plain")
        assert repr(pressure) == "<Pressure not watched>"
        assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208
        pressure.close()

    asyncio.run(main())


@pytest.mark.skipif(not PRESSURE.exists(), reason="this kernel tells nothing about pressure")
@pytest.mark.skipif(os.geteuid() != 0, reason="older kernels let only root watch it")
def test_the_kernel_takes_the_trigger():
    async def main():
        pressure = Pressure(asyncio.get_running_loop(), lambda: None)
        pressure.open()
        assert repr(pressure) == "<Pressure watched>"
        pressure.close()

    asyncio.run(main())
