"""
The Lambda API under load: many clients at once, overload, a large package, a thousand functions.

AWS's emulator serves one invocation at a time; it is measured with one client, in turn with the node. So is
serverless-offline, which runs functions at once, but keeps nothing of an environment's lifecycle.

Usage: python benchmarks/api.py [--rounds 3] [--seconds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import tempfile
import time
import zipfile
from contextlib import ExitStack
from pathlib import Path

import emulator
import machine
import memory
import offline
import processor
import remora_node
import workload
from children import stop_on_signals
from crowd import crowd
from figures import document, percentile, ratio, spread, table

CLIENTS = (1, 16, 64)
OTHER_CLIENTS = (1, 16)
LIMIT = 20
CROWD = 200
FUNCTIONS = 1_000
LARGE_BYTES = 49 * 1024 * 1024
ROLE = "arn:aws:iam::000000000000:role/bench"


def warm(node, subjects, rounds, seconds):
    """Measure invocations of each subject (name, port, path, number of clients) in turn, round by round."""
    found = {}
    for _, port, where, count in subjects:
        crowd(port, where, workload.EVENT, count, 1.0)
    for number in range(rounds):
        for name, port, where, count in (
            subjects[number % len(subjects) :] + subjects[: number % len(subjects)]
        ):
            before = processor.spent(node.pid)
            samples, statuses, rate = crowd(port, where, workload.EVENT, count, seconds)
            spent = processor.per_call(before, processor.spent(node.pid), len(samples))
            kept = ("p50_us", "p99_us", "rate", "spent_us")
            row = found.setdefault(name, {"answers": {}, **{each: [] for each in kept}})
            row["spent_us"].append(spent)
            row["p50_us"].append(percentile(samples, 50) / 1000)
            row["p99_us"].append(percentile(samples, 99) / 1000)
            row["rate"].append(rate)
            for status, times in statuses.items():
                row["answers"][status] = row["answers"].get(status, 0) + times
    return found


def overload(work, task, seconds):
    """Let 200 clients call a node with a limit of 20; return what became of it."""
    with remora_node.running(work / "overload", "--concurrency", str(LIMIT)) as node:
        path = node.deploy("f", task)
        crowd(node.port, path, workload.EVENT, LIMIT, 2.0)
        before = memory.of_node(node.pid).node_kib
        samples, statuses, rate = crowd(node.port, path, workload.EVENT, CROWD, seconds)
        environments = node.request("GET", "/_remora/environments")["environments"]
        return {
            "answers": dict(statuses),
            "rate": rate,
            "p99_us": percentile(samples, 99) / 1000,
            "environments": len(environments),
            "growth_kib": memory.of_node(node.pid).node_kib - before,
        }


def large_package(node):
    """Create a function of 49 MB that cannot be compressed; return the seconds until its first answer."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", "def handler(event, context):\n    return 1\n")
        archive.writestr("data", os.urandom(LARGE_BYTES))
    code = base64.b64encode(buffer.getvalue()).decode()
    began = time.perf_counter()
    node.request("POST", "/2015-03-31/functions", _function("large", code))
    while node.request("GET", "/2015-03-31/functions/large/configuration")["State"] == "Pending":
        time.sleep(0.01)
    active = time.perf_counter()
    node.request("POST", "/2015-03-31/functions/large/invocations", {})
    return {"active_s": active - began, "answered_s": time.perf_counter() - began}


