"""
"Accessing real-time telemetry data for extensions using the Telemetry API": who may subscribe, and to what.

An extension that is a script asks for this and that while the environment initialises.
"""

import asyncio
import uuid

import pytest

from remora.testing.subscriber import LOGS, TELEMETRY, listening, subscribe, wish

EXT = "extension:ext.sh"
HTTP = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:4243/"}


def accepted(answer):
    assert (answer.status, answer.body) == (200, b'"OK"')
    assert answer.headers["content-type"] == "application/json"
    return True


def refused(answer, error_type, message, status=400):
    """A refusal by the service: its type comes first, and there is no newline."""
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.body.startswith(b'{"errorType":"' + error_type.encode())
    assert not answer.body.endswith(b"\n")
    assert answer.json["errorMessage"].partition(" at line ")[0] == message
    return True


def turned_away(answer, error_type, message):
    """A refusal by the router: a newline ends it."""
    assert answer.status == 403
    assert answer.headers["content-type"] == "application/json"
    assert answer.body.endswith(b"\n")
    assert answer.json == {"errorMessage": message, "errorType": error_type}
    return True


@pytest.fixture
def asked(stage, run):
    """Let an extension do `scene(actor)` while the environment initialises; returns what that returns."""

    def ask(scene, **members):
        done, results = asyncio.Event(), []

        async def extension(actor):
            await actor.register("INVOKE", "SHUTDOWN")
            results.append(await scene(actor))
            done.set()
            await actor.follow()

        async def runtime(actor):
            await done.wait()
            await actor.serve()

        async def scenario():
            async with stage({"runtime": runtime, EXT: extension}, **members) as it:
                await it.invoke()
                return results[0], await it.log()

        return run(scenario())

    return ask


@pytest.fixture
def judged(asked):
    """Return the answers to bodies, one after the other."""

    def judge(*bodies, path=TELEMETRY):
        async def scene(actor):
            return [await subscribe(actor, body, path=path) for body in bodies]

        answers, _ = asked(scene)
        return answers

    return judge


@pytest.mark.case("TEL-1")
@pytest.mark.parametrize("version", ["2022-07-01", "2022-12-13", "2025-01-29"])
def test_a_subscription_is_accepted(judged, version):
    (answer,) = judged(wish(HTTP, schemaVersion=version))
    assert accepted(answer)


def test_a_slash_at_the_end_changes_nothing(judged):
    (answer,) = judged(wish(HTTP), path=TELEMETRY + "/")
    assert accepted(answer)


@pytest.mark.case("TEL-2", "TEL-3", "TEL-4", "LOG-5")
@pytest.mark.parametrize("path", [TELEMETRY, LOGS])
def test_only_a_registered_extension_may_subscribe(asked, path):
    stranger = str(uuid.uuid4())

    async def scene(actor):
        body = wish(HTTP, schemaVersion=None if path == LOGS else "2022-07-01")
        answers = [
            await subscribe(actor, body, path=path, identifier=identifier)
            for identifier in (None, "not-an-id", stranger)
        ]
        empty = await actor.call("PUT", path, {"Lambda-Extension-Identifier": ""}, b"{}")
        return [*answers, empty, await subscribe(actor, body, path=path)]

    (missing, invalid, unknown, empty, last), log = asked(scene)
    text = "Missing Lambda-Extension-Identifier header"
    assert turned_away(missing, "Extension.MissingExtensionIdentifier", text)
    assert turned_away(empty, "Extension.MissingExtensionIdentifier", text)
    assert turned_away(invalid, "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
    assert turned_away(unknown, "Extension.UnknownExtensionIdentifier", f"Unknown extension {stranger}")
    assert accepted(last), "what was refused left no trace"
    assert len([line for line in log if "Subscribed" in line]) == 1


@pytest.mark.case("TEL-5", "LOG-6", "LOG-19")
def test_after_init_it_is_too_late(stage, run):
    answers = []

    async def extension(actor):
        await actor.register("INVOKE")
        assert accepted(await subscribe(actor, wish(HTTP)))
        await actor.next_event()
        answers.extend(
            [
                await subscribe(actor, wish(HTTP)),
                await subscribe(actor, b"nonsense"),
                await subscribe(actor, wish(HTTP, schemaVersion=None), path=LOGS),
            ]
        )
        await actor.next_event()

    async def runtime(actor):
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime, EXT: extension}) as it:
            await it.invoke()
            await it.invoke()

    run(scenario())
    again, nonsense, other = answers
    closed = "Telemetry API subscription is closed already"
    assert turned_away(again, "Telemetry.SubscriptionClosed", closed)
    assert turned_away(nonsense, "Telemetry.SubscriptionClosed", closed)
    assert turned_away(other, "Logs.SubscriptionClosed", "Logs API subscription is closed already")


