"""Races on the real kernel: many ADDs, ADD against DEL, reaper against reaper and against host-local, netns that come and go.

In all of them: no address twice, what lives is kept, the leaks are gone in the end, and nothing waits for ever.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from tests.conftest import MakeNode
from tests.support.calls import call_reaper, dead_without_record
from tests.support.cni_calls import BIN, Pod, bridge, host_local, reaper
from tests.support.commands import Command, command
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import DATA_DIR
from tests.support.stopped_call import StoppedCall, resume, stop_at, stopped_at
from tests.support.waiting import until

POOL = 253  # addresses of a /24 that host-local gives


def chain(network: Network, verb: str, owner: str, path: str) -> Command:
    """Describe a call of both plugins in their order, as libcni makes it."""
    node = network.node
    node.write("/run/head.json", json.dumps(network.head))
    node.write("/run/ipam.json", json.dumps(network.ipam))
    steps = [f"{BIN}/cni-reaper < /run/head.json > /dev/null", f"{BIN}/host-local < /run/ipam.json"]
    env = {"CNI_COMMAND": verb, "CNI_CONTAINERID": owner, "CNI_NETNS": path, "CNI_IFNAME": "eth0", "CNI_PATH": BIN}
    return command(["sh", "-c", " && ".join(steps if verb == "ADD" else reversed(steps))], env=env)


def add_all(network: Network, pods: Sequence[Pod]) -> list[str]:
    """Run ADD of both plugins for all pods, 16 at a time; return their addresses."""
    addresses = []
    for start in range(0, len(pods), 16):
        commands = [chain(network, "ADD", container_id(pod.name), pod.path) for pod in pods[start : start + 16]]
        addresses += [ran.check().json()["ips"][0]["address"].partition("/")[0] for ran in network.node.together(commands)]
    return addresses


def leak_all(network: Network, count: int) -> set[str]:
    """Leave so many leaks; return their addresses."""
    pods = [network.node.pod() for _ in range(count)]
    addresses = add_all(network, pods)
    for pod in pods:
        pod.delete()
    return set(addresses)


def assert_no_defect(node: Node) -> None:
    """Nothing of ours has crashed or met an error."""
    assert [line for line in node.log() if line["level"] == "error" or line["event"] == "not-reaped"] == []


def test_110_adds_at_once_heal_a_full_pool(node: Node) -> None:
    """110 pods start at once where leaks hold every address that no pod has: each gets one, no two the same, all leaks go."""
    network = Network(node)
    node.conflist(NETWORK, [reaper(), bridge(host_local("10.66.0.0/24"))])
    live = [node.pod(f"live-{number}") for number in range(3)]
    for pod in live:
        node.cnitool("add", NETWORK, pod).check()
    before = node.reservations(NETWORK)
    leaks = leak_all(network, POOL - len(live))
    assert len(network.held()) == POOL
    pods = [node.pod(f"new-{number}") for number in range(110)]
    for ran in node.together([node.cnitool_command("add", NETWORK, pod) for pod in pods]):
        ran.check()
    given = Counter(address.partition("/")[0] for pod in [*live, *pods] for address in pod.addresses())
    assert set(given.values()) == {1}
    last = node.pod("last")
    node.cnitool("add", NETWORK, last).check()
    after = node.reservations(NETWORK)
    assert {owner for owner, _ in after.values()} == {pod.container_id for pod in [*live, *pods, last]}
    assert set(given) <= set(after)
    assert before.items() <= after.items()
    reaped = [line["address"] for line in node.log("reaped")]
    assert sorted(reaped) == sorted(leaks)
    assert_no_defect(node)


def test_add_beside_del_of_its_old_netns_keeps_the_new(node: Node) -> None:
    """A DEL of a container's old netns runs beside the ADD of its new one: we free nothing of the new, all of the old."""
    network = Network(node)
    (live,) = add_all(network, [node.pod("live")])
    owner = container_id("podman")
    for life in range(12):
        old, new = node.pod(f"old-{life}"), node.pod(f"new-{life}")
        node.together([chain(network, "ADD", owner, old.path)])[0].check()
        added, deleted = node.together([chain(network, "ADD", owner, new.path), chain(network, "DEL", owner, old.path)])
        deleted.check()
        old.delete()
        reaped = {line["address"] for line in node.log("reaped")}
        if added.rc == 0:  # host-local refuses while the old address stands: it counts by ID
            given = added.json()["ips"][0]["address"].partition("/")[0]
            assert given not in reaped
        assert live in network.held()
        node.together([chain(network, "DEL", owner, new.path)])[0].check()
        new.delete()
        assert network.held() == {live}
    assert_no_defect(node)


