"""
A world of virtual time around one lifecycle machine: processes, connections, deadlines, and whoever invokes.

Everything is drawn from one generator of chance, so a seed is a whole life. A *fault* makes the Nth order of
the machine go wrong, once or from then on for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

from remora.lifecycle import messages as m
from remora.lifecycle.machine import Machine
from remora.lifecycle.state import Budgets
from remora.testing.actors import Process, Temper, pick, work_us
from remora.testing.referee import Referee
from remora.testing.replay import Call, script

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.testing.actors import Continuation, Rng

BUDGETS = Budgets()
STOP_US_MAX = BUDGETS.external_us + BUDGETS.confirm_us
"""How long an environment may take, from the order to stop, until it is closed."""


class RuleBrokenError(AssertionError):
    """A rule was broken; the message ends with a script that shows it without the simulation."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The machine's order number `first` (from 1) goes wrong; with `is_lasting` all later ones, too."""

    first: int
    is_lasting: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """
    What is to happen in one life.

    Args:
        names: External extensions.
        invocations: How many invocations are given before the environment is stopped.
        temper: How its processes behave.
        stop_at_us: When it is stopped whatever it does, microseconds; 0 for never.
        is_lazy: True if there is no init ahead of the first invocation.
        is_for_snapshot: True if it is held when it is initialised, and restored some time later.
    """

    names: tuple[str, ...]
    invocations: int
    temper: Temper
    stop_at_us: int = 0
    is_lazy: bool = False
    is_for_snapshot: bool = False


def draw_scenario(rng: Rng) -> Scenario:
    """Draw a scenario: mostly few extensions and good behaviour, sometimes anything."""
    size = pick(rng, (0, 0, 1, 1, 1, 2, 2, 3, 3, 9, 10, 11))
    return Scenario(
        names=tuple(f"e{number}" for number in range(size)),
        invocations=int(rng.random() * 30),
        temper=Temper(pick(rng, (0.0, 0.01, 0.03, 0.2)), pick(rng, (1_000, 100_000, 4_000_000))),
        stop_at_us=int(rng.random() * 20_000_000) if rng.random() < 0.2 else 0,
        is_lazy=(kind := rng.random()) < 0.1,
        is_for_snapshot=kind > 0.8,
    )


