"""What every sandbox driver promises, as checks: each is a coroutine that takes a `Bench` and asserts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remora.sandbox.base import Exit, Mount, ProcessPlan, SandboxError, SandboxPlan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from remora.sandbox.base import Sandbox, SandboxDriver

PATIENCE_S = 120.0
"""How long a check waits for what must come; a machine may be busy."""

_numbers = itertools.count(1)


@dataclass(slots=True)
class Recorder:
    """A watcher that keeps what it is told; `heard` holds everything in order."""

    heard: list[tuple[Any, ...]] = field(default_factory=list)
    _waiting: list[asyncio.Event] = field(default_factory=list)

    def _hear(self, *what: Any) -> None:
        self.heard.append(what)
        for event in self._waiting:
            event.set()

    def process_started(self, name: str, pid: int) -> None:
        """See `Watcher`."""
        self._hear("started", name, pid)

    def process_failed(self, name: str, errno: int) -> None:
        """See `Watcher`."""
        self._hear("failed", name, errno)

    def process_exited(self, name: str, how: Exit) -> None:
        """See `Watcher`."""
        self._hear("exited", name, how)

    def emptied(self) -> None:
        """See `Watcher`."""
        self._hear("emptied")

    def sandbox_lost(self, reason: str) -> None:
        """See `Watcher`."""
        self._hear("lost", reason)

    def of(self, *what: str) -> list[tuple[Any, ...]]:
        """Return everything heard that begins with `what`."""
        return [each for each in self.heard if each[: len(what)] == what]

    async def until(self, *what: str) -> tuple[Any, ...]:
        """Wait for the first thing heard that begins with `what`."""
        event = asyncio.Event()
        self._waiting.append(event)
        async with asyncio.timeout(PATIENCE_S):
            while not self.of(*what):
                event.clear()
                await event.wait()
        self._waiting.remove(event)
        return self.of(*what)[0]


@dataclass(frozen=True, slots=True)
class Living:
    """A sandbox with its watcher, and short ways to use it."""

    sandbox: Sandbox
    watcher: Recorder

    def begin(
        self,
        name: str,
        argv: tuple[str, ...],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> int:
        """Start a process; returns the end of the pipe from which its output can be read."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write_end, True)
        plan = ProcessPlan(name, argv, dict(env or {}), cwd or self.sandbox.paths.tmp, write_end, write_end)
        self.sandbox.start(plan)
        os.close(write_end)
        return read_end

    async def run(
        self, argv: tuple[str, ...], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> tuple[Exit, bytes]:
        """Start a process, return how it ended and all it said."""
        name = f"run-{next(_numbers)}"
        read_end = self.begin(name, argv, env=env, cwd=cwd)
        said = await read_all(read_end)
        return (await self.watcher.until("exited", name))[2], said

    async def fail(
        self, argv: tuple[str, ...], *, cwd: str | None = None, env: Mapping[str, str] | None = None
    ) -> int:
        """Start a process that cannot be executed; returns the errno."""
        name = f"fail-{next(_numbers)}"
        read_end = self.begin(name, argv, cwd=cwd, env=env)
        heard = await self.watcher.until("failed", name)
        assert await read_all(read_end) == b"", "what could not be executed holds no descriptor"
        assert not self.watcher.of("started", name), "what failed has not started"
        return int(heard[2])

    def python(self, code: str, *arguments: str) -> tuple[str, ...]:
        """Return the argv that runs `code` in the interpreter of this suite, as it is mounted inside."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return (f"{self.sandbox.paths.lang}/bin/python{version}", "-IS", "-c", code, *arguments)

    async def ask(self, code: str, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
        """Run Python code inside that prints JSON; returns it decoded."""
        how, said = await self.run(self.python(code, *arguments), env=env)
        assert how.code == 0, f"{how}: {said.decode()}"
        return json.loads(said)


async def read_all(descriptor: int) -> bytes:
    """Read a non-blocking descriptor to its end, and close it."""
    said = b""
    while part := await read_some(descriptor):
        said += part
    os.close(descriptor)
    return said


async def read_some(descriptor: int) -> bytes:
    """Wait for the next bytes; empty at the end."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await ready.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, 65_536)


@dataclass(frozen=True, slots=True)
class Bench:
    """
    One driver under test.

    Args:
        driver: The driver.
        environments: The directory it was made with, empty.
        task: A directory to mount as /var/task; the suite fills it.
        has_own_kernel: True if processes inside are none of this machine's, but their own kernel's.
    """

    driver: SandboxDriver
    environments: Path
    task: Path
    has_own_kernel: bool = False

    def plan(self, *, memory_mib: int = 512, ephemeral_mib: int = 512) -> SandboxPlan:
        """Return the plan of a sandbox with this interpreter in /var/lang and the task directory."""
        name = f"suite-{os.getpid()}-{next(_numbers)}"
        mounts = (Mount(Path(sys.base_prefix), "/var/lang"), Mount(self.task, "/var/task"))
        directory = self.environments / name
        return SandboxPlan(name, directory, mounts, memory_mib, ephemeral_mib=ephemeral_mib)

    @contextlib.asynccontextmanager
    async def sandbox(self, *, memory_mib: int = 512, ephemeral_mib: int = 512) -> AsyncIterator[Living]:
        """Make a sandbox, and close it at the end."""
        watcher = Recorder()
        plan = self.plan(memory_mib=memory_mib, ephemeral_mib=ephemeral_mib)
        sandbox = await self.driver.create(plan, watcher)
        try:
            yield Living(sandbox, watcher)
        finally:
            await sandbox.close()
        assert not list(self.environments.iterdir()), "closing removes the directory"


def processes_with(marker: str) -> list[int]:
    """Return the processes of this machine that have `marker` in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


async def exits_are_reported(bench: Bench) -> None:
    """A process that ends is reported once, by code or signal, with what it used."""
    async with bench.sandbox() as living:
        assert (await living.run(("/bin/sh", "-c", "exit 3")))[0].code == 3
        assert (await living.run(("/bin/sh", "-c", "exit 0")))[0].signal is None
        killed, _ = await living.run(("/bin/sh", "-c", "kill -9 $$"))
        assert (killed.code, killed.signal) == (None, signal.SIGKILL)
        busy, _ = await living.run(living.python("x = bytearray(30_000_000)\nfor n in range(10**6): pass"))
        assert busy.cpu_us > 5_000
        assert busy.memory_peak_kib > 29_000
        assert len(living.watcher.of("exited")) == len(living.watcher.of("started")) == 4


async def failures_are_reported(bench: Bench) -> None:
    """What cannot be executed is reported with the errno, whatever the reason."""
    (bench.task / "plain").write_text("no program")
    (bench.task / "odd").write_text("no program either")
    (bench.task / "odd").chmod(0o755)
    async with bench.sandbox() as living:
        task = living.sandbox.paths.task
        assert await living.fail(("/no/such/program",)) == errno.ENOENT
        assert await living.fail((f"{task}/plain",)) == errno.EACCES
        assert await living.fail((f"{task}/odd",)) == errno.ENOEXEC
        assert await living.fail(("/bin/sh",), cwd="/no/such/directory") == errno.ENOENT
        assert await living.fail(("/bin/sh",), cwd=f"{task}/plain") == errno.ENOTDIR
        assert await living.fail(("/bin/sh", "a\0b")) == errno.EINVAL
        assert await living.fail(("/bin/sh", "\ud800")) == errno.EINVAL
        assert await living.fail(()) == errno.EINVAL
        assert await living.fail(("/bin/sh", "x" * 300_000)) == errno.E2BIG
        assert await living.fail(("/bin/sh", *["x"] * 9_000)) == errno.E2BIG
        if not bench.has_own_kernel:
            long = "x" * 200_000
            assert await living.fail(("/bin/sh", long)) == errno.E2BIG, "the kernel's own limit of one string"
        living.sandbox.start(ProcessPlan("no-output", ("/bin/sh",), {}, "/", 1_000_000, 1_000_000))
        assert await living.watcher.until("failed", "no-output") == ("failed", "no-output", errno.EBADF)
        assert (await living.run(("/bin/sh", "-c", "exit 0")))[0].code == 0, "the sandbox is none the worse"


_SURROUNDINGS = """
import ctypes, json, os, resource, signal, sys
ignored = [number for number in range(1, 32) if signal.getsignal(number) == signal.SIG_IGN]
print(json.dumps({
    "env": dict(os.environ), "argv": sys.argv[1:], "cwd": os.getcwd(), "stdin": os.read(0, 10).decode(),
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1],
    "same": os.fstat(1).st_ino == os.fstat(2).st_ino,
    "leader": os.getpgrp() == os.getpid(), "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "ignored": ignored, "no_new_privs": ctypes.CDLL(None).prctl(39, 0, 0, 0, 0),
    "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE), "oom": open("/proc/self/oom_score_adj").read().strip(),
}))
"""


async def surroundings_are_exact(bench: Bench) -> None:
    """A process has the given environment and arguments, descriptors 0 to 2, default signals, limits."""
    async with bench.sandbox() as living:
        env = {"A": "b=c", "EMPTY": "", "LINES": "1\n2", "LC_ALL": "C.UTF-8", "ODD": "\udcff"}
        seen = await living.ask(_SURROUNDINGS, "one", "", "drei ü", env=env)
        assert seen["env"] == env
        assert seen["argv"] == ["one", "", "drei ü"]
        assert seen["cwd"] == living.sandbox.paths.tmp
        assert seen["stdin"] == ""
        assert seen["fds"] == [0, 1, 2]
        assert seen["same"] or bench.has_own_kernel, "copies of a descriptor are one, except to gVisor"
        assert seen["leader"]
        assert seen["blocked"] == []
        assert set(seen["ignored"]) <= {signal.SIGPIPE, signal.SIGXFSZ}, (
            "the interpreter ignores these itself"
        )
        if not bench.has_own_kernel:  # gVisor's /proc tells less
            _, said = await living.run(
                ("/bin/sh", "-c", "while read -r line; do echo $line; done < /proc/self/status")
            )
            assert b"SigIgn: 0000000000000000" in said
        assert seen["no_new_privs"] == 1
        assert seen["nofile"] == [1024, 1024]
        assert seen["core"] == [0, 0]
        assert int(seen["oom"]) >= 500


_STREAMS = """
import os
os.write(1, b"out"); os.write(2, b"error"); os.write(3, b"three"); os.write(4, b"four")
os.write(1, str(sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1]).encode())
"""


async def streams_are_apart(bench: Bench) -> None:
    """Standard output and error may be two, and what else is passed is there as 3, 4, ..., nothing more."""
    async with bench.sandbox() as living:
        pipes = [os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) for _ in range(4)]
        out, error, *passed = [write_end for _, write_end in pipes]
        tmp = living.sandbox.paths.tmp
        living.sandbox.start(
            ProcessPlan("apart", living.python(_STREAMS), {}, tmp, out, error, tuple(passed))
        )
        for _, write_end in pipes:
            os.close(write_end)
        said = [await read_all(read_end) for read_end, _ in pipes]
        assert said == [b"out[0, 1, 2, 3, 4]", b"error", b"three", b"four"]


_SERVER = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
print(connection.recv(100).decode(), flush=True)
"""