def many_functions(node):
    """Create a thousand functions and list them all; return the seconds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", "def handler(event, context):\n    return 1\n")
    code = base64.b64encode(buffer.getvalue()).decode()
    began = time.perf_counter()
    for number in range(FUNCTIONS):
        node.request("POST", "/2015-03-31/functions", _function(f"many-{number}", code))
    created = time.perf_counter()
    listed, query = 0, ""
    while True:
        page = node.request("GET", f"/2015-03-31/functions{query}")
        listed += len(page["Functions"])
        if "NextMarker" not in page:
            break
        query = f"?Marker={page['NextMarker']}"
    return {"created_s": created - began, "listed": listed, "listed_s": time.perf_counter() - created}


def _function(name, code):
    return {
        "FunctionName": name,
        "Runtime": workload.RUNTIME,
        "Handler": "app.handler",
        "Role": ROLE,
        "Code": {"ZipFile": code},
    }


def promises(found):
    """Return what was promised, as a ratio per round with its bound."""
    held = {}
    sixteen = found["node, 16 clients"]
    held["p99 / p50 at 16 clients"] = (ratio(sixteen["p99_us"], sixteen["p50_us"]), "at most", 5)
    if "emulator, 1 client" in found:
        alone = found["emulator, 1 client"]["rate"]
        held["rate at 16 clients / emulator"] = (ratio(sixteen["rate"], alone), "at least", 3)
    return held


def show(facts, found, others):
    """Print everything."""
    print(machine.text(facts))
    print("\nwarm invocations: median over rounds (least-greatest); microseconds, calls per second\n")
    rows = [
        [name, spread(row["p50_us"]), spread(row["p99_us"]), spread(row["rate"]), row["answers"]]
        for name, row in found.items()
    ]
    print(table(["", "p50", "p99", "rate", "answers"], rows))
    print("\nprocessor time per call, microseconds; calls per second if the node took none\n")
    rows = [
        [
            name,
            *map(spread, zip(*row["spent_us"], strict=True)),
            spread([processor.calls_at_most(each) for each in row["spent_us"]]),
        ]
        for name, row in found.items()
        if name.startswith("node")
    ]
    print(table(["", "node", "environments", "client", "calls/s at most"], rows))
    print()
    rows = [[name, value, word, bound] for name, (value, word, bound) in promises(found).items()]
    print(table(["ratio, round by round", "", "", ""], rows))
    for name, figures in others.items():
        print(f"\n{name}: {json.dumps(figures)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="per subject and round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    chosen = parser.parse_args()
    stop_on_signals()
    python, rie, other = workload.python(), emulator.find(), offline.find()
    facts = machine.describe(python, rie)
    if other is not None:
        facts["offline"] = f"serverless-offline {other.version}"
    with tempfile.TemporaryDirectory(prefix="remora-api-") as name, ExitStack() as stack:
        work = Path(name)
        task = workload.write_task(work / "task")
        none = work / "opt-none"
        none.mkdir()
        others = {f"overload, {CROWD} clients on a limit of {LIMIT}": overload(work, task, chosen.seconds)}
        node = stack.enter_context(remora_node.running(work / "data"))
        path = node.deploy("plain", task)
        subjects = [(f"node, {count} clients", node.port, path, count) for count in CLIENTS]
        if rie is not None:
            port = stack.enter_context(emulator.running(rie, python, task, none))
            subjects.append(("emulator, 1 client", port, emulator.PATH, 1))
        if other is not None:
            port = stack.enter_context(offline.running(other, work / "offline", task))
            subjects += [(f"serverless-offline, {n} clients", port, offline.PATH, n) for n in OTHER_CLIENTS]
        for _, port, where, _ in subjects:
            _wait_for(port, where)
        found = warm(node, subjects, chosen.rounds, chosen.seconds)
        others["a package of 49 MB"] = large_package(node)
        others[f"{FUNCTIONS} functions"] = many_functions(node)
    show(facts, found, others)
    if chosen.json:
        content = {"machine": facts, "warm": found, "others": others}
        held = {name: {"ratio": value, word: bound} for name, (value, word, bound) in promises(found).items()}
        chosen.json.write_text(json.dumps({**content, "ratios": document(held)}, indent=2) + "\n")


def _wait_for(port, path):
    """Wait until a subject answers."""
    give_up_at = time.monotonic() + 60
    while True:
        try:
            crowd(port, path, workload.EVENT, 1, 0.0)
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.05)
        else:
            return


if __name__ == "__main__":
    main()
