"""A world of things that stacks are made of, with faults; and a node around it that can be killed."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from remora.control.services.neighbour import ServiceError
from remora.control.state import State
from remora.iac.engine import Engine
from remora.iac.preparing import Prepared, digest_of
from remora.iac.templates.program import OutputPlan, Program, ResourcePlan
from remora.iac.types.base import Made, Property
from remora.resources.names import Place
from remora.resources.stacks import Stack, Wanted
from remora.store.base import Document, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PLACE = Place("us-east-1", "000000000000")
STACK = "arn:aws:cloudformation:us-east-1:000000000000:stack/s/1"


class Killed(BaseException):
    """The node is gone."""


class Memory:
    """A store that outlives its node, which is killed before the n-th commit."""

    def __init__(self, kept: dict[tuple[str, str], bytes] | None = None) -> None:
        self.kept = {} if kept is None else kept
        self.commits = 0
        self.last: int | None = None
        self.refused = range(0)
        """Commits, counted from one, for which there is no room."""
        self.error = StoreError("the disk is full", retryable=True)

    async def load(self) -> list[Document]:
        return [Document(kind, key, content) for (kind, key), content in self.kept.items()]

    async def commit(self, changes: Sequence[Document]) -> None:
        self.commits += 1
        if self.last is not None and self.commits > self.last:
            raise Killed
        if self.commits in self.refused:
            raise self.error
        for change in changes:
            if change.content is None:
                self.kept.pop((change.kind, change.key), None)
            else:
                self.kept[change.kind, change.key] = change.content

    async def close(self) -> None: ...


class Thing:
    """Things have a name, or are given one; their size can be changed, their kind cannot."""

    name_property = "Name"
    name_length_max = 64
    name_is_lower = False
    properties: ClassVar = {
        "Name": Property(replaces=True),
        "Size": Property(),
        "Kind": Property(replaces=True),
        "Of": Property(),
    }
    attributes = frozenset({"Arn"})

    def __init__(self) -> None:
        self.world: dict[str, dict[str, Any]] = {}
        self.fails: set[tuple[str, str]] = set()
        """What fails: `create`, `update` or `delete`, and a logical identifier."""
        self.log: list[str] = []
        self.begun: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        """By what is done to which, `create A`."""
        self.gates: dict[str, asyncio.Event] = {}

    async def _act(self, what: str, context: Any) -> None:
        self.log.append(f"{what} {context.logical_id}")
        self.begun[self.log[-1]].set()
        if (gate := self.gates.get(context.logical_id)) is not None:
            await gate.wait()
        if (what, context.logical_id) in self.fails:
            raise ServiceError("ValidationError", f"no {what}")

    def predicted_id(self, context: Any, properties: Mapping[str, Any]) -> str:
        return context.name

    async def create(self, context: Any, properties: Mapping[str, Any]) -> Made:
        await self._act("create", context)
        if context.name in self.world:
            raise ServiceError("ValidationError", f"{context.name} already exists")
        self.world[context.name] = dict(properties)
        return Made(context.name, {"Arn": f"arn:{context.name}"})

    async def update(
        self, context: Any, physical_id: str, former: Mapping[str, Any], properties: Mapping[str, Any]
    ) -> Made:
        await self._act("update", context)
        self.world[physical_id] = dict(properties)
        return Made(physical_id, {"Arn": f"arn:{physical_id}"})

    async def delete(self, context: Any, physical_id: str, properties: Mapping[str, Any]) -> None:
        await self._act("delete", context)
        self.world.pop(physical_id, None)


def thing(*depends_on: str, policy: str = "Delete", **properties: Any) -> ResourcePlan:
    return ResourcePlan("Test::Thing", properties, frozenset(depends_on), policy, policy, None)


def ref(name: str) -> dict[str, str]:
    return {"Ref": name}


def program(outputs: Mapping[str, Any] | None = None, **resources: ResourcePlan) -> Program:
    shown = {name: OutputPlan(value, "", None) for name, value in (outputs or {}).items()}
    return Program("", resources, shown, tuple(resources))


class World:
    """A node that deploys one stack, again and again."""

    def __init__(self, things: Thing | None = None, store: Memory | None = None) -> None:
        self.things = things or Thing()
        self.store = store or Memory()
        self._numbers = itertools.count(1)
        self._now = itertools.count(1_790_000_000_000)
        self.tasks: list[asyncio.Task[Any]] = []

    async def open(self) -> World:
        self.state = State(self.store)
        await self.state.load()
        number = len(self.store.kept) * 1000
        clock = SimpleNamespace(wall_ms=lambda: next(self._now))
        control = SimpleNamespace(
            state=self.state,
            place=PLACE,
            clock=clock,
            new_id=lambda: f"{number + next(self._numbers):012d}-4000",
            spawn=self._spawn,
        )
        self.engine = Engine(control, {"Test::Thing": self.things}, None)
        return self

    def _spawn(self, work: Any, name: str) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work, name=name))

    async def settle(self) -> None:
        """Wait until nothing goes on; a killed node's tasks are gone."""
        while self.tasks:
            done = await asyncio.gather(*self.tasks, return_exceptions=True)
            del self.tasks[: len(done)]
            for each in done:
                if isinstance(each, BaseException) and not _is_kill(each):
                    raise each

    @property
    def stack(self) -> Stack:
        return self.state.view.stacks[STACK]

    @property
    def resources(self) -> dict[str, Any]:
        known = self.state.view.stack_resources.get(STACK, {})
        return {name: each for name, each in known.items() if each.is_alive}

    def events(self) -> list[tuple[str, str]]:
        events = self.state.view.stack_events[STACK]
        return [(events[number].logical_id, events[number].status) for number in sorted(events)]

    async def create(self, wanted: Program, **members: Any) -> None:
        stack = Stack(
            stack_id=STACK, name="s", status="CREATE_IN_PROGRESS", created_ms=1, wanted=_wanted(1), **members
        )
        await self.engine.create(stack, Prepared(_wanted(1), {digest_of("1"): "1"}, wanted))
        await self.settle()

    async def update(self, wanted: Program, **members: Any) -> None:
        await self.engine.update(STACK, Prepared(_wanted(2), {digest_of("2"): "2"}, wanted), **members)
        await self.settle()

    async def delete(self, *retained: str) -> None:
        await self.engine.delete("s", retained, None, "")
        await self.settle()

    def check(self) -> None:
        """Every resource is there, and nothing else that was made for the stack."""
        bodies = {
            each.body.physical_id: each.body for each in self.resources.values() if each.body.physical_id
        }
        assert self.things.world == {name: body.properties for name, body in bodies.items()}
        assert not self.stack.leaving
        assert not self.stack.is_busy
        view = self.state.view
        wanted = [self.stack.wanted.template] if not self.stack.is_deleted else list(view.templates)
        assert set(view.templates) <= set(wanted)


def _wanted(number: int) -> Wanted:
    digest = digest_of(str(number))
    return Wanted(template=digest, processed=digest)


def _is_kill(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_kill(each) for each in error.exceptions)
    return isinstance(error, Killed | asyncio.CancelledError | StoreError)
