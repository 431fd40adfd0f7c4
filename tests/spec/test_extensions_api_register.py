"""
"Using the Lambda Extensions API to create extensions": registration.

Scripts play the processes; what they were answered is looked at when all is over.
"""

import asyncio
import json
import re

import pytest

from remora.lifecycle.machine import Budgets
from remora.testing.scripted import Actor

EXT = "extension:ext.sh"
UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
NOT_ALLOWED = "State transition is not allowed"


@pytest.fixture
def said(stage, run):
    """Let an external extension say things before it does its work; return the answers."""

    def play(*says, **members):
        answers = []

        async def extension(actor):
            answers.extend([await say(actor) for say in says])
            await actor.follow()

        async def scenario():
            async with stage({"runtime": Actor.serve, EXT: extension}, **members) as it:
                assert (await it.invoke(b"1")).payload == b"1"

        run(scenario())
        return answers

    return play


@pytest.fixture
def said_within(stage, run):
    """Let the internal extension `in` say things before the runtime's first next; return the answers."""

    def play(*says):
        answers = []

        async def runtime(actor):
            inside = actor.inside("in")
            answers.extend([await say(inside) for say in says])
            await asyncio.gather(actor.serve(), inside.follow())

        async def scenario():
            async with stage({"runtime": runtime}) as it:
                assert (await it.invoke(b"1")).payload == b"1"

        run(scenario())
        return answers

    return play


def registers(*events, **members):
    return lambda actor: actor.register(*events, **members)


def refused(answer, error_type, message):
    assert answer.status == 403
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {"errorMessage": message, "errorType": error_type}
    return True


@pytest.mark.case("EXT-1")
def test_a_registration_tells_the_function_and_gives_an_identifier(said):
    (answer,) = said(registers("INVOKE", "SHUTDOWN"))
    assert answer.status == 200
    assert re.fullmatch(UUID4, answer.headers["lambda-extension-identifier"])
    assert answer.json == {"functionName": "f", "functionVersion": "$LATEST", "handler": "h.handler"}


@pytest.mark.case("EXT-2")
def test_the_account_is_told_to_those_who_ask(said):
    (answer,) = said(registers("SHUTDOWN", features="foo, accountId"))
    assert answer.json["accountId"] == "000000000000"


@pytest.mark.case("EXT-2")
def test_an_unknown_account_is_left_out(said):
    arn = "arn:aws:lambda:us-east-1::function:f"
    (answer,) = said(registers("SHUTDOWN", features="accountId"), arn=arn)
    assert "accountId" not in answer.json


@pytest.mark.case("EXT-3")
def test_features_are_case_sensitive(said):
    (answer,) = said(registers("SHUTDOWN", features="accountid"))
    assert answer.status == 200
    assert "accountId" not in answer.json


@pytest.mark.case("EXT-4")
@pytest.mark.parametrize("headers", [{}, {"Lambda-Extension-Name": ""}])
def test_a_registration_needs_a_name(said, headers):
    answer, _ = said(
        lambda actor: actor.call("POST", "/2020-01-01/extension/register", headers, b"{}"),
        registers("SHUTDOWN"),
    )
    assert refused(answer, "Extension.InvalidExtensionName", "Empty extension name")


@pytest.mark.case("EXT-5")
def test_an_empty_body_is_no_registration(said):
    empty, braces = said(registers(body=b""), registers(body=b"{}"))
    assert refused(empty, "InvalidRequestFormat", "unexpected end of JSON input")
    assert braces.status == 200


@pytest.mark.case("EXT-5")
@pytest.mark.parametrize("body", [b'{"events":null}', b'{"events":[]}', b'{"more":1}'])
def test_events_may_be_missing_null_or_empty(said, body):
    (answer,) = said(registers(body=body))
    assert answer.status == 200


@pytest.mark.case("EXT-5")
@pytest.mark.parametrize(
    "body", [b"[]", b'"INVOKE"', b'{"events":"INVOKE"}', b'{"events":[1]}', b"{", b"\xff"]
)
def test_a_body_of_another_shape_is_refused_and_changes_nothing(said, body):
    answer, again = said(registers(body=body), registers("SHUTDOWN"))
    assert answer.status == 403
    assert answer.json["errorType"] == "InvalidRequestFormat"
    assert again.status == 200


@pytest.mark.case("EXT-6")
def test_configuration_keys_are_refused_unless_there_are_none(said):
    keys = b'{"events":["INVOKE"],"configurationKeys":["k"]}'
    answer, again = said(registers(body=keys), registers(body=keys.replace(b'"k"', b"")))
    text = "configurationKeys are deprecated; use environment variables instead"
    assert refused(answer, "InvalidRequestFormat", text)
    assert again.status == 200


@pytest.mark.case("EXT-7")
def test_an_unknown_event_is_refused_and_the_extension_may_try_again(said):
    answer, again = said(registers("INVOKE", "foo"), registers("INVOKE", "SHUTDOWN"))
    assert refused(answer, "Extension.InvalidEventType", "foo: ErrorInvalidEventType")
    assert again.status == 200


