"""Preparing /var/runtime: what is in it, what happens at once, what a crash or a missing package leaves."""

from __future__ import annotations

import asyncio
import subprocess
import threading

import pytest

from remora.runtimes import interpreters, preparation
from remora.runtimes.catalog import Runtimes, default_cache
from remora.runtimes.errors import RuntimeUnavailable

from . import conftest


@pytest.fixture
def interpreter():
    found = interpreters.candidates(interpreters.usual_directories())
    chosen = interpreters.choose(conftest.OWN, found[conftest.OWN])
    assert chosen is not None
    return chosen


@pytest.fixture
def installs(monkeypatch):
    """Stands in for pip: notes every call and writes a client."""
    calls = []

    def install(interpreter, target, packages):
        calls.append(interpreter.name)
        client = target / "awslambdaric"
        client.mkdir(parents=True)
        (client / "__init__.py").write_text("value = 1\n")
        (target / "awslambdaric-9.8.7.dist-info").mkdir()

    monkeypatch.setattr(preparation, "_install", install)
    return calls


@pytest.mark.slow
def test_layout_is_complete(layout):
    (lang, inside_lang), (runtime, inside_runtime) = layout.mounts
    assert (inside_lang, inside_runtime) == ("/var/lang", "/var/runtime")
    assert (lang / "bin" / layout.name).exists()
    assert layout.bootstraps == ("/var/runtime/bootstrap",)
    assert (runtime / "bootstrap").stat().st_mode & 0o777 == 0o755
    assert layout.variables["PYTHONPATH"] == "/var/runtime"
    minor = layout.name.removeprefix("python")
    assert layout.version.startswith(f"python:{minor}.v")
    prefix, _, digest = layout.version_arn.rpartition(":")
    assert prefix == "arn:aws:lambda:eu-central-1::runtime"
    assert len(bytes.fromhex(digest)) == 32


@pytest.mark.slow
def test_everything_is_compiled_for_its_interpreter_and_readable(layout):
    runtime = layout.mounts[1][0]
    tag = layout.name.removeprefix("python").replace(".", "")
    sources = [path for path in runtime.rglob("*.py") if path.name != "bootstrap.py"]
    assert sources
    for source in sources:
        assert (source.parent / "__pycache__" / f"{source.stem}.cpython-{tag}.pyc").exists(), source
    assert all(path.stat().st_mode & 0o004 for path in runtime.rglob("*"))


@pytest.mark.slow
def test_prepared_runtime_is_taken_from_the_cache(layout, cache, monkeypatch):
    monkeypatch.setattr(preparation, "_install", None)  # would fail if called
    assert asyncio.run(Runtimes(cache, "eu-central-1").prepare(layout.name)) == layout


def test_calls_at_once_share_the_work(tmp_path, installs):
    async def main():
        runtimes = Runtimes(tmp_path, "us-east-1")
        return await asyncio.gather(*(runtimes.prepare(conftest.OWN) for _ in range(20)))

    layouts = asyncio.run(main())
    assert installs == [conftest.OWN]
    assert all(layout is layouts[0] for layout in layouts)


