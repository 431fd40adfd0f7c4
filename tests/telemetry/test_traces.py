"""Where an invocation's span belongs, by the trace header that came with it."""

from __future__ import annotations

import pytest

from remora.telemetry.traces import TraceIds, trace_ids

REQUEST = "6d9a0c52-52d6-4f3c-9a5c-0f2f0a7be001"
OWN, OWN_SPAN = "6d9a0c5252d64f3c9a5c0f2f0a7be001", "6d9a0c5252d64f3c"
ROOT, TRACE, SPAN = (
    "Root=1-6A00aa00-0123456789abcdef01234567",
    "6a00aa000123456789abcdef01234567",
    "5f3e9b7a11c20d48",
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"{ROOT};Parent={SPAN};Sampled=1", TraceIds(TRACE, OWN_SPAN, SPAN)),
        (f"{ROOT};Parent={SPAN};Sampled=0", TraceIds(TRACE, SPAN)),
        (f"Sampled=1; {ROOT}", TraceIds(TRACE, OWN_SPAN)),
        (f"Root=1-6a00aa00-0123;Parent={SPAN};Sampled=1", TraceIds(OWN, OWN_SPAN)),
        (f"{ROOT};Parent=short;Sampled=0", TraceIds(TRACE, OWN_SPAN)),
        ("nonsense;=;;", TraceIds(OWN, OWN_SPAN)),
        ("", TraceIds(OWN, OWN_SPAN)),
    ],
)
def test_where_a_span_belongs(header, expected):
    assert trace_ids(header, REQUEST) == expected
