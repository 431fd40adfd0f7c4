"""Functions, extensions and packages that use up or break what they can: it costs them, and nobody else."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from tests.acceptance.conftest import functions_on, running
from tests.acceptance.nodes import Answer, Node, unique
from tests.acceptance.packages import PROBE, RUNTIME, zip_directory, zip_of

from .escapes import ABUSES

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
WANTED = {escape.name: escape.outcomes for escape in ABUSES}
BY_FUNCTION = (
    *("memory_bomb", "shared_memory_bomb", "disk_bomb", "inode_bomb", "open_file_bomb", "fork_bomb"),
    *("thread_bomb", "message_queue_bomb", "deep_directories", "endless_loop", "stop_everyone"),
    *("kill_everyone", "kill_runtime_by_extension", "huge_answer"),
)
SETTINGS = {"Runtime": RUNTIME, "Handler": "app.handler", "Timeout": 20, "MemorySize": 256}
LINK = stat.S_IFLNK | 0o777


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("abuse") / unique("data")) as node:
        yield node


def outcome_of(answer: Answer) -> str:
    """Say in a word how an invocation ended."""
    if answer.error is None:
        return str(answer.payload)
    text = json.dumps(answer.payload)
    for word, sign in (
        ("timeout", "timed out"),
        ("killed", "signal: killed"),
        ("refused", "ResponseSizeTooLarge"),
    ):
        if sign in text:
            return word
    return text


def has(node: Node, limit: str) -> bool:
    """Tell whether the machine lets the node enforce a limit."""
    return not any(limit in sentence for sentence in node.info["missing"])


def test_whatever_a_function_does_costs_only_itself(node: Node, tmp_path: Path) -> None:
    # Given a neighbour, and a function for each abuse, one of them with an extension that kills
    script = (HERE / "abusive.py").read_bytes()
    names = [name for name in BY_FUNCTION if name != "fork_bomb" or has(node, "number of processes")]
    if not has(node, "memory sizes are not enforced"):
        names = [name for name in names if name not in ("memory_bomb", "shared_memory_bomb")]
    killer = zip_of({"extensions/killer": script}, mode=0o755)
    with functions_on(node) as function:
        neighbour = function(zip_directory(PROBE))
        first = node.invoke(neighbour, {"echo": 0}).payload

        def abuse(name: str) -> tuple[str, str, str]:
            layers = [killer] if name == "kill_runtime_by_extension" else []
            timeout = 10 if "timeout" in WANTED[name] else 90
            mine = function(zip_of({"app.py": script}), layers=layers, **(SETTINGS | {"Timeout": timeout}))
            before = outcome_of(node.invoke(mine, {"abuse": name}))
            return name, before, outcome_of(node.invoke(mine, {"abuse": "none"}))

        # When they all do it, three at a time
        with ThreadPoolExecutor(3) as threads:
            ended = list(threads.map(abuse, names))

        # Then each ends as it should, works again afterwards, and the neighbour has noticed nothing
        outcomes = {name: outcome for name, outcome, _ in ended}
        assert {name: said for name, said in outcomes.items() if said not in WANTED[name]} == {}
        assert {name: again for name, _, again in ended if again != "fine"} == {}
        last = node.invoke(neighbour, {"echo": 1}).payload
        assert (last["echo"], last["generation"]) == (1, first["generation"])


PACKAGES: dict[str, Callable[[], bytes]] = {
    "link_in_layer": lambda: zip_of({"a": "/etc/shadow"}, modes={"a": LINK}),
    "climbing_name": lambda: zip_of({"../../etc/cron.d/x": "x"}),
    "absolute_name": lambda: zip_of({"/etc/cron.d/x": "x"}),
    "below_a_link": lambda: zip_of({"a": "/opt/b", "a/c": "x"}, modes={"a": LINK}),
    "device_in_layer": lambda: zip_of({"a": b""}, modes={"a": stat.S_IFBLK | 0o666}),
    "pipe_in_layer": lambda: zip_of({"a": b""}, modes={"a": stat.S_IFIFO | 0o666}),
    "huge_zip": lambda: zip_of({"a": bytes(270 << 20)}),
}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_that_means_harm_is_refused(node: Node, name: str) -> None:
    with pytest.raises(ClientError) as refused:
        node.publish(PACKAGES[name]())
    assert refused.value.response["Error"]["Code"] == "InvalidParameterValueException"
    assert WANTED[name] == {"refused"}


def test_the_set_user_bit_of_a_package_is_dropped(node: Node) -> None:
    script = (HERE / "abusive.py").read_bytes()
    layer = zip_of({"tool": "#!/bin/sh\nid\n"}, modes={"tool": 0o6755})
    with functions_on(node) as function:
        name = function(zip_of({"app.py": script}), layers=[layer], **SETTINGS)
        mode = node.invoke(name, {"abuse": "mode_of_tool"}).payload
    assert mode == "0o755"
    assert WANTED["set_user_bit_in_layer"] == {"ignored"}
