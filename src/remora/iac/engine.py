"""
Begins operations on stacks, one at a time on each, and takes up what a former process left.

Whether an operation may begin is decided in the same step that writes down that it has begun.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from remora.control.services.neighbour import ServiceError
from remora.iac.book import Book, unused_templates
from remora.iac.deployment import CANCELLED, Deployment
from remora.iac.stacks import check_updatable, existing, find, invalid
from remora.iac.steps import Steps
from remora.resources.stacks import REVIEW, Stack, TemplateText
from remora.resources.view import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from remora.control.context import Control
    from remora.iac.calls import Calls
    from remora.iac.preparing import Prepared
    from remora.iac.types.base import ResourceType
    from remora.resources.stacks import Actor
    from remora.resources.view import View

USER: Final = "User Initiated"
_PATIENCE_S: Final = 3
"""
How long a reply waits for the end of what was asked for: clients that find a stack unfinished at their first
look sleep for half a minute before the next one.
"""
_DELETED_MAX: Final = 50
"""How many stacks that were deleted are remembered."""

_log = logging.getLogger("remora.iac")


class Engine:
    """
    Performs operations on stacks in the background.

    Args:
        control: The node's parts.
        types: What resources there can be.
        calls: The node's own services.
    """

    def __init__(self, control: Control, types: Mapping[str, ResourceType], calls: Calls) -> None:
        self._control = control
        self._types = types
        self._calls = calls
        self._running: dict[str, Deployment] = {}

    def __repr__(self) -> str:
        return f"<Engine running={len(self._running)}>"

    def resume(self) -> None:
        """Take up every operation that a former process left."""
        for stack in self._control.state.view.stacks.values():
            if stack.is_busy:
                _log.warning("stack %s was left in %s", stack.name, stack.status)
                book = Book(self._control, stack.stack_id)
                self._start(book, Deployment.take_up)

    async def create(self, stack: Stack, prepared: Prepared) -> None:
        """
        Begin to make a new stack, or one that was under review.

        Raises:
            ServiceError: AlreadyExistsException if there is one of that name.
        """
        book = Book(self._control, stack.stack_id)

        def decide(view: View) -> tuple[None, list[Change]]:
            known = find(view, stack.name)
            if known is not None and (known.status != REVIEW or known.stack_id != stack.stack_id):
                raise already_exists(stack.name)
            more = [*template_changes(prepared.texts), *_executed(view, stack)]
            return None, book.changes_of(view, stack, more)

        await self._control.state.change(decide)
        await self._begin(book, lambda deployment: deployment.create(prepared.program))

    async def update(self, stack_id: str, prepared: Prepared, **changes: Any) -> None:
        """
        Begin to change a stack.

        Args:
            stack_id: Which one.
            prepared: What it is to be.
            **changes: Other members of its record.

        Raises:
            ServiceError: ValidationError if it may not be changed now.
        """
        book = Book(self._control, stack_id)

        def decide(view: View) -> tuple[None, list[Change]]:
            known = existing(view, stack_id)
            check_updatable(known)
            former = known.former if known.former is not None else known.wanted
            stack = replace(
                known,
                status="UPDATE_IN_PROGRESS",
                reason=USER,
                updated_ms=self._control.clock.wall_ms(),
                wanted=replace(prepared.wanted, outputs=known.wanted.outputs),
                former=former,
                **{"change_set_id": "", **changes},
            )
            more = [*template_changes(prepared.texts), *_executed(view, stack)]
            return None, book.changes_of(view, stack, more)

        await self._control.state.change(decide)
        await self._begin(book, lambda deployment: deployment.update(prepared.program))

    async def delete(self, name: str, retained: Iterable[str], actor: Actor | None, token: str) -> None:
        """
        Begin to delete a stack; one that is not there, or being deleted, is a success.

        Raises:
            ServiceError: ValidationError if it may not be deleted now.
        """
        stack = find(self._control.state.view, name)
        if stack is None or stack.is_deleted or stack.status == "DELETE_IN_PROGRESS":
            return
        kept = tuple(retained)
        running = self._running.get(stack.stack_id)
        if running is not None and stack.status == "CREATE_IN_PROGRESS":
            await Book(self._control, stack.stack_id).keep_stack(on_failure="DELETE", actor=actor)
            running.stop(CANCELLED)
            return
        book = Book(self._control, stack.stack_id)

        def decide(view: View) -> tuple[str, list[Change]]:
            known = view.stacks[stack.stack_id]
            _check_deletable(known, kept, is_running=known.stack_id in self._running)
            users = _users_of(view, known)
            status, reason = ("DELETE_FAILED", users) if users else ("DELETE_IN_PROGRESS", USER)
            begun = replace(known, status=status, reason=reason, actor=actor, client_token=token)
            sets = [key for key, each in view.change_sets.items() if each.stack_id == known.stack_id]
            return users, book.changes_of(view, begun, [Change("change-set", key, None) for key in sets])

        if not await self._control.state.change(decide):
            await self._begin(book, lambda deployment: deployment.delete(kept))

    async def protect(self, stack_id: str, *, is_protected: bool) -> None:
        """Say whether a stack may be deleted."""
        await Book(self._control, stack_id).keep_stack(is_protected=is_protected)

    async def cancel(self, name: str) -> None:
        """
        Let an update that is going on be undone.

        Raises:
            ServiceError: ValidationError if none is.
        """
        stack = existing(self._control.state.view, name)
        running = self._running.get(stack.stack_id)
        if running is None or stack.status != "UPDATE_IN_PROGRESS":
            text = "CancelUpdateStack cannot be called from current stack status"
            raise invalid(text)
        running.stop("Update cancelled by user.")

    async def roll_back(self, name: str, actor: Actor | None, skipped: Iterable[str], token: str) -> str:
        """
        Begin to undo what failed, or go on with it; return the stack's identifier.

        Raises:
            ServiceError: ValidationError if there is nothing to undo.
        """
        stack = existing(self._control.state.view, name)
        if stack.stack_id in self._running:
            raise invalid(f"Stack:{stack.stack_id} is in {stack.status} state and can not be rolled back.")
        passed = tuple(skipped)
        book = Book(self._control, stack.stack_id)
        match stack.status:
            case "CREATE_FAILED":
                await book.become("ROLLBACK_IN_PROGRESS", USER, actor=actor, client_token=token)
                how = Deployment.undo_creation
            case "UPDATE_FAILED" | "UPDATE_ROLLBACK_FAILED":
                await book.become("UPDATE_ROLLBACK_IN_PROGRESS", USER, actor=actor, client_token=token)
                how = partial(Deployment.roll_back, reason=USER, skipped=passed)
            case status:
                raise invalid(f"Stack:{stack.stack_id} is in {status} state and can not be rolled back.")
        await self._begin(book, how)
        return stack.stack_id

    # --- in the background ----------------------------------------------------------------------------------

    async def _begin(self, book: Book, how: Callable[[Deployment], Coroutine[Any, Any, None]]) -> None:
        """Start an operation, and wait for its end for a moment."""
        ended = self._start(book, how)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await ended.wait()

    def _start(self, book: Book, how: Callable[[Deployment], Coroutine[Any, Any, None]]) -> asyncio.Event:
        deployment = Deployment(book, Steps(book, self._types, self._calls))
        self._running[book.stack_id] = deployment
        ended = asyncio.Event()
        self._control.spawn(self._run(book, how(deployment), ended), f"deploy {book.stack_id}")
        return ended

    async def _run(self, book: Book, operation: Coroutine[Any, Any, None], ended: asyncio.Event) -> None:
        try:
            await operation
            await self._control.state.change(lambda view: (None, _afterwards(view, book.stack)))
        finally:
            del self._running[book.stack_id]
            ended.set()


def already_exists(name: str) -> ServiceError:
    """Make the error of a name that is taken."""
    return ServiceError("AlreadyExistsException", f"Stack [{name}] already exists")


def template_changes(texts: Mapping[str, str]) -> list[Change]:
    """Return the changes that keep the texts of templates, by their digests."""
    return [Change("template", digest, TemplateText(body)) for digest, body in texts.items()]


def _executed(view: View, stack: Stack) -> list[Change]:
    """Return what becomes of a stack's change sets when one is executed, or it is changed without."""
    changes = []
    for key, each in view.change_sets.items():
        if each.stack_id == stack.stack_id:
            begun = replace(each, execution_status="EXECUTE_IN_PROGRESS")
            changes.append(Change("change-set", key, begun if key == stack.change_set_id else None))
    return changes


