"""Processes that are not a runtime's: what they do to their namespaces frees no live address, and stops no reaping.

Rows B1, B5 and B8 of the facts about other nodes; docs/evidence.md has the rules.
"""

import signal
import sys
from functools import partial

import pytest

from tests.conftest import MakeNode
from tests.support import netns_holders
from tests.support.agent import MS_BIND
from tests.support.cni_calls import Pod
from tests.support.network import Network, container_id
from tests.support.node import NETNS_DIR, Node
from tests.support.stopped_call import stop_at
from tests.support.tenant import OTHER, POD, POD_OTHER, ROOT, started
from tests.support.waiting import until

MOVES = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result:
        raise OSError(ctypes.get_errno(), "system call")
def unshare():
    check(libc.unshare(0x00020000))  # CLONE_NEWNS
    check(libc.mount(b"none", b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
unshare()
if os.fork() == 0:
    signal.pause()
open("/run/apart", "w").close()
signal.sigwait([signal.SIGUSR1])
unshare()
for path in ("/run/netns", sys.argv[1]):  # a mount in the one is a mount below it, too
    while not libc.umount2(path.encode(), 2):  # MNT_DETACH
        pass
open("/run/moved", "w").close()
signal.pause()
"""
"""A process and its child are in a mount namespace of their own; at a signal the first goes on to another one."""

HANGS = """
import ctypes, os, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
what, number, told, *covered = sys.argv[1:]
def check(result):
    if result:
        raise OSError(ctypes.get_errno(), "system call")
def mount(kind, place, data):
    os.makedirs(place, exist_ok=True)
    check(libc.mount(kind, place.encode(), kind, 0, data))
if os.getuid():
    ids = {"uid_map": os.getuid(), "gid_map": os.getgid()}
    check(libc.unshare(0x10020000))  # CLONE_NEWUSER | CLONE_NEWNS
    for name, text in (("setgroups", "deny"), *((name, f"0 {number} 1") for name, number in ids.items())):
        open(f"/proc/self/{name}", "w").write(text)
    check(libc.mount(b"none", b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE
base = "/dev/shm"
mount(b"tmpfs", base, b"")
device = os.open("/srv/fuse", os.O_RDWR)
mount(b"fuse", base + "/hung", b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % device)
hung = threading.Event()
def answer(unique, data=b"", error=0):
    os.write(device, struct.pack("<IiQ", 16 + len(data), error, unique) + data)
attributes = struct.pack("<6Q10I", int(number, 0), 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096, 0)
def serve():
    while True:
        request = os.read(device, 1 << 20)
        _, kind, unique, _ = struct.unpack_from("<IIQQ", request)
        if hung.is_set():
            continue
        if kind == 1:  # FUSE_LOOKUP
            node = {b"a": 2, b"b": 3}.get(request[40:].rstrip(bytes(1)))
            answer(unique, *((struct.pack("<4QII", node, 0, 3600, 0, 0, 0) + attributes,) if node else (b"", -2)))  # ENOENT
        elif kind == 3:  # FUSE_GETATTR
            answer(unique, struct.pack("<QII", 0, 0, 0) + attributes)
        elif kind == 17:  # FUSE_STATFS
            answer(unique, struct.pack("<5Q4I", 0, 0, 0, 0, 0, 4096, 255, 4096, 0) + bytes(24))
        elif kind == 26:  # FUSE_INIT
            answer(unique, struct.pack("<IIIIHHII", 7, 31, 65536, 0, 12, 10, 65536, 1) + bytes(36))
        elif kind == 27:  # FUSE_OPENDIR
            answer(unique, struct.pack("<QII", 1, 0, 0))
        else:
            answer(unique, error=-38)  # ENOSYS
threading.Thread(target=serve, daemon=True).start()
top = base + "/hung"
os.stat(top)
if what == "overlay":
    layers = f"lowerdir={top}/a:{top}/b,userxattr".encode()
    top = covered[0] if covered else base + "/top"
    mount(b"overlay", top, layers)
if not covered:
    root = os.open(top, os.O_RDONLY)
    os.stat(root)
    check(libc.umount2(top.encode(), 2))  # MNT_DETACH
    assert os.readlink(f"/proc/self/fd/{root}") == "/"
    assert f"ino:\\t{int(number, 0)}\\n" in open(f"/proc/self/fdinfo/{root}").read()
hung.set()
open(told, "w").close()
time.sleep(40)
"""
"""A file system in user space that stops to answer: its root is held open after its mount is gone, or it covers a directory.

As another user than root all of it is in a user namespace of its own, and below an overlay, by which root asks as that user.
"""
USER = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
LIMIT_S = 20  # of an ADD that does not hang


def test_a_process_that_changes_its_mount_namespace_keeps_the_pod_in_its_old_one(network: Network) -> None:
    """B8: between the looks at its mount namespace and at its mounts a process moves to another, without the pod's netns.

    The pod's netns is mounted in the first one only, in which another process stays.
    """
    node = network.node
    pod, own = node.pod("live"), node.pod()
    address = network.add(pod)
    leak = network.leak()
    mover = node.start([sys.executable, "-I", "-c", MOVES, pod.path])
    until(node.path("/run/apart").exists, "the process has mounts of its own")
    node.umount(pod.path)
    call = node.plugin_command("ADD", network.head, netns=own, container_id=container_id(own.name))
    stopped = stop_at(node, call, "/readlink", f"/proc/{mover}/root")
    node.run(["kill", f"-{signal.SIGUSR1}", str(mover)]).check()
    until(node.path("/run/moved").exists, "the process has moved")
    stopped.go_on()
    assert address in network.held(), node.log()
    assert leak not in network.held(), node.log()


def hangs(node: Node, *arguments: str, user: bool) -> int:
    """Start a process with a file system that hangs; return its PID when it does. It ends after a while, whatever happens."""
    node.mount("tmpfs", "/srv", "tmpfs")
    node.run(["mknod", "--mode=666", "/srv/fuse", "c", "10", "229"]).check()  # as on a node, whatever /dev/fuse is here
    node.write("/run/user/told", "")
    node.path("/run/user").chmod(0o777)
    node.path("/run/user/told").unlink()
    what, number, *covered = arguments
    holder = node.start([*(USER if user else ()), "python3", "-I", "-c", HANGS, what, number, "/run/user/told", *covered])
    until(node.path("/run/user/told").exists, "the file system hangs")
    return holder


NUMBERS = {"of 64 bits": "0x1f0001234", "of a netns": "0xf0001234"}


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS.keys())
@pytest.mark.parametrize("user", [False, True], ids=["root", "another user"])
def test_a_file_system_that_hangs_and_is_held_open_is_not_asked(network: Network, number: str, user: bool) -> None:
    """B1: its root shows as `/` once the mount is gone, as a netns does, and has a number that may be a netns's."""
    node = network.node
    live = network.add(node.pod("live"))
    network.leak()
    holder = hangs(node, "overlay" if user else "fuse", number, user=user)
    own = node.pod()
    ran = node.plugin("ADD", network.head, netns=own, container_id=container_id(own.name), timeout=LIMIT_S)
    node.stop(holder)
    assert ran.rc == 0, ran
    assert network.held() == {live}, node.log()


def test_a_file_system_that_hangs_over_a_pods_netns_is_not_asked(network: Network) -> None:
    """B1: another user keeps a copy of the mounts in /run/netns, and has mounted a file system that hangs over them."""
    node = network.node
    live = network.add(node.pod("live"))
    pod = node.pod()
    address = network.add(pod)
    holder = hangs(node, "overlay", "1", "/run/netns", user=True)
    node.umount(pod.path)  # a file whose removal takes the other users' mounts on it with it is left
    own = node.pod()
    ran = node.plugin("ADD", network.head, netns=own, container_id=container_id(own.name), timeout=LIMIT_S)
    node.stop(holder)
    assert ran.rc == 0, ran
    assert address not in network.held(), node.log()
    assert live in network.held()


FIRST, POOL = "10.66.0.1", 254
"""All addresses of the network."""
MANY = 4000
"""Addresses of one netns: more than are listed at once."""
LIST_LIMIT = 1 << 26
"""Bytes of a list of mounts that is read no further."""
UNPRIVILEGED = [OTHER, POD_OTHER]


def old_leak(network: Network) -> str:
    """Leave a reservation of a container that is gone, made before cni-reaper was in the chain; return the address."""
    pod = network.node.pod()
    address = network.take(pod, container_id(pod.name))
    pod.delete()
    return address


def of(node: Node, tenant: int) -> Pod:
    """Return the netns that only a tenant's process shows, as a pod."""
    return Pod(node, f"of-{tenant}", f"/proc/{tenant}/ns/net")


def mounted(node: Node, tenant: int) -> Pod:
    """Mount a tenant's netns, as a runtime does with its pods'; return it as a pod."""
    pod = Pod(node, f"of-{tenant}", f"{NETNS_DIR}/cni-3f2b8c1e-9d47-4a6b-8e06-{tenant:012x}")
    node.write(pod.path, "")
    node.mount(of(node, tenant).path, pod.path, flags=MS_BIND)
    return pod


def linked(node: Node, pod: Pod) -> None:
    """Give a netns a link whose far end is the node's."""
    node.add_link("near", "veth", peer="far")
    node.change_link("far", net_ns_fd=pod.path)


def _sleeps(node: Node, process: int) -> bool:
    return "sleep" in node.path(f"/proc/{process}/comm").read_text()


class TestWhoseNetns:
    """A netns that may be the owner's keeps who has no record. Another user's is none of a runtime's, whoever is in it."""

    @pytest.mark.parametrize("who", [ROOT, POD])
    def test_netns_made_by_root_is_waited_for(self, network: Network, who: str) -> None:
        """Also for a user namespace that root has made: a pod with `hostUsers: false` before its network is set up."""
        started(network.node, who, "live")
        address = old_leak(network)
        network.reap()
        assert address in network.held()
        assert "1 netns unaccounted for" in str(network.node.log("kept"))

    def test_netns_made_by_root_is_waited_for_whoever_is_in_it(self, network: Network) -> None:
        """Who lives in a netns that root has made does not count, nor who holds it open."""
        node = network.node
        pod = node.pod()
        address = network.take(pod, container_id(pod.name))
        process = node.start([*USER, "sleep", "infinity"], netns=pod)
        until(partial(_sleeps, node, process), "another user is in the netns")
        netns_holders.unpin(pod)
        network.reap()
        assert address in network.held(), node.log()

    def test_netns_held_open_by_another_user_is_waited_for(self, network: Network) -> None:
        """By a descriptor that root has left to it."""
        node = network.node
        pod = node.pod()
        address = network.add(pod)
        process = node.start(["sh", "-c", f"exec {' '.join(USER)} sleep infinity 9<{pod.path}"])
        until(partial(_sleeps, node, process), "the descriptor is open")
        netns_holders.unpin(pod)
        network.reap()
        assert address in network.held(), node.log()

    def test_netns_mounted_by_root_is_waited_for(self, network: Network) -> None:
        """What is mounted where root mounts may be a pod's, whoever has made it."""
        mounted(network.node, started(network.node, OTHER, "live"))
        address = old_leak(network)
        network.reap()
        assert address in network.held(), network.node.log()

    def test_rootless_node_waits_for_its_own_netns(self, make_node: MakeNode) -> None:
        """Where the runtime is in a user namespace, that is ours, and what is made in there is its own."""
        network = Network(make_node(rootless=True))
        node = network.node
        pod = node.pod()
        address = network.take(pod, container_id(pod.name))
        process = pod.live()
        nested = node.start(["unshare", "--user", "--map-root-user", "--net", "sleep", "infinity"])
        for one in (process, nested):
            until(partial(_sleeps, node, one), "the process runs")
        netns_holders.unpin(pod)
        network.reap()
        assert address in network.held(), node.log()
        node.stop(process)
        network.reap()
        assert address in network.held(), node.log()  # for the user namespace below, which the node's root has made

    @pytest.mark.parametrize("who", UNPRIVILEGED)
    def test_netns_of_another_user_is_not_waited_for(self, network: Network, who: str) -> None:
        """B5: a full node from before cni-reaper came, and a sandbox: the first ADD frees all leaks, and nothing else."""
        node = network.node
        kept = {network.add(node.pod("live"))}
        if who == POD_OTHER:
            kept.add(network.add(mounted(node, started(node, POD, "live"))))
        leaks = {old_leak(network) for _ in range(4)}
        started(node, who, "live")
        network.reap()
        assert not leaks & network.held(), node.log()
        assert kept <= network.held()


class TestAddresses:
    """What a netns of root shows is in use. Another user can show any address."""

    @pytest.mark.parametrize("who", [ROOT, POD])
    def test_address_shown_by_root_is_kept(self, network: Network, who: str) -> None:
        """A guard of its own: the owner's record says that its netns is gone."""
        leak = network.leak()
        started(network.node, who, "hold", FIRST, POOL)
        network.reap()
        assert leak in network.held(), network.node.log()

    @pytest.mark.parametrize("who", UNPRIVILEGED)
    def test_address_shown_by_another_user_keeps_none(self, network: Network, who: str) -> None:
        """B5: `unshare -Urn` with all addresses of the pool keeps none."""
        leak = network.leak()
        started(network.node, who, "hold", FIRST, POOL)
        network.reap()
        assert leak not in network.held(), network.node.log()

    @pytest.mark.parametrize("who", [ROOT, OTHER])
    def test_address_at_far_end_in_another_users_netns_keeps_none(self, network: Network, who: str) -> None:
        """A link into another user's netns, as lxc-user-nic makes it, does not make its addresses count."""
        leak = network.leak()
        linked(network.node, of(network.node, started(network.node, who, "hold", FIRST, POOL)))
        network.reap()
        assert (leak in network.held()) == (who == ROOT), network.node.log()


class TestChanges:
    """Addresses that change all the time: a list of them is never whole."""

    def test_changes_by_root_stop_reaping(self, network: Network) -> None:
        """A netns of nobody that cannot be looked into may have every address."""
        started(network.node, ROOT, "change", "10.77.0.1", MANY)
        address = old_leak(network)
        network.reap()
        assert address in network.held(), network.node.log()

    def test_changes_by_another_user_stop_no_reaping(self, network: Network) -> None:
        """B5: they are not even looked at."""
        started(network.node, OTHER, "change", "10.77.0.1", MANY)
        address = old_leak(network)
        network.reap()
        assert address not in network.held(), network.node.log()

    def test_changing_netns_of_a_pods_user_stops_no_reaping(self, network: Network) -> None:
        """A pod with NET_ADMIN in its own user namespace: its netns cannot be looked into, and stops nothing."""
        node = network.node
        pod = mounted(node, started(node, POD, "change", "10.77.0.1", MANY))
        linked(node, pod)
        live, recorded, old = network.add(pod), network.leak(), old_leak(network)
        network.reap()
        assert live in network.held(), node.log()
        assert not {recorded, old} & network.held(), node.log()


class TestManyMounts:
    """A list of mounts that is too long to be read."""

    def test_endless_mounts_of_root_stop_reaping(self, network: Network) -> None:
        """What it would have shown is not known, so nothing is freed."""
        leak = network.leak()
        started(network.node, ROOT, "mounts", LIST_LIMIT)
        network.reap()
        assert leak in network.held()
        assert "mountinfo" in network.node.log("sweep-skipped")[-1]["reason"]

    @pytest.mark.parametrize("who", [OTHER, POD])
    def test_endless_mounts_of_another_user_stop_no_reaping(self, network: Network, who: str) -> None:
        """B5: a user, or a pod with SYS_ADMIN in its own user namespace; it is not read."""
        live, leak = network.add(network.node.pod("live")), network.leak()
        started(network.node, who, "mounts", LIST_LIMIT)
        network.reap()
        assert leak not in network.held(), network.node.log()
        assert live in network.held()


class TestManyDescriptors:
    """Open files without number; the last of them is a netns that nobody lives in, and that is mounted nowhere any more."""

    def test_descriptors_of_root_are_all_looked_at(self, network: Network) -> None:
        """All are looked at: a live netns is found."""
        node = network.node
        pod = node.pod()
        address = network.add(pod)
        many(node, ROOT, pod)
        network.reap()
        assert address in network.held(), node.log()

    @pytest.mark.parametrize("who", [OTHER, POD])
    def test_descriptors_of_another_user_keep_nothing(self, network: Network, who: str) -> None:
        """B5: a user, or a pod in its own user namespace. Above a number in all they are not looked at, and keep nothing."""
        node = network.node
        live = network.add(node.pod("live"))
        many(node, who, node.pod())
        leak = old_leak(network)
        network.reap()
        assert leak not in network.held(), node.log()
        assert live in network.held()


def many(node: Node, who: str, pod: Pod) -> None:
    """Have more descriptors than are looked at of other users', in a few processes; the last holds a netns, alone."""
    for last in ((), (), (), (pod.path,)):
        started(node, who, "descriptors", *last)
    netns_holders.unpin(pod)


CHROOTS = """
import os, sys
home = os.open("/", os.O_RDONLY)
places = ["run/jail/%d" % number for number in range(200)]
for place in places:
    os.makedirs("/" + place, exist_ok=True)
open("/run/chroots", "w").close()
while True:
    for place in places:
        os.fchdir(home)
        os.chroot(place)
"""


@pytest.mark.parametrize(
    "ahead",
    [
        ["unshare", "-m", "setpriv", "--bounding-set", "-sys_admin"],
        ["setpriv", "--bounding-set", "-sys_admin"],
    ],
)
def test_pod_that_changes_its_root_stops_no_reaping(network: Network, ahead: list[str]) -> None:
    """Any container of root may by default (CAP_SYS_CHROOT), and any user in a user namespace. It stops no reaping."""
    node = network.node
    for _ in range(8):  # on a machine with few processors one of them alone does not always run beside the look
        node.start([*ahead, sys.executable, "-I", "-c", CHROOTS])
    until(node.path("/run/chroots").exists, "they change their roots")
    for _ in range(20):
        network.leak()
        network.reap()
        assert network.held() == set(), node.log()
