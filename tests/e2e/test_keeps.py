"""What is never freed: addresses that somebody may hold. The frozen executable, real host-local, real namespaces.

In every test a leak stands beside what must be kept, and is gone in the end: a plugin that keeps everything would fail, too.
"""

import json
import os
import signal

import pytest

from tests import inside
from tests.e2e.pair import NETWORK, Pair, container_id, until
from tests.node import BIN, DATA_DIR, LOG_FILE, STATE_DIR, Node, Pod, bridge, host_local, reaper

RESULTS = "/var/lib/cni/results"


@pytest.fixture
def pair(node: Node) -> Pair:
    """A network of cni-reaper and host-local with one leak in it."""
    return Pair(node)


def inode(node: Node, path: str) -> int:
    """Return the inode number of the netns mounted at a path of the node."""
    return int(node.run(["stat", "-L", "-c", "%i", path]).check().out)


def forget(node: Node, owner: str, ifname: str = "eth0", network: str = NETWORK) -> None:
    """Lose our record of an attachment."""
    node.path(f"{STATE_DIR}/{network}/{owner}:{ifname}").unlink()


def time_for_another_look(node: Node) -> None:
    """Do what ten seconds do: forget what the last full scan has found to stay, by a netns or a process that still stands."""
    node.path(f"/run/cni-reaper/{NETWORK}.json").unlink()


def assert_reaps_all_but(pair: Pair, kept: set[str]) -> None:
    """Run an ADD and compare what is reserved after it."""
    pair.reap()
    assert pair.held() == kept, pair.node.log()


def test_live_pods_through_200_cycles_of_others(node: Node) -> None:
    """Live pods keep their addresses while 200 others come, and go with or without DEL, 10 at a time."""
    node.conflist("net", [reaper(), bridge(host_local("10.66.0.0/24"))])
    live = [node.pod(f"live-{number}") for number in range(5)]
    for pod in live:
        node.cnitool("add", "net", pod).check()
    before = {pod.name: pod.addresses() for pod in live}
    owners = node.reservations("net")
    assert len(owners) == len(live)
    for start in range(0, 200, 10):
        pods = [node.pod(f"other-{number}") for number in range(start, start + 10)]
        for ran in node.together([node.cnitool_command("add", "net", pod) for pod in pods]):
            ran.check()
        for ran in node.together([node.cnitool_command("del", "net", pod) for pod in pods[:7]]):
            ran.check()
        for pod in pods:
            pod.delete()
        assert owners.items() <= node.reservations("net").items()
    last = node.pod("last")
    node.cnitool("add", "net", last).check()
    assert {address.partition("/")[0] for pod in [*live, last] for address in pod.addresses()} == set(node.reservations("net"))
    assert before == {pod.name: pod.addresses() for pod in live}


@pytest.mark.parametrize("dead_is_longer", [True, False])
def test_an_id_that_is_a_prefix_of_anothers(pair: Pair, dead_is_longer: bool) -> None:
    """A live pod is not taken for the dead one whose ID begins like its own, nor the other way round."""
    short, longer = "abcdef0123456789", "abcdef0123456789abcdef"
    live, dead = (short, longer) if dead_is_longer else (longer, short)
    kept = pair.add(pair.node.pod("live"), live)
    gone = pair.node.pod("dead")
    pair.add(gone, dead)
    gone.delete()
    assert_reaps_all_but(pair, {kept})


def test_a_netns_made_again_under_the_same_name_for_another_container(pair: Pair) -> None:
    """The path of the dead container's record is a netns again, of somebody else: only the dead one's address is freed."""
    node = pair.node
    pair.leak("web")
    again = node.pod("web")
    kept = pair.add(again, container_id("another container"))
    assert_reaps_all_but(pair, {kept})


