"""`ps`, `logs` and `timeline` against a node with fixed answers."""

import json
import socket

import msgspec
import pytest

from remora.cli.ps import Environment, span, table
from remora.cli.timeline import Known, choose
from remora.cli.waterfall import Event, Timeline
from remora.testing.clock import ManualClock

ENVIRONMENT = {
    "id": "3f2a9c0d",
    "function": "hello",
    "version": "$LATEST",
    "state": "idle",
    "created_ms": 1_700_000_000_000,
    "idle_ms": 2_500,
    "invocations": 12,
    "memory_peak_bytes": 48 * 2**20,
    "log_stream": "2023/11/14/[$LATEST]0",
    "extensions": ["collector", "audit.sh"],
}


def test_ps_lays_out_a_table():
    busy = Environment("77aa", "a-much-longer-name", "3", "busy", 1_700_000_060_000, None, 0, None)
    idle = msgspec.convert(ENVIRONMENT, Environment)
    assert table([busy, idle], ManualClock(1_700_000_090_000)) == [
        "ENVIRONMENT  FUNCTION            VERSION  STATE  AGE  IDLE  INVOCATIONS    PEAK  EXTENSIONS",
        "3f2a9c0d     hello               $LATEST  idle   90s  2.5s           12  48 MiB  collector,audit.sh",
        "77aa         a-much-longer-name  3        busy   30s     -            0       -  -",
    ]


def test_spans_are_short():
    assert [span(ms) for ms in (0, 9_940, 10_000, 119_999, 120_000, 7_200_000, 900_000_000)] == [
        "0.0s",
        "9.9s",
        "10s",
        "120s",
        "2m",
        "2h",
        "10d",
    ]


def test_ps_asks_the_node(remora, node):
    node.answers["/_remora/environments"] = (200, json.dumps({"environments": [ENVIRONMENT]}).encode())
    result = remora("ps", "--endpoint", node.endpoint)
    assert (result.code, result.err) == (0, "")
    assert "3f2a9c0d" in result.out
    as_json = remora("ps", "--json", "--endpoint", node.endpoint + "/")
    assert json.loads(as_json.out) == {"environments": [ENVIRONMENT]}
    assert node.asked == ["/_remora/environments"] * 2


def test_ps_of_an_idle_node_says_so_on_standard_error(remora, node):
    node.answers["/_remora/environments"] = (200, b'{"environments":[]}')
    result = remora("ps", "--endpoint", node.endpoint)
    assert (result.code, result.out) == (0, "")
    assert result.err.startswith("no environments")


def test_the_endpoint_may_come_from_the_environment(remora, node, monkeypatch):
    node.answers["/_remora/environments"] = (200, b'{"environments":[]}')
    monkeypatch.setenv("REMORA_ENDPOINT", node.endpoint)
    assert remora("ps").code == 0


@pytest.mark.parametrize("arguments", [("ps",), ("logs", "f"), ("timeline",)])
def test_no_node_is_exit_code_3_and_says_what_to_do(remora, arguments):
    # Given a port where nobody listens
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = remora(*arguments, "--endpoint", endpoint)
    assert (result.code, result.out) == (3, "")
    assert result.err.splitlines() == [
        f"remora: could not reach a node at {endpoint} (connection refused)",
        "hint: start one with `remora up`, or name another with --endpoint",
    ]


@pytest.mark.parametrize("answer", [(200, b"<html>"), (200, b"{}"), (404, b"<html>"), (500, b"")])
def test_somebody_else_at_the_endpoint_is_recognised(remora, node, answer):
    node.answers["/_remora/environments"] = answer
    result = remora("ps", "--endpoint", node.endpoint)
    assert result.code == 3
    assert "is not a Remora node of this version" in result.err


@pytest.mark.parametrize(
    "endpoint", ["localhost:9000", "ftp://x", "http://", "http://x:99999", "http://[::1", ""]
)
def test_an_endpoint_that_is_no_url_is_wrong_usage(remora, endpoint):
    result = remora("ps", "--endpoint", endpoint)
    assert result.code == 2
    assert "is not a URL" in result.err


LINES = (
    b'{"timestamp_ms":1700000000123,"stream":"s1","message":"START RequestId: 1","request_id":"1"}\n'
    b"\n"
    b'{"timestamp_ms":1700000000456,"stream":"s1","message":"gr\\u00fc\\u00dfe"}\n'
)


