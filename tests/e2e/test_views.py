"""Views that lie: a live pod whose netns is hard to see, in every way we know of, is kept; a leak beside it is freed.

The live pod is known either by its record, while the kernel shows no address of it (in the middle of an ADD, or gVisor), so that
its netns itself must be found; or it is not known at all and its address is configured, so that its netns must be looked into.
Where the view is whole for it, the leak beside it is freed at once; else when it is whole again.
"""

import json
import os
import signal
import sys
import time

import pytest

from tests.conftest import MakeNode
from tests.support import agent, netns_holders
from tests.support.calls import (
    GRACE_S,
    LISTED_AFTER_S,
    VALID_ATTACHMENTS,
    call_reaper,
    dead_without_record,
    describe_call,
    forget,
    gc_with_list,
    write_cache_entry,
)
from tests.support.cni_calls import Pod
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import STATE_DIR
from tests.support.views import HIDE_RUN, MS_REMOUNT, OWN_VIEW, RUN_CNI_REAPER, SAME_BOOT, without_namespace_ids
from tests.support.waiting import until

OWNER = container_id("live")
HOLDERS = {
    "a process": netns_holders.by_process,
    "an open file descriptor": netns_holders.by_descriptor,
    "a thread that is not the leader": netns_holders.by_thread,
    "a process whose leader thread has exited": netns_holders.by_a_process_whose_leader_has_exited,
}

known = pytest.mark.parametrize("known", ["its record", "its record, on an older kernel", "its address"])


def start(network: Network, pod: Pod, known: str) -> tuple[str, str]:
    """Give a live pod its address, and let it be known only so; leave a leak beside it. Return both addresses.

    The pod's netns is there before the leak's goes: it would else often be given its inode number.
    """
    leak = dead(network)
    if "older" in known:
        without_namespace_ids(network.node)
    if "record" in known:
        return network.add(pod, OWNER, reapOn=[]), leak
    address = network.take(pod, OWNER)
    network.node.add_address("lo", f"{address}/32", pod.path)
    return address, leak


def dead(network: Network) -> str:
    """Leave a leak and free nothing; return the address."""
    pod = network.node.pod()
    address = network.add(pod, reapOn=[])
    pod.delete()
    return address


def has_number(network: Network) -> bool:
    """Tell whether the live pod's record has what only Linux 6.18 tells: a number of its netns that is never used again."""
    return "nsID" in json.loads(network.node.read(f"{STATE_DIR}/{NETWORK}/{OWNER}:eth0"))


def sweep(network: Network, waited: int = 0, within: tuple[str, ...] = (), verb: str = "ADD") -> None:
    """Run our plugin for a container of its own, behind the words of a command; its netns goes again."""
    own = network.node.pod()
    one = network.node.plugin_command(verb, network.head, netns=own, container_id=container_id(own.name), waited=waited)
    one["argv"] = [*within, *one["argv"]]
    network.node.together([one])[0].check()
    own.delete()


def assert_kept(network: Network, address: str, whole: bool = True) -> None:
    """Sweep now, and after the time for which an owner without a netns is waited for: the pod's address is left, and alone.

    whole: False where a netns is seen that cannot be looked into: a leak whose inode number is another's by now stays then.
    """
    for waited in (0, 2 * GRACE_S):
        sweep(network, waited=waited)
        held = network.held()
        assert held == {address} if whole else address in held, network.node.log()


def assert_freed(network: Network, waited: int = 0) -> None:
    """Sweep: nothing is left."""
    sweep(network, waited=waited)
    assert network.held() == set(), network.node.log()


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS.keys())
@known
def test_netns_reached_only_by_a_holder_is_kept(network: Network, hold: netns_holders.Hold, known: str) -> None:
    """No mount leads to the netns any more; one process, thread or descriptor holds it, and while it does it is kept."""
    pod = network.node.pod("live")
    holder = hold(pod)
    address, _ = start(network, pod, known)
    netns_holders.unpin(pod)
    sweep(network)
    assert network.held() == {address}, network.node.log()
    if known == "its address" or has_number(network):
        sweep(network, waited=2 * GRACE_S)
        assert network.held() == {address}, network.node.log()
    network.node.stop(holder)
    assert_freed(network, waited=4 * GRACE_S)