def test_the_same_container_in_a_netns_made_again_under_the_same_name(node: Node) -> None:
    """Cnitool gives the same ID for the same path: the address of the second life is kept, that of the first freed."""
    node.conflist("net", [reaper(), bridge(host_local("10.66.0.0/24"))])
    first = node.pod("web")
    node.cnitool("add", "net", first).check()
    old = set(node.reservations("net"))
    first.delete()
    second = node.pod("web")
    node.cnitool("add", "net", second).check()
    own = {address.partition("/")[0] for address in second.addresses()}
    assert set(node.reservations("net")) == own != old
    node.cnitool("add", "net", node.pod()).check()
    assert own < set(node.reservations("net"))
    assert [line["reason"] for line in node.log("reaped")] == ["added-again"]


def with_the_number_of_a_dead_one(pair: Pair, name: str) -> Pod:
    """Leave a leak of a netns called `name` and return another netns with the same inode number.

    The kernel frees a number a while after the netns has gone, and gives the lowest free one to whoever on the machine comes
    next: so netns are made, and kept, until one has it, and if another test was faster, it all begins anew.
    """
    node = pair.node
    for attempt in range(20):
        dead = node.pod(name)
        number = inode(node, dead.path)
        pair.add(dead, container_id(f"dead {attempt}"))
        dead.delete()
        tried = []
        for _ in range(100):
            tried.append(node.pod())
            if inode(node, tried[-1].path) == number:
                for pod in tried[:-1]:
                    pod.delete()
                return tried[-1]
        for pod in tried:
            pod.delete()
    raise AssertionError("no inode number was used again in 20 times 100 tries")


def test_an_inode_number_given_to_the_next_netns(pair: Pair) -> None:
    """The kernel gives the number of the dead netns to the next one: the dead owner is freed, the next one kept."""
    live = with_the_number_of_a_dead_one(pair, "dead")
    assert_reaps_all_but(pair, {pair.add(live, container_id("live"))})


def test_an_inode_number_given_to_a_netns_at_the_same_path(pair: Pair) -> None:
    """Path and inode number are both used again, by another container: its address is kept."""
    node = pair.node
    live = with_the_number_of_a_dead_one(pair, "web")
    node.write("/run/netns/web", "")
    node.mount(live.path, "/run/netns/web", flags=inside.MS_BIND)
    node.umount(live.path)
    node.path(live.path).unlink()
    same = Pod(node, "web", "/run/netns/web")
    assert_reaps_all_but(pair, {pair.add(same, container_id("live"))})


def test_a_lazily_unmounted_netns_with_a_process_in_it(pair: Pair) -> None:
    """The path is gone, the process runs on: kept; once the process has ended: freed."""
    pair.leak()
    pod = pair.node.pod("live")
    process = pod.live()
    address = pair.add(pod)
    pair.node.umount(pod.path)
    pair.node.path(pod.path).unlink()
    assert_reaps_all_but(pair, {address})
    pair.node.stop(process)
    assert_reaps_all_but(pair, set())


def test_a_netns_below_another_mount(pair: Pair) -> None:
    """A tmpfs over /run/netns hides every path while the pod's process runs: kept."""
    node = pair.node
    pair.leak()
    pod = node.pod("live")
    pod.live()
    address = pair.add(pod)
    node.mount("tmpfs", "/run/netns", "tmpfs")
    assert not node.path(pod.path).exists()
    assert_reaps_all_but(pair, {address})


def test_a_netns_path_below_another_file_without_a_process(pair: Pair) -> None:
    """Something is mounted over the netns' own file, and nobody lives in it: its mount is still there, kept."""
    node = pair.node
    pair.leak()
    pod = node.pod("live")
    address = pair.add(pod)
    node.mount("/dev/null", pod.path, flags=inside.MS_BIND)
    assert_reaps_all_but(pair, {address})
    node.umount(pod.path)
    assert_reaps_all_but(pair, {address})
    pod.delete()
    assert_reaps_all_but(pair, set())


