"""
Cold starts: from the wish for an environment to its first answer, with extensions and without.

    python            the bare interpreter until it has imported AWS's runtime interface client
    bwrap + python    the same in namespaces of its own, made by bubblewrap: what isolation alone costs
    remora            Remora's pool makes an environment and answers one invocation (inside.py)
    remora, spare     the same with a sandbox that was made after the deployment, as a node does by default
    emulator          AWS's runtime interface emulator (no isolation), from its start to its first answer
    n python, n c     with so many external extensions, each written in that language
    n slow            extensions in C that wait 200 ms before they register

`init` is from the start of the first process to the end of the environment's init, as its timeline has it.
All are measured in turn, several rounds, in an order that rotates. Then a real node makes many environments,
and what it uses for each of them while they are idle is counted.

Usage: python benchmarks/cold.py [--rounds 7] [--environments 50] [--json FILE]
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import emulator
import machine
import memory
import remora_node
import workload
from caller import Caller
from children import answering, stop_on_signals
from figures import document, ratio, spread, table

_HERE = Path(__file__).parent
_INSIDE = Path("/var/lang/bin", workload.RUNTIME)
_IMPORT = "import awslambdaric.bootstrap, os; os.write(1, b'x')"
_EXTENSIONS = {
    "": {},
    ", 1 python": {"python": 1},
    ", 10 python": {"python": 10},
    ", 1 c": {"c": 1},
    ", 10 c": {"c": 10},
    ", 1 slow": {"c": 1, "delay_ms": 200},
    ", 10 slow": {"c": 10, "delay_ms": 200},
}
_START_WITHIN_S = 30
_TRIES = 5
_WAIT_S = 10
"""How long the function holds each environment, so that every invocation needs its own."""


def _import(command, environment):
    """Start an interpreter; return the time until it has imported the client, milliseconds."""
    started = time.perf_counter_ns()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as child:
        if child.stdout.read(1) != b"x":
            raise RuntimeError(f"{command[0]} ended with status {child.wait()}")
        elapsed_ms = (time.perf_counter_ns() - started) / 1e6
    return elapsed_ms, None


def _isolated(python):
    """Return the command that runs the interpreter in namespaces of its own."""
    words = [
        "bwrap",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-net",
        "--unshare-cgroup-try",
    ]
    for name in ("usr", "bin", "lib", "lib32", "lib64", "libx32", "sbin"):
        path = Path("/", name)
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--die-with-parent"]
    words += [
        "--ro-bind",
        str(python.program.parent.parent),
        "/var/lang",
        "--ro-bind",
        str(python.client),
        "/var/runtime",
    ]
    return [*words, "--", str(_INSIDE), "-c", _IMPORT]


def _remora(ask, **how):
    """Make an environment; return the time to its first answer and that of its init, milliseconds."""
    answer = ask(cold=True, **how)
    at_us = {kind: at for kind, _, at in reversed(answer["events"])}
    return answer["first_ms"], (at_us["init.ended"] - at_us["init.started"]) / 1000


def _emulator(rie, python, task, opt):
    """Start the emulator; return the time to its first answer, milliseconds; an error is tried again."""
    for _ in range(_TRIES):
        try:
            return _emulator_once(rie, python, task, opt)
        except RuntimeError as error:
            print(f"the emulator is started again: {error}", file=sys.stderr)
    raise RuntimeError(f"the emulator failed {_TRIES} times in turn")


def _emulator_once(rie, python, task, opt):
    started = time.perf_counter_ns()
    with emulator.running(rie, python, task, opt) as port:
        caller = Caller(port, emulator.PATH, workload.EVENT)
        while True:
            try:
                caller.call()
            except OSError:
                caller.close()
                if time.perf_counter_ns() - started > _START_WITHIN_S * 1e9:
                    raise
                time.sleep(0.001)
            else:
                elapsed_ms = (time.perf_counter_ns() - started) / 1e6
                caller.close()
                return elapsed_ms, None


def subjects(stack, work, python, rie):
    """Return how each subject is measured once, by name."""
    task = workload.write_task(work / "task")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    bare, isolated = [str(python.program), "-c", _IMPORT], _isolated(python)
    client = {"PYTHONPATH": str(python.client)}
    inside = {"PYTHONPATH": "/var/runtime", "LD_LIBRARY_PATH": "/var/lang/lib"}
    found = {
        "python": lambda: _import(bare, environment | client),
        "bwrap + python": lambda: _import(isolated, environment | inside),
    }
    for number, (name, extensions) in enumerate(_EXTENSIONS.items()):
        opt = workload.write_opt(work / f"opt-{number}", interpreter=_INSIDE, **extensions)
        _, ask = stack.enter_context(answering(_HERE / "inside.py", work / f"pool-{number}", task, opt))
        found[f"remora{name}"] = lambda ask=ask: _remora(ask)
        if not name:
            found["remora, spare"] = lambda ask=ask: _remora(ask, spare=True)
        if rie is not None:
            opt = workload.write_opt(work / f"rie-{number}", interpreter=python.program, **extensions)
            found[f"emulator{name}"] = lambda opt=opt: _emulator(rie, python, task, opt)
    return found


def measure(found, rounds):
    """Measure all; return per subject the times of each round, milliseconds."""
    figures = {name: {"first_ms": [], "init_ms": []} for name in found}
    names = list(found)
    for subject in found.values():
        subject()
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            first_ms, init_ms = found[name]()
            figures[name]["first_ms"].append(first_ms)
            if init_ms is not None:
                figures[name]["init_ms"].append(init_ms)
    return figures


def hold(port, path, count):
    """Invoke `count` times at once; return when all have answered."""
    failures = []

    def invoke():
        link = http.client.HTTPConnection("127.0.0.1", port)
        try:
            link.request("POST", path, json.dumps({"wait_s": _WAIT_S}))
            answer = link.getresponse()
            body = answer.read()
            if answer.status != 200 or answer.headers["X-Amz-Function-Error"]:
                failures.append(body)
        except OSError as error:
            failures.append(error)
        finally:
            link.close()

    threads = [threading.Thread(target=invoke) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"{len(failures)} invocations failed, the first with {failures[0]!r}")


def _living(node):
    """Return how many environments there are once they have come to rest."""
    time.sleep(1)
    return len(node.request("GET", "/_remora/environments")["environments"])


def count_memory(work, count):
    """Return what a node uses per idle environment, KiB, and how many it had."""
    task = workload.write_task(work / "held")
    with remora_node.running(work / "data") as node:
        path = node.deploy("held", task)
        hold(node.port, path, 2 * count)  # these fill what the node's start has left free in its heap
        few, before = _living(node), memory.of_node(node.pid)
        hold(node.port, path, 3 * count)
        made, after = _living(node) - few, memory.of_node(node.pid)
    return {
        "environments": made,
        "node_kib": (after.node_kib - before.node_kib) / made,
        "remora_init_kib": (after.init_kib - before.init_kib) / made,
        "bubblewrap_kib": (after.bubblewrap_kib - before.bubblewrap_kib) / made,
        "runtime_kib": (after.other_kib - before.other_kib) / made,
    }


def promises(figures, used):
    """Return the promises: what was measured, and what it should not exceed."""

    def first(name):
        return figures[name]["first_ms"]

    ours = used["node_kib"] + used["remora_init_kib"] + used["bubblewrap_kib"]
    found = {
        "remora / (bwrap + python)": (ratio(first("remora"), first("bwrap + python")), 1.25),
        "remora, spare / (bwrap + python)": (ratio(first("remora, spare"), first("bwrap + python")), 1.0),
        "remora, spare / remora": (ratio(first("remora, spare"), first("remora")), 1.0),
        "init: 10 slow / 1 slow": (
            ratio(figures["remora, 10 slow"]["init_ms"], figures["remora, 1 slow"]["init_ms"]),
            1.5,
        ),
        "KiB per idle environment": (spread([ours]), 1024),
    }
    if "emulator" in figures:
        for name in _EXTENSIONS:
            found[f"remora{name} / emulator{name}"] = (
                ratio(first(f"remora{name}"), first(f"emulator{name}")),
                None,
            )
    return found


def show(facts, figures, used, found):
    """Print everything."""
    print(machine.text(facts))
    print("\nmilliseconds, median over rounds (least-greatest)\n")
    lines = [
        [name, spread(row["first_ms"]), spread(row["init_ms"]) if row["init_ms"] else ""]
        for name, row in figures.items()
    ]
    print(table(["", "first answer", "init"], lines))
    print(f"\nmemory per idle environment, {used['environments']} of them, KiB\n")
    lines = [[name.removesuffix("_kib"), f"{used[name]:.0f}"] for name in used if name.endswith("_kib")]
    print(table(["", "KiB"], lines))
    print()
    lines = [
        [name, value, limit or "", "" if limit is None else "held" if value.median <= limit else "MISSED"]
        for name, (value, limit) in found.items()
    ]
    print(table(["", "measured", "at most", ""], lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--environments", type=int, default=50, help="to count their memory; three times as many are made"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    chosen = parser.parse_args()
    stop_on_signals()
    python, rie = workload.python(), emulator.find()
    facts = machine.describe(python, rie)
    with tempfile.TemporaryDirectory(prefix="remora-cold-") as name:
        work = Path(name)
        with ExitStack() as stack:
            figures = measure(subjects(stack, work, python, rie), chosen.rounds)
        used = count_memory(work, chosen.environments)
    found = promises(figures, used)
    show(facts, figures, used, found)
    if chosen.json:
        content = {
            "machine": facts,
            "rounds": figures,
            "memory": used,
            "promises": document({name: {"measured": a, "at_most": b} for name, (a, b) in found.items()}),
        }
        chosen.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
