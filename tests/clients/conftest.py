"""
Real deploy tools against a real node; `make test-clients` installs them and runs this.

They are no part of `make test`, since they are downloaded: nothing here is collected without REMORA_CLIENTS,
which is the directory that they are in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.acceptance.conftest import running
from tests.acceptance.nodes import PATIENCE_S, Node, unique
from tests.acceptance.packages import EXAMPLES

HERE = Path(__file__).parent
CLIENTS = Path(os.environ.get("REMORA_CLIENTS", ""))
collect_ignore_glob = [] if "REMORA_CLIENTS" in os.environ else ["test_*.py"]

Tool = Callable[..., str]


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("node") / unique("data")) as node:
        yield node


@pytest.fixture
def cloudformation(node: Node) -> Any:
    """A client of the node's CloudFormation."""
    settings = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
    return boto3.client("cloudformation", "us-east-1", endpoint_url=node.endpoint, **settings)


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the directory that is named like the test's file, with code and a layer with an extension."""
    name = request.path.stem.removeprefix("test_")
    project = shutil.copytree(HERE / name, tmp_path / name)
    shutil.copytree(HERE / "code", project / "code")
    shutil.copytree(EXAMPLES / "extensions" / "shell-extension", project / "layer")
    return project


@pytest.fixture
def run(node: Node, project: Path, tmp_path: Path) -> Tool:
    """Run a program in the project, against the node; it must end with `code`. Returns what it printed."""

    def run(program: str | Path, *arguments: str, code: int = 0, **variables: str) -> str:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
            "HOME": str(home),
            "AWS_ENDPOINT_URL": node.endpoint,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
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
