"""Which ports lead where, by portmap's rules as iptables-save and nft print them; and which of them lead astray."""

from typing import Any

import pytest

from cni_reaper_plugin.host_local.pool import of_subnets, pack
from cni_reaper_plugin.model import LIVE, STALE, UNKNOWN, Call, Evidence, Judged, Netns, Reservation, Surroundings
from cni_reaper_plugin.operator.conflists import runtimes
from cni_reaper_plugin.operator.inspect import published_ports as operator_ports
from cni_reaper_plugin.operator.inspect.inspection import Inspected, Row
from cni_reaper_plugin.operator.inspect.published_ports import Astray
from cni_reaper_plugin.published import ports, written
from cni_reaper_plugin.published.ports import Port
from cni_reaper_plugin.reasons import NETNS_GONE
from cni_reaper_plugin.scan_model import VisibleNetns

DEAD, OTHER = "d" * 64, "e" * 64
QUOTED = f'dnat name: \\"net\\" id: \\"{DEAD}\\"'
SAVED = f"""*nat
:CNI-DN-1 - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A CNI-DN-1 -s 10.9.0.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-1 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.9.0.2:80
-A CNI-DN-1 -d 192.0.2.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.9.0.2:5353
-A CNI-DN-1 -p tcp -m tcp --dport 8443 -j DNAT --to-destination [fd77::2]:443
-A CNI-DN-2 -p tcp -m tcp --dport 9090 -j DNAT --to-destination 10.9.0.9:80
-A KUBE-SEP-1 -p tcp -m tcp -j DNAT --to-destination 10.9.0.2:80
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "{QUOTED}" -m multiport --dports 8080,8443 -j CNI-DN-1
-A CNI-HOSTPORT-DNAT -p udp -m comment --comment "{QUOTED}" -m multiport --dports 53 -j CNI-DN-1
COMMIT
"""
LISTED = f"""table ip cni_hostport {{
	comment "CNI portmap plugin"
	chain hostports {{
		tcp dport 8080 dnat to 10.9.0.2:80 comment "{DEAD}"
		ip daddr 192.0.2.1 udp dport 53 dnat to 10.9.0.2:5353 comment "{DEAD}"
	}}
	chain masquerading {{
		ip saddr 10.9.0.2 ip daddr 10.9.0.2 masquerade comment "{DEAD}"
	}}
}}
table ip6 cni_hostport {{
	chain hostports {{
		tcp dport 8443 dnat to [fd77::2]:443 comment "{DEAD}"
	}}
}}
"""


def told(backend: str, text: str) -> list[tuple[str, str, int, bytes, int]]:
    """Return what is read, without whose it is."""
    return [(one.protocol, one.host, one.host_port, one.address, one.port) for one in ports.read(backend, text)]


@pytest.mark.parametrize(("backend", "text"), [("iptables", SAVED), ("nftables", LISTED)])
def test_portmaps_rules_are_read(backend: str, text: str) -> None:
    """Both families, with an address of the node and without; not another program's, nor a chain to which nothing jumps."""
    assert told(backend, text) == [
        ("tcp", "", 8080, pack("10.9.0.2"), 80),
        ("udp", "192.0.2.1", 53, pack("10.9.0.2"), 5353),
        ("tcp", "", 8443, pack("fd77::2"), 443),
    ]
    for one in ports.read(backend, text):
        assert one.container == DEAD
        assert one.network == ("net" if backend == "iptables" else "")
        assert one.is_of("net", DEAD)
        assert not one.is_of("net", OTHER)
        assert one.is_of("other", DEAD) == (backend == "nftables")


def test_cut_comment_belongs_to_its_container() -> None:
    """It names nobody as it is, and is its container's all the same."""
    network = "n" * 200
    comment = written.comment(network, DEAD).replace('"', '\\"')
    (one,) = ports.read(
        "iptables",
        f'-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "{comment}" -m multiport --dports 1 -j CNI-DN-1\n'
        "-A CNI-DN-1 -p tcp -m tcp --dport 1 -j DNAT --to-destination 10.9.0.2:1\n",
    )
    assert one.container == ""
    assert one.is_of(network, DEAD)
    assert "iptables-save" in Astray((one,), "", "", False, "/opt/cni/bin/portmap").advice


@pytest.mark.parametrize("text", ["", "-A CNI-DN-1", "-A CNI-HOSTPORT-DNAT -j X", SAVED[:300], LISTED[:60], "\0\x1b" * 9])
def test_other_lines_are_left_out(text: str) -> None:
    """It is left out."""
    assert list(ports.read("iptables", text)) == list(ports.read("nftables", text)) == []


def port(container: str = DEAD, address: str = "10.9.0.2", network: str = "net", backend: str = "iptables") -> Port:
    """Return a published port."""
    comment = written.comment(network, container) if backend == "iptables" else container
    return Port(backend, network if backend == "iptables" else "", container, comment, "tcp", "", 8080, pack(address), 80)


def row(container: str, verdict: str, address: str = "10.9.0.2", network: str = "net") -> Row:
    """Return a judged reservation."""
    evidence = Evidence(Call("AUDIT"), Surroundings("boot"))
    evidence.packed = pack(address)
    reservation = Reservation(network, address, f"{container}\r\neth0".encode() if container else b"a note", 7, 8)
    return Row(Judged(reservation, evidence, verdict, NETNS_GONE), unproven=False)


