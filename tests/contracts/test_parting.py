"""Connections that lead out of a network of its own are broken off; what stays inside stays."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from remora.sandbox.base import SandboxError
from remora.sandbox.parting import break_off

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root looks into other processes"),
]

HERE = "198.51.100.5"
ENTER = f'ip link set lo up && ip addr add {HERE}/32 dev lo && exec "$@"'
START = """
import os, socket, sys
def pair(host):
    with socket.create_server(("", 0)) as server:
        link = socket.create_connection((host, server.getsockname()[1]))
        return link, server.accept()[0]
def used(link):
    try:
        link.sendall(b"x")
        return "sent"
    except OSError as error:
        return type(error).__name__
def wait():
    print("ready", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def process(code):
    """Run code in a network of its own that has one address; yield it when it waits."""
    words = ["unshare", "--net", "sh", "-c", ENTER, "sh", sys.executable, "-c", START + code]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def after(code):
    """Return what code prints when its connections have been broken off."""
    with process(code) as other:
        break_off(other.pid)
        return other.communicate("\n")[0].split()


def test_what_leads_out_is_broken_off_at_both_ends():
    assert after(f"""
link, peer = pair({HERE!r})
wait()
print(used(link), used(peer), link.getsockname()[0])
""") == ["ConnectionResetError", "ConnectionResetError", "0.0.0.0"]


def test_a_datagram_socket_forgets_its_peer():
    assert after(f"""
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.connect(({HERE!r}, 53))
wait()
print(used(link), link.getsockname()[0])
""") == ["OSError", "0.0.0.0"]


def test_a_mapped_address_is_one_of_the_other_family():
    assert after(f"""
with socket.create_server(("", 0)) as server:
    link = socket.socket(socket.AF_INET6)
    link.connect(("::ffff:{HERE}", server.getsockname()[1]))
wait()
print(used(link))
""") == ["ConnectionResetError"]


def test_what_stays_inside_stays():
    assert after("""
link, peer = pair("127.0.0.1")
with socket.create_server(("", 0)) as server:
    unix = socket.socketpair()
    wait()
    print(used(link), used(peer), used(unix[0]))
    other = socket.create_connection(("127.0.0.1", server.getsockname()[1]))
    print(used(other))
""") == ["sent", "sent", "sent", "sent"]


def test_children_and_the_dead_are_looked_at_too():
    assert after(f"""
if not os.fork():
    os._exit(0)
inward, outward = os.pipe(), os.pipe()
if not os.fork():
    link, peer = pair({HERE!r})
    os.write(outward[1], b"x")
    os.read(inward[0], 1)
    os.write(outward[1], used(link).encode())
    os._exit(0)
os.read(outward[0], 1)
wait()
os.write(inward[1], b"x")
print(os.read(outward[0], 100).decode())
""") == ["ConnectionResetError"]


def test_what_is_bound_to_the_networks_address_cannot_be_copied():
    with (
        process(f"server = socket.create_server(({HERE!r}, 7))\nwait()") as other,
        pytest.raises(SandboxError, match=f"a socket is bound to {HERE}, port 7"),
    ):
        break_off(other.pid)