def test_logs_prints_messages(remora, node):
    node.answers["/_remora/logs"] = (200, LINES)
    result = remora("logs", "hello", "--endpoint", node.endpoint)
    assert (result.code, result.out) == (0, "START RequestId: 1\ngrüße\n")
    assert node.asked == ["/_remora/logs?function=hello"]


def test_logs_with_times_or_as_json(remora, node):
    node.answers["/_remora/logs"] = (200, LINES)
    with_times = remora("logs", "hello", "-t", "--endpoint", node.endpoint).out
    assert with_times.splitlines()[0] == "2023-11-14T22:13:20.123Z s1 START RequestId: 1"
    as_json = remora("logs", "hello", "--json", "--endpoint", node.endpoint).out
    assert [json.loads(line)["message"] for line in as_json.splitlines()] == ["START RequestId: 1", "grüße"]


def test_logs_passes_its_filters_on(remora, node):
    node.answers["/_remora/logs"] = (200, LINES)
    arn = "arn:aws:lambda:us-east-1:000000000000:function:hello:live"
    more = ("--request-id", "r/1", "--filter", "?a ?b")
    remora("logs", arn, "-f", "--since", "10m", *more, "--endpoint", node.endpoint)
    path, _, query = node.asked[0].partition("?")
    assert path == "/_remora/logs"
    values = dict(pair.split("=") for pair in query.split("&"))
    assert int(values.pop("since_ms")) > 1_700_000_000_000
    assert values == {
        "function": "hello",
        "filter": "%3Fa+%3Fb",
        "request_id": "r%2F1",
        "follow": "1",
    }


def test_logs_of_nothing_says_so(remora, node):
    node.answers["/_remora/logs"] = (200, b"")
    result = remora("logs", "hello:3", "--endpoint", node.endpoint)
    assert (result.code, result.out, result.err) == (0, "", "no log lines of hello\n")


@pytest.mark.parametrize("since", ["10", "m", "-5m", "1w", "99999999999d"])
def test_a_duration_that_is_none_is_wrong_usage(remora, since):
    result = remora("logs", "f", "--since", since)
    assert result.code == 2
    assert "is not a duration" in result.err


def test_a_refusal_is_shown_in_the_nodes_words(remora, node):
    node.answers["/_remora/logs"] = (400, b'{"message":"give function=NAME"}')
    result = remora("logs", "f", "--endpoint", node.endpoint)
    assert result.code == 1
    assert result.err.startswith("remora: give function=NAME\nhint: ")


def timelines(node, *known):
    for environment, function, started_ms in known:
        one = Timeline(
            environment, function, started_ms, [Event(5, "sandbox.created"), Event(6, "init.started")]
        )
        node.answers[f"/_remora/timelines/{environment}"] = (200, msgspec.json.encode(one))
    listed = [{"environment": e, "function": f, "started_ms": s, "events": []} for e, f, s in known]
    node.answers["/_remora/timelines"] = (200, json.dumps({"timelines": listed}).encode())


@pytest.mark.parametrize(
    ("which", "environment"), [((), "bb1"), (("hello",), "aa2"), (("aa1",), "aa1"), (("b",), "bb1")]
)
def test_timeline_finds_the_environment_that_is_meant(remora, node, which, environment):
    timelines(node, ("aa1", "hello", 100), ("aa2", "hello", 200), ("bb1", "other", 300))
    result = remora("timeline", *which, "--endpoint", node.endpoint)
    assert result.code == 0
    assert f"· {environment} · " in result.out


def test_timeline_prefers_environments_that_were_used():
    started = Event(10, "invoke.started")
    used = Known("a", "hello", 100, (Event(5, "sandbox.created"), started))
    spare = Known("b", "hello", 900, (Event(5, "sandbox.created"),))
    earlier = Known("c", "hello", 1, (started,))
    assert choose([earlier, used, spare], "hello") is used
    assert choose([earlier, spare], None) is earlier


def test_timeline_as_json_is_what_the_node_answers(remora, node):
    timelines(node, ("aa1", "hello", 100))
    result = remora("timeline", "--json", "--endpoint", node.endpoint)
    assert json.loads(result.out)["environment"] == "aa1"


@pytest.mark.parametrize(
    ("which", "message"),
    [("aa", "2 environments begin with 'aa'"), ("zz", "the node knows no timeline of 'zz'")],
)
def test_timeline_of_nobody_or_of_several_is_exit_code_1(remora, node, which, message):
    timelines(node, ("aa1", "hello", 100), ("aa2", "hello", 200))
    result = remora("timeline", which, "--endpoint", node.endpoint)
    assert result.code == 1
    assert message in result.err
