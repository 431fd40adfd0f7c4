"""Sandboxes with a kernel of their own: what is made outside for them, and where there is nothing to give."""

import errno
import os
import threading

import pytest
import uvloop
from tests.chosen import usable_oci_runtimes

from remora.sandbox import own_kernel
from remora.sandbox.base import SandboxError, SandboxPlan
from remora.sandbox.oci import OciDriver
from remora.sandbox.own_kernel import Meeting, in_network, new_socket
from remora.testing.contracts.sandbox import Recorder


def test_without_a_thread_there_is_no_socket_and_the_reason_is_the_worlds(monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError) as caught:
        in_network(-1, new_socket)
    assert caught.value.errno == errno.EAGAIN


def test_a_meeting_has_a_socket_only_while_it_is_open(tmp_path):
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - it is no disk
    meeting = Meeting(0)
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - it is no disk
    deep = tmp_path / ("d" * 200)
    deep.mkdir()
    meeting.open(deep)
    assert (deep / "control.sock").is_socket()
    for _ in range(2):
        meeting.close()
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - it is no disk


@pytest.mark.slow
@pytest.mark.skipif(
    "runsc" not in usable_oci_runtimes(), reason="gVisor is not installed, or this is not root"
)
def test_without_a_socket_to_meet_at_no_sandbox_is_made_and_its_way_out_is_given_back(tmp_path, monkeypatch):
    def refuse(_control):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def main():
        driver = OciDriver(tmp_path / "environments", "short", "runsc")
        driver.check()
        monkeypatch.setattr(own_kernel, "bind", refuse)
        plan = SandboxPlan("e1", tmp_path / "environments" / "e1", (), 128, network="nat")
        with pytest.raises(SandboxError, match="Too many open files"):
            await driver.create(plan, Recorder())
        nat = driver._look()[4]._nat
        assert (nat._lent, nat._firewall) == ({}, None)
        assert not (tmp_path / "environments" / "e1").exists()

    (tmp_path / "environments").mkdir()
    uvloop.run(main())
