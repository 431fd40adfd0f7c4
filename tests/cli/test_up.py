"""`remora up`: from a command line to settings, and what is announced; the node itself is faked."""

import json
import os
from pathlib import Path

import pytest

from remora.cli import up as up_command
from remora.node.settings import NodeError, NodeInfo, NodeSettings
from remora.telemetry.log_files import LogLimits

INFO = NodeInfo("http://127.0.0.1:9000", "eu-west-1", "000000000000", "bubblewrap", ("no memory limits",))


class FakeNode:
    """Stands for `run_node`: is ready at once and ends at once."""

    def __init__(self) -> None:
        self.settings: NodeSettings | None = None
        self.info = INFO
        self.failure: NodeError | None = None

    def __call__(self, settings, on_ready):
        assert settings.data.is_dir()
        self.settings = settings
        if self.failure:
            raise self.failure
        (settings.data / "kept").write_text("")
        on_ready(self.info)


@pytest.fixture
def fake(monkeypatch):
    fake = FakeNode()
    monkeypatch.setattr(up_command, "run_node", fake)
    return fake


def test_a_node_is_announced_with_what_one_needs_to_use_it(remora, fake, tmp_path):
    result = remora("up", "--data", str(tmp_path / "new" / "data"))
    assert result.code == 0
    for text in (
        "http://127.0.0.1:9000",
        "eu-west-1",
        str(tmp_path / "new" / "data"),
        "bubblewrap",
        "import boto3",
    ):
        assert text in result.out
    assert result.err == "warning: no memory limits\nremora: all environments are shut down\n"
    assert (tmp_path / "new" / "data" / "kept").exists()


def test_the_boto3_lines_are_python(remora, fake, tmp_path):
    lines = remora("up", "--data", str(tmp_path)).out.splitlines()
    start = next(number for number, line in enumerate(lines) if "import boto3" in line)
    compile("\n".join(line.removeprefix("  ") for line in lines[start:]), "announcement", "exec")


def test_without_data_a_temporary_directory_is_used_and_removed(remora, fake):
    result = remora("up")
    assert "temporary: removed at exit" in result.out
    assert not fake.settings.data.exists()


def test_every_option_arrives(remora, fake, tmp_path):
    options = (
        *("--port", "0", "--data", str(tmp_path), "--driver", "process", "--region", "eu-north-1"),
        *("--account", "123456789012", "--idle-seconds", "1.5", "--concurrency", "7", "--network", "host"),
        *("--logs-size", "20mb", "--logs-days", "7"),
        *("--function-network", "bill*=none", "--function-network", "a=nat"),
    )
    assert remora("up", *options).code == 0
    assert fake.settings == NodeSettings(
        data=tmp_path.resolve(),
        port=0,
        driver="process",
        region="eu-north-1",
        account="123456789012",
        idle_s=1.5,
        concurrency=7,
        network="host",
        log_limits=LogLimits(bytes_max=20 << 20, days_max=7),
        networks=(("bill*", "none"), ("a", "nat")),
    )


def test_the_region_is_that_of_the_aws_tools(remora, fake, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    remora("up", "--data", str(tmp_path))
    assert fake.settings.region == "ap-south-1"


def test_json_is_one_line(remora, fake, tmp_path):
    result = remora("up", "--json", "--data", str(tmp_path))
    assert json.loads(result.out) == {
        "endpoint": "http://127.0.0.1:9000",
        "region": "eu-west-1",
        "account": "000000000000",
        "driver": "bubblewrap",
        "auth": "open",
        "missing": ["no memory limits"],
        "data": str(tmp_path.resolve()),
        "pid": os.getpid(),
    }
    assert result.out.count("\n") == 1


def test_no_isolation_is_said_loudly(remora, fake, tmp_path):
    fake.info = NodeInfo("http://127.0.0.1:9000", "eu-west-1", "000000000000", "process", ())
    assert "NO ISOLATION" in remora("up", "--data", str(tmp_path)).out


def test_a_node_that_cannot_start_is_exit_code_3_with_a_hint(remora, fake, tmp_path):
    fake.failure = NodeError("port 9000 is taken", "choose another with --port")
    result = remora("up", "--data", str(tmp_path))
    assert (result.code, result.out) == (3, "")
    assert result.err == "remora: port 9000 is taken\nhint: choose another with --port\n"


def test_a_data_directory_that_cannot_be_made_is_exit_code_3(remora, fake, tmp_path):
    (tmp_path / "file").write_text("")
    result = remora("up", "--data", str(Path(tmp_path, "file", "data")))
    assert result.code == 3
    assert "could not make the data directory" in result.err
    assert fake.settings is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--account", "12"), "is not 12 digits"),
        (("--aws-endpoint", "127.0.0.1:5000"), "is neither a URL nor the word aws"),
        (("--layers-endpoint", "AWS"), "is neither a URL nor the word aws"),
        (("--account", "\u0661" * 12), "is not 12 digits"),
        (("--port", "65536"), "is not in the range"),
        (("--idle-seconds", "-1"), "is not in the range"),
        (("--concurrency", "0"), "is not in the range"),
        (("--network", "some"), "is not one of"),
        (("--function-network", "a"), "is not NAME=POLICY"),
        (("--function-network", "a=some"), "is not NAME=POLICY"),
    ],
)
def test_wrong_options_are_wrong_usage(remora, fake, options, message):
    result = remora("up", *options)
    assert result.code == 2
    assert message in result.err
    assert fake.settings is None


@pytest.mark.parametrize("size", ["1", "900KB", "-1GB", "1.5GB", "much", "0TB"])
def test_a_size_of_logs_has_a_unit_and_is_not_too_small(remora, fake, size):
    result = remora("up", "--logs-size", size)
    assert result.code == 2
    assert "is not a size such as" in result.err


def test_an_endpoint_that_is_named_goes_before_the_environment(remora, fake, tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://environment")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "5")
    remora("up", "--data", str(tmp_path))
    assert fake.settings.open_telemetry["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"] == "http://logs"
    remora("up", "--data", str(tmp_path), "--otlp-endpoint", "http://named")
    assert fake.settings.open_telemetry == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://named",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "5",
    }
