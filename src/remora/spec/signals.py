"""
How AWS words the end of a process.

Source: runtime-api specification, section "What the invoker sees" (signal names as the platform prints them).
"""

from __future__ import annotations

_NAMES = {
    1: "hangup",
    2: "interrupt",
    3: "quit",
    4: "illegal instruction",
    5: "trace/breakpoint trap",
    6: "aborted",
    7: "bus error",
    8: "floating point exception",
    9: "killed",
    10: "user defined signal 1",
    11: "segmentation fault",
    12: "user defined signal 2",
    13: "broken pipe",
    14: "alarm clock",
    15: "terminated",
    16: "stack fault",
    17: "child exited",
    18: "continued",
    19: "stopped (signal)",
    20: "stopped",
    21: "stopped (tty input)",
    22: "stopped (tty output)",
    23: "urgent I/O condition",
    24: "CPU time limit exceeded",
    25: "file size limit exceeded",
    26: "virtual timer expired",
    27: "profiling timer expired",
    28: "window changed",
    29: "I/O possible",
    30: "power failure",
    31: "bad system call",
}


def exit_text(code: int | None, signal: int | None) -> str:
    """
    Describe how a process ended, `exit status 3` or `signal: killed`.

    Args:
        code: Exit code, 0..255; None if a signal ended it.
        signal: Signal number; None if it exited by itself.
    """
    if signal is not None:
        return f"signal: {_NAMES.get(signal, f'signal {signal}')}"
    return f"exit status {code}"
