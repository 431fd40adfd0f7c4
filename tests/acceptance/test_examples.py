"""The examples of this repository, deployed as their READMEs say."""

import json
import subprocess
import sys

import pytest

from .packages import EXAMPLES, zip_directory


@pytest.fixture
def c_extension(tmp_path):
    """The layer with the extension in C, compiled as its README says."""
    program = tmp_path / "layer" / "extensions" / "c-extension"
    program.parent.mkdir(parents=True)
    source = EXAMPLES / "c-extension" / "c-extension.c"
    subprocess.run(["cc", "-O2", "-static", "-o", program, source], check=True)
    return zip_directory(tmp_path / "layer")


@pytest.mark.slow
def test_a_python_function_with_extensions_in_three_languages(node, function, c_extension):
    # Given the function with the extensions in Python, shell and C
    layers = [
        zip_directory(EXAMPLES / "extensions" / name) for name in ("python-extension", "shell-extension")
    ]
    name = function(zip_directory(EXAMPLES / "hello-python"), layers=[*layers, c_extension])

    # When it is invoked and its environment shut down
    answers = [node.invoke(name, {"name": "Ada"}, tail=True) for _ in range(2)]
    assert {answer.payload["greeting"] for answer in answers} == {"Hello, Ada!"}
    extensions = {"python-extension", "shell-extension", "c-extension"}
    (environment,) = node.environments(name)
    assert set(environment["extensions"]) == extensions
    with node.following(name) as lines:
        node.client.update_function_configuration(FunctionName=name, Timeout=9)
        silent, said = {f"[{each}] SHUTDOWN, reason spindown" for each in extensions}, []
        for line in lines:
            said.append(line["message"])
            silent.discard(said[-1])
            if not silent:
                break

    # Then each has told of both invocations, and of the shutdown
    for each in extensions:
        assert all(f"[{each}] INVOKE {answer.request_id}" in said for answer in answers)
    assert not silent


def test_the_function_has_its_own_log_line_and_context(node, function):
    name = function(zip_directory(EXAMPLES / "hello-python"), MemorySize=256, Timeout=20)
    answer = node.invoke(name, {"work_ms": 10}, tail=True)
    assert answer.payload["function"] == name
    assert answer.payload["memory_mb"] == 256
    assert 0 < answer.payload["remaining_ms"] <= 20_000
    line = next(json.loads(line) for line in answer.log.splitlines() if line.startswith("{"))
    assert line["request"] == answer.request_id


@pytest.mark.case("EXT-10")
def test_the_wrapper_brings_an_internal_extension(node, function):
    name = function(
        zip_directory(EXAMPLES / "hello-python"),
        layers=[zip_directory(EXAMPLES / "wrapper")],
        variables={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"},
    )
    answers = [node.invoke(name, {"name": "Bob"}, tail=True) for _ in range(2)]
    assert answers[1].payload["greeting"] == "Hello, Bob!"
    log = node.log_until(name, f"REPORT RequestId: {answers[1].request_id}")
    assert "EXTENSION\tName: wrapper-extension\tState: Ready\tEvents: [INVOKE]" in log
    assert sum("INVOKE" in line and answers[1].request_id in line for line in log) >= 1


def test_the_shell_runtime_with_the_shell_extension(node, function):
    layer = zip_directory(EXAMPLES / "extensions" / "shell-extension")
    code = zip_directory(EXAMPLES / "provided-shell")
    name = function(code, layers=[layer], Runtime="provided.al2023", Handler="what.ever")
    event = {"text": "\u00e4\u6f22", "list": [1, 2.5, None]}
    answer = node.invoke(name, event, tail=True)
    assert answer.payload == {"handler": "what.ever", "event": event}
    assert "shell-extension" in answer.log


@pytest.mark.slow
def test_the_demo():
    done = subprocess.run([sys.executable, EXAMPLES / "demo.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Hello, ") >= 10
    assert "SHUTDOWN" in done.stdout
