"""Containers that come back, and views that see little: what a review of the first version made it free.

Each of these was seen to fail. The address is reserved but not yet configured, as in the middle of an ADD, so that only the
evidence about the netns can save it.
"""

import json
import os
import shlex
import time

import pytest

from tests import inside
from tests.e2e.pair import NETWORK, Pair, container_id, until
from tests.node import BIN, STATE_DIR, Node, Pod

OWN_VIEW = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private", "sh", "-c"]
SAME_BOOT = f"mount --bind {inside.NODE_OWN}/boot_id {inside.BOOT_ID}"
RUN = f"exec {BIN}/cni-reaper"


@pytest.fixture
def pair(node: Node) -> Pair:
    """A network of cni-reaper and host-local."""
    return Pair(node)


def second_life(pair: Pair, owner: str, end: str) -> Pod:
    """Let a container live and end; return the netns of its next life, whose ADD has not begun."""
    node = pair.node
    first = node.pod("first")
    pair.add(first, owner)
    if end != "nothing":
        pair.give_back(first, owner)
    if end == "reboot":
        node.reboot()
    else:
        first.delete()
    return node.pod("second")


@pytest.mark.parametrize("end", ["DEL", "reboot"])
def test_a_container_comes_back_where_we_are_second(pair: Pair, end: str) -> None:
    """Behind the interface plugin the address is reserved while the record is still of the last life: kept."""
    owner = container_id("podman")
    pair.head["prevResult"] = {"cniVersion": "1.0.0"}
    second = second_life(pair, owner, end)
    address = pair.take(second, owner)  # host-local first, then our ADD, which is yet to come
    del pair.head["prevResult"]
    pair.reap()
    assert pair.held() == {address}, pair.node.log()


def began_long_ago(node: Node, owner: str, ago_s: int) -> None:
    """Have a record say that its ADD was so many seconds ago; the ctime of a file cannot be set."""
    path = f"{STATE_DIR}/{NETWORK}/{owner}:eth0"
    node.write(path, json.dumps({**json.loads(node.read(path)), "added": time.time_ns() - ago_s * 10**9}))


@pytest.mark.parametrize("end", ["nothing", "DEL", "reboot"])
def test_a_container_comes_back_while_we_are_out_of_the_chain(pair: Pair, end: str) -> None:
    """Its record is of a life that began long ago, and its new address is reserved: kept; once its netns is gone, freed."""
    node = pair.node
    owner = container_id("podman")
    first = node.pod("first")
    old = pair.add(first, owner)
    began_long_ago(node, owner, 121)
    if end == "DEL":
        pair.give_back(first, owner)  # which marks the record, and so writes it again
    else:
        node.plugin("DEL", pair.ipam, binary="host-local", netns=first, container_id=owner).check()
    assert old not in pair.held()
    if end == "reboot":
        node.reboot()
    else:
        first.delete()
    second = node.pod("second")
    address = pair.take(second, owner)
    pair.reap()
    assert pair.held() == {address}, node.log()
    second.delete()
    pair.reap()
    assert pair.held() == set(), node.log()


def test_a_leak_is_freed_at_once_whenever_its_record_was_written(pair: Pair) -> None:
    """A record that is as old as its reservation proves death, beside a netns of nobody; so does one that a DEL has marked."""
    node = pair.node
    pair.leak("leak")
    marked = node.pod("marked")
    pair.add(marked)
    node.plugin("DEL", {**pair.head, "reapOn": []}, netns=marked, container_id=container_id("marked")).check()
    marked.delete()
    node.pod("stranger")
    began_long_ago(node, container_id("leak"), 110)
    pair.reap()
    assert pair.held() == set(), node.log()


def test_a_pod_that_died_is_freed_where_we_are_second(pair: Pair) -> None:
    """A pod's sandbox never comes back: its record proves death in any place, beside a netns that nobody names."""
    node = pair.node
    pod = node.pod("pod")
    args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=6f0c"
    pair.take(pod, container_id("pod"))
    behind = {**pair.head, "prevResult": {"cniVersion": "1.0.0"}}
    node.plugin("ADD", behind, netns=pod, container_id=container_id("pod"), args=args).check()
    pod.delete()
    node.pod("stranger")
    pair.reap()
    assert pair.held() == set()
    assert [line["pod"] for line in node.log("reaped")] == ["default/web"]


