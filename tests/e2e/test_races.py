"""Races on the real kernel: many ADDs, ADD against DEL, reaper against reaper and against host-local, netns that come and go.

In all of them: no address twice, what lives is kept, the leaks are gone in the end, and nothing waits for ever.
"""

import json
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from tests.conftest import MakeNode
from tests.e2e.halt import Halted, halted
from tests.e2e.pair import NETWORK, Pair, container_id, until
from tests.node import BIN, DATA_DIR, Command, Node, Pod, bridge, command, host_local, reaper

POOL = 253  # addresses of a /24 that host-local gives


def chain(pair: Pair, verb: str, owner: str, path: str) -> Command:
    """Describe a call of both plugins in their order, as libcni makes it."""
    node = pair.node
    node.write("/run/head.json", json.dumps(pair.head))
    node.write("/run/ipam.json", json.dumps(pair.ipam))
    steps = [f"{BIN}/cni-reaper < /run/head.json > /dev/null", f"{BIN}/host-local < /run/ipam.json"]
    env = {"CNI_COMMAND": verb, "CNI_CONTAINERID": owner, "CNI_NETNS": path, "CNI_IFNAME": "eth0", "CNI_PATH": BIN}
    return command(["sh", "-c", " && ".join(steps if verb == "ADD" else reversed(steps))], env=env)


def add_all(pair: Pair, pods: Sequence[Pod]) -> list[str]:
    """Run ADD of both plugins for all pods, 16 at a time; return their addresses."""
    addresses = []
    for start in range(0, len(pods), 16):
        commands = [chain(pair, "ADD", container_id(pod.name), pod.path) for pod in pods[start : start + 16]]
        addresses += [ran.check().json()["ips"][0]["address"].partition("/")[0] for ran in pair.node.together(commands)]
    return addresses


def leak_all(pair: Pair, count: int) -> set[str]:
    """Leave so many leaks; return their addresses."""
    pods = [pair.node.pod() for _ in range(count)]
    addresses = add_all(pair, pods)
    for pod in pods:
        pod.delete()
    return set(addresses)


def assert_no_defect(node: Node) -> None:
    """Nothing of ours has crashed or met an error."""
    assert [line for line in node.log() if line["level"] == "error" or line["event"] == "not-reaped"] == []


def test_110_adds_at_once_on_a_full_pool(node: Node) -> None:
    """110 pods start at once where leaks hold every address that no pod has: each gets one, no two the same, all leaks go."""
    pair = Pair(node)
    node.conflist(NETWORK, [reaper(), bridge(host_local("10.66.0.0/24"))])
    live = [node.pod(f"live-{number}") for number in range(3)]
    for pod in live:
        node.cnitool("add", NETWORK, pod).check()
    before = node.reservations(NETWORK)
    leaks = leak_all(pair, POOL - len(live))
    assert len(pair.held()) == POOL
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


def test_add_against_del_of_the_same_container(node: Node) -> None:
    """A DEL of a container's old netns runs beside the ADD of its new one: we free nothing of the new, all of the old."""
    pair = Pair(node)
    (live,) = add_all(pair, [node.pod("live")])
    owner = container_id("podman")
    for life in range(12):
        old, new = node.pod(f"old-{life}"), node.pod(f"new-{life}")
        node.together([chain(pair, "ADD", owner, old.path)])[0].check()
        added, deleted = node.together([chain(pair, "ADD", owner, new.path), chain(pair, "DEL", owner, old.path)])
        deleted.check()
        old.delete()
        reaped = {line["address"] for line in node.log("reaped")}
        if added.rc == 0:  # host-local refuses while the old address stands: it counts by ID
            given = added.json()["ips"][0]["address"].partition("/")[0]
            assert given not in reaped
        assert live in pair.held()
        node.together([chain(pair, "DEL", owner, new.path)])[0].check()
        new.delete()
        assert pair.held() == {live}
    assert_no_defect(node)


