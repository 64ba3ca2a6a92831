"""The kubelet's own retries fill a pool, its own reboot and restarts do not; containerd 2 below it, static pods above."""

import signal

import pytest

from tests.runtimes import kubelet_demo
from tests.runtimes.chain import EXHAUSTED, NETWORK, Control, chain, held, owners
from tests.runtimes.containerd import LOG as CONTAINERD_LOG
from tests.runtimes.containerd import Containerd
from tests.runtimes.kubelet import Kubelet
from tests.support.node import Node
from tests.support.waiting import until


@pytest.fixture
def kubelet(node: Node) -> Kubelet:
    """A kubelet above a containerd, not started."""
    return Kubelet(node, Containerd(node))


def control_of(kubelet: Kubelet) -> Control:
    """Start the control pod."""
    kubelet.place("control")
    address = kubelet.wait_ready("control")
    return Control(kubelet.node, kubelet.node.reservations(NETWORK)[address][0], address)


def test_retries_fill_the_pool(kubelet: Kubelet) -> None:
    """The demo: a later plugin is missing, the kubelet's retries fill a /29; after the repair the pod stays stuck without us."""
    steps: list[str] = []
    kubelet_demo.tell(kubelet, steps.append)
    assert any(EXHAUSTED in step for step in steps)
    assert "Ready" in steps[-1]


def test_retries_leak_nothing_with_us(kubelet: Kubelet) -> None:
    """With us at the head from the start the retries fill nothing, and the pod is Ready at the first try after the repair."""
    node = kubelet.node
    chain(node, True)
    kubelet.begin()
    control = control_of(kubelet)
    kubelet.break_chain(us=True)
    kubelet.place("web")
    until(lambda: kubelet.failures("not-installed") >= 4, "the kubelet has tried four times", 120)
    assert len(held(node)) <= 2, node.log()
    kubelet.repair_chain(us=True)
    address = kubelet.wait_ready("web")
    assert held(node) == {control.address, address}, node.log()
    assert EXHAUSTED not in node.read(CONTAINERD_LOG)
    control.check()


def test_reboot_frees_old_sandboxes_and_keeps_new(kubelet: Kubelet) -> None:
    """The kubelet stops the old sandboxes late, some time after the new ones run: those are not touched, the old are freed."""
    node = kubelet.node
    chain(node, True)
    kubelet.begin()
    for name in ("a", "b"):
        kubelet.place(name)
    before = {name: kubelet.wait_ready(name) for name in ("a", "b")}
    old = owners(node)
    node.reboot()
    kubelet.begin()
    until(lambda: set(kubelet.ready()) == set(before) and not owners(node) & old, "the pods are new", 120)
    after = kubelet.ready()
    assert {address: owner for address, (owner, _) in node.reservations(NETWORK).items()}.keys() == set(after.values())
    for address in after.values():
        assert node.answers(address)
    assert EXHAUSTED not in node.read(CONTAINERD_LOG)


def test_new_sandbox_frees_the_old_address_once(kubelet: Kubelet) -> None:
    """A pod's shim and pause are killed: the kubelet makes a new sandbox, and the old one's address is freed once, not twice."""
    node = kubelet.node
    chain(node, True)
    kubelet.begin()
    control = control_of(kubelet)
    kubelet.place("web")
    first = kubelet.wait_ready("web")
    (old,) = owners(node) - {control.owner}
    node.run(["pkill", "-KILL", "-f", f"containerd-shim-runc-v2 .*-id {old}"])
    until(lambda: owners(node) - {control.owner, old}, "there is a new sandbox", 120)
    until(lambda: old not in owners(node), "the old one is freed", 120)
    (address,) = held(node) - {control.address}
    assert address != first
    until(lambda: kubelet.ready().get("web") == address, "the pod is Ready", 120)
    control.check()


def test_pods_keep_addresses_while_kubelet_and_runtime_restart(kubelet: Kubelet) -> None:
    """The kubelet and containerd are killed and started again while pods run: they keep their addresses."""
    node = kubelet.node
    chain(node, True)
    kubelet.begin()
    control = control_of(kubelet)
    kubelet.stop(signal.SIGKILL)
    kubelet.containerd.stop(signal.SIGKILL)
    kubelet.begin()
    kubelet.place("web")
    address = kubelet.wait_ready("web")
    assert held(node) == {control.address, address}
    kubelet.take("web")
    until(lambda: held(node) == {control.address}, "the pod is gone", 60)
    control.check()
    assert node.log("reaped") == []
