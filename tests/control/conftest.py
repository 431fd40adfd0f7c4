"""A node with everything real but sandboxes and runtimes: HTTP server, Lambda API, SQLite, files."""

from __future__ import annotations

import asyncio
import io
import json
import random
import secrets
import socket
import threading
import zipfile
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from remora.artifacts.blobs import digest_of
from remora.artifacts.elsewhere import Offer
from remora.auth.keys import KeyFile
from remora.auth.sessions import Sessions
from remora.control.callers import Callers
from remora.control.context import ControlSettings
from remora.control.gate import Gate
from remora.control.opening import open_control
from remora.control.service import LambdaService
from remora.control.services.offered import record_services
from remora.control.snap_start import SnapStart
from remora.http.limits import Limits
from remora.http.server import Server
from remora.iac.opening import Stacks
from remora.kit.clock import SystemClock
from remora.kit.ids import new_uuid
from remora.kit.tasks import TaskSet
from remora.pool.base import InvokeResult, ProvisionedStatus
from remora.pool.snapshots import SnapshotFailed
from remora.resources.names import Place
from remora.runtimes.errors import RuntimeUnavailable
from remora.runtimes.layout import RuntimeLayout
from remora.spec import constraints, lambda_api
from remora.store.base import StoreError
from remora.store.sqlite import SqliteStore
from remora.testing.clients import read_at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from remora.lifecycle.messages import Failure
    from remora.pool.base import Answer, Deployment, InvokeRequest
    from remora.resources.records import FunctionVersion

API = lambda_api.load()
ROLE = "arn:aws:iam::000000000000:role/anything"
PLACE = Place("us-east-1", "000000000000")
ARN = "arn:aws:lambda:us-east-1:000000000000"
SEED = 7
"""Of the draws between the versions of an alias."""
ANY = Credentials("any", "any")