@pytest.mark.parametrize("verbs", [("ADD", "ADD"), ("ADD", "DEL"), ("ADD", "ADD", "DEL", "GC")])
def test_reapers_at_once(node: Node, verbs: Sequence[str]) -> None:
    """Several calls reap the same leaks at the same time: each leak is freed once, and nothing else is."""
    pair = Pair(node)
    live = set(add_all(pair, [node.pod(f"live-{number}") for number in range(3)]))
    leaks = leak_all(pair, 30)
    own = [node.pod() for _ in verbs]
    head = {**pair.head, "cniVersion": "1.1.0"}
    commands = [
        node.plugin_command(verb, head, netns=pod, container_id=container_id(pod.name))
        for verb, pod in zip(verbs, own, strict=True)
    ]
    for ran in node.together(commands):
        ran.check()
    assert pair.held() == live
    assert Counter(line["address"] for line in node.log("reaped")) == Counter(leaks)
    assert_no_defect(node)


def test_the_late_del_of_a_leak_against_the_add_that_frees_it(node: Node) -> None:
    """Late DELs of leaks run beside ADDs that free them, in a pool too small for both: no address twice, none is left."""
    pair = Pair(node, first="10.66.0.10", last="10.66.0.17")
    (live,) = add_all(pair, [node.pod("live")])
    dead: list[Pod] = []
    for _ in range(8):
        pods = [node.pod() for _ in range(7)]
        late = [chain(pair, "DEL", container_id(pod.name), "") for pod in dead]
        answers = node.together([chain(pair, "ADD", container_id(pod.name), pod.path) for pod in pods] + late)
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
def test_a_host_local_that_stops(make_node: MakeNode, moment: str, version: str) -> None:
    """Host-local stops in its ADD: ours ends in time and frees nothing; when it goes on, its pod has its address."""
    node = make_node(version)
    pair = Pair(node)
    live, stale = pair.add(node.pod("live")), pair.leak()
    pod = node.pod("slow")
    theirs = stopped_host_local(pair, pod, MOMENTS[moment])
    blank = {address for address, (owner, _) in node.reservations(NETWORK).items() if not owner}
    assert len(blank) == (moment == "before it has written")
    pair.reap()
    assert pair.held() == {live, stale, *blank}
    assert "lock" in node.log("sweep-skipped")[-1]["reason"]
    given = theirs.go_on()["ips"][0]["address"].partition("/")[0]
    pair.reap()
    assert node.reservations(NETWORK)[given] == (container_id("slow"), "eth0")
    assert pair.held() == {live, given}
    assert_no_defect(node)


