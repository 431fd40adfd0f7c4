"""
"Improving startup performance with Lambda SnapStart", the protocol: stock Python client, isolated processes.

The environment is held frozen between its init and its one restore, in place: no snapshot is taken of it.
"""

import asyncio
import json
import re
import sys
import time
from contextlib import asynccontextmanager
from textwrap import dedent

import pytest
from tests.chosen import chosen_driver

from remora.lifecycle.machine import Budgets
from remora.lifecycle.messages import Failure
from remora.node.drivers import sandbox_driver
from remora.runtimes.catalog import Runtimes, default_cache
from remora.testing.held import open_held

from .conftest import written

OWN = f"python3.{sys.version_info[1]}"
SHORT = Budgets(restore_us=500_000)
HOOKS = "from snapshot_restore_py import register_after_restore, register_before_snapshot\n"
ECHO = "def handler(event, context):\n    return event\n"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def layout():
    """The Python runtime of this interpreter, with the stock client."""
    return asyncio.run(Runtimes(default_cache(), "us-east-1").prepare(OWN))


@pytest.fixture
def held(tmp_path, layout):
    """Make an isolated environment of a module, for a snapshot; `extensions` are programs by name."""

    @asynccontextmanager
    async def make(module, extensions=None, **members):
        files = {f"opt/extensions/{name}": written(text) for name, text in (extensions or {}).items()}
        files["task/app.py"] = dedent(module)
        driver = sandbox_driver(chosen_driver(), tmp_path / "environments", "spec")
        members = {"runtime": OWN, "handler": "app.handler", "layout": layout, "timeout_s": 30, **members}
        async with open_held(tmp_path, driver, files, **members) as it:
            yield it
        assert list((tmp_path / "environments").iterdir()) == []

    return make


def lines_of(log):
    return [line for _, line in log]


@pytest.mark.case("LC-41")
@pytest.mark.case("RT-39")
@pytest.mark.case("SS-4")
@pytest.mark.case("SS-9")
@pytest.mark.case("SS-10")
def test_hooks_run_around_the_snapshot(held, run):
    module = f"""
{HOOKS}
print("static")
register_before_snapshot(print, "b1")
register_before_snapshot(print, "b2")
register_after_restore(print, "a1")
register_after_restore(print, "a2")
{ECHO}
"""

    async def scenario():
        extension = 'Extension("INVOKE", "SHUTDOWN").follow()'
        async with held(module, {"ext.sh": extension}) as it:
            assert it.is_held
            before = lines_of(await it.log())
            await it.restore()
            assert json.loads((await it.invoke(b'{"n": 1}')).payload) == {"n": 1}
            assert json.loads((await it.invoke(b'{"n": 2}')).payload) == {"n": 2}
            await it.available()
            log = lines_of(await it.log())
        assert [line for line in before if "\t" not in line] == ["static", "b2", "b1"]
        assert before[-1].startswith("INIT_REPORT Init Duration: ")
        after = log[len(before) :]
        assert [line.split(" ")[0] for line in after] == [
            "RESTORE_START",
            "a1",
            "a2",
            "RESTORE_REPORT",
            *("START", "END", "REPORT"),
            *("START", "END", "REPORT"),
        ]
        assert "Billed Restore Duration: " in after[6]
        assert "Restore Duration: " not in after[9]
        assert not [line for line in log if "\tInit Duration: " in line]

    run(scenario())


@pytest.mark.parametrize(
    ("hook", "error_type", "status"),
    [
        ("raise ValueError('not now')", "Runtime.AfterRestoreError", 65),
        ("import os; os._exit(1)", "Runtime.ExitError", 1),
    ],
    ids=["raises", "exits"],
)
@pytest.mark.case("LC-43")
@pytest.mark.case("RT-40")
@pytest.mark.case("SS-12")
@pytest.mark.case("SS-15")
def test_a_hook_after_the_restore_that_fails(held, run, hook, error_type, status):
    module = f"""
{HOOKS}
@register_after_restore
def hook():
    {hook}
{ECHO}
"""

    async def scenario():
        async with held(module) as it:
            await it.restore()
            assert it.failure == Failure(error_type, f"Runtime exited with error: exit status {status}")
            await it.closed()
            log = lines_of(await it.log())
        assert re.fullmatch(
            rf"RESTORE_REPORT Restore Duration: \d+\.\d\d ms\tStatus: error\tError Type: {error_type}",
            log[-1],
        )
        if "raise" in hook:
            assert any("ValueError: not now" in line for line in log)

    run(scenario())


