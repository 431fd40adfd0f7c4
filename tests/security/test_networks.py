"""The network policies, in a world made for the test: what environments reach, and what they do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from remora.sandbox.networks import (
    CLOSED,
    Route,
    blocks,
    name_servers,
    read_routes,
    resolv_conf_inside,
    rules,
    uplinks,
)

HERE = Path(__file__).parent
ROUTES = """Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""


def test_routes_are_read_and_uplinks_found():
    routes = read_routes(ROUTES)
    assert routes[1] == Route("eth0", IPv4Network("192.0.2.0/24"))
    assert uplinks(routes) == ["eth0"]


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


def test_rules_let_out_to_the_world_and_nothing_else():
    told = rules("t", "rmrab", IPv4Network("10.231.0.0/20"), [IPv4Address("169.254.169.253")])
    forward = [
        line.removeprefix("add rule inet t forward ") for line in told if " rule inet t forward " in line
    ]
    assert forward == [
        'iifname "rmr*" oifname "rmr*" reject with icmpx admin-prohibited',
        'oifname "rmrab*" ct state established,related accept',
        'oifname "rmrab*" drop',
        'iifname != "rmrab*" accept',
        "meta nfproto ipv6 drop",
        "ip saddr != 10.231.0.0/20 drop",
        "ip daddr 169.254.169.253 meta l4proto { tcp, udp } th dport 53 accept",
        f"ip daddr {{ {', '.join((*CLOSED, '10.231.0.0/20'))} }} reject with icmpx admin-prohibited",
    ]
    assert told[0] == "add table inet t { flags owner; }"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make network devices")
def test_environments_reach_the_world_but_neither_machine_nor_neighbours(tmp_path):
    words = ["unshare", "--net", "--mount", "--propagation", "private", sys.executable]
    done = subprocess.run(
        [*words, HERE / "network_story.py", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout)
    assert told["problems"] == []
    assert told["nat"].pop("internet") == "198.51.100.2", "masqueraded: the machine's address is seen"
    assert told["nat"].pop("name") == "198.51.100.2"
    assert IPv4Address(told["nat"].pop("own")) in IPv4Network("10.224.0.0/11")
    assert set(told["nat"].values()) <= {"TimeoutError", 111, 101, 113}, told["nat"]
    assert told["none"].pop("own") == ""
    assert set(told["none"].values()) <= {"gaierror", 111, 101, 113}, told["none"]
    assert told["from_machine"] != "reached", "nobody connects to an environment"
    assert told["rules"].count("table inet remora_") == 1
    assert told["rules_after"] == ""
    assert told["devices_after"] == []
