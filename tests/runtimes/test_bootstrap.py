"""The bootstrap with the real runtime interface client, against a Runtime API that the tests play."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat

import pytest

from remora.http.limits import Limits
from remora.http.server import Server

TIMEOUT_S = 120


class RuntimeApi:
    """Answers `next` with given events, then parks it; notes everything else."""

    def __init__(self, events=()):
        self.events = list(events)
        self.posts = []
        self.idle = asyncio.Event()

    def began(self, exchange):
        pass

    def ended(self, exchange):
        if exchange.path == b"/2018-06-01/runtime/invocation/next":
            if not self.events:
                self.idle.set()
                return
            event = json.dumps(self.events.pop(0)).encode()
            headers = [
                (b"Lambda-Runtime-Aws-Request-Id", b"8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
                (b"Lambda-Runtime-Deadline-Ms", b"4102444800000"),
                (b"Lambda-Runtime-Invoked-Function-Arn", b"arn:aws:lambda:us-east-1:000000000000:function:f"),
                (b"Lambda-Runtime-Trace-Id", b"Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=1"),
                (b"Content-Type", b"application/json"),
            ]
            exchange.respond(200, headers, event)
            return
        self.posts.append((exchange.path.decode(), json.loads(exchange.body)))
        exchange.respond(202, (), b'{"status":"OK"}\n')

    def aborted(self, exchange):
        pass


class Run:
    """What came of one runtime process."""

    def __init__(self, api, code, output):
        self.posts = api.posts
        self.code = code
        self.output = output


@pytest.fixture
def places(tmp_path):
    """Directories that stand for /var/task and /opt."""
    task, opt = tmp_path / "task", tmp_path / "opt"
    task.mkdir()
    opt.mkdir()
    return task, opt


def run(layout, places, handler="app.handler", events=(), **variables):
    """Start the runtime as the driver without isolation does, until it waits for more events or ends."""
    task, opt = places
    lang, runtime = (directory for directory, _ in layout.mounts)

    async def main():
        api = RuntimeApi(events)
        listener = socket.create_server(("127.0.0.1", 0))
        server = Server(api, listener, Limits())
        await server.start()
        env = {
            "PATH": f"{lang}/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "LD_LIBRARY_PATH": f"{lang}/lib",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.port}",
            "AWS_LAMBDA_FUNCTION_NAME": "f",
            "_HANDLER": handler,
            "LAMBDA_TASK_ROOT": str(task),
            "LAMBDA_RUNTIME_DIR": str(runtime),
            "PYTHONPATH": str(runtime),
            "_REMORA_OPT": str(opt),
            **variables,
        }
        process = await asyncio.create_subprocess_exec(
            runtime / "bootstrap",
            env=env,
            cwd=task,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = asyncio.ensure_future(process.communicate())
        idle = asyncio.ensure_future(api.idle.wait())
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.wait({output, idle}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if process.returncode is None and not output.done():
                process.kill()
            printed, _ = await output
            idle.cancel()
            await server.close()
        return Run(api, process.returncode, printed.decode())

    return asyncio.run(main())


def write(path, text, *, is_executable=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if is_executable:
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


REPORT = """
import os, sys
def handler(event, context):
    return {
        "event": event, "path": sys.path, "argv": sys.argv, "env": dict(os.environ), "cwd": os.getcwd(),
        "arn": context.invoked_function_arn, "left": context.get_remaining_time_in_millis() > 0,
    }