@pytest.mark.parametrize("lost", ["nothing", "path", "record", "record and path"])
def test_a_pod_that_takes_its_address_off_the_interface(node: Node, lost: str) -> None:
    """gVisor: the kernel shows no address in the pod's netns. Kept, also when path or record are lost."""
    node.conflist("net", [reaper(), bridge(host_local("10.66.0.0/24"))])
    leak = node.pod()
    node.cnitool("add", "net", leak).check()
    leak.delete()
    pod = node.pod("gvisor")
    pod.live()
    node.cnitool("add", "net", pod).check()
    (address,) = pod.addresses()
    node.delete_address("eth0", address, pod.path)
    if "record" in lost:
        forget(node, pod.container_id)
        node.path(f"{RESULTS}/net-{pod.container_id}-eth0").unlink()
    if "path" in lost:
        node.umount(pod.path)
        node.path(pod.path).unlink()
    node.cnitool("add", "net", node.pod()).check()
    kept = node.reservations("net")
    assert address.partition("/")[0] in kept
    assert leak.container_id not in {owner for owner, _ in kept.values()}


def test_a_container_that_its_runtime_names(pair: Pair) -> None:
    """No record, no address, its netns named for another container: a task directory or a cgroup of its ID keeps it."""
    node = pair.node
    pod = node.pod("shared")
    other = pair.add(pod, container_id("other"))
    owner = container_id("named")
    kept = pair.add(pod, owner)
    forget(node, owner)
    tasks = node.path(f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{owner}")
    tasks.mkdir(parents=True)
    assert_reaps_all_but(pair, {kept, other})
    tasks.rmdir()
    process = node.start(["sleep", "infinity"])
    node.write("/run/cgroup", f"0::/kubepods.slice/cri-containerd-{owner}.scope\n")
    node.mount("/run/cgroup", f"/proc/{process}/cgroup", flags=inside.MS_BIND)
    assert_reaps_all_but(pair, {kept, other})
    node.umount(f"/proc/{process}/cgroup")
    time_for_another_look(node)
    assert_reaps_all_but(pair, {other})


def test_two_interfaces_of_one_container(pair: Pair) -> None:
    """DEL of one interface leaves the other's address alone, also when that one's record is lost."""
    node = pair.node
    pair.leak()
    pod = node.pod("both")
    owner = container_id("both")
    pair.add(pod, owner, "eth0")
    second = pair.add(pod, owner, "net1")
    pair.give_back(pod, owner, "eth0")
    assert pair.held() == {second}
    forget(node, owner, "net1")
    pair.leak()
    assert_reaps_all_but(pair, {second})


def test_a_second_network_of_a_container_in_mid_add(node: Node) -> None:
    """Podman without us on the second network: its reservation is there, its ADD still runs, its sibling's netns is alive."""
    one, two = Pair(node, network="one"), Pair(node, subnet="10.67.0.0/24", network="two")
    pod = node.pod("podman")
    first = one.add(pod, container_id("podman"))
    second = two.take(pod, container_id("podman"))
    stale = two.leak()
    one.reap(networks=["*"])
    assert (one.held(), two.held()) == ({first}, {second})
    assert stale != second


@pytest.mark.parametrize("where", ["another netns", "the host"])
def test_the_address_of_a_dead_owner_that_somebody_uses(pair: Pair, where: str) -> None:
    """A dead owner's address that is configured somewhere is not given to the next pod."""
    node = pair.node
    address = pair.leak()
    other = node.pod("other").path if where == "another netns" else None
    node.add_address("lo", f"{address}/32", other)
    pair.leak()
    assert_reaps_all_but(pair, {address})
    node.delete_address("lo", f"{address}/32", other)
    time_for_another_look(node)
    assert_reaps_all_but(pair, set())


def test_an_ipv6_address_that_somebody_uses(node: Node) -> None:
    """The last guard reads IPv6 addresses, too."""
    pair = Pair(node, subnet="fd66::/64")
    address = pair.leak()
    node.add_address("lo", f"{address}/128", node.pod("other").path)
    assert_reaps_all_but(pair, {address})


def test_an_unmapped_owner_beside_a_netns_that_nobody_names(pair: Pair) -> None:
    """Without a record, one netns that might be the owner's is enough to keep the address."""
    node = pair.node
    dead = node.pod("dead")
    address = pair.take(dead, container_id("dead"))
    dead.delete()
    stranger = node.pod("stranger")
    assert_reaps_all_but(pair, {address})
    stranger.delete()
    assert_reaps_all_but(pair, set())


CONTENTS = {
    "an operator's note": b"reserved",
    "an ID no runtime gives": b"my-router\r\neth0\n",
    "two lines too many": container_id("x").encode() + b"\r\neth0\r\nmore",
    "a path": b"../../etc/passwd\r\neth0",
    "not UTF-8": b"\xff\xfe\xfd",
    "too long": b"a" * 5000,
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_content_that_is_no_runtimes_owner(pair: Pair, content: bytes) -> None:
    """What host-local did not write for a container is kept."""
    pair.leak()
    pair.node.path(f"{DATA_DIR}/{NETWORK}/10.66.0.99").write_bytes(content)
    pair.reap()
    assert set(os.listdir(pair.node.path(f"{DATA_DIR}/{NETWORK}"))) == {"10.66.0.99", "lock", "last_reserved_ip.0"}


def test_names_that_are_no_addresses_of_host_local(pair: Pair) -> None:
    """Links, directories, FIFOs and other spellings of addresses are neither followed nor removed."""
    node = pair.node
    owner = container_id("dead").encode() + b"\r\neth0"
    pair.leak()
    store = node.path(f"{DATA_DIR}/{NETWORK}")
    (store / "10.66.0.77").mkdir()
    (store / "10.66.0.78").symlink_to("/run/elsewhere")
    node.path("/run/elsewhere").write_bytes(owner)
    os.mkfifo(store / "10.66.0.79")
    strange = ["fd66:0:0::1", "FD66::1", "10.66.0.080", "10.66.0.256", "10.66.0", "...", "fd66::2.bak"]
    for name in strange:
        (store / name).write_bytes(owner)
    pair.reap()
    assert {*os.listdir(store)} == {"lock", "last_reserved_ip.0", "10.66.0.77", "10.66.0.78", "10.66.0.79", *strange}
    assert node.path("/run/elsewhere").read_bytes() == owner


def stopped_at(node: Node, pair: Pair, path: str, when: int, netns: Pod) -> tuple[int, int]:
    """Start an ADD of our plugin under strace and return its PID once it has stopped itself at an open of a file.

    The kernel stops it by SIGSTOP at the `when`-th openat(2) of the path, which no test has to hit by chance.
    """
    conf = {**pair.head}
    node.write("/run/conf.json", json.dumps(conf))
    variables = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": container_id(netns.name),
        "CNI_NETNS": netns.path,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": BIN,
    }
    inject = f"-e trace=openat -P {path} -e inject=openat:signal=STOP:when={when}"
    trace = f"exec strace -qq -o /run/trace {inject} {BIN}/cni-reaper < /run/conf.json > /run/result"
    strace = node.start(["sh", "-c", trace], env=variables)
    written = node.path("/run/trace")
    until(lambda: written.exists() and "stopped by SIGSTOP" in written.read_text(), f"the plugin stops at {path}")
    (child,) = map(int, node.path(f"/proc/{strace}/task/{strace}/children").read_text().split())
    return strace, child


def resume(node: Node, strace: int, child: int) -> None:
    """Let the plugin go on to its end."""
    node.path("/run/trace").unlink()
    node.run(["kill", "-CONT", str(child)]).check()
    until(lambda: not node.path(f"/proc/{child}").exists(), "the plugin ends")
    assert json.loads(node.read("/run/result")) == {"cniVersion": "1.0.0"}
    assert strace


def test_a_reservation_made_between_snapshot_and_judgement(pair: Pair) -> None:
    """A pod that starts while a sweep looks around is in no snapshot of it; what was leaked before is freed."""
    node = pair.node
    stale = pair.leak()
    strace, child = stopped_at(node, pair, "/proc/self/mountinfo", 2, node.pod("trigger"))
    assert stale in pair.held()  # the snapshot is taken, nothing is judged for good
    late = pair.add(node.pod("late"), reapOn=[])
    resume(node, strace, child)
    assert pair.held() == {late}, node.log()


def test_a_reservation_made_before_anything_is_looked_at_is_judged_with_its_netns(pair: Pair) -> None:
    """Netns are looked for after the snapshot, never before: a pod that starts in between is seen alive."""
    node = pair.node
    pair.leak()
    strace, child = stopped_at(node, pair, f"{DATA_DIR}/{NETWORK}", 1, node.pod("trigger"))
    pod = node.pod("late")
    late = pair.take(pod, container_id("late"))  # no record of it
    resume(node, strace, child)
    assert pair.held() >= {late}, node.log()


def test_the_same_id_back_with_the_same_address_between_judgement_and_unlink(node: Node) -> None:
    """A container starts again in a new netns and gets its old address, from a pool of one, while a sweep waits for the lock."""
    pair = Pair(node, subnet="10.66.0.0/24", first="10.66.0.9", last="10.66.0.9")
    address = pair.leak("podman")
    owner = container_id("podman")
    strace, child = stopped_at(node, pair, "lock", 1, node.pod("trigger"))
    again = node.pod("podman")
    node.plugin("DEL", pair.ipam, binary="host-local", netns="", container_id=owner).check()
    assert pair.add(again, owner, reapOn=[]) == address
    resume(node, strace, child)
    assert pair.held() == {address}, node.log()
    assert node.log("reaped") == []
    assert_reaps_all_but(pair, {address})


def test_an_address_of_this_call_is_not_freed_by_a_repeated_add(pair: Pair) -> None:
    """ADD repeated for the same netns, by an impatient client while the first still runs, frees nothing."""
    pod = pair.node.pod()
    address = pair.add(pod)
    pair.leak()
    pair.node.plugin("ADD", pair.head, netns=pod, container_id=container_id(pod.name)).check()
    assert pair.held() == {address}


def test_del_of_an_old_life_keeps_the_new_one(pair: Pair) -> None:
    """A late DEL with the netns of the first life releases nothing of the second."""
    node = pair.node
    first, second = node.pod("first"), node.pod("second")
    owner = container_id("podman")
    pair.add(first, owner)
    kept = pair.add(second, owner)
    node.plugin("DEL", pair.head, netns=first, container_id=owner).check()
    assert pair.held() == {kept}


def test_a_view_that_sees_no_pods(pair: Pair) -> None:
    """In a mount and PID namespace of a daemon's container the self-check fails: ADD and DEL free nothing, and say so."""
    node = pair.node
    live = pair.add(node.pod("live"))
    stale = pair.leak()
    trigger = node.pod("trigger")
    script = "umount -l /run/netns/* 2>/dev/null; exec /opt/cni/bin/cni-reaper"
    for verb in ("ADD", "DEL"):
        command = node.plugin_command(verb, pair.head, netns=trigger, container_id=container_id("trigger"))
        command["argv"] = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
        ]
        node.together([command])[0].check()
        assert pair.held() == {live, stale}
        assert node.log("sweep-skipped")[-1]["reason"].startswith("this process cannot be sure to see")
    assert_reaps_all_but(pair, {live})


def test_sees_through_other_mount_namespaces(pair: Pair) -> None:
    """Another runtime's netns, pinned only in its private mount namespace and without a process: kept."""
    node = pair.node
    pod = node.pod("kubens")
    address = pair.add(pod)
    pair.leak()
    holder = node.start(["unshare", "--mount", "--propagation", "private", "sleep", "infinity"])
    until(
        lambda: os.readlink(node.path(f"/proc/{holder}/ns/mnt")) != os.readlink(node.path("/proc/1/ns/mnt")),
        "the holder has its own mounts",
    )
    node.umount(pod.path)  # and no unlink: that would detach it in the other mount namespace, too
    assert_reaps_all_but(pair, {address})
    node.stop(holder, signal.SIGKILL)
    assert_reaps_all_but(pair, set())


def test_dry_run_frees_nothing(pair: Pair) -> None:
    """DryRun says what would be freed and frees nothing."""
    stale = pair.leak()
    pair.reap(dryRun=True)
    assert pair.held() == {stale}
    assert [line["address"] for line in pair.node.log("would-reap")] == [stale]
    assert pair.node.path(LOG_FILE).exists()
