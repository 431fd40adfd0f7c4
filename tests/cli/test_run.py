"""`remora run`: from a command line to a request, from a report to what is printed; the run is faked."""

import asyncio
import json
import os
import signal
import sys
import zipfile

import msgspec
import pytest

from remora.cli import run as run_command
from remora.cli.waterfall import Event, Timeline
from remora.environment.base import InvokeResult
from remora.node.oneshot import RunError, RunReport, RunRequest

THIS_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
TIMELINE = msgspec.to_builtins(
    Timeline("3f2a", "hello", 1_700_000_000_000, [Event(800, "sandbox.created"), Event(900, "init.started")])
)

INVOCATIONS = [
    {
        "request_id": "r-1",
        "status": "success",
        "duration_ms": 12.5,
        "init_ms": 80.0,
        "memory_mib": 128,
        "memory_peak_bytes": 20_000_000,
        "billed_ms": 93,
        "gb_seconds": 0.011625,
        "usd": 3.9375e-07,
    }
]


def result(payload: bytes = b'{"ok":true}', error: str | None = None) -> InvokeResult:
    return InvokeResult("r-1", payload, error, "$LATEST")


class FakeRun:
    """Stands for `run_once`: remembers the request and reports what it was given."""

    def __init__(self) -> None:
        self.request: RunRequest | None = None
        self.results = [result()]
        self.failure: RunError | None = None

    async def __call__(self, request, on_log):
        self.request = request
        if self.failure:
            raise self.failure
        on_log("START RequestId: r-1 Version: $LATEST\n")
        on_log("REPORT RequestId: r-1")
        return RunReport(self.results, TIMELINE, INVOCATIONS)


@pytest.fixture
def fake(monkeypatch):
    fake = FakeRun()
    monkeypatch.setattr(run_command, "run_once", fake)
    return fake


@pytest.fixture
def function(tmp_path):
    directory = tmp_path / "function"
    directory.mkdir()
    (directory / "app.py").write_text("")
    return directory


def test_the_response_goes_to_stdout_and_all_else_to_stderr(remora, fake, function):
    outcome = remora("run", str(function))
    assert outcome.code == 0
    assert outcome.out == '{"ok":true}\n'
    assert outcome.err.splitlines()[:2] == ["START RequestId: r-1 Version: $LATEST", "REPORT RequestId: r-1"]
    assert "hello · 3f2a" in outcome.err
    assert "sandbox" in outcome.err


def test_defaults(remora, fake, function):
    remora("run", str(function))
    assert fake.request == RunRequest(
        directory=function.resolve(),
        handler="app.handler",
        runtime=THIS_PYTHON,
        layers=(),
        payload=b"{}",
        repeat=1,
        timeout_s=3,
        memory_mib=128,
        variables={},
        driver="bubblewrap" if sys.platform == "linux" else "process",
        network=None,
    )


def test_every_option_arrives(remora, fake, function, tmp_path):
    layer = tmp_path / "layer"
    layer.mkdir()
    archive = tmp_path / "layer.zip"
    zipfile.ZipFile(archive, "w").close()
    event = tmp_path / "event.json"
    event.write_bytes(b' {"n": 1}\n')
    options = (
        *("--handler", "a.b", "--runtime", "python3.12", "--layer", str(layer), "--layer", str(archive)),
        *("--event", str(event), "--repeat", "3", "--timeout", "9", "--memory", "512", "--env", "A=b=c"),
        *("--env", "EMPTY=", "--driver", "process", "--network", "host"),
    )
    assert remora("run", str(function), *options).code == 0
    assert fake.request == RunRequest(
        directory=function.resolve(),
        handler="a.b",
        runtime="python3.12",
        layers=(layer.resolve(), archive.resolve()),
        payload=b' {"n": 1}\n',
        repeat=3,
        timeout_s=9,
        memory_mib=512,
        variables={"A": "b=c", "EMPTY": ""},
        driver="process",
        network="host",
    )


def test_handlers_are_found_by_their_usual_names(remora, fake, function):
    (function / "app.py").rename(function / "lambda_function.py")
    remora("run", str(function))
    assert fake.request.handler == "lambda_function.lambda_handler"


