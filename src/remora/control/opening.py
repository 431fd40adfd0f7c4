"""Puts the control plane together, and begins what a former process left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.artifacts.artifacts import Artifacts
from remora.control import preparation
from remora.control.cleaning import Cleaning
from remora.control.context import Control, uncounted
from remora.control.deployments import Deployments
from remora.control.state import State
from remora.kit.ids import random_fraction
from remora.spec import lambda_api

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from remora.artifacts.elsewhere import LayersElsewhere
    from remora.control.context import (
        ControlSettings,
        Count,
        EventSink,
        InvocationPool,
        Provisioning,
        RuntimeSource,
        SnapshotKeeper,
        Spawn,
    )
    from remora.kit.clock import Clock
    from remora.pool.base import Deployment
    from remora.store.base import Store


async def open_control(
    directory: Path,
    *,
    store: Store,
    runtimes: RuntimeSource,
    pool: InvocationPool,
    settings: ControlSettings,
    clock: Clock,
    new_id: Callable[[], str],
    spawn: Spawn,
    draw: Callable[[], float] = random_fraction,
    provisioning: Provisioning | None = None,
    events: EventSink | None = None,
    count: Count = uncounted,
    expect: Callable[[Deployment], None] | None = None,
    snap_start: SnapshotKeeper | None = None,
    layers_elsewhere: LayersElsewhere | None = None,
) -> Control:
    """
    Load all records and make ready to answer; preparations that were interrupted are begun again.

    The caller closes, in this order: the server, whatever `spawn` started, the pool, the store.

    Args:
        directory: The node's data directory; zips and unpacked code go below it.
        store: Not loaded yet.
        runtimes: Where runtimes come from.
        pool: Who runs invocations.
        settings: What the operator decided.
        clock: The node's clock.
        new_id: Makes a UUID.
        spawn: Starts background tasks, `TaskSet.spawn`.
        draw: Returns a random number, 0 up to but not including 1.
        provisioning: Who provisions concurrency; None if nobody does.
        events: Who takes asynchronous invocations; None if nobody does.
        count: Takes in a number of a metric; nobody does unless told.
        expect: Is told what is ready to run, and may be wanted soon.
        snap_start: Sees to snapshots; None if nobody does.
        layers_elsewhere: Has the layers of other accounts; None if they cannot be had.

    Raises:
        StoreError: If the store cannot be opened.
        OSError: If the directory cannot be written.
    """
    state = State(store)
    await state.load()
    artifacts = Artifacts(directory)
    await artifacts.open()
    control = Control(
        api=lambda_api.load(),
        state=state,
        artifacts=artifacts,
        runtimes=runtimes,
        pool=pool,
        settings=settings,
        clock=clock,
        new_id=new_id,
        spawn=spawn,
        deployments=Deployments(artifacts, runtimes),
        cleaning=Cleaning(state, artifacts, spawn),
        draw=draw,
        data=directory,
        provisioning=provisioning,
        events=events,
        count=count,
        expect=expect,
        snap_start=snap_start,
        layers_elsewhere=layers_elsewhere,
    )
    preparation.resume(control)
    if snap_start is not None:
        snap_start.begin(control)
    control.cleaning.request()
    return control
