"""Help, usage errors, exit codes: what is the same for every command."""

import subprocess
import sys

import pytest

import remora as package
from remora.cli import version
from remora.cli.main import _COMMANDS


def test_help_lists_every_command(remora):
    result = remora("--help")
    assert result.code == 0
    for name in _COMMANDS:
        assert f"\n  {name} " in result.out


def test_without_a_command_the_help_is_shown(remora):
    result = remora()
    assert result.code == 2
    assert "Commands:" in result.out + result.err


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_explains_itself(remora, name):
    result = remora(name, "--help")
    assert result.code == 0
    assert f"Usage: remora {name}" in result.out
    assert all(len(line) <= 100 for line in result.out.splitlines())


def test_wrong_usage_is_one_line_and_a_hint(remora):
    result = remora("ps", "--nonsense")
    assert result.code == 2
    lines = result.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("remora: No such option")
    assert lines[1] == "hint: see: remora ps --help"


def test_an_unknown_command_is_wrong_usage(remora):
    result = remora("fly")
    assert result.code == 2
    assert "No such command 'fly'" in result.err


def test_version(remora):
    assert remora("version").out.startswith(f"remora {package.__version__} (Python 3.")
    assert remora("--version").out == f"remora {package.__version__}\n"
    assert f'"version":"{package.__version__}"' in remora("version", "--json").out


def test_an_interrupt_is_exit_code_130(remora, monkeypatch):
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(version.platform, "python_version", interrupt)
    assert remora("version").code == 130


def test_a_reader_that_leaves_early_is_no_crash(node):
    node.answers["/_remora/logs"] = (200, b'{"timestamp_ms":1,"stream":"s","message":"m"}\n' * 20_000)
    command = "from remora.cli.main import main; main()"
    arguments = [sys.executable, "-c", command, "logs", "f", "--endpoint", node.endpoint]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"m\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