@pytest.mark.parametrize("version", ["1.9.1", "1.1.1"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_host_local_that_is_killed(make_node: MakeNode, moment: str, version: str) -> None:
    """Host-local is killed where it had stopped: its lock is free, and the blank file goes with the next ADD."""
    node = make_node(version)
    pair = Pair(node)
    live, stale = pair.add(node.pod("live")), pair.leak()
    theirs = stopped_host_local(pair, node.pod("slow"), MOMENTS[moment])
    blank = pair.held() - {live, stale}
    assert len(blank) == (moment == "before it has written")
    pair.reap()
    assert pair.held() == {live, stale, *blank}
    theirs.kill()
    pair.reap()
    assert pair.held() == {live}
    reasons = {line["address"]: line["reason"] for line in node.log("reaped")}
    assert reasons == {stale: "netns-gone", **dict.fromkeys(blank, "empty")}


def stopped_host_local(pair: Pair, pod: Pod, call: str) -> Halted:
    """Run ADD of our plugin for a pod, and host-local's as far as its flock(2), or its creating the reservation's file."""
    node, owner = pair.node, container_id(pod.name)
    node.plugin("ADD", {**pair.head, "reapOn": []}, netns=pod, container_id=owner).check()
    theirs = node.plugin_command("ADD", pair.ipam, binary="host-local", netns=pod, container_id=owner)
    if call == "flock":
        return halted(node, theirs, call)
    following = str(ip_address(max(map(ip_address, pair.held()))) + 1)  # it gives them in their order
    return halted(node, theirs, call, f"{DATA_DIR}/{NETWORK}/{following}")


OLD_HOST_LOCAL = """
exec 9< {store} && flock 9 && set -C && : > {store}/{address} || exit 1
kill -STOP $$
printf {owner} >| {store}/{address}
"""
"""An ADD as host-local up to 0.6 does it: the lock is on the directory, and the ID alone is written. It stops before that."""


def stopped_old_host_local(pair: Pair, pod: Pod) -> tuple[int, str]:
    """Start such an ADD; return its process, which has stopped, and the address."""
    owner, address = container_id(pod.name), "10.66.0.200"
    process = pair.node.start(
        ["sh", "-c", OLD_HOST_LOCAL.format(store=f"{DATA_DIR}/{NETWORK}", address=address, owner=owner)], netns=pod
    )
    status = pair.node.path(f"/proc/{process}/stat")
    until(lambda: status.read_text().rpartition(") ")[2].startswith("T"), "it stops before it has written")
    return process, address


def test_an_old_host_local_that_stops_before_it_has_written(node: Node) -> None:
    """Its file is blank, and its lock is on the directory: it is kept, the leak beside it goes, and then it has its owner."""
    pair = Pair(node)
    live, stale = pair.add(node.pod("live")), pair.leak()
    process, blank = stopped_old_host_local(pair, node.pod("slow"))
    pair.reap()
    assert pair.held() == {live, blank}
    assert [line["address"] for line in node.log("reaped")] == [stale]
    assert [(line["address"], "directory" in line["reason"]) for line in node.log("not-reaped")] == [(blank, True)]
    node.run(["kill", "-CONT", str(process)]).check()
    assert node.wait(process) == 0
    pair.reap()
    assert node.reservations(NETWORK)[blank] == (container_id("slow"), "")
    assert pair.held() == {live, blank}


def test_an_old_host_local_that_is_killed_before_it_has_written(node: Node) -> None:
    """Its lock is gone with it, and the next ADD frees the blank file."""
    pair = Pair(node)
    live = pair.add(node.pod("live"))
    process, blank = stopped_old_host_local(pair, node.pod("slow"))
    pair.reap()
    assert pair.held() == {live, blank}
    node.stop(process)
    pair.reap()
    assert pair.held() == {live}
    assert [(line["address"], line["reason"]) for line in node.log("reaped")] == [(blank, "empty")]


CHURN = """
touch /run/churning-$0
while :; do
    ip netns add churn-$0; unshare --net true; ip netns del churn-$0
    ip netns add churn-$0-2; ip netns exec churn-$0-2 unshare --net true & ip netns del churn-$0-2
    wait
done
"""


def test_netns_that_come_and_go_under_the_sweep(node: Node) -> None:
    """Netns, with and without a path, are made and destroyed all the time while pods start and lose their DEL: as without."""
    pair = Pair(node)
    live = [node.pod(f"live-{number}") for number in range(4)]
    kept = dict(zip([container_id(pod.name) for pod in live], add_all(pair, live), strict=True))
    churns = [node.start(["sh", "-c", CHURN, str(number)]) for number in range(2)]
    for number in range(2):
        until(node.path(f"/run/churning-{number}").exists, "netns come and go")
    freed = 0
    for _ in range(12):
        pods = [node.pod() for _ in range(6)]
        addresses = dict(zip([container_id(pod.name) for pod in pods], add_all(pair, pods), strict=True))
        assert len({*kept.values(), *addresses.values()}) == len(kept) + len(pods)
        reserved = {owner: address for address, (owner, _) in node.reservations(NETWORK).items()}
        assert {**kept, **addresses}.items() <= reserved.items(), node.log()
        for pod in pods:
            pod.delete()
        freed = len(node.log("reaped"))
    assert freed > 30, "under the churn leaks go as well"
    for pid in churns:
        node.stop(pid)
    pair.reap()
    assert pair.held() == set(kept.values()), node.log("kept")
    assert_no_defect(node)
