"""Netns that nobody maps and that are no pod's: another container's, a service's, docker's. And those that only look so.

Rows B16 and B22 of the facts about other nodes; docs/evidence.md has the rules. No owner here has a record. In each test that
keeps something a pod is in flight in the netns in question, or hides its address: nothing shows that it is there. Where a netns
is a systemd unit's or a docker container's, its processes' cgroup files are put in their place; one test has real cgroups.
"""

import json
from collections.abc import Callable

import pytest

from tests.runtimes.cgroups import own_cgroups
from tests.support import agent, netns_holders
from tests.support.cni_calls import Pod, bridge, host_local, reaper
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import NETNS_DIR, Node
from tests.support.waiting import until

LEAKS = ("one", "two", "three", "four")
LIVING, DEAD, OWNER, THIRD = (container_id(name) for name in ("living", "dead", "owner", "third"))
DOCKERS = "/run/docker/netns"
LOOKED_AGAIN_S = 20
ALLOCATION = "5b0f7d8e-3c1a-9e42-7d60-1f2e3a4b5c6d"
"""An ID that Nomad gives."""


@pytest.fixture
def network(node: Node) -> Network:
    """A network of five addresses, whose chain cni-reaper was not in until now."""
    return Network(node, "10.66.0.0/29")


def leak(network: Network, name: str = "leak") -> str:
    """Leave the address of a container that nobody maps."""
    pod = network.node.pod()
    address = network.take(pod, container_id(name))
    pod.delete()
    return address


def cached(node: Node, owner: str, path: str, network: str = NETWORK) -> None:
    """Write libcni's entry of an attachment."""
    node.write(f"/var/lib/cni/results/{network}-{owner}-eth0", json.dumps({"kind": "cniCacheV1", "netns": path, "result": {}}))


def in_cgroup(node: Node, pid: int, text: str) -> None:
    """Have a process in the cgroups of this text."""
    place = f"/run/cgroup-of-{pid}"
    node.write(place, text + "\n")
    node.mount(place, f"/proc/{pid}/cgroup", flags=agent.MS_BIND)


def process_path(pid: int) -> str:
    """Return the path of a process's netns."""
    return f"/proc/{pid}/ns/net"


def unmounted(node: Node, name: str = "unit") -> tuple[Pod, int]:
    """Return a netns that only a process keeps, and its ID."""
    pod = node.pod(name)
    process = netns_holders.by_process(pod)
    netns_holders.unpin(pod)
    return Pod(node, name, process_path(process)), process


# Another container's, by what it shows


def test_a_full_old_node_heals_beside_a_pod_of_ip_netns(node: Node) -> None:
    """B22: cnitool and `ip netns add blue`; four of five addresses are leaked, and the first ADD with us in the chain has one."""
    plugin = bridge(host_local("10.66.0.0/29"))
    node.conflist("net", [plugin])
    living, *dead = [node.pod(name) for name in ("blue", *LEAKS)]
    for pod in (living, *dead):
        node.cnitool("add", "net", pod).check()
    for pod in dead:
        pod.delete()
    node.conflist("net", [reaper(), plugin])
    last = node.pod("last")
    node.cnitool("add", "net", last).check()
    assert {owner for owner, _ in node.reservations("net").values()} == {living.container_id, last.container_id}, node.log()


PLACES = ("a cache entry", "its own ID as its name", "cnitool's ID", "a cache entry of a process", "the cgroup of its process")


@pytest.mark.parametrize("placed_by", PLACES)
def test_a_netns_that_shows_a_containers_address_is_its(network: Network, placed_by: str) -> None:
    """B22: a name that comes again, or a process's path (cri-dockerd): with its address in it, the netns is nobody else's."""
    node = network.node
    blue = node.pod(LIVING if placed_by == "its own ID as its name" else "blue")
    owner = blue.container_id if placed_by == "cnitool's ID" else LIVING
    kept = network.take(blue, owner)
    node.add_address("lo", f"{kept}/32", blue.path)
    process = netns_holders.by_process(blue)
    if "process" in placed_by:
        netns_holders.unpin(blue)
    if placed_by == "the cgroup of its process":
        in_cgroup(node, process, f"0::/kubepods.slice/kubepods-pod6f0c.slice/docker-{owner}.scope")
    elif "cache" in placed_by:
        cached(node, owner, process_path(process) if "process" in placed_by else blue.path)
    dead = {leak(network, name) for name in LEAKS}
    assert len(dead | {kept}) == 5
    network.reap()
    assert network.held() == {kept}, node.log()
    node.stop(process)
    if "process" not in placed_by:
        blue.delete()
    network.reap()
    stays = placed_by == "a cache entry of a process"  # in a PID namespace that is not the host's: the process may be elsewhere
    assert network.held() == ({kept} if stays else set()), node.log()


