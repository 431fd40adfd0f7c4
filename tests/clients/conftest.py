"""
Real deploy tools against a real node; `make test-clients` installs them and runs this.

They are no part of `make test`, since they are downloaded: nothing here is collected without REMORA_CLIENTS,
which is the directory that they are in.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.acceptance.conftest import running
from tests.acceptance.nodes import PATIENCE_S, REMORA, Node, unique
from tests.acceptance.packages import EXAMPLES

from remora.testing.clients import read_at_once

HERE = Path(__file__).parent
CLIENTS = Path(os.environ.get("REMORA_CLIENTS", ""))
collect_ignore_glob = [] if "REMORA_CLIENTS" in os.environ else ["test_*.py"]

Tool = Callable[..., str]


@pytest.fixture(scope="session", params=["open", "keys"])
def auth(request: pytest.FixtureRequest) -> str:
    """Whether the node asks for keys."""
    answer: str = request.param
    return answer


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, auth: str) -> Path:
    """The node's directory."""
    return tmp_path_factory.mktemp(auth) / unique("data")


@pytest.fixture(scope="session")
def credentials(data: Path, auth: str) -> dict[str, str]:
    """What the tools sign with, as variables."""
    if auth == "open":
        return {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    command = [REMORA, "keys", "create", "owner", "--json", "--data", data]
    made = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {"AWS_ACCESS_KEY_ID": made["access_key_id"], "AWS_SECRET_ACCESS_KEY": made["secret_access_key"]}


@pytest.fixture(scope="session")
def client_of(credentials: dict[str, str]) -> Callable[[str, str], Any]:
    """Make a client of a service."""

    def client_of(service: str, endpoint: str) -> Any:
        return boto3.client(
            service,
            "us-east-1",
            endpoint_url=endpoint,
            aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
        )

    return client_of


@pytest.fixture(scope="session")
def node(data: Path, auth: str, client_of: Callable[[str, str], Any]) -> Iterator[Node]:
    with running(data, "--auth", auth) as node:
        node.client = read_at_once(client_of("lambda", node.endpoint))
        yield node


@pytest.fixture
def cloudformation(node: Node, client_of: Callable[[str, str], Any]) -> Any:
    """A client of the node's CloudFormation."""
    return client_of("cloudformation", node.endpoint)


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the directory that is named like the test's file, with code and a layer with an extension."""
    name = request.path.stem.removeprefix("test_")
    project = shutil.copytree(HERE / name, tmp_path / name)
    shutil.copytree(HERE / "code", project / "code")
    shutil.copytree(EXAMPLES / "extensions" / "shell-extension", project / "layer")
    return project


@pytest.fixture
def run(node: Node, credentials: dict[str, str], project: Path, tmp_path: Path) -> Tool:
    """Run a program in the project, against the node; it must end with `code`. Returns what it printed."""

    def run(program: str | Path, *arguments: str, code: int = 0, **variables: str) -> str:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
            "HOME": str(home),
            "TMPDIR": str(home),  # SAM leaves there what it made
            "AWS_ENDPOINT_URL": node.endpoint,
            **credentials,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "CDK_DISABLE_VERSION_CHECK": "1",
            "CHECKPOINT_DISABLE": "1",
            "SAM_CLI_TELEMETRY": "0",
        }
        done = subprocess.run(
            [program, *arguments],
            cwd=project,
            env=environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    return run
