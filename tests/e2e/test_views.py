"""Views that lie: a live pod whose netns is hard to see, in every way we know of, is kept; a leak beside it is freed.

The live pod is known either by its record, while the kernel shows no address of it (in the middle of an ADD, or gVisor), so that
its netns itself must be found; or it is not known at all and its address is configured, so that its netns must be looked into.
Where the view is whole for it, the leak beside it is freed at once; else when it is whole again.
"""

import json
import os

import pytest

from tests import inside
from tests.conftest import MakeNode
from tests.e2e import holders
from tests.e2e.pair import NETWORK, Pair, container_id, until
from tests.e2e.test_past_lives import OWN_VIEW, RUN, SAME_BOOT, without_namespace_ids
from tests.node import STATE_DIR, Node, Pod

GRACE_S = 1500
MS_REMOUNT = 32
OWNER = container_id("live")
HOLDERS = {
    "a process": holders.by_process,
    "an open file descriptor": holders.by_descriptor,
    "a thread that is not the leader": holders.by_thread,
    "a process whose leader thread has exited": holders.by_a_process_whose_leader_has_exited,
}

HIDE = "umount -l /run && mount -t tmpfs tmpfs /run && mkdir /run/netns"
"""What a shell in a mount namespace of its own does to see no pod's netns; the boot ID has to be mounted before."""

known = pytest.mark.parametrize("known", ["its record", "its record, on an older kernel", "its address"])


@pytest.fixture
def pair(node: Node) -> Pair:
    """A network of cni-reaper and host-local."""
    return Pair(node)


def start(pair: Pair, pod: Pod, known: str) -> tuple[str, str]:
    """Give a live pod its address, and let it be known only so; leave a leak beside it. Return both addresses.

    The pod's netns is there before the leak's goes: it would else often be given its inode number.
    """
    leak = dead(pair)
    if "older" in known:
        without_namespace_ids(pair.node)
    if "record" in known:
        return pair.add(pod, OWNER, reapOn=[]), leak
    address = pair.take(pod, OWNER)
    pair.node.add_address("lo", f"{address}/32", pod.path)
    return address, leak


def dead(pair: Pair) -> str:
    """Leave a leak and free nothing; return the address."""
    pod = pair.node.pod()
    address = pair.add(pod, reapOn=[])
    pod.delete()
    return address


def sweep(pair: Pair, waited: int = 0, within: tuple[str, ...] = (), verb: str = "ADD") -> None:
    """Run our plugin for a container of its own, behind the words of a command; its netns goes again."""
    own = pair.node.pod()
    one = pair.node.plugin_command(verb, pair.head, netns=own, container_id=container_id(own.name), waited=waited)
    one["argv"] = [*within, *one["argv"]]
    pair.node.together([one])[0].check()
    own.delete()


def assert_kept(pair: Pair, address: str, whole: bool = True) -> None:
    """Sweep now, and after the time for which an owner without a netns is waited for: the pod's address is left, and alone.

    whole: False where a netns is seen that cannot be looked into: a leak whose inode number is another's by now stays then.
    """
    for waited in (0, 2 * GRACE_S):
        sweep(pair, waited=waited)
        held = pair.held()
        assert held == {address} if whole else address in held, pair.node.log()


def assert_freed(pair: Pair, waited: int = 0) -> None:
    """Sweep: nothing is left."""
    sweep(pair, waited=waited)
    assert pair.held() == set(), pair.node.log()


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS.keys())
@known
def test_a_netns_reached_only_by(pair: Pair, hold: holders.Hold, known: str) -> None:
    """No mount leads to the netns any more; one process, thread or descriptor holds it, and while it does it is kept."""
    pod = pair.node.pod("live")
    holder = hold(pod)
    address, _ = start(pair, pod, known)
    holders.unpin(pod)
    sweep(pair)
    assert pair.held() == {address}, pair.node.log()
    if "older" not in known:
        sweep(pair, waited=2 * GRACE_S)
        assert pair.held() == {address}, pair.node.log()
    pair.node.stop(holder)
    assert_freed(pair, waited=4 * GRACE_S)


