"""An upgrade with a reboot, verified as docs/runtimes.md tells an operator to do it by hand; kubelet above containerd.

The reboot of a private node: all processes and netns, /run and the boot ID are lost, the disk stays. The files of the leaks are
touched again, as a provisioner did that made old reservations look recent: a file's mtime must not count.
"""

import os

from tests.runtimes.chain import EXHAUSTED, NETWORK, ROOM, chain, held, owners
from tests.runtimes.containerd import LOG as CONTAINERD_LOG
from tests.runtimes.containerd import Containerd
from tests.runtimes.kubelet import LOG as KUBELET_LOG
from tests.runtimes.kubelet import Kubelet
from tests.support.node import Node
from tests.support.node_files import DATA_DIR
from tests.support.waiting import until

PODS = ("a", "b")


def test_upgrade_with_reboot_fails_no_pod(node: Node) -> None:
    """The pool is full of sentinels and live pods at the reboot: no pod fails afterwards, and the live alone have an address."""
    kubelet = Kubelet(node, Containerd(node))
    chain(node, True)
    kubelet.begin()
    for name in PODS:
        kubelet.place(name)
        kubelet.wait_ready(name)
    live = owners(node)
    free = sorted({f"10.88.0.{number}" for number in range(2, 7)} - held(node))
    assert len(free) == ROOM - len(PODS)
    for number, address in enumerate(free):
        node.reserve(NETWORK, address, f"{number:x}" * 64)  # sentinels: what a node loses in months
    node.reboot()
    for address in free:
        os.utime(node.path(f"{DATA_DIR}/{NETWORK}/{address}"))
    kubelet.place("new")
    kubelet.begin()
    until(lambda: set(kubelet.ready()) == {*PODS, "new"}, "all pods are Ready", 180)
    until(lambda: not owners(node) & live, "the old sandboxes are gone", 180)
    addresses = kubelet.ready()
    assert held(node) == set(addresses.values()), node.log()
    assert len(set(addresses.values())) == len(addresses)
    for address in addresses.values():
        assert node.answers(address)
    for log in (KUBELET_LOG, CONTAINERD_LOG):
        assert EXHAUSTED not in node.read(log)
    reaped = [line["address"] for line in node.log("reaped")]
    assert set(free) <= set(reaped)
