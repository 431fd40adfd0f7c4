"""The sandbox suite over both drivers, and what only a driver of ours promises."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import uvloop
from tests.chosen import usable_oci_runtimes

from remora.sandbox.base import SandboxPlan
from remora.sandbox.bubblewrap import BubblewrapDriver
from remora.sandbox.cgroups import group_name
from remora.sandbox.hierarchies import find_hierarchies
from remora.sandbox.oci import OciDriver
from remora.sandbox.process import ProcessDriver
from remora.testing.contracts.sandbox import CHECKS, Bench, Living, Recorder, processes_with, read_some

DRIVERS = {"bubblewrap": BubblewrapDriver, "process": ProcessDriver}
DRIVERS |= {f"oci-{each}": partial(OciDriver, runtime=each) for each in usable_oci_runtimes()}


@pytest.fixture(params=DRIVERS)
def bench(request, tmp_path):
    environments, task = tmp_path / "environments", tmp_path / "task"
    environments.mkdir()
    task.mkdir()
    bases = {base for hierarchy in find_hierarchies() for base in (hierarchy.root, hierarchy.own)}
    groups = lambda: {path for base in bases for path in base.glob(f"*{os.getpid()}*.oci")}
    before = groups()
    driver = DRIVERS[request.param](environments, "test")
    yield Bench(driver, environments, task, has_own_kernel="runsc" in request.param)
    assert not [base for base in bases if (base / group_name(environments, "test")).exists()]
    assert groups() <= before


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_driver_keeps_its_promise(bench, check):
    uvloop.run(check(bench))


def only_bubblewrap(test):
    return pytest.mark.parametrize("bench", ["bubblewrap"], indirect=True)(test)


_VIEW = """
import json, os, socket, sys
def can(path, mode):
    try:
        os.close(os.open(path, mode)); return True
    except OSError as error:
        return error.errno
