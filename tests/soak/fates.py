"""
What is to happen to each invocation of a soak, drawn from a seed, and what its invoker must then be told.

An invocation carries its fate with it: the runtime reads its part in the event, the extension its part in the
trace header, the one text of the invoker's that extensions are given.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Final

OVERSIZED_BYTES: Final = 6_291_557
FLOOD_BYTES: Final = 1_000_000
EXIT_CODE: Final = 7
PERISHED: Final = 97
"""Exit status of a runtime that dies while it waits for an invocation."""
UNBORN: Final = 98
"""Exit status of a runtime that dies in its init."""

RUNTIME: Final = {
    "answer": 900,
    "error": 20,
    "exit": 10,
    "kill": 5,
    "crash": 5,
    "hang": 1,
    "oversize": 2,
    "truncate": 10,
    "drop": 10,
    "flood": 10,
    "twice": 10,
    "stray": 10,
    "stream": 10,
    "leave": 5,
    "perish": 3,
}
"""What the runtime does, and how often of so many."""

EXTENSION: Final = {"follow": 950, "dawdle": 20, "drop": 5, "exit": 8, "crash": 8, "report": 8, "hang": 1}
"""What the extension does, and how often."""

_ANSWERS: Final = frozenset({"answer", "drop", "flood", "twice", "stray", "stream", "leave", "perish"})
_FAILURES: Final = {
    "exit": ("Runtime.ExitError", f"Runtime exited with error: exit status {EXIT_CODE}"),
    "kill": ("Runtime.ExitError", "Runtime exited with error: signal: killed"),
    "crash": ("Runtime.ExitError", "Runtime exited with error: signal: segmentation fault"),
    "truncate": ("Runtime.TruncatedResponse", "HTTP request detected as truncated"),
    "oversize": ("Function.ResponseSizeTooLarge", "Response payload size exceeded"),
    "hang": ("Sandbox.Timedout", "Task timed out after"),
}
_EXTENSION_FAILURES: Final = {
    "exit": ("Extension.Crash", f"exit status {EXIT_CODE}"),
    "crash": ("Extension.Crash", "signal: segmentation fault"),
    "report": ("Extension.ExitError", f"exit status {EXIT_CODE}"),
    "hang": ("Sandbox.Timedout", "Task timed out after"),
}


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to the invocation `number`."""

    number: int
    runtime: str
    extension: str

    @property
    def payload(self) -> bytes:
        """The event."""
        return b'{"n": %d, "does": "%s"}' % (self.number, self.runtime.encode())

    @property
    def trace(self) -> str:
        """The trace header."""
        return f"Root=1-{self.number:08x}-{'0' * 24};Does={self.extension};"

    @property
    def answer(self) -> bytes:
        """What a runtime that is well answers."""
        return b'{"answer to": %d}' % self.number

    @property
    def error(self) -> bytes:
        """What a runtime posts as an error."""
        return b'{"errorType": "Odd", "errorMessage": "error of %d"}' % self.number


@dataclass(frozen=True, slots=True)
class Told:
    """What the invoker was told; `error` is the function error, empty if there is none."""

    error: str
    payload: bytes


def draw(seed: int, count: int) -> list[Fate]:
    """Return the fates of `count` invocations; each kind of fate is there at least once."""
    rng = random.Random(seed)
    pairs = [(kind, "follow") for kind in RUNTIME] + [("answer", kind) for kind in EXTENSION]
    more = count - len(pairs)
    pairs += zip(
        rng.choices([*RUNTIME], [*RUNTIME.values()], k=more),
        rng.choices([*EXTENSION], [*EXTENSION.values()], k=more),
        strict=True,
    )
    rng.shuffle(pairs)
    return [Fate(number, *pair) for number, pair in enumerate(pairs)]


def problem_with(fate: Fate, told: Told) -> str:
    """Return why what the invoker was told is not right; empty if it is."""
    if _is_right(fate, told):
        return ""
    return f"{fate} was told {told.error!r} {told.payload[:200]!r}"


def inherited(told: Told) -> bool:
    """Tell whether an invocation failed by what had happened to its environment before it."""
    return any(f"exit status {status}".encode() in told.payload for status in (PERISHED, UNBORN))


def _is_right(fate: Fate, told: Told) -> bool:
    if fate.runtime in _ANSWERS and told == Told("", fate.answer):
        return True
    if fate.runtime == "error" and told == Told("Unhandled", fate.error):
        return True
    if told.error != "Unhandled":
        return False
    failure = json.loads(told.payload)
    found = failure.get("errorType"), failure.get("errorMessage", "")
    wanted = _FAILURES.get(fate.runtime), _EXTENSION_FAILURES.get(fate.extension)
    return any(found[0] == each[0] and each[1] in found[1] for each in wanted if each)
