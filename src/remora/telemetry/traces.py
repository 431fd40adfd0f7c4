"""
The trace header of an invocation, and the identifiers that its trace has elsewhere.

Pure. Source: AWS X-Ray Developer Guide, "Tracing header"; OpenTelemetry, "Propagators API", AWS X-Ray.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_ROOT: Final = re.compile(r"1-([0-9a-fA-F]{8})-([0-9a-fA-F]{24})")
_SPAN: Final = re.compile(r"[0-9a-fA-F]{16}")


class TraceContext(NamedTuple):
    """
    What a trace header says.

    Args:
        root: The trace, `1-<8 hex>-<24 hex>`; empty if it names none.
        parent: The segment that is above, 16 hex; empty if it names none.
        is_sampled: True if the trace is recorded.
    """

    root: str
    parent: str
    is_sampled: bool


class TraceIds(NamedTuple):
    """
    Where an invocation's span belongs, as OpenTelemetry counts.

    Args:
        trace: 32 hex digits, never all zero.
        span: 16 hex digits of the invocation's own span.
        parent: 16 hex digits of the caller's span; empty if there is none that anybody knows.
    """

    trace: str
    span: str
    parent: str = ""


def trace_context(header: str) -> TraceContext:
    """Read a trace header, `Root=…;Parent=…;Sampled=…`; what cannot be read is empty, and not sampled."""
    parts = dict(part.strip().partition("=")[::2] for part in header.split(";"))
    return TraceContext(parts.get("Root", ""), parts.get("Parent", ""), parts.get("Sampled") == "1")


def trace_ids(header: str, request_id: str) -> TraceIds:
    """
    Return where an invocation's span belongs.

    Under the caller's span if that is sampled. Otherwise nobody recorded a span above, and the header's
    parent, which the function sees as its own, names the invocation's span. Without a readable header the
    request's identifier does.

    Args:
        header: The trace header.
        request_id: Identifier of the invocation, a UUID.
    """
    own = request_id.replace("-", "")
    context = trace_context(header)
    root = _ROOT.fullmatch(context.root)
    trace = (root[1] + root[2]).lower() if root is not None else own
    parent = context.parent.lower() if root is not None and _SPAN.fullmatch(context.parent) else ""
    if context.is_sampled:
        return TraceIds(trace, own[:16], parent)
    return TraceIds(trace, parent or own[:16])