@pytest.mark.case("SS-6")
def test_a_hook_before_the_snapshot_that_fails(held, run):
    module = f"""
{HOOKS}
@register_before_snapshot
def hook():
    raise ValueError("not now")
{ECHO}
"""

    async def scenario():
        async with held(module) as it:
            assert it.failure == Failure(
                "Runtime.BeforeSnapshotError", "Runtime exited with error: exit status 64"
            )
            await it.closed()
            log = lines_of(await it.log())
        assert log[-1].endswith("\tPhase: init\tStatus: error\tError Type: Runtime.BeforeSnapshotError")
        assert any("ValueError: not now" in line for line in log)

    run(scenario())


@pytest.mark.case("LC-41")
@pytest.mark.case("SS-13")
def test_a_hook_after_the_restore_that_takes_too_long(held, run):
    module = f"""
{HOOKS}
import time
register_after_restore(time.sleep, 60)
{ECHO}
"""

    async def scenario():
        async with held(module, budgets=SHORT) as it:
            await it.restore()
            assert it.failure.error_type == "Runtime.RestoreHookUserTimeout"
            await it.closed()
            assert lines_of(await it.log())[-1].endswith("\tStatus: timeout")

    run(scenario())


def test_nobody_runs_between_the_snapshot_and_the_restore(held, run):
    module = f"""
{HOOKS}
import threading
import time

count = at_restore = 0

def tick():
    global count
    while True:
        time.sleep(0.005)
        count += 1

@register_after_restore
def restored():
    global at_restore
    at_restore = count

@register_before_snapshot
def start():
    threading.Thread(target=tick, daemon=True).start()

def handler(event, context):
    time.sleep(0.1)
    return [at_restore, count]
"""

    async def scenario():
        async with held(module) as it:
            # While half a second of real time passes, a hundred ticks do not.
            await asyncio.to_thread(time.sleep, 0.5)
            await it.restore()
            at_restore, later = json.loads((await it.invoke()).payload)
        assert at_restore < 20
        assert later > at_restore

    run(scenario())


@pytest.mark.case("SS-27")
def test_what_was_there_before_is_there_afterwards(held, run):
    module = f"""
{HOOKS}
import json
import os
import urllib.error
import urllib.request

made = os.urandom(8).hex()
with open("/tmp/made", "w") as file:
    file.write(made)

def ask(token=os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]):
    url = os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    request = urllib.request.Request(url, headers={{"Authorization": token}})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)

before = ask()
after = []
register_after_restore(lambda: after.append(ask()))

def handler(event, context):
    try:
        ask("wrong")
    except urllib.error.HTTPError as error:
        wrong = error.code, error.read().decode()
    keys = [name for name in os.environ if "ACCESS_KEY" in name or "SESSION_TOKEN" in name]
    return {{
        "same": made == open("/tmp/made").read(),
        "before": before["AccessKeyId"],
        "after": after[0]["AccessKeyId"],
        "wrong": wrong,
        "keys": keys,
        "stream": context.log_stream_name,
        "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
    }}
"""

    async def scenario():
        async with held(module) as it:
            credentials = await it.restore()
            told = json.loads((await it.invoke()).payload)
        assert told["before"] != told["after"] == credentials.access_key_id
        assert told["wrong"] == [404, "cannot get credentials for the provided token\n"]
        assert (told["same"], told["keys"], told["stream"], told["type"]) == (True, [], None, "snap-start")

    run(scenario())


def test_the_credentials_are_found_by_boto3(held, run):
    module = """
import botocore.session

session = botocore.session.get_session()

def handler(event, context):
    credentials = session.get_credentials().get_frozen_credentials()
    return [credentials.access_key, credentials.token]
"""

    async def scenario():
        async with held(module) as it:
            credentials = await it.restore()
            told = json.loads((await it.invoke()).payload)
        assert told == [credentials.access_key_id, credentials.session_token]

    run(scenario())
