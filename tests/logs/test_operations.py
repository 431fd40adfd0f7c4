"""The operations of CloudWatch Logs, asked by boto3."""

import http.client
import time

import pytest
from botocore.exceptions import ClientError

from remora.telemetry.log_files import SEGMENT_BYTES, LogLine

GROUP = "/aws/lambda/f"
DAY_MS = 24 * 3600 * 1000


def now_ms():
    return time.time_ns() // 1_000_000


def refused(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def wrote(node, stream, *lines, group=GROUP):
    """Write lines as an environment does: (time, text)."""
    node.call(node.store.extend, group, stream, [LogLine(at, text) for at, text in lines])


def messages(reply):
    return [event["message"].rstrip("\n") for event in reply["events"]]


def test_groups_are_made_described_and_removed(logs):
    logs.create_log_group(logGroupName="/one", tags={"a": "b"})
    logs.create_log_group(logGroupName="/two/x")
    (one,) = logs.describe_log_groups(logGroupNamePrefix="/o")["logGroups"]
    arn = "arn:aws:logs:us-east-1:000000000000:log-group:/one"
    assert (one["logGroupName"], one["arn"], one["logGroupArn"]) == ("/one", f"{arn}:*", arn)
    assert one["storedBytes"] == 0
    assert "retentionInDays" not in one
    assert abs(one["creationTime"] - now_ms()) < 60_000
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"a": "b"}
    logs.tag_resource(resourceArn=arn, tags={"c": "d"})
    logs.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"c": "d"}
    found = logs.describe_log_groups(logGroupNamePattern="WO")["logGroups"]
    assert [each["logGroupName"] for each in found] == ["/two/x"]
    logs.delete_log_group(logGroupName="/one")
    assert len(logs.describe_log_groups()["logGroups"]) == 1