def test_two_nodes_at_once_share_the_work(tmp_path, interpreter, installs):
    places = []
    threads = [
        threading.Thread(target=lambda: places.append(preparation.prepare(interpreter, tmp_path)))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(installs) == 1
    assert len(set(places)) == 1
    assert places[0].prepared.client_version == "9.8.7"


def test_what_a_killed_process_left_is_removed(tmp_path, interpreter, installs):
    left = tmp_path / f".new-{interpreter.name}-abc" / "runtime"
    left.mkdir(parents=True)
    place = preparation.prepare(interpreter, tmp_path)
    assert not left.exists()
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == [
        place.directory.parent.name
    ]


def test_damaged_directory_is_replaced(tmp_path, interpreter, installs):
    place = preparation.prepare(interpreter, tmp_path)
    (place.directory.parent / "layout.json").write_text("{")
    again = preparation.prepare(interpreter, tmp_path)
    assert again == place
    assert len(installs) == 2


def test_cleared_cache_is_filled_again(tmp_path, installs):
    async def main():
        runtimes = Runtimes(tmp_path / "cache", "us-east-1")
        first = await runtimes.prepare(conftest.OWN)
        (tmp_path / "cache").rename(tmp_path / "gone")
        assert await runtimes.prepare(conftest.OWN) == first

    asyncio.run(main())
    assert len(installs) == 2


def test_digest_depends_on_contents_only(tmp_path, interpreter, installs):
    one = preparation.prepare(interpreter, tmp_path / "one")
    two = preparation.prepare(interpreter, tmp_path / "two")
    assert one.prepared == two.prepared
    assert one.directory.parent.name == two.directory.parent.name


def test_other_packages_are_another_directory(tmp_path, interpreter, installs):
    one = preparation.prepare(interpreter, tmp_path)
    two = preparation.prepare(interpreter, tmp_path, ("awslambdaric", "boto3"))
    assert one.directory != two.directory


@pytest.mark.slow
def test_missing_package_is_explained_and_leaves_nothing(tmp_path, interpreter, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(RuntimeUnavailable, match=r"No matching distribution.*PIP_FIND_LINKS") as caught:
        preparation.prepare(interpreter, tmp_path)
    assert caught.value.retryable
    assert [path.name for path in tmp_path.iterdir()] == [f".{interpreter.name}.lock"]


def test_failure_is_tried_anew(tmp_path, installs, monkeypatch):
    working = preparation._install

    def failing(*_):
        raise RuntimeUnavailable("no network")

    async def main():
        runtimes = Runtimes(tmp_path, "us-east-1")
        monkeypatch.setattr(preparation, "_install", failing)
        with pytest.raises(RuntimeUnavailable):
            await runtimes.prepare(conftest.OWN)
        monkeypatch.setattr(preparation, "_install", working)
        return await runtimes.prepare(conftest.OWN)

    assert asyncio.run(main()).name == conftest.OWN


def test_cancelled_caller_leaves_the_work_to_others(tmp_path, installs):
    async def main():
        runtimes = Runtimes(tmp_path, "us-east-1")
        async with asyncio.timeout(120):
            first = asyncio.ensure_future(runtimes.prepare(conftest.OWN))
            await asyncio.sleep(0)
            first.cancel()
            return await runtimes.prepare(conftest.OWN)

    assert asyncio.run(main()).name == conftest.OWN
    assert len(installs) == 1


def test_unwritable_cache_is_explained(tmp_path, interpreter, installs):
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeUnavailable, match="XDG_CACHE_HOME"):
        preparation.prepare(interpreter, tmp_path / "file" / "cache")


def test_client_that_does_not_compile_is_explained(tmp_path, interpreter, monkeypatch):
    def install(_interpreter, target, _packages):
        (target / "awslambdaric-1.dist-info").mkdir(parents=True)
        (target / "wrong.py").write_text("def (:\n")

    monkeypatch.setattr(preparation, "_install", install)
    with pytest.raises(RuntimeUnavailable, match="could not compile"):
        preparation.prepare(interpreter, tmp_path)


def test_provided_runtimes_bring_nothing(tmp_path):
    layout = asyncio.run(Runtimes(tmp_path, "us-east-1").prepare("provided.al2023"))
    assert layout.mounts == ()
    assert layout.bootstraps == ("/var/task/bootstrap", "/opt/bootstrap")
    assert layout.variables == {}


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("python3.29", "install that Python"),
        ("nodejs20.x", "is not offered"),
        ("python3.7", "is not offered"),
    ],
)
def test_unknown_runtimes_are_explained(tmp_path, name, advice):
    with pytest.raises(RuntimeUnavailable, match=advice):
        asyncio.run(Runtimes(tmp_path, "us-east-1").prepare(name))


def test_interpreter_that_stopped_working_is_explained(tmp_path):
    path = tmp_path / "bin" / "python3.12"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    runtimes = Runtimes(tmp_path / "cache", "us-east-1", directories=(path.parent,))
    assert runtimes.names() == ("python3.12", "provided.al2", "provided.al2023")
    with pytest.raises(RuntimeUnavailable, match="reinstall"):
        asyncio.run(runtimes.prepare("python3.12"))


def test_default_cache_follows_the_convention(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "remora" / "runtimes"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(default_cache()) == "/home/somebody/.cache/remora/runtimes"


def test_shell_part_is_correct_whatever_the_path_is(tmp_path):
    interpreter = interpreters.Interpreter((3, 12, 1), tmp_path / "it's here; $HOME")
    script = preparation.bootstrap_files(interpreter)["bootstrap"]
    assert b"@" not in script.replace(b'"$@"', b"")
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
