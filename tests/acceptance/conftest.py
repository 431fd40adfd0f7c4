"""One real node per test process, whose end must leave nothing on the machine; functions with clean-up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .leftovers import leftovers
from .nodes import Node, unique
from .packages import ACTOR, PROBE, RUNTIME, actors, zip_directory
from .services import Queue, moto_services


@contextmanager
def running(data: Path, *arguments: str, **settings: Any) -> Iterator[Node]:
    """Run a node; at the end it must have ended well and left nothing."""
    node = Node(data, *arguments, **settings)
    try:
        yield node
    finally:
        if node.process.poll() is None:
            code = node.terminate()
            assert code == 0, node.errors.read_text()
    assert leftovers(data) == []


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("node") / unique("data")) as node:
        yield node


@pytest.fixture(scope="session")
def services() -> Iterator[str]:
    """The endpoint of other AWS services."""
    with moto_services() as endpoint:
        yield endpoint


@pytest.fixture
def queue(services: str) -> Queue:
    """A queue of SQS."""
    return Queue(services)


@pytest.fixture
def actor() -> bytes:
    """The program of an extension."""
    return ACTOR.read_bytes()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory for a node of the test's own."""
    return tmp_path / unique("data")


@pytest.fixture
def start() -> Iterator[Callable[..., Node]]:
    """Start nodes that the test ends in a way of its own; those that it did not are asked to end."""
    started: list[Node] = []

    def start(*arguments: Any, **settings: Any) -> Node:
        started.append(Node(*arguments, **settings))
        return started[-1]

    yield start
    for node in started:
        if node.process.poll() is None:
            node.terminate()


@pytest.fixture
def function(node: Node) -> Iterator[Callable[..., str]]:
    """Create functions, of the probe unless told otherwise; they are deleted afterwards."""
    with functions_on(node) as create:
        yield create


@contextmanager
def functions_on(node: Node) -> Iterator[Callable[..., str]]:
    made: list[str] = []

    def create(
        content: bytes | None = None, *, does: dict[str, dict[str, Any]] | None = None, **settings: Any
    ) -> str:
        """`does` adds a layer with an actor of each name; what it does is told by the variable ACTORS."""
        settings = {"Runtime": RUNTIME, "Handler": "app.handler", **settings}
        if does is not None:
            settings["layers"] = [actors(*does), *settings.get("layers", ())]
            settings["variables"] = {"ACTORS": json.dumps(does), **settings.get("variables", {})}
        name = node.create(content or zip_directory(PROBE), **settings)
        made.append(name)
        return name

    yield create
    for name in made:
        node.client.delete_function(FunctionName=name)
