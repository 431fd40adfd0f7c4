"""
Everything the control plane knows, in memory, and the changes that rules make to it.

Rules read a `View` and return `Change`s; they never write. The holder of the view makes changes durable first
and applies them then, so what can be read here has been kept.
"""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads annotations
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from remora.resources.attachments import EventInvokeConfig, FunctionUrl, Policy, ProvisionedConcurrency
from remora.resources.neighbours import (
    Bucket,
    ManagedPolicy,
    Parameter,
    Repository,
    Role,
    Session,
    StoredObject,
    Upload,
)
from remora.resources.records import Alias, CodeSigningConfig, Function, FunctionVersion, Layer, LayerVersion
from remora.resources.stacks import ChangeSet, Stack, StackEvent, StackResource, TemplateText

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remora.resources.names import Place

Record = msgspec.Struct

KINDS: Final[dict[str, type[Record]]] = {
    "alias": Alias,
    "bucket": Bucket,
    "change-set": ChangeSet,
    "code-signing-config": CodeSigningConfig,
    "event-invoke-config": EventInvokeConfig,
    "function": Function,
    "function-url": FunctionUrl,
    "layer": Layer,
    "layer-policy": Policy,
    "layer-version": LayerVersion,
    "managed-policy": ManagedPolicy,
    "object": StoredObject,
    "parameter": Parameter,
    "policy": Policy,
    "provisioned-concurrency": ProvisionedConcurrency,
    "repository": Repository,
    "role": Role,
    "session": Session,
    "stack": Stack,
    "stack-event": StackEvent,
    "stack-resource": StackResource,
    "template": TemplateText,
    "upload": Upload,
    "version": FunctionVersion,
}
"""Kinds of records as the store names them."""

_FLAT: Final = {
    "bucket": "buckets",
    "change-set": "change_sets",
    "code-signing-config": "signing_configs",
    "function": "functions",
    "layer": "layers",
    "managed-policy": "managed_policies",
    "parameter": "parameters",
    "repository": "repositories",
    "role": "roles",
    "session": "sessions",
    "stack": "stacks",
    "template": "templates",
    "upload": "uploads",
}
"""Kinds whose key is a name, and where the view has them."""

_NUMBERED: Final = {
    "layer-policy": "layer_policies",
    "layer-version": "layer_versions",
    "stack-event": "stack_events",
    "version": "versions",
}
"""Kinds whose key is a name and a number."""

_QUALIFIED: Final = {
    "alias": "aliases",
    "event-invoke-config": "event_invoke_configs",
    "function-url": "urls",
    "policy": "policies",
    "provisioned-concurrency": "provisioned",
}
"""Kinds whose key is a function's name and a qualifier."""

_TABLES: Final = _FLAT | _NUMBERED | _QUALIFIED | {"object": "objects", "stack-resource": "stack_resources"}
_OF_FUNCTIONS: Final = ("version", *_QUALIFIED)


class Change(NamedTuple):
    """One record is put in place of what was there; None deletes it."""

    kind: str
    key: str
    record: Record | None


class Stamp(NamedTuple):
    """What rules may not find out themselves: the time (milliseconds since 1970) and fresh UUIDs."""

    wall_ms: int
    revision_id: str
    other_id: str = ""
    """For a second record that is made in the same step."""


