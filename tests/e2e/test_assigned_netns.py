"""What assigns a netns to a container, and what does not: an address or a path that two containers have says nothing."""

import json

import pytest

from tests.support.calls import call_reaper, write_cache_entry
from tests.support.network import BEHIND, Network, container_id
from tests.support.node import Node


@pytest.mark.usefixtures("live_pod")
@pytest.mark.parametrize("first_place", ["head", "tail"])
def test_netns_given_to_the_next_vm_keeps_its_address(network: Network, first_place: str) -> None:
    """VM managers keep a netns and give it to one VM after another; the second's ADD is under way, we are behind host-local."""
    slot = network.node.pod("slot-1")
    network.add(slot, container_id("first vm"), **(BEHIND if first_place == "tail" else {}))
    network.give_back(slot, container_id("first vm"))
    address = network.take(slot, container_id("second vm"))
    network.reap(**BEHIND)
    assert address in network.held(), network.node.log("reaped")


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("known_by", ["record", "cache", "address", "cache and address"])
def test_second_attachment_is_kept_by_its_siblings_netns(node: Node, known_by: str, shared: bool) -> None:
    """Podman in mid ADD on its second network, where we are not: what its first attachment has is its own netns, kept.

    Also when the netns is another container's as well, which has a record of it.
    """
    one, two = Network(node, name="one"), Network(node, subnet="10.67.0.0/24", name="two")
    pod, owner = node.pod("podman"), container_id("podman")
    first = one.add(pod, owner) if known_by == "record" else one.take(pod, owner)
    if "cache" in known_by:
        write_cache_entry(one, owner, pod.path)
    if "address" in known_by:
        node.add_address("lo", f"{first}/32", pod.path)
    if shared:
        node.plugin("ADD", {**two.head, "reapOn": []}, netns=pod, container_id=container_id("other")).check()
    second = two.take(pod, owner)
    leak = two.leak()
    call_reaper(one, options={"networks": ["*"]})
    assert (one.held(), two.held()) == ({first}, {second}), (leak, node.log())
    pod.delete()
    call_reaper(one, options={"networks": ["*"]})
    assert (one.held(), two.held()) == (set(), set())


def test_address_given_by_two_ipams_assigns_no_netns(network: Network) -> None:
    """A netns holds, from another IPAM, an address that is reserved here for somebody with a record: it is not theirs."""
    node = network.node
    shared = network.add(node.pod("known"), container_id("known"))
    live = node.pod("live")
    node.change_link("lo", netns=live.path, state="up")
    node.add_address("lo", shared + "/24", netns=live.path)
    address = network.take(live, container_id("live"), "net1")  # in flight: no record yet, the address not configured
    network.reap()
    assert address in network.held(), node.log()


@pytest.mark.usefixtures("live_pod")
def test_dead_owner_of_same_address_elsewhere_assigns_no_netns(network: Network) -> None:
    """A dead container's cache entry and its leak on an old network; another IPAM gave that address to a pod mid-ADD here."""
    node, dead = network.node, container_id("dead")
    node.reserve("cbr0", "10.244.0.7", dead)
    entry = {"kind": "cniCacheV1", "networkName": "cbr0", "containerId": dead, "ifName": "eth0", "netns": "/run/netns/gone"}
    node.write(f"/var/lib/cni/results/cbr0-{dead}-eth0", json.dumps({**entry, "result": {}}))
    pod = node.pod("pod")
    node.add_address("lo", "10.244.0.7/24", pod.path)
    address = network.take(pod, container_id("pod"), "net1")
    network.reap(**BEHIND)
    assert address in network.held(), node.log("reaped")


@pytest.mark.usefixtures("live_pod")
def test_cache_entry_with_reused_path_assigns_no_netns(network: Network) -> None:
    """As above, and the dead container's entry even leads to that pod's netns, whose name is one that comes again."""
    node, dead = network.node, container_id("dead")
    pod = node.pod("blue")
    node.reserve("cbr0", "10.244.0.7", dead)
    entry = {"kind": "cniCacheV1", "networkName": "cbr0", "containerId": dead, "ifName": "eth0", "netns": pod.path}
    node.write(f"/var/lib/cni/results/cbr0-{dead}-eth0", json.dumps({**entry, "result": {}}))
    node.add_address("lo", "10.244.0.7/24", pod.path)
    address = network.take(pod, container_id("pod"), "net1")
    network.reap(**BEHIND)
    assert address in network.held(), node.log("reaped")
