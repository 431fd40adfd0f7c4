"""
The people of the simulation: runtimes and extensions that do their work, more or less.

What an actor does next it does properly most of the time; else it crashes, exits, hangs, calls what it should
not, calls twice, or drops a connection, as often as its `Temper` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from remora.lifecycle import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from remora.testing.replay import Call

    Continuation = Callable[[Any], None]


class Rng(Protocol):
    """Where chance comes from; `random.Random` is one."""

    def random(self) -> float:
        """Return a number, 0 <= number < 1."""


@dataclass(frozen=True, slots=True)
class Temper:
    """
    How actors behave.

    Args:
        mischief: How often an actor does something else than it should, 0 to 1.
        slowness_us: How long a piece of work takes at most, microseconds; most take far less.
    """

    mischief: float
    slowness_us: int


class Stage(Protocol):
    """What an actor can do to the world."""

    rng: Rng
    temper: Temper
    request_id: str
    names: tuple[str, ...]
    identifiers: list[str]
    is_for_snapshot: bool

    def later(self, delay_us: int, act: Callable[..., None], *args: Any) -> None:
        """Call `act(*args)` when `delay_us` microseconds have passed."""

    def ask(self, process: Process, make: Callable[[Call], m.Event], then: Continuation) -> Call:
        """Make a call; `then` gets the answer, if the process lives to see it."""

    def end_body(self, call: Call, transfer: m.Transfer) -> None:
        """End the body of a response or error, if it has not been refused yet."""

    def drop(self, process: Process) -> bool:
        """Drop the connection of the process's oldest open call; False if there is none."""

    def exit(self, process: Process, text: str) -> None:
        """End a process; `exit status 0` is a clean end."""

    def new_identifier(self) -> str:
        """Return an identifier for an extension that registers."""


class Process:
    """
    One process inside.

    Args:
        name: The name it was ordered by.
        stage: The world.
    """

    __slots__ = ("calls", "is_alive", "is_dead", "name", "stage")

    def __init__(self, name: str, stage: Stage) -> None:
        self.name = name
        self.stage = stage
        self.is_alive = False
        self.is_dead = False
        self.calls: dict[Call, Continuation] = {}

    def begin(self) -> None:
        """Start working: the process has been executed."""
        self.is_alive = True
        if self.name == m.RUNTIME_PROCESS:
            RuntimeActor(self).begin()
        else:
            ExtensionActor(self, self.name.removeprefix("extension:"), is_external=True).begin()

    def take_term(self) -> None:
        """SIGTERM arrived: most exit, some never do."""
        if self.stage.rng.random() < 0.8:
            self.stage.later(work_us(self.stage), self.stage.exit, self, "exit status 0")


def pick(rng: Rng, options: Sequence[Any]) -> Any:
    """Return one of `options`."""
    return options[int(rng.random() * len(options))]


def work_us(stage: Stage) -> int:
    """Return how long something takes, microseconds: mostly little, sometimes very long."""
    return int(stage.rng.random() ** 6 * stage.temper.slowness_us)


def strays(process: Process) -> bool:
    """Let an actor do something that it should not; True if it will not go on with what it should do."""
    stage = process.stage
    if stage.rng.random() >= stage.temper.mischief:
        return False
    choice = int(stage.rng.random() * 6)
    if choice == 0:
        stage.exit(process, pick(stage.rng, ("exit status 0", "exit status 1", "signal: killed")))
        return True
    if choice == 1:
        return True  # it hangs, or its thread does
    if choice == 2:
        stage.drop(process)
        return False
    for _ in range(1 + int(stage.rng.random() * 3)):
        babble(process)
    return not process.is_alive


def babble(process: Process) -> None:
    """Make some call or other."""
    stage = process.stage
    rng = stage.rng
    identifier = pick(rng, (*stage.identifiers[-3:], "nobody"))
    request_id = pick(rng, (stage.request_id, "another"))
    make = pick(
        rng,
        (
            m.RuntimeNext,
            lambda call: m.ResponseBegan(call, request_id, rng.random() < 0.8),
            lambda call: m.ErrorBegan(call, request_id, "Function.Odd"),
            lambda call: m.InitError(call, "Runtime.Odd"),
            lambda call: m.Register(
                call,
                pick(rng, (*stage.names, "inner", "odd")),
                pick(rng, ((), ("INVOKE",), ("INVOKE", "SHUTDOWN"), ("odd",))),
                stage.new_identifier(),
            ),
            lambda call: m.ExtensionNext(call, identifier),
            lambda call: m.ExtensionError(call, identifier, rng.random() < 0.5, "Extension.Odd"),
        ),
    )
    if stage.is_for_snapshot and rng.random() < 0.2:
        make = pick(rng, (m.RestoreNext, lambda call: m.RestoreError(call, "Runtime.Odd")))
    call = stage.ask(process, make, _ignore)
    stage.later(work_us(stage), stage.end_body, call, _transfer(rng))


def _ignore(_: object) -> None:
    """Do nothing with an answer."""


def _transfer(rng: Rng) -> m.Transfer:
    chance = rng.random()
    if chance < 0.94:
        return m.Transfer.COMPLETE
    return m.Transfer.OVERSIZED if chance < 0.97 else m.Transfer.TRUNCATED