@pytest.mark.case("EXT-8")
def test_events_are_case_sensitive(said):
    answer, _ = said(registers("invoke"), registers("SHUTDOWN"))
    assert refused(answer, "Extension.InvalidEventType", "invoke: ErrorInvalidEventType")


@pytest.mark.case("EXT-9")
def test_an_external_extension_registers_once(said):
    _, again = said(registers("SHUTDOWN"), registers("SHUTDOWN"))
    failed = "State transition from Registered to Registered failed for extension ext.sh."
    assert refused(again, "Extension.InvalidExtensionState", f"{failed} Error: {NOT_ALLOWED}")


@pytest.mark.case("EXT-10")
def test_an_internal_extension_registers_before_the_first_next(stage, run):
    heard = []

    async def runtime(actor):
        inside = actor.inside("in")
        heard.append(await inside.register("INVOKE"))

        async def listen():
            while True:
                heard.append(await inside.next_event())

        await asyncio.gather(actor.serve(), listen())

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            answer = await it.invoke()
            await it.logged("REPORT RequestId")
            assert heard[0].status == 200
            assert heard[1].json["requestId"] == answer.request_id
            assert "EXTENSION\tName: in\tState: Ready\tEvents: [INVOKE]" in await it.log()

    run(scenario())


@pytest.mark.case("EXT-11")
def test_an_internal_extension_cannot_ask_for_shutdown(said_within):
    answer, again = said_within(registers("SHUTDOWN"), registers("INVOKE"))
    text = "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension"
    assert refused(answer, "Extension.InvalidEventType", text)
    assert again.status == 200


@pytest.mark.case("EXT-12")
def test_an_internal_extension_registers_once(said_within):
    _, again = said_within(registers("INVOKE"), registers("INVOKE"))
    text = "Extension with this name already registered"
    assert refused(again, "Extension.InvalidExtensionState", text)


@pytest.mark.case("EXT-13")
def test_registration_closes_with_the_first_next_of_the_runtime(stage, run):
    answers = []

    async def runtime(actor):
        event = await actor.next()
        answers.append(await actor.register("INVOKE", name="late"))
        await actor.respond(event.headers["lambda-runtime-aws-request-id"], event.body)
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            await it.invoke()

    run(scenario())
    text = "Extension registration closed already"
    assert refused(answers[0], "Extension.RegistrationClosed", text)


@pytest.mark.case("EXT-14")
def test_ten_extensions_and_no_more(stage, run):
    answers = []
    done = []

    async def external(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        while (await actor.next_event()).json["eventType"] == "INVOKE":
            done.append(actor.name)

    async def runtime(actor):
        inside = [actor.inside(f"in-{number}") for number in range(4)]
        answers.extend([await each.register("INVOKE") for each in inside])
        answers.append(await actor.register("INVOKE", name="one-more"))
        answers.append(await actor.register("INVOKE", name="in-0"))

        async def follow(each):
            while True:
                await each.next_event()
                done.append(each.name)

        await asyncio.gather(actor.serve(), *map(follow, inside))

    async def scenario():
        externals = {f"extension:ex-{number}": external for number in range(6)}
        async with stage({"runtime": runtime, **externals}) as it:
            # Given ten extensions, external and internal mixed, when there is an invocation
            assert (await it.invoke(b"1")).payload == b"1"
            await it.logged("REPORT RequestId")
            lines = [line for line in await it.log() if line.startswith("EXTENSION")]
            assert len(lines) == 10
            assert all("State: Ready" in line for line in lines)

    run(scenario())
    # then each of them has heard of it, and the eleventh was not let in
    assert sorted(done[:10]) == sorted([f"ex-{n}" for n in range(6)] + [f"in-{n}" for n in range(4)])
    *accepted, eleventh, same = answers
    assert [answer.status for answer in accepted] == [200] * 4
    text = "Extension limit (10) reached"
    assert refused(eleventh, "Extension.TooManyExtensions", text)
    assert refused(same, "Extension.TooManyExtensions", text)


@pytest.mark.case("EXT-15")
def test_a_misspelled_name_never_leaves_init(stage, run):
    answers = []

    async def extension(actor):
        answers.append(await actor.register("INVOKE", name="ext"))
        await actor.next_event()

    async def scenario():
        budgets = Budgets(init_us=50_000)
        async with stage(
            {"runtime": Actor.serve, EXT: extension}, timeout_s=0.1, settings={"budgets": budgets}
        ) as it:
            answer = await it.invoke()
            assert json.loads(answer.payload)["errorType"] == "Sandbox.Timedout"
            assert it.driver.sandboxes[0].started == [EXT, EXT]
            log = await it.log()
            assert "EXTENSION\tName: ext.sh\tState: Started\tEvents: []" in log

    run(scenario())
    assert answers[0].status == 200
