"""What a third and a fourth look at the product found: each of these once freed a live address, or kept a dead one for ever."""

import json
from uuid import UUID

import pytest

from tests.e2e.pair import NETWORK, Pair, container_id
from tests.node import Conf, Node

BEHIND: Conf = {"prevResult": {"cniVersion": "1.0.0"}}
MEMORY = f"/run/cni-reaper/{NETWORK}.json"
RANDOM = f"cni-{UUID('3f2b8c1e-9d47-4a6b-8e05-c17a40f9d2b3')}"


@pytest.fixture
def pair(node: Node) -> Pair:
    """A network in whose view an ADD has been."""
    pair = Pair(node)
    pair.add(node.pod("web"))
    return pair


@pytest.mark.parametrize("name", ["vm-0242ac110002", "20261123095500", "slot-000000000001", "blue", f"{RANDOM[:-2]}zz"])
def test_a_late_del_for_a_path_that_may_be_used_again(pair: Pair, name: str) -> None:
    """A name that anybody may give twice: what stands there at a late DEL is another container's, whose ADD is under way."""
    node = pair.node
    node.pod(name).delete()
    second = node.pod(name)
    address = pair.take(second, container_id("new"))
    node.plugin("DEL", pair.head, netns=second.path, container_id=container_id("old")).check()
    assert address in pair.held(), node.log("reaped")


def test_cnitools_late_del(pair: Pair) -> None:
    """The ID of cnitool is made of the path; another tool has made the path again, and runs its ADD."""
    node = pair.node
    blue = node.pod("blue")
    address = pair.take(blue, container_id("new"))
    node.plugin("DEL", pair.head, netns=blue, container_id=blue.container_id).check()
    assert address in pair.held(), node.log("reaped")


def test_a_late_del_through_a_symlink(pair: Pair) -> None:
    """The name is random, what it leads to is a process's netns, whose PID is another container's by now."""
    node = pair.node
    second = node.pod("second")
    process = node.start(["sleep", "infinity"], netns=second)
    node.run(["ln", "-s", f"/proc/{process}/ns/net", f"/run/netns/{RANDOM}"]).check()
    address = pair.take(second, container_id("new"))
    node.plugin("DEL", pair.head, netns=f"/run/netns/{RANDOM}", container_id=container_id("old")).check()
    assert address in pair.held(), node.log("reaped")


def test_a_late_del_of_a_container_with_a_record(pair: Pair) -> None:
    """Even where a random name came again: the record says that the container had another netns."""
    node = pair.node
    first = node.pod(RANDOM)
    pair.add(first, container_id("old"), **BEHIND)
    first.delete()
    second = node.pod(RANDOM)
    address = pair.take(second, container_id("new"))
    node.plugin("DEL", {**pair.head, **BEHIND}, netns=second, container_id=container_id("old")).check()
    assert address in pair.held(), node.log("reaped")


def test_a_dead_holder_of_the_same_address_elsewhere(pair: Pair) -> None:
    """A dead container's cache entry and its leak on an old network; another IPAM gave that address to a pod mid-ADD here."""
    node, dead = pair.node, container_id("dead")
    node.reserve("cbr0", "10.244.0.7", dead)
    entry = {"kind": "cniCacheV1", "networkName": "cbr0", "containerId": dead, "ifName": "eth0", "netns": "/run/netns/gone"}
    node.write(f"/var/lib/cni/results/cbr0-{dead}-eth0", json.dumps({**entry, "result": {}}))
    pod = node.pod("pod")
    node.add_address("lo", "10.244.0.7/24", pod.path)
    address = pair.take(pod, container_id("pod"), "net1")
    pair.reap(**BEHIND)
    assert address in pair.held(), node.log("reaped")


def test_a_cache_entry_whose_path_came_again(pair: Pair) -> None:
    """As above, and the dead container's entry even leads to that pod's netns, whose name is one that comes again."""
    node, dead = pair.node, container_id("dead")
    pod = node.pod("blue")
    node.reserve("cbr0", "10.244.0.7", dead)
    entry = {"kind": "cniCacheV1", "networkName": "cbr0", "containerId": dead, "ifName": "eth0", "netns": pod.path}
    node.write(f"/var/lib/cni/results/cbr0-{dead}-eth0", json.dumps({**entry, "result": {}}))
    node.add_address("lo", "10.244.0.7/24", pod.path)
    address = pair.take(pod, container_id("pod"), "net1")
    pair.reap(**BEHIND)
    assert address in pair.held(), node.log("reaped")


def test_one_family_speaks_for_the_other(node: Node) -> None:
    """Dual stack from before cni-reaper, its link down: the kernel shows IPv4 alone, and has forgotten IPv6."""
    pair = Pair(node)
    pair.ipam["ipam"]["ranges"] = [[{"subnet": "10.66.0.0/24"}], [{"subnet": "fd00:66::/64"}]]
    pod = node.pod("old")
    given = node.plugin("ADD", pair.ipam, binary="host-local", netns=pod, container_id=container_id("old")).check().json()["ips"]
    node.add_link("eth0", "veth", pod.path, peer="eth0-far")
    for ip in given:
        node.add_address("eth0", ip["address"], pod.path)
    addresses = {ip["address"].partition("/")[0] for ip in given}
    pair.reap(**BEHIND)
    node.change_link("eth0", pod.path, state="down")
    for waited in (1, 20, 1600, 3300):
        own = node.pod()
        node.plugin("ADD", {**pair.head, **BEHIND}, netns=own, container_id=container_id(own.name), waited=waited).check()
        own.delete()
        assert addresses <= pair.held(), node.log("reaped")


def test_a_uuid_that_only_a_task_directory_names(pair: Pair) -> None:
    """Concourse and Nomad give UUIDs; the sandbox hides its address."""
    node, owner = pair.node, RANDOM.removeprefix("cni-")
    address = pair.take(node.pod("vm"), owner)
    node.write(f"/run/containerd/io.containerd.runtime.v2.task/concourse/{owner}/config.json", "{}")
    for waited in (0, 20, 1600, 3300):
        own = node.pod()
        node.plugin("ADD", pair.head, netns=own, container_id=container_id(own.name), waited=waited).check()
        own.delete()
        assert address in pair.held(), node.log("reaped")


DAMAGE = {
    "seen is a list": lambda noted: noted.update(seen=[]),
    "seen is a number": lambda noted: noted.update(seen=1),
    "an address that no path can be": lambda noted: noted.update(
        looked=1e17, netns=[[*one[:4], "/run/\0x"] for one in noted["netns"]]
    ),
    "a number beyond all": lambda noted: noted.update(netns=[[1e300, *one[1:]] for one in noted["netns"]]),
    "no number at all": lambda noted: noted.update(looked="NaN", looks=[["NaN", one[1]] for one in noted["looks"]]),
    "infinite": lambda noted: noted.update(netns=[["inf", *one[1:]] for one in noted["netns"]]),
    "nested": lambda noted: noted.update(looks=[[[1], one[1]] for one in noted["looks"]]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_memory(pair: Pair, damage: str) -> None:
    """What is remembered is not what we write: it counts for nothing, and leaks with a record go as ever."""
    node = pair.node
    node.pod("stranger")
    node.reserve(NETWORK, "10.66.0.200", container_id("old"))
    pair.reap()
    noted = json.loads(node.read(MEMORY))
    DAMAGE[damage](noted)
    node.write(MEMORY, json.dumps(noted))
    stale = pair.leak()
    pair.reap()
    assert stale not in pair.held(), node.log()[-3:]
    assert [line for line in node.log() if line["level"] == "error"] == []
