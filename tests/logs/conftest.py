"""CloudWatch Logs behind a real HTTP server, asked by boto3."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import boto3
import pytest
from botocore.config import Config

from remora.control.service import LambdaService
from remora.control.services.logs import logs_service
from remora.http.limits import Limits
from remora.http.server import Server
from remora.kit.clock import SystemClock
from remora.kit.ids import new_uuid
from remora.kit.tasks import TaskSet
from remora.resources.names import Place
from remora.spec import lambda_api
from remora.telemetry.logs import LogStore

MODEL = lambda_api.load()


class LogsNode:
    """A node with nothing but logs, in a thread of its own."""

    def __init__(self, directory):
        self.directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def call(self, function, *arguments):
        """Call `function` in the node's event loop."""

        async def called():
            return function(*arguments)

        return self.wait(called())

    def wait(self, coroutine):
        """Run a coroutine in the node's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def open(self):
        self._thread.start()
        self.wait(self._open())
        return self

    async def _open(self):
        self.tasks = TaskSet("requests")
        self.store = LogStore(self.directory)
        control = SimpleNamespace(api=MODEL, spawn=self.tasks.spawn, new_id=new_uuid)
        control.state = SimpleNamespace(subscribe=lambda *_: None)
        place = Place("us-east-1", "000000000000")
        service = logs_service(self.store, place, SystemClock(), new_uuid)
        listener = self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.server = Server(LambdaService(control, {"logs": service}), listener, Limits())
        await self.server.start()

    async def _close(self):
        await self.server.close()
        await self.tasks.close()
        self._listener.close()
        await self.store.flush()
        await self._loop.shutdown_default_executor()

    def close(self):
        self.wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def client(self):
        return boto3.client(
            "logs",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )


@pytest.fixture
def node(tmp_path):
    node = LogsNode(tmp_path / "logs").open()
    yield node
    node.close()


@pytest.fixture
def logs(node):
    client = node.client()
    yield client
    client.close()


@pytest.fixture
def restarted(tmp_path):
    """A client of another node with the same data, to be entered when the first one is closed."""

    @contextmanager
    def make():
        node = LogsNode(tmp_path / "logs").open()
        client = node.client()
        try:
            yield client
        finally:
            client.close()
            node.close()

    return make
