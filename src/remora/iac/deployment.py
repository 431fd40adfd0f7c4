"""
One operation on a stack: its resources are made, changed and deleted as the template wants it.

What depends on nothing that is unfinished is done at once, side by side. If anything fails, what has been
done is undone. The records alone say how to go on, so that what a kill of the node interrupted is undone by
its next start, and deletions are taken up where they were.

Source: AWS CloudFormation user guide, "Stack status codes".
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from remora.control.services.neighbour import ServiceError
from remora.iac.book import change_of
from remora.iac.rules import check_exports, text_of
from remora.iac.steps import StepError
from remora.iac.templates.program import resolve
from remora.resources.stacks import Leaving, StackOutput
from remora.resources.view import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from remora.iac.book import Book
    from remora.iac.steps import Steps
    from remora.iac.templates.program import Program, ResourcePlan
    from remora.resources.stacks import Stack, StackResource
    from remora.resources.view import View

_CANCELLED: Final = "Resource creation cancelled"
_AT_ONCE_MAX: Final = 10
"""How many resources of a stack are worked on side by side."""
_INTERRUPTED: Final = "This operation was interrupted."


class Deployment:
    """
    One operation on one stack.

    Args:
        book: The stack's records.
        steps: What is done to a resource.
    """

    def __init__(self, book: Book, steps: Steps) -> None:
        self._book = book
        self._steps = steps
        self._stopped = ""
        self._is_given_up = False
        self._room = asyncio.Semaphore(_AT_ONCE_MAX)

    def __repr__(self) -> str:
        return f"<Deployment {self._book!r}>"

    @property
    def stack_id(self) -> str:
        """Which stack it is on."""
        return self._book.stack_id

    def stop(self, reason: str) -> None:
        """Begin nothing more: what is being made is finished, then everything is undone."""
        self._stopped = self._stopped or reason

    def give_up(self) -> None:
        """Stop a creation whose stack is not wanted any more."""
        self._is_given_up = True
        self.stop(_CANCELLED)

    async def create(self, program: Program) -> None:
        """Make a new stack."""
        seconds = self._book.stack.timeout_minutes * 60
        text = "Stack creation time exceeded the specified timeout."
        timer = asyncio.get_running_loop().call_later(seconds, self.stop, text) if seconds else None
        try:
            failure = await self._forward(program)
        finally:
            if timer is not None:
                timer.cancel()
        failure = failure or await self._settle(program, "CREATE_COMPLETE")
        if failure:
            await self._undo_creation(failure)

    async def update(self, program: Program) -> None:
        """Make a stack what its template wants now."""
        failure = await self._forward(program)
        failure = failure or await self._settle(program, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        if not failure:
            await self._clean_up("UPDATE_COMPLETE")
        elif self._book.stack.on_failure == "DO_NOTHING":
            await self._book.become("UPDATE_FAILED", failure)
        else:
            await self.roll_back(failure)

    async def delete(self, *, complete: str = "DELETE_COMPLETE", failed: str = "DELETE_FAILED") -> None:
        """
        Delete all resources of a stack, those first that no others depend on.

        Args:
            complete: The stack's status if all are gone.
            failed: The stack's status if one could not be deleted.
        """
        await self._mark_interrupted()
        kept, resources = set(self._book.stack.passed_over), self._book.resources
        failures: list[str] = []
        for name in reversed(_ordered(resources)):
            resource = resources[name]
            if name in kept or _is_retained(resource, self._book.stack):
                await self._book.put(replace(resource, status="DELETE_SKIPPED", reason=""))
            elif not await self._steps.delete(resource):
                failures.append(name)
        if failures:
            await self._book.become(failed, _failed("delete", failures))
        elif complete == "DELETE_COMPLETE":
            await self._book.become(complete, deleted_ms=self._book.control.clock.wall_ms())
        else:
            await self._book.become(complete)

    async def undo_creation(self) -> None:
        """Delete everything that a creation made."""
        await self.delete(complete="ROLLBACK_COMPLETE", failed="ROLLBACK_FAILED")

    async def roll_back(self, reason: str) -> None:
        """Undo an update, for a reason: resources become what they were, and what is new is deleted."""
        await self._book.become("UPDATE_ROLLBACK_IN_PROGRESS", reason)
        passed, resources = set(self._book.stack.passed_over), self._book.resources
        failures = [
            name
            for name in _ordered(resources)
            if name not in passed and not await self._restore(resources[name])
        ]
        if failures:
            await self._book.become("UPDATE_ROLLBACK_FAILED", _failed("update", failures))
            return
        await self._book.become("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", decide=self._as_before)
        await self._clean_up("UPDATE_ROLLBACK_COMPLETE")

    async def take_up(self) -> None:
        """Go on with what was interrupted: deletions are finished, everything else is undone."""
        await self._mark_interrupted()
        match self._book.stack.status:
            case "CREATE_IN_PROGRESS":
                await self._undo_creation(f"{_INTERRUPTED} ")
            case "UPDATE_IN_PROGRESS" | "UPDATE_ROLLBACK_IN_PROGRESS":
                await self.roll_back(_INTERRUPTED)
            case "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS":
                await self._clean_up("UPDATE_COMPLETE")
            case "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS":
                await self._clean_up("UPDATE_ROLLBACK_COMPLETE")
            case "ROLLBACK_IN_PROGRESS":
                await self.undo_creation()
            case "DELETE_IN_PROGRESS":
                await self.delete()

    async def _mark_interrupted(self) -> None:
        """Note of what was being made or changed when nobody went on with it that this has failed."""
        for resource in self._book.resources.values():
            if resource.status.endswith("_IN_PROGRESS") and not resource.status.startswith("DELETE"):
                await self._book.put(_interrupted(resource))

    # --- forward --------------------------------------------------------------------------------------------

    async def _forward(self, program: Program) -> str:
        """Make and change resources; return why not all could be, or an empty text."""
        ended = {name: asyncio.Event() for name in program.resources}
        failures: dict[str, list[str]] = {"create": [], "update": []}

        async def one(name: str, plan: ResourcePlan) -> None:
            try:
                for other in plan.depends_on:
                    await ended[other].wait()
                async with self._room:
                    if not self._stopped:
                        await self._steps.take(name, plan)
            except StepError:
                is_new = self._book.resources[name].is_new
                failures["create" if is_new else "update"].append(name)
                self.stop(_CANCELLED)
            except BaseException:
                self.stop(_CANCELLED)  # nothing more can be written down, or the node stops
                raise
            finally:
                ended[name].set()

        async with asyncio.TaskGroup() as tasks:
            for name, plan in program.resources.items():
                tasks.create_task(one(name, plan), name=f"{self._book.stack.name}/{name}")
        texts = [_failed(what, names) for what, names in failures.items() if names]
        return "".join(texts) or (f"{self._stopped} " if self._stopped else "")

    async def _settle(self, program: Program, status: str) -> str:
        """Show the outputs, and take leave of what is not wanted any more; return why not, or nothing."""
        try:
            outputs = tuple(
                StackOutput(
                    key,
                    text_of(key, resolve(output.value, self._steps.lookup)),
                    output.description,
                    str(resolve(output.export_name, self._steps.lookup) or ""),
                )
                for key, output in program.outputs.items()
            )

            def decide(view: View, stack: Stack) -> tuple[Stack, list[Change]]:
                check_exports(view, stack, outputs)
                leaving, changes = _settled(self._book.resources, program)
                wanted = replace(stack.wanted, outputs=outputs)
                stack = replace(stack, wanted=wanted, former=None, leaving=(*stack.leaving, *leaving))
                return stack, changes

            await self._book.become(status, decide=decide)
        except ServiceError as error:
            return f"{error.message} "
        return ""

    async def _clean_up(self, complete: str) -> None:
        """Delete what an update left behind; what cannot be deleted stays, and the events say so."""
        while leaving := self._book.stack.leaving:
            await self._steps.remove(leaving[0], leaving[1:])
        await self._book.become(complete)

    # --- back -----------------------------------------------------------------------------------------------

    async def _undo_creation(self, reason: str) -> None:
        """End a creation that failed, as whoever asked for it wants that."""
        match "DELETE" if self._is_given_up else self._book.stack.on_failure:
            case "DO_NOTHING":
                await self._book.become("CREATE_FAILED", reason)
            case "DELETE":
                await self._book.become("DELETE_IN_PROGRESS", f"{reason}Delete requested by user.")
                await self.delete()
            case _:
                await self._book.become("ROLLBACK_IN_PROGRESS", f"{reason}Rollback requested by user.")
                await self.undo_creation()

    async def _restore(self, resource: StackResource) -> bool:
        """Make a resource what it was, if it was changed in its place; tell if that could be done."""
        if resource.former is None or resource.is_replaced:
            return True
        return await self._steps.restore(resource, resource.former)

    def _as_before(self, _: View, stack: Stack) -> tuple[Stack, list[Change]]:
        """Return a stack that an update was undone of, and its resources, less what is to be deleted."""
        leaving: list[Leaving] = []
        changes: list[Change] = []
        for resource in self._backwards():
            former = resource.former
            if former is None and not resource.is_new:
                continue
            if resource.body.physical_id and (former is None or resource.is_replaced):
                policy = "Delete" if stack.deletes_new else resource.body.deletion_policy
                body = replace(resource.body, deletion_policy=policy)
                leaving.append(Leaving(resource.logical_id, resource.type, body, resource.token))
            if former is None:
                changes.append(_forgotten(resource))
            else:
                status = "UPDATE_COMPLETE"
                changes.append(
                    change_of(replace(resource, body=former, former=None, status=status, reason=""))
                )
        wanted = stack.former if stack.former is not None else stack.wanted
        stack = replace(stack, wanted=wanted, former=None, leaving=(*stack.leaving, *leaving))
        return stack, changes

    def _backwards(self) -> list[StackResource]:
        resources = self._book.resources
        return [resources[name] for name in reversed(_ordered(resources))]


def _settled(resources: Mapping[str, StackResource], program: Program) -> tuple[list[Leaving], list[Change]]:
    """Return what an operation that went well leaves to be deleted, and the records of the others."""
    leaving: list[Leaving] = []
    changes: list[Change] = []
    for name in reversed(_ordered(resources)):
        resource = resources[name]
        if resource.is_replaced and resource.former is not None:
            old = replace(resource.former, deletion_policy=resource.former.replace_policy)
            leaving.append(Leaving(name, resource.type, old))
        if name in program.resources:
            changes.append(change_of(replace(resource, former=None, is_new=False)))
        else:
            leaving.append(Leaving(name, resource.type, resource.body, resource.token))
            changes.append(_forgotten(resource))
    return leaving, changes


def _interrupted(resource: StackResource) -> StackResource:
    """
    Return a resource whose making or changing was interrupted.

    Something with a name that the template gives may have been there before: that is not ours to delete.
    """
    what, body = resource.status.removesuffix("_IN_PROGRESS"), resource.body
    is_being_made = what == "CREATE" or resource.is_replaced
    if is_being_made and body.physical_id in [
        each for each in body.properties.values() if isinstance(each, str)
    ]:
        body = replace(body, physical_id="")
    return replace(resource, status=f"{what}_FAILED", reason=_INTERRUPTED, body=body)


def _is_retained(resource: StackResource, stack: Stack) -> bool:
    """Tell if a resource stays when its stack goes."""
    is_rollback = stack.status == "ROLLBACK_IN_PROGRESS"
    match resource.body.deletion_policy:
        case "Retain":
            return not (is_rollback and stack.deletes_new)
        case "RetainExceptOnCreate":
            return not is_rollback
    return False


def _forgotten(resource: StackResource) -> Change:
    return Change("stack-resource", f"{resource.stack_id}:{resource.logical_id}", None)


def _failed(what: str, names: Iterable[str]) -> str:
    return f"The following resource(s) failed to {what}: [{', '.join(sorted(names))}]. "


def _ordered(resources: Mapping[str, StackResource]) -> list[str]:
    """Return logical identifiers, each after those that it depends on."""
    order: list[str] = []
    waiting = dict.fromkeys(sorted(resources))
    while waiting:
        ready = [
            name
            for name in waiting
            if not any(other in waiting and other != name for other in resources[name].depends_on)
        ]
        ready = ready or list(waiting)  # of two templates, the dependencies may form a ring
        order += ready
        for name in ready:
            del waiting[name]
    return order
