"""Stacks of CloudFormation as frozen records: what was asked for, what was made of it, and what happened."""

from __future__ import annotations

from typing import Any, Final

import msgspec

STACK_TYPE: Final = "AWS::CloudFormation::Stack"
REVIEW: Final = "REVIEW_IN_PROGRESS"


class TemplateText(msgspec.Struct, frozen=True):
    """The text of a template; kept under its digest, so that a stack's record stays small."""

    body: str


class Actor(msgspec.Struct, frozen=True):
    """
    On whose behalf a stack is deployed: whoever asked for it, or the role that was given.

    Kept with the stack, so that a deployment goes on after the node was started anew. The members are those
    of a caller of the API.
    """

    arn: str
    role: str = ""
    function: str = ""
    user_id: str = ""
    access_key: str = ""
    policies: tuple[str, ...] | None = None
    session_policies: tuple[str, ...] = ()
    is_foreign: bool = False


class StackParameter(msgspec.Struct, frozen=True):
    """The value of a parameter."""

    value: str
    resolved: str
    """Differs from `value` if that names a parameter of Systems Manager."""
    is_secret: bool = False
    """Whether it is not to be shown."""


class StackOutput(msgspec.Struct, frozen=True):
    """A value that a stack shows, and that others may import."""

    key: str
    value: str
    description: str = ""
    export_name: str = ""
    """Empty if it is not exported."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a stack was asked to be; an update replaces it whole, a rollback brings the former one back."""

    template: str
    """Digest of the template as it was given."""
    processed: str
    """Digest of what its transforms made of it; the same if there are none."""
    description: str = ""
    parameters: dict[str, StackParameter] = {}
    tags: dict[str, str] = {}
    capabilities: tuple[str, ...] = ()
    notification_arns: tuple[str, ...] = ()
    role_arn: str = ""
    """The role that it is deployed with; empty if that is whoever asks."""
    imports: tuple[str, ...] = ()
    """Names of the exports of other stacks that it uses."""
    outputs: tuple[StackOutput, ...] = ()


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """One real thing behind a resource of a stack."""

    physical_id: str
    """Empty until it is known."""
    properties: dict[str, Any] = {}
    """With every reference resolved."""
    attributes: dict[str, Any] = {}
    """What `Fn::GetAtt` returns."""
    deletion_policy: str = "Delete"
    replace_policy: str = "Delete"
    """What becomes of it when another one takes its place."""


class StackResource(msgspec.Struct, frozen=True, kw_only=True):
    """
    One resource of a stack.

    Source: shape StackResourceDetail of the CloudFormation model.
    """

    stack_id: str
    logical_id: str
    type: str
    status: str
    updated_ms: int
    body: Body
    reason: str = ""
    depends_on: tuple[str, ...] = ()
    metadata: str = ""
    """JSON; empty if it has none."""
    token: str = ""
    """A UUID of its creation."""
    former: Body | None = None
    """What it was before the operation that is going on; None if that has not changed it."""
    is_new: bool = False
    """Whether the operation that is going on made it."""

    @property
    def is_alive(self) -> bool:
        """Whether it has not been deleted, or left behind."""
        return self.status not in ("DELETE_COMPLETE", "DELETE_SKIPPED")

    @property
    def is_replaced(self) -> bool:
        """Whether something else stood in its place before this operation."""
        return self.former is not None and self.former.physical_id != self.body.physical_id


class Leaving(msgspec.Struct, frozen=True):
    """A thing that a stack has done with and that is to be deleted."""

    logical_id: str
    type: str
    body: Body
    token: str = ""


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """
    A stack.

    Source: shape Stack of the CloudFormation model.
    """

    stack_id: str
    """`arn:aws:cloudformation:…:stack/NAME/UUID`."""
    name: str
    status: str
    created_ms: int
    reason: str = ""
    updated_ms: int | None = None
    deleted_ms: int | None = None
    wanted: Wanted
    former: Wanted | None = None
    """What it was asked to be before the update that is going on, or being rolled back."""
    change_set_id: str = ""
    """The change set that was executed last."""
    on_failure: str = "ROLLBACK"
    """`ROLLBACK`, `DO_NOTHING` or `DELETE`: what becomes of what was made if something fails."""
    deletes_new: bool = False
    """Whether a rollback deletes what is new whatever its deletion policy says (RetainExceptOnCreate)."""
    is_protected: bool = False
    """Whether it may not be deleted."""
    timeout_minutes: int = 0
    """How long its creation may take; 0: as long as it takes."""
    client_token: str = ""
    """Of the request that began what is going on."""
    actor: Actor | None = None
    """On whose behalf it is deployed; None on a node that asks for no keys."""
    leaving: tuple[Leaving, ...] = ()
    """What is to be deleted at the end of an update, in this order."""
    passed_over: tuple[str, ...] = ()
    """Logical identifiers of what a deletion leaves where it is, or an undoing takes for undone."""

    @property
    def is_deleted(self) -> bool:
        """Whether it can be seen by its identifier only."""
        return self.status == "DELETE_COMPLETE"

    @property
    def is_busy(self) -> bool:
        """Whether something is going on with it."""
        return self.status.endswith("_IN_PROGRESS") and self.status != REVIEW


class StackEvent(msgspec.Struct, frozen=True, kw_only=True):
    """
    Something that happened to a stack or one of its resources.

    Source: shape StackEvent of the CloudFormation model.
    """

    event_id: str
    logical_id: str
    physical_id: str
    type: str
    status: str
    wall_ms: int
    reason: str = ""
    properties: str = ""
    """JSON; empty if it is about none."""
    client_token: str = ""


class ResourceChange(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a change set would do to one resource.

    Source: shape ResourceChange of the CloudFormation model.
    """

    action: str
    """`Add`, `Modify` or `Remove`."""
    logical_id: str
    type: str
    physical_id: str = ""
    replacement: str = ""
    """`True`, `False` or `Conditional`; empty unless it is modified."""
    policy: str = ""
    """`Delete`, `Retain`, `ReplaceAndDelete`…; empty if nothing is deleted."""
    scope: tuple[str, ...] = ()
    details: tuple[dict[str, Any], ...] = ()
    """Members of shape ResourceChangeDetail."""
    before: str = ""
    after: str = ""
    """The resource before and after, JSON; empty if there is none."""


class ChangeSet(msgspec.Struct, frozen=True, kw_only=True):
    """
    A change of a stack that was worked out and may be executed.

    Source: shape DescribeChangeSetOutput of the CloudFormation model.
    """

    change_set_id: str
    """`arn:aws:cloudformation:…:changeSet/NAME/UUID`."""
    name: str
    stack_id: str
    kind: str
    """`CREATE` or `UPDATE`."""
    status: str
    execution_status: str
    created_ms: int
    reason: str = ""
    description: str = ""
    wanted: Wanted
    changes: tuple[ResourceChange, ...] = ()
    on_failure: str = ""
    actor: Actor | None = None
