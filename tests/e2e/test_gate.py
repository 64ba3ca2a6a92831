"""Many calls at once, and a leak that stays: one full scan serves all, who waits costs nothing, and nobody waits for ever.

A full scan is what costs; the gate's file tells how many were begun.
"""

import json
import os
import platform
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest

from cni_reaper_plugin.memory.waiting_owners import LOOK_AGAIN_S
from tests.support import netns_holders
from tests.support.cni_calls import BIN, Pod, bridge, host_local, reaper
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.waiting import until

RUN_DIR = "/run/cni-reaper"
GATE = f"{RUN_DIR}/{NETWORK}.sweep"
POOL = 253
CALLS = 12
FLOCK = {"x86_64": "73", "aarch64": "32"}[platform.machine()]
"""The number of flock(2)."""
LADEN = """
import os, resource, sys, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
threads, descriptors = int(sys.argv[2]), int(sys.argv[3])
threading.stack_size(32768)
for _ in range(threads):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
for _ in range(descriptors):
    os.dup(0)
open(sys.argv[1], "w").close()
threading.Event().wait()
"""


def scans(node: Node, gate: str = GATE) -> int:
    """Return how many full scans of a network have begun."""
    path = node.path(gate)
    return int.from_bytes(path.read_bytes()[:8], "little") if path.exists() else 0


def leak_all(network: Network, count: int, *, recorded: bool) -> None:
    """Leave so many leaks, with records of ours or from before we came."""
    node = network.node
    pods = [node.pod() for _ in range(count)]
    plugins = (("cni-reaper", {**network.head, "reapOn": []}), ("host-local", network.ipam))[0 if recorded else 1 :]
    for some in (pods[start : start + 23] for start in range(0, count, 23)):
        for plugin, conf in plugins:
            commands = [
                node.plugin_command("ADD", conf, binary=plugin, netns=pod, container_id=container_id(pod.name)) for pod in some
            ]
            for ran in node.together(commands):
                ran.check()
    for pod in pods:
        pod.delete()
    assert len(network.held()) == count


def busy(node: Node, count: int) -> None:
    """Start processes that do nothing but take CPU time."""
    for _ in range(count):
        node.start(["sh", "-c", "while :; do :; done"])


def storm(node: Node, network: Network, count: int) -> None:
    """So many pods start at once by cnitool, and each gets an address that nobody has."""
    node.conflist(NETWORK, [reaper(), bridge(host_local("10.66.0.0/24"))])
    pods = [node.pod(f"new-{number}") for number in range(count)]
    before = scans(node)
    for ran in node.together([node.cnitool_command("add", NETWORK, pod) for pod in pods]):
        ran.check()
    given = Counter(address.partition("/")[0] for pod in pods for address in pod.addresses())
    assert len(given) == count
    assert set(given.values()) == {1}
    assert scans(node) - before <= 3, node.log()
    node.cnitool("add", NETWORK, node.pod("last")).check()
    assert set(given) <= network.held()
    assert len(network.held()) == count + 1


@pytest.mark.parametrize(("recorded", "loops"), [(True, 2), (False, 8), (True, 30)])
def test_storm_on_a_busy_node_takes_three_full_scans(node: Node, recorded: bool, loops: int) -> None:
    """A /24 full of leaks after a reboot, busy processes, and 110 pods at once: all start, and three full scans are enough."""
    network = Network(node)
    leak_all(network, POOL, recorded=recorded)
    node.reboot()
    busy(node, loops)
    storm(node, network, 110)


def test_storm_on_a_laden_node_starts_all_pods(node: Node) -> None:
    """60 pods at once beside eight busy processes, 8,000 threads and 60,000 open descriptors, on a pool full of leaks."""
    network = Network(node)
    leak_all(network, POOL, recorded=True)
    for number in range(16):  # a process may open no more than a few thousand files where nobody has raised the limit
        node.start([sys.executable, "-I", "-c", LADEN, f"/run/laden-{number}", "500", "3750"])
        until(node.path(f"/run/laden-{number}").exists, "the threads and descriptors are there")
    busy(node, 8)
    storm(node, network, 60)


def wait_at_gate(network: Network) -> int:
    """Start an ADD and return its PID once it waits at the gate, which somebody holds."""
    node = network.node
    own = node.pod()
    node.write("/run/waits.json", json.dumps(network.head))
    env = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": container_id(own.name),
        "CNI_NETNS": own.path,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": BIN,
    }
    waits = node.start(["sh", "-c", f"exec {BIN}/cni-reaper < /run/waits.json > /run/answer"], env=env)
    until(lambda: node.read(f"/proc/{waits}/syscall").split()[0] == FLOCK, "the ADD waits at the gate")
    return waits