class Blue:
    """A netns at /run/netns/blue that shows what is reserved for DEAD, whose cache entry leads there, and hides OWNER's address.

    It is the owner's: DEAD had another netns at that path. An address of the network is shown in the netns of a third container.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.network = Network(node)
        self.pod = node.pod("blue")
        self.others: list[Pod] = []
        self.shown = self.network.take(self.pod, DEAD)
        self.hidden = self.network.take(self.pod, OWNER)
        cached(node, DEAD, self.pod.path)
        node.add_address("lo", f"{self.shown}/32", self.pod.path)
        third = node.pod("third")
        self.third = self.network.take(third, THIRD)
        cached(node, THIRD, third.path)
        node.add_address("lo", f"{self.third}/32", third.path)

    def nothing_leads(self) -> None:
        """Another IPAM, whose range overlaps, has given the owner the address: an address alone places nobody."""
        self.node.path(f"/var/lib/cni/results/{NETWORK}-{DEAD}-eth0").unlink()

    def shown_twice(self) -> None:
        """The address is in another netns as well: one of them is not the one for which it is reserved."""
        self.others.append(self.node.pod("other"))
        self.node.add_address("lo", f"{self.shown}/32", self.others[0].path)

    def reserved_twice(self) -> None:
        """A second network has the same range, and has given it to another container."""
        self.node.reserve("two", self.shown, container_id("of another network"))

    def placed_twice(self) -> None:
        """An entry places a second container in the netns, and where there are two there may be three."""
        self.node.reserve("two", "10.67.0.2", container_id("second"))
        cached(self.node, container_id("second"), self.pod.path, "two")

    def shows_two(self) -> None:
        """The netns shows the addresses of two containers."""
        second = self.network.take(self.pod, container_id("second"))
        self.node.add_address("lo", f"{second}/32", self.pod.path)

    def recorded_elsewhere(self) -> None:
        """A record of that container says that it had another netns at the path."""
        self.node.path(f"/var/lib/cni/results/{NETWORK}-{DEAD}-eth0").unlink()
        earlier = self.node.pod("earlier")
        self.node.plugin("ADD", {**self.network.head, "reapOn": []}, netns=earlier, container_id=DEAD).check()
        record = self.node.path(f"/var/lib/cni/reaper/{NETWORK}/{DEAD}:eth0")
        record.write_text(record.read_text().replace(earlier.path, self.pod.path))
        earlier.delete()


WAYS = (
    Blue.nothing_leads,
    Blue.shown_twice,
    Blue.reserved_twice,
    Blue.placed_twice,
    Blue.shows_two,
    Blue.recorded_elsewhere,
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_netns_with_shown_address_alone_keeps_hidden_owner(node: Node, way: Callable[[Blue], None]) -> None:
    """What shows the address does not tell enough: who hides his address in it is kept, and freed with the netns."""
    blue = Blue(node)
    way(blue)
    blue.network.reap()
    assert blue.hidden in blue.network.held(), node.log()
    for pod in (blue.pod, *blue.others):
        pod.delete()
    blue.network.reap()
    assert blue.network.held() <= {blue.third, blue.shown}, node.log()


def test_network_of_hidden_addresses_is_kept(node: Node) -> None:
    """A second interface of DPDK, with an ID of its own, in a pod whose first one shows its address: kept."""
    one, dpdk = Network(node), Network(node, "10.67.0.0/24", name="dpdk")
    pod = node.pod("blue")
    first, second = one.take(pod, LIVING), dpdk.take(pod, OWNER)
    cached(node, LIVING, pod.path)
    node.add_address("lo", f"{first}/32", pod.path)
    dpdk.reap()
    assert dpdk.held() == {second}, node.log()
    pod.delete()
    dpdk.reap()
    assert dpdk.held() == set(), node.log()


@pytest.mark.parametrize("hides", ["in flight", "gVisor"])
def test_netns_that_shows_nothing_stays_unassigned(network: Network, hides: str) -> None:
    """A pod whose address is reserved and not configured yet, or taken off again, beside one whose netns is known: kept."""
    node = network.node
    blue, pod = node.pod("blue"), node.pod("pod")
    shown = network.take(blue, LIVING)
    cached(node, LIVING, blue.path)
    node.add_address("lo", f"{shown}/32", blue.path)
    hidden = network.take(pod, OWNER)
    if hides == "gVisor":
        node.add_link("eth0", "veth", pod.path, peer="far")
    network.reap()
    assert network.held() == {shown, hidden}, node.log()
    pod.delete()
    network.reap()
    assert network.held() == {shown}, node.log()


# A service's

UNIT = "/system.slice/polkit.service"
LAYOUTS = {
    "cgroup2": f"0::{UNIT}",
    "cgroup v1": f"5:memory:/system.slice\n4:pids:{UNIT}\n2:cpu,cpuacct:/\n1:name=systemd:{UNIT}",
    "hybrid": f"2:memory:{UNIT}\n1:name=systemd:{UNIT}\n0::{UNIT}",
    "a template's slice": "0::/system.slice/system-getty.slice/getty@tty1.service",
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_full_old_node_heals_beside_a_service(network: Network, layout: str) -> None:
    """B16: PrivateNetwork=yes, two processes of the unit; the first ADD frees all that is leaked."""
    node = network.node
    unit, process = unmounted(node)
    second = node.start(["sleep", "infinity"], netns=unit.path)
    for pid in (process, second):
        in_cgroup(node, pid, layout)
    until(lambda: node.run(["readlink", process_path(second)]).out == node.run(["readlink", unit.path]).out, "both are in it")
    for name in LEAKS:
        leak(network, name)
    network.reap()
    assert network.held() == set(), node.log()


def test_a_full_old_node_heals_beside_a_service_in_real_cgroups(network: Network) -> None:
    """B16, with the kernel's own cgroups: kept while a second process of the unit is in the node's netns, freed without it."""
    node = network.node
    with own_cgroups(node):
        move = (
            "for d in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do test -e $d/cgroup.procs || continue;"
            f" mkdir -p $d{UNIT} && echo $$ > $d{UNIT}/cgroup.procs; done; "
        )
        ready = "touch /run/$$; exec sleep infinity"
        service = node.start(["sh", "-c", f"{move} exec unshare --net sh -c '{ready}'"])
        outside = node.start(["sh", "-c", f"{move} {ready}"])
        until(lambda: all(node.path(f"/run/{pid}").exists() for pid in (service, outside)), "the unit is there")
        assert UNIT in node.read(f"/proc/{service}/cgroup")
        address = leak(network)
        network.reap()
        assert network.held() == {address}, node.log()
        node.stop(outside)
        own = node.pod()
        node.plugin("ADD", network.head, netns=own, container_id=container_id(own.name), waited=LOOKED_AGAIN_S).check()
        assert network.held() == set(), node.log()


class Unit:
    """A unit's process alone in a netns of its own, which is the pod of OWNER, in flight."""

    def __init__(self, network: Network) -> None:
        self.network, self.node = network, network.node
        self.pod, self.process = unmounted(self.node)
        self.pids = [self.process]
        self.address = network.take(self.pod, OWNER)
        self.cgroup = LAYOUTS["cgroup2"]

    def end(self) -> None:
        """End it, with all that keeps its netns."""
        for pid in self.pids:
            self.node.stop(pid)
        if self.node.path(f"{NETNS_DIR}/again").exists():
            self.node.delete_netns(f"{NETNS_DIR}/again")

    def a_child_cgroup(self) -> None:
        """Quadlet: Podman puts the container into a cgroup below the unit's."""
        self.cgroup = "0::/system.slice/web.service/libpod-payload-6f0c"

    def a_manager_outside(self) -> None:
        """A virtual machine's manager is a unit: it has its machines in its cgroup, each in a netns, and itself is in none."""
        self.pids.append(self.node.start(["sleep", "infinity"]))
        in_cgroup(self.node, self.pids[-1], self.cgroup)

    def a_mount(self) -> None:
        """Somebody has given it a path."""
        self.node.write(f"{NETNS_DIR}/again", "")
        self.node.mount(self.pod.path, f"{NETNS_DIR}/again", flags=agent.MS_BIND)

    def an_interface(self) -> None:
        """It has an interface, without an address."""
        self.node.add_link("eth0", "veth", self.pod.path, peer="far")

    def an_address(self) -> None:
        """It has an address, without an interface."""
        self.node.add_address("lo", "10.99.0.1/32", self.pod.path)

    def another_process(self) -> None:
        """Somebody else lives in it, too."""
        self.pids.append(self.node.start(["nsenter", f"--net={self.pod.path}", "sleep", "infinity"]))
        until(lambda: self.node.run(["readlink", process_path(self.pids[-1])]).out == self.link(), "it is inside")

    def link(self) -> bytes:
        """Return what tells the netns."""
        return self.node.run(["readlink", self.pod.path]).check().out

    def a_descriptor(self) -> None:
        """Somebody else holds it open: a runtime does."""
        self.pids.append(netns_holders.by_descriptor(self.pod))

    def a_users_unit(self) -> None:
        """It is a unit of a user's systemd: rootless Podman's node is one."""
        self.cgroup = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service"

    def a_scope(self) -> None:
        """It is a scope: a runtime's container."""
        self.cgroup = "0::/system.slice/web.scope"

    def a_pods_slice(self) -> None:
        """It is below the kubelet's slice."""
        self.cgroup = "0::/kubepods.slice/web.service"

    def the_root(self) -> None:
        """It is in no cgroup, as in a container's init script."""
        self.cgroup = "0::/"

    def two_cgroups(self) -> None:
        """Docker on a hybrid layout: its cgroup2 is the daemon's."""
        self.cgroup = "1:name=systemd:/lxc/web\n0::/system.slice/containerd.service"

    def a_limit_of_its_own(self) -> None:
        """A runtime has put it into a cgroup of one controller only."""
        self.cgroup = f"3:memory:/machine/web\n1:name=systemd:{UNIT}"

    def a_cache_entry(self) -> None:
        """An entry of libcni's cache names the path of its process."""
        cached(self.node, THIRD, self.pod.path)
        self.node.reserve(NETWORK, "10.66.0.6", THIRD)


