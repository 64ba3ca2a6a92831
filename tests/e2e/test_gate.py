"""Many calls at once, and a leak that stays: one full scan serves all, who waits costs nothing, and nobody waits for ever.

A full scan is what costs; the gate's file tells how many were begun.
"""

import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest

from cni_reaper_plugin.memory.waiting_owners import LOOK_AGAIN_S
from tests.e2e import holders
from tests.e2e.pair import NETWORK, Pair, container_id, until
from tests.node import BIN, Node, Pod, bridge, host_local, reaper

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


@pytest.fixture
def pair(node: Node) -> Pair:
    """A network of cni-reaper and host-local."""
    return Pair(node)


def scans(node: Node, gate: str = GATE) -> int:
    """Return how many full scans of a network have begun."""
    path = node.path(gate)
    return int.from_bytes(path.read_bytes()[:8], "little") if path.exists() else 0


def leak_all(pair: Pair, count: int, *, recorded: bool) -> None:
    """Leave so many leaks, with records of ours or from before we came."""
    node = pair.node
    pods = [node.pod() for _ in range(count)]
    plugins = (("cni-reaper", {**pair.head, "reapOn": []}), ("host-local", pair.ipam))[0 if recorded else 1 :]
    for some in (pods[start : start + 23] for start in range(0, count, 23)):
        for plugin, conf in plugins:
            commands = [
                node.plugin_command("ADD", conf, binary=plugin, netns=pod, container_id=container_id(pod.name)) for pod in some
            ]
            for ran in node.together(commands):
                ran.check()
    for pod in pods:
        pod.delete()
    assert len(pair.held()) == count


def busy(node: Node, count: int) -> None:
    """Start processes that do nothing but take CPU time."""
    for _ in range(count):
        node.start(["sh", "-c", "while :; do :; done"])


def storm(node: Node, pair: Pair, count: int) -> None:
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
    assert set(given) <= pair.held()
    assert len(pair.held()) == count + 1


@pytest.mark.parametrize(("recorded", "loops"), [(True, 2), (False, 8), (True, 30)])
def test_a_storm_on_a_busy_node(node: Node, recorded: bool, loops: int) -> None:
    """A /24 full of leaks after a reboot, busy processes, and 110 pods at once: all start, and three full scans are enough."""
    pair = Pair(node)
    leak_all(pair, POOL, recorded=recorded)
    node.reboot()
    busy(node, loops)
    storm(node, pair, 110)


def test_a_storm_on_a_laden_node(node: Node) -> None:
    """60 pods at once beside eight busy processes, 8,000 threads and 60,000 open descriptors, on a pool full of leaks."""
    pair = Pair(node)
    leak_all(pair, POOL, recorded=True)
    for number in range(16):  # a process may open no more than a few thousand files where nobody has raised the limit
        node.start([sys.executable, "-I", "-c", LADEN, f"/run/laden-{number}", "500", "3750"])
        until(node.path(f"/run/laden-{number}").exists, "the threads and descriptors are there")
    busy(node, 8)
    storm(node, pair, 60)


def wait_at_gate(pair: Pair) -> int:
    """Start an ADD and return its PID once it waits at the gate, which somebody holds."""
    node = pair.node
    own = node.pod()
    node.write("/run/waits.json", json.dumps(pair.head))
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


def test_who_waits_at_the_gate_costs_nothing(pair: Pair) -> None:
    """An ADD that waits sleeps in the kernel until the gate is open, and then reaps; its holder is killed."""
    node = pair.node
    pair.leak()
    holder = hold_gate(node)
    waits = wait_at_gate(pair)
    switches = [line for line in node.read(f"/proc/{waits}/status").splitlines() if "ctxt_switches" in line]
    for _ in range(20):
        node.run(["true"]).check()
    assert [line for line in node.read(f"/proc/{waits}/status").splitlines() if "ctxt_switches" in line] == switches
    let_go(node, holder)
    assert node.wait(waits) == 0
    assert pair.held() == set()