def hold_gate(node: Node) -> int:
    """Hold the gate, as a sweep that is stopped does."""
    node.path(RUN_DIR).mkdir(mode=0o700, exist_ok=True)
    holder = node.start(["flock", GATE, "sh", "-c", "touch /run/held; exec sleep infinity"])
    until(node.path("/run/held").exists, "the gate is held")
    return holder


def let_go(node: Node, holder: int) -> None:
    """End the holder of a gate."""
    node.run(["pkill", "-KILL", "-P", str(holder)])
    node.stop(holder)


def test_who_waits_at_the_gate_costs_nothing(network: Network) -> None:
    """An ADD that waits sleeps in the kernel until the gate is open, and then reaps; its holder is killed."""
    node = network.node
    network.leak()
    holder = hold_gate(node)
    waits = wait_at_gate(network)
    switches = [line for line in node.read(f"/proc/{waits}/status").splitlines() if "ctxt_switches" in line]
    for _ in range(20):
        node.run(["true"]).check()
    assert [line for line in node.read(f"/proc/{waits}/status").splitlines() if "ctxt_switches" in line] == switches
    let_go(node, holder)
    assert node.wait(waits) == 0
    assert network.held() == set()


@pytest.mark.parametrize("hold", [netns_holders.by_descriptor, netns_holders.by_process, netns_holders.by_thread])
def test_what_keeps_a_leak_is_found_once(network: Network, hold: Callable[[Pod], int]) -> None:
    """A container has gone without a DEL, and somebody holds its netns: kept, by one scan for a dozen ADDs, and freed after."""
    node = network.node
    pod = node.pod("held")
    address = network.add(pod)
    holder = hold(pod)
    netns_holders.unpin(pod)
    network.reap()
    began, before = time.monotonic(), scans(node)
    assert before >= 1
    for _ in range(CALLS):
        network.reap()
        assert address in network.held()
    assert scans(node) - before <= 1 + (time.monotonic() - began) // LOOK_AGAIN_S
    node.stop(holder)
    network.reap()
    assert network.held() == set(), node.log()


def test_an_address_elsewhere_is_found_once(network: Network) -> None:
    """A leak's address is configured in somebody else's netns, a nested cluster's: kept, found once, freed when that ends."""
    node = network.node
    address = network.leak("gone")
    nested = node.pod("nested")
    node.add_address("lo", f"{address}/24", nested.path)
    network.reap()
    began, before = time.monotonic(), scans(node)
    for _ in range(CALLS):
        network.reap()
        assert address in network.held()
    assert scans(node) - before <= 1 + (time.monotonic() - began) // LOOK_AGAIN_S
    nested.delete()
    network.reap()
    assert network.held() == set(), node.log()


def test_a_leak_under_dry_run_is_found_once(network: Network) -> None:
    """With dryRun a leak is told, and not scanned for by each ADD; without it the next ADD frees it at once."""
    node = network.node
    address = network.leak()
    network.reap(dryRun=True)
    began, before = time.monotonic(), scans(node)
    for _ in range(CALLS):
        network.reap(dryRun=True)
    assert network.held() == {address}
    assert scans(node) - before <= 1 + (time.monotonic() - began) // LOOK_AGAIN_S
    assert node.log("would-reap")
    network.reap()
    assert network.held() == set()


def test_another_leak_is_freed_beside_one_that_stays(network: Network) -> None:
    """While one leak is known to stay, another that comes is freed by the next ADD."""
    node = network.node
    pod = node.pod("held")
    kept = network.add(pod)
    netns_holders.by_descriptor(pod)
    netns_holders.unpin(pod)
    network.reap()
    for _ in range(3):
        network.leak()
        network.reap()
        assert network.held() == {kept}, node.log()


def test_memory_of_a_reservation_says_nothing_of_the_next(network: Network) -> None:
    """What is remembered of a reservation says nothing of the next one of the same address."""
    node = network.node
    pod = node.pod("held")
    kept = network.add(pod)
    holder = netns_holders.by_descriptor(pod)
    netns_holders.unpin(pod)
    network.reap()
    network.give_back(pod)
    other = Network(node, first=kept, last=kept)
    assert other.leak("second") == kept
    network.reap()
    assert network.held() == set(), node.log()
    node.stop(holder)


def read_only(node: Node) -> None:
    """Mount the directory read-only, empty."""
    node.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", RUN_DIR]).check()


def without_inodes(node: Node) -> None:
    """Mount a directory in which nothing can be made."""
    node.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=1", "tmpfs", RUN_DIR]).check()


def without_space(node: Node) -> None:
    """Mount a directory whose space is used up."""
    node.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", RUN_DIR]).check()
    node.run(["sh", "-c", f"head -c 8192 /dev/zero > {RUN_DIR}/full; true"]).check()


