"""What an ADD notes of the owners it found LIVE (/run/cni-reaper/<network>.live): it spares reading, and can only keep."""

import json
import os

import pytest

from tests.support.calls import call_reaper
from tests.support.cni_calls import BIN, Pod
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import DATA_DIR

NOTED = f"/run/cni-reaper/{NETWORK}.live"


@pytest.fixture
def pods(node: Node) -> tuple[Network, dict[str, Pod]]:
    """A network with twelve pods by address, all of them noted."""
    network = Network(node)
    found = {}
    for _ in range(12):
        pod = node.pod()
        found[network.add(pod)] = pod
    network.reap()
    assert len(json.loads(node.read(NOTED))["live"]) >= 8
    return network, found


def files_read(network: Network) -> set[str]:
    """Run an ADD and return the addresses whose reservations it read."""
    node, own = network.node, network.node.pod()
    variables = {"CNI_COMMAND": "ADD", "CNI_NETNS": own.path, "CNI_IFNAME": "eth0", "CNI_PATH": BIN}
    node.run(
        ["strace", "-f", "-qq", "-e", "trace=openat", "-o", "/var/log/trace", f"{BIN}/cni-reaper"],
        env={**variables, "CNI_CONTAINERID": container_id(own.name)},
        stdin=json.dumps(network.head).encode(),
    ).check()
    trace = node.read("/var/log/trace")
    return {address for address in network.held() if f'"{address}"' in trace}


def test_a_noted_reservation_is_not_read_again(pods: tuple[Network, dict[str, Pod]]) -> None:
    """At most a handful, those not noted yet, are read by an ADD on a healthy node."""
    network, found = pods
    assert len(files_read(network)) < 8
    assert network.held() == set(found)


def test_a_noted_owner_that_dies_is_freed_by_the_next_add(pods: tuple[Network, dict[str, Pod]]) -> None:
    """What is noted counts only while that very netns stands at its path."""
    network, found = pods
    for address in list(found)[:3]:
        found.pop(address).delete()
        network.reap()
        assert network.held() == set(found)


def test_another_netns_at_the_path_does_not_count(pods: tuple[Network, dict[str, Pod]]) -> None:
    """The path of a dead pod is a live one's by now, with the same inode number or another: the dead one's address goes."""
    network, found = pods
    address, pod = next(iter(found.items()))
    pod.delete()
    network.node.create_netns(pod.path)
    network.reap()
    assert address not in network.held()
    assert network.held() == set(found) - {address}


def test_another_reservation_at_the_address_does_not_count(pods: tuple[Network, dict[str, Pod]]) -> None:
    """The file is another container's by now, a dead one's, while the netns that was noted still stands."""
    network, found = pods
    address = next(iter(found))
    file = network.node.path(f"{DATA_DIR}/{NETWORK}/{address}")
    fresh = file.with_name("fresh")
    fresh.write_text(f"{container_id('dead')}\r\neth0")  # beside the old one, so that it has another inode
    fresh.rename(file)
    network.reap()
    assert network.held() == set(found) - {address}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"bootID": 1}', '{"bootID": "x", "live": []}', '{"live": {"a": 1}}'])
def test_a_broken_file_changes_nothing(pods: tuple[Network, dict[str, Pod]], content: str) -> None:
    """It is read as nothing, and written anew."""
    network, found = pods
    boot = json.loads(network.node.read(NOTED))["bootID"]
    network.node.write(NOTED, content.replace('"x"', json.dumps(boot)))
    next_to_go = next(iter(found))
    found.pop(next_to_go).delete()
    network.reap()
    assert network.held() == set(found)
    network.reap()
    assert set(json.loads(network.node.read(NOTED))["live"]) == set(found)


def test_note_of_another_file_with_the_same_inode_keeps_no_leak(network: Network) -> None:
    """A container gives an interface up and lives on; its address is the next one's, in a file of the same inode: that leak goes.

    A hard link does what ext4 does by itself: it gives the inode number to the next file.
    """
    node = network.node
    pods = {network.add(pod): pod for pod in [node.pod() for _ in range(12)]}
    call_reaper(network)  # notes who is alive
    address, pod = next(iter(pods.items()))
    file, pinned = node.path(f"{DATA_DIR}/{NETWORK}/{address}"), node.path("/var/lib/cni/pinned")
    os.link(file, pinned)
    other = network.add(pod, ifname="net1")
    network.give_back(pod)
    assert address not in network.held()
    pinned.write_bytes(f"{container_id('dead')}\r\neth0".encode())
    os.link(pinned, file)
    call_reaper(network)
    assert network.held() == {*pods, other} - {address}, node.log()