@pytest.mark.parametrize("trouble", ["state directory read-only", "lock of records is a symlink", "CNI_ARGS is not UTF-8"])
def test_a_container_comes_back_and_its_record_is_hard_to_replace(pair: Pair, trouble: str) -> None:
    """At the head the old record goes before anything can fail, or nothing is believed that records say."""
    node = pair.node
    owner = container_id("podman")
    second = second_life(pair, owner, "DEL")
    args = None
    if trouble.startswith("state"):
        node.mount(STATE_DIR, STATE_DIR, flags=inside.MS_BIND)
        node.mount("none", STATE_DIR, flags=inside.MS_BIND | 32 | 1)  # MS_REMOUNT | MS_RDONLY
    elif trouble.startswith("lock"):
        lock = node.path(f"{STATE_DIR}/{NETWORK}/.lock")
        lock.unlink()
        lock.symlink_to("/nowhere")
    else:
        args = "K8S_POD_NAME=\udcff"
    node.plugin("ADD", pair.head, netns=second, container_id=owner, args=args).check()
    address = pair.take(second, owner)
    pair.reap()
    assert pair.held() == {address}, node.log()


def test_a_dead_containers_cache_entry_does_not_vouch_for_the_netns_at_its_path(pair: Pair) -> None:
    """The path of a stale entry is another container's by now, which nobody knows yet: that one is kept."""
    node = pair.node
    node.write(
        f"/var/lib/cni/results/{NETWORK}-{container_id('dead')}-eth0",
        json.dumps({"kind": "cniCacheV1", "netns": "/run/netns/web", "result": {}}),
    )
    node.reserve(NETWORK, "10.66.0.200", container_id("dead"))
    address = pair.take(node.pod("web"), container_id("live"))
    pair.reap()
    assert address in pair.held()


def test_a_cache_entry_whose_name_is_anothers(pair: Pair) -> None:
    """Network, ID and ifname may all hold dashes: an entry counts for the attachment that it names itself."""
    node = pair.node
    live, dead = container_id("x"), container_id("y")
    node.pod("live")
    node.write(
        f"/var/lib/cni/results/{NETWORK}-{dead}-eth0",
        json.dumps(
            {"networkName": NETWORK, "containerId": live, "ifName": "eth0", "netns": "/run/netns/live", "kind": "cniCacheV1"}
        ),
    )
    node.reserve(NETWORK, "10.66.0.200", dead)
    pair.reap()
    assert pair.held() == {"10.66.0.200"}  # somebody's netns is there, unaccounted for
    Pod(node, "live", "/run/netns/live").delete()
    pair.reap()
    assert pair.held() == set()


def without_namespace_ids(node: Node) -> None:
    """Have our plugin run as on Linux before 6.18: the kernel knows no NS_GET_ID."""
    plugin = node.path(f"{BIN}/cni-reaper")
    real = os.readlink(plugin)
    plugin.unlink()
    plugin.write_text(
        f"#!/bin/sh\nexec strace -qq -o /dev/null -e trace=ioctl -e inject=ioctl:error=ENOTTY {shlex.quote(real)}\n"
    )
    plugin.chmod(0o755)


@pytest.mark.parametrize("kernel", ["this", "older"])
@pytest.mark.parametrize("call", ["another's", "its own again"])
def test_a_netns_that_only_a_process_holds(pair: Pair, kernel: str, call: str) -> None:
    """CNI_NETNS is /proc/<pid>/ns/net: nothing pins the inode, its ctime changes from look to look. Kept on any kernel."""
    node = pair.node
    if kernel == "older":
        without_namespace_ids(node)
    pair.leak()
    pod = node.pod("nerdctl")
    process = pod.live()
    until(lambda: os.readlink(node.path(f"/proc/{process}/exe")).endswith("sleep"), "the process lives in the netns")
    node.umount(pod.path)
    node.path(pod.path).unlink()
    held = Pod(node, "nerdctl", f"/proc/{process}/ns/net")
    address = pair.add(held)
    if call == "another's":
        pair.reap()
    else:
        node.plugin("ADD", pair.head, netns=held, container_id=container_id("nerdctl")).check()
    assert pair.held() == {address}, node.log()


def test_a_process_path_of_another_pid_namespace(pair: Pair) -> None:
    """A daemon in a container sees the mounted netns of all pods, so its self-check passes, but /proc/<pid> is not its own."""
    node = pair.node
    pod = node.pod("nerdctl")
    process = pod.live()
    until(lambda: os.readlink(node.path(f"/proc/{process}/exe")).endswith("sleep"), "the process lives in the netns")
    node.umount(pod.path)
    node.path(pod.path).unlink()
    address = pair.add(Pod(node, "nerdctl", f"/proc/{process}/ns/net"))
    trigger = node.plugin_command("ADD", pair.head, netns=node.pod("trigger"), container_id=container_id("trigger"))
    trigger["argv"] = [*OWN_VIEW, f"{SAME_BOOT}; {RUN}"]
    node.together([trigger])[0].check()
    assert address in pair.held(), node.log()


