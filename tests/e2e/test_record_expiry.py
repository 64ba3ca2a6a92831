"""Records of dead attachments do not pile up, and none that is written anew is lost."""

from tests.support.calls import backdate, call_reaper
from tests.support.network import NETWORK, Network, container_id
from tests.support.stopped_call import resume, stopped_at


def test_old_record_of_dead_netns_is_dropped(network: Network) -> None:
    """ADDs whose IPAM never wrote a reservation leave a record each: an old one of a dead netns goes, and no other does."""
    node = network.node
    old, young, live = (node.pod(name) for name in ("old", "young", "live"))
    for pod in (old, young, live):
        node.plugin("ADD", network.head, netns=pod, container_id=container_id(pod.name)).check()
    network.add(node.pod("other"))
    for pod in (old, young):
        pod.delete()
    for pod in (old, live):
        backdate(node, container_id(pod.name))
    call_reaper(network, "DEL")
    left = node.records(NETWORK)
    assert f"{container_id('old')}:eth0" not in left
    assert {f"{container_id(name)}:eth0" for name in ("young", "live", "other")} <= set(left)


def test_record_replaced_while_it_is_dropped_stays(network: Network) -> None:
    """A sweep has found a record that is over; before it drops it the same ID is back: the new record stays."""
    node = network.node
    owner = container_id("podman")
    first = node.pod("podman")
    node.plugin("ADD", network.head, netns=first, container_id=owner).check()
    first.delete()
    backdate(node, owner)
    network.leak()  # so that an ADD sweeps, and then drops records
    strace, child = stopped_at(node, network, ".lock", 2, node.pod("trigger"))
    assert f"{owner}:eth0" in node.records(NETWORK)
    second = node.pod("podman")
    address = network.add(second, owner, reapOn=[])
    resume(node, strace, child)
    assert node.records(NETWORK)[f"{owner}:eth0"]["netns"] == second.path
    call_reaper(network)
    assert network.held() == {address}
