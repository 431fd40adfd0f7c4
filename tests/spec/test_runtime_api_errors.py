"""What a runtime reports of its errors: types, causes, and what the invoker gets of them."""

import json

import pytest

from remora.environment.causes import read_cause, split_error
from remora.environment.posting import sanitise_error_type

ID = "lambda-runtime-aws-request-id"
WITH_CAUSE = "application/vnd.aws.lambda.error.cause+json"
CAUSE = {
    "exceptions": [{"message": "m", "type": "T", "stack": [{"path": "p", "line": 1, "label": "l"}]}],
    "working_directory": "/var/task",
    "paths": ["a", "b"],
    "message": "why",
}
CAUSE_BYTES_MAX = 65_536


def reporting(body, headers, seen):
    """A runtime that fails its first invocation, notes what is known of it then, and serves."""

    async def runtime(actor):
        event = await actor.next()
        path = f"/2018-06-01/runtime/invocation/{event.headers[ID]}/error"
        seen.append(await actor.call("POST", path, headers, body))
        await actor.serve()

    return runtime


def reported(stage, run, body=b'{"errorMessage":"m"}', **headers):
    """Report one error; return the runtime's answer, the invoker's, the cause that was kept, and the log."""
    seen, causes = [], []
    sent = {name.replace("_", "-"): value for name, value in headers.items()}

    async def scenario():
        async with stage({"runtime": reporting(body, sent, seen)}) as it:
            task = it.pool.invoke

            async def watched(deployment, request):
                result = await task(deployment, request)
                (member,) = it.pool._members.values()
                causes.append(member.environment._invocation and member.environment._invocation.error_cause)
                return result

            it.pool.invoke = watched
            result = await it.invoke()
            del it.pool.invoke
            assert (await it.invoke(b"2", tail=True)).payload == b"2"
            return result, await it.log()

    result, log = run(scenario())
    return seen[0], result, causes[0], log


@pytest.mark.case("RT-34")
@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (b"my.bad type", "Runtime.Unknown"),
        (b"Function.bad", "Function.Unknown"),
        (b"Function.", "Function.Unknown"),
        (b"Runtime.ImportModuleError", "Runtime.ImportModuleError"),
        (b"Function.MyErr", "Function.MyErr"),
        (b"prefix Runtime.X1 suffix", "Runtime.Unknown"),
        (b"prefix Runtime.Xy suffix", "prefix Runtime.Xy suffix"),
        (b"", "Runtime.Unknown"),
        (None, "Runtime.Unknown"),
    ],
)
def test_error_type_as_logs_show_it(header, shown):
    assert sanitise_error_type(header) == shown


@pytest.mark.case("RT-34")
def test_error_type_in_the_log(stage, run):
    _, _, _, log = reported(stage, run, Lambda_Runtime_Function_Error_Type="Function.bad")
    assert not [line for line in log if "Function.bad" in line]


@pytest.mark.case("RT-35")
def test_error_with_its_cause(stage, run):
    error = {"errorMessage": "m", "errorType": "T", "stackTrace": ["a", "b"]}
    body = json.dumps({**error, "errorCause": CAUSE}).encode()
    answer, result, cause, _ = reported(stage, run, body, Content_Type=WITH_CAUSE)
    assert answer.status == 202
    assert result.payload == json.dumps(error, separators=(",", ":")).encode()
    assert (result.content_type, result.function_error) == ("application/json", "Unhandled")
    assert json.loads(cause) == CAUSE


@pytest.mark.case("RT-35")
@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'{"errorMessage":1}', b"\xff", b"[" * 100_000])
def test_error_with_its_cause_that_is_none(stage, run, body):
    answer, result, cause, _ = reported(stage, run, body, Content_Type=WITH_CAUSE)
    assert answer.status == 202
    assert (result.payload, result.content_type) == (b'"Invalid error body"', "application/octet-stream")
    assert result.function_error == "Unhandled"
    assert cause is None


def test_error_without_a_stack_trace():
    error = split_error(b'{"errorType":"T","errorMessage":"m","stackTrace":[],"errorCause":{}}')
    assert error == (b'{"errorMessage":"m","errorType":"T"}', "application/json", None)


@pytest.mark.case("RT-36")
def test_large_cause_is_cropped(stage, run):
    large = {**CAUSE, "paths": [f"{number:0100}" for number in range(1000)]}
    text = json.dumps(large, separators=(",", ":"))
    assert len(text) > 100_000
    answer, _, cause, _ = reported(stage, run, Lambda_Runtime_Function_XRay_Error_Cause=text)
    assert answer.status == 202
    assert len(cause) <= CAUSE_BYTES_MAX
    kept = json.loads(cause)
    assert kept["paths"] == large["paths"][:600]
    assert kept["message"] == "why"


@pytest.mark.case("RT-36")
@pytest.mark.parametrize(
    "cause",
    [
        {"message": "x" * 100_000, "working_directory": "y" * 100_000},
        {"message": "\x01" * 100_000},
        {"message": "é" * 100_000},
        {"message": "m", "paths": ["x" * 100_000]},
        {"exceptions": [{"message": "x" * 1000}] * 500, "paths": ["y" * 1000] * 500},
        {"exceptions": [{"stack": [{"path": "p" * 100_000}]}], "working_directory": "w"},
    ],
)
def test_however_large_a_cause_is_it_fits(cause):
    kept = read_cause(json.dumps(cause).encode())
    assert len(kept) <= CAUSE_BYTES_MAX
    document = json.loads(kept)
    assert set(document) == set(CAUSE)
    for name in ("message", "working_directory"):
        text = document[name] or ""
        assert text == cause.get(name, "") or (text.endswith("...") and len(text.encode()) <= 30_720)


@pytest.mark.case("RT-37")
@pytest.mark.parametrize(
    "text", ["{}", "no json", "[]", '{"paths":[],"message":""}', '{"paths":1}', "null", '{"other":1}']
)
def test_cause_that_is_none_is_ignored(stage, run, text):
    answer, result, cause, _ = reported(stage, run, Lambda_Runtime_Function_XRay_Error_Cause=text)
    assert answer.status == 202
    assert result.payload == b'{"errorMessage":"m"}'
    assert cause is None


def test_a_runtime_is_remembered_by_what_it_says(stage, run):
    headers = {"User-Agent": "aws-lambda-python/1.2.3 more", "Lambda-Runtime-Features": "a (b) c"}

    async def runtime(actor):
        event = await actor.call("GET", "/2018-06-01/runtime/invocation/next", headers)
        await actor.respond(event.headers[ID], b"1")
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            await it.invoke()
            (member,) = it.pool._members.values()
            assert member.environment.runtime_release == "aws-lambda-python/1.2.3 (a b c)"

    run(scenario())


def test_a_long_release_is_cut(stage, run):
    async def runtime(actor):
        await actor.call("POST", "/2018-06-01/runtime/init/error", {"User-Agent": "x" * 500}, b"{}")
        actor.exit(1)

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            await it.invoke()
            (member,) = it.pool._members.values()
            assert member.environment.runtime_release == "x" * 128

    run(scenario())
