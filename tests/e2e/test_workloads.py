"""Live pods whose address the kernel does not show in their netns: each kind, by name, against each rule that could free it.

The address is taken off the interface of a real netns with a real process in it, and what maps the owner to its netns is lost: no
record, no cache entry, or a record whose path is gone. Then only the runtime still names the container, by a cgroup or by a task
directory. Such programs need hardware or a hypervisor of their own, so what each does to the netns is done here by hand.

| workload | what is left in the netns | test |
|---|---|---|
| gVisor (runsc's netstack) | eth0 without its address | test_gvisor |
| DPDK on a host device (userspace driver) | eth0 without an address from the start | test_dpdk |
| vhost-user, VFIO | no interface at all | test_vhost_user_and_vfio |
| KubeVirt's old bridge binding | eth0 as a port of a bridge, the address went into the VM | test_kubevirt_bridge_binding |
| macvtap given to a VM | a macvtap without an address | test_macvtap_given_to_a_vm |
| IPv6 only, its link set down | eth0; the kernel forgets IPv6 addresses of such a link | test_ipv6_only_with_its_link_down |
"""

import json
from collections.abc import Callable

import pytest

from tests import inside
from tests.e2e import holders
from tests.e2e.pair import NETWORK, Pair, container_id
from tests.e2e.test_past_lives import without_namespace_ids
from tests.node import NETNS_DIR, Node, Pod

GRACE_S = 1500
LISTED_AFTER_S = 120
LIST = "cni.dev/valid-attachments"
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
        self.pair = Pair(node, subnet)
        self.dead = self.pair.leak()
        if row == "5":
            without_namespace_ids(node)  # the kernel's own number would prove the netns
        self.pod = node.pod("workload")
        self.process = holders.by_process(self.pod)
        if row == "5":
            self.node.plugin("ADD", {**self.pair.head, "reapOn": []}, netns=self.pod, container_id=OWNER).check()
        self.address = self.pair.take(self.pod, OWNER)
        hide(self.pod, self.address + ("/64" if ":" in self.address else "/24"))
        assert self.address not in str(node.addresses(self.pod.path))
        if row == "5":
            holders.unpin(self.pod)
        self.others = self._account() if row in ("5", "8") else set()
        self._name()
        self._waited = 0

    def _account(self) -> set[str]:
        """Have the netns known to be another container's, by its record; in row 5 by a cache entry, as before cni-reaper came."""
        path = self.pod.path
        if self.row == "5":
            path = CACHED_NETNS
            self.node.write(path, "")
            self.node.mount(f"/proc/{self.process}/ns/net", path, flags=inside.MS_BIND)
            entry = {"kind": "cniCacheV1", "netns": path, "result": {}}
            self.node.write(f"/var/lib/cni/results/{NETWORK}-{OTHER}-eth0", json.dumps(entry))
        else:
            self.node.plugin("ADD", {**self.pair.head, "reapOn": []}, netns=path, container_id=OTHER).check()
        other = self.pair.take(self.pod, OTHER)
        self.node.add_address("lo", f"{other}/{128 if ':' in other else 32}", path)
        return {other}

    def _name(self) -> None:
        """Have the runtime name the container."""
        if self.named_by in TASKS:
            self.node.path(TASKS[self.named_by]).mkdir(parents=True)
        else:
            self.node.write("/run/cgroup", CGROUPS[self.named_by] + "\n")
            self.node.mount("/run/cgroup", f"/proc/{self.process}/cgroup", flags=inside.MS_BIND)

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
            conf = {**self.pair.head, "cniVersion": "1.1.0", LIST: [{"containerID": OTHER, "ifname": "eth0"}]}
            self.node.plugin("GC", conf, waited=self._waited).check()
            return
        own = self.node.pod()
        self.node.plugin("ADD", self.pair.head, netns=own, container_id=container_id(own.name), waited=self._waited).check()
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
    pair = workload.pair
    workload.sweep()
    assert pair.held() == {workload.address, *workload.others}, (workload.dead, pair.node.log())
    workload.sweep()
    assert pair.held() == {workload.address, *workload.others}
    workload.die()
    workload.sweep()
    assert pair.held() == set(), pair.node.log()


@rows
def test_gvisor(node: Node, row: str) -> None:
    """Runsc takes the address off eth0 and answers for it itself: kept while a containerd task has its name."""

    def hide(pod: Pod, address: str) -> None:
        veth(pod, address)
        node.delete_address("eth0", address, pod.path)

    assert_kept_and_freed(Workload(node, row, hide, "containerd"))


@rows
def test_dpdk(node: Node, row: str) -> None:
    """IPAM gives an address that no interface ever gets, the device has a userspace driver: kept while its cgroup is there."""

    def hide(pod: Pod, _: str) -> None:
        node.add_link("eth0", "veth", pod.path, peer="device")

    assert_kept_and_freed(Workload(node, row, hide, "kubepods"))


@rows
def test_vhost_user_and_vfio(node: Node, row: str) -> None:
    """The pod's only network is a socket of a virtual switch, or a PCI device: kept while a task of k3s has its name."""

    def hide(pod: Pod, _: str) -> None:
        assert "eth0" not in pod.links()

    assert_kept_and_freed(Workload(node, row, hide, "k3s"))


@rows
def test_kubevirt_bridge_binding(node: Node, row: str) -> None:
    """Eth0 becomes a port of the VM's bridge, and its address the VM's: kept while its cgroup (v1) is there."""

    def hide(pod: Pod, address: str) -> None:
        veth(pod, address)
        node.delete_address("eth0", address, pod.path)
        node.add_link("k6t-eth0", "bridge", pod.path)
        node.run(["ip", "link", "set", "eth0", "master", "k6t-eth0"], netns=pod).check()
        assert pod.links()["eth0"]["master"] == "k6t-eth0"

    assert_kept_and_freed(Workload(node, row, hide, "cgroup v1"))


@rows
def test_macvtap_given_to_a_vm(node: Node, row: str) -> None:
    """A second interface becomes a VM's tap, the address is inside the VM: kept while Podman's directory of it is there."""

    def hide(pod: Pod, address: str) -> None:
        veth(pod, address, "net1")
        node.delete_address("net1", address, pod.path)
        node.run(["ip", "link", "add", "link", "net1", "name", "macvtap0", "type", "macvtap"], netns=pod)  # not in every kernel

    assert_kept_and_freed(Workload(node, row, hide, "containers"))


@rows
def test_ipv6_only_with_its_link_down(node: Node, row: str) -> None:
    """The kernel forgets the IPv6 addresses of a link that is set down: kept while Podman's cgroup of it is there."""

    def hide(pod: Pod, address: str) -> None:
        veth(pod, address)
        node.change_link("eth0", pod.path, state="down")

    assert_kept_and_freed(Workload(node, row, hide, "podman", "fd66::/64"))


@rows
@pytest.mark.parametrize("named_by", ["containerd", "kubepods"])
def test_nothing_but_its_name_keeps_it(node: Node, row: str, named_by: str) -> None:
    """Without the runtime's word for it each row does free such a pod: what the tests above keep, that word keeps."""

    def hide(_: Pod, __: str) -> None:
        pass

    workload = Workload(node, row, hide, named_by)
    workload.sweep()
    assert workload.address in workload.pair.held()
    workload.forget_the_name()
    node.path(f"/run/cni-reaper/{NETWORK}.json").unlink()  # as ten seconds do: the process still stands that had the name
    workload.sweep()
    assert workload.address not in workload.pair.held()
    assert REASONS[row] in {line["reason"] for line in node.log("reaped") if line["address"] == workload.address}