print(json.dumps({
    "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()), "pid": os.getpid(),
    "root": sorted(os.listdir("/")), "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
    "host": socket.gethostname(),
    "names": [socket.gethostbyname(n) for n in ("localhost", "sandbox", "sandbox.localdomain")],
    "task": can("/var/task/new", os.O_CREAT | os.O_WRONLY), "opt": can("/opt/new", os.O_CREAT | os.O_WRONLY),
    "top": can("/new", os.O_CREAT | os.O_WRONLY), "usr": can("/usr/new", os.O_CREAT | os.O_WRONLY),
    "tmp": can("/tmp/new", os.O_CREAT | os.O_WRONLY), "shm": can("/dev/shm/new", os.O_CREAT | os.O_WRONLY),
    "mode": oct(os.stat("/tmp").st_mode),
    "dirs": [os.path.isdir(p) for p in ("/var/task", "/opt", "/var/runtime", "/var/lang")],
    "interfaces": [name for _, name in socket.if_nameindex()], "disk": os.statvfs("/tmp").f_blocks > 0,
    "control": can("/run/remora/control/control.sock", os.O_RDONLY),
    "user": __import__("pwd").getpwuid(os.getuid()).pw_name,
    "caps": [l.split()[1] for l in open("/proc/self/status")
             if l[:6] in ("CapInh", "CapPrm", "CapEff", "CapAmb")],
    "memory": can("/proc/1/mem", os.O_RDWR), "environ": can("/proc/1/environ", os.O_RDONLY),
    "sysctl": can("/proc/sys/kernel/hostname", os.O_WRONLY), "sys": os.path.exists("/sys"),
}))
"""


@only_bubblewrap
def test_inside_nothing_of_the_machine_is_seen(bench):
    async def main():
        async with bench.sandbox() as living:
            seen = await living.ask(_VIEW)
            assert seen["pids"] == [1, seen["pid"]]
            assert set(seen["root"]) <= {
                *(
                    "bin",
                    "dev",
                    "etc",
                    "home",
                    "lib",
                    "lib32",
                    "lib64",
                    "libx32",
                    "mnt",
                    "opt",
                    "proc",
                    "run",
                ),
                *("sbin", "tmp", "usr", "var"),
            }
            assert (seen["uid"], seen["gid"], seen["user"]) == (993, 990, "sbx_user1051")
            assert seen["host"] == "sandbox"
            assert seen["names"] == ["127.0.0.1"] * 3
            for place in ("task", "opt", "top", "usr"):
                assert seen[place] is not True, place
            assert seen["tmp"] is True
            assert seen["shm"] is True
            assert seen["mode"] == "0o41777"
            assert seen["dirs"] == [True] * 4
            assert seen["interfaces"] == ["lo"]
            assert seen["caps"] == ["0000000000000000"] * 4
            assert seen["memory"] is not True
            assert seen["environ"] is not True
            assert seen["sysctl"] is not True
            assert not seen["sys"]
            assert living.sandbox.api_address == "127.0.0.1:9001"

    uvloop.run(main())


@only_bubblewrap
def test_files_in_tmp_outlive_kill_all_and_are_nobodys(bench):
    async def main():
        async with bench.sandbox() as living:
            await living.run(("/bin/sh", "-c", "echo kept > /tmp/file"))
            living.sandbox.kill_all()
            await living.watcher.until("emptied")
            assert (await living.run(("/bin/sh", "-c", "read -r x < /tmp/file; echo $x")))[1] == b"kept\n"
            directory = next(bench.environments.iterdir())
            assert not list((directory / "tmp").iterdir()), "only the sandbox sees what is mounted there"
            marker = f"owner-{os.getpid()}"
            output = living.begin(
                "owner", living.python("import os, time\nos.write(1, b'up')\ntime.sleep(1000)", marker)
            )
            await read_some(output)
            os.close(output)
            uids = {owner_of(pid) for pid in processes_with(marker)}
            assert uids == {100_993} if os.geteuid() == 0 else {os.geteuid()}, "nobody inside is root outside"

    uvloop.run(main())


def owner_of(pid):
    return Path(f"/proc/{pid}").stat().st_uid


@only_bubblewrap
def test_network_of_the_host_is_seen_if_wanted(bench):
    # its devices change while other tests make sandboxes; which network it is does not
    ours = str(Path("/proc/self/ns/net").readlink())

    async def main():
        plan = bench.plan()
        plan = SandboxPlan(plan.name, plan.directory, plan.mounts, plan.memory_mib, "host")
        watcher = Recorder()
        sandbox = await bench.driver.create(plan, watcher)
        try:
            code = "import json, os\nprint(json.dumps(os.readlink('/proc/self/ns/net')))"
            assert await Living(sandbox, watcher).ask(code) == ours
            assert not sandbox.api_address.endswith(":9001")
        finally:
            await sandbox.close()

    uvloop.run(main())


@only_bubblewrap
def test_a_function_may_not_speak_as_the_platform(bench):
    code = (
        "import json, socket\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "try:\n    s.connect('/run/remora/control/control.sock')\n"
        "    s.send(b'A')\n    print(json.dumps(s.recv(9).decode()))\n"
        "except OSError as error:\n    print(json.dumps('refused'))\n"
    )

    async def main():
        async with bench.sandbox() as living:
            assert await living.ask(code) in {"", "refused"}
            assert (
                await living.ask(
                    "import os, signal, json\ntry: os.kill(1, 15)\nexcept OSError: pass\nprint(1)"
                )
                == 1
            )
            await living.run(("/bin/sh", "-c", "kill -9 1; kill -15 1; kill -1 1"))
            assert (await living.run(("/bin/sh", "-c", "exit 4")))[0].code == 4

    uvloop.run(main())


@pytest.mark.parametrize("victim", ["pid1", "child"])
def test_a_sandbox_whose_pid_1_is_killed_is_lost_once(bench, victim):
    async def main():
        watcher = Recorder()
        sandbox = await bench.driver.create(bench.plan(), watcher)
        living = Living(sandbox, watcher)
        output = living.begin("left", ("/bin/sh", "-c", "echo up; sleep 1000"), env={"PATH": "/usr/bin:/bin"})
        assert await read_some(output) == b"up\n"
        await watcher.until("started")
        sandbox.freeze()
        os.kill(sandbox._init.pid if victim == "pid1" else sandbox._init.child.pid, signal.SIGKILL)
        await watcher.until("lost")
        assert watcher.heard[-2][:2] == ("exited", "left")
        assert watcher.heard[-1][0] == "lost"
        assert await read_some(output) == b"", "nothing runs any more"
        sandbox.thaw()
        sandbox.kill_all()
        await watcher.until("emptied")
        await sandbox.close()
        os.close(output)
        assert len(watcher.of("lost")) == 1
        assert not list(bench.environments.iterdir())

    uvloop.run(main())


GARBAGE = (
    b"",
    b"\0",
    b"S",
    b"S" + b"\xff" * 18,
    b"S" + b"\0" * 300,
    b"Sabcd" + b"\0" * 8 + b"\0\0\1\0\0\0" + b"no end",
    b"K1234",
    b"K\1\0\0\0\xff\xff\xff\xff",
    b"K\1\0\0\0\0\0\0\0",
    b"C",
    b"C\7",
    b"A and more",
    b"Z?",
    os.urandom(1000),
    b"x" * 200_000,
)


def test_garbage_does_not_harm_pid_1(bench):
    async def main():
        async with bench.sandbox() as living:
            connection = living.sandbox._init.connection
            held = Path(f"/proc/{living.sandbox._init.pid}/fd")
            assert (await living.run(("/bin/sh", "-c", "exit 6")))[0].code == 6
            before = len(os.listdir(held)) if os.geteuid() == 0 else 0  # noqa: PTH208 - names are enough
            for junk in GARBAGE:
                connection.send(junk)
                socket.send_fds(connection, [junk or b"\0"], [2] * 9)
                if junk[:1] != b"S":
                    socket.send_fds(connection, [junk or b"\0"], [2])
                assert (await living.run(("/bin/sh", "-c", "exit 6")))[0].code == 6
            if os.geteuid() == 0:  # nobody else may look into pid 1
                after = len(os.listdir(held))  # noqa: PTH208 - names are enough
                assert after < before + 10, "what came with garbage is closed"

    uvloop.run(main())


PLATFORM = """
import asyncio, os, sys
from pathlib import Path
from remora.sandbox.base import ProcessPlan
from remora.node.drivers import sandbox_driver
from remora.testing.contracts.sandbox import Bench, Recorder
kind, environments, task, marker = sys.argv[1:]
async def main():
    driver = sandbox_driver(kind, Path(environments), "test")
    bench = Bench(driver, Path(environments), Path(task))
    code = "import os, time\\nif os.fork() == 0: os.setsid(); os.fork()\\n"
    code += "os.write(1, b'.')\\ntime.sleep(1000)"
    for number in range(4):
        sandbox = await driver.create(bench.plan(), watcher := Recorder())
        version = "python%d.%d" % sys.version_info[:2]
        argv = (f"{sandbox.paths.lang}/bin/{version}", "-IS", "-c", code, marker)
        sandbox.start(ProcessPlan("left", argv, {}, "/", 1, 1))
        await watcher.until("started")
        if number % 2: sandbox.freeze()
    print("made", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_after_a_dead_platform_a_sweep_leaves_nothing(bench, tmp_path):
    marker = f"marker-{os.getpid()}-{bench.driver.name}"
    words = [sys.executable, "-c", PLATFORM, bench.driver.name, bench.environments, bench.task, marker]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as platform:
        said = b""
        while b"made" not in said:
            said += os.read(platform.stdout.fileno(), 1000)
        assert len(processes_with(marker)) > 4
        platform.kill()
    (bench.environments / "half-made").mkdir()

    async def main():
        assert await bench.driver.sweep() == 5
        assert await bench.driver.sweep() == 0

    uvloop.run(main())
    assert not processes_with(marker)
    assert not processes_with(str(bench.environments))
    assert not list(bench.environments.iterdir())


def test_a_sweep_leaves_the_living_alone(bench):
    async def main():
        async with bench.sandbox() as living:
            assert await bench.driver.sweep() == 0
            assert (await living.run(("/bin/sh", "-c", "exit 1")))[0].code == 1

    uvloop.run(main())


def test_the_process_driver_says_that_it_isolates_nothing(tmp_path):
    assert "isolates nothing" in ProcessDriver(tmp_path, "test").check()[0]


def test_bubblewrap_is_checked_by_making_a_sandbox(tmp_path):
    missing = BubblewrapDriver(tmp_path / "environments", "test").check()
    assert os.geteuid() != 0 or not any("isolates" in sentence for sentence in missing)
    assert not list((tmp_path / "environments").iterdir())


def test_both_event_loops_will_do(bench):
    async def main():
        async with bench.sandbox() as living:
            assert (await living.run(("/bin/sh", "-c", "exit 2")))[0].code == 2
            assert json.dumps(repr(living.sandbox))

    asyncio.run(main())
