"""
Change sets: what an update would do, worked out when it is asked for, and done when that is asked for.

Source: AWS CloudFormation API Reference, CreateChangeSet and its likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from remora.control.services.neighbour import ServiceError
from remora.iac.asking import actor_of, caller_of, failure_policy
from remora.iac.book import Book, unused_templates
from remora.iac.changes import compare
from remora.iac.descriptions import describe_change_set, one_page
from remora.iac.engine import USER, already_exists, template_changes
from remora.iac.naming import change_set_arn, stack_arn
from remora.iac.preparing import Prepared, StackName, TransformError, digest_of
from remora.iac.stacks import (
    check_executable,
    check_name,
    check_updatable,
    existing,
    find,
    find_change_set,
    invalid,
)
from remora.iac.types.table import TYPES
from remora.resources.stacks import REVIEW, ChangeSet, Stack, Wanted
from remora.resources.view import Change

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.control.callers import Caller
    from remora.control.context import Control
    from remora.control.services.query import QueryHandler
    from remora.http.exchange import Exchange
    from remora.iac.engine import Engine
    from remora.iac.preparing import Preparation
    from remora.resources.stacks import ResourceChange
    from remora.resources.view import View

Request = dict[str, Any]
Reply = dict[str, Any]

_SAME: Final = (
    "The submitted information didn't contain changes. Submit different information to create a change set."
)
_PAGE: Final = 100
_FACTS: Final = ("StatusReason", "CreationTime", "Description", "IncludeNestedStacks")


class ChangeSets:
    """
    Performs the operations.

    Args:
        control: The node's parts.
        engine: Carries them out.
        preparation: Reads templates.
    """

    def __init__(self, control: Control, engine: Engine, preparation: Preparation) -> None:
        self._control = control
        self._engine = engine
        self._preparation = preparation

    def __repr__(self) -> str:
        return f"<ChangeSets {len(self._control.state.view.change_sets)}>"

    def handlers(self) -> Mapping[str, QueryHandler]:
        """Return what performs each operation, by its name in the model."""
        return {
            "CreateChangeSet": self.create_change_set,
            "DeleteChangeSet": self.delete_change_set,
            "DescribeChangeSet": self.describe_change_set,
            "ExecuteChangeSet": self.execute_change_set,
            "ListChangeSets": self.list_change_sets,
        }

    async def create_change_set(self, request: Request, exchange: Exchange) -> Reply:
        """Work out what an update, or a new stack, would do; a new stack is under review until then."""
        kind, caller = request.get("ChangeSetType", "UPDATE"), caller_of(exchange)
        name = request["ChangeSetName"]
        check_name(name, "changeSetName")
        stack = self._stack_for(request["StackName"], kind)
        of = StackName(stack.stack_id, stack.name)
        changes: tuple[ResourceChange, ...] = ()
        problem = ""
        try:
            known = None if stack.status == REVIEW else stack
            prepared = await self._preparation.prepare(request, of, known, caller)
            compared = compare(self._control, TYPES, stack, prepared)
            wanted, texts, changes = prepared.wanted, prepared.texts, compared.changes
            if kind == "UPDATE" and not compared.is_change:
                problem = _SAME
        except TransformError as error:
            problem = error.message
            wanted, texts = await self._refused(request, stack, caller)
        if stack.status == REVIEW:
            stack = replace(stack, wanted=wanted)
        change_set = ChangeSet(
            change_set_id=change_set_arn(self._control.place, name, self._control.new_id()),
            name=name,
            stack_id=stack.stack_id,
            kind=kind,
            status="FAILED" if problem else "CREATE_COMPLETE",
            execution_status="UNAVAILABLE" if problem else "AVAILABLE",
            created_ms=self._control.clock.wall_ms(),
            reason=problem,
            description=request.get("Description", ""),
            wanted=wanted,
            changes=changes,
            on_failure=request.get("OnStackFailure", ""),
            actor=actor_of(caller, wanted.role_arn),
        )
        await self._keep(stack, change_set, texts)
        return {"Id": change_set.change_set_id, "StackId": stack.stack_id}

    def _stack_for(self, text: str, kind: str) -> Stack:
        """
        Return the stack that a change set is for; one that is not kept yet if it is new.

        Raises:
            ServiceError: ValidationError.
        """
        view = self._control.state.view
        if kind == "IMPORT":
            raise invalid("ChangeSetType IMPORT is not offered by this node.")
        known = find(view, text)
        if kind == "UPDATE":
            stack = existing(view, text)
            check_updatable(stack)
            return stack
        if known is None or known.is_deleted:
            check_name(text, "stackName")
            return Stack(
                stack_id=stack_arn(self._control.place, text, self._control.new_id()),
                name=text,
                status=REVIEW,
                reason=USER,
                created_ms=self._control.clock.wall_ms(),
                wanted=Wanted(template="", processed=""),
            )
        if known.status != REVIEW:
            text = f"Stack [{known.name}] already exists and cannot be created again with the changeSet"
            raise invalid(f"{text} [{known.name}].")
        return known

    async def _refused(
        self, request: Request, stack: Stack, caller: Caller | None
    ) -> tuple[Wanted, Mapping[str, str]]:
        """Return what is kept of a request whose template could not be transformed, and the template."""
        if request.get("UsePreviousTemplate"):
            return stack.wanted, {}
        text = await self._preparation.text_of(request, caller)
        digest = digest_of(text)
        wanted = Wanted(template=digest, processed=digest, role_arn=request.get("RoleARN", ""))
        return wanted, {digest: text}

    async def _keep(self, stack: Stack, change_set: ChangeSet, texts: Mapping[str, str]) -> None:
        """
        Keep a change set, and its stack if that is new.

        Raises:
            ServiceError: AlreadyExistsException.
        """
        book = Book(self._control, stack.stack_id)

        def decide(view: View) -> tuple[None, list[Change]]:
            known = find(view, stack.name)
            changes = [*template_changes(texts), Change("change-set", change_set.change_set_id, change_set)]
            if known is not None and known.stack_id != stack.stack_id:
                raise already_exists(stack.name)
            if any(each.name == change_set.name for each in _sets_of(view, stack.stack_id)):
                text = f"ChangeSet {change_set.name} already exists"
                raise ServiceError("AlreadyExistsException", text)
            if known is None:
                return None, book.changes_of(view, stack, changes)
            return None, changes

        await self._control.state.change(decide)

    async def describe_change_set(self, request: Request, _: Exchange) -> Reply:
        """Describe a change set, one page of its changes."""
        change_set = self._find(request)
        stack = self._control.state.view.stacks[change_set.stack_id]
        with_values = request.get("IncludePropertyValues", False)
        reply = describe_change_set(change_set, stack, with_values=with_values)
        reply["Changes"], reply["NextToken"] = one_page(reply["Changes"], request, _PAGE)
        return reply

    async def list_change_sets(self, request: Request, _: Exchange) -> Reply:
        """List the change sets of a stack."""
        view = self._control.state.view
        stack = existing(view, request["StackName"])
        sets = sorted(_sets_of(view, stack.stack_id), key=lambda each: each.created_ms)
        members = (
            "StackId",
            "StackName",
            "ChangeSetId",
            "ChangeSetName",
            "ExecutionStatus",
            "Status",
            *_FACTS,
        )
        shown = [describe_change_set(each, stack, with_values=False) for each in sets]
        page, token = one_page([{name: each[name] for name in members} for each in shown], request, _PAGE)
        return {"Summaries": page, "NextToken": token}

    async def delete_change_set(self, request: Request, _: Exchange) -> Reply:
        """Delete a change set; one that is not there is a success if its stack is."""
        try:
            change_set = self._find(request)
        except ServiceError as error:
            if error.code != "ChangeSetNotFound":
                raise
            return {}

        def decide(view: View) -> tuple[None, list[Change]]:
            changes = [Change("change-set", change_set.change_set_id, None)]
            return None, [*changes, *unused_templates(view, changes)]

        await self._control.state.change(decide)
        return {}

    async def execute_change_set(self, request: Request, exchange: Exchange) -> Reply:
        """Begin to carry a change set out; the others of the stack are deleted."""
        change_set = self._find(request)
        check_executable(change_set)
        stack = self._control.state.view.stacks[change_set.stack_id]
        of = StackName(stack.stack_id, stack.name)
        program = await self._preparation.program_of(change_set.wanted, of)
        stack = self._control.state.view.stacks[change_set.stack_id]
        prepared = Prepared(change_set.wanted, {}, program)
        on_failure = "DO_NOTHING" if request.get("DisableRollback") else change_set.on_failure
        begun: dict[str, Any] = {
            "on_failure": on_failure or failure_policy(request),
            "deletes_new": request.get("RetainExceptOnCreate", False),
            "client_token": request.get("ClientRequestToken", ""),
            "actor": actor_of(caller_of(exchange), change_set.wanted.role_arn),
            "change_set_id": change_set.change_set_id,
        }
        if stack.status == REVIEW:
            wanted = change_set.wanted
            stack = replace(stack, status="CREATE_IN_PROGRESS", reason=USER, wanted=wanted, **begun)
            await self._engine.create(stack, prepared)
        else:
            await self._engine.update(stack.stack_id, prepared, **begun)
        return {}

    def _find(self, request: Request) -> ChangeSet:
        view = self._control.state.view
        return find_change_set(view, request["ChangeSetName"], request.get("StackName", ""))


def _sets_of(view: View, stack_id: str) -> list[ChangeSet]:
    return [each for each in view.change_sets.values() if each.stack_id == stack_id]
