"""
The platform's own log lines, from what the lifecycle machine says happened.

Source: logs-metrics-billing specification, sections 1 and 7; lifecycle specification, section 8; snapstart
specification, section 9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.lifecycle.messages import Kind
from remora.telemetry.traces import trace_context

if TYPE_CHECKING:
    from remora.lifecycle.messages import Happened

STATUSES_SHOWN = ("timeout", "error")
"""A failure that the function itself reported is not shown in the text format."""


def milliseconds(duration_us: int) -> str:
    """Write a duration (microseconds) as the log does: milliseconds with two decimals, half rounded up."""
    hundredths = (duration_us + 5) // 10
    return f"{hundredths // 100}.{hundredths % 100:02d}"


def billed_ms(duration_us: int, init_us: int) -> int:
    """
    Return the billed duration: one ceiling over the sum of duration and init, whole milliseconds, at least 1.

    Args:
        duration_us: The invocation, microseconds.
        init_us: The init billed with it, microseconds; negative if there is none.

    Source: AWS Compute Blog, "AWS Lambda standardizes billing for INIT Phase", in force since 2025-08-01.
    """
    return max(1, -(-(duration_us + max(init_us, 0)) // 1000))


def billed_restore_ms(happened: Happened) -> int:
    """Return what is billed of the restore before an invocation that ended: the runtime's share of it."""
    return -(-happened.restore_runtime_us // 1000)


def billed_ms_of(happened: Happened) -> int:
    """Return the billed duration of an invocation that ended, with the init or the restore before it."""
    before_us = happened.init_us if happened.restore_us < 0 else billed_restore_ms(happened) * 1000
    return billed_ms(happened.duration_us, before_us)


def start_line(phase: str, version: str, version_arn: str) -> str:
    """Return the first line of an init (`INIT`) or a restore (`RESTORE`) of a managed runtime."""
    return f"{phase}_START Runtime Version: {version}\tRuntime Version ARN: {version_arn}"


def init_report(happened: Happened) -> str:
    """Return the line about an init; only one that failed has a status in it."""
    line = f"INIT_REPORT Init Duration: {milliseconds(happened.duration_us)} ms\tPhase: {happened.phase}"
    return _with_status(line, happened)


def restore_report(happened: Happened) -> str:
    """Return the line about a restore; only one that failed has a status in it."""
    line = f"RESTORE_REPORT Restore Duration: {milliseconds(happened.duration_us)} ms"
    return _with_status(line, happened)


def _with_status(line: str, happened: Happened) -> str:
    if happened.detail == "success":
        return line
    line = f"{line}\tStatus: {happened.detail}"
    return f"{line}\tError Type: {happened.error_type}" if happened.error_type else line


def extension(happened: Happened) -> str:
    """Return the line about one extension at the end of init."""
    events = ", ".join(happened.events)
    line = f"EXTENSION\tName: {happened.name}\tState: {happened.detail}\tEvents: [{events}]"
    return f"{line}\tError Type: {happened.error_type}" if happened.error_type else line


def report(happened: Happened, memory_mib: int, memory_peak_mib: int) -> str:
    """Return the REPORT line of an invocation that ended; a successful one ends with a tab."""
    parts = [
        f"REPORT RequestId: {happened.request_id}",
        f"Duration: {milliseconds(happened.duration_us)} ms",
        f"Billed Duration: {billed_ms_of(happened)} ms",
        f"Memory Size: {memory_mib} MB",
        f"Max Memory Used: {memory_peak_mib} MB",
    ]
    if happened.init_us >= 0:
        parts.append(f"Init Duration: {milliseconds(happened.init_us)} ms")
    if happened.restore_us >= 0:
        parts.append(f"Restore Duration: {milliseconds(happened.restore_us)} ms")
        parts.append(f"Billed Restore Duration: {billed_restore_ms(happened)} ms")
    if happened.detail not in STATUSES_SHOWN:
        parts.append("")
    else:
        parts.append(f"Status: {happened.detail}")
        if happened.error_type:
            parts.append(f"Error Type: {happened.error_type}")
    return "\t".join(parts)


def xray(trace_id: str) -> str:
    """
    Return the line that follows the report of an invocation whose trace is sampled; empty if it is not.

    Args:
        trace_id: The trace header, `Root=…;Parent=…;Sampled=1`.
    """
    context = trace_context(trace_id)
    if not context.is_sampled or not context.root:
        return ""
    segment = f"SegmentId: {context.parent}\t" if context.parent else ""
    return f"XRAY TraceId: {context.root}\t{segment}Sampled: true\t"


def platform_lines(
    happened: Happened, version: str, memory_mib: int, memory_peak_mib: int, *, reports_every_init: bool
) -> list[str]:
    """
    Return the log lines that an event causes, usually none.

    Args:
        happened: The event.
        version: The function's version, `$LATEST` or a number.
        memory_mib: Configured memory, MiB.
        memory_peak_mib: Highest use so far, MiB; read only when an invocation ends.
        reports_every_init: True if an init is reported that succeeded, too: all but those on demand are.
    """
    if happened.kind is Kind.INVOKE_STARTED:
        return [f"START RequestId: {happened.request_id} Version: {version}"]
    if happened.kind is Kind.INVOKE_ENDED:
        return [f"END RequestId: {happened.request_id}", report(happened, memory_mib, memory_peak_mib)]
    if happened.kind is Kind.EXTENSION_STATE:
        return [extension(happened)]
    if happened.kind is Kind.INIT_ENDED and (reports_every_init or happened.detail != "success"):
        return [init_report(happened)]
    if happened.kind is Kind.RESTORE_ENDED:
        return [restore_report(happened)]
    return []