UNITS = (
    Unit.a_child_cgroup,
    Unit.a_manager_outside,
    Unit.a_mount,
    Unit.an_interface,
    Unit.an_address,
    Unit.another_process,
    Unit.a_descriptor,
    Unit.a_users_unit,
    Unit.a_scope,
    Unit.a_pods_slice,
    Unit.the_root,
    Unit.two_cgroups,
    Unit.a_limit_of_its_own,
    Unit.a_cache_entry,
)


@pytest.mark.parametrize("way", UNITS, ids=lambda way: way.__name__)
def test_pod_in_flight_that_looks_like_a_service_is_kept(network: Network, way: Callable[[Unit], None]) -> None:
    """One thing is not as in a unit with PrivateNetwork: the pod's address is kept, and freed once its netns is gone."""
    unit = Unit(network)
    way(unit)
    in_cgroup(unit.node, unit.process, unit.cgroup)
    network.reap()
    assert unit.address in network.held(), unit.node.log()
    unit.end()
    network.reap()
    assert network.held() <= {"10.66.0.6"}, unit.node.log()


# Docker's

SCOPE = f"0::/system.slice/docker-{THIRD}.scope"
OF_DOCKER = {
    "cgroup2": SCOPE,
    "cgroup v1": f"4:memory:/docker/{THIRD}\n1:name=systemd:/docker/{THIRD}",
    "hybrid": f"2:memory:/docker/{THIRD}\n1:name=systemd:/docker/{THIRD}\n0::/system.slice/containerd.service",
}


