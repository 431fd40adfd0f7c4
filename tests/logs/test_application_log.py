"""Lines of a function that logs JSON: records, and their levels."""

import json

import pytest

from remora.telemetry.application_log import ApplicationLog

AT = 1_927_879_200_123
STAMP = "2031-02-03T10:00:00.123Z"
STAMPED = '{"timestamp":"2031-02-03T10:00:00Z","level":"WARN"}'


def record(text, lowest="INFO", request_id="id", level=""):
    written, is_logged = ApplicationLog(lowest).record(text, AT, request_id, level)
    return (written, is_logged)


def test_text_becomes_a_record():
    written, is_logged = record("so\nit is")
    expected = {"timestamp": STAMP, "level": "INFO", "message": "so\nit is", "requestId": "id"}
    assert (json.loads(written), is_logged) == (expected, True)
    assert "requestId" not in json.loads(record("x", request_id="")[0])


def test_a_complete_record_is_left_as_it_is():
    assert record(STAMPED) == (STAMPED, True)
    assert record(f"  {STAMPED} ") == (f"  {STAMPED} ", True)


@pytest.mark.parametrize("stamp", [None, "yesterday", 12, "2031-02-03"])
def test_a_time_is_added_where_there_is_none_and_the_level_is_kept(stamp):
    given = {"level": "ERROR", "message": "x"} | ({} if stamp is None else {"timestamp": stamp})
    written, is_logged = record(json.dumps(given), "ERROR")
    expected = {"timestamp": STAMP, "level": "ERROR", "message": "x"}
    assert (json.loads(written), is_logged) == (expected, True)


@pytest.mark.case("MB-17")
@pytest.mark.parametrize("level", ['"level":"curious",', '"level":7,', '"level":null,', ""])
def test_a_record_without_a_level_counts_as_info(level):
    text = f'{{{level}"message":"x"}}'
    assert record(text, "INFO")[1]
    assert not record(text, "WARN")[1]


@pytest.mark.parametrize(
    ("level", "lowest"),
    [("TRACE", 0), ("DEBUG", 1), ("info", 2), ("WARN", 3), ("WARNING", 3), ("ERROR", 4), ("CRITICAL", 5)],
)
def test_a_level_is_logged_at_its_own_and_below(level, lowest):
    text = json.dumps({"level": level})
    levels = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
    assert [record(text, each)[1] for each in levels] == [number <= lowest for number in range(6)]


def test_what_the_channel_says_counts_where_the_record_says_nothing():
    assert record('{"message":"x"}', "ERROR", level="ERROR")[1]
    assert not record('{"level":"INFO"}', "ERROR", level="ERROR")[1]
    assert json.loads(record("text", "ERROR", level="FATAL")[0])["level"] == "FATAL"


@pytest.mark.parametrize("text", ["{", "[1]", '"x"', "{" * 100_000, '{"a":"\\ud800"}', "", "{} {}"])
def test_what_is_no_object_is_text(text):
    written, _ = record(text)
    assert json.loads(written)["message"] == text
