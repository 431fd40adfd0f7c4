"""
CloudFormation: stacks and change sets, as deploy tools make, watch and delete them.

Source: AWS CloudFormation API Reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remora.control.services.query import QueryHandler, QueryService
from remora.iac.asking import actor_of, caller_of, failure_policy
from remora.iac.calls import Calls
from remora.iac.change_sets import ChangeSets
from remora.iac.changes import compare
from remora.iac.descriptions import Descriptions
from remora.iac.engine import USER, Engine
from remora.iac.naming import stack_arn
from remora.iac.opening import SERVICE
from remora.iac.preparing import Preparation, StackName
from remora.iac.stacks import check_name, check_updatable, existing, find, invalid
from remora.iac.types.table import TYPES
from remora.resources.stacks import Stack
from remora.spec import xml_api

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.control.context import Control
    from remora.control.service import LambdaService
    from remora.http.exchange import Exchange

Request = dict[str, Any]
Reply = dict[str, Any]


class CloudFormation:
    """
    Performs the operations that change stacks.

    Args:
        control: The node's parts.
        services: The node's services, which stacks are made of.
        endpoint: Base URL of the node.
    """

    def __init__(self, control: Control, services: LambdaService, endpoint: str) -> None:
        self._control = control
        calls = Calls(services, control.place, endpoint)
        self._engine = Engine(control, TYPES, calls)
        self._preparation = Preparation(control, TYPES, calls)
        self._change_sets = ChangeSets(control, self._engine, self._preparation)
        self._descriptions = Descriptions(control, self._preparation)
        handlers = self.handlers()
        api = xml_api.load(SERVICE, "2010-05-15", handlers.keys())
        self.service = QueryService(SERVICE, api, handlers, control.new_id)
        """Answers requests."""

    def __repr__(self) -> str:
        return f"<CloudFormation stacks={len(self._control.state.view.stacks)}>"

    def resume(self) -> None:
        """Take up what a former process left."""
        self._engine.resume()

    def handlers(self) -> Mapping[str, QueryHandler]:
        """Return what performs each operation, by its name in the model."""
        return {
            "CancelUpdateStack": self.cancel_update_stack,
            "ContinueUpdateRollback": self.continue_update_rollback,
            "CreateStack": self.create_stack,
            "DeleteStack": self.delete_stack,
            "RollbackStack": self.rollback_stack,
            "UpdateStack": self.update_stack,
            "UpdateTerminationProtection": self.update_termination_protection,
            **self._change_sets.handlers(),
            **self._descriptions.handlers(),
        }

    async def create_stack(self, request: Request, exchange: Exchange) -> Reply:
        """Begin to make a stack."""
        name, caller = request["StackName"], caller_of(exchange)
        check_name(name, "stackName")
        of = StackName(stack_arn(self._control.place, name, self._control.new_id()), name)
        prepared = await self._preparation.prepare(request, of, None, caller)
        on_failure = request.get("OnFailure")
        if on_failure is not None and "DisableRollback" in request:
            raise invalid("You cannot specify both OnFailure and DisableRollback.")
        stack = Stack(
            stack_id=of.stack_id,
            name=name,
            status="CREATE_IN_PROGRESS",
            reason=USER,
            created_ms=self._control.clock.wall_ms(),
            wanted=prepared.wanted,
            on_failure=on_failure or failure_policy(request),
            deletes_new=request.get("RetainExceptOnCreate", False),
            is_protected=request.get("EnableTerminationProtection", False),
            timeout_minutes=request.get("TimeoutInMinutes", 0),
            client_token=request.get("ClientRequestToken", ""),
            actor=actor_of(caller, prepared.wanted.role_arn),
        )
        await self._engine.create(stack, prepared)
        return {"StackId": of.stack_id}

    async def update_stack(self, request: Request, exchange: Exchange) -> Reply:
        """Begin to change a stack."""
        stack, caller = existing(self._control.state.view, request["StackName"]), caller_of(exchange)
        check_updatable(stack)
        of = StackName(stack.stack_id, stack.name)
        prepared = await self._preparation.prepare(request, of, stack, caller)
        if not compare(self._control, TYPES, stack, prepared).is_change:
            raise invalid("No updates are to be performed.")
        await self._engine.update(
            stack.stack_id,
            prepared,
            on_failure=failure_policy(request),
            deletes_new=request.get("RetainExceptOnCreate", False),
            client_token=request.get("ClientRequestToken", ""),
            actor=actor_of(caller, prepared.wanted.role_arn),
        )
        return {"StackId": stack.stack_id}

    async def delete_stack(self, request: Request, exchange: Exchange) -> Reply:
        """Begin to delete a stack."""
        name, caller = request["StackName"], caller_of(exchange)
        stack = find(self._control.state.view, name)
        role = request.get("RoleARN") or (stack.wanted.role_arn if stack is not None else "")
        token = request.get("ClientRequestToken", "")
        await self._engine.delete(name, request.get("RetainResources", ()), actor_of(caller, role), token)
        return {}

    async def cancel_update_stack(self, request: Request, _: Exchange) -> Reply:
        """Let an update be undone."""
        await self._engine.cancel(request["StackName"])
        return {}

    async def continue_update_rollback(self, request: Request, exchange: Exchange) -> Reply:
        """Go on with an undoing that failed."""
        await self._roll_back(request, exchange, request.get("ResourcesToSkip", ()))
        return {}

    async def rollback_stack(self, request: Request, exchange: Exchange) -> Reply:
        """Undo what failed and was left as it was."""
        return {"StackId": await self._roll_back(request, exchange, ())}

    async def update_termination_protection(self, request: Request, _: Exchange) -> Reply:
        """Say whether a stack may be deleted."""
        stack = existing(self._control.state.view, request["StackName"])
        await self._engine.protect(stack.stack_id, is_protected=request["EnableTerminationProtection"])
        return {"StackId": stack.stack_id}

    async def _roll_back(self, request: Request, exchange: Exchange, skipped: Any) -> str:
        stack = existing(self._control.state.view, request["StackName"])
        actor = actor_of(caller_of(exchange), request.get("RoleARN") or stack.wanted.role_arn)
        token = request.get("ClientRequestToken", "")
        return await self._engine.roll_back(stack.stack_id, actor, skipped, token)
