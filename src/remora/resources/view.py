"""
Everything the control plane knows, in memory, and the changes that rules make to it.

Rules read a `View` and return `Change`s; they never write. The holder of the view makes changes durable first
and applies them then, so what can be read here has been kept.
"""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads annotations
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from remora.resources.records import Function, Layer, LayerVersion

if TYPE_CHECKING:
    from collections.abc import Iterator

Record = Function | Layer | LayerVersion

KINDS: dict[str, type[Function | Layer | LayerVersion]] = {
    "function": Function,
    "layer": Layer,
    "layer-version": LayerVersion,
}
"""Kinds of records as the store names them."""


class Change(NamedTuple):
    """One record is put in place of what was there; None deletes it."""

    kind: str
    key: str
    record: Record | None


class Stamp(NamedTuple):
    """What rules may not find out themselves: the time (milliseconds since 1970) and a fresh UUID."""

    wall_ms: int
    revision_id: str


@dataclass(slots=True)
class View:
    """
    The records, by name. Rules treat it as frozen.

    Args:
        functions: By bare name.
        layers: By bare name.
        layer_versions: By bare name, then number.
    """

    functions: dict[str, Function] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    layer_versions: dict[str, dict[int, LayerVersion]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<View functions={len(self.functions)} layers={len(self.layers)}>"

    def apply(self, changes: Sequence[Change]) -> None:
        """Take over changes that have been made durable."""
        for change in changes:
            match change.kind:
                case "function":
                    _put(self.functions, change.key, change.record)
                case "layer":
                    _put(self.layers, change.key, change.record)
                case "layer-version":
                    name, _, number = change.key.rpartition(":")
                    versions = self.layer_versions.setdefault(name, {})
                    _put(versions, int(number), change.record)
                    if not versions:
                        del self.layer_versions[name]
                case unknown:
                    raise AssertionError(f"there are no records of kind {unknown}")

    def all_layer_versions(self) -> Iterator[LayerVersion]:
        """Go through every layer version."""
        for versions in self.layer_versions.values():
            yield from versions.values()

    def digests(self) -> set[str]:
        """Name every zip that something refers to, layers that only functions remember included."""
        found = {version.digest for version in self.all_layer_versions()}
        for function in self.functions.values():
            for version in (function.latest, function.serving):
                if version is not None:
                    found.add(version.code_digest)
                    found.update(layer.digest for layer in version.layers)
        return found

    def stacks(self) -> set[tuple[str, ...]]:
        """Name every list of layers that a function has, by the digests of their zips."""
        return {
            tuple(layer.digest for layer in version.layers)
            for function in self.functions.values()
            for version in (function.latest, function.serving)
            if version is not None and version.layers
        }

    def total_code_bytes(self) -> int:
        """Add up the zips of all functions and layer versions, each counted where it is used, bytes."""
        functions = sum(function.latest.code_size_bytes for function in self.functions.values())
        return functions + sum(version.code_size_bytes for version in self.all_layer_versions())


def _put(records: dict[Any, Any], key: str | int, record: Record | None) -> None:
    if record is None:
        records.pop(key, None)
    else:
        records[key] = record
