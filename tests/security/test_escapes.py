"""A hostile function and hostile extensions, in Python and in C: whatever they try is refused."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.conftest import running
from tests.acceptance.nodes import ROOTLESS, Node, unique
from tests.acceptance.packages import PROBE, RUNTIME, compiled, zip_directory, zip_of
from tests.chosen import usable_oci_runtimes

from .escapes import PROGRAM, SCRIPT, Escape

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
KINDS = {
    "bubblewrap": (("--driver", "bubblewrap"), ()),
    "bubblewrap-rootless": (("--driver", "bubblewrap"), ROOTLESS),
}
KINDS |= {
    f"oci-{each}": (("--driver", "oci", "--oci-runtime", each), ())
    for each in usable_oci_runtimes()
    if each != "runsc"  # what is tried there is tried on a kernel of its own, which answers otherwise
}
_SHARED_MEMORY_KEY = 0x52454D4F
_CREATE_FOR_ALL = 0o1000 | 0o666


@dataclass(frozen=True)
class Siege:
    """What became of every attempt, by who made it; and a neighbour's answers meanwhile and afterwards."""

    outcomes: dict[str, dict[str, str]]
    neighbour: list[Any]
    errors: str


@contextmanager
def bait(directory: Path) -> Iterator[dict[str, Any]]:
    """Put on the host what an attempt could find: each would succeed without a sandbox."""
    secret = directory / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    library = ctypes.CDLL(None, use_errno=True)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("0.0.0.0", 0)))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{directory}")
        abstract.listen()
        memory = library.shmget(_SHARED_MEMORY_KEY, 4096, _CREATE_FOR_ALL)
        if memory >= 0:
            stack.callback(library.shmctl, memory, 0, None)
        queue = library.mq_open(b"/remora-secret", os.O_RDWR | os.O_CREAT, 0o666, None)
        if queue >= 0:
            stack.callback(library.mq_unlink, b"/remora-secret")
            stack.callback(library.mq_close, queue)
        yield {
            "secret": str(secret),
            "address": own_address(),
            "outside_port": listener.getsockname()[1],
            "abstract": str(directory),
        }


def own_address() -> str:
    """Return an address of this machine that is not the loopback's; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        try:
            peer.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(peer.getsockname()[0])


def besiege(node: Node, event: dict[str, Any], program: bytes, script: bytes) -> Siege:
    """Let everybody try, one after the other, with a neighbour beside."""
    settings = {"Runtime": RUNTIME, "Handler": "app.handler", "Timeout": 60, "MemorySize": 512}
    neighbour = node.create(zip_directory(PROBE), **settings)
    answers = [node.invoke(neighbour, {"echo": 1}).payload]
    layer = zip_of({"extensions/script": script, "extensions/program": program}, mode=0o755)
    variables = {"EVENT": json.dumps(event)}
    function = node.create(zip_of({"app.py": script}), layers=[layer], variables=variables, **settings)
    told = node.invoke(function, event | {"try": True}).payload
    native = node.create(
        zip_of({"bootstrap": program}, mode=0o755), Runtime="provided.al2023", Handler="any", Timeout=60
    )
    told["native"] = node.invoke(native).payload
    for name in ("native", "program"):
        told[name] = dict(line.split(" ", 1) for line in told[name].splitlines())
    answers.append(node.invoke(neighbour, {"echo": 2}).payload)
    return Siege(told, answers, node.errors.read_text())


@pytest.fixture(scope="module")
def siege(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Siege:
    directory = tmp_path_factory.mktemp("siege")
    arguments, prefix = KINDS[request.param]
    program = compiled(HERE / "hostile.c", directory / "hostile").read_bytes()
    script = (HERE / "hostile.py").read_bytes()
    with bait(directory) as event, running(directory / unique("data"), *arguments, prefix=prefix) as node:
        event |= {"data": str(node.data), "port": int(node.address.rpartition(":")[2])}
        return besiege(node, event, program, script)


def failures(outcomes: dict[str, str], escapes: Sequence[Escape]) -> dict[str, str]:
    """Return what did not end as it should, or was not tried at all."""
    wanted = {escape.name: escape.outcomes for escape in escapes}
    names = wanted.keys() | outcomes.keys()
    return {
        name: outcomes.get(name, "not tried")
        for name in sorted(names)
        if outcomes.get(name, "not tried").replace(" ", "_") not in wanted.get(name, ())
    }


@pytest.mark.parametrize("siege", KINDS, indirect=True)
@pytest.mark.parametrize(
    ("who", "escapes"),
    [("function", SCRIPT), ("script", SCRIPT), ("native", PROGRAM), ("program", PROGRAM)],
    ids=["python-function", "python-extension", "c-function", "c-extension"],
)
def test_whatever_is_tried_is_refused(siege: Siege, who: str, escapes: list[Escape]) -> None:
    assert failures(siege.outcomes[who], escapes) == {}


@pytest.mark.parametrize("siege", KINDS, indirect=True)
def test_neighbour_and_node_noticed_nothing(siege: Siege) -> None:
    assert [answer["echo"] for answer in siege.neighbour] == [1, 2]
    assert siege.neighbour[0]["generation"] == siege.neighbour[1]["generation"]
    assert "Traceback" not in siege.errors


def test_enough_is_tried() -> None:
    names = [escape.name for escape in (*PROGRAM, *SCRIPT)]
    assert len(names) == len(set(names))
    assert len(names) >= 60


def test_the_document_shows_every_attempt() -> None:
    root = HERE.parents[1]
    spec = importlib.util.spec_from_file_location("table", root / "docs" / "make_security_table.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = (root / "docs" / "security.md").read_text()
    assert script.filled(text) == text, "run docs/make_security_table.py"
