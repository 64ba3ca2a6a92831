"""Live pods whose address the kernel does not show in their netns: each kind, by name, against each rule that could free it.

The address is taken off the interface of a real netns with a real process in it, and what maps the owner to its netns is lost: no
record, no cache entry, or a record whose path is gone. Then only the runtime still names the container, by a cgroup or by a task
directory. Such programs need hardware or a hypervisor of their own, so what each does to the netns is done here by hand.

| workload | what is left in the netns | test |
|---|---|---|
| gVisor (runsc's netstack) | eth0 without its address | test_gvisor_is_kept_by_its_task |
| DPDK on a host device (userspace driver) | eth0 without an address from the start | test_dpdk_is_kept_by_its_cgroup |
| vhost-user, VFIO | no interface at all | test_vhost_user_and_vfio_are_kept_by_their_task |
| KubeVirt's old bridge binding | eth0 as a port of a bridge, the address went into the VM | test_kubevirt_bridge_is_kept |
| macvtap given to a VM | a macvtap without an address | test_macvtap_given_to_a_vm_is_kept_by_podmans_directory |
| IPv6 only, its link set down | eth0; the kernel forgets IPv6 addresses of such a link | test_ipv6_only_with_link_down_is_kept |
"""

import json
from collections.abc import Callable

import pytest

from tests.support import agent, netns_holders
from tests.support.calls import (
    CONTAINERD_TASKS,
    GRACE_S,
    LISTED_AFTER_S,
    VALID_ATTACHMENTS,
    call_reaper,
    gc_with_list,
    reaped_reasons,
)
from tests.support.cni_calls import Pod
from tests.support.network import NETWORK, RANDOM_NAME, Network, container_id
from tests.support.node import NETNS_DIR, Node
from tests.support.views import without_namespace_ids

OWNER = container_id("workload")
OTHER = container_id("other")
REASONS = {"5": "netns-gone", "8": "no-netns-left", "9": "unclaimed", "10": "not-in-gc-list"}
CGROUPS = {
    "kubepods": f"0::/kubepods.slice/kubepods-pod6f0c.slice/cri-containerd-{OWNER}.scope",
    "cgroup v1": f"4:memory:/docker/{OWNER}\n1:name=systemd:/docker/{OWNER}",
    "podman": f"0::/machine.slice/libpod-{OWNER}.scope/container",
}
TASKS = {
    "containerd": f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{OWNER}",
    "k3s": f"/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/{OWNER}",
    "containers": f"/run/containers/storage/overlay-containers/{OWNER}",
}

CACHED_NETNS = f"{NETNS_DIR}/cni-3f2b8c1e-9d47-4a6b-8e05-c17a40f9d2b3"

Hide = Callable[[Pod, str], None]

rows = pytest.mark.parametrize("row", ["5", "8", "9", "10"])


def veth(pod: Pod, address: str, ifname: str = "eth0") -> None:
    """Give a pod its interface with its address, as an interface plugin does."""
    pod.node.add_link(ifname, "veth", pod.path, peer=f"{ifname}-far")
    pod.node.add_address(ifname, address, pod.path)


