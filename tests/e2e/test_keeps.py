"""What is never freed: addresses that somebody may hold. The frozen executable, real host-local, real namespaces.

In every test a leak stands beside what must be kept, and is gone in the end: a plugin that keeps everything would fail, too.
"""

import os
import signal

import pytest

from tests.support import agent
from tests.support.calls import forget
from tests.support.cni_calls import Pod, bridge, host_local, reaper
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, LOG_FILE
from tests.support.stopped_call import resume, stopped_at
from tests.support.waiting import until

RESULTS = "/var/lib/cni/results"


def inode(node: Node, path: str) -> int:
    """Return the inode number of the netns mounted at a path of the node."""
    return int(node.run(["stat", "-L", "-c", "%i", path]).check().out)


def time_for_another_look(node: Node) -> None:
    """Do what ten seconds do: forget what the last full scan has found to stay, by a netns or a process that still stands."""
    node.path(f"/run/cni-reaper/{NETWORK}.json").unlink()


def assert_reaps_all_but(network: Network, kept: set[str]) -> None:
    """Run an ADD and compare what is reserved after it."""
    network.reap()
    assert network.held() == kept, network.node.log()


def test_live_pods_keep_addresses_through_200_cycles(node: Node) -> None:
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
def test_id_that_is_a_prefix_of_anothers_is_told_apart(network: Network, dead_is_longer: bool) -> None:
    """A live pod is not taken for the dead one whose ID begins like its own, nor the other way round."""
    short, longer = "abcdef0123456789", "abcdef0123456789abcdef"
    live, dead = (short, longer) if dead_is_longer else (longer, short)
    kept = network.add(network.node.pod("live"), live)
    gone = network.node.pod("dead")
    network.add(gone, dead)
    gone.delete()
    assert_reaps_all_but(network, {kept})


def test_netns_made_again_for_another_container_is_kept(network: Network) -> None:
    """The path of the dead container's record is a netns again, of somebody else: only the dead one's address is freed."""
    node = network.node
    network.leak("web")
    again = node.pod("web")
    kept = network.add(again, container_id("another container"))
    assert_reaps_all_but(network, {kept})


def test_same_container_in_new_netns_keeps_second_address(node: Node) -> None:
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


def with_the_number_of_a_dead_one(network: Network, name: str) -> Pod:
    """Leave a leak of a netns called `name` and return another netns with the same inode number.

    The kernel frees a number a while after the netns has gone, and gives the lowest free one to whoever on the machine comes
    next: so netns are made, and kept, until one has it, and if another test was faster, it all begins anew.
    """
    node = network.node
    for attempt in range(20):
        dead = node.pod(name)
        number = inode(node, dead.path)
        network.add(dead, container_id(f"dead {attempt}"))
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


def test_reused_inode_number_keeps_next_netns(network: Network) -> None:
    """The kernel gives the number of the dead netns to the next one: the dead owner is freed, the next one kept."""
    live = with_the_number_of_a_dead_one(network, "dead")
    assert_reaps_all_but(network, {network.add(live, container_id("live"))})


def test_reused_inode_number_and_path_keep_next_netns(network: Network) -> None:
    """Path and inode number are both used again, by another container: its address is kept."""
    node = network.node
    live = with_the_number_of_a_dead_one(network, "web")
    node.write("/run/netns/web", "")
    node.mount(live.path, "/run/netns/web", flags=agent.MS_BIND)
    node.umount(live.path)
    node.path(live.path).unlink()
    same = Pod(node, "web", "/run/netns/web")
    assert_reaps_all_but(network, {network.add(same, container_id("live"))})


def test_lazily_unmounted_netns_with_process_is_kept(network: Network) -> None:
    """The path is gone, the process runs on: kept; once the process has ended: freed."""
    network.leak()
    pod = network.node.pod("live")
    process = pod.live()
    address = network.add(pod)
    network.node.umount(pod.path)
    network.node.path(pod.path).unlink()
    assert_reaps_all_but(network, {address})
    network.node.stop(process)
    assert_reaps_all_but(network, set())


def test_netns_below_another_mount_is_kept(network: Network) -> None:
    """A tmpfs over /run/netns hides every path while the pod's process runs: kept."""
    node = network.node
    network.leak()
    pod = node.pod("live")
    pod.live()
    address = network.add(pod)
    node.mount("tmpfs", "/run/netns", "tmpfs")
    assert not node.path(pod.path).exists()
    assert_reaps_all_but(network, {address})


