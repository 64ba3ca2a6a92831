"""A full pool on a real kernel: cni-reaper in the chain gives the next pod an address, and a living pod keeps its own."""

import json

import pytest

from tests.machines.machine import Console, Machine
from tests.machines.nodes import conflist
from tests.support.cni_calls import reaper
from tests.support.node_files import DATA_DIR, LOG_FILE

SCENARIO = f"""
cp /root/cni-reaper /opt/cni/bin/
with() {{ step "$1 $2" env NETCONFPATH=/etc/cni/with cnitool "$1" net "/run/netns/$2"; }}
without() {{ step "$1 $2" env NETCONFPATH=/etc/cni/without cnitool "$1" net "/run/netns/$2"; }}

pod living
with add living
for pod in lost1 lost2 lost3 lost4 refused; do
    pod $pod
    without add $pod
    end_pod $pod
done
step "full" ls {DATA_DIR}/net
step "audit full" /root/cni-reaper audit
pod next
with add next
step "healed" ls {DATA_DIR}/net
step "log" cat {LOG_FILE}
step "audit healed" /root/cni-reaper audit
step "addresses of living" nsenter -n/run/netns/living ip -4 address show eth0
with check living
with check next
with del next
with del living
step "ended" ls {DATA_DIR}/net
"""
LOST = {"10.90.0.3", "10.90.0.4", "10.90.0.5", "10.90.0.6"}
EXHAUSTED = b"no IP addresses available"


def addresses(console: Console, step: str) -> set[str]:
    """Return the addresses that a listing of the store names."""
    return {name for name in console[step].check().out.decode().split() if name.startswith("10.")}


def given(console: Console, step: str) -> str:
    """Return the address in the result of an ADD."""
    (one,) = json.loads(console[step].check().out)["ips"]
    return str(one["address"]).partition("/")[0]


@pytest.fixture(scope="module")
def node(machine: Machine) -> Console:
    """One boot: a pod lives, four leak and a fifth is refused without cni-reaper in the chain; then one starts with it."""
    return machine.run(
        SCENARIO,
        {"etc/cni/with/net.conflist": conflist(reaper()), "etc/cni/without/net.conflist": conflist()},
    )


def test_full_pool_refuses_a_pod_without_cni_reaper(node: Console) -> None:
    """The four that leaked hold their addresses, and host-local has none left."""
    assert given(node, "add living") == "10.90.0.2"
    assert {given(node, f"add lost{number}") for number in (1, 2, 3, 4)} == LOST
    refused = node["add refused"]
    assert refused.rc == 1
    assert EXHAUSTED in refused.out + refused.err
    assert addresses(node, "full") == {"10.90.0.2", *LOST}


def test_audit_tells_leaks_from_the_living(node: Console) -> None:
    """Before the heal four are STALE and one is LIVE, afterwards both pods are LIVE."""
    assert node["audit full"].rc == 1
    assert "1 LIVE, 4 STALE, 0 UNKNOWN" in node["audit full"].text
    assert "2 LIVE, 0 STALE, 0 UNKNOWN" in node["audit healed"].check().text


def test_next_add_heals_the_full_pool(node: Console) -> None:
    """It succeeds at the first attempt, and all four leaks are freed."""
    address = given(node, "add next")
    assert address in LOST
    assert addresses(node, "healed") == {"10.90.0.2", address}
    said = node["log"].check().text
    assert {address for address in LOST if f"address={address} " in said and "event=reaped" in said} == LOST


def test_living_pod_keeps_its_address(node: Console) -> None:
    """The reservation and the address in its namespace stay; CHECK of both pods succeeds."""
    assert "10.90.0.2" in addresses(node, "healed")
    assert "inet 10.90.0.2/29" in node["addresses of living"].check().text
    node["check living"].check()
    node["check next"].check()


def test_del_returns_the_addresses(node: Console) -> None:
    """DEL through the chain succeeds, and the store is empty."""
    node["del next"].check()
    node["del living"].check()
    assert addresses(node, "ended") == set()
