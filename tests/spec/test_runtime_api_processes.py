"""The Runtime API's processes: what only real ones can show, how they end and what they find."""

import json
import os
import resource

import pytest
from tests.chosen import chosen_driver

from remora.node.oneshot import RunRequest, run_once
from remora.runtimes.catalog import Runtimes, default_cache
from remora.sandbox.cgroups import SandboxGroup

SHOW = """
import json, os, resource, stat
def show(event):
    return json.dumps({
        "cwd": os.getcwd(), "argv": open("/proc/self/cmdline").read().split("\\0")[:-1],
        "stdin": os.read(0, 1).decode(), "null": os.fstat(0).st_rdev == os.stat("/dev/null").st_rdev,
        "env": dict(os.environ), "ids": [os.getuid(), os.getgid()], "leader": os.getpgid(0) == os.getpid(),
        "limits": {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in
                   ("NOFILE", "STACK", "MEMLOCK", "CORE")},
        "modes": {path: oct(os.stat(path).st_mode & 0o7777) for path in ("/var/task", "/opt", "/tmp")},
        "open": sorted(os.listdir("/proc/self/fd")),
    }).encode()
serve(show)
"""
ALWAYS = {
    *("_HANDLER", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_LAMBDA_FUNCTION_NAME"),
    *("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE"),
    *("AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT"),
    *("LAMBDA_RUNTIME_DIR", "LANG", "PATH", "LD_LIBRARY_PATH", "AWS_XRAY_CONTEXT_MISSING"),
    *("AWS_XRAY_DAEMON_ADDRESS", "_AWS_XRAY_DAEMON_ADDRESS", "_AWS_XRAY_DAEMON_PORT", "TZ"),
}
"""What a runtime of its own finds, every name of it."""


def ended(answer, message, error_type="Runtime.ExitError"):
    """Check the platform's own words for an error."""
    text = f"RequestId: {answer.request_id} Error: {message}"
    expected = {"errorType": error_type, "errorMessage": text}
    assert answer.payload == json.dumps(expected, separators=(",", ":")).encode()
    assert answer.function_error == "Unhandled"


def invoked(real, run, runtime, *events, more=None, **members):
    """Invoke a program that is the runtime, once for each event."""

    async def scenario():
        async with real(runtime, more=more, **members) as it:
            return [await it.invoke(event) for event in events or (b"{}",)]

    return run(scenario())


@pytest.mark.slow
@pytest.mark.case("RT-21")
@pytest.mark.parametrize("code", [1, 255])
def test_exit_in_init(real, run, code):
    (answer,) = invoked(real, run, f"sys.exit({code})")
    ended(answer, f"Runtime exited with error: exit status {code}")


@pytest.mark.slow
@pytest.mark.case("RT-22")
def test_exit_with_zero_in_an_invocation(real, run):
    (answer,) = invoked(real, run, "next_invocation(); sys.exit(0)")
    ended(answer, "Runtime exited without providing a reason")


@pytest.mark.slow
@pytest.mark.case("RT-23")
@pytest.mark.parametrize(
    ("number", "text"),
    [
        (9, "killed"),
        (11, "segmentation fault"),
        (6, "aborted"),
        (5, "trace/breakpoint trap"),
        (31, "bad system call"),
        (40, "signal 40"),
    ],
)
def test_killed_by_a_signal(real, run, number, text):
    (answer,) = invoked(real, run, f"next_invocation(); os.kill(os.getpid(), {number}); time.sleep(60)")
    ended(answer, f"Runtime exited with error: signal: {text}")


@pytest.mark.slow
@pytest.mark.case("RT-24")
def test_out_of_memory(real, run, limited):
    program = """
def eat(event):
    if event == b'"eat"':
        kept = [bytearray(os.urandom(1 << 20)) for _ in range(512)]
    return event
serve(eat)
"""
    first, eaten, after = invoked(real, run, program, b"1", b'"eat"', b"3", memory_mib=128, timeout_s=30)
    if "memory" in limited:
        ended(eaten, "Runtime exited with error: signal: killed", "Runtime.OutOfMemory")
    else:
        assert eaten.payload == b'"eat"'
    assert (first.payload, after.payload) == (b"1", b"3")


@pytest.mark.parametrize(
    ("version", "file", "text"),
    [
        (1, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"),
        (2, "memory.events", "low 0\nhigh 0\nmax 9\noom 1\noom_kill {}\noom_group_kill 0\n"),
    ],
)
def test_kills_of_the_kernel_are_counted(tmp_path, version, file, text):
    (tmp_path / file).write_text(text.format(0))
    (tmp_path / ("memory.max_usage_in_bytes" if version == 1 else "memory.peak")).write_text("1\n")
    group = SandboxGroup("s", {"memory": (version, tmp_path)})
    assert group.memory_kills() == 0
    (tmp_path / file).write_text(text.format(2))
    assert group.memory_kills() == 2
    group.close_files()
    assert group.memory_kills() == 0


@pytest.mark.slow
@pytest.mark.case("RT-41")
def test_no_bootstrap(real, run, tmp_path):
    async def scenario():
        async with real("serve()") as it:
            (tmp_path / "task/bootstrap").unlink()
            return await it.invoke()

    text = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
    ended(run(scenario()), text, "Runtime.InvalidEntrypoint")


@pytest.mark.slow
@pytest.mark.case("RT-42")
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (None, "permission denied"),
        ("\0garbage", "exec format error"),
        ("#!/no/such/interpreter\n", "no such file or directory"),
    ],
)
def test_a_bootstrap_that_cannot_be_executed(real, run, program, reason):
    (answer,) = invoked(real, run, program)
    ended(answer, f"fork/exec /var/task/bootstrap: {reason}", "Runtime.InvalidEntrypoint")