def test_pages_of_groups_and_streams(logs):
    for number in range(7):
        logs.create_log_group(logGroupName=f"g{number}")
        logs.create_log_stream(logGroupName="g0", logStreamName=f"s{number}")
    pages = logs.get_paginator("describe_log_groups").paginate(PaginationConfig={"PageSize": 3})
    sizes = [len(page["logGroups"]) for page in pages]
    assert sizes == [3, 3, 1]
    pages = logs.get_paginator("describe_log_streams").paginate(
        logGroupName="g0", PaginationConfig={"PageSize": 2}
    )
    names = [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
    assert names == [f"s{number}" for number in range(7)]


def test_retention_is_kept_over_a_restart_and_hides_what_is_older(tmp_path, restarted):
    with restarted() as logs:
        logs.create_log_group(logGroupName=GROUP)
        logs.create_log_stream(logGroupName=GROUP, logStreamName="s")
        old, new = now_ms() - 5 * DAY_MS // 2, now_ms() - 5 * DAY_MS // 2 + DAY_MS
        events = [{"timestamp": old, "message": "old"}, {"timestamp": new, "message": "new"}]
        reply = logs.put_log_events(logGroupName=GROUP, logStreamName="s", logEvents=events)
        assert "rejectedLogEventsInfo" not in reply
        logs.put_retention_policy(logGroupName=GROUP, retentionInDays=3)
        assert messages(logs.filter_log_events(logGroupName=GROUP)) == ["old", "new"]
    with restarted() as logs:
        assert logs.describe_log_groups()["logGroups"][0]["retentionInDays"] == 3
        assert refused(logs.put_retention_policy, logGroupName=GROUP, retentionInDays=2)[0] == (
            "InvalidParameterException"
        )
        logs.put_retention_policy(logGroupName=GROUP, retentionInDays=1)
        assert messages(logs.get_log_events(logGroupName=GROUP, logStreamName="s")) == []
        logs.delete_retention_policy(logGroupName=GROUP)
        assert messages(logs.filter_log_events(logGroupName=GROUP)) == ["old", "new"]


def test_streams_are_described_by_name_and_by_time(node, logs):
    wrote(node, "b", (1000, "x"), (2000, "y"))
    wrote(node, "a", (3000, "z"))
    described = logs.describe_log_streams(logGroupName=GROUP)["logStreams"]
    assert [stream["logStreamName"] for stream in described] == ["a", "b"]
    assert (described[1]["firstEventTimestamp"], described[1]["lastEventTimestamp"]) == (1000, 2000)
    assert described[1]["arn"] == "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f:log-stream:b"
    newest = logs.describe_log_streams(logGroupName=GROUP, orderBy="LastEventTime", descending=True, limit=1)
    assert newest["logStreams"][0]["logStreamName"] == "a"
    logs.delete_log_stream(logGroupName=GROUP, logStreamName="a")
    assert len(logs.describe_log_streams(logGroupName=GROUP)["logStreams"]) == 1


def test_events_are_read_forward_and_backward(node, logs):
    wrote(node, "s", *((number, f"line {number}") for number in range(100)))
    where = {"logGroupName": GROUP, "logStreamName": "s", "limit": 30}
    last = logs.get_log_events(**where)
    assert messages(last) == [f"line {number}" for number in range(70, 100)]
    assert last["events"][0]["message"] == "line 70\n"
    before = logs.get_log_events(**where, nextToken=last["nextBackwardToken"])
    assert messages(before) == [f"line {number}" for number in range(40, 70)]
    again = logs.get_log_events(**where, nextToken=before["nextForwardToken"])
    assert messages(again) == messages(last)

    end = logs.get_log_events(**where, nextToken=last["nextForwardToken"])
    assert (end["events"], end["nextForwardToken"]) == ([], last["nextForwardToken"])
    wrote(node, "s", (100, "later"))
    more = logs.get_log_events(**where, nextToken=end["nextForwardToken"])
    assert messages(more) == ["later"]

    found, token = [], {}
    while True:
        page = logs.get_log_events(**where, startFromHead=True, **token)
        found += messages(page)
        if token == (token := {"nextToken": page["nextForwardToken"]}):
            break
    assert found == [*(f"line {number}" for number in range(100)), "later"]
    part = logs.get_log_events(**where, startFromHead=True, startTime=10, endTime=12)
    assert messages(part) == ["line 10", "line 11"]


def test_whoever_waits_at_the_end_of_an_empty_stream_sees_what_comes(node, logs):
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName="s")
    empty = logs.get_log_events(logGroupName=GROUP, logStreamName="s")
    assert empty["events"] == []
    wrote(node, "s", (1, "first"))
    for token in ("nextForwardToken", "nextBackwardToken"):
        page = logs.get_log_events(logGroupName=GROUP, logStreamName="s", nextToken=empty[token])
        assert messages(page) == ["first"]


def test_a_search_goes_through_all_streams_in_order_of_time(node, logs):
    for stream in ("x", "y"):
        wrote(node, stream, *((number, f"{stream} {number}") for number in range(ord(stream) % 2, 100, 2)))
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=GROUP, PaginationConfig={"PageSize": 7}
    )
    events = [event for page in pages for event in page["events"]]
    assert [event["timestamp"] for event in events] == list(range(100))
    assert len({event["eventId"] for event in events}) == 100
    assert sorted(event["eventId"] for event in events) == [event["eventId"] for event in events]
    assert {event["logStreamName"] for event in events} == {"x", "y"}
    named = logs.filter_log_events(logGroupName=GROUP, logStreamNames=["x", "x"], startTime=10, endTime=12)
    assert messages(named) == ["x 10", "x 12"]
    prefixed = logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix="y", limit=2)
    assert messages(prefixed) == ["y 1", "y 3"]


