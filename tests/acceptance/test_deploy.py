"""Functions and layers as boto3 and the aws command deploy and change them."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from remora.runtimes import interpreters

from .nodes import PATIENCE_S, ROLE, unique
from .packages import PROBE, RUNTIME, SHELL, actors, compiled, extension, zip_directory, zip_of

EXTENSIONS = Path(__file__).parent / "extensions"


@pytest.fixture
def aws(node, tmp_path):
    """Run the aws command against the node; returns what it printed, parsed."""

    def run(*arguments: str):
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": node.endpoint,
            "AWS_CONFIG_FILE": str(tmp_path / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
            "AWS_PAGER": "",
        }
        command = [Path(sys.executable).with_name("aws"), "lambda", *arguments, "--output", "json"]
        done = subprocess.run(
            command,
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    return run


@pytest.mark.slow
@pytest.mark.case("CP-67")
def test_the_aws_command_deploys_updates_and_invokes(node, aws, tmp_path):
    # Given zips on disk
    name = unique("by-cli")
    (tmp_path / "code.zip").write_bytes(zip_directory(PROBE))
    (tmp_path / "layer.zip").write_bytes(actors("watcher"))
    (tmp_path / "event.json").write_text('{"print": "hello from the function", "echo": [1, null]}')

    # When they are deployed as in AWS's tutorials
    layer = aws("publish-layer-version", "--layer-name", name, "--zip-file", "fileb://layer.zip")
    assert layer["Version"] == 1
    function = aws(
        *("create-function", "--function-name", name, "--runtime", RUNTIME, "--handler", "app.handler"),
        *("--role", ROLE, "--zip-file", "fileb://code.zip", "--timeout", "30"),
    )
    assert function["FunctionArn"] == f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    aws("wait", "function-active-v2", "--function-name", name)
    aws("update-function-configuration", "--function-name", name, "--layers", layer["LayerVersionArn"])
    aws("wait", "function-updated-v2", "--function-name", name)
    answer = aws(
        *("invoke", "--function-name", name, "--payload", "fileb://event.json", "--log-type", "Tail"),
        "out.json",
    )

    # Then all of it is there
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    assert json.loads((tmp_path / "out.json").read_text())["echo"] == [1, None]
    tail = base64.b64decode(answer["LogResult"]).decode()
    assert "hello from the function\n" in tail
    assert 'watcher: {"eventType": "INVOKE"' in tail
    shown = aws("get-function-configuration", "--function-name", name)["Layers"]
    size_bytes = (tmp_path / "layer.zip").stat().st_size
    assert shown == [{"Arn": layer["LayerVersionArn"], "CodeSize": size_bytes}]
    listed = aws("list-functions")["Functions"]
    assert name in [each["FunctionName"] for each in listed]
    aws("delete-function", "--function-name", name)
    with pytest.raises(ClientError) as missing:
        node.client.get_function(FunctionName=name)
    assert missing.value.response["Error"]["Code"] == "ResourceNotFoundException"


@pytest.mark.case("CP-66")
def test_later_layers_overwrite_earlier_ones_and_the_package_wins(node, function):
    source = "import which, sys\ndef handler(e, c):\n    return [which.NAME, open('/opt/data').read()]\n"
    layers = [zip_of({"python/which.py": f"NAME = {n!r}", "data": n}) for n in ("first", "second")]
    name = function(zip_of({"app.py": source}), layers=layers)
    assert node.invoke(name).payload == ["second", "second"]
    turned = function(zip_of({"app.py": source}), layers=layers[::-1])
    assert node.invoke(turned).payload == ["first", "first"]


@pytest.mark.case("RT-50")
def test_a_module_of_the_package_is_found_before_that_of_a_layer(node, function):
    source = "import which\ndef handler(e, c):\n    return which.NAME\n"
    layer = zip_of({"python/which.py": "NAME = 'layer'"})
    name = function(zip_of({"app.py": source, "which.py": "NAME = 'package'"}), layers=[layer])
    assert node.invoke(name).payload == "package"


def test_five_layers_and_no_more(node, function):
    layers = [node.publish(zip_of({f"file{number}": ""})) for number in range(6)]
    name = function()
    node.client.update_function_configuration(FunctionName=name, Layers=layers[:5])
    node.wait("function_updated_v2", name)
    assert node.invoke(name, {"list": "/opt"}).payload["list"] == [f"file{number}" for number in range(5)]
    with pytest.raises(ClientError) as refused:
        node.client.update_function_configuration(FunctionName=name, Layers=layers)
    assert refused.value.response["Error"]["Code"] == "InvalidParameterValueException"
    assert node.invoke(name, {"list": "/opt"}).error is None


def test_a_layer_is_still_there_for_its_function_after_its_deletion(node, function):
    arn = node.publish(zip_of({"kept": ""}))
    name = function()
    node.client.update_function_configuration(FunctionName=name, Layers=[arn])
    node.wait("function_updated_v2", name)
    parts = arn.split(":")
    node.client.delete_layer_version(LayerName=parts[6], VersionNumber=int(parts[7]))
    assert node.invoke(name, {"list": "/opt"}).payload["list"] == ["kept"]


def test_the_code_can_be_downloaded_as_it_was(node, function):
    content = zip_directory(PROBE)
    got = node.client.get_function(FunctionName=function(content))
    assert got["Configuration"]["CodeSha256"] == base64.b64encode(hashlib.sha256(content).digest()).decode()
    with urllib.request.urlopen(got["Code"]["Location"], timeout=PATIENCE_S) as response:
        assert response.read() == content


@pytest.mark.slow
def test_updates_while_it_is_invoked_fail_nothing(node, function):
    # Given a function that is invoked all the time
    source = (PROBE / "app.py").read_text()
    name = function(zip_of({"app.py": source}), variables={"GIVEN": "0"})
    is_over = threading.Event()
    answers = []

    def invoke_on():
        while not is_over.is_set():
            answers.append(node.invoke(name, {"environ": 1}))

    with ThreadPoolExecutor(3) as threads:
        invokers = [threads.submit(invoke_on) for _ in range(3)]
        try:
            # When code and configuration change again and again
            for version in range(2, 6):
                code = zip_of({"app.py": source.replace("VERSION = 1", f"VERSION = {version}")})
                node.client.update_function_code(FunctionName=name, ZipFile=code)
                node.wait("function_updated_v2", name)
                assert node.invoke(name).payload["version"] == version
                given = {"Variables": {"GIVEN": str(version)}}
                node.client.update_function_configuration(FunctionName=name, Environment=given)
                node.wait("function_updated_v2", name)
                assert node.invoke(name, {"environ": 1}).payload["environ"]["GIVEN"] == str(version)
        finally:
            is_over.set()
        for invoker in invokers:
            invoker.result()

    # Then every invocation was answered by one of the versions
    assert {answer.error for answer in answers} == {None}
    assert {answer.payload["version"] for answer in answers} <= {1, 2, 3, 4, 5}
    assert len(answers) > 3


@pytest.mark.slow
@pytest.mark.parametrize("language", ["python", "bash", "c", *(["go"] if shutil.which("go") else [])])
def test_extensions_in_any_language(node, function, tmp_path, language):
    # Given an extension, a program of its own
    program = {
        "python": lambda: EXTENSIONS / "actor.py",
        "bash": lambda: EXTENSIONS / "speaker.sh",
        "c": lambda: compiled(EXTENSIONS / "speaker.c", tmp_path / "speaker"),
        "go": lambda: compiled(EXTENSIONS / "speaker.go", tmp_path / "speaker"),
    }[language]()
    name = function(layers=[extension("speaker", program)])

    # When there are two invocations and a shutdown
    ids = [node.invoke(name, tail=True).request_id for _ in range(2)]
    with node.following(name) as lines:
        node.client.update_function_configuration(FunctionName=name, Timeout=9)
        said = []
        for line in lines:
            said.append(line["message"])
            if said[-1].startswith("speaker: {") and "SHUTDOWN" in said[-1]:
                break

    # Then it heard of all of them
    events = [json.loads(line.removeprefix("speaker: ")) for line in said if line.startswith("speaker: {")]
    assert [event["eventType"] for event in events] == ["INVOKE", "INVOKE", "SHUTDOWN"]
    assert [event["requestId"] for event in events[:2]] == ids
    assert events[2]["shutdownReason"] == "spindown"


def test_all_languages_together_with_a_runtime_of_ones_own(node, function, tmp_path):
    layers = [
        extension("c", compiled(EXTENSIONS / "speaker.c", tmp_path / "c")),
        extension("sh", EXTENSIONS / "speaker.sh"),
    ]
    name = function(zip_directory(SHELL), layers=layers, Runtime="provided.al2023", Handler="any")
    answer = node.invoke(name, b'["event"]', tail=True)
    assert answer.payload == ["event"]
    assert all(f'{each}: {{"eventType":"INVOKE"' in answer.log for each in ("c", "sh"))


@pytest.mark.slow
def test_every_python_of_this_machine(node, function):
    candidates = interpreters.candidates(interpreters.usual_directories())
    found = [name for name, paths in candidates.items() if interpreters.choose(name, paths)]
    assert RUNTIME in found
    source = "import sys\ndef handler(event, context):\n    return list(sys.version_info[:2])\n"

    def ask(runtime):
        return node.invoke(function(zip_of({"app.py": source}), Runtime=runtime)).payload

    with ThreadPoolExecutor(len(found)) as threads:
        told = dict(zip(found, threads.map(ask, found), strict=True))
    assert told == {runtime: [3, interpreters.minor_of(runtime)] for runtime in found}
