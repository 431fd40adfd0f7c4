"""
Chains of invocations that one event has caused, and how often a function ran in each of them. Pure.

A trace header carries the chain: SDKs send the header that a function was given with every request that it
makes, so that an invocation by a function arrives with the chain that the function is part of. The member
`Lineage` has one entry for each function that ran, the latest last: `1:24b240b2:3` says that the function
whose ARN has this checksum ran three times before its latest run. Nobody but the platform reads it.

Source: AWS Lambda Developer Guide, "Use Lambda recursive loop detection to prevent infinite loops". The
format is not documented; this one looks like what functions in AWS are given. Further entries follow a comma,
which SDKs do not encode.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Final

from remora.spec.limits import CHAIN_RUNS_MAX

_MEMBER: Final = "Lineage="
_BYTES_MAX: Final = 1024
"""What is longer was not written here, and is passed over."""
_ENTRIES_MAX: Final = 32
"""Functions beyond this are forgotten, the one that has not run for longest first."""
_RUNS_MAX: Final = 32_767


def first(function_arn: str) -> str:
    """Return the member of a trace header for a function that no other one invoked."""
    return f"{_MEMBER}1:{_checksum(function_arn)}:0"


def follow(trace_header: str, function_arn: str) -> str:
    """
    Return a trace header as the next function of the chain gets it.

    Args:
        trace_header: As the request has it, `Root=…`; the chain begins here if it has none.
        function_arn: ARN of the function that is invoked; a qualifier makes no difference.
    """
    if _MEMBER not in trace_header:
        return f"{trace_header};{first(function_arn)}" if trace_header else first(function_arn)
    entries = _entries(trace_header)
    checksum = _checksum(function_arn)
    former = entries.pop(checksum, -1)
    entries[checksum] = min(former + 1, _RUNS_MAX)
    kept = list(entries.items())[-_ENTRIES_MAX:]
    others = [member for member in trace_header.split(";") if not member.startswith(_MEMBER)]
    return ";".join([*others, _MEMBER + ",".join(f"1:{each}:{runs}" for each, runs in kept)])


def is_loop(trace_header: str, function_arn: str) -> bool:
    """Tell from the header that a function is to get whether it ran too often in this chain."""
    return _MEMBER in trace_header and (
        _entries(trace_header).get(_checksum(function_arn), 0) >= CHAIN_RUNS_MAX
    )


def _entries(trace_header: str) -> dict[str, int]:
    """Read how often each function ran before its latest run; what is not understood is passed over."""
    text = trace_header.partition(_MEMBER)[2].partition(";")[0]
    entries = {}
    for entry in text.split(",") if len(text) <= _BYTES_MAX else ():
        checksum, _, runs = entry.rpartition(":")
        if runs.isascii() and runs.isdigit():
            entries[checksum.rpartition(":")[2]] = int(runs)
    return entries


@lru_cache(1024)
def _checksum(function_arn: str) -> str:
    unqualified = ":".join(function_arn.split(":", 7)[:7])
    return f"{zlib.crc32(unqualified.encode()):08x}"
