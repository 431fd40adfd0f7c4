"""Invocations as traces, and what is recorded of them."""

from __future__ import annotations

import itertools

import pytest

from remora.lifecycle.messages import Happened, Kind
from remora.telemetry import recording
from remora.telemetry.facts import Subject
from remora.telemetry.recording import Recorder
from remora.telemetry.spans import traces
from remora.telemetry.timeline import Timeline

ENVIRONMENT = "0123456789abcdef0123456789abcdef"
REQUEST = "6d9a0c52-52d6-4f3c-9a5c-0f2f0a7be001"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"


class Told:
    """A recorder, a recording in it, and a clock that moves by a millisecond with everything that happens."""

    def __init__(self):
        self.woken = 0
        self.recorder = Recorder(self.wake)
        timeline = Timeline(ENVIRONMENT, "f", 0, 1_900_000_000_000)
        timeline.mark("sandbox.created", 500)
        self.recording = self.recorder.open(Subject("f", "1", ARN, 128, "stream"), timeline)
        self.now_us = 0

    def wake(self):
        self.woken += 1

    def __call__(self, kind, **members):
        self.now_us += 1_000
        self.recording.happened(Happened(kind, self.now_us, **members), 7)

    def init(self, phase="init", detail="success"):
        self(Kind.INIT_STARTED, phase=phase)
        self(Kind.PROCESS_STARTED, name="extension:ext")
        self(Kind.EXTENSION_REGISTERED, name="ext")
        self(Kind.PROCESS_STARTED, name="runtime")
        self(Kind.EXTENSION_READY, name="ext")
        if detail == "success":
            self(Kind.RUNTIME_READY)
        self(Kind.INIT_ENDED, phase=phase, detail=detail, error_type="E" if detail == "error" else "")

    def invoke(self, *, init_us=-1, restore_us=-1, request_id=REQUEST):
        self(Kind.INVOKE_STARTED, request_id=request_id)
        self(Kind.RUNTIME_RESPONDED, request_id=request_id)
        self(
            Kind.RUNTIME_DONE,
            request_id=request_id,
            detail="success",
            duration_us=2_000,
            latency_us=300,
            response_us=500,
        )
        self(Kind.EXTENSION_DONE, name="ext", request_id=request_id)
        self(
            Kind.INVOKE_ENDED,
            request_id=request_id,
            detail="success",
            duration_us=4_000,
            init_us=init_us,
            restore_us=restore_us,
            post_runtime_us=2_000,
        )

    def traces(self):
        numbers = itertools.count(1)
        new = lambda: f"{next(numbers):016x}"
        return [trace for each in self.recorder.take(100) for trace in traces(each, new)]


@pytest.fixture
def told():
    return Told()


def laid_out(trace):
    """Return name, parent's name, start and end (milliseconds) of each span."""
    names = {span.span_id: span.name for span in trace.spans}
    return [
        (span.name, names.get(span.parent_id, ""), span.start_us / 1000, span.end_us / 1000)
        for span in trace.spans
    ]


RUN = [("runtime", "f", 8, 10), ("response", "runtime", 8.3, 8.8), ("extension ext", "f", 8, 11)]


def test_a_cold_invocation(told):
    told.init()
    told.recording.invoked(ARN, "")
    told.invoke(init_us=6_000)
    (trace,) = told.traces()
    assert trace.trace_id == REQUEST.replace("-", "")
    assert laid_out(trace) == [
        ("f", "", 0, 12),
        ("init", "f", 0, 7),
        ("sandbox", "init", 0, 0.5),
        ("extension ext", "init", 2, 5),
        ("runtime", "init", 4, 6),
        *RUN,
        ("post-runtime", "f", 10, 12),
    ]
    assert told.woken == 1


def test_a_warm_invocation_and_an_init_that_nobody_waited_for(told):
    told.init()
    told.recording.invoked(ARN, "")
    told.invoke()
    ahead, trace = told.traces()
    assert ahead.trace_id == ENVIRONMENT
    assert laid_out(ahead)[0] == ("init", "", 0, 7)
    assert laid_out(trace) == [("f", "", 8, 12), *RUN, ("post-runtime", "f", 10, 12)]