def test_overmounted_netns_without_process_is_kept(network: Network) -> None:
    """Something is mounted over the netns' own file, and nobody lives in it: its mount is still there, kept."""
    node = network.node
    network.leak()
    pod = node.pod("live")
    address = network.add(pod)
    node.mount("/dev/null", pod.path, flags=agent.MS_BIND)
    assert_reaps_all_but(network, {address})
    node.umount(pod.path)
    assert_reaps_all_but(network, {address})
    pod.delete()
    assert_reaps_all_but(network, set())


@pytest.mark.parametrize("lost", ["nothing", "path", "record", "record and path"])
def test_pod_that_takes_its_address_off_is_kept(node: Node, lost: str) -> None:
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


def test_container_named_by_its_runtime_is_kept(network: Network) -> None:
    """No record, no address, its netns named for another container: a task directory or a cgroup of its ID keeps it."""
    node = network.node
    pod = node.pod("shared")
    other = network.add(pod, container_id("other"))
    owner = container_id("named")
    kept = network.add(pod, owner)
    forget(node, owner)
    tasks = node.path(f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{owner}")
    tasks.mkdir(parents=True)
    assert_reaps_all_but(network, {kept, other})
    tasks.rmdir()
    process = node.start(["sleep", "infinity"])
    node.write("/run/cgroup", f"0::/kubepods.slice/cri-containerd-{owner}.scope\n")
    node.mount("/run/cgroup", f"/proc/{process}/cgroup", flags=agent.MS_BIND)
    assert_reaps_all_but(network, {kept, other})
    node.umount(f"/proc/{process}/cgroup")
    time_for_another_look(node)
    assert_reaps_all_but(network, {other})


def test_del_of_one_interface_keeps_the_other(network: Network) -> None:
    """DEL of one interface leaves the other's address alone, also when that one's record is lost."""
    node = network.node
    network.leak()
    pod = node.pod("both")
    owner = container_id("both")
    network.add(pod, owner, "eth0")
    second = network.add(pod, owner, "net1")
    network.give_back(pod, owner, "eth0")
    assert network.held() == {second}
    forget(node, owner, "net1")
    network.leak()
    assert_reaps_all_but(network, {second})


def test_second_network_in_mid_add_is_kept(node: Node) -> None:
    """Podman without us on the second network: its reservation is there, its ADD still runs, its sibling's netns is alive."""
    one, two = Network(node, name="one"), Network(node, subnet="10.67.0.0/24", name="two")
    pod = node.pod("podman")
    first = one.add(pod, container_id("podman"))
    second = two.take(pod, container_id("podman"))
    stale = two.leak()
    one.reap(networks=["*"])
    assert (one.held(), two.held()) == ({first}, {second})
    assert stale != second


@pytest.mark.parametrize("where", ["another netns", "the host"])
def test_dead_owners_address_in_use_is_kept(network: Network, where: str) -> None:
    """A dead owner's address that is configured somewhere is not given to the next pod."""
    node = network.node
    other = node.pod("other").path if where == "another netns" else None  # before the leak, whose number it would else have
    address = network.leak()
    node.add_address("lo", f"{address}/32", other)
    network.leak()
    assert_reaps_all_but(network, {address})
    node.delete_address("lo", f"{address}/32", other)
    time_for_another_look(node)
    assert_reaps_all_but(network, set())


def test_ipv6_address_in_use_is_kept(node: Node) -> None:
    """The last guard reads IPv6 addresses, too."""
    network = Network(node, subnet="fd66::/64")
    address = network.leak()
    node.add_address("lo", f"{address}/128", node.pod("other").path)
    assert_reaps_all_but(network, {address})


def test_unmapped_owner_beside_unnamed_netns_is_kept(network: Network) -> None:
    """Without a record, one netns that might be the owner's is enough to keep the address."""
    node = network.node
    dead = node.pod("dead")
    address = network.take(dead, container_id("dead"))
    dead.delete()
    stranger = node.pod("stranger")
    assert_reaps_all_but(network, {address})
    stranger.delete()
    assert_reaps_all_but(network, set())


CONTENTS = {
    "an operator's note": b"reserved",
    "an ID no runtime gives": b"my-router\r\neth0\n",
    "two lines too many": container_id("x").encode() + b"\r\neth0\r\nmore",
    "a path": b"../../etc/passwd\r\neth0",
    "not UTF-8": b"\xff\xfe\xfd",
    "too long": b"a" * 5000,
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_content_of_no_runtime_is_kept(network: Network, content: bytes) -> None:
    """What host-local did not write for a container is kept."""
    network.leak()
    network.node.path(f"{DATA_DIR}/{NETWORK}/10.66.0.99").write_bytes(content)
    network.reap()
    assert set(os.listdir(network.node.path(f"{DATA_DIR}/{NETWORK}"))) == {"10.66.0.99", "lock", "last_reserved_ip.0"}


def test_names_that_are_no_addresses_are_left_alone(network: Network) -> None:
    """Links, directories, FIFOs and other spellings of addresses are neither followed nor removed."""
    node = network.node
    owner = container_id("dead").encode() + b"\r\neth0"
    network.leak()
    store = node.path(f"{DATA_DIR}/{NETWORK}")
    (store / "10.66.0.77").mkdir()
    (store / "10.66.0.78").symlink_to("/run/elsewhere")
    node.path("/run/elsewhere").write_bytes(owner)
    os.mkfifo(store / "10.66.0.79")
    strange = ["fd66:0:0::1", "FD66::1", "10.66.0.080", "10.66.0.256", "10.66.0", "...", "fd66::2.bak"]
    for name in strange:
        (store / name).write_bytes(owner)
    network.reap()
    assert {*os.listdir(store)} == {"lock", "last_reserved_ip.0", "10.66.0.77", "10.66.0.78", "10.66.0.79", *strange}
    assert node.path("/run/elsewhere").read_bytes() == owner


def test_reservation_made_after_the_snapshot_is_kept(network: Network) -> None:
    """A pod that starts while a sweep looks around is in no snapshot of it; what was leaked before is freed."""
    node = network.node
    stale = network.leak()
    strace, child = stopped_at(node, network, "/proc/self/mountinfo", 2, node.pod("trigger"))
    assert stale in network.held()  # the snapshot is taken, nothing is judged for good
    late = network.add(node.pod("late"), reapOn=[])
    resume(node, strace, child)
    assert network.held() == {late}, node.log()


def test_reservation_made_after_the_snapshot_is_seen_with_its_netns(network: Network) -> None:
    """Netns are looked for after the snapshot, never before: a pod that starts in between is seen alive."""
    node = network.node
    network.leak()
    strace, child = stopped_at(node, network, f"{DATA_DIR}/{NETWORK}", 1, node.pod("trigger"))
    pod = node.pod("late")
    late = network.take(pod, container_id("late"))  # no record of it
    resume(node, strace, child)
    assert network.held() >= {late}, node.log()


def test_same_id_and_address_back_before_unlink_are_kept(node: Node) -> None:
    """A container starts again in a new netns and gets its old address, from a pool of one, while a sweep waits for the lock."""
    network = Network(node, subnet="10.66.0.0/24", first="10.66.0.9", last="10.66.0.9")
    address = network.leak("podman")
    owner = container_id("podman")
    strace, child = stopped_at(node, network, "lock", 1, node.pod("trigger"))
    again = node.pod("podman")
    node.plugin("DEL", network.ipam, binary="host-local", netns="", container_id=owner).check()
    assert network.add(again, owner, reapOn=[]) == address
    resume(node, strace, child)
    assert network.held() == {address}, node.log()
    assert node.log("reaped") == []
    assert_reaps_all_but(network, {address})


def test_view_without_pods_frees_nothing(network: Network) -> None:
    """In a mount and PID namespace of a daemon's container the self-check fails: ADD and DEL free nothing, and say so."""
    node = network.node
    live = network.add(node.pod("live"))
    trigger = node.pod("trigger")  # before the leak, whose number it would else have
    stale = network.leak()
    script = "umount -l /run/netns/* 2>/dev/null; exec /opt/cni/bin/cni-reaper"
    for verb in ("ADD", "DEL"):
        command = node.plugin_command(verb, network.head, netns=trigger, container_id=container_id("trigger"))
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
        assert network.held() == {live, stale}
        assert node.log("sweep-skipped")[-1]["reason"].startswith("this process cannot be sure to see")
    assert_reaps_all_but(network, {live})


def test_sees_through_other_mount_namespaces(network: Network) -> None:
    """Another runtime's netns, pinned only in its private mount namespace and without a process: kept."""
    node = network.node
    pod = node.pod("kubens")
    address = network.add(pod)
    network.leak()
    holder = node.start(["unshare", "--mount", "--propagation", "private", "sleep", "infinity"])
    until(
        lambda: os.readlink(node.path(f"/proc/{holder}/ns/mnt")) != os.readlink(node.path("/proc/1/ns/mnt")),
        "the holder has its own mounts",
    )
    node.umount(pod.path)  # and no unlink: that would detach it in the other mount namespace, too
    assert_reaps_all_but(network, {address})
    node.stop(holder, signal.SIGKILL)
    assert_reaps_all_but(network, set())


def test_dry_run_frees_nothing(network: Network) -> None:
    """DryRun says what would be freed and frees nothing."""
    stale = network.leak()
    network.reap(dryRun=True)
    assert network.held() == {stale}
    assert [line["address"] for line in network.node.log("would-reap")] == [stale]
    assert network.node.path(LOG_FILE).exists()
