"""Heals: on a node whose pool is full of leaked reservations, the next ADD succeeds, and the live pods keep theirs.

A leak is what a crash leaves behind: the pod's network namespace is gone, CNI DEL never came. Pools are filled with
live pods until an ADD fails, and then all pods but one lose their namespaces: with us in the chain, a leak at a time
would be healed at once and the pool would never be full.
"""

import json

import pytest

from tests.conftest import MakeNode
from tests.support.cni_calls import Pod, bridge, host_local, reaper
from tests.support.full_pool import EXHAUSTED, add_to_fresh_pod, addresses_of, assert_untouched, fill, held_by
from tests.support.node import Node
from tests.support.node_files import STATE_DIR, Conf

FAMILIES = {
    "IPv4": ["10.55.0.0/29"],
    "IPv6": ["fd00:55::/125"],
    "dual stack": ["10.55.0.0/29", "fd00:55::/125"],
}


def of_its_number(node: Node, pod: Pod) -> set[str]:
    """Return the addresses whose dead owner's netns had the number of a pod's, which only NS_GET_ID tells apart (Linux 6.18)."""
    number = node.path(pod.path).stat().st_ino
    found = set()
    for address, owner in node.reservations("net").items():
        record = json.loads(node.read(f"{STATE_DIR}/net/{':'.join(owner)}"))
        if record["ino"] == number and "nsID" not in record:
            found.add(address)
    return found


