"""
Restore: an environment that is held initialised for its snapshot is let go on, until the runtime is at next.

What a snapshot is, and whether the processes that go on are the ones that were held or copies of them, is
none of the machine's business: it says when everybody inside has nothing to do, and goes on when it is told
to. A failure is not made good inside: the environment ends, the next one comes from the snapshot (ADR-0010).

Source: snapstart specification, sections 4 to 6; lifecycle specification, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.lifecycle import invoke
from remora.lifecycle.messages import AnswerRestored, Kind, SnapshotReady, Thaw, Timer
from remora.lifecycle.tables import Phase, RuntimeMove, RuntimeState

if TYPE_CHECKING:
    from remora.lifecycle.messages import Restore
    from remora.lifecycle.state import State


def hold(s: State) -> None:
    """Everybody is initialised and waits; so it stays until a restore, or the end."""
    s.enter(Phase.SNAPSHOT_READY)
    s.effects.append(SnapshotReady())


def on_restore(s: State, event: Restore) -> None:
    """
    Let the runtime go on; its extensions stay at next, and hear nothing.

    "If the runtime is not in RestoreReady (it never called restore/next): Restore is complete at once."
    """
    assert s.phase is Phase.SNAPSHOT_READY, f"restore ordered while {s.phase.value}"
    runtime = s.generation.runtime
    s.restore_began_us = s.now_us - event.loading_us
    s.enter(Phase.RESTORING)
    s.effects.append(Thaw())
    s.happened(Kind.RESTORE_STARTED)
    if runtime.state is not RuntimeState.RESTORE_READY:
        succeed(s, runtime_us=0)
        return
    s.restore_released_us = s.now_us
    s.set_timer(Timer.RESTORE, s.restore_began_us + s.budgets.restore_us)
    runtime.move(RuntimeMove.RESTORE)
    for call in runtime.parked:
        s.effects.append(AnswerRestored(call))
    runtime.parked.clear()


def on_runtime_next(s: State) -> None:
    """The runtime has called invocation/next after its after-restore hooks."""
    if s.phase is Phase.RESTORING:
        succeed(s, runtime_us=s.now_us - s.restore_released_us)


def succeed(s: State, *, runtime_us: int) -> None:
    """Offer the environment for its first invocation, which is billed for the runtime's share."""
    s.unbilled_restore_us = s.now_us - s.restore_began_us
    s.unbilled_restore_runtime_us = runtime_us
    end(s, "success")
    invoke.become_idle(s)


def end(s: State, status: str, error_type: str = "") -> None:
    """Report the restore as a whole; the phase must change now."""
    s.cancel_timer(Timer.RESTORE)
    s.happened(
        Kind.RESTORE_ENDED,
        detail=status,
        error_type=error_type,
        duration_us=s.now_us - s.restore_began_us,
    )