@pytest.mark.parametrize("hold", [holders.by_descriptor, holders.by_process, holders.by_thread])
def test_what_keeps_a_leak_is_found_once(pair: Pair, hold: Callable[[Pod], int]) -> None:
    """A container has gone without a DEL, and somebody holds its netns: kept, by one scan for a dozen ADDs, and freed after."""
    node = pair.node
    pod = node.pod("held")
    address = pair.add(pod)
    holder = hold(pod)
    holders.unpin(pod)
    pair.reap()
    began, before = time.monotonic(), scans(node)
    assert before >= 1
    for _ in range(CALLS):
        pair.reap()
        assert address in pair.held()
    assert scans(node) - before <= 1 + (time.monotonic() - began) // LOOK_AGAIN_S
    node.stop(holder)
    pair.reap()
    assert pair.held() == set(), node.log()


def test_an_address_elsewhere_is_found_once(pair: Pair) -> None:
    """A leak's address is configured in somebody else's netns, a nested cluster's: kept, found once, freed when that ends."""
    node = pair.node
    address = pair.leak("gone")
    nested = node.pod("nested")
    node.add_address("lo", f"{address}/24", nested.path)
    pair.reap()
    began, before = time.monotonic(), scans(node)
    for _ in range(CALLS):
        pair.reap()
        assert address in pair.held()
    assert scans(node) - before <= 1 + (time.monotonic() - began) // LOOK_AGAIN_S
    nested.delete()
    pair.reap()
    assert pair.held() == set(), node.log()


def test_a_leak_under_dry_run_is_found_once(pair: Pair) -> None:
    """With dryRun a leak is told, and not scanned for by each ADD; without it the next ADD frees it at once."""
    node = pair.node
    address = pair.leak()
    pair.reap(dryRun=True)
    began, before = time.monotonic(), scans(node)
    for _ in range(CALLS):
        pair.reap(dryRun=True)
    assert pair.held() == {address}
    assert scans(node) - before <= 1 + (time.monotonic() - began) // LOOK_AGAIN_S
    assert node.log("would-reap")
    pair.reap()
    assert pair.held() == set()


def test_another_leak_beside_one_that_stays(pair: Pair) -> None:
    """While one leak is known to stay, another that comes is freed by the next ADD."""
    node = pair.node
    pod = node.pod("held")
    kept = pair.add(pod)
    holders.by_descriptor(pod)
    holders.unpin(pod)
    pair.reap()
    for _ in range(3):
        pair.leak()
        pair.reap()
        assert pair.held() == {kept}, node.log()


def test_the_same_owner_again_beside_the_memory(pair: Pair) -> None:
    """What is remembered of a reservation says nothing of the next one of the same address."""
    node = pair.node
    pod = node.pod("held")
    kept = pair.add(pod)
    holder = holders.by_descriptor(pod)
    holders.unpin(pod)
    pair.reap()
    pair.give_back(pod)
    other = Pair(node, first=kept, last=kept)
    assert other.leak("second") == kept
    pair.reap()
    assert pair.held() == set(), node.log()
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
def test_a_run_directory_that_cannot_be_written(pair: Pair, spoil: Callable[[Node], None]) -> None:
    """Without a gate, and without a memory, an ADD frees what is leaked and keeps what lives, and it is said once in the log."""
    node = pair.node
    live = pair.add(node.pod("live"))
    node.path(RUN_DIR).mkdir(mode=0o700, exist_ok=True)
    spoil(node)
    pair.leak()
    pair.leak()
    pair.reap()
    assert pair.held() == {live}, node.log()
    assert not [line for line in node.log() if line["level"] in ("error", "warning")], node.log()


def test_not_root_in_the_gate(pair: Pair) -> None:
    """The gate's file of an older version is empty, or somebody wrote into it: a gate all the same."""
    node = pair.node
    for content in (b"", b"x", os.urandom(40)):
        node.path(RUN_DIR).mkdir(mode=0o700, exist_ok=True)
        node.path(GATE).write_bytes(content)
        pair.leak()
        pair.reap()
        assert pair.held() == set(), node.log()
