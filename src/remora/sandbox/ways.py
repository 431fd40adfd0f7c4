"""
How an environment reaches the network: one way for each policy, and for who makes it.

- `none`: a network namespace with nothing but loopback; bubblewrap makes it.
- `host`: the host's own network; nothing is made.
- `nat` for root: see `remora.sandbox.nat`. For anyone else: pasta, a program that is the way out in user
  space, starts bubblewrap in a network namespace and ends with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from remora.kit.threads import in_thread
from remora.sandbox.base import SandboxError
from remora.sandbox.nat import Nat, find_nft, read_resolv_confs
from remora.sandbox.networks import DEVICES, GATEWAY, resolv_conf_inside
from remora.sandbox.switches import put_back

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remora.sandbox.base import Network
    from remora.sandbox.nat import Lease

TRY_WAIT_S = 60.0
TUN = Path("/dev/net/tun")
NO_NAME_SERVER: Final = (
    "no name server of this machine can be reached from environments: /etc/resolv.conf names none beyond the "
    "loopback interface"
)
_PASTA = (
    *("--quiet", "--config-net", "--no-map-gw", "--ipv4-only"),
    *("--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"),
)
"""Outwards only: no port of the host leads in, and none of the host's loopback interface is seen inside."""
_TRY_ADDRESS = "10.255.255.254"


class Way(Protocol):
    """The way of one sandbox."""

    def launched(self, command: Sequence[str]) -> list[str]:
        """Return the command by which `command` finds itself in the network it is to have."""

    def wired(self, network: str) -> list[str]:
        """Return the command that connects the namespace in the file `network`; empty if nothing is to do."""

    async def leave(self) -> None:
        """Give back what was taken; the sandbox is gone."""


class Direct:
    """Nothing is to be made: whoever makes the other namespaces makes that of the network, or not."""

    def launched(self, command: Sequence[str]) -> list[str]:
        """See `Way.launched`."""
        return list(command)

    def wired(self, network: str) -> list[str]:  # noqa: ARG002 - the protocol's signature
        """See `Way.wired`."""
        return []

    async def leave(self) -> None:
        """See `Way.leave`."""


class Masqueraded:
    """By an address that was lent."""

    def __init__(self, launcher: Path, nat: Nat, lease: Lease) -> None:
        self._launcher = launcher
        self._nat = nat
        self._lease = lease

    def launched(self, command: Sequence[str]) -> list[str]:
        """See `Way.launched`."""
        return self._lease.launched(self._launcher, command)

    def wired(self, network: str) -> list[str]:
        """See `Way.wired`."""
        return self._lease.wired(self._launcher, network)

    async def leave(self) -> None:
        """See `Way.leave`."""
        self._lease.release()
        await self._nat.settle()


class ThroughPasta:
    """By pasta."""

    def __init__(self, launcher: Path, pasta: str) -> None:
        self._launcher = launcher
        self._pasta = pasta

    def launched(self, command: Sequence[str]) -> list[str]:
        """See `Way.launched`."""
        leash = [str(self._launcher), "--leash", "--"]  # bubblewrap, frozen, does not notice that we died
        return [*leash, self._pasta, *_PASTA, "--", str(self._launcher), "--closed", "--", *command]

    def wired(self, network: str) -> list[str]:
        """See `Way.wired`; pasta only connects what it has started itself."""
        raise SandboxError(f"pasta cannot connect {network}")

    async def leave(self) -> None:
        """See `Way.leave`."""


class Ways:
    """
    Finds the way for each sandbox of a node.

    Args:
        launcher: remora-init.
        digest: Hexadecimal; names the node.
        is_root: True if network devices may be made.
    """

    def __init__(self, launcher: Path, digest: str, *, is_root: bool) -> None:
        self._launcher = launcher
        self._is_root = is_root
        self._nat = Nat(digest)

    def __repr__(self) -> str:
        return f"<Ways {self._nat!r}>"

    async def find(self, network: Network) -> Way:
        """
        Return the way of a new sandbox.

        Raises:
            SandboxError: If this machine lacks something for the policy.

        **Cancellation:** nothing is taken.
        """
        if network != "nat":
            return Direct()
        if self._is_root:
            return Masqueraded(self._launcher, self._nat, await self._nat.lease())
        return ThroughPasta(self._launcher, _find_pasta())

    async def put_back(self) -> None:
        """Put back what a dead node has turned on and nobody needs."""
        if self._is_root:
            await in_thread(put_back)

    def problems(self) -> tuple[str, ...]:
        """Try the policy `nat`, costs tens of milliseconds; return why it cannot be had."""
        try:
            said = _try(self._attempt())
        except (OSError, SandboxError) as error:
            said = str(error)
        return (f"the network policy nat cannot be had: {said}",) if said else ()

    def _attempt(self) -> list[str]:
        if not self._is_root:
            if not os.access(TUN, os.R_OK | os.W_OK):
                raise SandboxError(f"{TUN} is missing or may not be used by this user")
            return ThroughPasta(self._launcher, _find_pasta()).launched(["/bin/sh", "-c", "true"])
        nft = find_nft()
        if nft is None:
            raise SandboxError("nft is not installed (package nftables)")
        rules = f"{nft} --check 'add table inet remora_try; add chain inet remora_try p "
        rules += "{ type nat hook postrouting priority 100; }; add rule inet remora_try p masquerade'"
        device = f"{DEVICES}try{os.getpid() % 0x1000000:x}"
        place = [str(self._launcher), "--nat", device, _TRY_ADDRESS, GATEWAY, "-", "--"]
        return [*place, "/bin/sh", "-c", rules]


def _try(command: Sequence[str]) -> str:
    """Run a command; return why it failed, empty if it did not. Nothing of it runs on."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            _, said = process.communicate(timeout=TRY_WAIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return f"{command[0]} did not end within {TRY_WAIT_S:.0f} s"
        reason = said.decode(errors="replace").strip() or f"{command[0]} failed"
        return reason if process.returncode else ""


def name_server_problems() -> tuple[str, ...]:
    """Return why names are not resolved inside, if they are not."""
    if resolv_conf_inside(read_resolv_confs()):
        return ()
    return (NO_NAME_SERVER,)


def _find_pasta() -> str:
    pasta = shutil.which("pasta", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/sbin")
    if pasta is None:
        raise SandboxError("pasta is not installed (package passt)")
    return pasta