@pytest.mark.parametrize("mapped", [True, False])
def test_a_netns_reached_only_by_a_veth(pair: Pair, mapped: bool) -> None:
    """A socket alone holds the netns and nothing on the node names it, but its veth ends here: the address is in use."""
    node = pair.node
    pod = node.pod("live")
    dead(pair)
    node.run(["ip", "link", "add", "far", "type", "veth", "peer", "name", "eth0", "netns", pod.name]).check()
    holder = holders.by_socket(pod)
    address = pair.add(pod, OWNER, reapOn=[]) if mapped else pair.take(pod, OWNER)
    node.add_address("eth0", f"{address}/24", pod.path)
    holders.unpin(pod)
    assert_kept(pair, address)
    node.stop(holder)

    def freed() -> bool:  # the kernel takes its time to dismantle a netns
        sweep(pair, waited=4 * GRACE_S)
        return pair.held() == set()

    until(freed, "the address is freed")


@known
@pytest.mark.parametrize("lives", [True, False])
def test_run_netns_below_another_mount(pair: Pair, known: str, lives: bool) -> None:
    """A tmpfs hides every path in /run/netns, of pods with a process and of such as have none yet."""
    node = pair.node
    pod = node.pod("live")
    if lives:
        holders.by_process(pod)
    address, _ = start(pair, pod, known)
    node.mount("tmpfs", "/run/netns", "tmpfs")
    assert not node.path(pod.path).exists()
    assert_kept(pair, address, whole=lives)
    node.umount("/run/netns")
    assert_kept(pair, address)


@known
def test_another_pods_netns_mounted_over_the_path(pair: Pair, known: str) -> None:
    """Two netns are mounted at one path and the other one is shown: the one below is still somebody's."""
    node = pair.node
    pod, other = node.pod("live"), node.pod("other")
    address, _ = start(pair, pod, known)
    node.mount(other.path, pod.path, flags=inside.MS_BIND)
    assert_kept(pair, address, whole=False)
    node.umount(pod.path)
    assert_kept(pair, address)
    pod.delete()
    other.delete()
    assert_freed(pair, waited=4 * GRACE_S)


@known
@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_a_daemon_that_does_not_see_run_netns(pair: Pair, known: str, verb: str) -> None:
    """Multus thick: the plugin runs in a container of its own, without the pods' netns and processes: nothing is freed there."""
    node = pair.node
    pod = node.pod("live")
    address, leak = start(pair, pod, known)
    sweep(pair, within=(*OWN_VIEW, f'{SAME_BOOT} && {HIDE} && exec "$@"', "sh"), verb=verb)
    assert pair.held() == {address, leak}
    assert node.log("sweep-skipped")[-1]["reason"].startswith("this process cannot be sure to see")
    assert_kept(pair, address)


@known
def test_a_daemon_that_sees_this_calls_netns_only(pair: Pair, known: str) -> None:
    """The runtime gives a path through the host's /proc, so this call's netns is there, and no other pod's: nothing is freed."""
    node = pair.node
    pod, own = node.pod("live"), node.pod()
    address, leak = start(pair, pod, known)
    host_proc = "/var/lib/cni/host-proc"
    node.path(host_proc).mkdir()
    one = node.plugin_command("ADD", pair.head, netns=f"{host_proc}/1/root{own.path}", container_id=container_id(own.name))
    see = f"mount --rbind /proc {host_proc} && mount -t proc proc /proc && {SAME_BOOT}"
    script = f'{see} && {HIDE} && exec "$@"'
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private"]
    one["argv"] = [*namespaces, "sh", "-c", script, "sh", *one["argv"]]
    node.together([one])[0].check()
    assert pair.held() == {address, leak}
    assert node.records(NETWORK)[f"{container_id(own.name)}:eth0"]["ino"], "the plugin has seen its own netns"
    sweep(pair)
    assert pair.held() == {address}, node.log()


