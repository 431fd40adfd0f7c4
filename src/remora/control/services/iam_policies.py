"""
IAM: managed policies, those of the account in versions and those of AWS, as deploy tools make and read them.

Source: AWS Identity and Access Management API Reference; user guide, "Versioning IAM policies".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from remora.auth.managed import MANAGED
from remora.control.services.iam_parts import (
    conflict,
    document,
    managed_name,
    merged_tags,
    missing,
    one_page,
    shown_tags,
)
from remora.control.services.neighbour import ServiceError
from remora.resources.neighbours import ManagedPolicy, PolicyVersion
from remora.resources.view import Change, View

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remora.control.context import Control
    from remora.control.services.query import QueryHandler
    from remora.http.exchange import Exchange

Request = dict[str, Any]
Reply = dict[str, Any]

_VERSIONS_MAX: Final = 5
_CHARACTERS_MAX: Final = 6_144
"""Of a document, white space aside. Source: "IAM and AWS STS quotas"."""


class Policies:
    """
    Performs the operations.

    Args:
        control: The node's parts.
    """

    def __init__(self, control: Control) -> None:
        self._control = control

    def __repr__(self) -> str:
        return f"<Policies {len(self._control.state.view.managed_policies)}>"

    def handlers(self) -> Mapping[str, QueryHandler]:
        """Return what performs each operation, by its name in the model."""
        return {
            "CreatePolicy": self.create_policy,
            "CreatePolicyVersion": self.create_policy_version,
            "DeletePolicy": self.delete_policy,
            "DeletePolicyVersion": self.delete_policy_version,
            "GetPolicy": self.get_policy,
            "GetPolicyVersion": self.get_policy_version,
            "ListEntitiesForPolicy": self.list_entities_for_policy,
            "ListPolicies": self.list_policies,
            "ListPolicyTags": self.list_policy_tags,
            "ListPolicyVersions": self.list_policy_versions,
            "SetDefaultPolicyVersion": self.set_default_policy_version,
            "TagPolicy": self.tag_policy,
            "UntagPolicy": self.untag_policy,
        }

    async def create_policy(self, request: Request, _: Exchange) -> Reply:
        """Make a policy; what it says becomes its version v1."""
        now_ms = self._control.clock.wall_ms()
        name, path = request["PolicyName"], request.get("Path", "/")
        policy = ManagedPolicy(
            name=name,
            policy_id=f"ANPA{self._control.new_id().replace('-', '')[:17].upper()}",
            path=path,
            created_ms=now_ms,
            updated_ms=now_ms,
            description=request.get("Description", ""),
            versions={"v1": PolicyVersion(_document(request), now_ms)},
            tags=merged_tags({}, request.get("Tags", ())),
        )

        def decide(view: View) -> tuple[None, list[Change]]:
            if name in view.managed_policies:
                text = f"A policy called {name} already exists. Duplicate names are not allowed."
                raise ServiceError("EntityAlreadyExists", text, 409)
            return None, [Change("managed-policy", name, policy)]

        await self._control.state.change(decide)
        return {"Policy": self._describe(policy)}

    async def get_policy(self, request: Request, _: Exchange) -> Reply:
        """Describe a policy, of the account's own or one that AWS manages."""
        arn = request["PolicyArn"]
        own = self._control.state.view.policy_by_arn(self._control.place, arn)
        return {"Policy": self._describe(own) if own is not None else self._describe_aws(arn)}

    async def list_policies(self, request: Request, _: Exchange) -> Reply:
        """List policies, one page: the account's own, and those of AWS that the node knows."""
        scope, prefix = request.get("Scope", "All"), request.get("PathPrefix", "/")
        own = self._control.state.view.managed_policies.values() if scope != "AWS" else ()
        aws = MANAGED if scope != "Local" else ()
        found = [self._describe(policy) for policy in own] + [self._describe_aws(arn) for arn in aws]
        is_wanted = [
            each
            for each in found
            if each["Path"].startswith(prefix)
            and (each["AttachmentCount"] or not request.get("OnlyAttached"))
        ]
        listed = {each["Arn"]: {name: each[name] for name in each if name != "Tags"} for each in is_wanted}
        return one_page("Policies", listed, request)

    async def delete_policy(self, request: Request, _: Exchange) -> Reply:
        """Delete a policy that nothing has, and that has no other version than its default."""
        arn = request["PolicyArn"]

        def decide(view: View) -> tuple[None, list[Change]]:
            policy = _existing(view, self._control, arn)
            if any(arn in {*role.attached, role.boundary} for role in view.roles.values()):
                raise conflict("Cannot delete a policy attached to entities.")
            if len(policy.versions) > 1:
                raise conflict(
                    "This policy has more than one version. Before you delete a policy, you must delete the "
                    "policy's versions. The default version is deleted with the policy."
                )
            return None, [Change("managed-policy", policy.name, None)]

        await self._control.state.change(decide)
        return {}

    async def list_entities_for_policy(self, request: Request, _: Exchange) -> Reply:
        """List the roles that have a policy attached."""
        arn, view = request["PolicyArn"], self._control.state.view
        if view.policy_by_arn(self._control.place, arn) is None:
            managed_name(arn)
        roles = {name: role for name, role in view.roles.items() if arn in role.attached}
        listed = {name: {"RoleName": name, "RoleId": role.role_id} for name, role in roles.items()}
        return {**one_page("PolicyRoles", listed, request), "PolicyGroups": [], "PolicyUsers": []}

    # --- versions -------------------------------------------------------------------------------------------

    async def create_policy_version(self, request: Request, _: Exchange) -> Reply:
        """Say something else by a policy: at once if it becomes the default."""
        version = PolicyVersion(_document(request), self._control.clock.wall_ms())

        def add(policy: ManagedPolicy) -> ManagedPolicy:
            if len(policy.versions) >= _VERSIONS_MAX:
                text = (
                    f"A managed policy can have up to {_VERSIONS_MAX} versions. "
                    "Before you create a new version, you must delete an existing version."
                )
                raise ServiceError("LimitExceeded", text, 409)
            name = f"v{policy.next_version}"
            return msgspec.structs.replace(
                policy,
                versions={**policy.versions, name: version},
                next_version=policy.next_version + 1,
                default=name if request.get("SetAsDefault") else policy.default,
                updated_ms=version.created_ms,
            )

        policy = await self._change(request, add)
        name = f"v{policy.next_version - 1}"
        shown = _describe_version(policy, name)
        del shown["Document"]
        return {"PolicyVersion": shown}

    async def get_policy_version(self, request: Request, _: Exchange) -> Reply:
        """Show a version of a policy, with what it says."""
        arn, name = request["PolicyArn"], request["VersionId"]
        own = self._control.state.view.policy_by_arn(self._control.place, arn)
        if own is not None:
            _version(own, name)
            return {"PolicyVersion": _describe_version(own, name)}
        if arn not in MANAGED or name != "v1":
            managed_name(arn)
            raise missing(f"What version {name} of {arn} says is not known to this node.")
        text = msgspec.json.encode({"Version": "2012-10-17", "Statement": MANAGED[arn]}).decode()
        return {
            "PolicyVersion": {"Document": quote(text, safe=""), "VersionId": "v1", "IsDefaultVersion": True}
        }

    async def list_policy_versions(self, request: Request, _: Exchange) -> Reply:
        """List the versions of a policy."""
        arn = request["PolicyArn"]
        own = self._control.state.view.policy_by_arn(self._control.place, arn)
        if own is None:
            managed_name(arn)
            return {"Versions": [{"VersionId": "v1", "IsDefaultVersion": True}], "IsTruncated": False}
        listed = {name: _describe_version(own, name) for name in own.versions}
        for each in listed.values():
            del each["Document"]
        return one_page("Versions", listed, request)

    async def set_default_policy_version(self, request: Request, _: Exchange) -> Reply:
        """Let another version of a policy be what it says."""
        name, now_ms = request["VersionId"], self._control.clock.wall_ms()

        def choose(policy: ManagedPolicy) -> ManagedPolicy:
            _version(policy, name)
            return msgspec.structs.replace(policy, default=name, updated_ms=now_ms)

        await self._change(request, choose)
        return {}

    async def delete_policy_version(self, request: Request, _: Exchange) -> Reply:
        """Delete a version of a policy that is not its default."""
        name, now_ms = request["VersionId"], self._control.clock.wall_ms()

        def delete(policy: ManagedPolicy) -> ManagedPolicy:
            _version(policy, name)
            if name == policy.default:
                raise conflict("Cannot delete the default version of a policy.")
            kept = {other: version for other, version in policy.versions.items() if other != name}
            return msgspec.structs.replace(policy, versions=kept, updated_ms=now_ms)

        await self._change(request, delete)
        return {}

    # --- tags -----------------------------------------------------------------------------------------------

    async def tag_policy(self, request: Request, _: Exchange) -> Reply:
        """Give a policy tags."""
        await self._change(
            request,
            lambda policy: msgspec.structs.replace(policy, tags=merged_tags(policy.tags, request["Tags"])),
        )
        return {}

    async def untag_policy(self, request: Request, _: Exchange) -> Reply:
        """Take tags from a policy."""

        def untag(policy: ManagedPolicy) -> ManagedPolicy:
            kept = {key: value for key, value in policy.tags.items() if key not in request["TagKeys"]}
            return msgspec.structs.replace(policy, tags=kept)

        await self._change(request, untag)
        return {}

    async def list_policy_tags(self, request: Request, _: Exchange) -> Reply:
        """List a policy's tags."""
        policy = _existing(self._control.state.view, self._control, request["PolicyArn"])
        return {"Tags": shown_tags(policy.tags), "IsTruncated": False}

    # --- parts ----------------------------------------------------------------------------------------------

    async def _change(
        self, request: Request, change: Callable[[ManagedPolicy], ManagedPolicy]
    ) -> ManagedPolicy:
        def decide(view: View) -> tuple[ManagedPolicy, list[Change]]:
            policy = change(_existing(view, self._control, request["PolicyArn"]))
            return policy, [Change("managed-policy", policy.name, policy)]

        return await self._control.state.change(decide)

    def _describe(self, policy: ManagedPolicy) -> Reply:
        arn = self._control.place.policy_arn(policy.name, policy.path)
        return {
            "PolicyName": policy.name,
            "PolicyId": policy.policy_id,
            "Arn": arn,
            "Path": policy.path,
            "DefaultVersionId": policy.default,
            "CreateDate": policy.created_ms / 1000,
            "UpdateDate": policy.updated_ms / 1000,
            "Description": policy.description or None,
            "Tags": shown_tags(policy.tags),
            **self._attached(arn),
        }

    def _describe_aws(self, arn: str) -> Reply:
        name = managed_name(arn)
        return {
            "PolicyName": name,
            "Arn": arn,
            "Path": arn.partition(":policy")[2].removesuffix(name),
            "DefaultVersionId": "v1",
            **self._attached(arn),
        }

    def _attached(self, arn: str) -> Reply:
        roles = self._control.state.view.roles.values()
        return {
            "AttachmentCount": sum(arn in role.attached for role in roles),
            "PermissionsBoundaryUsageCount": sum(arn == role.boundary for role in roles),
            "IsAttachable": True,
        }


def _existing(view: View, control: Control, arn: str) -> ManagedPolicy:
    policy = view.policy_by_arn(control.place, arn)
    if policy is None:
        raise missing(f"Policy {arn} was not found.")
    return policy


def _version(policy: ManagedPolicy, name: str) -> PolicyVersion:
    if name not in policy.versions:
        raise missing(f"Policy version {name} does not exist or is not attachable.")
    return policy.versions[name]


def _describe_version(policy: ManagedPolicy, name: str) -> Reply:
    version = policy.versions[name]
    return {
        "Document": quote(version.document, safe=""),
        "VersionId": name,
        "IsDefaultVersion": name == policy.default,
        "CreateDate": version.created_ms / 1000,
    }


def _document(request: Request) -> str:
    text = document(request["PolicyDocument"])
    if len("".join(text.split())) > _CHARACTERS_MAX:
        raise ServiceError("LimitExceeded", f"Cannot exceed quota for PolicySize: {_CHARACTERS_MAX}", 409)
    return text