@pytest.mark.parametrize("mapped", [True, False])
def test_netns_reached_only_by_a_veth_is_kept(network: Network, mapped: bool) -> None:
    """A socket alone holds the netns and nothing on the node names it, but its veth ends here: the address is in use."""
    node = network.node
    pod = node.pod("live")
    dead(network)
    node.run(["ip", "link", "add", "far", "type", "veth", "peer", "name", "eth0", "netns", pod.name]).check()
    holder = netns_holders.by_socket(pod)
    address = network.add(pod, OWNER, reapOn=[]) if mapped else network.take(pod, OWNER)
    node.add_address("eth0", f"{address}/24", pod.path)
    netns_holders.unpin(pod)
    assert_kept(network, address)
    node.stop(holder)

    def freed() -> bool:  # the kernel takes its time to dismantle a netns
        sweep(network, waited=4 * GRACE_S)
        return network.held() == set()

    until(freed, "the address is freed")


@known
@pytest.mark.parametrize("lives", [True, False])
def test_hidden_run_netns_keeps_pods(network: Network, known: str, lives: bool) -> None:
    """A tmpfs hides every path in /run/netns, of pods with a process and of such as have none yet."""
    node = network.node
    pod = node.pod("live")
    if lives:
        netns_holders.by_process(pod)
    address, _ = start(network, pod, known)
    node.mount("tmpfs", "/run/netns", "tmpfs")
    assert not node.path(pod.path).exists()
    assert_kept(network, address, whole=lives)
    node.umount("/run/netns")
    assert_kept(network, address)


@known
def test_netns_below_another_pods_netns_is_kept(network: Network, known: str) -> None:
    """Two netns are mounted at one path and the other one is shown: the one below is still somebody's."""
    node = network.node
    pod, other = node.pod("live"), node.pod("other")
    address, _ = start(network, pod, known)
    node.mount(other.path, pod.path, flags=agent.MS_BIND)
    assert_kept(network, address, whole=False)
    node.umount(pod.path)
    assert_kept(network, address)
    pod.delete()
    other.delete()
    assert_freed(network, waited=4 * GRACE_S)


@known
@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_daemon_without_run_netns_frees_nothing(network: Network, known: str, verb: str) -> None:
    """Multus thick: the plugin runs in a container of its own, without the pods' netns and processes: nothing is freed there."""
    node = network.node
    pod = node.pod("live")
    address, leak = start(network, pod, known)
    sweep(network, within=(*OWN_VIEW, f'{SAME_BOOT} && {HIDE_RUN} && exec "$@"', "sh"), verb=verb)
    assert network.held() == {address, leak}
    assert node.log("sweep-skipped")[-1]["reason"].startswith("this process cannot be sure to see")
    assert_kept(network, address)


@known
def test_daemon_that_sees_its_calls_netns_only_frees_nothing(network: Network, known: str) -> None:
    """The runtime gives a path through the host's /proc, so this call's netns is there, and no other pod's: nothing is freed."""
    node = network.node
    pod, own = node.pod("live"), node.pod()
    address, leak = start(network, pod, known)
    host_proc = "/var/lib/cni/host-proc"
    node.path(host_proc).mkdir()
    one = node.plugin_command("ADD", network.head, netns=f"{host_proc}/1/root{own.path}", container_id=container_id(own.name))
    see = f"mount --rbind /proc {host_proc} && mount -t proc proc /proc && {SAME_BOOT}"
    script = f'{see} && {HIDE_RUN} && exec "$@"'
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private"]
    one["argv"] = [*namespaces, "sh", "-c", script, "sh", *one["argv"]]
    node.together([one])[0].check()
    assert network.held() == {address, leak}
    assert node.records(NETWORK)[f"{container_id(own.name)}:eth0"]["ino"], "the plugin has seen its own netns"
    sweep(network)
    assert network.held() == {address}, node.log()


@known
@pytest.mark.parametrize("lives", [True, False])
def test_daemon_with_own_mounts_keeps_later_pods(network: Network, known: str, lives: bool) -> None:
    """Kubelet in a container, the host's processes visible: netns that were mounted later are seen by the host's own mounts."""
    node = network.node
    namespace = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "touch /run/up; exec sleep infinity"]
    daemon = node.start(namespace)
    until(node.path("/run/up").exists, "the daemon's container is up")
    pod = node.pod("live")
    if lives:
        netns_holders.by_process(pod)
    address, _ = start(network, pod, known)
    own = node.pod()
    bind = ["mount", "--no-canonicalize", "--bind"]
    node.run(["nsenter", "--target", str(daemon), "--mount", *bind, f"/proc/1/root{own.path}", own.path]).check()
    one = node.plugin_command("ADD", network.head, netns=own, container_id=container_id(own.name))
    one["argv"] = ["nsenter", "--target", str(daemon), "--mount", *one["argv"]]
    node.together([one])[0].check()
    assert network.held() == {address}, node.log()


