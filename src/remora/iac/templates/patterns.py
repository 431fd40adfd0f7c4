r"""
Patterns of parameters, matched in a process of its own: a pattern may take for ever, or all memory there is.

The `regex` package reads what Java's patterns, which CloudFormation takes, have beyond
Python's, such as `\p{Alpha}`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import regex

from remora.iac.templates.confinement import confine
from remora.spec import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

MATCHES: Final = "matches"
DIFFERS: Final = "differs"
MALFORMED: Final = "malformed"
UNDECIDED: Final = "undecided"


def judge(questions: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """
    Say of each pattern what it does to all of its texts; takes a tenth of a second, in any thread.

    Returns:
        One verdict for each: whether it matches all of every text, is malformed, or takes too much.
    """
    words = (sys.executable, "-P", "-m", "remora.iac.templates.patterns")
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    asked = json.dumps(questions).encode()
    # The process ends itself in time. What it has written by then counts, one line for each question.
    done = subprocess.run(words, input=asked, capture_output=True, check=False, env=kept)
    verdicts = done.stdout.decode().split()
    return [*verdicts, *[UNDECIDED] * (len(questions) - len(verdicts))]


def main() -> None:
    """Answer the questions on stdin, one line for each, as soon as it is known."""
    confine(limits.TEMPLATE_PATTERNS_S, limits.TEMPLATE_PATTERNS_MEMORY_BYTES)
    for pattern, texts in json.load(sys.stdin):
        print(_verdict(pattern, texts), flush=True)  # noqa: T201 - this is its reply


def _verdict(pattern: str, texts: list[str]) -> str:
    try:
        compiled = regex.compile(pattern)
    except (regex.error, OverflowError, RecursionError, ValueError):
        return MALFORMED
    except MemoryError:
        return UNDECIDED
    try:
        return MATCHES if all(compiled.fullmatch(text) for text in texts) else DIFFERS
    except (MemoryError, RecursionError):
        return UNDECIDED


if __name__ == "__main__":
    main()
