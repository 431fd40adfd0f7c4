"""
IAM: roles and their policies, as deploy tools make and read them.

Source: AWS Identity and Access Management API Reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from remora.control.services.iam_parts import (
    conflict,
    document,
    managed_name,
    merged_tags,
    missing,
    one_page,
    shown_tags,
)
from remora.control.services.iam_policies import Policies
from remora.control.services.neighbour import ServiceError
from remora.control.services.query import QueryHandler, QueryService
from remora.resources.neighbours import Role
from remora.resources.view import Change, View
from remora.spec import xml_api

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remora.control.context import Control
    from remora.http.exchange import Exchange

SERVICE: Final = "iam"

Request = dict[str, Any]
Reply = dict[str, Any]


class Iam:
    """
    Performs the operations.

    Args:
        control: The node's parts.
    """

    def __init__(self, control: Control) -> None:
        self._control = control

    def __repr__(self) -> str:
        return f"<Iam roles={len(self._control.state.view.roles)}>"

    def handlers(self) -> Mapping[str, QueryHandler]:
        """Return what performs each operation, by its name in the model."""
        return {
            "AttachRolePolicy": self.attach_role_policy,
            "CreateRole": self.create_role,
            "DeleteRole": self.delete_role,
            "DeleteRolePermissionsBoundary": self.delete_role_permissions_boundary,
            "DeleteRolePolicy": self.delete_role_policy,
            "DetachRolePolicy": self.detach_role_policy,
            "GetRole": self.get_role,
            "GetRolePolicy": self.get_role_policy,
            "ListAttachedRolePolicies": self.list_attached_role_policies,
            "ListInstanceProfilesForRole": self.list_instance_profiles_for_role,
            "ListRolePolicies": self.list_role_policies,
            "ListRoles": self.list_roles,
            "ListRoleTags": self.list_role_tags,
            "PutRolePermissionsBoundary": self.put_role_permissions_boundary,
            "PutRolePolicy": self.put_role_policy,
            "TagRole": self.tag_role,
            "UntagRole": self.untag_role,
            "UpdateAssumeRolePolicy": self.update_assume_role_policy,
            "UpdateRole": self.update_role,
        }

    # --- roles ----------------------------------------------------------------------------------------------

    async def create_role(self, request: Request, _: Exchange) -> Reply:
        """Make a role."""
        role = Role(
            name=request["RoleName"],
            role_id=f"AROA{self._control.new_id().replace('-', '')[:17].upper()}",
            path=request.get("Path", "/"),
            created_ms=self._control.clock.wall_ms(),
            trust_policy=document(request["AssumeRolePolicyDocument"], is_trust=True),
            description=request.get("Description", ""),
            max_session_s=request.get("MaxSessionDuration", 3600),
            tags=merged_tags({}, request.get("Tags", ())),
            boundary=request.get("PermissionsBoundary", ""),
        )
        if role.boundary:
            self._attachable(role.boundary)

        def decide(view: View) -> tuple[None, list[Change]]:
            if role.name in view.roles:
                text = f"Role with name {role.name} already exists."
                raise ServiceError("EntityAlreadyExists", text, 409)
            return None, [Change("role", role.name, role)]

        await self._control.state.change(decide)
        return {"Role": self._describe(role)}

    async def get_role(self, request: Request, _: Exchange) -> Reply:
        """Describe a role."""
        return {"Role": self._describe(self._find(request))}

    async def list_roles(self, request: Request, _: Exchange) -> Reply:
        """List roles by name, one page."""
        prefix = request.get("PathPrefix", "/")
        roles = self._control.state.view.roles.items()
        listed = {name: self._describe(role) for name, role in roles if role.path.startswith(prefix)}
        return one_page("Roles", listed, request)

    async def update_role(self, request: Request, _: Exchange) -> Reply:
        """Change a role's description and sessions."""
        changes = {}
        if "Description" in request:
            changes["description"] = request["Description"]
        if "MaxSessionDuration" in request:
            changes["max_session_s"] = request["MaxSessionDuration"]
        await self._change(request, lambda role: msgspec.structs.replace(role, **changes))
        return {}

    async def update_assume_role_policy(self, request: Request, _: Exchange) -> Reply:
        """Say who may assume a role."""
        trust = document(request["PolicyDocument"], is_trust=True)
        await self._change(request, lambda role: msgspec.structs.replace(role, trust_policy=trust))
        return {}

    async def delete_role(self, request: Request, _: Exchange) -> Reply:
        """Delete a role that has no policies."""

        def delete(role: Role) -> None:
            if role.attached:
                raise conflict("Cannot delete entity, must detach all policies first.")
            if role.inline:
                raise conflict("Cannot delete entity, must delete policies first.")

        await self._change(request, delete)
        return {}

    async def list_instance_profiles_for_role(self, request: Request, _: Exchange) -> Reply:
        """List no instance profiles: there are none here."""
        self._find(request)
        return {"InstanceProfiles": [], "IsTruncated": False}

    async def tag_role(self, request: Request, _: Exchange) -> Reply:
        """Give a role tags."""
        await self._change(
            request, lambda role: msgspec.structs.replace(role, tags=merged_tags(role.tags, request["Tags"]))
        )
        return {}

    async def untag_role(self, request: Request, _: Exchange) -> Reply:
        """Take tags from a role."""

        def untag(role: Role) -> Role:
            kept = {key: value for key, value in role.tags.items() if key not in request["TagKeys"]}
            return msgspec.structs.replace(role, tags=kept)

        await self._change(request, untag)
        return {}

    async def list_role_tags(self, request: Request, _: Exchange) -> Reply:
        """List a role's tags."""
        return {"Tags": shown_tags(self._find(request).tags), "IsTruncated": False}

    # --- its policies ---------------------------------------------------------------------------------------

    async def put_role_policy(self, request: Request, _: Exchange) -> Reply:
        """Give a role a policy of its own."""
        name, text = request["PolicyName"], document(request["PolicyDocument"])
        await self._change(
            request, lambda role: msgspec.structs.replace(role, inline={**role.inline, name: text})
        )
        return {}

    async def get_role_policy(self, request: Request, _: Exchange) -> Reply:
        """Show a policy of a role's own."""
        role, name = self._find(request), request["PolicyName"]
        return {
            "RoleName": role.name,
            "PolicyName": name,
            "PolicyDocument": quote(_inline(role, name), safe=""),
        }

    async def delete_role_policy(self, request: Request, _: Exchange) -> Reply:
        """Take a policy of its own from a role."""

        def delete(role: Role) -> Role:
            _inline(role, request["PolicyName"])
            kept = {name: each for name, each in role.inline.items() if name != request["PolicyName"]}
            return msgspec.structs.replace(role, inline=kept)

        await self._change(request, delete)
        return {}

    async def list_role_policies(self, request: Request, _: Exchange) -> Reply:
        """List the names of a role's own policies."""
        return {"PolicyNames": sorted(self._find(request).inline), "IsTruncated": False}

    async def attach_role_policy(self, request: Request, _: Exchange) -> Reply:
        """Attach a managed policy to a role."""
        arn = request["PolicyArn"]

        def attach(role: Role) -> Role:
            return msgspec.structs.replace(role, attached={**role.attached, arn: self._attachable(arn)})

        await self._change(request, attach)
        return {}

    async def detach_role_policy(self, request: Request, _: Exchange) -> Reply:
        """Detach a managed policy from a role."""

        def detach(role: Role) -> Role:
            if request["PolicyArn"] not in role.attached:
                raise missing(f"Policy {request['PolicyArn']} was not found.")
            kept = {arn: name for arn, name in role.attached.items() if arn != request["PolicyArn"]}
            return msgspec.structs.replace(role, attached=kept)

        await self._change(request, detach)
        return {}

    async def list_attached_role_policies(self, request: Request, _: Exchange) -> Reply:
        """List the managed policies of a role."""
        attached = self._find(request).attached
        shown = [{"PolicyName": name, "PolicyArn": arn} for arn, name in sorted(attached.items())]
        return {"AttachedPolicies": shown, "IsTruncated": False}

    async def put_role_permissions_boundary(self, request: Request, _: Exchange) -> Reply:
        """Say by a managed policy what a role may do at most."""
        arn = request["PermissionsBoundary"]

        def bound(role: Role) -> Role:
            self._attachable(arn)
            return msgspec.structs.replace(role, boundary=arn)

        await self._change(request, bound)
        return {}

    async def delete_role_permissions_boundary(self, request: Request, _: Exchange) -> Reply:
        """Let a role do all that its policies allow."""

        def delete(role: Role) -> Role:
            if not role.boundary:
                raise missing(f"The role with name {role.name} has no permissions boundary.")
            return msgspec.structs.replace(role, boundary="")

        await self._change(request, delete)
        return {}

    # --- parts ----------------------------------------------------------------------------------------------

    def _find(self, request: Request) -> Role:
        return _existing(self._control.state.view, request["RoleName"])

    def _attachable(self, arn: str) -> str:
        """Return the name of a managed policy: the account's, or one of AWS, which are all taken to exist."""
        own = self._control.state.view.policy_by_arn(self._control.place, arn)
        return own.name if own is not None else managed_name(arn)

    async def _change(self, request: Request, change: Callable[[Role], Role | None]) -> None:
        name = request["RoleName"]

        def decide(view: View) -> tuple[None, list[Change]]:
            return None, [Change("role", name, change(_existing(view, name)))]

        await self._control.state.change(decide)

    def _describe(self, role: Role) -> Reply:
        return {
            "Path": role.path,
            "RoleName": role.name,
            "RoleId": role.role_id,
            "Arn": self._control.place.role_arn(role.name, role.path),
            "CreateDate": role.created_ms / 1000,
            "AssumeRolePolicyDocument": quote(role.trust_policy, safe=""),
            "Description": role.description or None,
            "MaxSessionDuration": role.max_session_s,
            "PermissionsBoundary": _boundary(role.boundary),
            "Tags": shown_tags(role.tags) or None,
        }


def service(control: Control) -> QueryService:
    """Return the service."""
    handlers = {**Iam(control).handlers(), **Policies(control).handlers()}
    api = xml_api.load("iam", "2010-05-08", handlers.keys())
    return QueryService(SERVICE, api, handlers, control.new_id)


def _existing(view: View, name: str) -> Role:
    role = view.roles.get(name)
    if role is None:
        raise missing(f"The role with name {name} cannot be found.")
    return role


def _boundary(arn: str) -> Reply | None:
    kind = "PermissionsBoundaryPolicy"
    return {"PermissionsBoundaryType": kind, "PermissionsBoundaryArn": arn} if arn else None


def _inline(role: Role, name: str) -> str:
    if name not in role.inline:
        raise missing(f"The role policy with name {name} cannot be found.")
    return role.inline[name]