def test_a_search_with_patterns(node, logs):
    wrote(node, "s", (1, '{"level":"ERROR","n":1}'), (2, "an ERROR here"), (3, "fine"))
    for pattern, found in {
        "ERROR": [1, 2],
        "ERROR -here": [1],
        "?fine ?here": [2, 3],
        '"an ERROR"': [2],
        '{ $.level = "ERROR" }': [1],
    }.items():
        reply = logs.filter_log_events(logGroupName=GROUP, filterPattern=pattern)
        assert [event["timestamp"] for event in reply["events"]] == found
    code, message = refused(logs.filter_log_events, logGroupName=GROUP, filterPattern="{ $.a")
    assert code == "InvalidParameterException"
    assert "Invalid filter pattern" in message


def test_a_search_may_have_empty_pages(node, logs, monkeypatch):
    monkeypatch.setattr("remora.telemetry.log_queries.SEARCHED_LINES_MAX", 10)
    wrote(node, "s", *((number, str(number)) for number in range(95)))
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=GROUP, filterPattern="94")
    counts = [len(page["events"]) for page in pages]
    assert counts == [0] * 9 + [1]


def test_pages_are_bounded_in_bytes(node, logs):
    wrote(node, "s", *((number, "x" * 100_000) for number in range(50)))
    for read in (
        logs.filter_log_events(logGroupName=GROUP),
        logs.get_log_events(logGroupName=GROUP, logStreamName="s"),
    ):
        assert 8 <= len(read["events"]) <= 10
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=GROUP)
    assert sum(len(page["events"]) for page in pages) == 50


def test_events_that_are_put_come_back_as_they_were(logs):
    where = {"logGroupName": "/mine", "logStreamName": "s"}
    logs.create_log_group(logGroupName="/mine")
    logs.create_log_stream(**where)
    now = now_ms()
    texts = ["a\n", "b\nc", "é\0\U0001f600"]
    reply = logs.put_log_events(
        **where, logEvents=[{"timestamp": now - 9, "message": text} for text in texts], sequenceToken="any"
    )
    assert reply["nextSequenceToken"]
    events = logs.get_log_events(**where)["events"]
    assert [event["message"] for event in events] == texts
    assert events[0]["timestamp"] == now - 9
    assert events[0]["ingestionTime"] >= now


def test_events_that_are_too_old_or_too_new_are_told(logs):
    where = {"logGroupName": "/mine", "logStreamName": "s"}
    logs.create_log_group(logGroupName="/mine")
    logs.create_log_stream(**where)
    now = now_ms()

    def put(*times):
        events = [{"timestamp": now + each, "message": str(each)} for each in times]
        return logs.put_log_events(**where, logEvents=events).get("rejectedLogEventsInfo")

    assert put(-14 * DAY_MS - 60_000, -14 * DAY_MS + 60_000) == {"tooOldLogEventEndIndex": 1}
    assert put(0, 3 * 3600 * 1000) == {"tooNewLogEventStartIndex": 1}
    logs.put_retention_policy(logGroupName="/mine", retentionInDays=1)
    assert put(-DAY_MS - 60_000, -60_000) == {"expiredLogEventEndIndex": 1}
    assert put(-DAY_MS * 3) == {"expiredLogEventEndIndex": 1}


@pytest.mark.parametrize("times", [(2, 1), (0, 2 * DAY_MS)])
def test_batches_that_are_refused(logs, times):
    where = {"logGroupName": "/mine", "logStreamName": "s"}
    logs.create_log_group(logGroupName="/mine")
    logs.create_log_stream(**where)
    events = [{"timestamp": now_ms() + each, "message": "x"} for each in times]
    assert refused(logs.put_log_events, **where, logEvents=events)[0] == "InvalidParameterException"
    big = [{"timestamp": now_ms(), "message": "x" * 600_000}] * 2
    assert refused(logs.put_log_events, **where, logEvents=big)[0] == "InvalidParameterException"


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("delete_log_group", {}),
        ("put_retention_policy", {"retentionInDays": 7}),
        ("delete_retention_policy", {}),
        ("describe_log_streams", {}),
        ("filter_log_events", {}),
        ("get_log_events", {"logStreamName": "s"}),
        ("create_log_stream", {"logStreamName": "s"}),
        ("delete_log_stream", {"logStreamName": "s"}),
        ("put_log_events", {"logStreamName": "s", "logEvents": [{"timestamp": 1, "message": "x"}]}),
    ],
)
def test_a_group_that_is_not_there(logs, operation, members):
    code, message = refused(getattr(logs, operation), logGroupName="/none", **members)
    assert (code, message) == ("ResourceNotFoundException", "The specified log group does not exist.")


