"""A DEL that comes late: the path, the ID or the address that it names is another pod's by then, which keeps what it has."""

import pytest

from tests.support.network import BEHIND, NETWORK, RANDOM_NAME, Network, container_id
from tests.support.node import Node


def test_del_of_an_old_life_keeps_the_new_one(network: Network) -> None:
    """A late DEL with the netns of the first life releases nothing of the second."""
    node = network.node
    first, second = node.pod("first"), node.pod("second")
    owner = container_id("podman")
    network.add(first, owner)
    kept = network.add(second, owner)
    node.plugin("DEL", network.head, netns=first, container_id=owner).check()
    assert network.held() == {kept}


@pytest.mark.parametrize("path", ["none", "its own", "now another's"])
def test_late_del_after_reboot_keeps_new_pod(node: Node, path: str) -> None:
    """The address is another pod's by then: the late DEL, with or without a netns path, leaves it alone."""
    network = Network(node, first="10.66.0.2", last="10.66.0.3")
    old, dead = node.pod("old"), node.pod("dead")
    freed = {network.add(old), network.add(dead)}
    node.reboot()
    new = node.pod("old" if path == "now another's" else "new")
    owner = container_id("the new sandbox")
    address = network.add(new, owner)
    assert address in freed
    for late in ("old", "dead"):
        netns = "" if path == "none" else f"/run/netns/{late}"
        for plugin, conf in (("host-local", network.ipam), ("cni-reaper", network.head)):
            node.plugin("DEL", conf, binary=plugin, netns=netns, container_id=container_id(late)).check()
        assert node.reservations(NETWORK) == {address: (owner, "eth0")}


@pytest.mark.usefixtures("live_pod")
@pytest.mark.parametrize("name", ["vm-0242ac110002", "20261123095500", "slot-000000000001", "blue", f"{RANDOM_NAME[:-2]}zz"])
def test_late_del_for_reusable_path_keeps_new_pod(network: Network, name: str) -> None:
    """A name that anybody may give twice: what stands there at a late DEL is another container's, whose ADD is under way."""
    node = network.node
    node.pod(name).delete()
    second = node.pod(name)
    address = network.take(second, container_id("new"))
    node.plugin("DEL", network.head, netns=second.path, container_id=container_id("old")).check()
    assert address in network.held(), node.log("reaped")


@pytest.mark.usefixtures("live_pod")
def test_late_del_of_cnitool_keeps_new_pod(network: Network) -> None:
    """The ID of cnitool is made of the path; another tool has made the path again, and runs its ADD."""
    node = network.node
    blue = node.pod("blue")
    address = network.take(blue, container_id("new"))
    node.plugin("DEL", network.head, netns=blue, container_id=blue.container_id).check()
    assert address in network.held(), node.log("reaped")


@pytest.mark.usefixtures("live_pod")
def test_late_del_through_symlink_keeps_new_pod(network: Network) -> None:
    """The name is random, what it leads to is a process's netns, whose PID is another container's by now."""
    node = network.node
    second = node.pod("second")
    process = node.start(["sleep", "infinity"], netns=second)
    node.run(["ln", "-s", f"/proc/{process}/ns/net", f"/run/netns/{RANDOM_NAME}"]).check()
    address = network.take(second, container_id("new"))
    node.plugin("DEL", network.head, netns=f"/run/netns/{RANDOM_NAME}", container_id=container_id("old")).check()
    assert address in network.held(), node.log("reaped")


@pytest.mark.usefixtures("live_pod")
def test_late_del_of_recorded_container_keeps_new_pod(network: Network) -> None:
    """Even where a random name came again: the record says that the container had another netns."""
    node = network.node
    first = node.pod(RANDOM_NAME)
    network.add(first, container_id("old"), **BEHIND)
    first.delete()
    second = node.pod(RANDOM_NAME)
    address = network.take(second, container_id("new"))
    node.plugin("DEL", {**network.head, **BEHIND}, netns=second, container_id=container_id("old")).check()
    assert address in network.held(), node.log("reaped")
