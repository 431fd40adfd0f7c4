"""
SnapStart: what a restore takes, beside the init that it replaces.

One function, whose init takes its time in three ways:

    client       nothing but the stock runtime client
    libraries    boto3 is imported, and a client of S3 made of its model
    table        a table of 64 MiB is filled in memory

Each is invoked as `$LATEST` and as a version with SnapStart, in turn, several rounds; every invocation finds
no environment, since idle ones are shut down at once. Init and restore are as REPORT has them; the first
answer is what the caller waits for.

Usage: python benchmarks/restore.py [--rounds 7] [--json FILE]
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import re
import tempfile
import time
from pathlib import Path

import machine
import remora_node
import workload
from children import stop_on_signals
from figures import document, ratio, spread, table

RUNTIME = "python3.12"
"""The first one with SnapStart."""
TARGET = 0.25
_IDLE_S = 0.05
_GONE_S = 0.6
"""How long after its answer an environment is surely gone."""
_HANDLER = "\ndef handler(event, context):\n    return event\n"
_INITS = {
    "client": "",
    "libraries": """
import boto3
boto3.client("s3", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
""",
    "table": "import array\ntable = array.array('q', range(8 * 1024 * 1024))\n",
}
_COLD, _RESTORED = ("cold_ms", "init_ms"), ("restored_ms", "restore_ms")
_DURATION = re.compile(r"(?:Init|Restore) Duration: ([0-9.]+) ms")


def write_task(directory, name):
    """Make a function's directory."""
    directory.mkdir()
    (directory / "app.py").write_text(_INITS[name] + _HANDLER)
    return directory


def publish(node, name, task):
    """Deploy a function with SnapStart; return the paths to invoke it cold, without a snapshot and with."""
    path = node.deploy(name, task, Runtime=RUNTIME, SnapStart={"ApplyOn": "PublishedVersions"})
    version = node.request("POST", f"/2015-03-31/functions/{name}/versions", {})["Version"]
    where = f"/2015-03-31/functions/{name}/configuration?Qualifier={version}"
    while (found := node.request("GET", where))["State"] == "Pending":
        time.sleep(0.1)
    if found["SnapStart"]["OptimizationStatus"] != "On":
        raise RuntimeError("no snapshots are taken on this machine: see remora doctor")
    return path, f"{path}?Qualifier={version}"


def cold(port, path):
    """Invoke; return the time to the answer, and what REPORT says of init or restore, milliseconds."""
    time.sleep(_GONE_S)
    link = http.client.HTTPConnection("127.0.0.1", port)
    try:
        started = time.perf_counter_ns()
        link.request("POST", path, workload.EVENT, {"X-Amz-Log-Type": "Tail"})
        answer = link.getresponse()
        body = answer.read()
        elapsed_ms = (time.perf_counter_ns() - started) / 1e6
    finally:
        link.close()
    if answer.status != 200:
        raise RuntimeError(f"unexpected answer: {answer.status} {body.decode()}")
    log = base64.b64decode(answer.headers["X-Amz-Log-Result"]).decode()
    return elapsed_ms, float(_DURATION.search(log)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    chosen = parser.parse_args()
    stop_on_signals()
    found = {name: {kind: [] for kind in (*_COLD, *_RESTORED)} for name in _INITS}
    with (
        tempfile.TemporaryDirectory(prefix="remora-restore-") as directory,
        remora_node.running(Path(directory, "data"), "--idle-seconds", str(_IDLE_S)) as node,
    ):
        paths = {name: publish(node, name, write_task(Path(directory, name), name)) for name in _INITS}
        for _ in range(chosen.rounds):
            for name, (latest, version) in paths.items():
                for path, kinds in ((latest, _COLD), (version, _RESTORED)):
                    for kind, value in zip(kinds, cold(node.port, path), strict=True):
                        found[name][kind].append(value)
    show(found)
    if chosen.json:
        ratios = {name: ratio(each["restore_ms"], each["init_ms"]) for name, each in found.items()}
        content = {
            "machine": machine.describe(workload.python()),
            "restore": found,
            "ratios": document(ratios),
        }
        chosen.json.write_text(json.dumps(content, indent=2) + "\n")


def show(found):
    """Print what was found."""
    rows = [
        [
            name,
            *(spread(each[kind]) for kind in ("init_ms", "restore_ms", "cold_ms", "restored_ms")),
            ratio(each["restore_ms"], each["init_ms"]),
        ]
        for name, each in found.items()
    ]
    print(table(["milliseconds", "init", "restore", "first answer", "restored", "restore / init"], rows))
    held = ratio(found["libraries"]["restore_ms"], found["libraries"]["init_ms"])
    print(f"\nrestore / init with libraries: {held}, target <= {TARGET}")


if __name__ == "__main__":
    main()
