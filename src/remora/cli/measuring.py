"""
Where measurements come from: a function in a directory, run without a node, or a function of a node.

A block is what one fresh environment does: a cold invocation and some warm ones.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import botocore.session
import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from remora.cli.client import get, post
from remora.cli.comparison import Sample
from remora.cli.errors import UNREACHABLE, CommandError
from remora.kit.ids import random_hex
from remora.node.oneshot import RunError, run_once

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence
    from pathlib import Path

    from remora.node.oneshot import RunReport, RunRequest

_PATIENCE_S = 20.0
"""How long an environment may take to end, and a record to appear."""
_NAME_CHARACTERS_MAX = 64
_COPIED = (
    *("Runtime", "Role", "Handler", "Timeout", "MemorySize", "Environment", "Architectures"),
    *("EphemeralStorage", "LoggingConfig", "TracingConfig"),
)


class Variant(Protocol):
    """Something that can be measured."""

    @property
    def label(self) -> str:
        """What people call it."""

    def block(self, payload: bytes, warm: int) -> list[Sample]:
        """
        Measure one fresh environment: a cold invocation and `warm` further ones, in order.

        Raises:
            CommandError: If it cannot be invoked; what the function does wrong is a sample.
        """


class Runner(Protocol):
    """What runs coroutines, `asyncio.Runner`."""

    def run(self, coroutine: Coroutine[Any, Any, RunReport]) -> RunReport:
        """Run one."""


class _Took(msgspec.Struct, frozen=True):
    """One invocation, as a node or a run tells of it."""

    request_id: str
    status: str
    duration_ms: float
    init_ms: float | None
    post_runtime_ms: float | None
    memory_peak_bytes: int
    billed_ms: int
    usd: float

    def sample(self) -> Sample:
        return Sample(
            self.duration_ms,
            self.init_ms,
            self.post_runtime_ms,
            self.billed_ms,
            -(-self.memory_peak_bytes // 2**20),
            self.usd,
            self.status != "success",
        )


class _Report(msgspec.Struct):
    """What a node tells about a function, as far as it is needed."""

    last: list[_Took]


class _Living(msgspec.Struct):
    """What a node tells about its environments, as far as it is needed."""

    class Each(msgspec.Struct):
        """One environment."""

        function: str
        version: str

    environments: list[Each]


# --- without a node ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LocalFunction:
    """
    A function in a directory.

    Args:
        label: What people call it.
        request: How it is run.
        runner: What runs it.
    """

    label: str
    request: RunRequest
    runner: Runner

    def block(self, payload: bytes, warm: int) -> list[Sample]:
        """See `Variant`."""
        request = replace(self.request, payload=payload, repeat=warm + 1)
        try:
            report = self.runner.run(run_once(request, lambda _: None))
        except RunError as error:
            raise CommandError(str(error), error.hint, UNREACHABLE) from error
        return [took.sample() for took in msgspec.convert(report.invocations, list[_Took])]

    def without(self, layers: Sequence[str]) -> LocalFunction:
        """
        Return the same function without some of its layers, each named by its path or the end of it.

        Raises:
            CommandError: If it has no such layer.
        """
        kept = self.request.layers
        for name in layers:
            found = [
                layer for layer in kept if name.rstrip("/") in {str(layer), layer.name} or _is(layer, name)
            ]
            if not found:
                raise CommandError(
                    f"{self.label} has no layer {name!r}", f"it has {', '.join(map(str, kept)) or 'none'}"
                )
            kept = tuple(layer for layer in kept if layer not in found)
        return replace(self, label=_without(layers), request=replace(self.request, layers=kept))


def _is(layer: Path, name: str) -> bool:
    return os.path.realpath(name) == str(layer)


def _without(layers: Sequence[str]) -> str:
    return "without " + ", ".join(_short(layer) for layer in layers)


def _short(layer: str) -> str:
    """Return the name of a layer in an ARN or a path."""
    return layer.split(":")[6] if layer.startswith("arn:") else layer.rstrip("/").rpartition("/")[2]


# --- on a node --------------------------------------------------------------------------------------------


class NodeFunctions:
    """
    The functions of a node, through the Lambda API.

    Args:
        endpoint: The node's URL.

    Raises:
        CommandError: If the node cannot be reached.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        health = get(endpoint, "/_remora/health", dict[str, Any])
        session = botocore.session.get_session()
        session.set_config_variable("metadata_service_num_attempts", 0)  # no node knows roles of machines
        if session.get_credentials() is None:
            session.set_credentials("any", "any")
        self.client: Any = session.create_client(
            "lambda",
            str(health.get("region", "us-east-1")),
            endpoint_url=endpoint,
            config=Config(retries={"max_attempts": 0}, read_timeout=1_000),
        )

    def find(self, function: str, label: str = "") -> NodeFunction:
        """
        Return a function.

        Args:
            function: Its name or ARN, with `:` and a version or alias if it is not $LATEST.
            label: What people call it, if not so.

        Raises:
            CommandError: If there is none.
        """
        with answered(f"find {function}"):
            found = self.client.get_function_configuration(FunctionName=function)
        return NodeFunction(self, label or function, function, found["FunctionName"], found["Version"])

    @contextmanager
    def without(self, function: NodeFunction, layers: Sequence[str]) -> Iterator[NodeFunction]:
        """
        Make a copy of a function without some of its layers; it is deleted again.

        Args:
            function: The function.
            layers: Each the ARN of a layer version, of a layer, or a layer's name.

        Raises:
            CommandError: If it has no such layer, or cannot be copied.
        """
        with answered(f"copy {function.label}"):
            found = self.client.get_function(FunctionName=function.invoked)
            configuration = found["Configuration"]
            settings = {name: configuration[name] for name in _COPIED if name in configuration}
            if "Error" in settings.get("Environment", {}):
                del settings["Environment"]
            settings["Layers"] = _kept([each["Arn"] for each in configuration.get("Layers", ())], layers)
            if configuration.get("PackageType", "Zip") != "Zip":
                raise CommandError(f"{function.label} is an image: it has no layers")
            with build_opener(ProxyHandler({})).open(
                found["Code"]["Location"], timeout=_PATIENCE_S
            ) as opened:
                code = opened.read()
            suffix = f"-without-{random_hex(8)}"
            name = function.name[: _NAME_CHARACTERS_MAX - len(suffix)] + suffix
            self.client.create_function(FunctionName=name, Code={"ZipFile": code}, **settings)
        try:
            with answered(f"copy {function.label}"):
                waiter = self.client.get_waiter("function_active_v2")
                waiter.wait(FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 600})
            yield self.find(name, _without(layers))
        finally:
            with answered(f"delete the copy {name}"):
                self.client.delete_function(FunctionName=name)


