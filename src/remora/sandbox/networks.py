"""
The policy `nat` for root: what is planned. Every environment has an address of its own behind the machine's.

An environment's network namespace has one device, whose other end is at the host; there it is forwarded and
masqueraded. The table of rules below decides what an environment reaches: whatever the machine routes to, but
not the machine itself, no other environment, no link-local address (where clouds keep their metadata). Nobody
can open a connection to an environment.

Where the machine reaches the world by IPv6, too, an environment has a second address, of the kind that nobody
routes (RFC 4193), and the same rules.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DEVICES = "rmr"
"""With this the name of every environment's device at the host begins, whichever node it belongs to."""
GATEWAY = "169.254.1.1"
"""The address of the host's end of every device: nobody routes it, so it cannot be in the way of anything."""
RANGE = IPv4Network("10.224.0.0/11")
_GLOBAL_ID_BITS = 40
_PREFIX_BITS_6 = 64
BLOCK_PREFIX = 20
"""Each node takes 4,096 addresses of the range."""
CLOSED = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
"""What no environment reaches by way of the host: this host, loopback, link-local, multicast, reserved."""
CLOSED_6 = ("::1", "fd00:ec2::/32", "fd20:ce::/32", "64:ff9b::a9fe:0/112", "fe80::/10", "ff00::/8")
"""
The same for IPv6; the second and third are where Amazon and Google keep their metadata, the fourth is where a
translator of the network would reach that of others.

Sources: Amazon EC2 User Guide, "Access instance metadata"; Google Compute Engine, "IPv6 metadata server".
"""
_REJECT = "reject with icmpx admin-prohibited"
"""Whoever tries learns it at once, instead of waiting for an answer that will not come."""
_COLUMN_DEVICE, _COLUMN_TARGET, _COLUMN_MASK = 0, 1, 7


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the host: the default route has a network of length 0."""

    device: str
    network: IPv4Network


def read_routes(text: str) -> list[Route]:
    """Read the content of /proc/net/route, whose numbers are the machine's own (little-endian) words."""
    routes = []
    for line in text.splitlines()[1:]:
        columns = line.split()
        target = _address(columns[_COLUMN_TARGET])
        mask = _address(columns[_COLUMN_MASK])
        routes.append(Route(columns[_COLUMN_DEVICE], IPv4Network(f"{target}/{mask}", strict=False)))
    return routes


def _address(word: str) -> IPv4Address:
    return IPv4Address(int.from_bytes(bytes.fromhex(word), "little"))


@dataclass(frozen=True, slots=True)
class Route6:
    """A route of the host by IPv6."""

    device: str
    network: IPv6Network


def read_routes_6(text: str) -> list[Route6]:
    """Read the content of /proc/net/ipv6_route; the loopback device has what cannot be reached."""
    routes = []
    for line in text.splitlines():
        columns = line.split()
        if columns[-1] != "lo":
            target = ipaddress.IPv6Address(bytes.fromhex(columns[0]))
            routes.append(Route6(columns[-1], IPv6Network((target, int(columns[1], 16)), strict=False)))
    return routes


def prefix_6(digest: str, routes: Sequence[Route6]) -> IPv6Network:
    """Return the prefix of a node's environments: always the same one, unless a route leads there."""
    identifier = int(digest, 16) % (1 << _GLOBAL_ID_BITS)
    taken = [route.network for route in routes if route.network.prefixlen]
    while True:
        number = 0xFD << 120 | identifier << 80
        prefix = IPv6Network((number, _PREFIX_BITS_6))
        if not any(prefix.overlaps(network) for network in taken):
            return prefix
        identifier = (identifier + 1) % (1 << _GLOBAL_ID_BITS)


def uplinks(routes: Sequence[Route] | Sequence[Route6]) -> list[str]:
    """Return the devices by which the machine reaches everything else."""
    return sorted({route.device for route in routes if route.network.prefixlen == 0})


