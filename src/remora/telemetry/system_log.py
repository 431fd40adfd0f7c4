"""
The platform's own lines in a log of format JSON: platform events at and above the chosen level.

Source: logs-metrics-billing specification, sections 2.1 and 2.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from remora.telemetry.facts import rfc3339

if TYPE_CHECKING:
    from remora.lifecycle.messages import Happened
    from remora.telemetry.facts import Fact, Teller, TellerState

_LEVELS: Final = ("DEBUG", "INFO", "WARN")
_STARTS: Final = ("platform.initStart", "platform.restoreStart")
_DEBUG_UNLESS_FAILED: Final = (
    "platform.initRuntimeDone",
    "platform.restoreRuntimeDone",
    "platform.runtimeDone",
)
_NOT_LOGGED: Final = ("platform.end", "platform.fault")

_encode = msgspec.json.Encoder().encode


def level_of(fact: Fact) -> str:
    """Return the level at which a platform event is logged."""
    record: dict[str, Any] = fact.record if isinstance(fact.record, dict) else {}
    if record.get("status", "success") != "success":
        return "WARN"
    if fact.type == "platform.extension":
        return "INFO" if record["state"] == "Ready" else "WARN"
    if fact.type in _STARTS:
        return "INFO" if "runtimeVersion" in record else "DEBUG"
    if fact.type == "platform.initReport":
        return "DEBUG" if record["initializationType"] == "on-demand" else "INFO"
    return "DEBUG" if fact.type in _DEBUG_UNLESS_FAILED else "INFO"


def write_record(name: str, time_ms: int, record: object) -> str:
    """Return the line of a platform event."""
    return _encode({"time": rfc3339(time_ms), "type": name, "record": record}).decode()


class SystemLog:
    """
    What happened in one environment, as lines of its log.

    Args:
        teller: Words the events; it must hold none back.
        level: The lowest level that is logged: DEBUG, INFO or WARN.
    """

    def __init__(self, teller: Teller, level: str) -> None:
        self._teller = teller
        self._logged = _LEVELS[_LEVELS.index(level) :]

    def invoked(self, trace_id: str) -> None:
        """An invocation follows, with this trace header, or none."""
        self._teller.trace_id = trace_id

    def moved(self, stream: str) -> None:
        """The environment goes on in another log stream."""
        self._teller.moved(stream)

    def state(self) -> TellerState:
        """Return what it knows after an init."""
        return self._teller.state()

    def adopt(self, state: TellerState, now_us: int) -> None:
        """Know what another one knew."""
        self._teller.adopt(state, now_us)

    def is_logged(self, level: str) -> bool:
        """Tell whether records of that level are in the log group."""
        return level in self._logged

    def lines(self, happened: Happened, now_ms: int, memory_peak_mib: int) -> list[tuple[str, bool]]:
        """
        Return the lines that something causes, and whether each is logged: a tail has all of them.

        Arguments as those of `Teller.tell`.
        """
        return [
            (write_record(fact.type, fact.time_ms, fact.record), self.is_logged(level_of(fact)))
            for fact in self._teller.tell(happened, now_ms, memory_peak_mib)
            if fact.type not in _NOT_LOGGED
        ]