async def sockets_reach_inside(bench: Bench) -> None:
    """A socket that the sandbox makes reaches whoever listens inside; one of an ended sandbox is refused."""
    async with bench.sandbox() as living:
        output = living.begin("server", living.python(_SERVER))
        port = int(await read_some(output))
        loop = asyncio.get_running_loop()
        sockets = await asyncio.gather(*(living.sandbox.make_socket() for _ in range(3)))
        assert not any(each.getblocking() or each.get_inheritable() for each in sockets)
        await loop.sock_connect(sockets[1], ("127.0.0.1", port))
        await loop.sock_sendall(sockets[1], b"hello")
        assert await read_some(output) == b"hello\n"
        for each in sockets:
            each.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await living.sandbox.make_socket()  # cancelled before the answer: it is closed all the same
        (await living.sandbox.make_socket()).close()
        os.close(output)
        sandbox = living.sandbox
    try:
        await sandbox.make_socket()
    except OSError:
        return
    raise AssertionError("a sandbox that has ended made a socket")


async def kill_reaches_the_group(bench: Bench) -> None:
    """`kill` signals the whole process group of a name; the dead and the unknown are passed over."""
    async with bench.sandbox() as living:
        output = living.begin(
            "group", ("/bin/sh", "-c", "sleep 1000 & echo up; wait"), env={"PATH": "/usr/bin:/bin"}
        )
        assert await read_some(output) == b"up\n"
        living.sandbox.kill("group", signal.SIGTERM)
        how = (await living.watcher.until("exited", "group"))[2]
        assert how.signal == signal.SIGTERM
        assert await read_all(output) == b"", "the child in the group held the pipe, and is dead too"
        living.sandbox.kill("group", signal.SIGKILL)
        living.sandbox.kill("nobody", signal.SIGKILL)
        assert (await living.run(("/bin/sh", "-c", "exit 0")))[0].code == 0