def blocks(digest: str, routes: Sequence[Route], name_servers: Sequence[IPv4Address]) -> list[IPv4Network]:
    """
    Return the blocks of addresses a node may take, best first: always the same one if it is free.

    Args:
        digest: Hexadecimal; differs from node to node.
        routes: The host's routes: what they lead to is taken.
        name_servers: Their addresses are taken, too.
    """
    all_blocks = list(RANGE.subnets(new_prefix=BLOCK_PREFIX))
    first = int(digest, 16) % len(all_blocks)
    taken = [route.network for route in routes if route.network.prefixlen]
    taken += [IPv4Network(server) for server in name_servers]
    in_order = all_blocks[first:] + all_blocks[:first]
    return [block for block in in_order if not any(block.overlaps(network) for network in taken)]


def name_servers(resolv_conf: str) -> list[IPv4Address]:
    """Return the IPv4 name servers of a resolv.conf that are not on the machine's own loopback interface."""
    found = []
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                address = ipaddress.ip_address(words[1])
            except ValueError:
                continue
            if isinstance(address, IPv4Address) and not address.is_loopback:
                found.append(address)
    return found


def resolv_conf_inside(texts: Sequence[str]) -> str:
    """
    Return what an environment's /etc/resolv.conf says.

    Args:
        texts: Resolv.confs of the host; the first that has a name server that can be reached is taken.
    """
    for text in texts:
        servers = name_servers(text)
        if servers:
            kept = [line for line in text.splitlines() if line.split()[:1] in (["search"], ["options"])]
            return "\n".join([*(f"nameserver {server}" for server in servers), *kept, ""])
    return ""


@dataclass(frozen=True, slots=True)
class Terrain:
    """
    What a node's table of rules is about.

    Args:
        tag: With this, the names of the node's devices begin.
        block: The addresses of the node's environments.
        prefix: Those by IPv6; None if there is none.
        servers: Name servers, which are reached wherever they are.
        guarded: Devices that forward only because of nodes: nobody else may make use of that.
    """

    tag: str
    block: IPv4Network
    prefix: IPv6Network | None
    servers: Sequence[IPv4Address]
    guarded: Sequence[str]


def rules(table: str, terrain: Terrain) -> list[str]:
    """
    Return the commands of nft that make a node's table, each on a line of its own.

    Args:
        table: Its name. It belongs to the process that makes it, and the kernel removes it with that.
        terrain: What it is about.
    """
    block, prefix = terrain.block, terrain.prefix
    own, any_device = f'"{terrain.tag}*"', f'"{DEVICES}*"'
    closed = ", ".join((*CLOSED, str(block)))
    names = [f"ip daddr {each} meta l4proto {{ tcp, udp }} th dport 53 accept" for each in terrain.servers]
    guarded = ", ".join(f'"{device}"' for device in terrain.guarded)
    guard = ("ct status dnat accept", "ct state new drop") if guarded else ()
    forward = [
        f"iifname {any_device} oifname {any_device} {_REJECT}",
        f"oifname {own} ct state established,related accept",
        f"oifname {own} drop",
        *(f"iifname {{ {guarded} }} {rule}" for rule in guard),
        f"iifname != {own} accept",
        f"ip saddr != {block} drop",
        *names,
        f"ip daddr {{ {closed} }} {_REJECT}",
        *_forward_6(prefix),
    ]
    neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
    to_host = [f"iifname {own} {rule}" for rule in (*names, *([neighbours] if prefix else []), _REJECT)]
    addresses = [f"ip saddr {block}", *([f"ip6 saddr {prefix}"] if prefix else [])]
    return [
        f"add table inet {table} {{ flags owner; }}",
        f"add chain inet {table} forward {{ type filter hook forward priority -10; policy accept; }}",
        *(f"add rule inet {table} forward {rule}" for rule in forward),
        f"add chain inet {table} input {{ type filter hook input priority -10; policy accept; }}",
        *(f"add rule inet {table} input {rule}" for rule in to_host),
        f"add chain inet {table} postrouting {{ type nat hook postrouting priority 100; }}",
        *(
            f"add rule inet {table} postrouting {each} oifname != {any_device} masquerade"
            for each in addresses
        ),
    ]


def _forward_6(prefix: IPv6Network | None) -> list[str]:
    if prefix is None:
        return ["meta nfproto ipv6 drop"]
    closed = ", ".join((*CLOSED_6, str(prefix)))
    return [f"ip6 saddr != {prefix} drop", f"ip6 daddr {{ {closed} }} {_REJECT}"]
