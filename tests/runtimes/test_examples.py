"""The examples do what their descriptions say, against APIs that the tests play."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from remora.http.server import Server

EXAMPLES = Path(__file__).parents[2] / "examples"
IDENTIFIER = b"7ed16e9d-6f0d-4dd2-8b06-cd5b3a5a6f55"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"


class Apis:
    """Runtime API and Extensions API of an environment that sees some invocations and then ends."""

    def __init__(self, payloads, reason="spindown"):
        self.events = [{"eventType": "INVOKE", "requestId": f"r{n}"} for n in range(len(payloads))]
        self.events.append({"eventType": "SHUTDOWN", "shutdownReason": reason})
        self.payloads = [(b"r%d" % number, payload) for number, payload in enumerate(payloads)]
        self.registered = []
        self.responses = []
        self.order = []
        self.idle = asyncio.Event()
        self.parked = set()

    def park(self, path):
        """Leave a `next` unanswered; it is over when everybody waits."""
        self.parked.add(path)
        if len(self.parked) == (2 if self.registered else 1):
            self.idle.set()

    def began(self, exchange):
        pass

    def aborted(self, exchange):
        pass

    def ended(self, exchange):
        path = exchange.path.decode()
        self.order.append(path)
        if path == "/2020-01-01/extension/register":
            assert exchange.method == b"POST"
            name = exchange.header(b"lambda-extension-name").decode()
            self.registered.append((name, json.loads(exchange.body)["events"]))
            function = {"functionName": "f", "functionVersion": "$LATEST", "handler": "app.handler"}
            body = json.dumps(function, separators=(",", ":")).encode()
            exchange.respond(200, [(b"Lambda-Extension-Identifier", IDENTIFIER)], body)
        elif path == "/2020-01-01/extension/event/next":
            assert exchange.header(b"lambda-extension-identifier") == IDENTIFIER
            if not self.events:
                self.park(path)
                return
            body = json.dumps(self.events.pop(0), separators=(",", ":")).encode()
            exchange.respond(200, ((b"Content-Type", b"application/json"),), body)
        elif path == "/2018-06-01/runtime/invocation/next":
            if not self.payloads:
                self.park(path)
                return
            request_id, payload = self.payloads.pop(0)
            exchange.respond(
                200,
                [
                    (b"Lambda-Runtime-Aws-Request-Id", request_id),
                    (b"Lambda-Runtime-Deadline-Ms", b"4102444800000"),
                    (b"Lambda-Runtime-Invoked-Function-Arn", ARN.encode()),
                    (b"Content-Type", b"application/json"),  # the stock client crashes without it
                ],
                payload,
            )
        else:
            assert path.endswith("/response"), exchange.body
            self.responses.append(json.loads(exchange.body))
            exchange.respond(202, (), b'{"status":"OK"}\n')


def play(apis, argv, env=None, *, ends):
    """Run a program against the APIs until it ends, or until it waits for ever."""

    async def main():
        server = Server(apis, socket.create_server(("127.0.0.1", 0)))
        await server.start()
        process = await asyncio.create_subprocess_exec(
            *argv,
            env={
                "PATH": "/usr/bin:/bin",
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.port}",
                **(env or {}),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        done = asyncio.ensure_future(process.communicate())
        idle = asyncio.ensure_future(apis.idle.wait())
        try:
            async with asyncio.timeout(120):
                await asyncio.wait({done} if ends else {done, idle}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not done.done():
                process.kill()
            output, _ = await done
            idle.cancel()
            await server.close()
        return process.returncode, output.decode()

    apis.idle = asyncio.Event()
    return asyncio.run(main())


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """The extension in C, built as its description says."""
    directory = tmp_path_factory.mktemp("c-extension")
    source = EXAMPLES / "c-extension" / "c-extension.c"
    command = ["cc", "-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o", directory / "c-extension", source]
    subprocess.run(command, check=True)
    return directory / "c-extension"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["python-extension", "shell-extension", "c-extension"])
@pytest.mark.parametrize("reason", ["spindown", "timeout"])
def test_external_extensions(name, reason, compiled):
    program = compiled if name == "c-extension" else EXAMPLES / "extensions" / name / "extensions" / name
    apis = Apis([b"{}"] * 3, reason)
    code, output = play(apis, [program], ends=True)
    lines = output.splitlines()
    assert code == 0
    assert apis.registered == [(name, ["INVOKE", "SHUTDOWN"])]
    assert lines[0].startswith(f"[{name}] registered for f")
    assert lines[1:-1] == [f"[{name}] INVOKE r{number}" for number in range(3)]
    assert lines[-1] == f"[{name}] SHUTDOWN, reason {reason}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["python-extension", "shell-extension", "c-extension"])
def test_external_extensions_say_why_they_end(name, compiled):
    program = compiled if name == "c-extension" else EXAMPLES / "extensions" / name / "extensions" / name

    class Refusing(Apis):
        def ended(self, exchange):
            body = b'{"errorMessage":"no","errorType":"Extension.X"}'
            exchange.respond(403, (), body)

    code, output = play(Refusing([]), [program], ends=True)
    assert code == 1
    assert "403" in output
    assert "Extension.X" in output


@pytest.mark.slow
def test_provided_shell():
    apis = Apis([b'{"a":"\xc3\xa9 %s\\n"}', b"[1, 2]", b'"x"'])
    argv = [EXAMPLES / "provided-shell" / "bootstrap"]
    _, output = play(apis, argv, {"_HANDLER": "some.handler"}, ends=False)
    assert [answer["event"] for answer in apis.responses] == [{"a": "é %s\n"}, [1, 2], "x"]
    assert output.splitlines()[0] == "bootstrap: handler some.handler"


@pytest.mark.slow
def test_wrapper_and_hello(layout, tmp_path):
    lang, runtime = (directory for directory, _ in layout.mounts)
    opt = tmp_path / "opt"
    shutil.copytree(EXAMPLES / "wrapper", opt)
    apis = Apis([b'{"name": "Ada"}'])
    env = {
        "LD_LIBRARY_PATH": f"{lang}/lib",
        "AWS_LAMBDA_EXEC_WRAPPER": str(opt / "wrapper"),
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_REGION": "us-east-1",
        "_HANDLER": "app.handler",
        "LAMBDA_TASK_ROOT": str(EXAMPLES / "hello-python"),
        "LAMBDA_RUNTIME_DIR": str(runtime),
        "PYTHONPATH": str(runtime),
        "PYTHONDONTWRITEBYTECODE": "1",
        "_REMORA_OPT": str(opt),
    }
    apis.events.pop()  # internal extensions hear no SHUTDOWN
    _, output = play(apis, [runtime / "bootstrap"], env, ends=False)
    assert apis.registered == [("wrapper-extension", ["INVOKE"])]
    assert apis.order[0] == "/2020-01-01/extension/register"
    assert "[wrapper-extension] registered for f\n" in output
    assert "[wrapper-extension] INVOKE r0\n" in output
    assert len(apis.responses) == 1, output
    [answer] = apis.responses
    assert answer["greeting"] == "Hello, Ada!"
    assert answer["remaining_ms"] > 0
    assert '"event": {"name": "Ada"}' in output


def test_programs_are_executable():
    for path in ("wrapper/wrapper", "provided-shell/bootstrap", *_extension_programs()):
        assert os.access(EXAMPLES / path, os.X_OK), path


def test_every_example_describes_itself():
    for directory in EXAMPLES.iterdir():
        if directory.is_dir() and directory.name != "extensions":
            assert (directory / "README.md").exists()


def _extension_programs():
    return [path.relative_to(EXAMPLES) for path in (EXAMPLES / "extensions").glob("*/extensions/*")]
