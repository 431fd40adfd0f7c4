"""A function that does what its event says, and tells who it is."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

GENERATION = str(uuid.uuid4())
VERSION = 1
calls = 0
ticks = 0


def tick():
    global ticks
    while True:
        time.sleep(0.01)
        ticks += 1


def at_start():
    """What the init does, besides being there."""
    log = os.environ.get("INIT_LOG")
    if log:
        with Path(log).open("a") as file:
            file.write("init\n")
    if os.environ.get("INIT_EXIT"):
        sys.exit(int(os.environ["INIT_EXIT"]))
    if os.environ.get("TICKING"):
        threading.Thread(target=tick, daemon=True).start()


at_start()


def handler(event, context):
    global calls
    calls += 1
    told = {
        "pid": os.getpid(),
        "generation": GENERATION,
        "environment": context.log_stream_name[-32:],
        "calls": calls,
        "ticks": ticks,
        "version": VERSION,
    }
    for name, value in event.items() if isinstance(event, dict) else ():
        told[name] = DOES[name](value)
    return told


def write(path):
    Path(path).write_text("written")


def read(path):
    return Path(path).read_text() if Path(path).exists() else None


def stumble(text):
    raise ValueError(text)


def wait_at(gate):
    """Connect to `host:port` and wait until it lets go."""
    host, _, port = gate.partition(":")
    with socket.create_connection((host, int(port))) as connection:
        return connection.recv(100).decode()


def whole_stdin(_):
    return sys.stdin.read()


def start_daemon(seconds):
    """Start a program that belongs to nobody: another session, and its parent has ended."""
    return subprocess.run(["setsid", "sh", "-c", f"sleep {seconds} >/dev/null 2>&1 &"], check=True).returncode


DOES = {
    "echo": lambda value: value,
    "sleep_s": time.sleep,
    "print": print,
    "exit": os._exit,
    "signal": signal.raise_signal,
    "raise": stumble,
    "write": write,
    "read": read,
    "environ": lambda _: dict(os.environ),
    "directory": lambda _: str(Path.cwd()),
    "stdin": whole_stdin,
    "size": lambda size: "x" * size,
    "gate": wait_at,
    "spawn": lambda seconds: subprocess.Popen(["sleep", str(seconds)]).pid,
    "daemon": start_daemon,
    "list": lambda path: sorted(entry.name for entry in Path(path).iterdir()),
    "allocate": lambda size: len(b"x" * size),
}
