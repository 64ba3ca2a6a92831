"""Pools that are full of leaks, and the pods of such a node."""

from tests.support.cni_calls import Pod
from tests.support.commands import Ran
from tests.support.node import Node

EXHAUSTED = "no IP addresses available in range set"


def of_kubernetes(pod: Pod) -> dict[str, str]:
    """Return what the kubelet says of a pod in CNI_ARGS."""
    told = {"IgnoreUnknown": "1", "K8S_POD_NAMESPACE": "default", "K8S_POD_NAME": pod.name, "K8S_POD_UID": f"uid-{pod.name}"}
    return {"CNI_ARGS": ";".join(f"{name}={value}" for name, value in told.items())}


def fill(node: Node, network: str, kubernetes: bool = False) -> list[Pod]:
    """Add pods until the pool is exhausted; return those that have an address. kubernetes: they are pods of a kubelet."""
    pods: list[Pod] = []
    while True:
        pod = node.pod()
        ran = node.cnitool("add", network, pod, env=of_kubernetes(pod) if kubernetes else None)
        if ran.rc != 0:
            assert EXHAUSTED in ran.text, str(ran)
            pod.delete()
            return pods
        pods.append(pod)
        assert len(pods) < 16, "the pool is larger than meant"


def add_to_fresh_pod(node: Node, network: str) -> tuple[Pod, Ran]:
    """Run ADD for a new namespace: a namespace that a failed bridge ADD has seen keeps half a veth pair."""
    pod = node.pod()
    return pod, node.cnitool("add", network, pod)


def held_by(node: Node, network: str, pod: Pod) -> set[str]:
    """Return the addresses that the store has for a pod."""
    return {address for address, owner in node.reservations(network).items() if owner == (pod.container_id, "eth0")}


def addresses_of(pod: Pod) -> set[str]:
    """Return the addresses that a pod really has, without their prefix lengths."""
    return {address.partition("/")[0] for address in pod.addresses()}


def assert_untouched(node: Node, network: str, pod: Pod, addresses: set[str]) -> None:
    """Assert that a live pod has its reservations and its addresses, and answers at each."""
    assert addresses
    assert held_by(node, network, pod) == addresses
    assert addresses_of(pod) == addresses
    for address in addresses:
        assert node.answers(address), f"the live pod does not answer at {address}"
