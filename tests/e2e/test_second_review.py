"""What a second review made it do: hang on a file system that hangs, and free live addresses in two rare places."""

import sys

import pytest

from tests.e2e.pair import Pair, container_id, until
from tests.node import Node

HUNG_FUSE = """
import ctypes, os, struct, threading, time
libc = ctypes.CDLL(None, use_errno=True)
os.makedirs("/mnt/hung", exist_ok=True)
device = os.open("/dev/fuse", os.O_RDWR)
options = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % device
if libc.mount(b"fuse", b"/mnt/hung", b"fuse", 6, options):
    raise OSError(ctypes.get_errno(), "mount")
hung = threading.Event()
def answer(unique, data=b"", error=0):
    os.write(device, struct.pack("<IiQ", 16 + len(data), error, unique) + data)
def serve():
    while True:
        request = os.read(device, 1 << 20)
        _, kind, unique, _ = struct.unpack_from("<IIQQ", request)
        if hung.is_set():
            continue
        if kind == 26:  # FUSE_INIT
            answer(unique, struct.pack("<IIIIHHII", 7, 31, 65536, 0, 12, 10, 65536, 1) + bytes(36))
        elif kind == 3:  # FUSE_GETATTR
            attributes = struct.pack("<6Q10I", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096, 0)
            answer(unique, struct.pack("<QII", 0, 0, 0) + attributes)
        elif kind == 27:  # FUSE_OPENDIR
            answer(unique, struct.pack("<QII", 1, 0, 0))
        else:
            answer(unique, error=-38)
threading.Thread(target=serve, daemon=True).start()
root = os.open("/mnt/hung", os.O_RDONLY | os.O_DIRECTORY)
if libc.umount2(b"/mnt/hung", 2):
    raise OSError(ctypes.get_errno(), "umount")
hung.set()
open("/run/ready", "w").write(os.readlink("/proc/self/fd/%d" % root))
time.sleep(60)
"""
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


@pytest.fixture
def pair(node: Node) -> Pair:
    """A network of cni-reaper and host-local."""
    return Pair(node)


def test_a_hung_file_system_somebody_has_open(pair: Pair) -> None:
    """A descriptor shows as `/` when its mount is gone, a netns's and a hung FUSE's alike: the latter is not asked anything."""
    node = pair.node
    pair.leak()
    holder = node.start([sys.executable, "-c", HUNG_FUSE])
    try:
        until(node.path("/run/ready").exists, "the file system hangs")
        assert node.read("/run/ready") == "/"
        own = node.pod()
        ran = node.plugin("ADD", pair.head, netns=own, container_id=container_id(own.name))
    finally:
        node.stop(holder)  # before anything else: a process that waits for the file system cannot be killed
    assert ran.rc == 0
    assert pair.held() == set()


def test_an_address_that_two_ipams_gave_accounts_for_nothing(pair: Pair) -> None:
    """A netns holds, from another IPAM, an address that is reserved here for somebody with a record: it is not theirs."""
    node = pair.node
    shared = pair.add(node.pod("known"), container_id("known"))
    live = node.pod("live")
    node.change_link("lo", netns=live.path, state="up")
    node.add_address("lo", shared + "/24", netns=live.path)
    address = pair.take(live, container_id("live"), "net1")  # in flight: no record yet, the address not configured
    pair.reap()
    assert address in pair.held(), node.log()


def test_a_netns_mounted_in_the_view_of_a_thread(pair: Pair) -> None:
    """A thread has a mount namespace of its own, and the netns is mounted nowhere else."""
    node = pair.node
    pod = node.pod("hidden")
    address = pair.add(pod, container_id("hidden"))
    node.start([sys.executable, "-c", THREAD_WITH_MOUNTS])
    until(node.path("/run/ready").exists, "the thread has its mounts")
    node.umount(pod.path)
    pair.reap()
    assert pair.held() == {address}, node.log()
