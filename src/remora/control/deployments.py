"""Functions made ready to run: code and layers on disk, runtime laid out; kept in memory once made."""

from __future__ import annotations

import hashlib
import weakref
from typing import TYPE_CHECKING

import msgspec

from remora.artifacts.layers import stack_digest
from remora.kit.turns import Turns
from remora.pool.base import Deployment

if TYPE_CHECKING:
    from remora.artifacts.artifacts import Artifacts
    from remora.control.context import RuntimeSource
    from remora.resources.records import FunctionVersion
    from remora.runtimes.layout import RuntimeLayout

_encode = msgspec.json.Encoder(order="deterministic").encode


class Deployments:
    """
    Makes deployments, each once.

    Args:
        artifacts: Where code and layers come from.
        runtimes: Where runtimes come from.
    """

    def __init__(self, artifacts: Artifacts, runtimes: RuntimeSource) -> None:
        self._artifacts = artifacts
        self._runtimes = runtimes
        self._turns = Turns()
        self._made: dict[tuple[str, str], dict[str, Deployment]] = {}
        """By name and version, then by what the record says."""

    def __repr__(self) -> str:
        return f"<Deployments versions={len(self._made)}>"

    async def make(self, version: FunctionVersion) -> Deployment:
        """
        Return the deployment of a function version; it is made if it was not yet.

        Raises:
            RuntimeUnavailable: If the runtime cannot be had.
            ArchiveError: If a package is damaged.
            OSError: If the disk cannot take it.

        **Cancellation:** what was made on disk stays.
        """
        wanted = content_key(version)
        made = self._made.setdefault((version.name, version.version), {})
        deployment = made.get(wanted)
        if deployment is None:
            async with self._turns.of(wanted):
                deployment = made.get(wanted)
                if deployment is None:
                    deployment = made[wanted] = await self._make(version, wanted)
        return deployment

    def keep_only(self, version: FunctionVersion) -> None:
        """Forget all deployments of a version (`$LATEST`) but that of its record as it is now."""
        made = self._made.get((version.name, version.version), {})
        wanted = content_key(version)
        for former in [key for key in made if key != wanted]:
            del made[former]

    def forget(self, name: str, version: str | None = None) -> None:
        """Forget all deployments of a function, or of one of its versions."""
        for known in [key for key in self._made if key[0] == name and version in {None, key[1]}]:
            del self._made[known]

    async def _make(self, version: FunctionVersion, wanted: str) -> Deployment:
        digests = [layer.digest for layer in version.layers]
        held = [version.code_digest, *digests, *([stack_digest(digests)] if digests else ())]
        release = self._artifacts.hold(held)
        try:
            task = await self._artifacts.code(version.code_digest)
            opt = await self._artifacts.stack(digests) if digests else None
            runtime = await self._runtimes.prepare(version.runtime)
        except BaseException:
            release()
            raise
        deployment = Deployment(
            key=_key(wanted, runtime), function=version, task=task, opt=opt, runtime=runtime
        )
        # The directories may go when the last environment that was made from it has let go of it.
        weakref.finalize(deployment, release).atexit = False
        return deployment


def content_key(version: FunctionVersion) -> str:
    """Return a SHA-256 of everything in a record that its environments depend on."""
    extra = {name: value for name, value in version.extra.items() if name != "RuntimeVersionConfig"}
    content = msgspec.structs.replace(version.without_state(), extra=extra)
    return hashlib.sha256(_encode(content)).hexdigest()


def _key(wanted: str, runtime: RuntimeLayout) -> str:
    """Extend the key of a record by the runtime that was found for it."""
    parts = (
        wanted,
        runtime.version_arn,
        *(f"{source}:{target}" for source, target in runtime.mounts),
        *runtime.bootstraps,
        *(f"{name}={value}" for name, value in sorted(runtime.variables.items())),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