@pytest.mark.parametrize("verbs", [("ADD", "ADD"), ("ADD", "DEL"), ("ADD", "ADD", "DEL", "GC")])
def test_reapers_at_once_free_each_leak_once(node: Node, verbs: Sequence[str]) -> None:
    """Several calls reap the same leaks at the same time: each leak is freed once, and nothing else is."""
    network = Network(node)
    live = set(add_all(network, [node.pod(f"live-{number}") for number in range(3)]))
    leaks = leak_all(network, 30)
    own = [node.pod() for _ in verbs]
    head = {**network.head, "cniVersion": "1.1.0"}
    commands = [
        node.plugin_command(verb, head, netns=pod, container_id=container_id(pod.name))
        for verb, pod in zip(verbs, own, strict=True)
    ]
    for ran in node.together(commands):
        ran.check()
    assert network.held() == live
    assert Counter(line["address"] for line in node.log("reaped")) == Counter(leaks)
    assert_no_defect(node)


def test_late_del_beside_freeing_add_gives_no_address_twice(node: Node) -> None:
    """Late DELs of leaks run beside ADDs that free them, in a pool too small for both: no address twice, none is left."""
    network = Network(node, first="10.66.0.10", last="10.66.0.17")
    (live,) = add_all(network, [node.pod("live")])
    dead: list[Pod] = []
    for _ in range(8):
        pods = [node.pod() for _ in range(7)]
        late = [chain(network, "DEL", container_id(pod.name), "") for pod in dead]
        answers = node.together([chain(network, "ADD", container_id(pod.name), pod.path) for pod in pods] + late)
        given = [ran.check().json()["ips"][0]["address"].partition("/")[0] for ran in answers[: len(pods)]]
        assert len({live, *given}) == 8
        assert {address: owner for address, (owner, _) in node.reservations(NETWORK).items()} == {
            live: container_id("live"),
            **{address: container_id(pod.name) for address, pod in zip(given, pods, strict=True)},
        }
        for pod in pods:
            pod.delete()
        dead = pods
    assert_no_defect(node)


MOMENTS = {"with the lock": "flock", "before it has written": "openat"}


