"""The network policies, in a world made for the test: what environments reach, and what they do not."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest
from tests.chosen import criu_problem

from remora.runtimes.catalog import Runtimes, default_cache
from remora.sandbox.networks import (
    CLOSED,
    CLOSED_6,
    Route,
    Route6,
    Terrain,
    blocks,
    name_servers,
    prefix_6,
    read_routes,
    read_routes_6,
    resolv_conf_inside,
    rules,
    uplinks,
)
from remora.spec.runtimes import SNAPSTART

HERE = Path(__file__).parent
ROUTES = """Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""
ROUTES_6 = """20010db8000000000000000000000000 40 {0} 00 {0} 00000100 00000001 00000000 00000001     eth0
{0} 00 {0} 00 20010db8000000000000000000000001 00000400 00000003 00000000 00000003     eth0
00000000000000000000000000000001 80 {0} 00 {0} 00000000 00000004 00000000 80200001       lo
{0} 00 {0} 00 {0} ffffffff 00000001 00000000 00200200       lo
""".format("0" * 32)


def test_routes_are_read_and_uplinks_found():
    routes = read_routes(ROUTES)
    assert routes[1] == Route("eth0", IPv4Network("192.0.2.0/24"))
    assert uplinks(routes) == ["eth0"]
    routes_6 = read_routes_6(ROUTES_6)
    assert routes_6[0] == Route6("eth0", IPv6Network("2001:db8::/64"))
    assert uplinks(routes_6) == ["eth0"]
    assert uplinks(read_routes_6(ROUTES_6.splitlines()[3])) == [], "that nothing is reached is no way out"


def test_a_prefix_is_a_nodes_own_and_leads_nowhere_else():
    own = prefix_6("1f", [])
    assert own == IPv6Network("fd00:0:1f::/64") == prefix_6("1f", read_routes_6(ROUTES_6))
    assert prefix_6("ffffffffffffff", []) == IPv6Network("fdff:ffff:ffff::/64")
    assert prefix_6("1f", [Route6("tun0", IPv6Network("fd00:0:1f::/48"))]) == IPv6Network("fd00:0:20::/64")


def test_a_block_of_addresses_keeps_away_from_what_the_machine_routes():
    first = blocks("1f", [], [])[0]
    assert blocks("1f", [], [])[0] == first, "the same node has the same addresses"
    assert len(blocks("1f", [], [])) == 512
    crowded = blocks("1f", [Route("tun0", IPv4Network("10.224.0.0/12"))], [IPv4Address("10.255.255.53")])
    assert len(crowded) == 255
    assert not any(block.overlaps(IPv4Network("10.224.0.0/12")) for block in crowded)
    assert blocks("1f", [Route("tun0", IPv4Network("10.0.0.0/8"))], []) == []


def test_name_servers_on_the_loopback_interface_are_none_inside():
    stub, real = (
        "nameserver 127.0.0.53\noptions edns0\n",
        "nameserver 192.0.2.53\nsearch a.example\nnameserver ::1\n",
    )
    assert name_servers(stub) == []
    assert resolv_conf_inside([stub, real]) == "nameserver 192.0.2.53\nsearch a.example\n"
    assert resolv_conf_inside([stub]) == ""


def chain(told, name):
    """Return the rules of a chain."""
    start = f"add rule inet t {name} "
    return [line.removeprefix(start) for line in told if line.startswith(start)]


BLOCK = IPv4Network("10.231.0.0/20")
SERVERS = [IPv4Address("169.254.169.253")]


def test_rules_let_out_to_the_world_and_nothing_else():
    told = rules("t", Terrain("rmrab", BLOCK, None, SERVERS, []))
    assert chain(told, "forward") == [
        'iifname "rmr*" oifname "rmr*" reject with icmpx admin-prohibited',
        'oifname "rmrab*" ct state established,related accept',
        'oifname "rmrab*" drop',
        'iifname != "rmrab*" accept',
        "ip saddr != 10.231.0.0/20 drop",
        "ip daddr 169.254.169.253 meta l4proto { tcp, udp } th dport 53 accept",
        f"ip daddr {{ {', '.join((*CLOSED, '10.231.0.0/20'))} }} reject with icmpx admin-prohibited",
        "meta nfproto ipv6 drop",
    ]
    assert chain(told, "input")[-1] == 'iifname "rmrab*" reject with icmpx admin-prohibited'
    assert len(chain(told, "postrouting")) == 1
    assert told[0] == "add table inet t { flags owner; }"