@pytest.mark.slow
@pytest.mark.case("RT-43")
def test_the_package_comes_before_a_layer(real, run):
    more = {"opt/bootstrap": "serve(lambda _: b'opt')"}

    (answer,) = invoked(real, run, "serve(lambda _: b'task')", more=more)
    assert answer.payload == b"task"


@pytest.mark.slow
@pytest.mark.case("RT-43")
def test_a_layer_may_bring_the_bootstrap(real, run, tmp_path):
    async def scenario():
        async with real("serve()", more={"opt/bootstrap": "serve(lambda _: b'opt')"}) as it:
            (tmp_path / "task/bootstrap").unlink()
            return await it.invoke()

    assert run(scenario()).payload == b"opt"


@pytest.mark.slow
@pytest.mark.case("RT-44", "RT-45")
def test_values_are_the_customers_where_they_may_be(real, run):
    variables = {
        "LANG": "C",
        "MINE": "a=b=c",
        "PATH": "/usr/bin",
        "AWS_XRAY_CONTEXT_MISSING": "x",
        "TZ": "CET",
    }
    (answer,) = invoked(real, run, SHOW, variables=variables)
    env = json.loads(answer.payload)["env"]
    assert {name: env[name] for name in variables} == {**variables, "TZ": ":UTC"}


@pytest.mark.slow
@pytest.mark.case("RT-46")
def test_what_a_runtime_finds(real, run):
    (answer,) = invoked(real, run, SHOW, variables={"MINE": "1"}, memory_mib=256, handler="the.handler")
    found = json.loads(answer.payload)
    assert found["cwd"] == "/var/task"
    assert found["argv"][-1] == "/var/task/bootstrap"
    assert (found["stdin"], found["null"], found["leader"]) == ("", True, True)
    env = found["env"]
    assert set(env) - {"LC_CTYPE"} == {*ALWAYS, "MINE"}
    assert env["_HANDLER"] == "the.handler"
    assert (env["LAMBDA_TASK_ROOT"], env["LAMBDA_RUNTIME_DIR"]) == ("/var/task", "/var/runtime")
    assert env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert env["LD_LIBRARY_PATH"] == (
        "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
    )
    assert env["PATH"] == "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"
    assert env["AWS_XRAY_DAEMON_ADDRESS"] == "169.254.100.1:2000"
    assert (env["_AWS_XRAY_DAEMON_ADDRESS"], env["_AWS_XRAY_DAEMON_PORT"]) == ("169.254.100.1", "2000")
    if os.geteuid() == 0:
        assert found["ids"] == [993, 990]
    assert found["modes"]["/tmp"] == "0o1777"
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    assert found["limits"] == {
        "NOFILE": [1024, 1024],
        "STACK": [8 * 1024 * 1024, hard],
        "MEMLOCK": [65_536, 65_536],
        "CORE": [0, 0],
    }
    assert found["open"][:3] == ["0", "1", "2"]


@pytest.mark.slow
@pytest.mark.case("RT-49")
def test_a_wrapper_is_not_for_runtimes_of_ones_own(real, run):
    variables = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}
    (answer,) = invoked(real, run, SHOW, more={"opt/wrapper": "#!/bin/false\n"}, variables=variables)
    found = json.loads(answer.payload)
    assert found["argv"][-1] == "/var/task/bootstrap"
    assert found["env"]["AWS_LAMBDA_EXEC_WRAPPER"] == "/opt/wrapper"
    assert "AWS_EXECUTION_ENV" not in found["env"]


@pytest.mark.slow
@pytest.mark.case("RT-48")
@pytest.mark.parametrize(
    ("mode", "code", "text"), [(None, 127, "does not exist"), (0o644, 126, "is not an executable")]
)
def test_a_managed_runtime_without_its_wrapper(tmp_path, run, mode, code, text):
    function = tmp_path / "function"
    function.mkdir()
    wrapper = function / "w"
    (function / "app.py").write_text("def handler(event, context):\n    return event\n")
    if mode is not None:
        wrapper.write_text("#!/bin/sh\n")
        wrapper.chmod(mode)
    name = next(name for name in Runtimes(default_cache(), "us-east-1").names() if name.startswith("python"))
    variables = {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/w"}
    request = RunRequest(
        function, "app.handler", name, (), b"{}", 1, 10, 128, variables, chosen_driver(), "none"
    )
    lines = []
    report = run(run_once(request, lines.append))
    ended(report.results[0], f"Runtime exited with error: exit status {code}")
    assert f"/var/task/w: {text}" in lines
