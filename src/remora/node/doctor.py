"""What this machine can do for a node and what it cannot, found out by trying; and how to get the rest."""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from remora.node.criu import snapshot_problem
from remora.node.drivers import sandbox_driver
from remora.node.networks import choose_network
from remora.node.settings import NodeError
from remora.sandbox.base import SandboxError
from remora.sandbox.ways import name_server_problems

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.sandbox.base import SandboxDriver

Verdict = Literal["yes", "partly", "no"]

DRIVERS = ("bubblewrap", "oci:runc", "oci:crun", "oci:runsc", "process")
_DELEGATE = "log in through systemd (loginctl enable-linger USER), or be a unit with Delegate=yes"
_REMEDIES = (
    (
        "which knows none",
        "modprobe bfq && echo bfq > /sys/block/DISK/queue/scheduler",
    ),
    ("on no disk known", "nothing if it is in memory; else keep the data (--data) on a disk of this machine"),
    ("page cache", "boot with cgroups of version 2"),
    ("hybrid mode", "boot with systemd.unified_cgroup_hierarchy=1, or use runc"),
    (
        "was given no",
        "as root: systemctl edit user@.service, [Service] Delegate=cpu io memory pids; then log in anew",
    ),
    ("cgroup", f"run as root; or, as an ordinary user where cgroups are version 2: {_DELEGATE}"),
    ("files of /tmp", "run as root, with loop devices (modprobe loop) and mkfs.ext4 (package e2fsprogs)"),
    ("nft", "install the package nftables"),
    ("pasta", "install the package passt"),
    ("/dev/net/tun", "modprobe tun, and let users use it: chmod 666 /dev/net/tun"),
    ("name server", "name one in /etc/resolv.conf that other machines could use, too"),
    ("network device", "the kernel needs veth (modprobe veth) and network namespaces"),
    ("isolates nothing", "choose the driver bubblewrap or oci"),
    ("CRIU", "remora prepare criu"),
    ("by root only", "run as root"),
    ("not installed", "install it"),
    ("needs root", "run as root"),
)
"""What to do about a sentence in which the first word stands."""


class Finding(msgspec.Struct, frozen=True):
    """
    One thing that was tried.

    Args:
        subject: What it is about.
        verdict: Whether this machine can do it.
        text: What was found.
        remedy: What to do; empty if nothing is to be done, or nothing is known.
    """

    subject: str
    verdict: Verdict
    text: str
    remedy: str = ""


class Diagnosis(msgspec.Struct, frozen=True):
    """
    Everything that was found.

    Args:
        is_able: True if functions can run isolated here.
        system: Kernel and machine.
        user: Whether the node would be root.
        findings: In the order in which they are to be read.
    """

    is_able: bool
    system: str
    user: str
    findings: tuple[Finding, ...]


def diagnose() -> Diagnosis:
    """Try everything; takes about a second. Nothing is left behind."""
    findings: list[Finding] = [_filter(Path("/proc/self/status"))]
    with tempfile.TemporaryDirectory(prefix="remora-doctor-") as directory:
        for name in DRIVERS:
            findings += _driver(
                name, sandbox_driver(name, Path(directory) / name.replace(":", "-"), "doctor")
            )
        isolating = sandbox_driver("bubblewrap", Path(directory) / "network", "doctor")
        findings += _network(isolating)
        findings.append(_snapshots(Path(directory) / "snapshots"))
    is_able = any(
        finding.verdict != "no"
        for finding in findings
        if finding.subject.startswith(("driver b", "driver o"))
    )
    user = "root" if os.geteuid() == 0 else f"an ordinary user ({os.geteuid()})"
    return Diagnosis(
        is_able, f"{platform.system()} {platform.release()} {platform.machine()}", user, tuple(findings)
    )


def remedy_for(text: str) -> str:
    """Return what to do about a sentence of a driver; empty if nothing is known."""
    return next((remedy for word, remedy in _REMEDIES if word in text), "")


def _filter(status: Path) -> Finding:
    subject = "system call filter"
    try:
        is_there = "\nSeccomp:" in status.read_text()
    except OSError:
        is_there = False
    if is_there:
        return Finding(subject, "yes", "the kernel has seccomp")
    return Finding(subject, "no", "the kernel has no seccomp", "use a kernel with CONFIG_SECCOMP_FILTER")


def _driver(name: str, driver: SandboxDriver) -> list[Finding]:
    """Make a sandbox; say whether that works, then what it lacks."""
    subject = f"driver {name}"
    try:
        missing = driver.check()
    except SandboxError as error:
        return [Finding(subject, "no", str(error), remedy_for(str(error)))]
    if name == "process":
        return [Finding(subject, "partly", missing[0], remedy_for(missing[0]))]
    verdict: Verdict = "partly" if missing else "yes"
    works = "a sandbox was made"
    return [
        Finding(subject, verdict, works),
        *(Finding(f"{subject}: limits", "no", text, remedy_for(text)) for text in missing),
    ]


def _snapshots(directory: Path) -> Finding:
    subject = "snapshots (SnapStart)"
    problem = snapshot_problem(directory)
    if problem:
        return Finding(subject, "no", problem, remedy_for(problem))
    return Finding(subject, "yes", "a sandbox was copied with what runs inside")


def _network(driver: SandboxDriver) -> list[Finding]:
    subject = "network policy nat"

    def look(try_it: Callable[[], object]) -> Finding:
        try:
            try_it()
        except (NodeError, SandboxError) as error:
            return Finding(subject, "no", str(error), remedy_for(str(error)))
        return Finding(subject, "yes", "a network with a way out was made")

    names = [Finding("names", "no", text, remedy_for(text)) for text in name_server_problems()]
    return [look(lambda: choose_network(driver, "nat")), *names]
