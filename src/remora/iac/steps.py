"""
One step on one resource: it is made, replaced, changed, given its former state, or deleted.

Each step is in the records before it is taken, and its outcome after it.

Source: AWS CloudFormation user guide, "Update behaviors of stack resources".
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from remora.control.services.neighbour import ServiceError
from remora.iac.asking import caller_from
from remora.iac.book import Happened
from remora.iac.calls import CallFailed
from remora.iac.naming import physical_name
from remora.iac.rules import attribute_of, differences, explain_call, property_problem
from remora.iac.templates.program import resolve
from remora.iac.types.base import Context
from remora.resources.stacks import Body, Leaving, StackResource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remora.iac.book import Book
    from remora.iac.calls import Calls
    from remora.iac.templates.program import ResourcePlan
    from remora.iac.types.base import Made, ResourceType

_REPLACING: Final = "Requested update requires the creation of a new physical resource; hence creating one."
_INTERNAL: Final = "Internal Failure"

_log = logging.getLogger("remora.iac")


class StepError(Exception):
    """A resource could not be made or changed; the records say why."""


class Steps:
    """
    Takes steps on the resources of one stack.

    Args:
        book: The stack's records.
        types: What resources there can be.
        calls: The node's own services.
    """

    def __init__(self, book: Book, types: Mapping[str, ResourceType], calls: Calls) -> None:
        self._book = book
        self._types = types
        self._calls = calls

    def __repr__(self) -> str:
        return f"<Steps {self._book!r}>"

    def lookup(self, name: str, attribute: str | None) -> Any:
        """
        Return what `Ref` or `Fn::GetAtt` of a resource that is there says.

        Raises:
            ServiceError: ValidationError if it has no such attribute.
        """
        body = self._book.resources[name].body
        return body.physical_id if attribute is None else attribute_of(name, attribute, body.attributes)

    async def take(self, name: str, plan: ResourcePlan) -> None:
        """
        Make one resource what it should be.

        Raises:
            StepError: If it could not be.
        """
        kind, known = self._types[plan.type], self._book.resources.get(name)
        try:
            properties = resolve(plan.properties, self.lookup) or {}
            problem = property_problem(kind, name, properties)
        except ServiceError as error:
            properties, problem = {}, error.message
        body = Body(
            physical_id="",
            properties=properties,
            deletion_policy=plan.deletion_policy,
            replace_policy=plan.update_replace_policy,
        )
        resource = StackResource(
            stack_id=self._book.stack_id,
            logical_id=name,
            type=plan.type,
            status="",
            updated_ms=self._now(),
            body=body,
            depends_on=tuple(sorted(plan.depends_on)),
            metadata="" if plan.metadata is None else msgspec.json.encode(plan.metadata).decode(),
        )
        if known is None or not known.body.physical_id:
            former = known.former if known is not None else None
            await self._make(kind, replace(resource, former=former, is_new=former is None), problem)
            return
        resource = replace(
            resource, token=known.token, is_new=known.is_new, former=known.former, status=known.status
        )
        differing = differences(known.body.properties, properties)
        if not differing and not self._are_tags_new(kind):
            await self._book.keep(replace(resource, body=_with(body, known.body)))
        elif any(kind.properties[each].replaces for each in differing if each in kind.properties):
            await self._replace(kind, known, resource, problem)
        else:
            await self._change(kind, known, resource, problem)

    async def restore(self, resource: StackResource, former: Body) -> bool:
        """Make a resource what it was; tell if that could be done."""
        kind = self._types[resource.type]
        begun = replace(resource, status="UPDATE_IN_PROGRESS", reason="", updated_ms=self._now())
        await self._book.put(begun)
        wanted = replace(begun, body=former)
        try:
            made = await self._try(begun, "", lambda: self._update(kind, wanted, begun.body.properties))
        except StepError:
            return False
        body = replace(former, attributes=made.attributes)
        await self._book.put(replace(begun, status="UPDATE_COMPLETE", body=body, former=body))
        return True

    async def delete(self, resource: StackResource) -> bool:
        """Delete a resource; tell if that could be done."""
        if resource.body.physical_id:
            begun = replace(resource, status="DELETE_IN_PROGRESS", reason="", updated_ms=self._now())
            await self._book.put(begun)
            context = self._context(self._types[resource.type], resource)
            if problem := await self._try_delete(resource.type, context, resource.body):
                await self._book.put(replace(begun, status="DELETE_FAILED", reason=problem))
                return False
        await self._book.put(replace(resource, status="DELETE_COMPLETE", reason="", updated_ms=self._now()))
        return True

    async def remove(self, leaving: Leaving, others: tuple[Leaving, ...]) -> None:
        """
        Delete something that the stack has done with.

        Args:
            leaving: What that is.
            others: What is left to be deleted afterwards.
        """
        body = leaving.body
        what = Happened(leaving.logical_id, body.physical_id, leaving.type, "DELETE_SKIPPED")
        if body.deletion_policy in ("Delete", "RetainExceptOnCreate"):
            await self._book.note(what._replace(status="DELETE_IN_PROGRESS"))
            context = self._context_of(leaving.logical_id, leaving.token, body.physical_id)
            problem = await self._try_delete(leaving.type, context, body)
            what = what._replace(status="DELETE_FAILED" if problem else "DELETE_COMPLETE", reason=problem)
        await self._book.note(what, leaving=others)

    # --- the ways ------------------------------------------------------------------------------------------

    async def _make(self, kind: ResourceType, resource: StackResource, problem: str) -> None:
        """Make something new."""
        what = "UPDATE" if resource.former is not None else "CREATE"
        resource = replace(resource, token=self._book.control.new_id())
        context = self._context(kind, resource)
        predicted = "" if problem else kind.predicted_id(context, resource.body.properties)
        begun = replace(
            resource,
            status=f"{what}_IN_PROGRESS",
            reason=_REPLACING if resource.former is not None else "",
            body=replace(resource.body, physical_id=predicted),
        )
        await self._book.put(begun)
        made = await self._try(
            replace(begun, body=resource.body),
            problem,
            lambda: kind.create(context, resource.body.properties),
        )
        body = replace(resource.body, physical_id=made.physical_id, attributes=made.attributes)
        await self._book.put(replace(begun, status=f"{what}_COMPLETE", reason="", body=body))

    async def _replace(
        self, kind: ResourceType, known: StackResource, resource: StackResource, problem: str
    ) -> None:
        """Make something new in the place of what is there."""
        property_name = kind.name_property or ""
        given = resource.body.properties.get(property_name)
        if given is not None and known.body.properties.get(property_name) == given:
            problem = problem or (
                "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
                f"Rename {given} and update the stack again."
            )
        if known.former is not None or known.is_new:  # left by an update that failed and was not undone
            leaving = Leaving(known.logical_id, known.type, known.body, known.token)
            await self._book.keep_stack(leaving=(*self._book.stack.leaving, leaving))
        former = known.former if known.former is not None or known.is_new else known.body
        await self._make(kind, replace(resource, former=former), problem)

    async def _change(
        self, kind: ResourceType, known: StackResource, resource: StackResource, problem: str
    ) -> None:
        """Change what is there."""
        former = known.former if known.former is not None or known.is_new else known.body
        body = _with(resource.body, known.body)
        begun = replace(resource, status="UPDATE_IN_PROGRESS", former=former, body=body)
        await self._book.put(begun)
        made = await self._try(begun, problem, lambda: self._update(kind, begun, known.body.properties))
        body = replace(body, physical_id=made.physical_id, attributes=made.attributes)
        await self._book.put(replace(begun, status="UPDATE_COMPLETE", body=body))

    def _update(
        self, kind: ResourceType, resource: StackResource, former: Mapping[str, Any]
    ) -> Awaitable[Made]:
        context = self._context(kind, resource)
        return kind.update(context, resource.body.physical_id, former, resource.body.properties)

    async def _try(self, resource: StackResource, problem: str, act: Callable[[], Awaitable[Made]]) -> Made:
        """
        Act, unless there is a problem already.

        Args:
            resource: What is kept if that fails, in progress.
            problem: Why it fails; empty if nothing is known of that.
            act: What to do.

        Raises:
            StepError: If it failed; the records say why.
        """
        try:
            if not problem:
                return await act()
        except CallFailed as error:
            problem = explain_call(error, resource.token)
        except ServiceError as error:
            problem = error.message
        except Exception:  # noqa: BLE001 - the boundary "background task": the stack says so, and is rolled back
            _log.exception("%s of %s failed", resource.logical_id, self._book.stack.name)
            problem = _INTERNAL
        status = f"{resource.status.removesuffix('_IN_PROGRESS')}_FAILED"
        await self._book.put(replace(resource, status=status, reason=problem))
        raise StepError(problem)

    async def _try_delete(self, kind: str, context: Context, body: Body) -> str:
        """Delete something; return why not, or nothing."""
        try:
            await self._types[kind].delete(context, body.physical_id, body.properties)
        except CallFailed as error:
            return explain_call(error, context.token)
        except ServiceError as error:
            return error.message
        except Exception:  # noqa: BLE001 - the boundary "background task": the stack says so
            _log.exception("deleting %s of %s failed", context.logical_id, self._book.stack.name)
            return _INTERNAL
        return ""

    # --- what types are given ------------------------------------------------------------------------------

    def _context(self, kind: ResourceType, resource: StackResource) -> Context:
        given = resource.body.properties.get(kind.name_property) if kind.name_property else None
        name = given or physical_name(kind, self._book.stack.name, resource.logical_id, resource.token)
        return self._context_of(resource.logical_id, resource.token, str(name))

    def _context_of(self, logical_id: str, token: str, name: str) -> Context:
        stack = self._book.stack
        former, wanted = stack.former or stack.wanted, stack.wanted
        if stack.status.startswith("UPDATE_ROLLBACK"):
            former, wanted = wanted, former
        own = {
            "aws:cloudformation:stack-name": stack.name,
            "aws:cloudformation:stack-id": stack.stack_id,
            "aws:cloudformation:logical-id": logical_id,
        }
        return Context(
            logical_id=logical_id,
            stack_id=stack.stack_id,
            stack_name=stack.name,
            place=self._book.control.place,
            name=name,
            tags={**wanted.tags, **own},
            former_tags={**former.tags, **own},
            token=token,
            call=self._call,
            until=self._until,
        )

    async def _call(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        caller = caller_from(self._book.stack.actor)
        return await self._calls.call(caller, service, operation, request)

    async def _until(
        self,
        service: str,
        operation: str,
        request: Mapping[str, Any],
        is_done: Callable[[dict[str, Any]], bool],
    ) -> dict[str, Any]:
        caller = caller_from(self._book.stack.actor)
        return await self._calls.until(caller, service, operation, request, is_done)

    def _are_tags_new(self, kind: ResourceType) -> bool:
        """Tell if the stack's tags, which its resources take on, are others than before."""
        stack = self._book.stack
        return (
            "Tags" in kind.properties and stack.former is not None and stack.former.tags != stack.wanted.tags
        )

    def _now(self) -> int:
        return self._book.control.clock.wall_ms()


def _with(body: Body, known: Body) -> Body:
    """Return a body that is the thing that is there."""
    return replace(body, physical_id=known.physical_id, attributes=known.attributes)
