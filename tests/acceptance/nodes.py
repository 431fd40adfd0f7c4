"""Real nodes in processes of their own, and what one does with them."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import boto3
from botocore.config import Config

from remora.testing.clients import read_at_once

REMORA = Path(sys.executable).with_name("remora")
PATIENCE_S = 240.0
"""How long anything may take on a busy machine before a test gives up."""
TIMEOUT_S = 60
"""The timeout of functions for which it does not matter."""
ROLE = "arn:aws:iam::000000000000:role/acceptance"
_HIDE_CGROUPS = "mount -t tmpfs -o ro none /sys/fs/cgroup"
_BE_NOBODY = "exec unshare --user --map-user=1000 --map-group=1000"
ROOTLESS = (
    *("unshare", "--user", "--map-root-user", "--mount"),
    *("sh", "-c", f'{_HIDE_CGROUPS} && {_BE_NOBODY} "$@"', "rootless"),
)
"""Runs a command without any right, where there are no cgroups and only one id can be mapped."""

_numbers = itertools.count(1)


def unique(word: str) -> str:
    """Return a name that no other test uses."""
    return f"{word}-{os.getpid()}-{next(_numbers)}"


def eventually(is_true: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
    """Wait for something that tells nobody when it happens; returns what it became."""
    end = time.monotonic() + within_s
    while not (value := is_true()):
        assert time.monotonic() < end, f"it did not happen within {within_s} s"
        time.sleep(0.02)
    return value


def total(cloudwatch: Any, metric: str, function: str) -> float:
    """Return the sum of one of a function's metrics, as a CloudWatch client reads it."""
    points = cloudwatch.get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName=metric,
        Dimensions=[{"Name": "FunctionName", "Value": function}],
        StartTime=0,
        EndTime=2**32,
        Period=86_400 * 365,
        Statistics=["Sum"],
    )["Datapoints"]
    return sum(point["Sum"] for point in points)


def aws_2():
    """Return the machine's AWS CLI 2, which `tools/setup` installs; None if there is none."""
    program = Path("/usr/bin/aws")
    if not program.exists():
        return None
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return program if version.startswith("aws-cli/2") else None


@dataclass(frozen=True)
class Answer:
    """What came back from an invocation; `payload` is parsed if it is JSON."""

    status: int
    payload: Any
    error: str | None
    request_id: str
    log: str


class Node:
    """
    A running `remora up`.

    Args:
        data: Its data directory, whose last part is used by no other node.
        arguments: More of its command line.
        prefix: What the command is run by.
    """

    def __init__(self, data: Path, *arguments: str, prefix: Sequence[str] = ()) -> None:
        self.data = data
        data.parent.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        command = [*prefix, str(REMORA), "up", "--json", "--port", "0", "--data", str(data), *arguments]
        self.errors = data.with_name(f"{data.name}.stderr-{next(_numbers)}")
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.stdout.close()
            raise AssertionError(f"exit code {self.process.wait()}: {self.errors.read_text()}")
        self.info = json.loads(line)
        self.endpoint = self.info["endpoint"]
        self.address = urlsplit(self.endpoint).netloc
        client = boto3.client(
            "lambda",
            "us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(max_pool_connections=100, retries={"max_attempts": 0}, read_timeout=PATIENCE_S),
        )
        self.client = read_at_once(client)

    # --- its end ------------------------------------------------------------------------------------------

    def terminate(self) -> int:
        """Ask it to end; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """End it as a power cut would."""
        os.kill(self.info["pid"], signal.SIGKILL)
        self.ended()

    def ended(self) -> int:
        """Wait for its end; returns the exit code."""
        assert self.process.stdout is not None
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()
            self.client.close()

    # --- deploying ----------------------------------------------------------------------------------------

    def publish(self, content: bytes, name: str = "") -> str:
        """Publish a layer; returns the ARN of its version."""
        name = name or unique("layer")
        return self.client.publish_layer_version(LayerName=name, Content={"ZipFile": content})[
            "LayerVersionArn"
        ]

    def create(self, content: bytes, *, layers: Sequence[bytes] = (), **settings: Any) -> str:
        """Create a function and wait until it is active; returns its name."""
        name = settings.pop("FunctionName", "") or unique("function")
        settings = {"Timeout": TIMEOUT_S, **settings}
        variables = settings.pop("variables", None)
        if variables is not None:
            settings["Environment"] = {"Variables": variables}
        self.client.create_function(
            FunctionName=name,
            Role=ROLE,
            Code={"ZipFile": content},
            Layers=[self.publish(layer) for layer in layers],
            **settings,
        )
        self.wait("function_active_v2", name)
        return name

    def wait(self, waiter: str, function: str) -> None:
        """Let one of botocore's waiters wait."""
        config = {"Delay": 0.05, "MaxAttempts": 4_800}
        self.client.get_waiter(waiter).wait(FunctionName=function, WaiterConfig=config)

    # --- invoking -----------------------------------------------------------------------------------------

    def invoke(self, function: str, event: Any = None, *, tail: bool = False, **settings: Any) -> Answer:
        """Invoke; with `tail` the answer comes after the extensions are done."""
        if tail:
            settings["LogType"] = "Tail"
        payload = event if isinstance(event, bytes) else json.dumps(event or {}).encode()
        got = self.client.invoke(FunctionName=function, Payload=payload, **settings)
        body = got["Payload"].read()
        return Answer(
            status=got["StatusCode"],
            payload=json.loads(body) if body else None,
            error=got.get("FunctionError"),
            request_id=got["ResponseMetadata"]["RequestId"],
            log=base64.b64decode(got.get("LogResult", "")).decode(errors="replace"),
        )

    # --- looking ------------------------------------------------------------------------------------------

    def get(self, path: str) -> Any:
        """Ask the node's own API."""
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE_S)
        try:
            connection.request("GET", f"/_remora/{path}")
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, body
            return json.loads(body)
        finally:
            connection.close()

    def environments(self, function: str) -> list[dict[str, Any]]:
        """Return the function's living environments."""
        return [each for each in self.get("environments")["environments"] if each["function"] == function]

    def settle(self, function: str) -> None:
        """Wait until all of the function's environments are idle."""
        eventually(lambda: {each["state"] for each in self.environments(function)} <= {"idle"})

    def timelines(self, function: str) -> list[list[dict[str, Any]]]:
        """Return the events of each of the function's environments, oldest environment first."""
        return [each["events"] for each in self.get("timelines")["timelines"] if each["function"] == function]

    def timeline(self, function: str) -> list[dict[str, Any]]:
        """Return the events of the function's only environment."""
        (events,) = self.timelines(function)
        return events

    @contextmanager
    def following(self, function: str) -> Iterator[Iterator[dict[str, Any]]]:
        """Read the function's log, what was written and what will be; ends with the node."""
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE_S)
        try:
            connection.request("GET", f"/_remora/logs?function={quote(function)}&follow=1")
            response = connection.getresponse()
            yield (json.loads(line) for line in response)
            response.close()
        finally:
            connection.close()

    def log_until(self, function: str, *texts: str) -> list[str]:
        """Read the function's log until each text has come (in any order); returns the messages."""
        missing, messages = set(texts), []
        with self.following(function) as lines:
            for line in lines:
                messages.append(line["message"])
                missing -= {text for text in missing if text in line["message"]}
                if not missing:
                    break
        assert not missing, f"never logged: {missing}; but {messages}"
        return messages
