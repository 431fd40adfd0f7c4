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

from remora.control.preparation import RETRY_S, may_pass
from remora.control.services.neighbour import ServiceError
from remora.iac.book import Book, unused_templates
from remora.iac.deployment import Deployment
from remora.iac.stacks import check_executable, check_updatable, existing, find, invalid
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
_UNDONE: Final = {
    "CREATE_FAILED": "ROLLBACK_IN_PROGRESS",
    "UPDATE_FAILED": "UPDATE_ROLLBACK_IN_PROGRESS",
    "UPDATE_ROLLBACK_FAILED": "UPDATE_ROLLBACK_IN_PROGRESS",
}
"""The status of an operation that undoes what ended so."""
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
                deployment = self._running[stack.stack_id] = self._deployment(book)
                self._start(deployment, deployment.take_up())

    async def create(self, stack: Stack, prepared: Prepared) -> None:
        """
        Begin to make a new stack, or one that was under review.

        Raises:
            ServiceError: AlreadyExistsException if there is one of that name.
        """
        book = Book(self._control, stack.stack_id)

        def decide(view: View) -> list[Change]:
            known = find(view, stack.name)
            if known is not None and (known.status != REVIEW or known.stack_id != stack.stack_id):
                raise already_exists(stack.name)
            more = [*template_changes(prepared.texts), *_executing(view, stack)]
            return book.changes_of(view, stack, more)

        await self._begin(book, decide, partial(Deployment.create, program=prepared.program))

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

        def decide(view: View) -> list[Change]:
            known = existing(view, stack_id)
            check_updatable(known)
            stack = replace(
                known,
                status="UPDATE_IN_PROGRESS",
                reason=USER,
                updated_ms=self._control.clock.wall_ms(),
                wanted=replace(prepared.wanted, outputs=known.wanted.outputs),
                former=known.former if known.former is not None else known.wanted,
                **{"change_set_id": "", "passed_over": (), **changes},
            )
            more = [*template_changes(prepared.texts), *_executing(view, stack)]
            return book.changes_of(view, stack, more)

        await self._begin(book, decide, partial(Deployment.update, program=prepared.program))

    async def delete(self, name: str, retained: Iterable[str], actor: Actor | None, token: str) -> None:
        """
        Begin to delete a stack; one that is not there, or being deleted, is a success.

        Raises:
            ServiceError: ValidationError if it may not be deleted now.
        """
        stack = find(self._control.state.view, name)
        if stack is None or stack.is_deleted or stack.status == "DELETE_IN_PROGRESS":
            return
        book, kept = Book(self._control, stack.stack_id), tuple(retained)
        running = self._running.get(stack.stack_id)
        if running is not None and stack.status == "CREATE_IN_PROGRESS":
            running.give_up()
            await book.keep_stack(on_failure="DELETE", actor=actor)
            if book.stack.status != "CREATE_COMPLETE":  # else it came too late to be given up
                return

        def decide(view: View) -> list[Change]:
            known = view.stacks[book.stack_id]
            _check_deletable(known, kept, is_running=known.is_busy and known.stack_id in self._running)
            begun = replace(
                known,
                status="DELETE_IN_PROGRESS",
                reason=USER,
                actor=actor,
                client_token=token,
                passed_over=kept,
            )
            sets = [key for key, each in view.change_sets.items() if each.stack_id == known.stack_id]
            return book.changes_of(view, begun, [Change("change-set", key, None) for key in sets])

        if users := _users_of(self._control.state.view, book.stack):
            await book.become("DELETE_FAILED", users)
        else:
            await self._begin(book, decide, Deployment.delete)

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
            raise invalid("CancelUpdateStack cannot be called from current stack status")
        running.stop("Update cancelled by user.")

    async def roll_back(self, name: str, actor: Actor | None, skipped: Iterable[str], token: str) -> str:
        """
        Begin to undo what failed, or go on with it; return the stack's identifier.

        Raises:
            ServiceError: ValidationError if there is nothing to undo.
        """
        stack_id = existing(self._control.state.view, name).stack_id
        book, passed = Book(self._control, stack_id), tuple(skipped)

        def decide(view: View) -> list[Change]:
            known = view.stacks[stack_id]
            status = _UNDONE.get(known.status)
            if status is None:
                text = f"Stack:{stack_id} is in {known.status} state and can not be rolled back."
                raise invalid(text)
            begun = replace(
                known, status=status, reason=USER, actor=actor, client_token=token, passed_over=passed
            )
            return book.changes_of(view, begun)

        async def undo(deployment: Deployment) -> None:
            if book.stack.status == "ROLLBACK_IN_PROGRESS":
                await deployment.undo_creation()
            else:
                await deployment.roll_back(USER)

        await self._begin(book, decide, undo)
        return stack_id

    # --- in the background ----------------------------------------------------------------------------------

    async def _begin(
        self,
        book: Book,
        decide: Callable[[View], list[Change]],
        how: Callable[[Deployment], Coroutine[Any, Any, None]],
    ) -> None:
        """
        Begin an operation, and wait for its end for a moment.

        Args:
            book: Of the stack.
            decide: Says what is written down as it begins; it may raise, then it has not begun.
            how: What to do.
        """
        deployment = self._deployment(book)

        def claim(view: View) -> tuple[None, list[Change]]:
            changes = decide(view)
            self._running[book.stack_id] = deployment
            return None, changes

        try:
            await self._control.state.change(claim)
        except BaseException:
            self._release(deployment)
            raise
        ended = self._start(deployment, how(deployment))
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await ended.wait()

    def _deployment(self, book: Book) -> Deployment:
        return Deployment(book, Steps(book, self._types, self._calls))

    def _start(self, deployment: Deployment, operation: Coroutine[Any, Any, None]) -> asyncio.Event:
        ended = asyncio.Event()
        self._control.spawn(self._run(deployment, operation, ended), f"deploy {deployment.stack_id}")
        return ended

    async def _run(
        self, deployment: Deployment, operation: Coroutine[Any, Any, None], ended: asyncio.Event
    ) -> None:
        try:
            while not await self._has_ended(operation):
                await asyncio.sleep(RETRY_S)
                operation = deployment.take_up()
        finally:
            self._release(deployment)
            ended.set()

    async def _has_ended(self, operation: Coroutine[Any, Any, None]) -> bool:
        """Perform an operation; False if the disk was full: then the records say how to go on."""
        try:
            await operation
            await self._control.state.change(lambda view: (None, _too_old(view)))
        except Exception as error:
            if not may_pass(error):
                raise
            _log.error("%s; the operation on a stack is taken up in %d s", error, RETRY_S)
            return False
        return True

    def _release(self, deployment: Deployment) -> None:
        if self._running.get(deployment.stack_id) is deployment:  # else another one has begun already
            del self._running[deployment.stack_id]


def already_exists(name: str) -> ServiceError:
    """Make the error of a name that is taken."""
    return ServiceError("AlreadyExistsException", f"Stack [{name}] already exists")


def template_changes(texts: Mapping[str, str]) -> list[Change]:
    """Return the changes that keep the texts of templates, by their digests."""
    return [Change("template", digest, TemplateText(body)) for digest, body in texts.items()]


def _executing(view: View, stack: Stack) -> list[Change]:
    """
    Return what becomes of a stack's change sets when one is executed, or it is changed without.

    Raises:
        ServiceError: InvalidChangeSetStatus if that one was executed already.
    """
    changes = []
    if (executed := view.change_sets.get(stack.change_set_id)) is not None:
        check_executable(executed)
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


def _too_old(view: View) -> list[Change]:
    """Return the deletion of what is known of stacks that were deleted long ago."""
    changes: list[Change] = []
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
