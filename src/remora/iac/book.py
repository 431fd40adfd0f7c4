"""
What is written down about a stack: each step with its event, in one change.

A deployment can be taken up from its records alone, so nothing is done before it is written down that it is
about to be done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from remora.iac.rules import masked
from remora.resources.stacks import STACK_TYPE, StackEvent
from remora.resources.view import Change, View

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from remora.control.context import Control
    from remora.resources.stacks import Stack, StackResource

Decision = "Callable[[View, Stack], tuple[Stack, list[Change]]]"

_REASON_CHARACTERS_MAX: Final = 4096


class Happened(NamedTuple):
    """What an event tells."""

    logical_id: str
    physical_id: str
    type: str
    status: str
    reason: str = ""
    properties: Mapping[str, Any] = {}


class Book:
    """
    The records of one stack.

    Args:
        control: The node's parts.
        stack_id: Which stack.
    """

    def __init__(self, control: Control, stack_id: str) -> None:
        self.control = control
        self.stack_id = stack_id

    def __repr__(self) -> str:
        return f"<Book {self.stack.name} {self.stack.status}>"

    @property
    def stack(self) -> Stack:
        """The stack."""
        return self.control.state.view.stacks[self.stack_id]

    @property
    def resources(self) -> dict[str, StackResource]:
        """Its resources that are there, by logical identifier."""
        known = self.control.state.view.stack_resources.get(self.stack_id, {})
        return {name: resource for name, resource in known.items() if resource.is_alive}

    async def put(self, resource: StackResource) -> None:
        """Keep a resource as it is now, and an event that says so."""
        happened = Happened(
            resource.logical_id,
            resource.body.physical_id,
            resource.type,
            resource.status,
            resource.reason,
            resource.body.properties,
        )
        await self.control.state.change(
            lambda view: (None, [change_of(resource), self._event(view, happened)])
        )

    async def keep(self, resource: StackResource) -> None:
        """Keep a resource as it is now; nothing happened to it that anybody wants to hear of."""
        await self.control.state.change(lambda _: (None, [change_of(resource)]))

    async def keep_stack(self, **changes: Any) -> None:
        """Change members of the stack; nothing happened that anybody wants to hear of."""

        def decide(view: View) -> tuple[None, list[Change]]:
            return None, [Change("stack", self.stack_id, replace(view.stacks[self.stack_id], **changes))]

        await self.control.state.change(decide)

    async def note(self, happened: Happened, **changes: Any) -> None:
        """
        Keep an event about something that has no record any more.

        Args:
            happened: What it tells.
            **changes: Members of the stack that change with it.
        """

        def decide(view: View) -> tuple[None, list[Change]]:
            stack = replace(view.stacks[self.stack_id], **changes)
            return None, [self._event(view, happened), Change("stack", self.stack_id, stack)]

        await self.control.state.change(decide)

    async def become(
        self,
        status: str,
        reason: str = "",
        *,
        decide: Callable[[View, Stack], tuple[Stack, list[Change]]] | None = None,
        **changes: Any,
    ) -> None:
        """
        Give the stack another status, and keep the event.

        Args:
            status: The status.
            reason: Why.
            decide: Says what else changes in the same step; it may raise, then nothing has changed.
            **changes: Members of the stack that change, too.
        """

        def step(view: View) -> tuple[None, list[Change]]:
            stack = replace(view.stacks[self.stack_id], status=status, reason=reason, **changes)
            more: list[Change] = []
            if decide is not None:
                stack, more = decide(view, stack)
            return None, self.changes_of(view, stack, more)

        await self.control.state.change(step)

    def changes_of(self, view: View, stack: Stack, more: Sequence[Change] = ()) -> list[Change]:
        """Return the changes that keep a stack in another status, with its event."""
        happened = Happened(stack.name, stack.stack_id, STACK_TYPE, stack.status, stack.reason)
        event = self._event(view, happened, stack.client_token)
        changes = [*more, *_outcome(view, stack), Change("stack", stack.stack_id, stack), event]
        return [*changes, *unused_templates(view, changes)]

    def _event(self, view: View, happened: Happened, token: str | None = None) -> Change:
        if token is None:
            token = view.stacks[self.stack_id].client_token
        events = view.stack_events.get(self.stack_id, {})
        last = max(events, default=0)
        moment = self.control.clock.wall_ms()
        if last:  # clients sort by time, and take what is not later than what they have seen for seen
            moment = max(moment, events[last].wall_ms + 1)
        is_stack = happened.type == STACK_TYPE and happened.physical_id == self.stack_id
        unique = self.control.new_id()
        shown = masked(happened.properties, view.stacks[self.stack_id].wanted) if happened.properties else {}
        event = StackEvent(
            event_id=unique if is_stack else f"{happened.logical_id}-{unique}",
            logical_id=happened.logical_id,
            physical_id=happened.physical_id,
            type=happened.type,
            status=happened.status,
            wall_ms=moment,
            reason=happened.reason[:_REASON_CHARACTERS_MAX],
            properties=msgspec.json.encode(shown).decode() if shown else "",
            client_token=token,
        )
        return Change("stack-event", f"{self.stack_id}:{last + 1}", event)


def change_of(resource: StackResource) -> Change:
    """Return the change that keeps a resource."""
    return Change("stack-resource", f"{resource.stack_id}:{resource.logical_id}", resource)


def _outcome(view: View, stack: Stack) -> list[Change]:
    """Return the outcome of the change set that is being executed, if that ends with this status."""
    change_set = view.change_sets.get(stack.change_set_id)
    if stack.is_busy or change_set is None or change_set.execution_status != "EXECUTE_IN_PROGRESS":
        return []
    is_well = stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    status = "EXECUTE_COMPLETE" if is_well else "EXECUTE_FAILED"
    return [Change("change-set", change_set.change_set_id, replace(change_set, execution_status=status))]


def unused_templates(view: View, changes: Sequence[Change]) -> list[Change]:
    """Return the deletion of the templates that nothing refers to once the changes have been made."""
    stacks, sets = dict(view.stacks), dict(view.change_sets)
    added = {key for kind, key, _ in changes if kind == "template"}
    tables: dict[str, dict[str, Any]] = {"stack": stacks, "change-set": sets}
    for kind, key, record in changes:
        table = tables.get(kind, {})
        if record is None:
            table.pop(key, None)
        else:
            table[key] = record
    wanted = [stack.wanted for stack in stacks.values()]
    wanted += [stack.former for stack in stacks.values() if stack.former is not None]
    wanted += [each.wanted for each in sets.values()]
    used = added.union(*((each.template, each.processed) for each in wanted))
    return [Change("template", digest, None) for digest in view.templates if digest not in used]