_DAEMONS = """
import os, signal, sys, time
for number in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if number % 2: os.setpgid(0, 0)
            os.write(1, b".")
            time.sleep(1000)
        os._exit(0)
os.write(1, b".")
"""


async def kill_all_reaches_everyone(bench: Bench) -> None:
    """`kill_all` ends daemons that left group and session, and answers when they are gone."""
    async with bench.sandbox() as living:
        output = living.begin("daemons", living.python(_DAEMONS))
        said = b""
        while len(said) < 6:
            said += await read_some(output)
        await living.watcher.until("exited", "daemons")
        stubborn = living.begin("stubborn", ("/bin/sh", "-c", "trap '' TERM INT HUP; while :; do :; done"))
        living.sandbox.kill_all()
        await living.watcher.until("emptied")
        assert living.watcher.of("exited", "stubborn")[0][2].signal == signal.SIGKILL
        assert await read_all(output) == await read_all(stubborn) == b"", "nobody is left who holds a pipe"
        living.watcher.heard.clear()
        living.sandbox.kill_all()
        living.sandbox.kill_all()
        living.sandbox.start(ProcessPlan("late", ("/bin/sh", "-c", "exit 5"), {}, "/", 2, 2))
        assert (await living.watcher.until("exited", "late"))[2].code == 5, "empty is empty at once"
        assert len(living.watcher.of("emptied")) == 2
        assert living.watcher.heard[0] == ("emptied",)