@dataclass(slots=True)
class View:
    """
    The records, by name. Rules treat it as frozen.

    Args:
        functions: By bare name.
        versions: Published versions, by the function's name, then number.
        aliases: By the function's name, then the alias's.
        policies: By the function's name, then the qualifier: `$LATEST` stands for the function itself.
        event_invoke_configs: By the function's name, then the qualifier.
        provisioned: By the function's name, then the qualifier.
        urls: By the function's name, then the qualifier.
        layers: By bare name.
        layer_versions: By bare name, then number.
        layer_policies: By bare name, then number.
        signing_configs: By ARN.
        buckets: By name.
        objects: By the bucket's name, then key.
        uploads: By their identifier.
        roles: By name.
        managed_policies: Those of the account itself, by name.
        sessions: By access key.
        parameters: By name.
        repositories: By name.
        stacks: By their identifiers.
        stack_resources: By the stack's identifier, then logical identifier.
        stack_events: By the stack's identifier, then number, from 1.
        change_sets: By their identifiers.
        templates: By the digest of their text.
    """

    functions: dict[str, Function] = field(default_factory=dict)
    versions: dict[str, dict[int, FunctionVersion]] = field(default_factory=dict)
    aliases: dict[str, dict[str, Alias]] = field(default_factory=dict)
    policies: dict[str, dict[str, Policy]] = field(default_factory=dict)
    event_invoke_configs: dict[str, dict[str, EventInvokeConfig]] = field(default_factory=dict)
    provisioned: dict[str, dict[str, ProvisionedConcurrency]] = field(default_factory=dict)
    urls: dict[str, dict[str, FunctionUrl]] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    layer_versions: dict[str, dict[int, LayerVersion]] = field(default_factory=dict)
    layer_policies: dict[str, dict[int, Policy]] = field(default_factory=dict)
    signing_configs: dict[str, CodeSigningConfig] = field(default_factory=dict)
    buckets: dict[str, Bucket] = field(default_factory=dict)
    objects: dict[str, dict[str, StoredObject]] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    managed_policies: dict[str, ManagedPolicy] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    repositories: dict[str, Repository] = field(default_factory=dict)
    stacks: dict[str, Stack] = field(default_factory=dict)
    stack_resources: dict[str, dict[str, StackResource]] = field(default_factory=dict)
    stack_events: dict[str, dict[int, StackEvent]] = field(default_factory=dict)
    change_sets: dict[str, ChangeSet] = field(default_factory=dict)
    templates: dict[str, TemplateText] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<View functions={len(self.functions)} layers={len(self.layers)}>"

    def apply(self, changes: Sequence[Change]) -> None:
        """Take over changes that have been made durable."""
        for change in changes:
            table: dict[str, Any] = getattr(self, _TABLES[change.kind])
            if change.kind in _FLAT:
                _put(table, change.key, change.record)
            else:
                _put_below(table, change)

    def of_function(self, name: str, *, qualifier: str | None = None) -> Iterator[Change]:
        """Go through the deletion of everything that hangs on a function, or on one of its qualifiers."""
        for kind in _OF_FUNCTIONS:
            table: dict[str, dict[str | int, Record]] = getattr(self, _TABLES[kind])
            for inner in table.get(name, {}):
                if qualifier is None or str(inner) == qualifier:
                    yield Change(kind, f"{name}:{inner}", None)

    def policy_by_arn(self, place: Place, arn: str) -> ManagedPolicy | None:
        """Return the account's own managed policy of an ARN; None if there is none."""
        policy = self.managed_policies.get(arn.rpartition("/")[2])
        return policy if policy is not None and place.policy_arn(policy.name, policy.path) == arn else None

    def role_by_arn(self, place: Place, arn: str) -> Role | None:
        """Return the role of an ARN; None if there is none."""
        role = self.roles.get(arn.rpartition("/")[2])
        return role if role is not None and place.role_arn(role.name, role.path) == arn else None

    def all_layer_versions(self) -> Iterator[LayerVersion]:
        """Go through every layer version."""
        for versions in self.layer_versions.values():
            yield from versions.values()

    def all_function_versions(self) -> Iterator[FunctionVersion]:
        """Go through every version of every function, `$LATEST` first; what serves during an update, too."""
        for function in self.functions.values():
            yield function.latest
            if function.serving is not None:
                yield function.serving
        for versions in self.versions.values():
            yield from versions.values()

    def object_digests(self) -> set[str]:
        """Name the content of every object and of every part of an upload."""
        found = {stored.digest for objects in self.objects.values() for stored in objects.values()}
        found.update(part.digest for upload in self.uploads.values() for part in upload.parts.values())
        return found

    def digests(self) -> set[str]:
        """Name every zip that something refers to, layers that only functions remember included."""
        found = {version.digest for version in self.all_layer_versions()}
        for version in self.all_function_versions():
            found.add(version.code_digest)
            found.update(layer.digest for layer in version.layers)
        return found

    def layer_stacks(self) -> set[tuple[str, ...]]:
        """Name every list of layers that a function has, by the digests of their zips."""
        return {
            tuple(layer.digest for layer in version.layers)
            for version in self.all_function_versions()
            if version.layers
        }

    def total_code_bytes(self) -> int:
        """Add up the zips of all function and layer versions, each counted where it is used, bytes."""
        functions = sum(function.latest.code_size_bytes for function in self.functions.values())
        published = sum(
            version.code_size_bytes for versions in self.versions.values() for version in versions.values()
        )
        return functions + published + sum(version.code_size_bytes for version in self.all_layer_versions())


def _put(records: dict[Any, Any], key: str | int, record: Record | None) -> None:
    if record is None:
        records.pop(key, None)
    else:
        records[key] = record


def _put_below(tables: dict[str, dict[Any, Any]], change: Change) -> None:
    """Put a record whose key is `name:inner` (`bucket/key`); a name without records is forgotten."""
    if change.kind == "object":
        name, _, inner = change.key.partition("/")
    else:
        name, _, inner = change.key.rpartition(":")
    records = tables.setdefault(name, {})
    _put(records, int(inner) if change.kind in _NUMBERED else inner, change.record)
    if not records:
        del tables[name]