def test_a_view_that_has_the_numbers_of_a_proven_one(pair: Pair) -> None:
    """A daemon's container has ended, the next one is given the same namespace numbers and sees no pod: nothing is freed.

    The kernel gives the numbers again at once, but perhaps to another test; so the note of the proven view is given ours.
    """
    node = pair.node
    live = pair.add(node.pod("live"))
    trigger = node.pod("trigger")
    sighted = node.plugin_command("ADD", pair.head, netns=trigger, container_id=container_id("trigger"))
    sighted["argv"] = [*OWN_VIEW, f"rm /run/cni-reaper/views; {SAME_BOOT}; {RUN}"]
    node.together([sighted])[0].check()
    noted = json.loads(node.path("/run/cni-reaper/views").read_bytes())["views"][-1][-1]  # in ticks: two starts can share one
    until(
        lambda: time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK") > noted + 1, "the next container starts later"
    )
    own = "$(stat -L -c %i /proc/self/ns/pid),$(stat -L -c %i /proc/self/ns/mnt)"
    take = f'sed -i "s/\\[\\[[0-9]*,[0-9]*/[[{own}/" /run/cni-reaper/views && touch /run/cni-reaper/taken'
    hide = "mount --bind /run/cni-reaper /mnt; umount -l /run; mount -t tmpfs t /run; mkdir -p /run/cni-reaper /run/netns"
    blind = node.plugin_command("DEL", pair.head, netns="", container_id=container_id("other"))
    blind["argv"] = [*OWN_VIEW, f"{SAME_BOOT}; {take}; {hide}; mount --bind /mnt /run/cni-reaper; {RUN}"]
    node.together([blind])[0].check()
    assert node.path("/run/cni-reaper/taken").exists()
    assert pair.held() == {live}, node.log()
    assert "cannot be sure to see" in node.log("sweep-skipped")[-1]["reason"]


@pytest.mark.parametrize("outside_first", [True, False])
def test_a_chroot_in_another_mount_namespace(pair: Pair, outside_first: bool) -> None:
    """Of a runtime's private mount namespace, the process that is looked at first sits in a chroot and shows no netns: kept."""
    node = pair.node
    pod = node.pod("kubens")
    address = pair.add(pod)
    for directory in ("bin", "usr", "lib", "lib64"):
        node.path(f"/run/jail/{directory}").mkdir(parents=True)
        node.mount(f"/{directory}", f"/run/jail/{directory}", flags=inside.MS_BIND | inside.MS_REC)
    inner, outer = "chroot /run/jail /bin/sleep infinity", "/bin/sleep infinity"
    first, second = (outer, inner) if outside_first else (inner, outer)
    script = f"{second} & touch /var/lib/cni/there; exec {first}"
    holder = node.start(["unshare", "--mount", "--propagation", "private", "sh", "-c", script])
    until(node.path("/var/lib/cni/there").exists, "the mount namespace is there")
    until(lambda: os.readlink(node.path(f"/proc/{holder}/exe")).endswith("sleep"), "its first process sits where it should")
    node.umount(pod.path)
    pair.reap()
    assert pair.held() == {address}, node.log()


@pytest.mark.parametrize("what", ["a log file", "a symlink", "an odd cache entry"])
def test_things_that_lie_about_stop_no_sweep(pair: Pair, what: str) -> None:
    """A plain file among the records' directories, or a cache entry of another owner that cannot be read, hides no leak."""
    node = pair.node
    live = pair.add(node.pod("live"))
    leak = pair.take(node.pod("dead"), container_id("dead"))
    Pod(node, "dead", "/run/netns/dead").delete()
    if what == "a log file":
        pair.head["logFile"] = f"{STATE_DIR}/reaper.log"
    elif what == "a symlink":
        node.path(f"{STATE_DIR}/other").symlink_to("/run")
    else:
        node.reserve(NETWORK, "10.66.0.99", "router-of-the-lab")
        node.path(f"/var/lib/cni/results/{NETWORK}-router-of-the-lab-eth0").mkdir(parents=True)
    pair.reap()
    assert leak not in pair.held(), node.log()
    assert live in pair.held()


def test_a_large_store_of_unknown_owners(node: Node) -> None:
    """8,000 leaks from before we came: every ADD is bounded, and after a few all are gone."""
    pair = Pair(node, subnet="10.66.0.0/16")
    live = pair.add(node.pod("live"))
    directory = node.path(f"/var/lib/cni/networks/{NETWORK}")
    for number in range(8000):
        (directory / f"10.66.{100 + number // 250}.{number % 250 + 1}").write_text(f"{container_id(str(number))}\r\neth0")
    calls = 0
    while len(pair.held()) > 1:
        pair.reap()
        calls += 1
        assert calls < 30
    assert pair.held() == {live}
