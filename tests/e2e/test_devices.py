"""What a dead pod leaves that only piles up: bandwidth's device goes where nobody waits, and its address waits for nothing."""

from collections.abc import Callable

import pytest

from tests.support.cni_calls import BIN, Pod, bridge, host_local, reaper
from tests.support.network import container_id
from tests.support.node import Node
from tests.support.node_files import Conf

NETWORK = "net"
LIMIT = {"bandwidth": {"ingressRate": 8000000, "ingressBurst": 8000000, "egressRate": 8000000, "egressBurst": 8000000}}
HEAD: Conf = {"cniVersion": "1.1.0", "name": NETWORK, **reaper(logLevel="debug")}


@pytest.fixture
def chain(node: Node) -> Node:
    """A node whose pods may have a limit, and one of which lives with one."""
    node.conflist(
        NETWORK, [reaper(), bridge(host_local("10.55.0.0/24")), {"type": "bandwidth", "capabilities": {"bandwidth": True}}]
    )
    add(node, LIMIT)
    return node


def add(node: Node, limit: Conf | None) -> Pod:
    """Start a pod."""
    pod = node.pod()
    node.cnitool("add", NETWORK, pod, capabilities=limit).check()
    return pod


def leak(node: Node, *limits: Conf | None) -> None:
    """Start pods, and lose them all at once: the next ADD would free each."""
    for pod in [add(node, limit) for limit in limits]:
        pod.delete()


def devices(node: Node) -> int:
    """Return how many devices of the plugin there are."""
    return sum(name.startswith("bwp") for name in node.links())


def collect(node: Node) -> None:
    """Run GC, without a list."""
    node.plugin("GC", HEAD).check()


def reap(node: Node) -> None:
    """Run a person's sweep."""
    node.run([f"{BIN}/cni-reaper", "reap"]).check()


@pytest.mark.parametrize("sweep", [collect, reap])
def test_gc_and_reap_remove_devices_of_the_dead_only(chain: Node, sweep: Callable[[Node], None]) -> None:
    """GC and `reap` take the devices of the dead, and no other; without a limit the plugin is not run."""
    leak(chain, LIMIT, LIMIT, None)
    assert devices(chain) == 3
    place = chain.path(f"{BIN}/bandwidth")
    real = place.readlink()
    place.unlink()
    place.write_text(f"#!/bin/sh\necho $CNI_COMMAND $CNI_NETNS >>/run/called\nexec {real}\n")
    place.chmod(0o755)
    sweep(chain)
    assert len(chain.reservations(NETWORK)) == 1
    assert devices(chain) == 1
    assert chain.read("/run/called").split() == ["DEL", "DEL"]


def test_add_frees_address_and_leaves_device(chain: Node) -> None:
    """The control: the start of a pod frees the address, and runs nothing for the device."""
    add(chain, LIMIT).delete()
    chain.plugin("ADD", HEAD, netns=chain.pod(), container_id=container_id("own")).check()
    assert len(chain.reservations(NETWORK)) == 1
    assert devices(chain) == 2


@pytest.mark.parametrize("script", ["exit 1", "sleep 600", None], ids=["fails", "hangs", "missing"])
def test_failed_device_removal_keeps_no_address(chain: Node, script: str | None) -> None:
    """The addresses are freed; the first failure is the last try, and it is said in the log."""
    leak(chain, LIMIT, LIMIT, LIMIT)
    place = chain.path(f"{BIN}/bandwidth")
    place.unlink()
    if script is not None:
        place.write_text(f"#!/bin/sh\necho x >>/run/called\n{script}\n")
        place.chmod(0o755)
    collect(chain)
    assert len(chain.reservations(NETWORK)) == 1
    assert len(chain.log("device-left")) == 1
    if script is not None:
        assert chain.read("/run/called").split() == ["x"]


def test_device_stays_while_another_attachment_is_recorded(chain: Node) -> None:
    """The device is the container's in this network: while a record says that it has another attachment there, it stays."""
    pod = add(chain, LIMIT)
    pod.delete()
    again = chain.pod()
    head = {**HEAD, "reapOn": ["GC"]}
    chain.plugin("ADD", head, netns=again, container_id=pod.container_id, ifname="eth1").check()
    assert len(chain.reservations(NETWORK)) == 2
    collect(chain)
    assert len(chain.reservations(NETWORK)) == 1
    assert devices(chain) == 2
