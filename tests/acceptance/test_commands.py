"""The command line as people use it: processes of its own, with exit codes, against a real node."""

import json
import os
import subprocess

import pytest

from .nodes import PATIENCE_S, REMORA
from .packages import EXAMPLES, PROBE, RUNTIME, SHELL, actors


@pytest.fixture
def remora(node, tmp_path):
    """Run a command; returns the finished process."""

    def run(*arguments, text="", environment=()):
        environment = {**os.environ, "REMORA_ENDPOINT": node.endpoint, **dict(environment)}
        return subprocess.run(
            [REMORA, *map(str, arguments)],
            input=text,
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    return run


@pytest.fixture
def layer(tmp_path):
    """A layer with the extension `watcher`, as a directory and as a zip."""
    directory = tmp_path / "layer"
    (directory / "extensions").mkdir(parents=True)
    program = directory / "extensions" / "watcher"
    program.write_bytes((PROBE.parent.parent / "extensions" / "actor.py").read_bytes())
    program.chmod(0o755)
    (tmp_path / "layer.zip").write_bytes(actors("zipped"))
    return directory


def test_logs_prints_what_was_written(node, function, remora):
    name = function(does={"watcher": {}})
    first = node.invoke(name, {"print": "the first"}, tail=True)
    second = node.invoke(name, {"print": "the second"}, tail=True)
    everything = remora("logs", name).stdout.splitlines()
    assert [line for line in everything if line.startswith("the ")] == ["the first", "the second"]
    one = remora("logs", name, "--request-id", second.request_id).stdout
    assert "the second" in one
    assert first.request_id not in one
    parsed = [json.loads(line) for line in remora("logs", name, "--json").stdout.splitlines()]
    assert [line["message"] for line in parsed] == everything
    nothing = remora("logs", "never-made")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "no log lines" in nothing.stderr


def test_logs_follows_while_lines_come(node, function):
    name = function()
    command = [REMORA, "logs", name, "--follow", "--endpoint", node.endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        try:
            for number in range(3):
                node.invoke(name, {"print": f"line {number}"})
                assert any(line == f"line {number}\n" for line in follower.stdout)
        finally:
            follower.terminate()
    assert follower.returncode != 1


def test_ps_and_timeline_show_an_environment(node, function, remora):
    name = function(does={"watcher": {}})
    answer = node.invoke(name, tail=True)
    node.settle(name)
    listed = next(line for line in remora("ps").stdout.splitlines() if name in line)
    assert answer.payload["environment"][:8] in listed
    assert "idle" in listed
    assert "watcher" in listed
    document = json.loads(remora("ps", "--json").stdout)
    (own,) = [each for each in document["environments"] if each["function"] == name]
    assert own["id"] == answer.payload["environment"]
    assert own["invocations"] == 1
    assert own["memory_peak_bytes"] > 1 << 20
    drawn = remora("timeline", name).stdout
    assert "watcher" in drawn
    assert "runtime" in drawn
    assert json.loads(remora("timeline", own["id"], "--json").stdout)["function"] == name


def test_commands_without_a_node_say_what_to_do(remora):
    done = remora("ps", "--endpoint", "http://127.0.0.1:9")
    assert done.returncode == 3
    assert "hint: " in done.stderr
    assert remora("no-such-command").returncode == 2
    assert remora("version").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["isolated", "process"])
def test_run_with_layers_of_both_kinds(remora, layer, driver):
    # When a function is run three times with a layer from a directory and one from a zip
    done = remora(
        *("run", PROBE, "--layer", layer, "--layer", f"{layer}.zip", "--event", "-", "--repeat", 3),
        *("--env", "MINE=a=b", "--timeout", 30),
        text='{"echo": "hello", "environ": 1}',
        environment={} if driver == "isolated" else {"REMORA_DRIVER": driver},
    )

    # Then there are three responses on standard output
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["calls"] for each in told] == [1, 2, 3]
    assert {each["echo"] for each in told} == {"hello"}
    assert told[0]["environ"]["MINE"] == "a=b"
    # And the log and the waterfall on standard error
    for name in ("watcher", "zipped"):
        assert done.stderr.count(f'{name}: {{"eventType": "INVOKE"') == 3
        assert f'{name}: {{"eventType": "SHUTDOWN"' in done.stderr
    assert done.stderr.count("REPORT RequestId: ") == 3
    assert "shutdown" in done.stderr


def test_run_as_json_is_one_document(remora, layer, tmp_path):
    (tmp_path / "event.json").write_text('{"echo": [1]}')
    done = remora("run", PROBE, "--layer", layer, "-e", "event.json", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    (result,) = document["results"]
    assert result["payload"]["echo"] == [1]
    assert result["function_error"] is None
    assert any(line.startswith("REPORT ") for line in document["log"])
    kinds = [event["kind"] for event in document["timeline"]["events"]]
    assert kinds[0] == "sandbox.created"
    assert kinds[-1] == "shutdown.ended"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("run", PROBE, "-e", "-"), 2, "no JSON"),
        (("run", "nowhere"), 2, "nowhere"),
        (("run", PROBE, "--runtime", "cobol"), 3, "cobol"),
        (("run", PROBE, "--env", "1=2"), 2, "KEY=VALUE"),
        (("run", PROBE, "--layer", PROBE / "app.py"), 3, "no layer"),
        (("run", PROBE, "--timeout", "0"), 2, "--timeout"),
        (("run", EXAMPLES), 2, "--handler"),
    ],
)
def test_run_says_what_is_wrong(remora, arguments, code, text):
    done = remora(*arguments, text="{nonsense")
    assert done.returncode == code
    assert done.stdout == ""
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"raise": "oh"}, "ValueError"),
        ({"exit": 3}, "Runtime.ExitError"),
        ({"sleep_s": 60}, "Sandbox.Timedout"),
    ],
)
def test_run_fails_when_the_function_does(remora, event, error):
    done = remora("run", PROBE, "-e", "-", "--timeout", "1", text=json.dumps(event))
    assert done.returncode == 1
    assert json.loads(done.stdout)["errorType"] == error


def test_run_takes_a_program_of_ones_own(remora):
    done = remora("run", SHELL, "-e", "-", text='{"any":"thing"}')
    assert (done.returncode, done.stdout) == (0, '{"any":"thing"}\n')


@pytest.mark.slow
def test_run_ends_in_an_orderly_way_when_it_is_terminated(layer):
    command = [REMORA, "run", PROBE, "--layer", layer, "-e", "-", "--timeout", "60", "--runtime", RUNTIME]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            running.stdin.write('{"sleep_s": 50}')
            running.stdin.close()
            assert any("INVOKE" in line for line in running.stderr if line.startswith("watcher: {"))
            running.terminate()
            running.wait(PATIENCE_S)
            rest = running.stderr.read()
        finally:
            running.kill()
    assert running.returncode == 143
    assert "SHUTDOWN" in rest