_BURNER = """
import os, time
last = time.monotonic()
os.write(1, b"up")
while True:
    now = time.monotonic()
    if now - last > 0.2:
        os.write(1, b"stood")
    last = now
"""


async def frozen_processes_stand(bench: Bench) -> None:
    """A frozen process gets no CPU, in whatever group it is; thawed it goes on; repeating changes nothing."""
    async with bench.sandbox() as living:
        code = f"import os\nif os.fork() == 0:\n    os.setsid()\n    exec({_BURNER!r})\nos.waitpid(-1, 0)"
        output = living.begin("burner", living.python(code))
        assert await read_some(output) == b"up"
        living.sandbox.freeze()
        living.sandbox.freeze()
        before = time.monotonic()
        await asyncio.sleep(0.5)  # how long it stands is what is measured
        living.sandbox.thaw()
        living.sandbox.thaw()
        assert await read_some(output) == b"stood"
        assert time.monotonic() - before < PATIENCE_S
        living.sandbox.freeze()
        living.sandbox.kill_all()
        await living.watcher.until("emptied")
        assert living.watcher.of("exited", "burner")[0][2].signal == signal.SIGKILL, (
            "the frozen can be killed"
        )
        os.close(output)


_CLIENT = """
import json, socket, sys
host, port = sys.argv[1].split(":")
with socket.create_connection((host, int(port)), 10) as connection:
    connection.sendall(b"ping\\n")
    print(json.dumps(connection.makefile().readline()))
"""


async def listener_is_reached_from_inside(bench: Bench) -> None:
    """The listener is served by this process and reached from inside at `api_address`."""
    async with bench.sandbox() as living:
        assert not living.sandbox.listener.getblocking()
        assert not living.sandbox.listener.get_inheritable()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"pong of " + await reader.readline())
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(answer, sock=living.sandbox.listener.dup())
        async with server:
            assert await living.ask(_CLIENT, living.sandbox.api_address) == "pong of ping\n"


_RESPONDENT = """
import signal, socket, sys
host, port = sys.argv[1].split(":")
peer = socket.create_connection((host, int(port)), 10)
signal.signal(signal.SIGALRM, lambda *_: peer.sendall(b"!"))
while word := peer.recv(1):
    if word == b"t":
        signal.setitimer(signal.ITIMER_REAL, 0.5)
    peer.sendall(word.upper())
"""