class Docker:
    """A docker container of THIRD, in whose netns OWNER may be a pod in flight."""

    def __init__(self, network: Network) -> None:
        self.network, self.node = network, network.node
        self.path = f"{DOCKERS}/3f2b8c1e9d47"
        self.node.path(DOCKERS).mkdir(parents=True)
        self.node.create_netns(self.path)
        self.pod = Pod(self.node, "docker", self.path)
        self.process = netns_holders.by_process(self.pod)
        self.pids = [self.process]
        self.cgroup = SCOPE
        self.owner = OWNER

    def end(self) -> None:
        """End the container."""
        for pid in self.pids:
            self.node.stop(pid)
        for path in (self.path, f"{NETNS_DIR}/again"):
            if self.node.path(path).exists():
                self.node.delete_netns(path)

    def the_owners(self) -> None:
        """It is the owner's own container."""
        self.cgroup = f"0::/system.slice/docker-{OWNER}.scope"

    def nomad(self) -> None:
        """Nomad has docker keep a container without a network, and sets it up by CNI under an ID of its own."""
        self.owner = ALLOCATION

    def cri_dockerd(self) -> None:
        """cri-dockerd has docker make a pod's sandbox without a network."""
        self.cgroup = f"0::/kubepods.slice/kubepods-pod6f0c.slice/docker-{THIRD}.scope"

    def another_process(self) -> None:
        """A process that is not docker's lives in it as well."""
        self.pids.append(self.pod.live())
        inside_it = self.node.run(["readlink", process_path(self.process)]).out
        until(lambda: self.node.run(["readlink", process_path(self.pids[-1])]).out == inside_it, "it is inside")

    def a_process_outside(self) -> None:
        """The container has another process elsewhere: it makes namespaces itself."""
        self.pids.append(self.node.start(["sleep", "infinity"]))
        in_cgroup(self.node, self.pids[-1], SCOPE)

    def another_mount(self) -> None:
        """Somebody has given it another path."""
        self.node.write(f"{NETNS_DIR}/again", "")
        self.node.mount(self.path, f"{NETNS_DIR}/again", flags=agent.MS_BIND)

    def no_process(self) -> None:
        """Nobody lives in it."""
        self.node.stop(self.pids.pop())

    def around_the_node(self) -> None:
        """The node is a docker container itself, and each of its processes is in that one's cgroup."""
        in_cgroup(self.node, 1, SCOPE)

    def another_runtimes_id(self) -> None:
        """The scope is not of docker's spelling."""
        self.cgroup = "0::/system.slice/docker-web.scope"