@known
@pytest.mark.parametrize("sees", ["everything", "little"])
def test_hidepid_without_trace_frees_nothing(network: Network, known: str, sees: str) -> None:
    """/proc is mounted with hidepid=2: whoever may not trace sees no process of others, and then frees nothing."""
    node = network.node
    pod = node.pod("live")
    process = node.start(["setpriv", "--reuid", "1000", "--clear-groups", "sleep", "infinity"], netns=pod)
    until(lambda: os.readlink(node.path(f"/proc/{process}/exe")).endswith("sleep"), "the process lives in the netns")
    address, leak = start(network, pod, known)
    netns_holders.unpin(pod)
    node.mount("proc", "/proc", "proc", MS_REMOUNT, "hidepid=2")
    if sees == "little":
        sweep(network, within=("setpriv", "--bounding-set", "-sys_ptrace"))
        assert network.held() == {address, leak}, node.log()
        node.mount("proc", "/proc", "proc", MS_REMOUNT, "hidepid=0")
    sweep(network)
    assert network.held() == {address}, node.log()
    node.stop(process)
    assert_freed(network, waited=4 * GRACE_S)


def moved_to(node: Node, owner: str, process: int) -> None:
    """Have the number in a record's /proc/<pid>/ns/net be another process's by now; the kernel would take its time for that."""
    path = f"{STATE_DIR}/{NETWORK}/{owner}:eth0"
    record = json.loads(node.read(path))
    assert record["netns"].startswith("/proc/")
    node.write(path, json.dumps({**record, "netns": f"/proc/{process}/ns/net"}))


@pytest.mark.parametrize("kernel", ["this", "older"])
@pytest.mark.parametrize("reused_by", ["the host", "another pod"])
def test_recorded_process_path_of_reused_pid_keeps_its_pod(network: Network, kernel: str, reused_by: str) -> None:
    """The record names /proc/<pid>/ns/net and the process is another one by now: the pod that lives on in others is kept."""
    node = network.node
    if kernel == "older":
        without_namespace_ids(node)
    dead, live, other = node.pod("dead"), node.pod("live"), node.pod("other")
    held = {pod.name: netns_holders.by_process(pod) for pod in (dead, live, other)}
    for pod in (dead, live):
        netns_holders.unpin(pod)
    addresses = {
        pod.name: network.add(Pod(node, pod.name, f"/proc/{held[pod.name]}/ns/net"), reapOn=[]) for pod in (dead, live, other)
    }
    node.stop(held["dead"])
    number = 1 if reused_by == "the host" else held["other"]
    for pod in (dead, live):
        moved_to(node, container_id(pod.name), number)
    sweep(network)
    assert network.held() == {addresses["live"], addresses["other"]}, node.log()
    node.stop(held["live"])
    sweep(network)
    assert network.held() == {addresses["other"]}, node.log()


@known
def test_plugin_in_user_namespace_frees_nothing(network: Network, known: str) -> None:
    """In a user namespace of its own the plugin may neither trace nor enter anything: it frees nothing, and a whole view does."""
    node = network.node
    pod = node.pod("live")
    process = netns_holders.by_process(pod)
    address, leak = start(network, pod, known)
    sweep(network, within=("unshare", "--user", "--map-root-user"))
    assert network.held() == {address, leak}, node.log()
    assert_kept(network, address)
    node.stop(process)
    pod.delete()
    assert_freed(network, waited=4 * GRACE_S)


@known
@pytest.mark.parametrize("lives", [True, False])
def test_plugin_that_may_not_enter_netns_keeps_unrecorded_owners(network: Network, known: str, lives: bool) -> None:
    """Without CAP_SYS_ADMIN a netns without a process cannot be looked into: it may hold the address of whoever has no record."""
    node = network.node
    pod = node.pod("live")
    if lives:
        netns_holders.by_process(pod)
    address, _ = start(network, pod, known)
    for waited in (0, 2 * GRACE_S):
        own = node.pod()
        one = node.plugin_command("ADD", network.head, netns=own, container_id=container_id(own.name), waited=waited)
        one["argv"] = [*one["argv"][:-1], "setpriv", "--bounding-set", "-sys_admin", one["argv"][-1]]
        node.together([one])[0].check()
        own.delete()
        assert address in network.held(), node.log()
    sweep(network)
    assert network.held() == {address}, node.log()