async def what_was_frozen_goes_on(bench: Bench) -> None:
    """What is said to the frozen is answered when they are thawed, not before; timers that were due ring."""
    async with bench.sandbox() as living:
        peers: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await peers.put((reader, writer))

        async with (
            asyncio.timeout(PATIENCE_S),
            await asyncio.start_server(accept, sock=living.sandbox.listener.dup()),
        ):
            output = living.begin("respondent", living.python(_RESPONDENT, living.sandbox.api_address))
            reader, writer = await peers.get()
            writer.write(b"t")
            assert await reader.readexactly(1) == b"T"
            # Given that it is frozen before its timer is due, and spoken to meanwhile
            living.sandbox.freeze()
            living.sandbox.memory_peak_bytes()  # by signals, whoever answers this has sent them
            await asyncio.sleep(0.1)  # and processes stand a moment later
            writer.write(b"a")
            early = b""
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.7):
                    early = await reader.read(1)
            assert not early
            # When it is thawed, then it answers, and the timer has rung once
            living.sandbox.thaw()
            assert sorted(await reader.readexactly(2)) == [ord("!"), ord("A")]
            # And so every time, however quickly one follows the other
            for _ in range(50):
                living.sandbox.freeze()
                writer.write(b"b")
                living.sandbox.thaw()
                assert await reader.readexactly(1) == b"B"
            writer.close()
            await writer.wait_closed()
        os.close(output)


async def memory_peak_is_seen(bench: Bench) -> None:
    """The memory peak is that of all processes together, and stays."""
    async with bench.sandbox() as living:
        output = living.begin(
            "big",
            living.python("import os, signal\nx = b'x' * 60_000_000\nos.write(1, b'up')\nsignal.pause()"),
        )
        assert await read_some(output) == b"up"
        peak = living.sandbox.memory_peak_bytes()
        assert 60_000_000 <= peak < 250_000_000
        living.sandbox.freeze()
        assert living.sandbox.memory_peak_bytes() >= peak
        living.sandbox.kill_all()
        await living.watcher.until("emptied")
        assert living.sandbox.memory_peak_bytes() >= peak
        os.close(output)


async def memory_is_limited(bench: Bench) -> None:
    """Who takes more memory than configured is killed, or the driver has said that it cannot limit memory."""
    is_limited = not any("memory sizes are not enforced" in sentence for sentence in bench.driver.check())
    async with bench.sandbox(memory_mib=128, ephemeral_mib=16) as living:
        how, said = await living.run(living.python("x = b'x' * 300_000_000\nprint(len(x))"))
        assert (how.signal == signal.SIGKILL) == is_limited
        assert (said == b"300000000\n") == (not is_limited)
        if bench.has_own_kernel:
            await living.watcher.until("lost")  # the memory that was too much was its kernel's
            return
        assert (await living.run(("/bin/sh", "-c", "exit 0")))[0].code == 0, "the sandbox lives on"


_FILLER = """
import json, os, sys
room, written, reason = os.statvfs(sys.argv[1]), 0, 0
with open(sys.argv[1] + "/filler", "wb", buffering=0) as file:
    try:
        while written < 40 << 20:
            written += file.write(bytes(1 << 20))
    except OSError as error:
        reason = error.errno
os.unlink(sys.argv[1] + "/filler")
with open(sys.argv[1] + "/again", "wb", buffering=0) as file:
    again = file.write(bytes(1 << 20))
mode, names = os.stat(sys.argv[1]).st_mode & 0o7777, os.listdir(sys.argv[1])
print(json.dumps([room.f_bavail * room.f_frsize, written, reason, again, mode, names]))
"""


async def tmp_is_limited(bench: Bench) -> None:
    """It takes what was planned and little more, then ENOSPC; and so it does in another sandbox meanwhile."""
    is_limited = not any("the size of /tmp is not enforced" in sentence for sentence in bench.driver.check())
    living = []
    try:
        for _ in range(2):
            watcher = Recorder()
            living.append(Living(await bench.driver.create(bench.plan(ephemeral_mib=16), watcher), watcher))
        for each in living:
            told = await each.ask(_FILLER, each.sandbox.paths.tmp)
            room, written, reason, again, mode, names = told
            assert again == 1 << 20, "what was removed is room again"
            assert mode == (0o1777 if is_limited else 0o700)
            assert names == ["again"]
            if is_limited:
                assert room >= 16 << 20
                assert 16 << 20 <= written < 28 << 20
                assert reason == errno.ENOSPC
            else:
                assert written == 40 << 20
    finally:
        for each in living:
            await each.sandbox.close()