@pytest.mark.parametrize("leaked", ["before cni-reaper was installed", "while it was installed"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("plugins", ["1.9.1", "1.1.1"])
def test_full_29_heals_at_the_first_add(make_node: MakeNode, plugins: str, family: str, leaked: str) -> None:
    """A /29 full of leaks fails every ADD without us, and none from the first one with us at the head."""
    node = make_node(plugins)
    without: list[Conf] = [bridge(host_local(*FAMILIES[family]))]
    with_us = [reaper(), *without]
    before = leaked.startswith("before")

    node.conflist("net", without if before else with_us)
    live, *dead = fill(node, "net")
    its_own = addresses_of(live)
    assert_untouched(node, "net", live, its_own)
    for pod in dead:
        pod.delete()
    full = node.reservations("net")
    assert len(full) == len(its_own) * (1 + len(dead))
    assert not node.log("reaped")
    assert len(node.records("net")) == (0 if before else len(dead) + 2), "one for each ADD, the refused one too"

    node.conflist("net", without)
    refused, ran = add_to_fresh_pod(node, "net")
    assert ran.rc != 0
    assert EXHAUSTED in ran.text, str(ran)
    refused.delete()
    assert node.reservations("net") == full

    node.conflist("net", with_us)
    fresh, ran = add_to_fresh_pod(node, "net")
    ran.check()
    assert_untouched(node, "net", live, its_own)
    assert_untouched(node, "net", fresh, {ip["address"].partition("/")[0] for ip in ran.json()["ips"]})
    assert {owner for owner, _ in node.reservations("net").values()} == {live.container_id, fresh.container_id}
    reaped = {line["address"]: (line["container"], line["reason"]) for line in node.log("reaped")}
    reason = "no-netns-left" if before else "netns-gone"
    assert reaped == {address: (owner, reason) for address, (owner, _) in full.items() if owner != live.container_id}

    node.cnitool("del", "net", fresh).check()
    assert_untouched(node, "net", live, its_own)
    assert set(node.reservations("net")) == its_own


@pytest.mark.parametrize("plugins", ["1.9.1", "1.1.1"])
def test_full_24_heals_at_the_first_add(make_node: MakeNode, plugins: str) -> None:
    """A /24 full of leaks heals at the first ADD with us: 20 that our records know, 232 that nothing knows."""
    node = make_node(plugins)
    ipam = host_local("10.56.0.0/24")
    without: list[Conf] = [bridge(ipam)]
    with_us = [reaper(), *without]
    node.conflist("net", without)
    live, ran = add_to_fresh_pod(node, "net")
    ran.check()
    its_own = addresses_of(live)

    recorded = [node.pod() for _ in range(20)]
    conf: Conf = {"cniVersion": "1.0.0", "name": "net"}
    for pod in recorded:
        node.plugin("ADD", {**conf, **reaper()}, netns=pod).check()
        node.plugin("ADD", {**conf, "ipam": ipam}, netns=pod, binary="host-local").check()
    for pod in recorded:
        pod.delete()
    lost = [f"{number:064x}" for number in range(232)]
    seeds = node.together(
        [
            node.plugin_command(
                "ADD", {**conf, "ipam": ipam}, container_id=owner, netns=f"/run/netns/{owner}", binary="host-local"
            )
            for owner in lost
        ]
    )
    for seed in seeds:
        seed.check()
    full = node.reservations("net")
    assert len(full) == 253, "the gateway, the network and the broadcast address are not for pods"

    refused, ran = add_to_fresh_pod(node, "net")
    assert ran.rc != 0
    assert EXHAUSTED in ran.text, str(ran)
    refused.delete()

    node.conflist("net", with_us)
    fresh, ran = add_to_fresh_pod(node, "net")
    ran.check()
    assert_untouched(node, "net", live, its_own)
    assert_untouched(node, "net", fresh, addresses_of(fresh))
    reaped = {line["container"]: line["reason"] for line in node.log("reaped")}
    expected = {pod.container_id: "netns-gone" for pod in recorded} | dict.fromkeys(lost, "no-netns-left")
    assert reaped == expected
    assert {owner for owner, _ in node.reservations("net").values()} == {live.container_id, fresh.container_id}


@pytest.mark.parametrize("leaked", ["before cni-reaper was installed", "while it was installed"])
def test_first_add_after_a_reboot_heals(node: Node, leaked: str) -> None:
    """A reboot takes all namespaces, no DEL comes: the next ADD frees everything, the one after it keeps the first."""
    without: list[Conf] = [bridge(host_local("10.55.0.0/29"))]
    with_us = [reaper(), *without]
    before = leaked.startswith("before")
    node.conflist("net", without if before else with_us)
    dead = fill(node, "net")
    full = node.reservations("net")
    assert len(full) == len(dead)
    node.reboot()

    node.conflist("net", with_us)
    first, ran = add_to_fresh_pod(node, "net")
    ran.check()
    its_own = addresses_of(first)
    reaped = {line["address"]: (line["container"], line["reason"]) for line in node.log("reaped")}
    reason = "no-netns-left" if before else "rebooted"
    assert reaped == {address: (owner, reason) for address, (owner, _) in full.items()}

    second, ran = add_to_fresh_pod(node, "net")
    ran.check()
    assert_untouched(node, "net", first, its_own)
    assert_untouched(node, "net", second, addresses_of(second))
    assert len(node.log("reaped")) == len(full)


def test_each_network_reaps_only_its_own(node: Node) -> None:
    """Of two exhausted networks in one node, an ADD heals the one it is for and does not touch the other."""
    nets = {"blue": "10.57.0.0/29", "green": "10.58.0.0/29"}
    live, full, its_own = {}, {}, {}
    for name, subnet in nets.items():
        node.conflist(name, [reaper(), bridge(host_local(subnet), name=f"cni-{name}")])
        live[name], *dead = fill(node, name)
        its_own[name] = addresses_of(live[name])
        full[name] = node.reservations(name)
        for pod in dead:
            pod.delete()

    fresh, ran = add_to_fresh_pod(node, "blue")
    ran.check()
    assert set(node.reservations("blue")) == its_own["blue"] | addresses_of(fresh)
    assert node.reservations("green") == full["green"]
    assert {line["network"] for line in node.log("reaped")} == {"blue"}

    fresh, ran = add_to_fresh_pod(node, "green")
    ran.check()
    assert set(node.reservations("green")) == its_own["green"] | addresses_of(fresh)
    for name in nets:
        assert_untouched(node, name, live[name], its_own[name])


@pytest.mark.parametrize("plugins", ["1.9.1", "1.1.1"])
def test_tail_heals_at_the_del_of_the_failed_add(make_node: MakeNode, plugins: str) -> None:
    """At the tail an exhausted ADD never reaches us, but the DEL that a runtime owes it does: the retry succeeds.

    A pod's sandbox has one netns for life, so there too its record proves its death.
    """
    node = make_node(plugins)
    node.conflist("net", [bridge(host_local("10.55.0.0/29")), reaper()])
    live, *dead = fill(node, "net", kubernetes=True)
    its_own = addresses_of(live)
    for pod in dead:
        pod.delete()

    refused, ran = add_to_fresh_pod(node, "net")
    assert ran.rc != 0
    assert EXHAUSTED in ran.text, str(ran)
    node.cnitool("del", "net", refused).check()
    kept = of_its_number(node, refused)
    assert len(kept) <= 1
    assert set(node.reservations("net")) == its_own | kept
    assert {line["container"] for line in node.log("reaped")} == {
        pod.container_id for pod in dead if not held_by(node, "net", pod)
    }

    refused.delete()
    fresh, ran = add_to_fresh_pod(node, "net")
    ran.check()
    assert set(node.reservations("net")) == its_own | addresses_of(fresh)
    assert_untouched(node, "net", live, its_own)
    assert_untouched(node, "net", fresh, addresses_of(fresh))