"""


def report(result):
    [(path, body)] = result.posts
    assert path == "/2018-06-01/runtime/invocation/8476a536-e9f4-11e8-9739-2dfe598c3fcd/response", body
    return body


@pytest.mark.slow
def test_events_are_handled_one_after_the_other(layout, places):
    write(
        places[0] / "app.py",
        "count = 0\ndef handler(e, c):\n  global count\n  count += 1\n  return [e, count]\n",
    )
    result = run(layout, places, events=[{"n": 1}, "two"])
    assert [body for _, body in result.posts] == [[{"n": 1}, 1], ["two", 2]]


@pytest.mark.slow
@pytest.mark.case("RT-46")
def test_process_is_as_in_lambda(layout, places):
    write(places[0] / "app.py", REPORT)
    told = report(run(layout, places, events=[{}]))
    runtime = str(layout.mounts[1][0])
    assert told["cwd"] == str(places[0])
    assert told["argv"] == [f"{runtime}/bootstrap.py"]
    assert told["env"]["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{layout.name}"
    assert told["env"]["_X_AMZN_TRACE_ID"].startswith("Root=1-")
    assert told["env"]["PYTHONPATH"] == runtime
    assert "_REMORA_OPT" not in told["env"]
    assert told["arn"].endswith(":function:f")
    assert told["left"]


@pytest.mark.slow
def test_search_path(layout, places):
    task, opt = map(str, places)
    runtime = str(layout.mounts[1][0])
    write(places[0] / "app.py", REPORT)
    path = report(run(layout, places, events=[{}]))["path"]
    # The old client puts the working directory in front once more.
    path = path[1:] if path[1] == task else path
    assert path[:4] == [task, f"{opt}/python/lib/{layout.name}/site-packages", f"{opt}/python", runtime]
    assert not [part for part in path[4:] if part.endswith("-packages") or part == runtime]
    assert any(part.endswith("lib-dynload") for part in path)


@pytest.mark.slow
@pytest.mark.case("RT-50")
def test_the_function_hides_layers_and_later_places_hide_less(layout, places):
    task, opt = places
    sites = opt / "python" / "lib" / layout.name / "site-packages"
    write(task / "one.py", "name = 'task'")
    for module in ("one", "two"):
        write(sites / f"{module}.py", "name = 'site-packages'")
    for module in ("one", "two", "three"):
        write(opt / "python" / f"{module}.py", "name = 'python'")
    write(
        task / "app.py",
        "import one, two, three\ndef handler(e, c):\n  return [one.name, two.name, three.name]\n",
    )
    [(_, names)] = run(layout, places, events=[{}]).posts
    assert names == ["task", "site-packages", "python"]


@pytest.mark.slow
def test_path_files_of_layers_are_honoured(layout, places):
    task, opt = places
    write(opt / "elsewhere" / "hidden.py", "name = 'found'")
    write(opt / "python" / "more.pth", f"{opt}/elsewhere\n")
    write(task / "app.py", "import hidden\ndef handler(e, c):\n  return hidden.name\n")
    [(_, name)] = run(layout, places, events=[{}]).posts
    assert name == "found"


@pytest.mark.slow
def test_pythonpath_of_the_customer_replaces_the_layers(layout, places):
    task, opt = places
    write(opt / "mine" / "one.py", "name = 'mine'")
    write(opt / "python" / "one.py", "name = 'layer'")
    write(task / "app.py", REPORT + "\nimport one\nassert one.name == 'mine'\n")
    told = report(run(layout, places, events=[{}], PYTHONPATH=str(opt / "mine")))
    assert told["env"]["PYTHONPATH"] == str(opt / "mine")
    assert told["path"][0] == str(task)
    assert str(opt / "python") not in told["path"]


@pytest.mark.slow
def test_missing_module_is_an_init_error(layout, places):
    result = run(layout, places, handler="absent.handler")
    [(path, error)] = result.posts
    assert path == "/2018-06-01/runtime/init/error"
    assert error["errorType"] == "Runtime.ImportModuleError"
    assert "absent" in error["errorMessage"]
    assert result.code == 1


@pytest.mark.slow
def test_failing_handler_is_an_invocation_error(layout, places):
    write(places[0] / "app.py", "def handler(e, c):\n  raise ValueError('no')\n")
    [(path, error)] = run(layout, places, events=[{}]).posts
    assert path.endswith("/error")
    assert error["errorType"] == "ValueError"


@pytest.mark.slow
@pytest.mark.case("RT-47")
def test_wrapper_gets_the_whole_command(layout, places):
    task = places[0]
    wrapper = task / "wrapper"
    write(wrapper, '#!/bin/sh\necho "argv:$0 $*"\nexport WRAPPED=1\nexec "$@"\n', is_executable=True)
    write(task / "app.py", REPORT)
    result = run(layout, places, events=[{}], AWS_LAMBDA_EXEC_WRAPPER=str(wrapper))
    lang, runtime = (directory for directory, _ in layout.mounts)
    assert f"argv:{wrapper} {lang}/bin/{layout.name} {runtime}/bootstrap.py\n" in result.output
    told = report(result)
    assert told["env"]["WRAPPED"] == "1"
    assert told["env"]["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{layout.name}"


@pytest.mark.case("RT-47")
def test_inside_a_sandbox_the_documented_paths_are_used(layout):
    script = (layout.mounts[1][0] / "bootstrap").read_text()
    assert f"interpreter=/var/lang/bin/{layout.name}\n" in script
    assert "directory=${LAMBDA_RUNTIME_DIR:-/var/runtime}\n" in script


@pytest.mark.slow
@pytest.mark.case("RT-48")
def test_missing_wrapper(layout, places):
    result = run(layout, places, AWS_LAMBDA_EXEC_WRAPPER="/opt/absent")
    assert (result.code, result.output) == (127, "/opt/absent: does not exist\n")


@pytest.mark.slow
@pytest.mark.case("RT-48")
def test_wrapper_that_is_no_program(layout, places):
    wrapper = places[0] / "wrapper"
    write(wrapper, "#!/bin/sh\n")
    result = run(layout, places, AWS_LAMBDA_EXEC_WRAPPER=str(wrapper))
    if os.access(wrapper, os.X_OK):
        pytest.fail("the test's wrapper must not be executable")
    assert (result.code, result.output) == (126, f"{wrapper}: is not an executable\n")


@pytest.mark.slow
def test_wrapper_may_change_what_is_run(layout, places):
    wrapper = places[0] / "wrapper"
    write(
        wrapper,
        '#!/bin/sh\nprogram=$1; shift\nexec "$program" -c \'import sys; print(sys.argv)\' "$@"\n',
        is_executable=True,
    )
    result = run(layout, places, AWS_LAMBDA_EXEC_WRAPPER=str(wrapper))
    assert result.output == f"['-c', '{layout.mounts[1][0]}/bootstrap.py']\n"
    assert result.code == 0