@known
@pytest.mark.parametrize("lives", [True, False])
def test_a_daemon_with_mounts_of_its_own(pair: Pair, known: str, lives: bool) -> None:
    """Kubelet in a container, the host's processes visible: netns that were mounted later are seen by the host's own mounts."""
    node = pair.node
    namespace = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "touch /run/up; exec sleep infinity"]
    daemon = node.start(namespace)
    until(node.path("/run/up").exists, "the daemon's container is up")
    pod = node.pod("live")
    if lives:
        holders.by_process(pod)
    address, _ = start(pair, pod, known)
    own = node.pod()
    bind = ["mount", "--no-canonicalize", "--bind"]
    node.run(["nsenter", "--target", str(daemon), "--mount", *bind, f"/proc/1/root{own.path}", own.path]).check()
    one = node.plugin_command("ADD", pair.head, netns=own, container_id=container_id(own.name))
    one["argv"] = ["nsenter", "--target", str(daemon), "--mount", *one["argv"]]
    node.together([one])[0].check()
    assert pair.held() == {address}, node.log()


@known
@pytest.mark.parametrize("sees", ["everything", "little"])
def test_a_proc_with_hidepid(pair: Pair, known: str, sees: str) -> None:
    """/proc is mounted with hidepid=2: whoever may not trace sees no process of others, and then frees nothing."""
    node = pair.node
    pod = node.pod("live")
    process = node.start(["setpriv", "--reuid", "1000", "--clear-groups", "sleep", "infinity"], netns=pod)
    until(lambda: os.readlink(node.path(f"/proc/{process}/exe")).endswith("sleep"), "the process lives in the netns")
    address, leak = start(pair, pod, known)
    holders.unpin(pod)
    node.mount("proc", "/proc", "proc", MS_REMOUNT, "hidepid=2")
    if sees == "little":
        sweep(pair, within=("setpriv", "--bounding-set", "-sys_ptrace"))
        assert pair.held() == {address, leak}, node.log()
        node.mount("proc", "/proc", "proc", MS_REMOUNT, "hidepid=0")
    sweep(pair)
    assert pair.held() == {address}, node.log()
    node.stop(process)
    assert_freed(pair, waited=4 * GRACE_S)


def moved_to(node: Node, owner: str, process: int) -> None:
    """Have the number in a record's /proc/<pid>/ns/net be another process's by now; the kernel would take its time for that."""
    path = f"{STATE_DIR}/{NETWORK}/{owner}:eth0"
    record = json.loads(node.read(path))
    assert record["netns"].startswith("/proc/")
    node.write(path, json.dumps({**record, "netns": f"/proc/{process}/ns/net"}))


@pytest.mark.parametrize("kernel", ["this", "older"])
@pytest.mark.parametrize("reused_by", ["the host", "another pod"])
def test_a_process_path_whose_number_is_reused(pair: Pair, kernel: str, reused_by: str) -> None:
    """The record names /proc/<pid>/ns/net and the process is another one by now: the pod that lives on in others is kept."""
    node = pair.node
    if kernel == "older":
        without_namespace_ids(node)
    dead, live, other = node.pod("dead"), node.pod("live"), node.pod("other")
    held = {pod.name: holders.by_process(pod) for pod in (dead, live, other)}
    for pod in (dead, live):
        holders.unpin(pod)
    addresses = {
        pod.name: pair.add(Pod(node, pod.name, f"/proc/{held[pod.name]}/ns/net"), reapOn=[]) for pod in (dead, live, other)
    }
    node.stop(held["dead"])
    number = 1 if reused_by == "the host" else held["other"]
    for pod in (dead, live):
        moved_to(node, container_id(pod.name), number)
    sweep(pair)
    assert pair.held() == {addresses["live"], addresses["other"]}, node.log()
    node.stop(held["live"])
    sweep(pair)
    assert pair.held() == {addresses["other"]}, node.log()


@known
def test_a_user_namespace_that_cannot_enter_it(pair: Pair, known: str) -> None:
    """In a user namespace of its own the plugin may neither trace nor enter anything: it frees nothing, and a whole view does."""
    node = pair.node
    pod = node.pod("live")
    process = holders.by_process(pod)
    address, leak = start(pair, pod, known)
    sweep(pair, within=("unshare", "--user", "--map-root-user"))
    assert pair.held() == {address, leak}, node.log()
    assert_kept(pair, address)
    node.stop(process)
    pod.delete()
    assert_freed(pair, waited=4 * GRACE_S)


