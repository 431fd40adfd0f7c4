"""
Warm invocations: Remora, the least that a Python platform can do, and AWS's emulator, side by side.

All subjects run the same function on the same interpreter with AWS's own runtime interface client. They are
started once and then measured in turn, several rounds, in an order that rotates; ratios are made round by
round, and the median over the rounds is shown with its spread. What is called over HTTP is called by the same
client with one connection that stays open.

    floor      a bare server (floor.py): no isolation, no logs, no time limits
    runtime    Remora's pool and isolated environment without HTTP in front (inside.py)
    node       a real node through its Invoke API
    emulator   AWS's runtime interface emulator: no isolation
    +ext       with one external extension in Python, registered for INVOKE and SHUTDOWN

Usage: python benchmarks/warm.py [--rounds 7] [--calls 1000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import emulator
import machine
import remora_node
import workload
from caller import Caller
from children import answering, stop_on_signals
from figures import document, percentile, ratio, spread, table

_WARM_UP = 50
_HERE = Path(__file__).parent
_GAPS = {"back to back": 0.0, "after 2 ms": 0.002, "after 20 ms": 0.02}
_READY_WITHIN_S = 30


def _over_http(stack, port, path):
    """Return how a subject behind HTTP is measured."""
    caller = Caller(port, path, workload.EVENT)
    stack.callback(caller.close)
    give_up_at = time.monotonic() + _READY_WITHIN_S
    while True:
        try:
            caller.call()
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            caller.close()
            time.sleep(0.05)
        else:
            return caller.measure


def _in_process(stack, script, *arguments):
    """Return how a subject in a script of its own is measured, and what it said when it was ready."""
    ready, ask = stack.enter_context(answering(_HERE / script, *arguments))

    def measure(count, gap_s):
        answer = ask(count=count, gap_s=gap_s)
        return answer["samples"], answer["rate"]

    return measure, ready


def subjects(stack, work, python, rie):
    """Start everything; return how each subject is measured, by name."""
    task = workload.write_task(work / "task")
    none = work / "opt-none"
    none.mkdir()
    inside = workload.write_opt(
        work / "opt-inside", interpreter=Path("/var/lang/bin", workload.RUNTIME), python=1
    )
    outside = workload.write_opt(work / "opt-outside", interpreter=python.program, python=1)

    found = {}
    found["floor"], ready = _in_process(stack, "floor.py", task)
    found["floor, http"] = _over_http(stack, ready["port"], "/")
    found["runtime"], _ = _in_process(stack, "inside.py", work / "pool", task)
    found["runtime +ext"], _ = _in_process(stack, "inside.py", work / "pool-ext", task, inside)
    node = stack.enter_context(remora_node.running(work / "data"))
    found["node"] = _over_http(stack, node.port, node.deploy("plain", task))
    found["node +ext"] = _over_http(stack, node.port, node.deploy("extended", task, inside))
    if rie is not None:
        for name, opt in (("emulator", none), ("emulator +ext", outside)):
            port = stack.enter_context(emulator.running(rie, python, task, opt))
            found[name] = _over_http(stack, port, emulator.PATH)
    return found


def measure(found, rounds, calls):
    """Measure all subjects; return per gap, subject and figure one number per round."""
    figures = {gap: {name: {"p50_us": [], "p99_us": [], "rate": []} for name in found} for gap in _GAPS}
    names = list(found)
    for number in range(rounds):
        order = names[number % len(names) :] + names[: number % len(names)]
        for name in order:
            for gap, gap_s in _GAPS.items():
                count = calls if not gap_s else max(20, calls // (10 if gap_s < 0.01 else 20))
                found[name](_WARM_UP if not gap_s else 5, gap_s)
                samples, rate = found[name](count, gap_s)
                row = figures[gap][name]
                row["p50_us"].append(percentile(samples, 50) / 1000)
                row["p99_us"].append(percentile(samples, 99) / 1000)
                row["rate"].append(rate)
    return figures


def ratios(figures):
    """Return the promises, each as a ratio per round with what it should not exceed."""
    close, spaced = figures["back to back"], figures["after 2 ms"]

    def p50(name, rows=close):
        return rows[name]["p50_us"]

    found = {
        "runtime / floor": (ratio(p50("runtime"), p50("floor")), 1.3),
        "runtime +ext / floor": (ratio(p50("runtime +ext"), p50("floor")), 1.6),
        "runtime / floor, after 2 ms": (ratio(p50("runtime", spaced), p50("floor", spaced)), 1.3),
        "runtime +ext / floor, after 2 ms": (ratio(p50("runtime +ext", spaced), p50("floor", spaced)), 1.6),
        "node / floor, http": (ratio(p50("node"), p50("floor, http")), None),
    }
    if "emulator" in close:
        rise = {
            who: [b - a for a, b in zip(p50(who), p50(f"{who} +ext"), strict=True)]
            for who in ("node", "emulator")
        }
        found["node / emulator"] = (ratio(p50("node"), p50("emulator")), 0.5)
        found["node +ext / emulator +ext"] = (ratio(p50("node +ext"), p50("emulator +ext")), 0.5)
        found["rise by +ext: node / emulator"] = (ratio(rise["node"], rise["emulator"]), 1.0)
    return found


def show(facts, figures, found):
    """Print everything."""
    print(machine.text(facts))
    for gap, rows in figures.items():
        print(f"\n{gap}: median over rounds (least-greatest); microseconds, calls per second\n")
        lines = [
            [name, spread(row["p50_us"]), spread(row["p99_us"]), spread(row["rate"])]
            for name, row in rows.items()
        ]
        print(table(["", "p50", "p99", "rate"], lines))
    print("\nratios of p50, round by round\n")
    lines = [
        [name, value, "" if limit is None else limit, "" if limit is None else _verdict(value, limit)]
        for name, (value, limit) in found.items()
    ]
    print(table(["", "ratio", "at most", ""], lines))


def _verdict(value, limit):
    return "held" if value.median <= limit else "MISSED"


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=1000, help="per subject and round, back to back")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    chosen = parser.parse_args()
    stop_on_signals()
    python, rie = workload.python(), emulator.find()
    facts = machine.describe(python, rie)
    with tempfile.TemporaryDirectory(prefix="remora-warm-") as work, ExitStack() as stack:
        figures = measure(subjects(stack, Path(work), python, rie), chosen.rounds, chosen.calls)
    found = ratios(figures)
    show(facts, figures, found)
    if chosen.json:
        promises = {name: {"ratio": value, "at_most": limit} for name, (value, limit) in found.items()}
        content = {"machine": facts, "rounds": figures, "ratios": document(promises)}
        chosen.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