class RuntimeActor:
    """
    A runtime, perhaps with internal extensions.

    Args:
        process: The process it is.
    """

    __slots__ = ("_process", "_stage")

    def __init__(self, process: Process) -> None:
        self._process = process
        self._stage = process.stage

    def begin(self) -> None:
        """Initialise."""
        stage = self._stage
        chance = stage.rng.random()
        if chance < 0.3:
            for number in range(1 + int(stage.rng.random() * 2)):
                ExtensionActor(self._process, f"inner{number}", is_external=False).begin()
        if stage.rng.random() < stage.temper.mischief:
            stage.later(work_us(stage), self._fail_init)
        else:
            waits = stage.is_for_snapshot and stage.rng.random() < 0.9
            stage.later(10_000 + work_us(stage), self._restore_next if waits else self._next)

    def _restore_next(self) -> None:
        if not strays(self._process):
            self._stage.ask(self._process, m.RestoreNext, self._restored)

    def _restored(self, answer: object) -> None:
        """Run the hooks after a restore."""
        stage = self._stage
        if type(answer) is not m.AnswerRestored:
            self._exit(answer)
        elif stage.rng.random() < stage.temper.mischief:
            odd = pick(stage.rng, (m.RestoreError, m.InitError))
            stage.ask(self._process, lambda call: odd(call, "Runtime.Odd"), self._exit)
        else:
            stage.later(work_us(stage), self._next)

    def _fail_init(self) -> None:
        self._stage.ask(self._process, lambda call: m.InitError(call, "Runtime.Odd"), self._exit)

    def _exit(self, _: object) -> None:
        if self._stage.rng.random() < 0.8:
            self._stage.exit(self._process, "exit status 1")

    def _next(self) -> None:
        if not strays(self._process):
            self._stage.ask(self._process, m.RuntimeNext, self._invoked)

    def _invoked(self, answer: object) -> None:
        if type(answer) is m.AnswerInvocation:
            self._stage.later(work_us(self._stage), self._respond)
        else:
            self._exit(answer)

    def _respond(self) -> None:
        if strays(self._process):
            return
        stage, request_id = self._stage, self._stage.request_id
        chance = stage.rng.random()

        def make(call: Call) -> m.Event:
            if chance < 0.9:
                return m.ResponseBegan(call, request_id, chance < 0.87)
            return m.ErrorBegan(call, request_id, "Function.Odd")

        call = stage.ask(self._process, make, self._responded)
        stage.later(int(stage.rng.random() * 500), stage.end_body, call, _transfer(stage.rng))

    def _responded(self, _: object) -> None:
        self._next()


class ExtensionActor:
    """
    An extension.

    Args:
        process: The process it is, or lives in.
        name: Its name.
        is_external: False if it lives in the runtime.
    """

    __slots__ = ("_identifier", "_is_external", "_name", "_process", "_stage")

    def __init__(self, process: Process, name: str, *, is_external: bool) -> None:
        self._process = process
        self._stage = process.stage
        self._name = name
        self._is_external = is_external
        self._identifier = ""

    def begin(self) -> None:
        """Initialise."""
        self._stage.later(int(self._stage.rng.random() * 5_000), self._register)

    def _register(self) -> None:
        if strays(self._process):
            return
        stage = self._stage
        options = ((), ("INVOKE",), ("INVOKE", "SHUTDOWN"), ("SHUTDOWN",))
        events = pick(stage.rng, options if self._is_external else options[:2])
        name = "misspelt" if stage.rng.random() < stage.temper.mischief / 4 else self._name
        identifier = stage.new_identifier()
        stage.ask(self._process, lambda call: m.Register(call, name, events, identifier), self._registered)

    def _registered(self, answer: object) -> None:
        stage = self._stage
        if type(answer) is not m.AnswerRegistered:
            return
        self._identifier = answer.identifier
        if stage.rng.random() < stage.temper.mischief / 2:
            self._give_up(is_exit=False)
        else:
            stage.later(work_us(stage), self._next)

    def _give_up(self, *, is_exit: bool) -> None:
        identifier = self._identifier
        self._stage.ask(
            self._process,
            lambda call: m.ExtensionError(call, identifier, is_exit, "Extension.Odd"),
            self._exit,
        )

    def _exit(self, _: object) -> None:
        chance = self._stage.rng.random()
        if chance < 0.8:
            self._stage.exit(self._process, "exit status 0" if chance < 0.4 else "exit status 1")

    def _next(self) -> None:
        if strays(self._process):
            return
        if self._stage.rng.random() < self._stage.temper.mischief / 4:
            self._give_up(is_exit=True)
            return
        identifier = self._identifier
        self._stage.ask(self._process, lambda call: m.ExtensionNext(call, identifier), self._told)

    def _told(self, answer: object) -> None:
        if type(answer) is m.AnswerInvoke:
            self._stage.later(work_us(self._stage), self._next)
        elif type(answer) is m.AnswerShutdown:
            chance = self._stage.rng.random()
            if chance < 0.85:
                self._stage.later(work_us(self._stage), self._exit, answer)
            elif chance < 0.9:
                self._next()
        elif self._is_external:
            self._exit(answer)
