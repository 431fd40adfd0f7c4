"""
One node: everything is put together here, started in order, and ended in the reverse order.

Start: records (their lock says that no other node uses the data), then what a dead predecessor left is
removed, then the front door. End: invocations finish, environments shut down and their extensions hear of it;
the front door closes last, so that whoever follows the logs reads them to the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import secrets
import signal
import socket
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import uvloop

import remora
from remora.artifacts.elsewhere import LayersElsewhere
from remora.auth.keys import KeyFile
from remora.auth.sessions import Sessions
from remora.control.addresses.guard import UrlGuard
from remora.control.addresses.service import Addresses
from remora.control.callers import Callers
from remora.control.context import ControlSettings
from remora.control.gate import Gate
from remora.control.opening import open_control
from remora.control.scaling import Scaling
from remora.control.service import LambdaService, Service
from remora.control.services.cloudwatch import SERVICE as CLOUDWATCH
from remora.control.services.cloudwatch import cloudwatch_service
from remora.control.services.logs import SERVICE as LOGS
from remora.control.services.logs import logs_service
from remora.control.services.offered import record_services
from remora.control.snap_start import SnapStart
from remora.http.limits import Limits
from remora.http.server import Server
from remora.iac.opening import SERVICE as CLOUDFORMATION
from remora.iac.opening import Stacks
from remora.kit.clock import SystemClock
from remora.kit.ids import new_uuid
from remora.kit.tasks import TaskSet
from remora.node.api import NodeApi
from remora.node.asynchronous import NodeEvents
from remora.node.drivers import exporter, record_store, sandbox_driver
from remora.node.front import Front
from remora.node.guard import Guarded
from remora.node.log_lines import LogLines
from remora.node.networks import choose_network
from remora.node.prometheus import Page
from remora.node.settings import KEYS, NodeError, NodeInfo
from remora.node.snapshots import open_copying
from remora.pool.making import sandbox_plan
from remora.pool.memory import memory_left
from remora.pool.pool import Pool
from remora.pool.pressure import Pressure
from remora.pool.settings import PoolSettings
from remora.resources.names import Place
from remora.resources.records import default_log_group
from remora.runtimes.catalog import Runtimes, default_cache
from remora.sandbox.base import SandboxError
from remora.sandbox.warm import WarmDriver
from remora.spec.limits import CREATE_FUNCTION_BODY_BYTES_MAX
from remora.store.base import StoreError
from remora.telemetry.logs import LogStore
from remora.telemetry.meter import Meters
from remora.telemetry.metric_store import MetricStore
from remora.telemetry.timeline import Timelines

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.http.exchange import Application
    from remora.node.settings import NodeSettings

DRAIN_S = 5.0
"""How long running invocations are waited for when the node ends."""
FOLLOWERS_S = 1.0
"""How long those who follow the logs may take to read the last lines when the node ends."""
REQUESTS_S = 5.0
"""How long requests that have begun are waited for when the node ends."""

_LIMITS = Limits(
    header_bytes_max=1024 * 1024,
    body_bytes_read_max=4 * CREATE_FUNCTION_BODY_BYTES_MAX,
    connections_max=10_000,
    accepts_at_once=16,
    held_bytes_max=512 * 1024 * 1024,
    header_timeout_s=30.0,
    body_timeout_s=60.0,
    body_rate_min=1024,
    idle_timeout_s=300.0,
    write_timeout_s=120.0,
    send_date=True,
)


class Node:
    """
    A node within a running event loop.

    Args:
        settings: What the operator decided.
    """

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._clock = SystemClock()
        self._requests = TaskSet("requests")
        self._streams = TaskSet("log streams")
        self._environments = TaskSet("environments")
        self._logs = LogStore(settings.data / "logs", settings.log_limits)
        self._timelines = Timelines()
        self._health: dict[str, object] = {}
        self._meters = Meters(self._clock)

    async def __aenter__(self) -> NodeInfo:
        """
        Start.

        Raises:
            NodeError: If it cannot be started; then nothing is left running.
        """
        try:
            return await self._start()
        except BaseException as error:
            await self._stack.aclose()
            if isinstance(error, (SandboxError, StoreError)):
                raise NodeError(str(error)) from error
            if isinstance(error, OSError):
                text = f"the node could not be started with data in {self._settings.data}: {error.strerror}"
                raise NodeError(text) from error
            raise

    async def __aexit__(self, *_: object) -> None:
        """End in an orderly way."""
        self._health["status"] = "ending"
        await self._stack.aclose()

    async def _start(self) -> NodeInfo:
        settings = self._settings
        listener = _listen(settings)
        self._stack.callback(listener.close)
        endpoint = _endpoint(listener)
        environments = settings.data / "environments"
        environments.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(str(settings.data.resolve()).encode()).hexdigest()[:12]
        driver = sandbox_driver(settings.driver, environments, name, settings.cpu)
        missing = driver.check()
        named = [policy for _, policy in settings.networks]
        network, unreachable = choose_network(driver, settings.network, named)
        missing = (*missing, *unreachable)

        store = record_store(settings.data)
        self._stack.push_async_callback(store.close)
        export = exporter(settings.open_telemetry, self._meters, self._clock)
        if export is not None:
            self._meters.recorder, self._logs.tap = export.recorder, export.logged
            self._stack.push_async_callback(export.close)
            export.start()
        self._stack.push_async_callback(self._logs.flush)
        sessions = Sessions(secrets.token_bytes(32))
        warm = WarmDriver(
            driver, environments, self._clock, spares_max=settings.warm, memory_left=memory_left
        )
        self._stack.push_async_callback(warm.close)
        pool_settings = PoolSettings(
            directory=environments,
            region=settings.region,
            concurrency=settings.concurrency,
            idle_s=settings.idle_s,
            sessions=sessions,
            network=network,
            networks=settings.networks,
        )
        copying, no_snapshots = await open_copying(driver, settings.data, pool_settings, self._stack)
        pool = Pool(
            warm,
            pool_settings,
            clock=self._clock,
            logs=self._logs,
            timelines=self._timelines,
            tasks=self._environments,
            meters=self._meters,
            copying=copying,
            no_snapshots=no_snapshots,
        )
        pressure = Pressure(asyncio.get_running_loop(), pool.relieve)
        self._stack.callback(pressure.close)
        pressure.open()
        scaling = Scaling(pool)
        events = NodeEvents(settings, pool, self._clock, self._meters)
        self._stack.push_async_callback(events.close)
        snap_start = SnapStart(pool.snapshots)
        self._stack.callback(snap_start.close)
        control = await open_control(
            settings.data,
            store=store,
            runtimes=Runtimes(settings.runtimes or default_cache(), settings.region),
            pool=pool,
            settings=ControlSettings(
                place=Place(settings.region, settings.account),
                endpoint=endpoint,
                signing_key=secrets.token_bytes(32),
                concurrent_executions=settings.concurrency,
            ),
            clock=self._clock,
            new_id=new_uuid,
            spawn=self._requests.spawn,
            provisioning=scaling,
            events=events.queue,
            count=self._meters.add,
            snap_start=snap_start,
            layers_elsewhere=_layers_elsewhere(settings),
            expect=lambda deployment: warm.expect(
                sandbox_plan(deployment, pool_settings, "expected"),
                f"{deployment.function.arn}:{deployment.function.version}",
            ),
        )
        self._stack.push_async_callback(self._requests.close)
        metric_store = MetricStore(settings.data / "metrics.db", self._meters.metrics, self._clock)
        self._stack.push_async_callback(metric_store.close)
        await metric_store.open()
        await driver.sweep()
        scaling.begin(control)

        self._health |= {
            "status": "ok",
            "version": remora.__version__,
            "region": settings.region,
            "driver": driver.name,
            "missing": missing,
        }

        def log_group(function: str) -> str:
            known = control.state.view.functions.get(function)
            return known.latest.log_group if known is not None else default_log_group(function)

        node_api = NodeApi(
            health=lambda: self._health,
            environments=pool.environments,
            timelines=self._timelines,
            log_lines=LogLines(self._logs, log_group, self._streams, self._clock),
            retire=lambda name, version: pool.retire(control.place.function_arn(name), version),
            page=Page(self._meters, pool.environments, export.counts if export is not None else dict),
            usage=self._meters.usage,
        )
        neighbours: dict[str, Service] = {
            **record_services(control),
            LOGS: logs_service(self._logs, control.place, self._clock, new_uuid),
            CLOUDWATCH: cloudwatch_service(self._meters.metrics, self._clock, new_uuid),
        }
        pages: Application = node_api
        gate = guard = None
        if settings.asks_for_keys:
            keys = KeyFile(settings.data / KEYS)
            callers = Callers(keys, sessions, control.place, self._clock, control.state)
            pages, gate = Guarded(node_api, callers, self._requests), Gate(callers, control)
            guard = UrlGuard(callers, gate)
        services = LambdaService(control, neighbours, gate=gate)
        neighbours[CLOUDFORMATION] = stacks = Stacks(control, services, endpoint)  # made of the others
        addresses = Addresses(control, self._meters.add, guard)
        server = Server(Front(pages, addresses, services), listener, _LIMITS)
        self._stack.push_async_callback(server.close)
        self._stack.push_async_callback(server.finish, REQUESTS_S)
        self._stack.push_async_callback(self._end_streams)
        self._stack.push_async_callback(self._environments.close)
        self._stack.push_async_callback(pool.close, drain_s=DRAIN_S)
        self._stack.callback(events.queue.stop)
        await events.start(control, judges=gate is not None)
        self._requests.spawn(stacks.resume(), "resume stacks")
        await server.start()
        return NodeInfo(
            endpoint, settings.region, settings.account, driver.name, missing, settings.asks_for_keys
        )

    async def _end_streams(self) -> None:
        """Let followers of the logs read what there is."""
        await self._logs.flush()
        self._logs.end_followers()
        with suppress(TimeoutError):
            async with asyncio.timeout(FOLLOWERS_S):
                await self._streams.join()
        await self._streams.close()


def _layers_elsewhere(settings: NodeSettings) -> LayersElsewhere | None:
    return LayersElsewhere(settings.layers_endpoint, settings.region) if settings.layers_endpoint else None


def _listen(settings: NodeSettings) -> socket.socket:
    host, port = settings.host, settings.port
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise NodeError(f"{host!r} is not an IP address", "give one of this machine's, or 0.0.0.0") from error
    if not address.is_loopback and not settings.asks_for_keys:
        text = f"whoever reaches {host} could run anything on this machine"
        raise NodeError(text, "ask for keys: --auth keys (see `remora keys`)")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        text = f"the node could not listen on {host}:{port}: {error.strerror}"
        raise NodeError(text, "choose another port, or 0 for any free one") from error


def _endpoint(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_node(settings: NodeSettings, on_ready: Callable[[NodeInfo], None]) -> None:
    """
    Run a node until SIGINT or SIGTERM, then shut every environment down.

    Args:
        settings: What the operator decided.
        on_ready: Called once, when the node answers.

    Raises:
        NodeError: If the node could not be started.
    """

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with Node(settings) as info:
            on_ready(info)
            await stop.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