@pytest.mark.parametrize("spoil", [read_only, without_inodes, without_space])
def test_unwritable_run_directory_stops_no_reaping(network: Network, spoil: Callable[[Node], None]) -> None:
    """Without a gate, and without a memory, an ADD frees what is leaked and keeps what lives, and it is said once in the log."""
    node = network.node
    live = network.add(node.pod("live"))
    node.path(RUN_DIR).mkdir(mode=0o700, exist_ok=True)
    spoil(node)
    network.leak()
    network.leak()
    network.reap()
    assert network.held() == {live}, node.log()
    assert not [line for line in node.log() if line["level"] in ("error", "warning")], node.log()


def test_gate_file_of_other_content_is_a_gate(network: Network) -> None:
    """The gate's file of an older version is empty, or somebody wrote into it: a gate all the same."""
    node = network.node
    for content in (b"", b"x", os.urandom(40)):
        node.path(RUN_DIR).mkdir(mode=0o700, exist_ok=True)
        node.path(GATE).write_bytes(content)
        network.leak()
        network.reap()
        assert network.held() == set(), node.log()


@pytest.mark.parametrize("numbers", [(0, 1), (1, 2**63), (2**64 - 1, 0), (2**64 - 1, 2**64 - 1)])
def test_senseless_gate_numbers_stop_no_reaping(network: Network, numbers: tuple[int, int]) -> None:
    """/run was full when a scan began, and no longer when it ended: (0, 1). ADD reaps all the same, for ever."""
    node = network.node
    node.path(RUN_DIR).mkdir(mode=0o700, exist_ok=True)
    node.path(GATE).write_bytes(struct.pack("<QQ", *numbers))
    for _ in range(3):
        network.leak()
        network.reap()
        assert network.held() == set(), node.log()


def test_dry_run_scan_does_not_serve_waiting_add(network: Network) -> None:
    """A call with dryRun judges all while an ADD without waits: the ADD frees the leak itself."""
    node = network.node
    network.leak()
    holder = hold_gate(node)
    waits = wait_at_gate(network)
    node.run(["kill", "-STOP", str(waits)]).check()
    let_go(node, holder)
    network.reap(dryRun=True)
    node.run(["kill", "-CONT", str(waits)]).check()
    assert node.wait(waits) == 0
    assert network.held() == set(), node.log()


def test_scan_with_other_state_dir_does_not_serve_waiting_add(network: Network) -> None:
    """A call with another stateDir, which knows of no record, judges all while an ADD waits: the ADD frees the leak itself."""
    node = network.node
    node.pod("nobodys")
    network.leak()
    holder = hold_gate(node)
    waits = wait_at_gate(network)
    node.run(["kill", "-STOP", str(waits)]).check()
    let_go(node, holder)
    network.reap(stateDir="/var/lib/cni/other")
    node.run(["kill", "-CONT", str(waits)]).check()
    assert node.wait(waits) == 0
    assert network.held() == set(), node.log()


def test_scan_of_del_does_not_serve_waiting_add(network: Network) -> None:
    """A DEL keeps what its chain is about to release, and another that somebody holds, while an ADD waits."""
    node = network.node
    held = node.pod("held")
    kept = network.add(held)
    netns_holders.by_descriptor(held)
    netns_holders.unpin(held)
    own = node.pod("own")
    network.take(own, container_id("own"))
    own.delete()
    holder = hold_gate(node)
    waits = wait_at_gate(network)
    node.run(["kill", "-STOP", str(waits)]).check()
    let_go(node, holder)
    network.reap(verb="ADD", reapOn=[])
    node.run(["rm", "-f", f"{RUN_DIR}/{NETWORK}.json"]).check()
    node.plugin("DEL", network.head, netns=own.path, container_id=container_id("own")).check()
    node.run(["kill", "-CONT", str(waits)]).check()
    assert node.wait(waits) == 0
    assert network.held() == {kept}, node.log()


def test_storm_on_a_full_pool_gives_every_pod_an_address(node: Node) -> None:
    """Every address is leaked and as many pods start at once: each waits for the sweep that is on, and gets an address."""
    network = Network(node, subnet="10.66.0.0/28", name="storm")
    for number in range(13):
        network.add(node.pod(f"leak-{number}"), reapOn=[])
    for number in range(13):
        node.delete_netns(f"/run/netns/leak-{number}")
    assert len(network.held()) == 13
    node.conflist("storm", [reaper(), bridge(host_local("10.66.0.0/28"))])
    pods = [node.pod() for _ in range(13)]
    for ran in node.together([node.cnitool_command("add", "storm", pod) for pod in pods]):
        ran.check()
    assert {address.partition("/")[0] for pod in pods for address in pod.addresses()} == network.held()
    assert len(node.log("reaped")) == 13
