"""Transforms: what AWS::LanguageExtensions and AWS::Serverless-2016-10-31 make of a template."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remora.control.services.neighbour import ServiceError
from remora.iac.templates import transforms
from remora.iac.templates.language import write_out
from remora.iac.templates.parameters import read_parameters
from remora.iac.templates.program import compile_program
from remora.iac.templates.reading import LANGUAGE, SERVERLESS, read_template
from remora.iac.templates.transforms import declared, expand

from .templates import PSEUDO, TYPES, bucket, refused

FUNCTION = {"Runtime": "python3.12", "Handler": "a.b", "CodeUri": "s3://code/f.zip"}


def expanded(document, parameters=None):
    """Apply the transforms of a template, as text if it is text."""
    text = document if isinstance(document, str) else json.dumps(document)
    return asyncio.run(expand(read_template(text), parameters or {}, "eu-west-1"))


def looped(section, **more):
    return expanded({"Transform": LANGUAGE, "Resources": {"A": bucket()}, **section}, **more)


def serverless(resources, **sections):
    return {"Transform": SERVERLESS, "Resources": resources, **sections}


# --- what is declared ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "expected"),
    [({}, ()), ({"Transform": "A"}, ("A",)), ({"Transform": ["A", {"Name": "B"}]}, ("A", "B"))],
)
def test_the_declared_transforms_are_named(section, expected):
    assert declared({"Resources": {"A": bucket()}, **section}) == expected


def test_a_transform_that_there_is_not_is_refused():
    template = {"Transform": "Mine", "Resources": {"A": bucket()}}
    assert refused(expanded, template) == "No transform named Mine found."


def test_loops_come_before_serverless():
    template = {"Transform": [SERVERLESS, LANGUAGE], "Resources": {"A": bucket()}}
    assert "must be listed before" in refused(expanded, template)


# --- AWS::LanguageExtensions -----------------------------------------------------------------------------


def test_a_loop_writes_resources_outputs_and_conditions():
    made = looped(
        {
            "Parameters": {"Names": {"Type": "CommaDelimitedList", "Default": "a, b-1"}},
            "Conditions": {"Fn::ForEach::Wanted": ["N", ["x"], {"Is&{N}": {"Fn::Equals": ["${N}", "x"]}}]},
            "Resources": {
                "Fn::ForEach::Buckets": [
                    "Name",
                    {"Ref": "Names"},
                    {
                        "Bucket&{Name}": bucket(
                            Properties={
                                "Own": {"Ref": "Name"},
                                "Sub": {"Fn::Sub": "${Name}-${AWS::Region}-${!Name}"},
                                "Fn::ForEach::Tags": ["K", ["k", "l"], {"${K}${Name}": "${K}"}],
                            }
                        )
                    },
                ]
            },
            "Outputs": {
                "Fn::ForEach::Arns": [
                    "Name",
                    ["a", "b1"],
                    {"Arn${Name}": {"Value": {"Fn::GetAtt": ["Bucket${Name}", "Arn"]}}},
                ]
            },
        }
    )
    assert "Transform" not in made
    assert made["Conditions"] == {"Isx": {"Fn::Equals": ["x", "x"]}}
    assert made["Outputs"] == {
        "Arna": {"Value": {"Fn::GetAtt": ["Bucketa", "Arn"]}},
        "Arnb1": {"Value": {"Fn::GetAtt": ["Bucketb1", "Arn"]}},
    }
    assert list(made["Resources"]) == ["Bucketa", "Bucketb1"]
    assert made["Resources"]["Bucketb1"]["Properties"] == {
        "Own": "b-1",
        "Sub": {"Fn::Sub": "b-1-${AWS::Region}-${!Name}"},
        "kb-1": "k",
        "lb-1": "l",
    }


def test_functions_may_give_the_names_that_are_referred_to():
    made = looped(
        {
            "Parameters": {"Which": {"Type": "String", "Default": "A"}},
            "Outputs": {
                "Fn::ForEach::All": [
                    "Property",
                    ["Arn", "Name"],
                    {"O${Property}": {"Value": {"Fn::GetAtt": [{"Ref": "Which"}, {"Ref": "Property"}]}}},
                ],
                "Id": {"Value": {"Ref": {"Fn::Sub": "${Which}"}}},
                "Plain": {"Value": {"Fn::GetAtt": ["A", {"Fn::Sub": "${Which}rn"}]}},
            },
        }
    )
    assert {name: output["Value"] for name, output in made["Outputs"].items()} == {
        "OArn": {"Fn::GetAtt": ["A", "Arn"]},
        "OName": {"Fn::GetAtt": ["A", "Name"]},
        "Id": {"Ref": "A"},
        "Plain": {"Fn::GetAtt": ["A", "Arn"]},
    }


def test_what_transforms_make_is_a_template_too():
    # What is kept is read again, so that it has to be what a template may be.
    body = {"R${N}": bucket(Properties={"V": "x" * 950})}
    loop = {"Fn::ForEach::L": ["N", [str(number) for number in range(990)], body]}
    template = {"Transform": LANGUAGE, "Resources": loop, "Metadata": {"M": ["y" * 1000] * 100}}
    assert "may not exceed 1000000 bytes in size after its transforms" in refused(expanded, template)


def test_loops_nest_and_their_collections_come_from_mappings_and_parameters():
    made = looped(
        {
            "Parameters": {"Stage": {"Type": "String"}},
            "Mappings": {"Names": {"prod": {"All": ["x", "y"]}}},
            "Resources": {
                "Fn::ForEach::Outer": [
                    "O",
                    {"Fn::FindInMap": ["Names", {"Ref": "Stage"}, "All"]},
                    {"Fn::ForEach::Inner": ["I", ["${O}1", {"Ref": "Stage"}], {"R${O}${I}": bucket()}]},
                ]
            },
        },
        parameters={"Stage": "prod"},
    )
    assert list(made["Resources"]) == ["Rxx1", "Rxprod", "Ryy1", "Ryprod"]


def test_the_functions_of_the_language_may_depend_on_resources():
    template = {
        "Transform": LANGUAGE,
        "Mappings": {"M": {"a": {"b": "c"}}},
        "Resources": {
            "A": bucket(),
            "B": bucket(
                DeletionPolicy={"Fn::FindInMap": ["M", "x", "y", {"DefaultValue": "Retain"}]},
                Properties={
                    "Length": {"Fn::Length": [1, {"Ref": "A"}]},
                    "Json": {"Fn::ToJsonString": {"é": [1, True]}},
                    "Later": {"Fn::ToJsonString": {"A": {"Ref": "A"}}},
                },
            ),
        },
    }
    made = expanded(template)
    assert read_template(json.dumps(made)) == made, "what was made can be kept as a template"
    plan = compile_program(made, {}, PSEUDO, imports={}.get, ssm={}.get, known_types=TYPES).resources["B"]
    assert plan.deletion_policy == "Retain"
    assert plan.properties == {
        "Length": 2,
        "Json": '{"é":[1,true]}',
        "Later": {"Fn::ToJsonString": {"A": {"Ref": "A"}}},
    }


@pytest.mark.parametrize(
    ("loop", "expected"),
    [
        ("text", "requires three parameters"),
        (["I", ["a"]], "requires three parameters"),
        (["${I}", ["a"], {}], "the identifier must be an alphanumeric string"),
        (["I", "a", {}], "the collection must be a list of strings"),
        (["I", [["a"]], {}], "the collection must be a list of strings"),
        (["I", {"Ref": "A"}, {}], "names and collections may refer to parameters only, not to A"),
        (["I", {"Fn::ImportValue": "a"}, {}], "names and collections may not depend on the export a"),
        (["I", ["a"], []], "the fragment must be an object"),
        (["I", ["a", "b"], {"Same": bucket()}], "Same is defined by more than one turn"),
        (["I", ["a"], {"A": bucket()}], "A is defined twice by Fn::ForEach."),
        (["I", ["a"], {"X${I}": {"Type": 3}}], None),
    ],
)
def test_a_malformed_loop_is_refused(loop, expected):
    template = {"Transform": LANGUAGE, "Resources": {"A": bucket(), "Fn::ForEach::L": loop}}
    if expected is None:
        assert expanded(template)["Resources"]["Xa"] == {"Type": 3}
    else:
        assert expected in refused(expanded, template)


@pytest.mark.slow
def test_loops_do_not_explode():
    body = {"R${A}x${B}x${C}x${D}": bucket()}
    for name in "DCBA":
        body = {f"Fn::ForEach::{name}": [name, [str(n) for n in range(100)], body]}
    template = {"Transform": LANGUAGE, "Resources": body}
    assert "may not exceed 1000000 characters" in refused(expanded, template)
    for name in "EFGH":
        body = {f"Fn::ForEach::{name}": [name, ["1"], body]}
    assert "more than 5 nested loops" in refused(expanded, {"Transform": LANGUAGE, "Resources": body})


# --- AWS::Serverless-2016-10-31 --------------------------------------------------------------------------


@pytest.mark.slow
def test_a_function_becomes_what_lambda_has():
    template = read_template(
        json.dumps(
            serverless(
                {
                    "Layer": {
                        "Type": "AWS::Serverless::LayerVersion",
                        "Properties": {"ContentUri": "s3://c/l"},
                    },
                    "F": {
                        "Type": "AWS::Serverless::Function",
                        "Properties": {
                            **FUNCTION,
                            "AutoPublishAlias": {"Ref": "Stage"},
                            "Layers": [{"Ref": "Layer"}],
                            "Policies": [
                                "AmazonS3ReadOnlyAccess",
                                {"S3ReadPolicy": {"BucketName": {"Ref": "B"}}},
                            ],
                            "FunctionUrlConfig": {"AuthType": "NONE"},
                            "EventInvokeConfig": {"MaximumRetryAttempts": 1},
                        },
                    },
                    "B": bucket(),
                },
                Globals={"Function": {"Timeout": 7}},
                Parameters={"Stage": {"Type": "String", "Default": "test"}},
                Outputs={"Version": {"Value": {"Ref": "F.Version"}}},
            )
        )
    )
    values = {"Stage": "live"}
    made = asyncio.run(expand(template, values, "eu-west-1"))
    assert template["Globals"], "what was given stays as it was"
    kinds = {name: each["Type"] for name, each in made["Resources"].items()}
    version = next(name for name, kind in kinds.items() if kind == "AWS::Lambda::Version")
    layer = next(name for name, kind in kinds.items() if kind == "AWS::Lambda::LayerVersion")
    assert kinds == {
        "B": "AWS::S3::Bucket",
        "F": "AWS::Lambda::Function",
        "FAliaslive": "AWS::Lambda::Alias",
        "FEventInvokeConfig": "AWS::Lambda::EventInvokeConfig",
        "FRole": "AWS::IAM::Role",
        "FURLInvokeAllowPublicAccess": "AWS::Lambda::Permission",
        "FUrl": "AWS::Lambda::Url",
        "FUrlPublicPermissions": "AWS::Lambda::Permission",
        layer: "AWS::Lambda::LayerVersion",
        version: "AWS::Lambda::Version",
    }
    program = compile_program(
        made,
        read_parameters(made, values, {}.get),
        PSEUDO,
        imports={}.get,
        ssm={}.get,
        known_types=set(kinds.values()),
    )
    function, role = program.resources["F"], program.resources["FRole"]
    assert function.properties["Timeout"] == 7
    assert function.properties["Layers"] == [{"Ref": layer}]
    assert function.depends_on == {"FRole", layer}
    assert program.resources[version].deletion_policy == "Retain"
    assert role.properties["ManagedPolicyArns"] == [
        "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
        "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess",
    ]
    assert role.depends_on == {"B"}
    assert program.outputs["Version"].value == {"Ref": version}
    assert program.order.index("FRole") < program.order.index("F") < program.order.index("FAliaslive")
    # And once more: what has not changed has to look the same, or every deployment would change something.
    assert asyncio.run(expand(template, values, "eu-west-1")) == made


@pytest.mark.slow
def test_mistakes_are_told_in_sams_words():
    resources = {
        "F": {
            "Type": "AWS::Serverless::Function",
            "Properties": {"Runtime": "python3.12", "CodeUri": "s3://c/k"},
        },
        "G": {"Type": "AWS::Serverless::Function", "Properties": {"CodeUri": 3}},
    }
    told = refused(expanded, serverless(resources))
    start = f"Transform {SERVERLESS} failed with: Invalid Serverless Application Specification document. "
    assert told.startswith(start + "Number of errors found: 2. Resource with id [F] is invalid. ")
    assert "Resource with id [G] is invalid. " in told


@pytest.mark.slow
def test_nulls_are_what_the_translator_makes_of_them():
    function = {
        "Type": "AWS::Serverless::Function",
        "Properties": {**FUNCTION, "Events": None, "Layers": None},
    }
    assert "Events" not in expanded(serverless({"F": function}))["Resources"]["F"]["Properties"]
    told = refused(expanded, serverless({"F": function, "B": bucket(Properties={"Tags": None})}))
    assert told == "[/Resources/B/Properties/Tags] 'null' values are not allowed in templates"


def test_nested_applications_are_refused_before_anybody_is_asked():
    resources = {"A": {"Type": "AWS::Serverless::Application", "Properties": {"Location": "s3://a/b"}}}
    assert refused(expanded, serverless(resources)).endswith("[AWS::Serverless::Application]")


@pytest.mark.slow
@pytest.mark.parametrize(
    "resources",
    [
        {"F": {"Type": "AWS::Serverless::Function", "Properties": {**FUNCTION, "Layers": 3, "Events": [1]}}},
        {"F": {"Type": "AWS::Serverless::Function", "Properties": {**FUNCTION, "Policies": {"A": {"B": 1}}}}},
        {"F": 3},
    ],
)
def test_whatever_the_translator_thinks_of_it_is_a_validation_error(resources):
    assert "Transform AWS::Serverless-2016-10-31 failed" in refused(expanded, serverless(resources))


# --- its process -----------------------------------------------------------------------------------------


class Started:
    """Notes the processes that a transform starts."""

    def __init__(self, monkeypatch, words=None):
        self.all = []
        start = asyncio.create_subprocess_exec

        async def note(*given, **options):
            process = await start(*(words or given), **options)
            self.all.append(process.pid)
            self.environment = options["env"]
            self.begun.set()
            return process

        monkeypatch.setattr(asyncio, "create_subprocess_exec", note)

    def is_alive(self):
        return [pid for pid in self.all if Path(f"/proc/{pid}").exists()]


TEMPLATE = serverless({"A": bucket()})


def test_the_process_is_killed_when_nobody_waits_any_more(monkeypatch):
    started = Started(monkeypatch, ["sleep", "1000"])

    async def cancel():
        started.begun = asyncio.Event()
        task = asyncio.get_running_loop().create_task(expand(TEMPLATE, {}, "eu-west-1"))
        await started.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return started.is_alive()

    assert asyncio.run(cancel()) == []


def test_the_process_is_killed_when_its_time_is_over(monkeypatch):
    started = Started(monkeypatch, ["sleep", "1000"])
    monkeypatch.setattr(transforms.limits, "TEMPLATE_TRANSFORM_S", 0.01)

    async def wait():
        started.begun = asyncio.Event()
        return await expand(TEMPLATE, {}, "eu-west-1")

    assert "failed with: It took longer than 0.01 seconds." in refused(asyncio.run, wait())
    assert started.is_alive() == []


@pytest.mark.parametrize(
    "words",
    [["true"], ["echo", "{}"], ["echo", "[]"], ["echo", '{"template": 3}'], ["sh", "-c", "kill -9 $$"]],
)
def test_a_process_that_fails_is_a_validation_error(monkeypatch, words):
    started = Started(monkeypatch, words)

    async def run():
        started.begun = asyncio.Event()
        return await expand(TEMPLATE, {}, "eu-west-1")

    told = refused(asyncio.run, run())
    assert told == "Transform AWS::Serverless-2016-10-31 failed without an error message."


CONFINED = "import sys; from remora.iac.templates.confinement import confine; confine({}, 300_000_000); {}"


@pytest.mark.slow
def test_a_confined_process_ends_in_time_and_takes_little_memory():
    word = CONFINED.format(60, "bytes(400_000_000)")
    assert (
        b"MemoryError"
        in subprocess.run([sys.executable, "-c", word], capture_output=True, check=False).stderr
    )
    word = CONFINED.format(1, "sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", word], stdin=subprocess.PIPE) as process:
        assert process.wait() == -signal.SIGALRM


@pytest.mark.slow
def test_a_confined_process_ends_with_who_started_it():
    # Given a process that has started a confined one, which waits for ever and holds the same pipe.
    word = CONFINED.format(60, "import signal; print(1, flush=True); signal.pause()")
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {word!r}])"
    with subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"1\n"
        # When that is killed, then the pipe ends: nobody holds it any more.
        process.kill()
        assert process.stdout.read() == b""


@pytest.mark.slow
def test_the_process_sees_nothing_of_its_nodes(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    started = Started(monkeypatch)

    async def run():
        started.begun = asyncio.Event()
        return await expand(TEMPLATE, {}, "eu-west-1")

    assert asyncio.run(run())["Resources"] == {"A": bucket()}
    assert not {name for name in started.environment if "SECRET" in name or "ENDPOINT" in name}
    assert started.is_alive() == []


# --- hostile loops ---------------------------------------------------------------------------------------

_KEYS = st.sampled_from(
    [
        *("Fn::ForEach::A", "Fn::ForEach::", "Fn::ForEach::A-b", "A", "${I}", "&{I}", "Ref", "Fn::Sub"),
        *("Fn::FindInMap", "Fn::Split", "Fn::If", "Fn::GetAtt", "Type", "Condition"),
    ]
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["I", "${I}", "&{I}x", "P", "a", "", "AWS::Region"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_KEYS, inner, max_size=3)
        | st.tuples(st.just("I"), inner, inner).map(list)
    ),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["Conditions", "Resources", "Outputs", "Mappings", "Parameters"]), _KEYS, _VALUES)
def test_whatever_a_loop_is_made_of_is_a_validation_error_at_most(section, key, value):
    document = {
        "Parameters": {"P": {"Type": "CommaDelimitedList", "Default": "a,b"}},
        "Mappings": {"a": {"a": {"a": "b"}}},
        "Resources": {"A": bucket()},
    }
    document[section] = {**document.get(section, {}), key: value}
    try:
        made = write_out(document, {}, "eu-west-1")
    except ServiceError as error:
        code = error.code
    else:
        code = "ValidationError"
        assert not [name for name in made["Resources"] if name.startswith("Fn::ForEach::")]
    assert code == "ValidationError"
