"""What the documents promise exists: commands, files, code that compiles."""

import re
import subprocess
from pathlib import Path

import pytest

from remora.cli.main import _COMMANDS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
DECISIONS = sorted(ROOT.glob("docs/adr/*.md"))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_the_readme_shows_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    assert [command for command in _COMMANDS if f"remora {command}" not in text] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_documents_name_only_what_exists(document: Path) -> None:
    text = document.read_text()
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not link.startswith("http"):
            assert (document.parent / link).exists(), link
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert target in TARGETS, target
    for command in re.findall(r"`remora ([a-z]+)", text):
        assert command in _COMMANDS, command


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_python_in_documents_compiles(document: Path) -> None:
    for block in blocks(document.read_text(), "python"):
        compile(block, name(document), "exec")


@pytest.mark.parametrize("decision", DECISIONS, ids=name)
def test_decisions_have_status_context_decision_and_consequences(decision: Path) -> None:
    text = decision.read_text()
    assert re.match(rf"# {decision.name[:4]} — .+\n\nStatus: (accepted|superseded by \d{{4}})\n", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(decision.name[:4]) for decision in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("script", ["tools/setup", ".ci/run"])
def test_scripts_are_executable_posix_shell(script: str) -> None:
    path = ROOT / script
    assert path.read_text().startswith("#!/bin/sh\n")
    assert path.stat().st_mode & 0o111
    subprocess.run(["/bin/sh", "-n", str(path)], check=True)