@known
@pytest.mark.parametrize("lives", [True, False])
def test_a_plugin_that_may_not_enter_netns(pair: Pair, known: str, lives: bool) -> None:
    """Without CAP_SYS_ADMIN a netns without a process cannot be looked into: it may hold the address of whoever has no record."""
    node = pair.node
    pod = node.pod("live")
    if lives:
        holders.by_process(pod)
    address, _ = start(pair, pod, known)
    for waited in (0, 2 * GRACE_S):
        own = node.pod()
        one = node.plugin_command("ADD", pair.head, netns=own, container_id=container_id(own.name), waited=waited)
        one["argv"] = [*one["argv"][:-1], "setpriv", "--bounding-set", "-sys_admin", one["argv"][-1]]
        node.together([one])[0].check()
        own.delete()
        assert address in pair.held(), node.log()
    sweep(pair)
    assert pair.held() == {address}, node.log()


@known
def test_a_pod_in_a_user_namespace_of_its_own(pair: Pair, known: str) -> None:
    """A rootless pod's netns belongs to its user namespace and only its process holds it: seen, and looked into."""
    node = pair.node
    process = node.start(["unshare", "--user", "--map-root-user", "--net", "sleep", "infinity"])
    until(lambda: os.readlink(node.path(f"/proc/{process}/exe")).endswith("sleep"), "the process is in its namespaces")
    pod = Pod(node, "rootless", f"/proc/{process}/ns/net")
    if known == "its address":
        dead(pair)
        address = pair.take(pod, OWNER)
        nsenter = ["nsenter", "--target", str(process), "--user", "--net", "--preserve-credentials"]
        node.run([*nsenter, "ip", "address", "add", f"{address}/32", "dev", "lo"]).check()
    else:
        address, _ = start(pair, pod, known)
    sweep(pair)
    assert pair.held() == {address}, node.log()
    if "older" not in known:
        sweep(pair, waited=2 * GRACE_S)
        assert pair.held() == {address}, node.log()
    node.stop(process)
    assert_freed(pair, waited=4 * GRACE_S)


def test_a_rootless_node(make_node: MakeNode) -> None:
    """The whole node is in a user namespace, where all of it can be seen: live is kept, leaked is freed."""
    pair = Pair(make_node(rootless=True))
    pod = pair.node.pod("live")
    address, _ = start(pair, pod, "its address")
    assert_kept(pair, address)
    pod.delete()
    assert_freed(pair)


def test_what_a_view_has_missed_is_freed_by_the_next(pair: Pair) -> None:
    """Leaks that a blind daemon leaves for hours, ten of them, are all gone with the first ADD that sees; no live one is."""
    kept = {pair.add(pair.node.pod(f"live-{number}")) for number in range(3)}
    leaks = {dead(pair) for _ in range(10)}
    trigger = pair.node.pod("trigger")
    for _ in range(3):
        one = pair.node.plugin_command("ADD", pair.head, netns=trigger, container_id=container_id("trigger"))
        one["argv"] = [*OWN_VIEW, f"{SAME_BOOT} && {HIDE} && {RUN}"]
        pair.node.together([one])[0].check()
        assert pair.held() == kept | leaks
    sweep(pair)
    assert pair.held() == kept


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
def test_a_path_that_is_longer_than_the_kernel_tells(pair: Pair, what: str) -> None:
    """readlink(2) below /proc answers ENAMETOOLONG above a page: anybody can have such a file open, and stops nothing with it."""
    node = pair.node
    live = node.pod()
    address = pair.add(live)
    node.write("/run/deep", "")
    node.path("/run/deep").chmod(0o666)
    node.path("/var/lib/deep").mkdir(mode=0o777)
    node.path("/var/lib/deep").chmod(0o777)
    somebody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if what == "descriptor" else []
    node.start(["sh", "-c", 'cd /var/lib/deep && exec "$@"', "sh", *somebody, "python3", "-c", DEEP, what])
    until(lambda: node.read("/run/deep") == "x", "the path is made")
    node.reserve(NETWORK, "10.66.0.77", container_id("dead"))
    pair.reap()
    assert set(node.reservations(NETWORK)) == {address}
    assert [line for line in node.log() if line["level"] not in ("info", "debug")] == []