def test_an_init_that_failed_and_one_within_the_invocation(told):
    told.init(detail="error")
    told(Kind.SHUTDOWN_STARTED)
    told(Kind.PROCESS_EXITED, name="runtime", detail="exit status 1")
    told(Kind.SHUTDOWN_ENDED)
    told.recording.invoked(ARN, "")
    told.init("invoke")
    told.invoke()
    failed, trace = told.traces()
    assert [span.error for span in failed.spans] == ["E", "", "", ""]
    assert failed.spans[-1].end_us == failed.spans[0].end_us
    names = [(name, parent) for name, parent, _, _ in laid_out(trace)]
    assert names[:4] == [("f", ""), ("init", "f"), ("extension ext", "init"), ("runtime", "init")]
    assert trace.spans[0].start_us == trace.spans[1].start_us
    assert not any(span.error for span in trace.spans)


def test_an_invocation_that_waited_for_a_restore(told):
    told.init()
    told.recording.moved("another stream")
    told(Kind.RESTORE_STARTED)
    told(Kind.RESTORE_ENDED, detail="success", duration_us=1_500)
    told.recording.invoked(ARN, "")
    told.invoke(restore_us=1_500)
    ahead, trace = told.traces()
    assert [name for name, *_ in laid_out(ahead)] == ["init", "sandbox", "extension ext", "runtime"]
    assert laid_out(trace)[:3] == [("f", "", 7.5, 14), ("restore", "f", 7.5, 9), ("runtime", "f", 10, 12)]
    assert trace.spans[0].attributes["remora.restore_duration_ms"] == 1.5
    assert told.recorder.subject("another stream").function_name == "f"


def test_a_restore_that_nobody_waited_for_is_no_part_of_an_invocation(told):
    told(Kind.RESTORE_STARTED)
    told(Kind.RESTORE_ENDED, detail="success", duration_us=1_500)
    told.recording.invoked(ARN, "")
    told.invoke()
    (trace,) = told.traces()
    assert "restore" not in [span.name for span in trace.spans]


def test_a_runtime_that_was_cut_off(told):
    told.recording.invoked(ARN, "")
    told(Kind.INVOKE_STARTED, request_id=REQUEST)
    told(Kind.INVOKE_ENDED, request_id=REQUEST, detail="timeout", duration_us=1_000)
    (trace,) = told.traces()
    assert [(span.name, span.error) for span in trace.spans] == [("f", "timeout"), ("runtime", "timeout")]


def test_what_nobody_takes_is_dropped_and_counted(told, monkeypatch):
    monkeypatch.setattr(recording, "WAITING_MAX", 3)
    for number in range(5):
        told.recording.invoked(ARN, f"trace {number}")
        told.invoke(request_id=f"request-{number}")
    assert (told.recorder.waiting, told.recorder.dropped) == (3, 2)
    assert [each.trace_id for each in told.recorder.take(2)] == ["trace 2", "trace 3"]
    assert told.recorder.trace_id("request-0") == "trace 0"


def test_endless_things_within_an_invocation_are_not_kept(told, monkeypatch):
    monkeypatch.setattr(recording, "HAPPENED_MAX", 10)
    told.recording.invoked(ARN, "")
    told(Kind.INVOKE_STARTED, request_id=REQUEST)
    for _ in range(100):
        told(Kind.EXTENSION_REGISTERED, name="ext")
    told(Kind.INVOKE_ENDED, request_id=REQUEST, detail="success", duration_us=1)
    (recorded,) = told.recorder.take(9)
    assert (len(recorded.happened), recorded.happened[-1].kind) == (11, Kind.INVOKE_ENDED)


def test_an_idle_environment_that_ends_leaves_nothing(told):
    told.recording.invoked(ARN, "")
    told.invoke()
    told.recorder.take(1)
    told(Kind.SHUTDOWN_STARTED)
    told(Kind.SHUTDOWN_ENDED)
    assert told.traces() == []