@pytest.mark.case("TEL-6")
def test_an_extension_may_subscribe_after_the_runtime_is_ready(stage, run):
    async def extension(actor):
        await actor.register("INVOKE")
        await it.marked("runtime.ready")
        assert accepted(await subscribe(actor, wish(HTTP)))
        await actor.follow()

    async def runtime(actor):
        await actor.serve()

    async def scenario():
        nonlocal it
        async with stage({"runtime": runtime, EXT: extension}) as it:
            await it.invoke()

    it = None
    run(scenario())


WORDS = (
    "`platform.start`, `platform.end`, `platform.report`, `platform.fault`, `platform.extension`,"
    " `platform.logsDropped`, `platform.logsSubscription`, `platform.telemetrySubscription`,"
    " `platform.runtimeDone`, `platform.initStart`, `platform.initRuntimeDone`, `platform.initReport`,"
    " `platform.restoreStart`, `platform.restoreRuntimeDone`, `platform.restoreReport`, `platform`,"
    " `function`, `extension`"
)


@pytest.mark.case("TEL-7", "TEL-8", "TEL-9")
def test_types_are_checked(judged):
    none, bogus, single, twice, missing, null = judged(
        wish(HTTP, types=[]),
        wish(HTTP, types=["bogus"]),
        wish(HTTP, types=["platform.runtimeDone"]),
        wish(HTTP, types=["platform", "platform"]),
        wish(HTTP, types=None),
        b'{"types":null}',
    )
    assert refused(none, "Telemetry.ValidationError", "types should not be empty")
    assert refused(
        bogus, "Telemetry.DeserializationError", f"unknown variant `bogus`, expected one of {WORDS}"
    )
    assert refused(single, "Telemetry.ValidationError", "Unrecognized enum variant")
    assert refused(twice, "Telemetry.ValidationError", "types should be unique")
    assert refused(missing, "Telemetry.DeserializationError", "missing field `types`")
    assert refused(null, "Telemetry.DeserializationError", "invalid type: null, expected a sequence")


@pytest.mark.case("TEL-10")
@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("timeoutMs", 25, 30_000), ("maxItems", 1_000, 10_000), ("maxBytes", 262_144, 1_048_576)],
)
def test_buffering_has_limits(judged, name, least, most):
    values = (least - 1, most + 1, 0, least, most)
    *bad, low, high = judged(*(wish(HTTP, buffering={name: value}) for value in values))
    for answer in bad:
        assert refused(answer, "Telemetry.ValidationError", f"{name} should be between {least} and {most}")
    assert accepted(low)
    assert accepted(high)


@pytest.mark.case("TEL-11")
def test_the_schema_must_be_one_of_this_api(judged):
    absent, old, unknown = judged(
        wish(HTTP, schemaVersion=None),
        wish(HTTP, schemaVersion="2021-03-18"),
        wish(HTTP, schemaVersion="2099-01-01"),
    )
    text = "TelemetryAPI only supports the SchemaVersion released after 2021-03-18"
    assert refused(absent, "Telemetry.ValidationError", text)
    assert refused(old, "Telemetry.ValidationError", text)
    known = "`2020-08-15`, `2021-03-18`, `2022-07-01`, `2022-12-13`, `2025-01-29`"
    assert refused(
        unknown,
        "Telemetry.DeserializationError",
        f"unknown variant `2099-01-01`, expected one of {known}",
    )


@pytest.mark.case("TEL-12")
def test_only_this_environment_can_be_a_destination(judged):
    secure, elsewhere, short = judged(
        wish({"protocol": "HTTP", "URI": "https://sandbox.localdomain:4243"}),
        wish({"protocol": "HTTP", "URI": "http://127.0.0.1:4243"}),
        wish({"protocol": "HTTP", "URI": "http://sandbox:4243"}),
    )
    denied = "Telemetry.AccessDenied"
    assert refused(secure, denied, "Only 'http' scheme is supported.", 403)
    assert refused(elsewhere, denied, "Only 'sandbox.localdomain' hostname is supported.", 403)
    assert accepted(short)


@pytest.mark.case("TEL-13")
def test_a_uri_needs_a_port(judged):
    uri = {"protocol": "HTTP", "URI": "http://sandbox.localdomain/"}
    alone, both = judged(wish(uri), wish(uri, types=[]))
    assert refused(alone, "Telemetry.ValidationError", "URI port is not provided")
    assert refused(both, "Telemetry.ValidationError", "URI port is not provided; types should not be empty")


def test_destinations_are_checked(judged):
    reserved, low, get, missing, broken, smuggled = judged(
        wish({"protocol": "HTTP", "URI": "http://sandbox:9001"}),
        wish({"protocol": "TCP", "port": 80}),
        wish({**HTTP, "method": "GET"}),
        {"schemaVersion": "2025-01-29", "types": ["platform"]},
        wish({"protocol": "HTTP", "URI": "http://sandbox:99999"}),
        wish({"protocol": "HTTP", "URI": "http://sandbox:1025/a HTTP/1.1\r\nX: y\r\n\r\n"}),
    )
    invalid = "Telemetry.ValidationError"
    assert refused(reserved, invalid, "port 9001 is reserved for the Runtime API")
    assert refused(low, invalid, "port should be between 1025 and 65535")
    assert refused(get, "Telemetry.DeserializationError", "unknown variant `GET`, expected `POST` or `PUT`")
    assert refused(missing, "Telemetry.DeserializationError", "missing field `destination`")
    assert refused(broken, invalid, "URI is not valid")
    assert refused(smuggled, invalid, "URI is not valid")


