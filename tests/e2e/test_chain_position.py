"""Place: anywhere in the chain, ADD, CHECK and DEL give what the chain without us gives; nothing is left after DEL.

Each row runs one chain of reference plugins in a fresh node, without us and with us at each place, and compares all
that can be seen: results, addresses, links, iptables, the store.
"""

import functools
import json
import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conftest import MakeNode
from tests.support.cni_calls import BIN, bridge, host_local, ptp, reaper
from tests.support.node import Node
from tests.support.node_files import Conf
from tests.support.programs import Programs

SUBNET = "10.60.0.0/24"
NETWORK = "net"
CAPABILITIES = {
    "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
    "bandwidth": {
        "ingressRate": 8_000_000,
        "ingressBurst": 8_000_000,
        "egressRate": 8_000_000,
        "egressBurst": 8_000_000,
    },
}

INTERFACES: dict[str, Conf] = {
    "bridge": bridge(host_local(SUBNET)),
    "bridge+ipMasq": bridge(host_local(SUBNET), ipMasq=True),
    "ptp": ptp(host_local(SUBNET)),
    "macvlan": {"type": "macvlan", "master": "up0", "ipam": host_local(SUBNET)},
}
META: dict[str, Conf] = {
    "tuning": {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_announce": "2"}, "mtu": 1400},
    "portmap": {"type": "portmap", "capabilities": {"portMappings": True}},
    "firewall": {"type": "firewall", "backend": "iptables"},
    "bandwidth": {"type": "bandwidth", "capabilities": {"bandwidth": True}},
}
KNOWN_VERSIONS = {"1.9.1": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"], "1.1.1": ["0.3.1", "0.4.0", "1.0.0"]}
PLACES = {"head": 0, "second": 1, "last": None}


@dataclass(frozen=True)
class Row:
    """One chain; `leaves_out` are plugins that fail in it without us, each with why."""

    interface: str
    meta: bool
    cni_version: str
    plugins: str = "1.9.1"
    leaves_out: dict[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        meta = [name for name in META if name not in self.leaves_out] if self.meta else []
        return f"{'+'.join([self.interface, *meta])} at {self.cni_version} with plugins {self.plugins}"

    def chain(self) -> list[Conf]:
        """Return the plugins of the conflist without us."""
        meta = [conf for name, conf in META.items() if name not in self.leaves_out] if self.meta else []
        return [INTERFACES[self.interface], *meta]

    def places(self) -> list[str]:
        """Return the places that differ: in a chain of one plugin the second place is the last."""
        return [place for place in PLACES if self.meta or place != "second"]


NO_VETH = "it shapes the host's end of a veth pair, and macvlan has none"
TOO_OLD = "it refuses cniVersion 0.3.1"
NO_IPV6 = "its CHECK fails in 1.1.1 where there is only IPv4"


def left_out(interface: str, cni_version: str, plugins: str) -> dict[str, str]:
    """Say which of META fail in such a chain without us, and why."""
    reasons = {}
    if interface == "macvlan":
        reasons["bandwidth"] = NO_VETH
    if cni_version == "0.3.1":
        reasons["firewall"] = TOO_OLD
    if plugins == "1.1.1" and cni_version != "0.3.1":
        reasons["portmap"] = NO_IPV6
    return reasons


def rows() -> list[Row]:
    """Build the table: each interface plugin alone and with META, at each version that the plugins know."""
    return [
        Row(interface, meta, cni_version, plugins, left_out(interface, cni_version, plugins) if meta else {})
        for plugins, versions in KNOWN_VERSIONS.items()
        for interface in INTERFACES
        for cni_version in versions
        for meta in (False, True)
    ]


@dataclass(frozen=True)
class Seen:
    """What could be seen of ADD, CHECK and DEL of one pod; names and MACs that are made up each time are blanked."""

    result: Any
    check: bool
    links: Any
    addresses: Any
    routes_to_pod: bool
    reservations: dict[str, tuple[str, str]]
    iptables: str
    links_after: Any
    pod_links_after: Any
    reservations_after: dict[str, tuple[str, str]]
    iptables_after: str


def live_through(node: Node, row: Row, chain: list[Conf]) -> Seen:
    """Run ADD, CHECK (which is there from 0.4.0 on) and DEL of one pod with a chain; see what there is to see."""
    node.add_link("up0", "veth", peer="up1")
    node.conflist(NETWORK, chain, row.cni_version)
    pod = node.pod("pod")

    def cnitool(verb: str) -> bytes:
        return node.cnitool(verb, NETWORK, pod, capabilities=CAPABILITIES).check().out

    result = json.loads(cnitool("add"))
    checks = row.cni_version != "0.3.1"
    if checks:
        cnitool("check")
    added = {
        "result": blanked(result),
        "check": checks,
        "links": blanked(pod.links()),
        "addresses": pod.addresses(),
        "routes_to_pod": row.interface == "macvlan" or node.answers(pod.addresses()[0]),
        "reservations": node.reservations(NETWORK),
        "iptables": node.iptables(),
    }
    cnitool("del")
    return Seen(
        **added,
        links_after=blanked(node.links()),
        pod_links_after=blanked(pod.links()),
        reservations_after=node.reservations(NETWORK),
        iptables_after=node.iptables(),
    )


def blanked(value: Any) -> Any:
    """Blank what is random: MAC addresses, and the hex digits in names of veth and ifb devices."""
    text = json.dumps(value, sort_keys=True)
    text = re.sub(r'"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}"', '"MAC"', text)
    return json.loads(re.sub(r'"(veth|bwp)[0-9a-f]{6,}"', r'"\1…"', text))


@functools.cache
def without_us(programs: Programs, row: Row) -> Seen:
    """Run the chain of a row without us; once for all places."""
    with Node(programs, row.plugins) as node:
        return live_through(node, row, row.chain())


@pytest.mark.parametrize(
    ("row", "place"),
    [pytest.param(row, place, id=f"{row}, {place}") for row in rows() for place in row.places()],
)
def test_chain_gives_the_same_with_cni_reaper(make_node: MakeNode, programs: Programs, row: Row, place: str) -> None:
    """ADD, CHECK and DEL of a chain give the same with us and without; after DEL all is gone but our marked record."""
    expected = without_us(programs, row)
    chain = row.chain()
    at = PLACES[place]
    chain.insert(len(chain) if at is None else at, reaper())
    node = make_node(row.plugins)
    seen = live_through(node, row, chain)

    assert seen == expected
    assert len(seen.reservations) == 1
    assert seen.routes_to_pod
    assert seen.reservations_after == {}
    assert set(seen.pod_links_after) == {"lo"}
    assert "10.60.0." not in seen.iptables_after
    records = node.records(NETWORK)
    assert [(record["head"], record["deleted"]) for record in records.values()] == [(place == "head", True)]
    assert node.log("reaped") == []


@pytest.mark.parametrize(
    ("name", "row"),
    [
        pytest.param("bandwidth", Row("macvlan", True, "1.0.0"), id=f"bandwidth, {NO_VETH}"),
        pytest.param("firewall", Row("bridge", True, "0.3.1"), id=f"firewall, {TOO_OLD}"),
        pytest.param("portmap", Row("bridge", True, "1.0.0", "1.1.1"), id=f"portmap, {NO_IPV6}"),
    ],
)
def test_left_out_plugin_fails_without_cni_reaper(make_node: MakeNode, name: str, row: Row) -> None:
    """What the table leaves out does fail without us, so nothing is left out for our sake."""
    node = make_node(row.plugins)
    node.add_link("up0", "veth", peer="up1")
    node.conflist(NETWORK, [INTERFACES[row.interface], META[name]], row.cni_version)
    pod = node.pod()
    ran = [node.cnitool(verb, NETWORK, pod, capabilities=CAPABILITIES) for verb in ("add", "check")]
    assert any(one.rc != 0 and (f'"{name}"' in one.text or "dnat" in one.text) for one in ran), "\n".join(map(str, ran))


def test_record_is_dropped_by_a_later_sweep(node: Node) -> None:
    """The record of a deleted pod stays for graceSeconds, for a DEL that came too early, and then a sweep drops it."""
    node.conflist(NETWORK, [reaper(), bridge(host_local(SUBNET))])
    gone, second, third = node.pod(), node.pod(), node.pod()
    node.cnitool("add", NETWORK, gone).check()
    node.cnitool("del", NETWORK, gone).check()
    gone.delete()
    node.cnitool("add", NETWORK, second).check()
    assert set(node.records(NETWORK)) == {f"{pod.container_id}:eth0" for pod in (gone, second)}

    # 2000 s later: more than graceSeconds; a time namespace moves the clocks, the boot ID stays
    node.cnitool("add", NETWORK, third, ahead=2000).check()
    node.cnitool("del", NETWORK, third, ahead=2000).check()
    assert set(node.records(NETWORK)) == {f"{pod.container_id}:eth0" for pod in (second, third)}
    assert len(node.reservations(NETWORK)) == 1


PREV_RESULT = """
{ "unknown" : {"z": 1, "a": {"deep": [[], {}, null]}},
  "cniVersion": "VERSION",
  "interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod", "vendor.example/queue": 18446744073709551615}],
  "ips": [{"interface": 0, "address": "10.60.0.2/24", "gateway": "10.60.0.1"}],
  "small": -0.000000000000000000000000000001, "exact": 1.25, "huge": 1e300,
  "text": "\\u00e9 \\" } ] , \\\\ \\/ é", "": "empty key",
  "dns": {} }
""".strip()


@pytest.mark.parametrize("cni_version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_prev_result_goes_through(node: Node, cni_version: str) -> None:
    """At the tail prevResult is printed with all that it has: unknown keys, the order of keys, numbers of 64 bits."""
    previous = PREV_RESULT.replace("VERSION", cni_version)
    entry = json.dumps({"cniVersion": cni_version, "name": NETWORK, **reaper()})
    conf = f'{entry[:-1]}, "prevResult": {previous}, "runtimeConfig": {{}}}}'
    ran = node.plugin("ADD", conf.encode(), netns=node.pod()).check()
    assert json.loads(ran.out, object_pairs_hook=list) == json.loads(previous, object_pairs_hook=list)
    assert ran.err == b""


ODD_RESULTS = (
    '{"cniVersion":"1.0.0","unknown":{"z":[1.10,18446744073709551616]},"dns":{"search":["\\u00e9 \\" <&>"],"nameservers":null}}',
    '{"ips":[{"address":"10.60.0.2/24","interface":0,"x":1.10}],"interfaces":[{"name":"eth0","mtu":9007199254740993}],"ips":[]}',
    """{"cniVersion":"1.0.0","routes":[{"dst":"0.0.0.0/0","mtu":-9007199254740993,"table":1}],"dns":{},"Dns":{"domain":"\\ud83d"}}""",
)


@pytest.mark.parametrize("result", ODD_RESULTS)
def test_libcni_gives_the_next_plugin_what_it_gives_without_cni_reaper(node: Node, result: str) -> None:
    """The runtime reads what a plugin prints and writes it again: of what is left then, cni-reaper changes no byte."""
    for name, script in (
        ("odd", f"cat >/dev/null; printf %s '{result}'"),
        ("last", 'cat >/run/seen; echo \'{"cniVersion":"1.0.0"}\''),
    ):
        node.write(f"{BIN}/{name}", f"#!/bin/sh\n{script}\n")
        node.path(f"{BIN}/{name}").chmod(0o755)
    seen = []
    for between in ([], [reaper()]):
        node.conflist(NETWORK, [{"type": "odd"}, *between, {"type": "last"}], cni_version="1.0.0")
        node.cnitool("add", NETWORK, node.pod()).check()
        seen.append(node.read("/run/seen"))
    assert '"prevResult":{' in seen[0]
    assert seen[1] == seen[0]


@pytest.mark.parametrize("cni_version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_head_prints_the_smallest_result(node: Node, cni_version: str) -> None:
    """At the head there is no prevResult, and only the version of the configuration is printed for the next plugin."""
    ran = node.plugin("ADD", {"cniVersion": cni_version, "name": NETWORK, **reaper()}, netns=node.pod()).check()
    assert ran.json() == {"cniVersion": cni_version}
    assert ran.err == b""