class Workload:
    """A pod that has given up its address, and how it can be freed in the eyes of one row of the table."""

    def __init__(self, node: Node, row: str, hide: Hide, named_by: str, subnet: str = "10.66.0.0/24") -> None:
        """Start it, and lose what maps it.

        hide: what the workload does to its netns; row: of docs/evidence.md, that alone would free it; named_by: a key of
        CGROUPS or TASKS.
        """
        self.node, self.row, self.named_by = node, row, named_by
        self.network = Network(node, subnet)
        self.dead = self.network.leak()
        if row == "5":
            without_namespace_ids(node)  # the kernel's own number would prove the netns
        self.pod = node.pod("workload")
        self.process = netns_holders.by_process(self.pod)
        if row == "5":
            self.node.plugin("ADD", {**self.network.head, "reapOn": []}, netns=self.pod, container_id=OWNER).check()
        self.address = self.network.take(self.pod, OWNER)
        hide(self.pod, self.address + ("/64" if ":" in self.address else "/24"))
        assert self.address not in str(node.addresses(self.pod.path))
        if row == "5":
            netns_holders.unpin(self.pod)
        self.others = self._account() if row in ("5", "8") else set()
        self._name()
        self._waited = 0

    def _account(self) -> set[str]:
        """Have the netns known to be another container's, by its record; in row 5 by a cache entry, as before cni-reaper came."""
        path = self.pod.path
        if self.row == "5":
            path = CACHED_NETNS
            self.node.write(path, "")
            self.node.mount(f"/proc/{self.process}/ns/net", path, flags=agent.MS_BIND)
            entry = {"kind": "cniCacheV1", "netns": path, "result": {}}
            self.node.write(f"/var/lib/cni/results/{NETWORK}-{OTHER}-eth0", json.dumps(entry))
        else:
            self.node.plugin("ADD", {**self.network.head, "reapOn": []}, netns=path, container_id=OTHER).check()
        other = self.network.take(self.pod, OTHER)
        self.node.add_address("lo", f"{other}/{128 if ':' in other else 32}", path)
        return {other}

    def _name(self) -> None:
        """Have the runtime name the container."""
        if self.named_by in TASKS:
            self.node.path(TASKS[self.named_by]).mkdir(parents=True)
        else:
            self.node.write("/run/cgroup", CGROUPS[self.named_by] + "\n")
            self.node.mount("/run/cgroup", f"/proc/{self.process}/cgroup", flags=agent.MS_BIND)

    def sweep(self) -> None:
        """Reap as the row would: at once, after the time that an unmapped owner is waited for, or with GC's list."""
        self._once("ADD")
        if self.row == "9":
            self._waited += 2 * GRACE_S
            self._once("ADD")
        elif self.row == "10":
            self._waited += 2 * LISTED_AFTER_S
            self._once("GC")

    def _once(self, verb: str) -> None:
        if verb == "GC":
            conf = {**self.network.head, "cniVersion": "1.1.0", VALID_ATTACHMENTS: [{"containerID": OTHER, "ifname": "eth0"}]}
            self.node.plugin("GC", conf, waited=self._waited).check()
            return
        own = self.node.pod()
        self.node.plugin("ADD", self.network.head, netns=own, container_id=container_id(own.name), waited=self._waited).check()
        own.delete()

    def die(self) -> None:
        """End the pod without a DEL."""
        if self.named_by in TASKS:
            self.node.path(TASKS[self.named_by]).rmdir()
        self.node.stop(self.process)
        if self.row == "5":
            self.node.umount(CACHED_NETNS)
            self.node.path(CACHED_NETNS).unlink()
        else:
            self.pod.delete()

    def forget_the_name(self) -> None:
        """Let the runtime no longer name the container, which lives: then the row frees it, so the name alone was its keeper."""
        if self.named_by in TASKS:
            self.node.path(TASKS[self.named_by]).rmdir()
        else:
            self.node.umount(f"/proc/{self.process}/cgroup")


def assert_kept_and_freed(workload: Workload) -> None:
    """The pod's address is kept while it lives, a leak beside it is freed, and its own is when it is dead."""
    network = workload.network
    workload.sweep()
    assert network.held() == {workload.address, *workload.others}, (workload.dead, network.node.log())
    workload.sweep()
    assert network.held() == {workload.address, *workload.others}
    workload.die()
    workload.sweep()
    assert network.held() == set(), network.node.log()


@rows
def test_gvisor_is_kept_by_its_task(node: Node, row: str) -> None:
    """Runsc takes the address off eth0 and answers for it itself: kept while a containerd task has its name."""

    def hide(pod: Pod, address: str) -> None:
        veth(pod, address)
        node.delete_address("eth0", address, pod.path)

    assert_kept_and_freed(Workload(node, row, hide, "containerd"))


@rows
def test_dpdk_is_kept_by_its_cgroup(node: Node, row: str) -> None:
    """IPAM gives an address that no interface ever gets, the device has a userspace driver: kept while its cgroup is there."""

    def hide(pod: Pod, _: str) -> None:
        node.add_link("eth0", "veth", pod.path, peer="device")

    assert_kept_and_freed(Workload(node, row, hide, "kubepods"))


@rows
def test_vhost_user_and_vfio_are_kept_by_their_task(node: Node, row: str) -> None:
    """The pod's only network is a socket of a virtual switch, or a PCI device: kept while a task of k3s has its name."""

    def hide(pod: Pod, _: str) -> None:
        assert "eth0" not in pod.links()

    assert_kept_and_freed(Workload(node, row, hide, "k3s"))


@rows
def test_kubevirt_bridge_is_kept(node: Node, row: str) -> None:
    """Eth0 becomes a port of the VM's bridge, and its address the VM's: kept while its cgroup (v1) is there."""

    def hide(pod: Pod, address: str) -> None:
        veth(pod, address)
        node.delete_address("eth0", address, pod.path)
        node.add_link("k6t-eth0", "bridge", pod.path)
        node.run(["ip", "link", "set", "eth0", "master", "k6t-eth0"], netns=pod).check()
        assert pod.links()["eth0"]["master"] == "k6t-eth0"

    assert_kept_and_freed(Workload(node, row, hide, "cgroup v1"))