@dataclass(frozen=True, slots=True)
class NodeFunction:
    """
    A function of a node.

    Args:
        node: Where it is.
        label: What people call it.
        invoked: What it is invoked as.
        name: Its name.
        version: What that resolves to, `$LATEST` or a number.
    """

    node: NodeFunctions
    label: str
    invoked: str
    name: str
    version: str

    def block(self, payload: bytes, warm: int) -> list[Sample]:
        """See `Variant`."""
        self._retire()
        return [self._invoke(payload).sample() for _ in range(warm + 1)]

    def _retire(self) -> None:
        """End its environments, so that the next invocation is a cold start that nothing disturbs."""
        endpoint = self.node.endpoint
        post(endpoint, f"/_remora/retire?{urlencode({'function': self.name, 'version': self.version})}")
        give_up = time.monotonic() + _PATIENCE_S
        while any(
            (each.function, each.version) == (self.name, self.version)
            for each in get(endpoint, "/_remora/environments", _Living).environments
        ):
            if time.monotonic() > give_up:
                raise CommandError(
                    f"environments of {self.label} did not end within {_PATIENCE_S:.0f} s",
                    "is somebody else invoking it? see: remora ps",
                )
            time.sleep(0.01)

    def _invoke(self, payload: bytes) -> _Took:
        with answered(f"invoke {self.label}"):
            answer = self.node.client.invoke(FunctionName=self.invoked, Payload=payload, LogType="Tail")
            answer["Payload"].read()
        request_id = answer["ResponseMetadata"]["RequestId"]
        give_up = time.monotonic() + _PATIENCE_S
        while time.monotonic() < give_up:
            report = get(self.node.endpoint, f"/_remora/report?{urlencode({'function': self.name})}", _Report)
            for took in reversed(report.last):
                if took.request_id == request_id:
                    return took
            time.sleep(0.01)
        raise CommandError(
            f"the node tells nothing of invocation {request_id} of {self.label}",
            "is somebody else invoking it? only the last invocations are remembered",
        )


def _kept(layers: list[str], names: Sequence[str]) -> list[str]:
    """Return the layers without those that are named."""
    for name in names:
        others = [arn for arn in layers if name not in {arn, arn.rpartition(":")[0], arn.split(":")[6]}]
        if others == layers:
            known = ", ".join(arn.split(":", 6)[6] for arn in layers) or "none"
            raise CommandError(f"the function has no layer {name!r}", f"it has {known}")
        layers = others
    return layers


@contextmanager
def answered(attempt: str) -> Iterator[None]:
    """Turn what the Lambda API says into what a command says."""
    try:
        yield
    except ClientError as error:
        about = error.response.get("Error", {})
        text = about.get("Message") or about.get("Code") or "unknown reason"
        raise CommandError(
            f"could not {attempt}: {text}", "see what there is: aws lambda list-versions-by-function"
        ) from error
    except (BotoCoreError, OSError) as error:
        raise CommandError(
            f"could not {attempt}: {error}", "is the node still running?", UNREACHABLE
        ) from error