async def close_leaves_nothing(bench: Bench) -> None:
    """Closing ends and reports everything, removes every trace, may be repeated and cancelled."""
    watcher = Recorder()
    sandbox = await bench.driver.create(bench.plan(), watcher)
    living = Living(sandbox, watcher)
    marker = f"marker-{os.getpid()}-{next(_numbers)}"
    hostile = (
        "import os, sys, time\nd = sys.argv[2]\nos.makedirs(d + '/a/b')\nopen(d + '/a/b/c', 'w').close()\n"
    )
    hostile += "os.symlink('/', d + '/a/b/root')\nos.chmod(d + '/a/b', 0)\nos.chmod(d + '/a', 0)\n"
    hostile += "os.chdir(d)\nfor _ in range(2000): os.mkdir('deep'); os.chdir('deep')\n"
    hostile += "os.fork()\nos.write(1, b'up')\ntime.sleep(1000)"
    output = living.begin("left", living.python(hostile, marker, sandbox.paths.tmp + "/x"))
    said = b""
    while said != b"upup":
        said += await read_some(output)
    assert len(processes_with(marker)) == (0 if bench.has_own_kernel else 2)
    sandbox.freeze()

    closing = asyncio.gather(sandbox.close(), sandbox.close())
    await asyncio.sleep(0)
    closing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await closing
    await sandbox.close()

    assert watcher.of("exited", "left")[0][2].signal == signal.SIGKILL
    assert not watcher.of("lost"), "asked is not lost"
    assert not processes_with(marker)
    assert not processes_with(str(bench.environments))
    assert not list(bench.environments.iterdir())
    assert sandbox.listener.fileno() == -1
    assert await read_all(output) == b""
    # Afterwards everything is quiet, not broken.
    watcher.heard.clear()
    assert await living.fail(("/bin/sh",)) == errno.ECANCELED
    sandbox.kill("left", signal.SIGTERM)
    sandbox.freeze()
    sandbox.thaw()
    sandbox.kill_all()
    await watcher.until("emptied")


async def unmade_leaves_nothing(bench: Bench) -> None:
    """A sandbox that could not be made, or whose making was cancelled, leaves nothing."""
    plan = bench.plan()
    missing = SandboxPlan(plan.name, bench.environments / "no" / "such", plan.mounts, 128)
    refused = False
    try:
        await bench.driver.create(missing, Recorder())
    except SandboxError:
        refused = True
    assert refused, "there is no place for its directory"
    for steps in range(6):
        plan = bench.plan()
        creating = asyncio.ensure_future(bench.driver.create(plan, Recorder()))  # noqa: TID251 - cancelled here
        for _ in range(steps):
            await asyncio.sleep(0)
        creating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await creating).close()
        assert not processes_with(str(plan.directory))
        assert not list(bench.environments.iterdir())


async def many_live_at_once(bench: Bench) -> None:
    """Fifty sandboxes (a dozen where each boots a kernel) are made, used and closed at the same time."""

    async def one(number: int) -> None:
        watcher = Recorder()
        sandbox = await bench.driver.create(bench.plan(memory_mib=128), watcher)
        try:
            how, said = await Living(sandbox, watcher).run(("/bin/sh", "-c", f"echo {number}; exit {number}"))
            assert (how.code, said) == (number, f"{number}\n".encode())
        finally:
            await sandbox.close()

    async with asyncio.TaskGroup() as group:
        for number in range(12 if bench.has_own_kernel else 50):
            group.create_task(one(number))
    assert not processes_with(str(bench.environments))
    assert not list(bench.environments.iterdir())


async def many_run_in_one(bench: Bench) -> None:
    """A hundred processes are started in one step; each is reported once, with its own output."""
    async with bench.sandbox() as living:
        runs = [living.run(("/bin/sh", "-c", f"echo {number}; exit {number}")) for number in range(100)]
        for number, (how, said) in enumerate(await asyncio.gather(*runs)):
            assert (how.code, said) == (number, f"{number}\n".encode())


CHECKS: tuple[Callable[[Bench], Awaitable[None]], ...] = (
    exits_are_reported,
    failures_are_reported,
    surroundings_are_exact,
    streams_are_apart,
    sockets_reach_inside,
    kill_reaches_the_group,
    kill_all_reaches_everyone,
    frozen_processes_stand,
    what_was_frozen_goes_on,
    listener_is_reached_from_inside,
    memory_peak_is_seen,
    memory_is_limited,
    tmp_is_limited,
    close_leaves_nothing,
    unmade_leaves_nothing,
    many_live_at_once,
    many_run_in_one,
)
"""The suite."""
