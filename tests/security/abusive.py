#!/var/lang/bin/python3
"""Uses up or breaks what it can, one thing per invocation; as an extension it kills the runtime."""

import contextlib
import ctypes
import errno
import glob
import http.client
import json
import os
import signal
import sys
import threading
import time


def memory_bomb():
    held = []
    while True:
        held.append(b"x" * (16 << 20))


def fill(path):
    with open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))


def disk_bomb():
    try:
        fill("/tmp/filler")
    finally:
        os.unlink("/tmp/filler")


def inode_bomb():
    for number in range(10_000_000):
        os.close(os.open(f"/tmp/{number}", os.O_CREAT | os.O_WRONLY))


def open_file_bomb():
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        for number in held:
            os.close(number)


def fork_bomb():
    while True:
        if os.fork() == 0:
            time.sleep(600)


def thread_bomb():
    threading.stack_size(64 << 10)
    try:
        for _ in range(5000):
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    except RuntimeError:
        return "failed"
    return "done"


def message_queue_bomb():
    library = ctypes.CDLL(None, use_errno=True)
    for number in range(10_000):
        if library.mq_open(f"/{number}".encode(), os.O_RDWR | os.O_CREAT, 0o600, None) < 0:
            raise OSError(ctypes.get_errno(), "mq_open")
    return "done"


def deep_directories():
    os.chdir("/tmp")
    for _ in range(3000):
        os.mkdir("deep")
        os.chdir("deep")
    os.chdir("/")
    return "done"


def endless_loop():
    while True:
        pass


def stop_everyone():
    for path in glob.glob("/proc/[0-9]*"):
        pid = int(os.path.basename(path))
        if pid not in (1, os.getpid()):
            os.kill(pid, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)


def kill_everyone():
    with contextlib.suppress(ProcessLookupError):  # it is alone
        os.kill(-1, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_runtime_by_extension():
    time.sleep(600)


def huge_answer():
    return "x" * (7 << 20)


def mode_of_tool():
    return oct(os.stat("/opt/tool").st_mode & 0o7777)


def handler(event, _context):
    """Do what the event says."""
    if event["abuse"] == "none":
        return "fine"
    try:
        return {"shared_memory_bomb": lambda: fill("/dev/shm/filler")}.get(
            event["abuse"], globals().get(event["abuse"])
        )()
    except OSError as error:
        return errno.errorcode[error.errno]


def kill_whoever_runs():
    """Kill the runtime once: at the first invocation of the first generation."""
    for path in glob.glob("/proc/[0-9]*"):
        pid = int(os.path.basename(path))
        with open(f"{path}/cmdline", "rb") as file:
            is_ours = b"killer" in file.read()
        if pid != 1 and not is_ours:
            os.kill(pid, signal.SIGKILL)


def main():
    """As an extension."""
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    name = os.path.basename(sys.argv[0])
    body = json.dumps({"events": ["INVOKE"]})
    connection.request("POST", "/2020-01-01/extension/register", body, {"Lambda-Extension-Name": name})
    answer = connection.getresponse()
    answer.read()
    identifier = {"Lambda-Extension-Identifier": answer.headers["Lambda-Extension-Identifier"]}
    while True:
        connection.request("GET", "/2020-01-01/extension/event/next", headers=identifier)
        connection.getresponse().read()
        if not os.path.exists("/tmp/killed"):
            with open("/tmp/killed", "w"):
                pass
            kill_whoever_runs()


if __name__ == "__main__":
    main()