@known
def test_rootless_pod_is_seen_and_kept(network: Network, known: str) -> None:
    """A rootless pod's netns belongs to its user namespace and only its process holds it: seen, and looked into."""
    node = network.node
    process = node.start(["unshare", "--user", "--map-root-user", "--net", "sleep", "infinity"])
    until(lambda: os.readlink(node.path(f"/proc/{process}/exe")).endswith("sleep"), "the process is in its namespaces")
    pod = Pod(node, "rootless", f"/proc/{process}/ns/net")
    if known == "its address":
        dead(network)
        address = network.take(pod, OWNER)
        nsenter = ["nsenter", "--target", str(process), "--user", "--net", "--preserve-credentials"]
        node.run([*nsenter, "ip", "address", "add", f"{address}/32", "dev", "lo"]).check()
    else:
        address, _ = start(network, pod, known)
    sweep(network)
    assert network.held() == {address}, node.log()
    if known == "its address" or has_number(network):
        sweep(network, waited=2 * GRACE_S)
        assert network.held() == {address}, node.log()
    node.stop(process)
    assert_freed(network, waited=4 * GRACE_S)


def test_rootless_node_keeps_live_and_frees_leaked(make_node: MakeNode) -> None:
    """The whole node is in a user namespace, where all of it can be seen: live is kept, leaked is freed."""
    network = Network(make_node(rootless=True))
    pod = network.node.pod("live")
    address, _ = start(network, pod, "its address")
    assert_kept(network, address)
    pod.delete()
    assert_freed(network)


def test_what_a_view_has_missed_is_freed_by_the_next(network: Network) -> None:
    """Leaks that a blind daemon leaves for hours, ten of them, are all gone with the first ADD that sees; no live one is."""
    kept = {network.add(network.node.pod(f"live-{number}")) for number in range(3)}
    trigger = network.node.pod("trigger")  # before the leaks, whose number it would else have
    leaks = {dead(network) for _ in range(10)}
    for _ in range(3):
        one = network.node.plugin_command("ADD", network.head, netns=trigger, container_id=container_id("trigger"))
        one["argv"] = [*OWN_VIEW, f"{SAME_BOOT} && {HIDE_RUN} && {RUN_CNI_REAPER}"]
        network.node.together([one])[0].check()
        assert network.held() == kept | leaks
    sweep(network)
    assert network.held() == kept


DEEP = """
import os, sys, time
for _ in range(25):
    os.mkdir("x" * 200)
    os.chdir("x" * 200)
held = open("f", "w")
ready = os.open("/run/deep", os.O_WRONLY)
if sys.argv[1] == "root":
    os.chroot(".")
os.write(ready, b"x")
time.sleep(600)
"""


@pytest.mark.parametrize("what", ["descriptor", "root"])
def test_overlong_path_stops_no_reaping(network: Network, what: str) -> None:
    """readlink(2) below /proc answers ENAMETOOLONG above a page: anybody can have such a file open, and stops nothing with it."""
    node = network.node
    live = node.pod()
    address = network.add(live)
    node.write("/run/deep", "")
    node.path("/run/deep").chmod(0o666)
    node.path("/var/lib/deep").mkdir(mode=0o777)
    node.path("/var/lib/deep").chmod(0o777)
    somebody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if what == "descriptor" else []
    node.start(["sh", "-c", 'cd /var/lib/deep && exec "$@"', "sh", *somebody, "python3", "-c", DEEP, what])
    until(lambda: node.read("/run/deep") == "x", "the path is made")
    node.reserve(NETWORK, "10.66.0.77", container_id("dead"))
    network.reap()
    assert set(node.reservations(NETWORK)) == {address}
    assert [line for line in node.log() if line["level"] not in ("info", "debug")] == []