@rows
def test_macvtap_given_to_a_vm_is_kept_by_podmans_directory(node: Node, row: str) -> None:
    """A second interface becomes a VM's tap, the address is inside the VM: kept while Podman's directory of it is there."""

    def hide(pod: Pod, address: str) -> None:
        veth(pod, address, "net1")
        node.delete_address("net1", address, pod.path)
        node.run(["ip", "link", "add", "link", "net1", "name", "macvtap0", "type", "macvtap"], netns=pod)  # not in every kernel

    assert_kept_and_freed(Workload(node, row, hide, "containers"))


@rows
def test_ipv6_only_with_link_down_is_kept(node: Node, row: str) -> None:
    """The kernel forgets the IPv6 addresses of a link that is set down: kept while Podman's cgroup of it is there."""

    def hide(pod: Pod, address: str) -> None:
        veth(pod, address)
        node.change_link("eth0", pod.path, state="down")

    assert_kept_and_freed(Workload(node, row, hide, "podman", "fd66::/64"))


@rows
@pytest.mark.parametrize("named_by", ["containerd", "kubepods"])
def test_hidden_workload_without_a_name_is_freed(node: Node, row: str, named_by: str) -> None:
    """Without the runtime's word for it each row does free such a pod: what the tests above keep, that word keeps."""

    def hide(_: Pod, __: str) -> None:
        pass

    workload = Workload(node, row, hide, named_by)
    workload.sweep()
    assert workload.address in workload.network.held()
    workload.forget_the_name()
    node.path(f"/run/cni-reaper/{NETWORK}.json").unlink()  # as ten seconds do: the process still stands that had the name
    workload.sweep()
    assert workload.address not in workload.network.held()
    assert REASONS[row] in {line["reason"] for line in node.log("reaped") if line["address"] == workload.address}


@pytest.mark.parametrize("row", ["8", "9", "10"])
def test_task_directory_keeps_owner_that_nothing_maps(network: Network, row: str) -> None:
    """No record, no cache, no address in the netns: the runtime's task directory keeps it, whichever row would free it."""
    node = network.node
    pod, owner = node.pod("gvisor"), container_id("gvisor")
    address = network.take(pod, owner)
    if row == "8":
        node.plugin("ADD", {**network.head, "reapOn": []}, netns=pod, container_id=container_id("other")).check()
    tasks = node.path(f"{CONTAINERD_TASKS}/{owner}")
    tasks.mkdir(parents=True)
    call_reaper(network)
    if row == "9":
        call_reaper(network, waited=2 * GRACE_S)
    elif row == "10":
        gc_with_list(network, [container_id("other")], waited=2 * LISTED_AFTER_S)
    assert network.held() == {address}, node.log()
    tasks.rmdir()
    if row == "9":
        call_reaper(network, waited=4 * GRACE_S)
    elif row == "10":
        gc_with_list(network, [container_id("other")], waited=4 * LISTED_AFTER_S)
    else:
        call_reaper(network)
    assert network.held() == set()
    assert reaped_reasons(network) == {{"8": "no-netns-left", "9": "unclaimed", "10": "not-in-gc-list"}[row]}


def test_ipv6_address_of_link_down_is_kept_by_its_cgroup(node: Node) -> None:
    """The pod sets its link down and the kernel forgets the address: a process in the pod's cgroup keeps it."""
    network = Network(node, subnet="fd66::/64")
    pod, owner = node.pod("pod"), container_id("pod")
    process = netns_holders.by_process(pod)
    address = network.take(pod, owner)
    node.add_link("eth0", "veth", pod.path, peer="far")
    node.add_address("eth0", f"{address}/64", pod.path)
    call_reaper(network)
    call_reaper(network, waited=GRACE_S)
    assert network.held() == {address}
    node.change_link("eth0", pod.path, state="down")
    assert pod.addresses() == []
    node.write("/run/cgroup", f"0::/system.slice/docker-{owner}.scope\n")
    node.mount("/run/cgroup", f"/proc/{process}/cgroup", flags=agent.MS_BIND)
    call_reaper(network, waited=2 * GRACE_S)
    call_reaper(network, waited=4 * GRACE_S)
    assert network.held() == {address}, node.log()
    node.stop(process)
    pod.delete()
    call_reaper(network, waited=4 * GRACE_S + 20)
    assert network.held() == set()


@pytest.mark.usefixtures("live_pod")
def test_task_directory_keeps_owner_with_uuid(network: Network) -> None:
    """Concourse and Nomad give UUIDs; the sandbox hides its address."""
    node, owner = network.node, RANDOM_NAME.removeprefix("cni-")
    address = network.take(node.pod("vm"), owner)
    node.write(f"/run/containerd/io.containerd.runtime.v2.task/concourse/{owner}/config.json", "{}")
    for waited in (0, 20, 1600, 3300):
        own = node.pod()
        node.plugin("ADD", network.head, netns=own, container_id=container_id(own.name), waited=waited).check()
        own.delete()
        assert address in network.held(), node.log("reaped")
