"""A node with everything real but sandboxes and runtimes, called in-process."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.control.conftest import PLACE, SEED, FakePool, FakeProvisioning, FakeRuntimes

from remora.auth.keys import KeyFile
from remora.auth.sessions import Sessions
from remora.control.callers import Caller, Callers
from remora.control.context import ControlSettings
from remora.control.gate import Gate
from remora.control.opening import open_control
from remora.control.service import LambdaService
from remora.control.services.logs import logs_service
from remora.control.services.offered import record_services
from remora.iac.calls import Calls
from remora.iac.types.base import Context
from remora.iac.types.table import TYPES
from remora.kit.clock import SystemClock
from remora.kit.ids import new_uuid
from remora.kit.tasks import TaskSet
from remora.store.sqlite import SqliteStore
from remora.telemetry.logs import LogStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

ENDPOINT = "http://127.0.0.1:9000"
LAMBDA_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}


class Bench:
    """A node, and the types of resources that are made on it."""

    def __init__(self, directory: Path, *, asks_for_keys: bool = False) -> None:
        self.directory = directory
        self.asks_for_keys = asks_for_keys
        self.pool = FakePool()
        self.provisioning = FakeProvisioning()
        self.runtimes = FakeRuntimes()
        self.caller: Caller | None = None
        self.calls_made: list[tuple[str, Mapping[str, Any]]] = []
        self.waited: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        """By operation: set as soon as somebody waits for what it describes."""

    async def call(self, service: str, operation: str, **request: Any) -> dict[str, Any]:
        """Call an operation as the one who deploys."""
        self.calls_made.append((operation, request))
        return await self.calls.call(self.caller, service, operation, request)

    async def _told(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        return await self.call(service, operation, **request)

    async def _until(
        self, service: str, operation: str, request: Mapping[str, Any], is_done: Callable[[Any], bool]
    ) -> dict[str, Any]:
        self.calls_made.append((operation, request))
        self.waited[operation].set()
        return await self.calls.until(self.caller, service, operation, request, is_done)

    def operations(self) -> list[str]:
        """Return the names of the operations that were called since this was asked last."""
        names = [operation for operation, _ in self.calls_made]
        self.calls_made.clear()
        return names

    def context(self, name: str = "name", **members: Any) -> Context:
        """Return the context of a resource called `Thing` in the stack `stack`."""
        stack_id = f"arn:aws:cloudformation:us-east-1:000000000000:stack/stack/{new_uuid()}"
        tags = {
            "aws:cloudformation:stack-name": "stack",
            "aws:cloudformation:stack-id": stack_id,
            "aws:cloudformation:logical-id": "Thing",
        }
        given = {
            "logical_id": "Thing",
            "stack_id": stack_id,
            "stack_name": "stack",
            "place": PLACE,
            "name": name,
            "tags": tags,
            "former_tags": members.get("tags", tags),
            "token": new_uuid(),
            "call": self._told,
            "until": self._until,
        }
        return Context(**{**given, **members})

    async def role(self, name: str = "role") -> str:
        """Make a role for functions, return its ARN."""
        made = await TYPES["AWS::IAM::Role"].create(
            self.context(name), {"AssumeRolePolicyDocument": LAMBDA_TRUST}
        )
        arn: str = made.attributes["Arn"]
        return arn

    async def function(self, name: str = "f", **properties: Any) -> dict[str, Any]:
        """Make a function, return its properties."""
        given = {
            "Role": "arn:aws:iam::000000000000:role/anything",
            "Runtime": "python3.12",
            "Handler": "index.handler",
            "Code": {"ZipFile": "def handler(event, context):\n    return event\n"},
            **properties,
        }
        await TYPES["AWS::Lambda::Function"].create(self.context(name), given)
        return given


@asynccontextmanager
async def open_bench(directory: Path, *, asks_for_keys: bool = False) -> AsyncIterator[Bench]:
    """Open a node for the length of the block."""
    bench = Bench(directory, asks_for_keys=asks_for_keys)
    clock, tasks, logs = SystemClock(), TaskSet("bench"), LogStore(directory / "logs")
    store = SqliteStore(directory)
    try:
        control = await open_control(
            directory,
            store=store,
            runtimes=bench.runtimes,
            pool=bench.pool,
            settings=ControlSettings(PLACE, ENDPOINT, b"k" * 32, 1000),
            clock=clock,
            new_id=new_uuid,
            spawn=tasks.spawn,
            provisioning=bench.provisioning,
            draw=random.Random(SEED).random,
        )
        gate = None
        if asks_for_keys:
            bench.keys = KeyFile(directory / "keys.json")
            gate = Gate(Callers(bench.keys, Sessions(b"s" * 32), PLACE, clock, control.state), control)
        neighbours = {**record_services(control), "logs": logs_service(logs, PLACE, clock, new_uuid)}
        bench.control = control
        bench.calls = Calls(LambdaService(control, neighbours, gate=gate), PLACE, ENDPOINT)
        yield bench
    finally:
        await tasks.close()
        bench.runtimes.gate.set()
        await logs.flush()
        await store.close()
