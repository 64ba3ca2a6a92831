"""A published port (hostPort) whose DEL is lost under a real runtime: it never leads to a pod that has not published it.

A client outside of the node asks all the time. The stranger gets the very address that the lost pod had; in the control without
us it is freed by hand, as scripts do, and the client hears the stranger.
"""

import signal
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from tests.runtimes import image
from tests.runtimes.chain import EXHAUSTED, MISSING, held, in_front_of
from tests.runtimes.containerd import ROOT_DIR, Containerd
from tests.runtimes.kubelet import Kubelet, pod_spec
from tests.runtimes.podman import Podman
from tests.support.cni_calls import BIN, bridge, host_local, reaper
from tests.support.node import NETNS_DIR, Node
from tests.support.node_files import DATA_DIR, Conf
from tests.support.publishing import NOBODY, NODE_FOUR, Client, Watch, forget_neighbours
from tests.support.waiting import until

NETWORK = "podnet"
PORT = 8080
HEAD, SECOND = 0, 1
FIRST, LAST = "10.88.0.10", "10.88.0.11"
PORTS = [{"hostPort": PORT, "containerPort": 80, "protocol": protocol} for protocol in ("TCP", "UDP")]


@dataclass
class Network:
    """The chain of a node, with room for two pods. place: of cni-reaper, None without it; backend: of portmap."""

    node: Node
    place: int | None
    backend: str
    version: str = "1.0.0"

    def write(self, *tail: Conf) -> None:
        """Write the conflist, with these plugins at its end."""
        ipam = host_local(routes=[{"dst": "0.0.0.0/0"}])
        ipam["ranges"] = [[{"subnet": "10.88.0.0/24", "rangeStart": FIRST, "rangeEnd": LAST}]]
        portmap = {"type": "portmap", "backend": self.backend, "capabilities": {"portMappings": True}}
        plugins = [bridge(ipam, ipMasq=True), portmap, *tail]
        if self.place is not None:
            plugins.insert(self.place, reaper())
        self.node.conflist(NETWORK, plugins, self.version)

    def address_of(self, owner: str) -> str:
        """Return the address that a container has."""
        (address,) = (one for one, (container, _) in self.node.reservations(NETWORK).items() if container == owner)
        return address

    def free_by_hand(self, *addresses: str) -> None:
        """Where cni-reaper is not there, free them as scripts do."""
        for address in addresses if self.place is None else ():
            self.node.path(f"{DATA_DIR}/{NETWORK}/{address}").unlink()

    def rules(self) -> str:
        """Return the rules that lead somewhere, of both backends."""
        ran = self.node.run(["sh", "-c", "iptables-save -t nat && nft list ruleset"]).check()
        return "\n".join(line for line in ran.text.splitlines() if "dnat" in line.lower())


FORGET = f"""
awk '$5 ~ "^({ROOT_DIR}|/run/containerd)/" {{print $5}}' /proc/self/mountinfo | sort -r | xargs -r umount -l
rm -rf {ROOT_DIR}/* /run/containerd/*
"""
"""Removes all that containerd knows, root and state."""


def lose_all_pods(node: Node) -> None:
    """End each process that is in a pod's netns, and remove these netns: without a DEL."""
    for path in node.path(NETNS_DIR).iterdir():
        if path.name != "outside":
            node.run(["sh", "-c", f"kill -KILL $(ip netns pids {path.name})"])
            node.delete_netns(f"{NETNS_DIR}/{path.name}")


CASES = pytest.mark.parametrize(
    ("place", "backend"),
    [(HEAD, "iptables"), (HEAD, "nftables"), (None, "iptables")],
    ids=["with us, iptables", "with us, nftables", "without us"],
)


def serving(name: str, ports: Sequence[Conf] = ()) -> Conf:
    """Return the PodSpec of a pod that answers with its name, and publishes something or not."""
    return pod_spec(args=[name], ports=list(ports))


@pytest.fixture
def kubelet(node: Node) -> Kubelet:
    """A kubelet above containerd 2.3, not started."""
    return Kubelet(node, Containerd(node))


def started(kubelet: Kubelet, place: int | None, backend: str) -> tuple[Network, Watch]:
    """Start the node and the client."""
    network = Network(kubelet.node, place, backend)
    network.write()
    # only a DEL of ours has no netns; what stood before it is seen in /run/stood.<container>
    look = f'[ "$CNI_COMMAND$CNI_NETNS" != DEL ] || ls {DATA_DIR}/{NETWORK} >/run/stood.$CNI_CONTAINERID; exec "$REAL"'
    in_front_of(kubelet.node, "portmap", look)
    kubelet.begin()
    return network, Client(kubelet.node).watch(PORT, [NODE_FOUR])


def assert_nobody_else(
    kubelet: Kubelet, network: Network, watch: Watch, lost: str, address: str, living: Sequence[str] = ()
) -> None:
    """A stranger gets the address that a lost container had, and nobody hears it; the shop is heard when it is back.

    Without us everybody who asks for the shop hears the stranger, also when the shop is back. living: pods that end meanwhile.
    """
    node = kubelet.node
    kubelet.place("stranger", serving("stranger"))
    assert kubelet.wait_ready("stranger") == address
    forget_neighbours(node)
    if network.place is None:
        watch.wait_for("stranger")
    else:
        assert watch.now() == {NOBODY}
        assert address in node.read(f"/run/stood.{lost}").split()
        assert f"{address}:80" not in network.rules()
    for name in living:
        kubelet.take(name)
    until(lambda: held(node, NETWORK) == {address}, "there is room", 60)
    kubelet.place("shop", serving("shop", PORTS))
    assert kubelet.wait_ready("shop") != address
    forget_neighbours(node)
    if network.place is None:
        watch.wait_for("stranger")
    else:
        watch.wait_for("shop")
        assert watch.ever() == {NOBODY, "shop"}