@pytest.mark.parametrize("verb", ["DEL", "GC", "STATUS"])
def test_container_without_the_hosts_pid_namespace_frees_nothing(network: Network, verb: str) -> None:
    """A debug pod sees the mounts that were copied at its start and none of the pods that came later: it frees nothing."""
    node = network.node
    kept = {network.add(node.pod("older"))}
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private"]
    outer = node.start([*namespaces, "sh", "-c", f"{SAME_BOOT}; touch /run/up; exec sleep infinity"])
    until(node.path("/run/up").exists, "the container is up")
    first = node.read(f"/proc/{outer}/task/{outer}/children").strip()
    kept |= {network.add(node.pod(f"younger-{number}")) for number in range(3)}
    leak = network.leak()
    there = describe_call(network, verb, {"reapOn": [verb]})
    there["argv"] = ["nsenter", "--target", first, "--mount", "--pid", *there["argv"]]
    node.together([there])[0].check()
    assert network.held() == {*kept, leak}, node.log()
    assert node.log("sweep-skipped")[-1]["reason"].startswith("this process cannot be sure to see")
    call_reaper(network)
    assert network.held() == kept


@pytest.mark.parametrize("verb", ["ADD", "DEL", "GC"])
@pytest.mark.parametrize("mapped", [True, False])
def test_netns_in_private_mount_namespace_is_kept(network: Network, verb: str, mapped: bool) -> None:
    """A netns without a process is pinned in a mount namespace that is not ours: kept for as long as that one stands."""
    node = network.node
    call_reaper(network)  # proves the view, for DEL and GC
    pod = node.pod("kubens")
    address = network.add(pod)
    leak = network.leak()
    if not mapped:
        forget(node, container_id("kubens"))
    holder = node.start(["unshare", "--mount", "--propagation", "private", "sh", "-c", "touch /run/up; exec sleep infinity"])
    until(node.path("/run/up").exists, "the mount namespace is there")
    node.umount(pod.path)  # and no unlink: that would detach it in the other mount namespace, too
    call_reaper(network, verb)
    assert network.held() == {address}, (leak, node.log())
    node.stop(holder)
    call_reaper(network, verb)
    assert network.held() == set()


@pytest.mark.parametrize("kernel", ["this", "older"])
@pytest.mark.parametrize("lost", ["overmounted", "lazily unmounted"])
def test_netns_without_path_and_address_is_kept(network: Network, lost: str, kernel: str) -> None:
    """GVisor below an overmount, or after `umount -l`: the inode is visible, so the owner is not gone."""
    node = network.node
    if kernel == "older":
        without_namespace_ids(node)
    pod = node.pod("gvisor")
    process = netns_holders.by_process(pod)
    leak = network.leak()
    address = network.add(pod, reapOn=[])
    if lost == "overmounted":
        node.mount("tmpfs", "/run/netns", "tmpfs")
    else:
        netns_holders.unpin(pod)
    call_reaper(network)
    assert network.held() == {address}, (leak, node.log())
    if lost == "overmounted":
        node.umount("/run/netns")
        pod.delete()
    node.stop(process)
    call_reaper(network)
    assert network.held() == set()


@pytest.mark.parametrize("mapped", [True, False])
def test_netns_of_process_without_leader_is_seen(network: Network, mapped: bool) -> None:
    """/proc/<pid>/ns/net answers ENOENT while other threads live on: their netns is seen all the same."""
    node = network.node
    pod = node.pod("pod")
    leak = network.leak()
    process = netns_holders.by_a_process_whose_leader_has_exited(pod)
    address = network.add(pod) if mapped else network.take(pod, container_id("unmapped"))
    netns_holders.unpin(pod)
    call_reaper(network)
    assert network.held() == {address}, (leak, node.log())
    node.stop(process)
    call_reaper(network)
    assert network.held() == set()


def test_mountinfo_without_entries_is_not_believed_once(network: Network) -> None:
    """Before Linux 5.8 a mountinfo read while mounts go can lack entries: one read that shows nothing is not believed.

    The kernel is told to call itself 2.6, and strace makes one read after the other come back empty.
    """
    node = network.node
    pod = node.pod("live")
    leak = network.leak()
    address = network.add(pod, reapOn=[])
    node.mount("/dev/null", pod.path, flags=agent.MS_BIND)  # so that mountinfo alone shows the netns
    for when in range(1, 9):
        add = describe_call(network, "ADD")
        strace = f"strace -D -qq -o /dev/null -P /proc/$$/mountinfo -e trace=read -e inject=read:retval=0:when={when}"
        add["argv"] = ["setarch", "--uname-2.6", "sh", "-c", f'exec {strace} "$@"', "sh", *add["argv"]]
        node.together([add])[0].check()
        assert address in network.held(), (leak, when, node.log())
    assert network.held() == {address}


