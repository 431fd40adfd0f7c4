"""Tells a lifecycle machine a story, event by event, and keeps what it ordered: for tests of single cases."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, TypeVar

from remora.lifecycle import messages as m
from remora.lifecycle.machine import Machine
from remora.testing.replay import Call

if TYPE_CHECKING:
    from remora.lifecycle.parties import Extension
    from remora.lifecycle.state import Budgets

_Effect = TypeVar("_Effect")

MS = 1_000
"""Microseconds in a millisecond."""


class Story:
    """
    A machine, a clock, and what was ordered so far.

    Args:
        names: The files in /opt/extensions.
        budgets: Time limits.
        is_for_snapshot: True if the environment is made for a snapshot.
    """

    def __init__(self, *names: str, budgets: Budgets | None = None, is_for_snapshot: bool = False) -> None:
        self.machine = Machine(names, budgets, is_for_snapshot=is_for_snapshot)
        self.now_us = 0
        self.last: list[m.Effect] = []
        """What the last event caused."""
        self.all: list[m.Effect] = []
        """What all events so far caused."""
        self._numbers = count()

    def tell(self, event: m.Event, *, after_us: int = MS) -> list[m.Effect]:
        """Tell the machine an event that happened `after_us` microseconds after the one before."""
        self.now_us += after_us
        self.last = self.machine.handle(event, self.now_us)
        self.all += self.last
        return self.last

    def call(self) -> Call:
        """Return a new call."""
        return Call(next(self._numbers))

    def ordered(self, kind: type[_Effect]) -> list[_Effect]:
        """Return what the last event caused, of one kind of effect."""
        return [effect for effect in self.last if isinstance(effect, kind)]

    def ever(self, kind: type[_Effect]) -> list[_Effect]:
        """Return what all events so far caused, of one kind of effect."""
        return [effect for effect in self.all if isinstance(effect, kind)]

    def happened(self, kind: m.Kind) -> list[m.Happened]:
        """Return what was told of one kind, since the beginning."""
        return [effect for effect in self.ever(m.Happened) if effect.kind is kind]

    def refusal(self) -> tuple[int, str, str]:
        """Return status, error type and message of the one refusal that the last event caused."""
        (refusal,) = self.ordered(m.Refuse)
        return refusal.status, refusal.error_type, refusal.message

    def extension(self, name: str) -> Extension:
        """Return an extension of the present generation."""
        generation = self.machine.state.generation
        return generation.externals.get(name) or generation.internals[name]

    # --- longer passages ----------------------------------------------------------------------------------

    def starts(self, process: str) -> None:
        """A process that was ordered runs."""
        self.tell(m.ProcessStarted(process))

    def exits(self, process: str, text: str = "exit status 1") -> None:
        """A process ends."""
        self.tell(m.ProcessExited(process, text, text == "exit status 0"))

    def deadline(self, timer: m.Timer) -> None:
        """A deadline comes, at its moment."""
        at_us = self.machine.state.timers[timer]
        self.tell(m.DeadlineReached(timer), after_us=at_us - self.now_us)

    def registers(self, name: str, *events: str) -> Call:
        """An extension registers; its identifier is `id-<name>`."""
        call = self.call()
        self.tell(m.Register(call, name, events, f"id-{name}"))
        return call

    def extension_next(self, name: str) -> Call:
        """An extension calls next."""
        call = self.call()
        self.tell(m.ExtensionNext(call, f"id-{name}"))
        return call

    def extension_error(self, name: str, error_type: str = "Extension.Foo", *, is_exit: bool = False) -> Call:
        """An extension posts init/error or exit/error."""
        call = self.call()
        self.tell(m.ExtensionError(call, f"id-{name}", is_exit, error_type))
        return call

    def runtime_next(self) -> Call:
        """The runtime calls next."""
        call = self.call()
        self.tell(m.RuntimeNext(call))
        return call

    def restore_next(self) -> Call:
        """The runtime calls restore/next."""
        call = self.call()
        self.tell(m.RestoreNext(call))
        return call

    def restores(self, loading_us: int = 0) -> None:
        """The environment shall go on after its snapshot."""
        self.tell(m.Restore(loading_us))

    def posts_restore_error(self, error_type: str = "Runtime.AfterRestoreError") -> Call:
        """The runtime posts a restore error."""
        call = self.call()
        self.tell(m.RestoreError(call, error_type))
        return call

    def begins_response(self, request_id: str = "r1", *, is_mode_valid: bool = True) -> Call:
        """The runtime begins a response."""
        call = self.call()
        self.tell(m.ResponseBegan(call, request_id, is_mode_valid))
        return call

    def responds(self, request_id: str = "r1") -> Call:
        """The runtime posts a complete response."""
        call = self.begins_response(request_id)
        self.tell(m.BodyEnded(call, m.Transfer.COMPLETE))
        return call

    def posts_error(self, request_id: str = "r1", error_type: str = "Function.Oops") -> Call:
        """The runtime posts a complete error."""
        call = self.call()
        self.tell(m.ErrorBegan(call, request_id, error_type))
        self.tell(m.BodyEnded(call, m.Transfer.COMPLETE))
        return call

    def posts_init_error(self, error_type: str = "Runtime.ImportModuleError") -> Call:
        """The runtime posts an init error."""
        call = self.call()
        self.tell(m.InitError(call, error_type))
        return call

    def starts_extensions(self, *events: str) -> None:
        """All external extensions start and register for `events`."""
        for name in self.machine.state.names:
            self.starts(m.extension_process(name))
        for name in self.machine.state.names:
            self.registers(name, *events)

    def initialises(self, *events: str) -> None:
        """Everything goes well until the environment is idle; externals register for `events`."""
        self.tell(m.Initialise(), after_us=0)
        self.finishes_init(*events)
        if self.machine.state.is_for_snapshot:
            self.restores()

    def is_held(self, *events: str) -> Call:
        """Everything goes well until the snapshot can be taken; return the runtime's restore/next."""
        self.tell(m.Initialise(), after_us=0)
        self.starts_extensions(*events)
        self.starts(m.RUNTIME_PROCESS)
        for name in self.machine.state.names:
            self.extension_next(name)
        return self.restore_next()

    def finishes_init(self, *events: str) -> None:
        """Everything goes well from the start of an init on."""
        self.starts_extensions(*events)
        self.starts(m.RUNTIME_PROCESS)
        for name in self.machine.state.names:
            self.extension_next(name)
        self.runtime_next()

    def invokes(self, request_id: str = "r1", timeout_ms: int = 3_000) -> None:
        """An invocation is given."""
        self.tell(m.Invoke(request_id, timeout_ms * MS))

    def stops(self, reason: m.Reason = m.Reason.SPINDOWN) -> None:
        """The environment shall end."""
        self.tell(m.Stop(reason))