def _check_deletable(stack: Stack, retained: tuple[str, ...], *, is_running: bool) -> None:
    if stack.is_protected:
        raise invalid(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
    if is_running:
        raise invalid(f"Stack [{stack.stack_id}] cannot be deleted while in status {stack.status}")
    if retained and stack.status != "DELETE_FAILED":
        text = "specify which resources to retain only if the stack is in the DELETE_FAILED state"
        raise invalid(f"Invalid operation on stack [{stack.stack_id}]: {text}")


def _users_of(view: View, stack: Stack) -> str:
    """Return why a stack whose exports others use cannot be deleted; nothing if nobody does."""
    for output in stack.wanted.outputs:
        for other in view.stacks.values():
            if output.export_name in other.wanted.imports and not other.is_deleted:
                return f"Export {output.export_name} cannot be deleted as it is in use by {other.name}"
    return ""


def _afterwards(view: View, stack: Stack) -> list[Change]:
    """Return what is noted after an operation: the outcome of its change set; old stacks are forgotten."""
    changes: list[Change] = []
    executed = view.change_sets.get(stack.change_set_id)
    if executed is not None and executed.execution_status == "EXECUTE_IN_PROGRESS":
        is_well = stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
        status = "EXECUTE_COMPLETE" if is_well else "EXECUTE_FAILED"
        changes.append(
            Change("change-set", executed.change_set_id, replace(executed, execution_status=status))
        )
    deleted = sorted(
        (each for each in view.stacks.values() if each.is_deleted), key=lambda each: each.deleted_ms or 0
    )
    for old in deleted[: max(0, len(deleted) - _DELETED_MAX)]:
        changes.append(Change("stack", old.stack_id, None))
        for kind, table in (("stack-event", view.stack_events), ("stack-resource", view.stack_resources)):
            changes += [
                Change(kind, f"{old.stack_id}:{inner}", None) for inner in table.get(old.stack_id, {})
            ]
    return [*changes, *unused_templates(view, changes)]
