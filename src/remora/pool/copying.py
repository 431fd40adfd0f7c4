"""
Snapshots that are really taken: of the processes of an environment, kept, and restored as often as needed.

Source: snapstart specification, sections 1 and 4; ADR-0020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from remora.environment.copies import Scene  # noqa: TC001 - msgspec looks at the types
from remora.pool.making import sandbox_plan
from remora.pool.snapshots import SnapshotLost
from remora.sandbox.base import SandboxError
from remora.snapshots.sealing import SnapshotDamaged
from remora.snapshots.store import MANIFEST, SnapshotMissing

if TYPE_CHECKING:
    from pathlib import Path

    from remora.environment.copies import CopyingDriver
    from remora.environment.environment import Environment
    from remora.pool.settings import PoolSettings
    from remora.resources.records import FunctionVersion
    from remora.sandbox.base import SandboxPlan
    from remora.snapshots.store import SnapshotStore


class Manifest(msgspec.Struct, frozen=True):
    """
    What a snapshot says of itself.

    Args:
        deployment_key: What it is of.
        scene: What the environment was like.
    """

    deployment_key: str
    scene: Scene


class Copying:
    """
    Copies environments; see `remora.pool.snapshots.Copying`.

    Args:
        driver: Makes sandboxes that can be copied.
        store: Where snapshots are kept.
        place: Where they are while they are open.
        settings: What the operator chose.
    """

    is_real = True

    def __init__(
        self, driver: CopyingDriver, store: SnapshotStore, place: Path, settings: PoolSettings
    ) -> None:
        self._driver = driver
        self._store = store
        self._place = place
        self._settings = settings

    def __repr__(self) -> str:
        return f"<Copying {self._store!r}>"

    def _plan(self, environment: Environment) -> SandboxPlan:
        return sandbox_plan(environment.deployment, self._settings, environment.identifier)

    async def start(self, environment: Environment) -> None:
        """See `Copying.start`."""
        await environment.start(self._driver, self._plan(environment))

    async def take(self, environment: Environment) -> None:
        """See `Copying.take`."""
        deployment = environment.deployment
        async with self._store.new(name_of(deployment.function)) as images:
            scene = await environment.leave(self._driver, images)
            manifest = msgspec.msgpack.encode(Manifest(deployment.key, scene))
            (self._place / images / MANIFEST).write_bytes(manifest)

    async def restore(self, environment: Environment) -> None:
        """See `Copying.restore`."""
        deployment = environment.deployment
        try:
            async with self._store.opened(name_of(deployment.function)) as images:
                content = (self._place / images / MANIFEST).read_bytes()
                manifest = msgspec.msgpack.decode(content, type=Manifest)
                if manifest.deployment_key != deployment.key:
                    raise SnapshotLost(f"the snapshot of {name_of(deployment.function)} is of something else")
                await environment.copy(self._driver, self._plan(environment), manifest.scene, images)
        except (SnapshotMissing, SnapshotDamaged, msgspec.DecodeError) as error:
            raise SnapshotLost(str(error)) from error
        except OSError as error:
            raise SandboxError(
                f"the snapshot of {name_of(deployment.function)} could not be loaded: {error}", retryable=True
            ) from error

    async def drop(self, version: FunctionVersion) -> None:
        """See `Copying.drop`."""
        await self._store.drop(name_of(version))


def name_of(version: FunctionVersion) -> str:
    """Return what the snapshot of a version is called."""
    return f"{version.arn}:{version.version}"