@pytest.mark.parametrize("row", ["9", "10"])
def test_netns_that_cannot_be_entered_keeps_unmapped_owner(network: Network, row: str) -> None:
    """We may not enter it, so it may hold any address: an owner that nothing maps is kept, however long it takes."""
    node = network.node
    pod = node.pod("pod")
    address = network.take(pod, container_id("unmapped"))

    def blinkered(verb: str, waited: int) -> None:
        one = describe_call(network, verb, {VALID_ATTACHMENTS: []} if verb == "GC" else {}, waited)
        one["argv"] = [*one["argv"][:-1], "setpriv", "--bounding-set", "-sys_admin", one["argv"][-1]]
        node.together([one])[0].check()

    blinkered("ADD", 0)
    if row == "9":
        blinkered("ADD", 2 * GRACE_S)
    else:
        blinkered("GC", 2 * LISTED_AFTER_S)
    assert network.held() == {address}, node.log()
    if row == "9":
        call_reaper(network, waited=4 * GRACE_S)
    else:
        gc_with_list(network, [], 4 * LISTED_AFTER_S)
    assert network.held() == set()


@pytest.mark.parametrize("reused_by", ["the host's", "another pod's"])
def test_cached_process_path_of_reused_pid_keeps_no_leak(network: Network, reused_by: str) -> None:
    """Libcni's cache names /proc/<pid>/ns/net, the process there is another one by now: freed; where it is the owner's: kept.

    A node's PID namespace is not the host's, where alone such a path counts; strace tells the plugin otherwise.
    """
    node = network.node
    live, other = node.pod("live"), node.pod("other")
    own, process = netns_holders.by_process(live), netns_holders.by_process(other)
    network.add(other, reapOn=[])
    second = network.add(live, container_id("of the same pod"), reapOn=[])
    address, leak = network.take(live, container_id("live")), dead_without_record(network, "dead")
    node.add_address("lo", f"{address}/32", live.path)
    write_cache_entry(network, container_id("live"), f"/proc/{own}/ns/net")
    holder = 1 if reused_by == "the host's" else process
    write_cache_entry(network, container_id("dead"), f"/proc/{holder}/ns/net")
    add = describe_call(network, "ADD")
    number = (0xEFFFFFFC).to_bytes(8, "little").hex()
    poke = ["-e", "trace=newfstatat", "-P", "/proc/self/ns/pid", "-e", f"inject=newfstatat:poke_exit=@arg3={'00' * 8}{number}"]
    add["argv"] = ["strace", "-qq", "-o", "/dev/null", *poke, *add["argv"]]
    node.together([add])[0].check()
    assert leak not in network.held(), node.log()
    assert {address, second} <= network.held()
    node.stop(own, signal.SIGKILL)
    live.delete()
    node.together([add])[0].check()
    assert not {address, second} & network.held(), node.log()


@pytest.mark.parametrize("kernel", ["this", "older"])
@pytest.mark.parametrize("call", ["another's", "its own again"])
def test_netns_held_by_a_process_only_is_kept(network: Network, kernel: str, call: str) -> None:
    """CNI_NETNS is /proc/<pid>/ns/net: nothing pins the inode, its ctime changes from look to look. Kept on any kernel."""
    node = network.node
    if kernel == "older":
        without_namespace_ids(node)
    network.leak()
    pod = node.pod("nerdctl")
    process = pod.live()
    until(lambda: os.readlink(node.path(f"/proc/{process}/exe")).endswith("sleep"), "the process lives in the netns")
    node.umount(pod.path)
    node.path(pod.path).unlink()
    held = Pod(node, "nerdctl", f"/proc/{process}/ns/net")
    address = network.add(held)
    if call == "another's":
        network.reap()
    else:
        node.plugin("ADD", network.head, netns=held, container_id=container_id("nerdctl")).check()
    assert network.held() == {address}, node.log()


def test_process_path_of_another_pid_namespace_frees_nothing(network: Network) -> None:
    """A daemon in a container sees the mounted netns of all pods, so its self-check passes, but /proc/<pid> is not its own."""
    node = network.node
    pod = node.pod("nerdctl")
    process = pod.live()
    until(lambda: os.readlink(node.path(f"/proc/{process}/exe")).endswith("sleep"), "the process lives in the netns")
    node.umount(pod.path)
    node.path(pod.path).unlink()
    address = network.add(Pod(node, "nerdctl", f"/proc/{process}/ns/net"))
    trigger = node.plugin_command("ADD", network.head, netns=node.pod("trigger"), container_id=container_id("trigger"))
    trigger["argv"] = [*OWN_VIEW, f"{SAME_BOOT}; {RUN_CNI_REAPER}"]
    node.together([trigger])[0].check()
    assert address in network.held(), node.log()