class World:
    """
    One life of one environment.

    Args:
        scenario: What is to happen.
        rng: Where chance comes from.
        fault: What goes wrong on the platform's side, if anything.
    """

    def __init__(self, scenario: Scenario, rng: Rng, fault: Fault | None = None) -> None:
        self.rng = rng
        self.temper = scenario.temper
        self.names = scenario.names
        self.is_for_snapshot = scenario.is_for_snapshot
        self.request_id = ""
        self.identifiers: list[str] = []
        self.steps = 0
        self.orders = 0
        self.completed = 0
        self._scenario = scenario
        self._fault = fault
        self._machine = Machine(scenario.names, BUDGETS, is_for_snapshot=scenario.is_for_snapshot)
        self._referee = Referee(self._machine)
        self._log: list[tuple[int, m.Event]] = []
        self._now_us = 0
        self._agenda: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count(1)
        self._call_numbers = count()
        self._processes: dict[str, Process] = {}
        self._makers: dict[Call, Process] = {}
        self._deadlines: dict[m.Timer, int] = {}
        self._given = 0
        self._stopped_us = -1
        self._is_lost = False
        self._performers: dict[type, Callable[[Any], None]] = {
            m.StartProcess: self._start,
            m.Signal: self._signal,
            m.KillAll: self._kill_all,
            m.SetTimer: self._set_timer,
            m.CancelTimer: self._cancel_timer,
            m.Accept: self._answer,
            m.Refuse: self._answer,
            m.AnswerRegistered: self._answer,
            m.AnswerRestored: self._answer,
            m.AnswerInvocation: self._answer,
            m.AnswerInvoke: self._answer,
            m.AnswerShutdown: self._answer,
            m.Complete: self._complete,
            m.Available: self._available,
            m.SnapshotReady: self._snapshot_ready,
        }

    def run(self) -> None:
        """
        Live until nothing is left to happen.

        Raises:
            RuleBrokenError: If a rule was broken on the way, or the environment did not end.
        """
        if self._scenario.stop_at_us:
            self.later(self._scenario.stop_at_us, self._stop)
        try:
            if self._scenario.is_lazy:
                self._offer()
            else:
                self._feed(m.Initialise())
            while self._agenda:
                self._now_us, _, act, args = heappop(self._agenda)
                act(*args)
            assert self._referee.is_closed, f"nothing happens any more, and yet: {self._machine!r}"
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            replay = script(self.names, self._log, is_for_snapshot=self.is_for_snapshot)
            raise RuleBrokenError(f"{error or repr(error)}\n\n{replay}") from error

    # --- what actors can do (actors.Stage) ----------------------------------------------------------------

    def later(self, delay_us: int, act: Callable[..., None], *args: Any) -> None:
        """Call `act(*args)` when `delay_us` microseconds have passed."""
        heappush(self._agenda, (self._now_us + delay_us, next(self._numbers), act, args))

    def ask(self, process: Process, make: Callable[[Call], m.Event], then: Continuation) -> Call:
        """Make a call; `then` gets the answer, if the process lives to see it."""
        call = Call(next(self._call_numbers), process.name)
        if not process.is_dead:
            process.calls[call] = then
            self._makers[call] = process
            self._feed(make(call))
        return call

    def end_body(self, call: Call, transfer: m.Transfer) -> None:
        """End the body of a response or error, if it has not been refused yet."""
        if self._machine.state.generation.runtime.posting is call and call in self._makers:
            self._feed(m.BodyEnded(call, transfer))

    def drop(self, process: Process) -> bool:
        """Drop the connection of the process's oldest open call; False if there is none."""
        for call in process.calls:
            self._drop(call)
            return True
        return False

    def exit(self, process: Process, text: str) -> None:
        """End a process: its connections are cut before or after its end becomes known."""
        if process.is_dead:
            return
        is_cut_before = self.rng.random() < 0.5
        if not process.is_alive:
            self._launch(process)
        process.is_alive = False
        process.is_dead = True
        if is_cut_before:
            self._drop_all(process)
        else:
            self.later(int(self.rng.random() * 3_000), self._drop_all, process)
        self._feed(m.ProcessExited(process.name, text, text == "exit status 0"))

    def new_identifier(self) -> str:
        """Return an identifier for an extension that registers."""
        identifier = f"id{len(self.identifiers)}"
        self.identifiers.append(identifier)
        return identifier

    # --- time, and telling the machine --------------------------------------------------------------------

    def _feed(self, event: m.Event) -> None:
        self.steps += 1
        self._log.append((self._now_us, event))
        referee = self._referee
        referee.see_event(event, self._now_us)
        effects = self._machine.handle(event, self._now_us)
        referee.see_effects(effects)
        for effect in effects:
            self.orders += 1
            if self._fault is not None and self._is_faulty():
                self._perform_badly(effect)
                continue
            perform = self._performers.get(type(effect))
            if perform is not None:
                perform(effect)
        if referee.is_closed and self._stopped_us >= 0:
            took_us = self._now_us - self._stopped_us
            assert took_us <= STOP_US_MAX, f"stopping took {took_us} us"
            self._stopped_us = -1

    def _is_faulty(self) -> bool:
        fault = self._fault
        assert fault is not None, "no fault was planned"
        return self.orders == fault.first or (fault.is_lasting and self.orders > fault.first)

    def _perform_badly(self, effect: m.Effect) -> None:
        kind = type(effect)
        if isinstance(effect, m.StartProcess):
            self.later(100, self._feed, m.ProcessFailed(effect.process, "no such file", "UnknownError"))
        elif isinstance(effect, m.SetTimer):
            self._set_timer(effect)
            if effect.at_us - self._now_us > 1_000:  # it comes early, too
                early_us = (effect.at_us + self._now_us) // 2
                self.later(early_us - self._now_us, self._deadline, effect.timer, early_us)
        elif isinstance(effect, m.CancelTimer | m.Signal | m.KillAll):
            pass  # the order is lost
        elif call := getattr(effect, "call", None):
            self._cut(call)
        else:
            perform = self._performers.get(kind)
            if perform is not None:
                perform(effect)
            self.later(0, self._lose)

    def _cut(self, call: Call) -> None:
        """Lose an answer with its connection; whoever made the call gives up or goes on without."""
        process = self._makers.pop(call, None)
        if process is None:
            return
        del process.calls[call]
        self.later(100, self._feed, m.CallDropped(call))
        if self.rng.random() < 0.5:
            self.later(200, self.exit, process, "exit status 1")

    def _lose(self) -> None:
        """The sandbox breaks down: all exits are reported first."""
        if self._referee.is_closed:
            return
        self._is_lost = True
        self._end_all()
        self._feed(m.SandboxLost("pid 1 ended"))

    # --- orders of the machine ----------------------------------------------------------------------------

    def _start(self, order: m.StartProcess) -> None:
        if self._is_lost:
            return
        process = self._processes[order.process] = Process(order.process, self)
        if self.rng.random() < self.temper.mischief / 8:
            process.is_dead = True
            failed = m.ProcessFailed(order.process, "permission denied", "PermissionDenied")
            self.later(300, self._feed, failed)
        else:
            self.later(500, self._launch, process)

    def _launch(self, process: Process) -> None:
        if not process.is_alive and not process.is_dead:
            process.is_alive = True
            self._feed(m.ProcessStarted(process.name))
            if not process.is_dead:
                process.begin()

    def _signal(self, order: m.Signal) -> None:
        process = self._processes.get(order.process)
        if process is None:
            return  # the dead are passed over in silence
        if order.number == 9:
            self.later(200, self.exit, process, "signal: killed")
        else:
            process.take_term()

    def _kill_all(self, _: m.KillAll) -> None:
        if self._is_lost:
            return
        self.later(int(self.rng.random() * 2_000), self._killed_all)

    def _killed_all(self) -> None:
        self._end_all()
        self._feed(m.Emptied())

    def _end_all(self) -> None:
        for process in tuple(self._processes.values()):
            self.exit(process, "signal: killed")
        self._processes.clear()

    def _set_timer(self, order: m.SetTimer) -> None:
        self._deadlines[order.timer] = order.at_us
        self.later(max(0, order.at_us - self._now_us), self._deadline, order.timer, order.at_us)

    def _deadline(self, timer: m.Timer, at_us: int) -> None:
        due_us = self._deadlines.get(timer)
        if due_us is not None and at_us <= due_us:
            del self._deadlines[timer]
            self._feed(m.DeadlineReached(timer))

    def _cancel_timer(self, order: m.CancelTimer) -> None:
        del self._deadlines[order.timer]

    def _answer(self, answer: Any) -> None:
        process = self._makers.pop(answer.call, None)
        if process is not None:
            then = process.calls.pop(answer.call)
            self.later(50, self._arrive, process, then, answer)

    def _arrive(self, process: Process, then: Continuation, answer: object) -> None:
        if process.is_alive:
            then(answer)

    def _drop(self, call: Call) -> None:
        process = self._makers.pop(call, None)
        if process is None:
            return
        del process.calls[call]
        if self._machine.state.generation.runtime.posting is call:
            self._feed(m.BodyEnded(call, m.Transfer.TRUNCATED))
        self._feed(m.CallDropped(call))

    def _drop_all(self, process: Process) -> None:
        for call in tuple(process.calls):
            self._drop(call)

    # --- whoever owns the environment ---------------------------------------------------------------------

    def _complete(self, _: m.Complete) -> None:
        self.completed += 1

    def _available(self, _: m.Available) -> None:
        self._offer()

    def _snapshot_ready(self, _: m.SnapshotReady) -> None:
        is_discarded = self.rng.random() < self.temper.mischief
        self.later(work_us(self), self._stop if is_discarded else self._restore)

    def _restore(self) -> None:
        if self._referee.is_held:
            self._feed(m.Restore(loading_us=int(self.rng.random() * 50_000)))

    def _offer(self) -> None:
        is_enough = self._given >= self._scenario.invocations
        self.later(work_us(self), self._stop if is_enough else self._invoke)

    def _invoke(self) -> None:
        if self._stopped_us < 0 and not self._referee.is_closed:
            self._given += 1
            self.request_id = f"r{self._given}"
            self._feed(m.Invoke(self.request_id, pick(self.rng, (1_000_000, 3_000_000))))

    def _stop(self) -> None:
        if self._stopped_us < 0 and not self._referee.is_closed:
            self._stopped_us = self._now_us
            self._feed(m.Stop(m.Reason.SPINDOWN))