def test_rules_for_the_other_family_and_for_what_forwards_only_because_of_us():
    told = rules("t", Terrain("rmrab", BLOCK, IPv6Network("fd00:0:1f::/64"), [], ["eth0", "wlan0"]))
    assert chain(told, "forward")[2:5] == [
        'oifname "rmrab*" drop',
        'iifname { "eth0", "wlan0" } ct status dnat accept',
        'iifname { "eth0", "wlan0" } ct state new drop',
    ]
    assert chain(told, "forward")[-2:] == [
        "ip6 saddr != fd00:0:1f::/64 drop",
        f"ip6 daddr {{ {', '.join((*CLOSED_6, 'fd00:0:1f::/64'))} }} reject with icmpx admin-prohibited",
    ]
    assert "icmpv6" in chain(told, "input")[0]
    assert chain(told, "postrouting")[1] == 'ip6 saddr fd00:0:1f::/64 oifname != "rmr*" masquerade'


FORCE = Path("/proc/sys/net/ipv6/conf/default/force_forwarding")
REFUSED = {"TimeoutError", errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES}


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make network devices")
@pytest.mark.parametrize("world", ["plain", "forwards", "v4-only"])
def test_environments_reach_the_world_but_neither_machine_nor_neighbours(tmp_path, world):
    words = ["unshare", "--net", "--mount", "--propagation", "private", sys.executable]
    done = subprocess.run(
        [*words, HERE / "network_story.py", tmp_path, world],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout)
    assert told["problems"] == []

    # The world is reached, by the machine's address, and by IPv6 where the machine can give that to one alone
    has_6 = world == "forwards" or (world == "plain" and FORCE.exists())
    nat, none = told["nat"], told["none"]
    assert nat.pop("internet") == "198.51.100.2", "masqueraded: the machine's address is seen"
    assert nat.pop("name") == "198.51.100.2"
    assert IPv4Address(nat.pop("own")) in IPv4Network("10.224.0.0/11")
    if has_6:
        assert nat.pop("internet_6") == "2001:db8::2"
        assert IPv6Address(nat.pop("own_6")) in IPv6Network("fd00::/8")
    else:
        assert nat.pop("own_6") == ""

    # And nothing else
    assert set(nat.values()) <= REFUSED, nat
    assert (none.pop("own"), none.pop("own_6")) == ("", "")
    assert set(none.values()) <= {"gaierror", *REFUSED}, none
    assert told["from_machine"] != "reached", "nobody connects to an environment"
    is_through = told["through_machine"] == "reached"
    assert is_through == (world == "forwards"), "nobody else makes it forward"
    assert told["rules"].count("table inet remora_") == 1
    assert told["rules_after"] == ""
    assert told["devices_after"] == []

    # The machine forwards no more than before, also if a node died and another one is started
    assert (told["forwarding"] != told["forwarding_before"]) == (world != "forwards")
    assert told["forwarding_after"] == told["forwarding_before"]
    assert told["forwarding_after_death"] == told["forwarding_before"]
    assert told["switches_left"] == []


PYTHON = next((name for name in Runtimes(default_cache(), "us-east-1").names() if name in SNAPSTART), "")
NO_COPIES = criu_problem() or ("" if PYTHON.startswith("python") else "no Python with SnapStart is here")


@pytest.mark.slow
@pytest.mark.case("SS-32")
@pytest.mark.skipif(bool(NO_COPIES), reason=NO_COPIES or "snapshots are taken")
def test_connections_to_the_world_are_never_shared_by_copies(tmp_path):
    words = ["unshare", "--net", "--mount", "--propagation", "private", sys.executable]
    done = subprocess.run(
        [*words, HERE / "snapshot_story.py", tmp_path, PYTHON],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env=os.environ | {"PYTHONPATH": str(HERE.parent.parent)},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout)
    assert [each["first"] for each in told] == ["1", "1"]
    assert {each["old"] for each in told} == {"BrokenPipeError"}
    assert all(each["waited_s"] < 1 for each in told)
    assert sorted(each["new"] for each in told) == ["2", "3"]
