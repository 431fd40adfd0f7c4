"""
Telemetry under load: a function prints 50,000 lines a second to one subscriber and to three; then the latency
of invocations beside a subscriber that never answers.

Subscribers are extensions in Python that count what they get, over HTTP, with batches of at most 1 MB. The
latencies of two functions are compared, each with two subscribers; the second one of one of them takes a
batch and never answers. They are called in turn, so that what disturbs one disturbs the other; the ratio is
that of the medians of each round, and the median over the rounds is shown with its spread.

Usage: python benchmarks/telemetry.py [--seconds 5] [--rate 50000] [--rounds 7] [--calls 300] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

import remora_node
from caller import Caller
from children import stop_on_signals
from figures import document, percentile, ratio, spread, table

_PROGRAMS = Path(__file__).parent / "programs"
_WARM_UP = 30


def _function(directory, *subscribers):
    """Write a function and its extensions; return their directories."""
    task, opt = directory / "task", directory / "opt"
    (opt / "extensions").mkdir(parents=True)
    task.mkdir()
    (task / "app.py").write_text((_PROGRAMS / "printer.py").read_text())
    for name in subscribers:
        program = opt / "extensions" / name
        program.write_text((_PROGRAMS / "subscriber.py").read_text())
        program.chmod(0o755)
    return task, opt


def _ask(node, path, **event):
    return node.request("POST", path, event)


def _load(node, path, arguments):
    """Print for some seconds, give subscribers a moment, and return what each of them got."""
    lines = int(arguments.rate * arguments.seconds)
    _ask(node, path)
    printed = _ask(node, path, rate=arguments.rate, lines=lines)
    counts = _ask(node, path, wait=1, report=True)["counts"]
    return lines, lines / printed["took"], counts


def _loads(node, directory, arguments):
    rows = []
    for number in (1, 3):
        names = [f"sub{each}" for each in range(1, number + 1)]
        path = node.deploy(f"load{number}", *_function(directory / f"load{number}", *names))
        lines, rate, counts = _load(node, path, arguments)
        for name in names:
            got = counts.get(name, {"lines": 0, "batches": 0, "largest": 0, "dropped": 0})
            rows.append(
                [number, name, lines, round(rate), got["lines"], lines - got["lines"], got["largest"]]
            )
    return rows


def _median_us(caller, calls):
    samples, _ = caller.measure(calls, 0)
    return percentile(samples, 50) / 1000


def _latencies(node, directory, arguments):
    """Return the median latency of each round in microseconds: with quick subscribers, with a stalled one."""
    event = json.dumps({"lines": 20}).encode()
    with ExitStack() as stack:
        callers = {}
        for kind in ("quick", "stalled"):
            task, opt = _function(directory / kind, "sub1", f"{kind}2")
            caller = Caller(node.port, node.deploy(f"beside-{kind}", task, opt), event)
            stack.callback(caller.close)
            caller.measure(_WARM_UP, 0)
            callers[kind] = caller
        medians = {kind: [] for kind in callers}
        for number in range(arguments.rounds):
            for kind in sorted(callers, reverse=bool(number % 2)):
                medians[kind].append(_median_us(callers[kind], arguments.calls))
    return medians


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, default=50_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    stop_on_signals()
    with tempfile.TemporaryDirectory() as name, remora_node.running(Path(name) / "data") as node:
        rows = _loads(node, Path(name), arguments)
        medians = _latencies(node, Path(name), arguments)
    titles = ["subscribers", "name", "printed", "lines/s", "delivered", "lost", "largest batch"]
    print(table(titles, rows))
    beside = ratio(medians["stalled"], medians["quick"])
    print()
    print(f"quick    median of an invocation, us  {spread(medians['quick'])}")
    print(f"stalled  median of an invocation, us  {spread(medians['stalled'])}")
    print(f"ratio    {beside}")
    if arguments.json is not None:
        loads = [dict(zip(titles, row, strict=True)) for row in rows]
        arguments.json.write_text(json.dumps(document({"loads": loads, "ratio": beside}), indent=2))


if __name__ == "__main__":
    main()