@pytest.mark.parametrize("in_its_network", [True, False], ids=["with a network", "without a network"])
@pytest.mark.parametrize("layout", OF_DOCKER.values(), ids=OF_DOCKER.keys())
@pytest.mark.parametrize("mounted", [True, False], ids=["mounted", "not mounted"])
def test_a_full_old_node_heals_beside_docker(network: Network, layout: str, in_its_network: bool, mounted: bool) -> None:
    """A container of docker's own, in its network or in none: the first ADD frees all that is leaked."""
    docker = Docker(network)
    if in_its_network:
        network.node.add_link("eth0", "veth", docker.path, peer="far")
        network.node.add_address("eth0", "172.17.0.2/16", docker.path)
    in_cgroup(network.node, docker.process, layout)
    if not mounted:
        network.node.delete_netns(docker.path)
    for name in LEAKS:
        leak(network, name)
    network.reap()
    assert network.held() == set(), network.node.log()


WAYS_OF_DOCKER = (
    Docker.the_owners,
    Docker.nomad,
    Docker.cri_dockerd,
    Docker.another_process,
    Docker.a_process_outside,
    Docker.another_mount,
    Docker.no_process,
    Docker.around_the_node,
    Docker.another_runtimes_id,
)


@pytest.mark.parametrize("way", WAYS_OF_DOCKER, ids=lambda way: way.__name__)
def test_pod_in_flight_in_docker_container_is_kept(network: Network, way: Callable[[Docker], None]) -> None:
    """Docker has made the netns, and another has it: the address that is not configured yet is kept, and freed with the netns."""
    docker = Docker(network)
    way(docker)
    if docker.pids:
        in_cgroup(docker.node, docker.process, docker.cgroup)
    address = network.take(docker.pod, docker.owner)
    network.reap()
    assert address in network.held(), docker.node.log()
    docker.end()
    network.reap()
    assert network.held() == set(), docker.node.log()