@CASES
def test_the_runtimes_state_is_lost(kubelet: Kubelet, place: int | None, backend: str) -> None:
    """A node is set up anew without a reboot: its pods are ended, their netns removed, and containerd knows nothing of them."""
    node = kubelet.node
    network, watch = started(kubelet, place, backend)
    kubelet.place("shop", serving("shop", PORTS))
    assert kubelet.wait_ready("shop") == FIRST
    kubelet.place("other")
    assert kubelet.wait_ready("other") == LAST
    watch.wait_for("shop")
    lost = node.reservations(NETWORK)[FIRST][0]
    kubelet.stop(signal.SIGKILL)  # before the manifests go: it would end the pods
    for name in ("shop", "other"):
        kubelet.take(name)
    kubelet.containerd.stop(signal.SIGKILL)
    node.run(["pkill", "-KILL", "-f", "containerd-shim-runc-v2 "]).check()
    lose_all_pods(node)
    node.run(["sh", "-c", FORGET]).check()
    assert held(node, NETWORK) == {FIRST, LAST}
    network.free_by_hand(FIRST, LAST)
    kubelet.begin()
    assert_nobody_else(kubelet, network, watch, lost, FIRST)


@CASES
def test_a_later_plugin_is_missing(kubelet: Kubelet, place: int | None, backend: str) -> None:
    """The kubelet's tries fail behind portmap, in ADD and DEL: the address leaks, and so do the rules; no cache entry is left."""
    node = kubelet.node
    network, watch = started(kubelet, place, backend)
    kubelet.place("living")
    assert kubelet.wait_ready("living") == FIRST
    network.write(MISSING)
    until(lambda: MISSING["type"] in kubelet.containerd.conflists(), "containerd has read the conflist", 30)
    kubelet.place("shop", serving("shop", PORTS))
    until(lambda: sum(map(kubelet.failures, (MISSING["type"], EXHAUSTED))) >= 2, "the kubelet has tried twice", 120)
    kubelet.take("shop")
    until(lambda: "shop" not in kubelet.listed(), "the kubelet tries no more", 60)
    network.write()
    until(lambda: MISSING["type"] not in kubelet.containerd.conflists(), "containerd has read the conflist", 30)
    lost = node.reservations(NETWORK)[LAST][0]
    assert f"{LAST}:80" in network.rules()
    assert not node.path(f"/var/lib/cni/results/{NETWORK}-{lost}-eth0").exists()
    network.free_by_hand(LAST)
    assert_nobody_else(kubelet, network, watch, lost, LAST, ["living"])


FAILS = """#!/bin/sh
if [ "$CNI_COMMAND" = VERSION ]; then
    echo '{"cniVersion": "0.4.0", "supportedVersions": ["0.4.0"]}'
else
    echo '{"cniVersion": "0.4.0", "code": 11, "msg": "not now"}'
    exit 1
fi
"""
"""A plugin: Podman refuses a network with one that is not installed before anything is called."""


@pytest.mark.parametrize("place", [HEAD, SECOND, None], ids=["head", "second", "without us"])
def test_podman_with_a_later_plugin_that_fails(node: Node, place: int | None) -> None:
    """The same under Podman, where ADD and DEL fail behind portmap: no DEL comes when the container that failed is removed."""
    network = Network(node, place, "iptables", version="0.4.0")
    network.write()
    podman = Podman(node)
    watch = Client(node, outside=place != SECOND).watch(PORT, [NODE_FOUR])
    publish = [f"--publish={PORT}:80/{protocol}" for protocol in ("tcp", "udp")]
    living = podman.run("living", NETWORK)
    assert network.address_of(living) == FIRST
    node.write(f"{BIN}/fails", FAILS)
    node.path(f"{BIN}/fails").chmod(0o755)
    network.write({"type": "fails"})
    assert "not now" in podman("run", "-d", "--name", "shop", "--network", NETWORK, *publish, image.NAME, "shop").text
    network.write()
    podman("rm", "-f", "shop").check()
    assert held(node, NETWORK) == {FIRST, LAST}
    assert f"{LAST}:80" in network.rules()
    network.free_by_hand(LAST)
    if place == SECOND:  # host-local is asked before us; and only at the head a record proves that a container of Podman is dead
        for _ in range(2):
            assert f"{LAST}:80" in network.rules()
            assert EXHAUSTED in podman("run", "-d", "--network", NETWORK, image.NAME).text
    assert network.address_of(podman.run("stranger", NETWORK, serves="stranger")) == LAST
    forget_neighbours(node)
    if place is None:
        watch.wait_for("stranger")
    else:
        assert watch.now() == {NOBODY}
        assert f"{LAST}:80" not in network.rules()
    podman("rm", "-f", "-t", "1", "living").check()
    assert network.address_of(podman.run("shop", NETWORK, *publish, serves="shop")) == FIRST
    forget_neighbours(node)
    if place is None:
        watch.wait_for("stranger")
    else:
        watch.wait_for("shop")
        assert watch.ever() == {NOBODY, "shop"}
