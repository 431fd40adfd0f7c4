"""How much memory a node and its environments use, by kind of process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Used:
    """
    Memory, KiB: of the node all that is resident; of the others their proportional share (PSS).

    Args:
        node_kib: The node's process.
        init_kib: All pid 1 of environments.
        bubblewrap_kib: All of bubblewrap that stays outside.
        other_kib: Runtimes and extensions.
    """

    node_kib: int
    init_kib: int
    bubblewrap_kib: int
    other_kib: int


def of_node(pid):
    """Count the memory of a node and of everything below it."""
    kinds = {"remora-init": 0, "bwrap": 0, "": 0}
    for child in below(pid):
        try:
            name = Path(f"/proc/{child}/comm").read_text().strip()
            if name == "init":
                name = "remora-init"
            kinds[name if name in kinds else ""] += _field(child, "Pss")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return Used(_field(pid, "Rss"), kinds["remora-init"], kinds["bwrap"], kinds[""])


def _field(pid, name):
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def below(pid):
    """Return all descendants."""
    children = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = [], [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child)
    return found
