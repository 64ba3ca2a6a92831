"""A reservation whose netns ends while an ADD scans for it; and at level debug, why each candidate stays.

A netlink socket that was closed in a netns keeps it until an RCU grace period is over: so long the far end of its veth still
answers with its addresses.
"""

import json
import sys
from collections.abc import Callable

import pytest

from cni_reaper_plugin.reasons import NETNS_GONE
from tests.conftest import MakeNode
from tests.support import netns_holders
from tests.support.cni_calls import Pod
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.waiting import until

ROUNDS = 200
FAR_END = "the far end of a link"

ENDINGS = """
import ctypes, hashlib, itertools, json, os, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
home = os.open("/proc/self/ns/net", os.O_RDONLY)
rounds, head, ipam = (json.loads(one) for one in sys.argv[1:])
network, left = head["name"], []
def run(*argv, **more):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, **more).stdout
def ip(*lines):
    run("ip", "-batch", "-", input="\\n".join(lines).encode())
def begin(plugin, name):
    env = {"CNI_COMMAND": "ADD", "CNI_PATH": "/opt/cni/bin", "CNI_IFNAME": "eth0", "CNI_NETNS": "/run/netns/" + name,
           "CNI_CONTAINERID": hashlib.sha256(name.encode()).hexdigest()}
    return subprocess.Popen(["/opt/cni/bin/" + plugin], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def finish(plugin, conf):
    out, _ = plugin.communicate(json.dumps(conf).encode())
    if plugin.returncode:
        raise SystemExit(out)
    return out
def add(plugin, conf, name):
    return finish(begin(plugin, name), conf)
def waits(plugin):
    with open(f"/proc/{plugin.pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"
def enter(netns):
    if libc.setns(netns, 0x40000000):
        raise OSError(ctypes.get_errno(), "setns")
def netlink_in(path):
    netns = os.open(path, os.O_RDONLY)
    enter(netns)
    os.close(netns)
    held = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    enter(home)
    return held
def end(path):
    held = netlink_in(path)
    if libc.umount2(path.encode(), 2):  # MNT_DETACH, as ip netns del does
        raise OSError(ctypes.get_errno(), "umount2")
    os.unlink(path)
    held.close()
ip("netns add own")
for number in range(rounds) if rounds else itertools.count():
    name = f"end-{number}"
    ip("netns add " + name, f"link add far{number} type veth peer name eth0 netns {name}", f"link set far{number} up")
    add("cni-reaper", head, name)
    address = json.loads(add("host-local", ipam, name))["ips"][0]["address"]
    run("ip", "-n", name, "-batch", "-", input=f"address add {address} dev eth0\\nlink set eth0 up".encode())
    reaper = begin("cni-reaper", "own")
    while not waits(reaper):  # for its stdin: the interpreter has started
        pass
    end("/run/netns/" + name)
    finish(reaper, head)
    if os.path.exists(f"/var/lib/cni/networks/{network}/{address.partition('/')[0]}"):
        left.append([number, address])
    open("/run/began", "w").close()
print(json.dumps(left))
"""
"""Pods that start, and lose their netns without a DEL, just before the ADD of another pod reads its configuration."""


def endings(network: Network, rounds: int) -> list[str]:
    """Return the command line of so many endings, 0: without end; it prints which were not healed at once."""
    return [sys.executable, "-I", "-c", ENDINGS, *(json.dumps(one) for one in (rounds, network.head, network.ipam))]


def test_netns_that_ends_during_a_scan_keeps_no_leak(make_node: MakeNode) -> None:
    """200 ADDs, each a few milliseconds after a netns' end, while four other nodes do the same: none keeps its leak."""
    nodes = [make_node() for _ in range(5)]
    for other in nodes[1:]:
        other.start(endings(Network(other), 0))
        until(other.path("/run/began").exists, "the other node does the same")
    node = nodes[0]
    left = node.run(endings(Network(node, logLevel="debug"), ROUNDS)).check().json()
    assert left == [], [line for line in node.log() if line["level"] == "debug"]
    assert len(node.log("reaped")) == ROUNDS