class FakeRuntimes:
    """Runtimes that are ready at once, unless `gate` is closed; `missing` cannot be made ready."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.missing: set[str] = set()

    def names(self) -> tuple[str, ...]:
        return ("python3.12", "java17", "provided.al2", "provided.al2023")

    async def prepare(self, name: str) -> RuntimeLayout:
        await asyncio.to_thread(self.gate.wait, 60)
        if name in self.missing:
            raise RuntimeUnavailable(f"there is no {name} here")
        arn = "" if name.startswith("provided") else "arn:aws:lambda:us-east-1::runtime:" + "0" * 64
        return RuntimeLayout(name=name, mounts=(), bootstraps=("/var/runtime/bootstrap",), version_arn=arn)


class FakePool:
    """Answers invocations itself; `answer` decides how, an echo to begin with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Deployment, InvokeRequest]] = []
        self.retired: list[tuple[str, str | None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.answer: Callable[[Deployment, InvokeRequest], Any] = lambda _, request: request.payload

    async def invoke(self, deployment: Deployment, request: InvokeRequest) -> InvokeResult:
        answer = asyncio.get_running_loop().create_future()
        self.begin(deployment, request, answer.set_result)
        return await answer

    def begin(self, deployment: Deployment, request: InvokeRequest, answer: Answer) -> None:
        self.calls.append((deployment, request))
        payload = self.answer(deployment, request)
        if not asyncio.iscoroutine(payload):
            answer(self._result(deployment, request, payload))
            return

        async def later() -> None:
            answer(self._result(deployment, request, await payload))

        task = asyncio.get_running_loop().create_task(later())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _result(self, deployment: Deployment, request: InvokeRequest, payload: Any) -> InvokeResult:
        if isinstance(payload, InvokeResult):
            return payload
        return InvokeResult(
            request_id=new_uuid(),
            payload=payload,
            function_error=None,
            executed_version=deployment.function.version,
            log_tail=b"START\nEND\nREPORT RequestId: x\n" if request.tail else None,
        )

    def retire(self, function_arn: str, version: str | None = None) -> None:
        self.retired.append((function_arn, version))


class FakeTaker:
    """Takes snapshots in thought, while `gate` is open; `failure` is why it cannot."""

    are_real = True

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Failure | None = None
        self.error: Exception | None = None
        self.refusals = 0
        self.taken: list[str] = []
        self.dropped: list[str] = []
        self.listener: Any = None

    def subscribe(self, listener: Any) -> None:
        self.listener = listener

    async def take(self, deployment: Deployment) -> None:
        await asyncio.to_thread(self.gate.wait, 60)
        if self.error is not None:
            self.refusals += 1
            raise self.error
        if self.failure is not None:
            raise SnapshotFailed(self.failure)
        self.taken.append(f"{deployment.function.name}:{deployment.function.version}")

    async def drop(self, version: FunctionVersion) -> None:
        self.dropped.append(f"{version.name}:{version.version}")


class FakeElsewhere:
    """Has the layers of other accounts that a test gives it, by ARN."""

    def __init__(self) -> None:
        self.layers: dict[str, bytes] = {}
        self.found: list[str] = []
        self.downloads = 0
        self.turn = asyncio.Semaphore(1)

    async def find(self, arn: str) -> Offer | None:
        self.found.append(arn)
        content = self.layers.get(arn)
        return None if content is None else Offer(arn, digest_of(content), len(content), arn)

    async def download(self, offer: Offer) -> bytes:
        self.downloads += 1
        return self.layers[offer.arn]


class ShiftedClock:
    """The machine's clock, but `shift_ms` later."""

    def __init__(self) -> None:
        self.shift_ms = 0
        self._clock = SystemClock()

    def monotonic_us(self) -> int:
        return self._clock.monotonic_us()

    def wall_ms(self) -> int:
        return self._clock.wall_ms() + self.shift_ms


class FakeProvisioning:
    """Nothing is ready until a test says so."""

    def __init__(self) -> None:
        self.statuses: dict[tuple[str, str], ProvisionedStatus] = {}
        self._listeners: list[Callable[[], object]] = []

    def subscribe(self, listener: Callable[[], object]) -> None:
        self._listeners.append(listener)

    def become(self, function: str, qualifier: str, status: ProvisionedStatus) -> None:
        """Let a status change, and tell who listens."""
        self.statuses[function, qualifier] = status
        for listener in self._listeners:
            listener()

    def status(self, function: str, qualifier: str) -> ProvisionedStatus:
        return self.statuses.get((function, qualifier), ProvisionedStatus("IN_PROGRESS", 0, 0))


def _check_reply(http_response: Any, parsed: dict[str, Any], model: Any, **_: Any) -> None:
    """Compare a reply with what its model says: types, required members, bounds, patterns."""
    shape = model.output_shape
    streams = model.has_streaming_output or model.has_event_stream_output
    if http_response.status_code >= 300 or shape is None or streams:
        return
    members = {name: value for name, value in parsed.items() if name != "ResponseMetadata"}
    if model.name == "GetFunctionCodeSigningConfig" and not members:
        return  # AWS answers so, too, where there is none
    configuration = dict(members.get("Configuration", members))
    if configuration.get("LastUpdateStatusReasonCode") == "Creating":
        del configuration["LastUpdateStatusReasonCode"]  # AWS says so, too: the model does not know it
        members = members | {"Configuration": configuration} if "Configuration" in members else configuration
    report = ParamValidator().validate(members, shape)
    assert not report.has_errors(), f"{model.name}: {report.generate_report()}"
    constraints.check(API.shapes, API.shapes[shape.name], members)


class Node:
    """A running node, seen from a test: its parts, a boto3 client, raw HTTP."""

    def __init__(self, directory: Path, *, asks_for_keys: bool = False) -> None:
        self.directory = directory
        self.keys = KeyFile(directory / "keys.json") if asks_for_keys else None
        self.pool = FakePool()
        self.provisioning = FakeProvisioning()
        self.runtimes = FakeRuntimes()
        self.taker = FakeTaker()
        self.elsewhere = FakeElsewhere()
        self.clock = ShiftedClock()
        self.limits = Limits(send_date=True, body_bytes_read_max=256 * 1024 * 1024)
        self.port = 0
        self._up = threading.Event()
        self._failure: BaseException | None = None

    role = ROLE
    arn = ARN

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def client(self) -> Any:
        """A boto3 client of Lambda."""
        return self.client_of("lambda")

    def client_of(self, service: str, credentials: Credentials = ANY, **config: Any) -> Any:
        """Make a boto3 client that does not check parameters nor try again, but checks every reply."""
        client = boto3.client(
            service,
            region_name=config.pop("region_name", "us-east-1"),
            endpoint_url=self.endpoint,
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            aws_session_token=credentials.token,
            config=Config(
                retries={"max_attempts": 0},
                parameter_validation=False,
                max_pool_connections=60,
                read_timeout=240,
                **config,
            ),
        )
        read_at_once(client)
        client.meta.events.register("after-call.lambda", _check_reply)
        return client

    def raw(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request as it is; return status, headers (lower case) and body."""
        with self.connect() as connection:
            lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
            lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
            lines.append(f"Content-Length: {len(body)}")
            connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
        head, _, content = received.partition(b"\r\n\r\n")
        first, *others = head.decode().split("\r\n")
        parsed = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in others)}
        return int(first.split()[1]), parsed, content

    # --- what most tests do -------------------------------------------------------------------------------

    def zip(self, files: dict[str, bytes | str] | None = None, modes: dict[str, int] | None = None) -> bytes:
        """Make a zip; modes default to 0644."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in (files or {"h.py": "def h(event, context):\n    return event\n"}).items():
                entry = zipfile.ZipInfo(name)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = (modes or {}).get(name, 0o100644) << 16
                archive.writestr(entry, content)
        return buffer.getvalue()

    def create(self, name: str = "f", *, wait: bool = True, **members: Any) -> dict[str, Any]:
        """Create a function, and wait until it is Active."""
        request = {
            "FunctionName": name,
            "Runtime": "python3.12",
            "Role": ROLE,
            "Handler": "h.h",
            "Code": {"ZipFile": self.zip()},
        }
        reply: dict[str, Any] = self.client.create_function(**{**request, **members})
        if wait:
            self.settle(name)
        return reply

    def settle(self, name: str = "f") -> dict[str, Any]:
        """Wait until a function is neither Pending nor being updated."""
        while True:
            found: dict[str, Any] = self.client.get_function_configuration(FunctionName=name)
            if found["State"] != "Pending" and found.get("LastUpdateStatus") != "InProgress":
                return found

    def publish(self, **configuration: Any) -> str:
        """Change the configuration of function `f`, and publish it; return its number."""
        if configuration:
            self.client.update_function_configuration(FunctionName="f", **configuration)
            self.settle()
        version: str = self.client.publish_version(FunctionName="f")["Version"]
        return version

    def layer(self, name: str = "l", files: dict[str, bytes | str] | None = None, **members: Any) -> str:
        """Publish a layer version; return its ARN."""
        content = {"ZipFile": self.zip(files or {"x": "1"})}
        reply = self.client.publish_layer_version(LayerName=name, **{"Content": content, **members})
        arn: str = reply["LayerVersionArn"]
        return arn

    def invoke(self, name: str = "f", **members: Any) -> Any:
        """Invoke, and return the JSON of the answer."""
        return json.loads(self.client.invoke(FunctionName=name, **members)["Payload"].read())

    def commits_fail(self, message: str | None) -> None:
        """Let every commit fail as if the disk were full, until None is given."""
        store = self.control.state._store

        self._tried = threading.Event()

        async def refuse(_: object) -> None:
            self._tried.set()
            raise StoreError(message or "", retryable=True)

        if message is None:
            vars(store).pop("commit", None)
        else:
            vars(store)["commit"] = refuse

    def refused(self, operation: str, **members: Any) -> tuple[int, str, str]:
        """Call what must fail; return status, code and message."""
        with pytest.raises(ClientError) as caught:
            getattr(self.client, operation)(**members)
        response = caught.value.response
        status = response["ResponseMetadata"]["HTTPStatusCode"]
        return status, response["Error"]["Code"], response["Error"].get("Message", "")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 30)

    def wait_for(self, event: asyncio.Event) -> None:
        """Wait for an event of the node's loop."""
        asyncio.run_coroutine_threadsafe(event.wait(), self._loop).result(30)

    def wait_until_cleaned(self) -> None:
        """Wait until what nobody refers to has been removed."""
        control = self.control
        live = control.cleaning._live
        asyncio.run_coroutine_threadsafe(control.artifacts.collect(live), self._loop).result(30)

    def wait_for_commit(self) -> None:
        """Wait until a commit has been tried since `commits_fail`."""
        assert self._tried.wait(120)

    # --- its life -----------------------------------------------------------------------------------------

    def call_soon(self, function: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(function)

    def start(self) -> None:
        self._up.clear()
        self._thread = threading.Thread(target=self._run, name="node")
        self._thread.start()
        self._up.wait(120)
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def used(self, name: str, version: str) -> FunctionVersion:
        """Let the pool make an environment from a snapshot, in thought; return the version as it was."""
        return self._tell(name, version, "snapshot_used")

    def lost(self, name: str, version: str) -> FunctionVersion:
        """Let the pool find a snapshot damaged, in thought; return the version as it was."""
        return self._tell(name, version, "snapshot_lost")

    def _tell(self, name: str, version: str, what: str) -> FunctionVersion:
        found = self.control.state.view.versions[name][int(version)]

        async def tell() -> None:
            told = getattr(self.taker.listener, what)(await self.control.deployments.make(found))
            if told is not None:
                await told

        asyncio.run_coroutine_threadsafe(tell(), self._loop).result(60)
        return found

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - raised again in the test
            self._failure = error
        finally:
            self._up.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        store = SqliteStore(self.directory)
        tasks = TaskSet("test node")
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        snap_start = SnapStart(self.taker)
        try:
            self.control = await open_control(
                self.directory,
                store=store,
                runtimes=self.runtimes,
                pool=self.pool,
                settings=ControlSettings(PLACE, self.endpoint, secrets.token_bytes(32), 1000),
                clock=self.clock,
                snap_start=snap_start,
                layers_elsewhere=self.elsewhere,
                new_id=new_uuid,
                spawn=tasks.spawn,
                provisioning=self.provisioning,
                draw=random.Random(SEED).random,
            )
            gate = None
            if self.keys is not None:
                sessions = Sessions(secrets.token_bytes(32))
                clock = self.control.clock
                self.callers = Callers(self.keys, sessions, PLACE, clock, self.control.state)
                gate = Gate(self.callers, self.control)
            neighbours = record_services(self.control)
            service = LambdaService(self.control, neighbours, gate=gate)
            neighbours["cloudformation"] = stacks = Stacks(self.control, service, self.endpoint)
            server = Server(service, listener, self.limits)
            await server.start()
            tasks.spawn(stacks.resume(), "resume stacks")
            self._up.set()
            await self._stopping.wait()
            await server.close()
        finally:
            listener.close()
            snap_start.close()
            self.taker.gate.set()
            await tasks.close()
            self.runtimes.gate.set()  # preparations were cancelled, their threads may go
            await store.close()


@pytest.fixture(name="running")
def _running() -> Callable[[Path], AbstractContextManager[Node]]:
    """Start a node with data in a directory, for the length of a `with` block."""
    return _run_node


@contextmanager
def _run_node(directory: Path, shift_ms: int = 0) -> Iterator[Node]:
    node = Node(directory)
    node.clock.shift_ms = shift_ms
    node.start()
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A running node that several tests share; none of them may leave anything in it."""
    with _run_node(tmp_path_factory.mktemp("data")) as started:
        yield started


class GuardedNode(Node):
    """A node that asks for keys; `client` is of somebody who may do everything."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, asks_for_keys=True)
        assert self.keys is not None
        key = self.keys.create("owner", "2026-01-01T00:00:00Z")
        self.owner = Credentials(key.access_key_id, key.secret_access_key)

    def client_of(self, service: str, credentials: Credentials | None = None, **config: Any) -> Any:
        return super().client_of(service, credentials or self.owner, **config)

    def key(self, name: str, *policies: str) -> Credentials:
        """Make a key that may do what policies allow, JSON or ARNs."""
        assert self.keys is not None
        key = self.keys.create(name, "2026-01-01T00:00:00Z", list(policies))
        return Credentials(key.access_key_id, key.secret_access_key)

    def partner(self, account: str, *policies: str) -> Credentials:
        """Make a key of another account; without policies its own ones allow everything."""
        assert self.keys is not None
        key = self.keys.create("partner", "2026-01-01T00:00:00Z", list(policies) or None, account)
        return Credentials(key.access_key_id, key.secret_access_key)

    def somebody(self, name: str, *statements: dict[str, Any], path: str = "/") -> Credentials:
        """Create a role with a policy of its own, and assume it."""
        iam = self.client_of("iam")
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "000000000000"}}
        arn = iam.create_role(
            RoleName=name, Path=path, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]})
        )["Role"]["Arn"]
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document)
        return self.assume(arn)

    def assume(self, arn: str, **members: Any) -> Credentials:
        """Assume a role as the owner."""
        sts = self.client_of("sts")
        found = sts.assume_role(RoleArn=arn, RoleSessionName="me", **members)["Credentials"]
        return Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[GuardedNode]:
    """A running node that asks for keys."""
    node = GuardedNode(tmp_path / "data")
    node.start()
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A running node with nothing in it."""
    with _run_node(tmp_path / "data") as started:
        yield started