def test_a_bootstrap_needs_neither_handler_nor_runtime(remora, fake, function):
    (function / "bootstrap").write_text("#!/bin/sh\n")
    refused = remora("run", str(function))
    assert refused.code == 1
    assert "hint: make it executable: chmod +x" in refused.err
    (function / "bootstrap").chmod(0o755)
    assert remora("run", str(function)).code == 0
    assert (fake.request.runtime, fake.request.handler) == ("provided.al2023", "bootstrap")


def test_a_failed_function_is_exit_code_1_with_its_error_on_stdout(remora, fake, function):
    fake.results = [result(), result(b'{"errorMessage":"no"}', "Unhandled")]
    outcome = remora("run", str(function))
    assert outcome.code == 1
    assert outcome.out == '{"ok":true}\n{"errorMessage":"no"}\n'


def test_bytes_come_through_as_they_are(fake, function, capfdbinary):
    fake.results = [result(b"\x00\xff\n")]
    with pytest.raises(SystemExit):
        run_command_line("run", str(function))
    assert capfdbinary.readouterr().out == b"\x00\xff\n\n"


def run_command_line(*arguments):
    from remora.cli.main import main

    main(arguments)


def test_json_is_one_object_and_nothing_else(remora, fake, function):
    fake.results = [result(b'{"big":12345678901234567890}'), result(b"\xff")]
    outcome = remora("run", str(function), "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out) == {
        "results": [
            {
                "request_id": "r-1",
                "function_error": None,
                "executed_version": "$LATEST",
                "report": INVOCATIONS[0],
                "payload": {"big": 12345678901234567890},
            },
            {
                "request_id": "r-1",
                "function_error": None,
                "executed_version": "$LATEST",
                "report": INVOCATIONS[0],
                "payload_base64": "/w==",
            },
        ],
        "log": ["START RequestId: r-1 Version: $LATEST", "REPORT RequestId: r-1"],
        "timeline": TIMELINE,
    }


def test_what_could_not_be_run_is_exit_code_3_with_a_hint(remora, fake, function):
    fake.failure = RunError("could not run python2.7", "there are: python3.11")
    outcome = remora("run", str(function))
    assert (outcome.code, outcome.out) == (3, "")
    assert outcome.err == "remora: could not run python2.7\nhint: there are: python3.11\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--env", "novalue"), "'novalue' is not KEY=VALUE"),
        (("--env", "1A=b"), "'1A=b' is not KEY=VALUE"),
        (("--timeout", "0"), "0 is not in the range"),
        (("--timeout", "901"), "901 is not in the range"),
        (("--memory", "64"), "64 is not in the range"),
        (("--repeat", "0"), "0 is not in the range"),
        (("--layer", "/does/not/exist"), "does not exist"),
        (("--event", "/does/not/exist"), "No such file"),
        (("--driver", "docker"), "'docker' is not one of"),
    ],
)
def test_wrong_options_are_wrong_usage(remora, fake, function, options, message):
    outcome = remora("run", str(function), *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert fake.request is None


@pytest.mark.parametrize("event", [b"", b"{", b"{'a': 1}", b"\xff", b'{"a": NaN}'])
def test_an_event_that_is_no_json_is_wrong_usage(remora, fake, function, tmp_path, event):
    file = tmp_path / "event.json"
    file.write_bytes(event)
    outcome = remora("run", str(function), "-e", str(file))
    assert outcome.code == 2
    assert "the event is no JSON" in outcome.err


def test_no_function_and_no_handler_are_wrong_usage(remora, fake, tmp_path):
    assert remora("run", str(tmp_path / "missing")).code == 2
    outcome = remora("run", str(tmp_path))
    assert outcome.code == 2
    assert "has neither app.py nor lambda_function.py: name the handler" in outcome.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_run_in_an_orderly_way(remora, function, monkeypatch, number, code):
    ended = []

    async def wait_for_ever(_request, _on_log):
        os.kill(os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    monkeypatch.setattr(run_command, "run_once", wait_for_ever)
    former = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in the background
    try:
        assert remora("run", str(function)).code == code
    finally:
        signal.signal(signal.SIGINT, former)
    assert ended == [True]
