"""The policy `nat` for root: what is done. Addresses are lent; the table of rules is kept meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import socket
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from remora.kit.threads import begin, in_thread
from remora.sandbox.base import SandboxError
from remora.sandbox.launch import uncancelled
from remora.sandbox.networks import (
    DEVICES,
    GATEWAY,
    Terrain,
    blocks,
    name_servers,
    prefix_6,
    read_routes,
    read_routes_6,
    rules,
    uplinks,
)
from remora.sandbox.switches import Switches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

RESOLV_CONFS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
"""Where name servers are written; the second one holds the real ones where the first says 127.0.0.53."""
ANSWER_WAIT_S = 60.0
END_WAIT_S = 30.0
_SYSCTL = Path("/proc/sys/net/ipv4/conf")
_SYSCTL_6 = Path("/proc/sys/net/ipv6/conf")
_ROUTES_6 = Path("/proc/net/ipv6_route")


def read_resolv_confs() -> list[str]:
    """Return what the machine says of its name servers."""
    texts = []
    for path in RESOLV_CONFS:
        with contextlib.suppress(OSError):
            texts.append(path.read_text())
    return texts


def find_nft() -> str | None:
    """Return the program nft, if it is installed."""
    return shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@dataclass(frozen=True, slots=True)
class Lease:
    """
    An address, and the device that leads to it.

    Args:
        device: Name of the host's end.
        address: The environment's.
        address_6: That by IPv6; None if there is none.
        release: Gives it back; repeated calls have no effect.
    """

    device: str
    address: IPv4Address
    address_6: IPv6Address | None
    release: Callable[[], None]

    def launched(self, launcher: Path, command: Sequence[str]) -> list[str]:
        """Return the command that runs `command` in a network with this address."""
        return [str(launcher), "--nat", *self._words(), "--", *command]

    def wired(self, launcher: Path, network: str) -> list[str]:
        """Return the command that gives this address to the network namespace in the file `network`."""
        return [str(launcher), "--wire", network, *self._words()]

    def _words(self) -> list[str]:
        return [self.device, str(self.address), GATEWAY, str(self.address_6 or "-")]


class Firewall:
    """
    The node's table of rules, which the kernel removes with the process that made it, however that ends.

    Making and closing block for tens of milliseconds: have them done in a thread.

    Args:
        digest: Names the node.
        tag: With this, the names of its devices begin.

    Raises:
        SandboxError: If nft is missing or refuses, or all addresses are taken.
    """

    def __init__(self, digest: str, tag: str) -> None:
        nft = find_nft()
        if nft is None:
            raise SandboxError("nft is not installed (package nftables)")
        with contextlib.ExitStack() as undo:
            self._switches = Switches()
            undo.callback(self._switches.close)
            terrain, lock = _survey(digest, tag, self._switches)
            self._lock = undo.enter_context(lock)
            self.block, self.prefix = terrain.block, terrain.prefix
            table = f"remora_{digest}"
            self._process = _start(nft)
            undo.callback(_end, self._process)
            _command(self._process, rules(table, terrain), table)
            undo.pop_all()

    def close(self) -> None:
        """Remove it; the machine forwards no more than before. Repeated calls: no effect."""
        self._switches.close()
        _end(self._process)
        self._lock.close()


def _start(nft: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [nft, "-i"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={},
        bufsize=0,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Have nft end, which takes its table away; repeated calls have no effect."""
    assert process.stdin is not None, "it was made with pipes"
    assert process.stdout is not None, "it was made with pipes"
    process.stdin.close()
    try:
        process.wait(END_WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _command(process: subprocess.Popen[bytes], lines: Sequence[str], table: str) -> None:
    """Give nft its commands, and wait until it says that the table is there."""
    assert process.stdin is not None, "it was made with pipes"
    assert process.stdout is not None, "it was made with pipes"
    process.stdin.write("".join(f"{line}\n" for line in [*lines, "list tables inet"]).encode())
    said = b""
    while f"\ntable inet {table}\n".encode() not in b"\n" + said:
        is_speaking, _, _ = select.select([process.stdout], [], [], ANSWER_WAIT_S)
        part = os.read(process.stdout.fileno(), 65_536) if is_speaking else b""
        said += part
        if not part or b"Error" in said:
            reason = said.decode(errors="replace").strip() or "it said nothing"
            raise SandboxError(f"nft refused the rules for the network: {reason}", retryable=True)


def _survey(digest: str, tag: str, switches: Switches) -> tuple[Terrain, socket.socket]:
    """Look at the machine, choose addresses, turn on what has to be."""
    routes = read_routes(Path("/proc/net/route").read_text())
    servers = [server for text in read_resolv_confs() for server in name_servers(text)]
    guarded = {device for device in uplinks(routes) if switches.turn_on(_SYSCTL / device / "forwarding")}
    prefix, guarded_6 = _survey_6(digest, switches)
    block, lock = _reserve(blocks(digest, routes, servers))
    return Terrain(tag, block, prefix, servers, sorted(guarded | guarded_6)), lock


def _survey_6(digest: str, switches: Switches) -> tuple[IPv6Network | None, set[str]]:
    """
    Return the addresses of environments by IPv6, and the devices that were made to forward it.

    There are none where the machine does not reach the world by it, or forwards nothing and cannot for single
    devices: turning it on for all (before Linux 6.17 the only way) takes the machine's own routes away.
    """
    nothing: tuple[IPv6Network | None, set[str]] = (None, set())
    guarded = set()
    try:
        routes = read_routes_6(_ROUTES_6.read_text())
        devices = uplinks(routes)
        if (_SYSCTL_6 / "all" / "forwarding").read_text().strip() != "1":
            guarded = {each for each in devices if switches.turn_on(_SYSCTL_6 / each / "force_forwarding")}
    except OSError:
        return nothing
    return (prefix_6(digest, routes), guarded) if devices else nothing


def _reserve(candidates: Sequence[IPv4Network]) -> tuple[IPv4Network, socket.socket]:
    """Take the first block that no other node has; its name in the abstract namespace is the lock."""
    for block in candidates:
        lock = socket.socket(socket.AF_UNIX)
        try:
            lock.bind(f"\0remora-network-{block}")
        except OSError:
            lock.close()
        else:
            return block, lock
    raise SandboxError("all addresses for environments are taken by routes or other nodes")


def _is_there(device: str) -> bool:
    """Tell if there is a network device: those of a dead node go a moment after its last process."""
    try:
        socket.if_nametoindex(device)
    except OSError:
        return False
    return True


class Nat:
    """
    Lends addresses to sandboxes; the table of rules exists while any is lent.

    Args:
        digest: Hexadecimal; names the node, the same for the same data directory.
    """

    def __init__(self, digest: str) -> None:
        self._digest = digest
        self._tag = f"{DEVICES}{digest[:4]}"
        self._firewall: Firewall | None = None
        self._lent: dict[IPv4Address, int] = {}
        self._last = 0
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Nat {self._digest} lent={len(self._lent)}>"

    async def lease(self) -> Lease:
        """
        Lend an address.

        Raises:
            SandboxError: If none is free, or there can be no rules.

        **Cancellation:** nothing is lent.
        """
        async with self._turn:
            if self._firewall is None:
                self._firewall = await self._open()
            block = self._firewall.block
            for _ in range(block.num_addresses - 2):
                self._last = self._last % (block.num_addresses - 2) + 1
                address = block[self._last]
                address_6 = self._firewall.prefix[self._last] if self._firewall.prefix else None
                device = f"{self._tag}{self._last:x}"
                if address not in self._lent and not _is_there(device):
                    self._lent[address] = self._last
                    return Lease(device, address, address_6, partial(self._release, address))
        raise SandboxError(f"all {len(self._lent)} addresses for environments are lent", retryable=True)

    async def _open(self) -> Firewall:
        opening = begin(Firewall, self._digest, self._tag)
        try:
            await uncancelled(opening)
        except OSError as error:
            raise SandboxError(f"cannot make rules for the network: {error}", retryable=True) from error
        except asyncio.CancelledError:
            if opening.exception() is None:
                await in_thread(opening.result().close)
            raise
        return opening.result()

    def _release(self, address: IPv4Address) -> None:
        self._lent.pop(address, None)

    async def settle(self) -> None:
        """Remove the table if nothing is lent."""
        async with self._turn:
            if self._firewall is not None and not self._lent:
                firewall, self._firewall = self._firewall, None
                await in_thread(firewall.close)