def test_view_with_the_numbers_of_a_proven_one_frees_nothing(network: Network) -> None:
    """A daemon's container has ended, the next one is given the same namespace numbers and sees no pod: nothing is freed.

    The kernel gives the numbers again at once, but perhaps to another test; so the note of the proven view is given ours.
    """
    node = network.node
    live = network.add(node.pod("live"))
    trigger = node.pod("trigger")
    sighted = node.plugin_command("ADD", network.head, netns=trigger, container_id=container_id("trigger"))
    sighted["argv"] = [*OWN_VIEW, f"rm /run/cni-reaper/views; {SAME_BOOT}; {RUN_CNI_REAPER}"]
    node.together([sighted])[0].check()
    noted = json.loads(node.path("/run/cni-reaper/views").read_bytes())["views"][-1][-1]  # in ticks: two starts can share one
    until(
        lambda: time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK") > noted + 1, "the next container starts later"
    )
    own = "$(stat -L -c %i /proc/self/ns/pid),$(stat -L -c %i /proc/self/ns/mnt)"
    take = f'sed -i "s/\\[\\[[0-9]*,[0-9]*/[[{own}/" /run/cni-reaper/views && touch /run/cni-reaper/taken'
    hide = "mount --bind /run/cni-reaper /mnt; umount -l /run; mount -t tmpfs t /run; mkdir -p /run/cni-reaper /run/netns"
    blind = node.plugin_command("DEL", network.head, netns="", container_id=container_id("other"))
    blind["argv"] = [*OWN_VIEW, f"{SAME_BOOT}; {take}; {hide}; mount --bind /mnt /run/cni-reaper; {RUN_CNI_REAPER}"]
    node.together([blind])[0].check()
    assert node.path("/run/cni-reaper/taken").exists()
    assert network.held() == {live}, node.log()
    assert "cannot be sure to see" in node.log("sweep-skipped")[-1]["reason"]


@pytest.mark.parametrize("outside_first", [True, False])
def test_chroot_in_another_mount_namespace_hides_no_netns(network: Network, outside_first: bool) -> None:
    """Of a runtime's private mount namespace, the process that is looked at first sits in a chroot and shows no netns: kept."""
    node = network.node
    pod = node.pod("kubens")
    address = network.add(pod)
    for directory in ("bin", "usr", "lib", "lib64"):
        node.path(f"/run/jail/{directory}").mkdir(parents=True)
        node.mount(f"/{directory}", f"/run/jail/{directory}", flags=agent.MS_BIND | agent.MS_REC)
    inner, outer = "chroot /run/jail /bin/sleep infinity", "/bin/sleep infinity"
    first, second = (outer, inner) if outside_first else (inner, outer)
    script = f"{second} & touch /var/lib/cni/there; exec {first}"
    holder = node.start(["unshare", "--mount", "--propagation", "private", "sh", "-c", script])
    until(node.path("/var/lib/cni/there").exists, "the mount namespace is there")
    until(lambda: os.readlink(node.path(f"/proc/{holder}/exe")).endswith("sleep"), "its first process sits where it should")
    node.umount(pod.path)
    network.reap()
    assert network.held() == {address}, node.log()


THREAD_WITH_MOUNTS = """
import ctypes, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def live():
    if libc.unshare(0x00000200 | 0x00020000):  # CLONE_FS | CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "unshare")
    libc.mount(b"none", b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE
    open("/run/ready", "w").write("x")
    time.sleep(600)
threading.Thread(target=live).start()
time.sleep(600)
"""


def test_netns_mounted_in_the_view_of_a_thread_is_kept(network: Network) -> None:
    """A thread has a mount namespace of its own, and the netns is mounted nowhere else."""
    node = network.node
    pod = node.pod("hidden")
    address = network.add(pod, container_id("hidden"))
    node.start([sys.executable, "-c", THREAD_WITH_MOUNTS])
    until(node.path("/run/ready").exists, "the thread has its mounts")
    node.umount(pod.path)
    network.reap()
    assert network.held() == {address}, node.log()