def test_a_stream_that_is_not_there(logs):
    logs.create_log_group(logGroupName="g")
    where = {"logGroupName": "g", "logStreamName": "s"}
    told = ("ResourceNotFoundException", "The specified log stream does not exist.")
    assert refused(logs.get_log_events, **where) == told
    assert refused(logs.delete_log_stream, **where) == told
    assert refused(logs.filter_log_events, logGroupName="g", logStreamNames=["s"]) == told


def test_what_is_there_already(logs):
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    assert refused(logs.create_log_group, logGroupName="g")[0] == "ResourceAlreadyExistsException"
    again = refused(logs.create_log_stream, logGroupName="g", logStreamName="s")
    assert again[0] == "ResourceAlreadyExistsException"


def test_requests_that_say_nothing_sensible(node, logs):
    wrote(node, "s", (1, "x"))
    for members in (
        {"logGroupName": GROUP, "nextToken": "nonsense"},
        {"logGroupName": GROUP, "nextToken": "W10="},
        {"logGroupName": GROUP, "limit": 20_000},
        {"logGroupName": "spaces are not allowed"},
        {"logGroupName": GROUP, "logStreamNames": ["s"], "logStreamNamePrefix": "s"},
        {"logGroupName": GROUP, "logGroupIdentifier": GROUP},
        {},
    ):
        assert refused(logs.filter_log_events, **members)[0] == "InvalidParameterException"
    for token in ("f/x", "f/1", "x/1.1", "f/" + "9" * 40 + ".1", ""):
        members = {"logGroupName": GROUP, "logStreamName": "s", "nextToken": token or "f"}
        assert refused(logs.get_log_events, **members)[0] == "InvalidParameterException"
    arn = "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f"
    assert messages(logs.filter_log_events(logGroupIdentifier=arn)) == ["x"]
    assert refused(logs.filter_log_events, logGroupIdentifier="arn:aws:s3:::x")[0] == (
        "InvalidParameterException"
    )


def test_operations_that_are_not_offered_are_named(node, logs):
    code, message = refused(logs.start_query, startTime=0, endTime=1, queryString="x")
    assert code == "UnknownOperationException"
    assert "StartQuery" in message
    connection = http.client.HTTPConnection(node.endpoint.removeprefix("http://"))
    for target, body, code in (
        ("Logs_20140328.Nonsense", b"{}", b"UnknownOperationException"),
        ("Logs_20140328.FilterLogEvents", b"{", b"SerializationException"),
        ("Logs_20140328.FilterLogEvents", b'{"logGroupName":1}', b"SerializationException"),
        ("Logs_20140328.FilterLogEvents", b'{"logGroupName":"\\ud800"}', b""),
        ("Logs_20140328.FilterLogEvents", b"\xff", b"SerializationException"),
        ("Logs_20140328.FilterLogEvents", b"[" * 100_000, b"SerializationException"),
    ):
        connection.request("POST", "/", body, {"X-Amz-Target": target})
        reply = connection.getresponse()
        content = reply.read()
        assert reply.status == 400
        assert code in content
        assert reply.headers["Content-Type"] == "application/x-amz-json-1.1"
    connection.close()


def test_many_segments_and_streams_are_searched_from_the_middle(node, logs):
    text = "x" * (SEGMENT_BYTES // 3)
    for number in range(30):
        wrote(node, f"s{number % 3}", (number * 1000, f"{number} {text}"))
        node.wait(node.store.flush())
    found = logs.filter_log_events(logGroupName=GROUP, startTime=20_000, endTime=22_000)
    assert [event["timestamp"] for event in found["events"]] == [20_000, 21_000, 22_000]
