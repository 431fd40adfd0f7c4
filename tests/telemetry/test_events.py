"""Events in the schemas that tests of the APIs do not show."""

import json

from remora.lifecycle.messages import Happened, Kind
from remora.spec.telemetry import LOGS_V1, LOGS_V2, V3
from remora.telemetry.events import write_fact
from remora.telemetry.facts import Subject, Teller


def written(facts, version):
    entries = [write_fact(fact, version) for fact in facts]
    return [json.loads(entry.json) for entry in entries if entry is not None]


def test_the_newer_logs_api_tells_of_inits_that_were_made_ahead():
    for kind, expected in (("provisioned-concurrency", 2), ("on-demand", 0)):
        subject = Subject("f", "7", "arn", 128, "stream", initialization_type=kind)
        teller = Teller(subject)
        told = []
        for happened in (
            Happened(Kind.INIT_STARTED, 0, phase="init"),
            Happened(Kind.RUNTIME_READY, 1),
            Happened(Kind.INIT_ENDED, 2, detail="success", duration_us=297_118),
        ):
            told += teller.tell(happened, 0)
        assert len(written(told, V3)) == 3
        assert written(told, LOGS_V1) == []
        records = [event["record"] for event in written(told, LOGS_V2)]
        assert len(records) == expected
        if records:
            assert records == [
                {"initializationType": kind, "status": "success"},
                {"initializationType": kind, "metrics": {"durationMs": 297.118, "billedDurationMs": 298}},
            ]


def test_a_failure_of_the_platform_is_a_failure():
    teller = Teller(Subject("f", "7", "arn", 128, "stream"))
    teller.tell(Happened(Kind.INIT_STARTED, 0, phase="init"), 0)
    facts = teller.tell(
        Happened(Kind.INIT_ENDED, 2, detail="error", error_type="Sandbox.Failure", duration_us=5), 0
    )
    (report,) = written(facts, V3)
    assert report["record"]["status"] == "failure"
    assert report["record"]["errorType"] == "Sandbox.Failure"
