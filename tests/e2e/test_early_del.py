"""A DEL that says success too early: what it leaves behind is freed by the next ADD."""

import json

from tests.support.calls import POD_ARGS, call_reaper, reaped_reasons
from tests.support.cni_calls import BIN
from tests.support.network import NETWORK, Network, container_id
from tests.support.node_files import DATA_DIR
from tests.support.waiting import until


def test_reservation_left_by_del_is_freed_by_next_add(network: Network) -> None:
    """Flannel answers success and releases nothing, the netns goes after DEL: the record outlives it, the next ADD frees."""
    node = network.node
    node.pod("stranger")
    pod = node.pod("pod")
    address = network.add(pod)
    node.add_address("lo", f"{address}/32", pod.path)
    node.plugin("DEL", network.head, netns=pod, container_id=container_id("pod")).check()
    assert network.held() == {address}
    pod.delete()
    call_reaper(network)
    assert network.held() == set()
    assert reaped_reasons(network) == {"netns-gone"}


def test_reservation_written_after_del_is_freed_by_next_add(network: Network) -> None:
    """An ADD is killed, its host-local child writes only after the DEL: the record is still there, the next ADD frees."""
    node = network.node
    node.pod("stranger")
    pod = node.pod("pod")
    owner = container_id("pod")
    node.plugin("ADD", network.head, netns=pod, container_id=owner).check()
    node.path(f"{DATA_DIR}/{NETWORK}").mkdir(parents=True, exist_ok=True)
    holder = node.start(["flock", network.lock(), "sh", "-c", "touch /run/held; exec sleep infinity"])
    until(node.path("/run/held").exists, "the lock is held")
    node.write("/run/ipam.json", json.dumps(network.ipam))
    variables = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": owner, "CNI_NETNS": pod.path, "CNI_IFNAME": "eth0", "CNI_PATH": BIN}
    late = node.start(["sh", "-c", f"exec {BIN}/host-local < /run/ipam.json"], env=variables)
    node.plugin("DEL", network.head, netns=pod, container_id=owner).check()
    assert network.held() == set()
    node.run(["pkill", "-P", str(holder)])
    assert node.wait(late) == 0
    node.stop(holder)
    assert len(network.held()) == 1
    pod.delete()
    call_reaper(network)
    assert network.held() == set()
    assert reaped_reasons(network) == {"netns-gone"}


def test_reservation_of_failed_del_is_freed_by_next_add(network: Network) -> None:
    """Behind the interface plugin our DEL comes first and that one's fails: the record is still there, the next ADD frees."""
    node = network.node
    node.pod("stranger")
    pod = node.pod("pod")
    behind = {**network.head, "prevResult": {"cniVersion": "1.0.0"}}
    address = network.take(pod, container_id("pod"))
    node.plugin("ADD", behind, netns=pod, container_id=container_id("pod"), args=POD_ARGS).check()
    node.plugin("DEL", behind, netns=pod, container_id=container_id("pod"), args=POD_ARGS).check()
    assert network.held() == {address}
    pod.delete()
    call_reaper(network)
    assert network.held() == set()
    assert reaped_reasons(network) == {"netns-gone"}