@pytest.mark.parametrize("version", ["1.9.1", "1.1.1"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_stopped_host_local_gives_its_pod_its_address(make_node: MakeNode, moment: str, version: str) -> None:
    """Host-local stops in its ADD: ours ends in time and frees nothing; when it goes on, its pod has its address."""
    node = make_node(version)
    network = Network(node)
    live, stale = network.add(node.pod("live")), network.leak()
    pod = node.pod("slow")
    theirs = stopped_host_local(network, pod, MOMENTS[moment])
    blank = {address for address, (owner, _) in node.reservations(NETWORK).items() if not owner}
    assert len(blank) == (moment == "before it has written")
    network.reap()
    assert network.held() == {live, stale, *blank}
    assert "lock" in node.log("sweep-skipped")[-1]["reason"]
    given = theirs.go_on()["ips"][0]["address"].partition("/")[0]
    network.reap()
    assert node.reservations(NETWORK)[given] == (container_id("slow"), "eth0")
    assert network.held() == {live, given}
    assert_no_defect(node)


@pytest.mark.parametrize("version", ["1.9.1", "1.1.1"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_host_locals_blank_file_is_freed(make_node: MakeNode, moment: str, version: str) -> None:
    """Host-local is killed where it had stopped: its lock is free, and the blank file goes with the next ADD."""
    node = make_node(version)
    network = Network(node)
    live, stale = network.add(node.pod("live")), network.leak()
    theirs = stopped_host_local(network, node.pod("slow"), MOMENTS[moment])
    blank = network.held() - {live, stale}
    assert len(blank) == (moment == "before it has written")
    network.reap()
    assert network.held() == {live, stale, *blank}
    theirs.kill()
    network.reap()
    assert network.held() == {live}
    reasons = {line["address"]: line["reason"] for line in node.log("reaped")}
    assert reasons == {stale: "netns-gone", **dict.fromkeys(blank, "empty")}


def stopped_host_local(network: Network, pod: Pod, call: str) -> StoppedCall:
    """Run ADD of our plugin for a pod, and host-local's as far as its flock(2), or its creating the reservation's file."""
    node, owner = network.node, container_id(pod.name)
    node.plugin("ADD", {**network.head, "reapOn": []}, netns=pod, container_id=owner).check()
    theirs = node.plugin_command("ADD", network.ipam, binary="host-local", netns=pod, container_id=owner)
    if call == "flock":
        return stop_at(node, theirs, call)
    following = str(ip_address(max(map(ip_address, network.held()))) + 1)  # it gives them in their order
    return stop_at(node, theirs, call, f"{DATA_DIR}/{NETWORK}/{following}")


OLD_HOST_LOCAL = """
exec 9< {store} && flock 9 && set -C && : > {store}/{address} || exit 1
kill -STOP $$
printf {owner} >| {store}/{address}
"""
"""An ADD as host-local up to 0.6 does it: the lock is on the directory, and the ID alone is written. It stops before that."""


def stopped_old_host_local(network: Network, pod: Pod) -> tuple[int, str]:
    """Start such an ADD; return its process, which has stopped, and the address."""
    owner, address = container_id(pod.name), "10.66.0.200"
    process = network.node.start(
        ["sh", "-c", OLD_HOST_LOCAL.format(store=f"{DATA_DIR}/{NETWORK}", address=address, owner=owner)], netns=pod
    )
    status = network.node.path(f"/proc/{process}/stat")
    until(lambda: status.read_text().rpartition(") ")[2].startswith("T"), "it stops before it has written")
    return process, address


def test_old_stopped_host_locals_blank_file_is_kept(node: Node) -> None:
    """Its file is blank, and its lock is on the directory: it is kept, the leak beside it goes, and then it has its owner."""
    network = Network(node)
    live, stale = network.add(node.pod("live")), network.leak()
    process, blank = stopped_old_host_local(network, node.pod("slow"))
    network.reap()
    assert network.held() == {live, blank}
    assert [line["address"] for line in node.log("reaped")] == [stale]
    assert [(line["address"], "directory" in line["reason"]) for line in node.log("not-reaped")] == [(blank, True)]
    node.run(["kill", "-CONT", str(process)]).check()
    assert node.wait(process) == 0
    network.reap()
    assert node.reservations(NETWORK)[blank] == (container_id("slow"), "")
    assert network.held() == {live, blank}


def test_old_killed_host_locals_blank_file_is_freed(node: Node) -> None:
    """Its lock is gone with it, and the next ADD frees the blank file."""
    network = Network(node)
    live = network.add(node.pod("live"))
    process, blank = stopped_old_host_local(network, node.pod("slow"))
    network.reap()
    assert network.held() == {live, blank}
    node.stop(process)
    network.reap()
    assert network.held() == {live}
    assert [(line["address"], line["reason"]) for line in node.log("reaped")] == [(blank, "empty")]


CHURN = """
touch /run/churning-$0
while :; do
    ip netns add churn-$0; unshare --net true; ip netns del churn-$0
    ip netns add churn-$0-2; ip netns exec churn-$0-2 unshare --net true & ip netns del churn-$0-2
    wait
done
"""


def test_netns_that_come_and_go_change_nothing(node: Node) -> None:
    """Netns, with and without a path, are made and destroyed all the time while pods start and lose their DEL: as without."""
    network = Network(node)
    live = [node.pod(f"live-{number}") for number in range(4)]
    kept = dict(zip([container_id(pod.name) for pod in live], add_all(network, live), strict=True))
    churns = [node.start(["sh", "-c", CHURN, str(number)]) for number in range(2)]
    for number in range(2):
        until(node.path(f"/run/churning-{number}").exists, "netns come and go")
    freed = 0
    for _ in range(12):
        pods = [node.pod() for _ in range(6)]
        addresses = dict(zip([container_id(pod.name) for pod in pods], add_all(network, pods), strict=True))
        assert len({*kept.values(), *addresses.values()}) == len(kept) + len(pods)
        reserved = {owner: address for address, (owner, _) in node.reservations(NETWORK).items()}
        assert {**kept, **addresses}.items() <= reserved.items(), node.log()
        for pod in pods:
            pod.delete()
        freed = len(node.log("reaped"))
    assert freed > 30, "under the churn leaks go as well"
    for pid in churns:
        node.stop(pid)
    network.reap()
    assert network.held() == set(kept.values()), node.log("kept")
    assert_no_defect(node)


@pytest.mark.parametrize("recorded", [True, False])
def test_same_id_address_content_and_inode_again_are_kept(node: Node, recorded: bool) -> None:
    """ABA: between judgement and unlink the ID comes back with the same address, content and file inode: in flight, and kept.

    A file system that gives inode numbers again at once (ext4) is not at hand everywhere, so a hard link does it.
    """
    network = Network(node, first="10.66.0.9", last="10.66.0.9")
    address = network.leak("podman") if recorded else dead_without_record(network, "podman")
    owner = container_id("podman")
    file, pinned = node.path(f"{DATA_DIR}/{NETWORK}/{address}"), node.path("/var/lib/cni/pinned")
    os.link(file, pinned)
    judged = file.stat().st_ino, file.read_bytes()
    strace, child = stopped_at(node, network, "lock", 1, node.pod("trigger"))
    node.plugin("DEL", network.ipam, binary="host-local", netns="", container_id=owner).check()
    again = node.pod("podman")
    assert (network.add(again, owner, reapOn=[]) if recorded else network.take(again, owner)) == address
    file.unlink()
    os.link(pinned, file)
    assert (file.stat().st_ino, file.read_bytes()) == judged
    resume(node, strace, child)
    assert network.held() == {address}, node.log()
    again.delete()
    call_reaper(network)
    assert network.held() == set()