@pytest.fixture
def network(node: Node) -> Network:
    """A network whose log has everything."""
    return Network(node, logLevel="debug")


def told(network: Network, address: str) -> dict[str, str]:
    """Run an ADD, which must keep an address; return its line on it."""
    before = len(network.node.log("kept-live"))
    network.reap()
    assert address in network.held()
    (line,) = network.node.log("kept-live")[before:]
    assert (line["level"], line["network"], line["address"]) == ("debug", NETWORK, address)
    return line


def by_descriptor(_: Network, pod: Pod) -> str:
    """Hold the netns; return the place that is to be told."""
    process = netns_holders.by_descriptor(pod)
    netns_holders.unpin(pod)
    return f"/proc/{process}/fd/9"


def by_address(network: Network, pod: Pod) -> str:
    """Have the address in somebody else's netns."""
    nested = network.node.pod("nested")
    (address,) = network.held()
    network.node.add_address("lo", f"{address}/24", nested.path)
    pod.delete()
    return nested.path


def by_socket(network: Network, pod: Pod) -> str:
    """Hold the netns by a socket alone: nothing but the far end of a link tells of it."""
    node = network.node
    (address,) = network.held()
    node.add_link("far", "veth", peer="near")
    node.run(["ip", "link", "set", "near", "netns", pod.name, "up"]).check()
    node.add_address("near", f"{address}/24", pod.path)
    netns_holders.by_socket(pod)
    netns_holders.unpin(pod)
    return FAR_END


@pytest.mark.parametrize(
    ("hold", "reason"),
    [
        (by_descriptor, "netns-elsewhere"),
        (by_address, "address-in-use"),
        (by_socket, "address-in-use"),
    ],
)
def test_full_scan_logs_why_a_candidate_stays(network: Network, hold: Callable[[Network, Pod], str], reason: str) -> None:
    """A full scan says the reason and the place."""
    pod = network.node.pod("held")
    address = network.add(pod)
    place = hold(network, pod)
    line = told(network, address)
    assert (line["reason"], line["place"], line["container"]) == (reason, place, container_id("held"))


def test_add_without_full_scan_logs_why_a_candidate_stays(network: Network) -> None:
    """An ADD that goes by what the last full scan has found says so, and the place, or that dryRun keeps it."""
    pod = network.node.pod("held")
    address = network.add(pod)
    place = by_address(network, pod)
    told(network, address)
    line = told(network, address)
    assert (line["reason"], line["place"]) == ("proven-before", place)


def test_dry_run_logs_each_leak_it_would_free(node: Node) -> None:
    """Each ADD says that it would free it, also the next one, which does not look again."""
    network = Network(node, logLevel="debug", dryRun=True)
    address = network.leak()
    network.reap()
    network.reap()
    assert [(line["address"], line["reason"]) for line in node.log("would-reap")] == [(address, NETNS_GONE.code)] * 2
    assert node.log("kept-live") == []


def test_kept_candidates_are_not_logged_at_info(node: Node) -> None:
    """It is for whoever looks for the reason, and says nothing of pods whose netns is where it was."""
    network = Network(node)
    pod = node.pod("held")
    network.add(pod)
    by_descriptor(network, pod)
    network.reap()
    assert node.log("kept-live") == []


def test_pods_at_their_recorded_netns_are_not_logged(network: Network) -> None:
    """A full scan on a node with pods that live where they are recorded frees the leak, and tells of that alone."""
    for _ in range(3):
        network.add(network.node.pod())
    address = network.leak()
    network.reap()
    assert [line["address"] for line in network.node.log("reaped")] == [address]
    assert network.node.log("kept-live") == []
    assert network.node.log("not-freed") == []