NONSENSE = (
    *(b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff", b"{}", b"{} x", b"[" * 100_000),
    b'{"types":[' + b"1" * 6000 + b"]}",
    b'{"\\ud800":1}',
    b'{"types":["\\ud800"]}',
    b'{"types":["platform",]}',
    b'{"types":[],"types":[]}',
    b'{"buffering":{"maxItems":-1}}',
    b'{"buffering":{"maxItems":1e400}}',
    b'{"buffering":{"maxItems":NaN}}',
)


@pytest.mark.case("TEL-14", "TEL-15")
def test_after_nonsense_an_extension_may_try_again(judged):
    *bad, unknown, good, again = judged(*NONSENSE, wish(HTTP, k=1), wish(HTTP), wish(HTTP))
    for answer in bad:
        assert answer.status == 400
        assert answer.json["errorType"] == "Telemetry.DeserializationError"
    fields = "`schemaVersion`, `types`, `buffering`, `destination`"
    assert refused(unknown, "Telemetry.DeserializationError", f"unknown field `k`, expected one of {fields}")
    assert accepted(good)
    assert again.body == b'"AlreadySubscribed"'


@pytest.mark.case("TEL-15")
def test_two_bad_tries_and_a_good_one_are_one_subscription(stage, run):
    async def scenario():
        async def extension(actor):
            await actor.register("INVOKE", "SHUTDOWN")
            await subscribe(actor, wish(listener, types=[]))
            await subscribe(actor, b"{")
            assert accepted(await subscribe(actor, wish(listener)))
            await actor.follow()

        async def runtime(actor):
            await actor.serve()

        async with listening() as listener:
            async with stage({"runtime": runtime, EXT: extension}) as it:
                await it.invoke()
                await it.invoke()
            assert listener.types.count("platform.initStart") == 1
            assert listener.types.count("platform.start") == 2

    run(scenario())


@pytest.mark.case("TEL-16")
def test_the_same_again_is_no_second_subscription(stage, run):
    async def scenario():
        async def extension(actor):
            await actor.register("INVOKE", "SHUTDOWN")
            assert accepted(await subscribe(actor, wish(listener)))
            again = await subscribe(actor, wish(listener))
            assert (again.status, again.body) == (200, b'"AlreadySubscribed"')
            await actor.follow()

        async def runtime(actor):
            await actor.serve()

        async with listening() as listener:
            async with stage({"runtime": runtime, EXT: extension}) as it:
                await it.invoke()
                log = [line for line in await it.log() if line.startswith("TELEMETRY")]
            states = [record["state"] for record in listener.records("platform.telemetrySubscription")]
            assert states == ["Subscribed", "Already subscribed"]
            assert listener.types.count("platform.initStart") == 1
            shown = "Types: [Platform, Function, Extension]"
            assert log == [
                f"TELEMETRY\tName: ext.sh\tState: Subscribed\t{shown}",
                f"TELEMETRY\tName: ext.sh\tState: Already subscribed\t{shown}",
            ]

    run(scenario())


def test_there_is_an_end_to_subscriptions(judged):
    bodies = [wish(HTTP, buffering={"timeoutMs": 100 + number}) for number in range(33)]
    *good, last = judged(*bodies)
    assert all(map(accepted, good))
    assert refused(last, "Telemetry.ValidationError", "An environment may have 32 subscriptions")


@pytest.mark.case("TEL-40", "LOG-26")
def test_a_node_may_have_no_telemetry(asked):
    async def scene(actor):
        return (
            await subscribe(actor, b"nonsense", identifier=None),
            await subscribe(actor, b"nonsense", path=LOGS, identifier="x"),
        )

    (telemetry, logs), _ = asked(scene, settings={"has_telemetry": False})
    assert (telemetry.status, logs.status) == (202, 202)
    assert telemetry.json == {
        "errorMessage": "Telemetry API is not supported",
        "errorType": "Telemetry.NotSupported",
    }
    assert logs.json == {"errorMessage": "Logs API is not supported", "errorType": "Logs.NotSupported"}


@pytest.mark.case("LOG-27")
def test_where_extensions_are_switched_off_nobody_can_subscribe(stage, run):
    answers = []

    async def runtime(actor):
        answers.append(await subscribe(actor, b"{}", path=TELEMETRY, identifier="x"))
        answers.append(await subscribe(actor, b"{}", path=LOGS, identifier="x"))
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}, files={"opt/disable-extensions-jwigqn8j": None}) as it:
            await it.invoke()

    run(scenario())
    assert [(answer.status, answer.body) for answer in answers] == [(404, b"")] * 2