def network(*rows: Row, name: str = "net", holders: Any = (), pool: str = "") -> Inspected:
    """Return a network as it was inspected. holders: container IDs of a netns that has 10.9.0.2."""
    found = Inspected(name, of_subnets([pool]) if pool else None, list(rows))
    for names in holders:
        seen = VisibleNetns(Netns(4, 5, 6), "/run/netns/x")
        seen.names = set(names)
        found.holders.setdefault(pack("10.9.0.2"), []).append(seen)
    return found


def astray(one: Port, *networks: Inspected, is_complete: bool = True) -> list[Astray]:
    """Judge a port."""
    return operator_ports._Judge(list(networks), is_complete, "/opt/cni/bin/portmap").of([one])


IN_POOL = {"pool": "10.9.0.0/24"}
NOT_ASTRAY: dict[str, tuple[Port, list[Inspected], bool]] = {
    **{verdict: (port(), [network(row(DEAD, verdict))], True) for verdict in (LIVE, UNKNOWN, STALE)},
    "nftables, of any network": (port(backend="nftables"), [network(row(DEAD, LIVE, network="a"), name="a")], True),
    "beside another network's of the same address": (
        port(),
        [network(row(OTHER, LIVE, network="a"), name="a"), network(row(DEAD, LIVE))],
        True,
    ),
    "of a network that has no store here": (port(network="whereabouts"), [network(**IN_POOL)], True),
    "of no network, and in no pool": (port(backend="nftables"), [network()], True),
    "of no network, and not all are known": (port(backend="nftables"), [network(**IN_POOL)], False),
    "it lives there without a reservation": (port(), [network(holders=[[DEAD]])], True),
    "nobody knows who lives there": (port(), [network(holders=[[]])], True),
}


@pytest.mark.parametrize(("one", "networks", "is_complete"), NOT_ASTRAY.values(), ids=NOT_ASTRAY)
def test_port_of_live_or_unknown_container_is_no_finding(one: Port, networks: list[Inspected], is_complete: bool) -> None:
    """While its container has the address, or where that cannot be known, nothing is said."""
    assert astray(one, *networks, is_complete=is_complete) == []


ASTRAY: dict[str, tuple[Port, list[Inspected], str]] = {
    "another's, LIVE": (port(), [network(row(OTHER, LIVE))], OTHER),
    "another's, UNKNOWN": (port(), [network(row(OTHER, UNKNOWN))], OTHER),
    "another's, in another network": (port(), [network(row(OTHER, LIVE, network="a"), name="a")], OTHER),
    "another's, with nftables": (port(backend="nftables"), [network(row(OTHER, LIVE))], OTHER),
    "in another's netns without a reservation": (port(), [network(holders=[[OTHER]])], OTHER),
    "another's, beside a person's note": (port(), [network(row("", UNKNOWN)), network(row(OTHER, LIVE), name="a")], OTHER),
    "another's, STALE": (port(), [network(row(OTHER, STALE))], ""),
    "a person's note": (port(), [network(row("", UNKNOWN))], ""),
    "nobody's": (port(), [network()], ""),
    "nobody's, with nftables": (port(backend="nftables"), [network(**IN_POOL)], ""),
}


@pytest.mark.parametrize(("one", "networks", "holder"), ASTRAY.values(), ids=ASTRAY)
def test_port_without_reservation_is_a_finding(one: Port, networks: list[Inspected], holder: str) -> None:
    """Its container has no reservation of the address: another has it, or nobody."""
    (found,) = astray(one, *networks)
    assert (found.holder, found.lives) == (holder, False)
    assert f"CNI_CONTAINERID={DEAD}" in found.advice
    assert f'"backend":"{one.backend}"' in found.advice


def test_pod_of_container_living_elsewhere_is_to_be_restarted() -> None:
    """Its DEL by portmap would take away what it has published now: its pod is to be restarted."""
    (found,) = astray(port(), network(row(OTHER, LIVE), row(DEAD, LIVE, "10.9.0.3")))
    assert found.lives
    assert "CNI_COMMAND" not in found.advice


@pytest.mark.parametrize("still", [[port()], []], ids=["it stands", "it has gone"])
def test_finding_must_hold_at_two_looks(monkeypatch: pytest.MonkeyPatch, still: list[Port]) -> None:
    """What is so while a pod ends is no finding: its rules go first, then its reservation."""
    looks = [([port()], ""), (still, "")]
    monkeypatch.setattr(operator_ports, "AGAIN_S", 0)
    monkeypatch.setattr(runtimes, "environment", lambda *_: {b"CNI_PATH": b""})
    monkeypatch.setattr(ports, "look", lambda _: looks.pop(0))
    found = operator_ports.Published([], []).astray([network()], is_complete=True)
    assert [one.ports for one in found] == [(one,) for one in still]


def test_finding_is_worded_for_a_person() -> None:
    """As the issue has it."""
    one = port()
    more = one._replace(protocol="udp", host="192.0.2.1"), one._replace(host="2001:db8::1")
    assert operator_ports.leads((one,)) == "port 8080/tcp of this node leads to 10.9.0.2"
    leads = "ports 8080/tcp, 192.0.2.1:8080/udp, [2001:db8::1]:8080/tcp of this node lead to 10.9.0.2"
    assert operator_ports.leads((one, *more)) == leads
    many = tuple(one._replace(host_port=number) for number in range(1, 11))
    assert "8/tcp and 2 more of this node lead" in operator_ports.leads(many)
    assert Astray((one,), OTHER, "default/web", False, "").what.startswith(
        f"port 8080/tcp of this node leads to 10.9.0.2, which is another pod's now: container {OTHER} (default/web); "
    )
    assert "which no pod has now" in Astray((one,), "", "", False, "").what
