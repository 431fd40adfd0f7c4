"""
How many idle environments a node holds, what each costs, and what warm invocations of another notice.

A node makes so many environments of one function by invoking it at once, in waves. Another function's warm
invocations are timed before and afterwards, through the Invoke API, on one connection, in turn with those of
a second node that has nothing else: what the machine itself does to both cancels out (a virtual one may lose
its processors to other guests while memory is being handed out). What the machine has less of afterwards is
counted beside what the processes themselves use: the rest is the kernel's (namespaces, mounts, cgroups,
devices).

Usage: python benchmarks/density.py [--environments 500] [--rounds 15] [--calls 300] [--json FILE]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import memory
import remora_node
import workload
from caller import Caller
from children import stop_on_signals
from figures import percentile, ratio, spread, table

_WAVE = 50
_HOLD_S = 8
"""How long each invocation of a wave holds its environment, so that the others need their own."""
_PATIENCE_S = 120
_REST_S = 5


def available_kib():
    """Return how much memory the machine could still give away, KiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1])
    raise RuntimeError("the kernel does not say how much memory is available")


def cpu_us(pid):
    """Return the CPU time that a process has used in user mode and in the kernel, microseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick_us = 1_000_000 / os.sysconf("SC_CLK_TCK")
    return int(fields[11]) * tick_us, int(fields[12]) * tick_us


def stolen():
    """Return how many ticks this machine's processors had in all, and how many its host gave to others."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
    return sum(ticks), ticks[7]


class Quick:
    """A function of a node that is called again and again."""

    def __init__(self, node, task):
        self.pid = node.pid
        self.caller = Caller(node.port, node.deploy("quick", task), workload.EVENT)

    def timed(self, calls):
        """
        Call so often.

        Returns:
            Median and 99th percentile of the times, and the CPU time of the node for each call, in user mode
            and in the kernel; microseconds.
        """
        user_us, kernel_us = cpu_us(self.pid)
        samples, _ = self.caller.measure(calls, 0.0)
        more_user_us, more_kernel_us = cpu_us(self.pid)
        return {
            "p50_us": percentile(samples, 50) / 1000,
            "p99_us": percentile(samples, 99) / 1000,
            "node_user_us": (more_user_us - user_us) / calls,
            "node_kernel_us": (more_kernel_us - kernel_us) / calls,
        }


def in_turn(full, empty, rounds, calls):
    """Call both functions in turn; return, for each, one number per round of each figure."""
    told = {"full": {}, "empty": {}}
    ticks, stolen_ticks = stolen()
    for number in range(rounds):
        both = [("full", full), ("empty", empty)]
        for name, quick in both if number % 2 else reversed(both):
            for figure, value in quick.timed(calls).items():
                told[name].setdefault(figure, []).append(value)
    more_ticks, more_stolen_ticks = stolen()
    told["stolen"] = (more_stolen_ticks - stolen_ticks) / (more_ticks - ticks)
    return told


def hold(port, path):
    """Keep an environment busy for a while; that it is made is what counts."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    try:
        link.request("POST", path, json.dumps({"wait_s": _HOLD_S}))
        link.getresponse().read()
    finally:
        link.close()


def fill(node, path, count):
    """Have `count` environments made: so many invocations at once, each of which waits for the others."""
    made = 0
    while made < count:
        wanted = min(count, made + _WAVE)
        threads = [threading.Thread(target=hold, args=(node.port, path)) for _ in range(wanted)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        made = environments(node, "crowd")
        print(f"{made} environments", flush=True)


def environments(node, function):
    """Return how many environments of a function there are."""
    listed = node.request("GET", "/_remora/environments")["environments"]
    return sum(each["function"] == function for each in listed)


def measure(work, count, rounds, calls):
    """Return everything that is told."""
    task = workload.write_task(work / "task")
    with (
        remora_node.running(work / "full", "--idle-seconds", "3600") as node,
        remora_node.running(work / "empty") as other,
    ):
        full, empty = Quick(node, task), Quick(other, task)
        crowd = node.deploy("crowd", task)
        in_turn(full, empty, 1, calls)
        before = in_turn(full, empty, rounds, calls)
        used, free_kib = memory.of_node(node.pid), available_kib()
        began = time.monotonic()
        fill(node, crowd, count)
        took_s = time.monotonic() - began
        time.sleep(2)  # the last ones freeze after a pause
        more, left_kib = memory.of_node(node.pid), available_kib()
        after = in_turn(full, empty, rounds, calls)
        idle_us = sum(cpu_us(node.pid))
        time.sleep(_REST_S)
        idle_us = (sum(cpu_us(node.pid)) - idle_us) / _REST_S
        made = environments(node, "crowd")
    processes_kib = more.other_kib - used.other_kib
    return {
        "environments": made,
        "made_in_s": round(took_s, 1),
        "before": before,
        "after": after,
        "idle_node_us_per_s": idle_us,
        "node_kib": (more.node_kib - used.node_kib) / made,
        "init_kib": (more.init_kib - used.init_kib) / made,
        "bubblewrap_kib": (more.bubblewrap_kib - used.bubblewrap_kib) / made,
        "runtime_kib": processes_kib / made,
        "machine_kib": (free_kib - left_kib) / made,
    }


def show(told):
    """Print everything."""
    rows = [[name, f"{value:.0f}"] for name, value in told.items() if name.endswith("_kib")]
    print(f"\n{told['environments']} idle environments, made in {told['made_in_s']} s; each costs, KiB\n")
    print(table(["", "KiB"], rows))
    print("\nwarm invocations of another function: median over rounds (least-greatest), microseconds\n")
    rows = []
    for when in ("before", "after"):
        for which, figures in (("full", told[when]["full"]), ("empty", told[when]["empty"])):
            rows.append([f"{when}, {which} node", *(spread(values) for values in figures.values())])
    print(table(["", "p50", "p99", "node's own CPU", "kernel's"], rows))
    for when in ("before", "after"):
        found = ratio(told[when]["full"]["p50_us"], told[when]["empty"]["p50_us"])
        print(f"\n{when}: full / empty node {found}; stolen by the host {told[when]['stolen']:.0%}")
    print(f"\nthe node while nobody calls: {told['idle_node_us_per_s']:.0f} us of CPU time a second")


def main():
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--environments", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=300, help="per node and round")
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    stop_on_signals()
    with tempfile.TemporaryDirectory(prefix="remora-density-") as work:
        told = measure(Path(work), chosen.environments, chosen.rounds, chosen.calls)
    show(told)
    if chosen.json:
        chosen.json.write_text(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
