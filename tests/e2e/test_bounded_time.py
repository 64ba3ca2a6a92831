"""What takes long elsewhere does not hold a call up: a hung file system, many routes and open files, a slow store, held locks."""

import json
import sys

import pytest

from cni_reaper_plugin.reaper import full_scan
from cni_reaper_plugin.system import boot
from tests.support import strace
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import STATE_DIR
from tests.support.waiting import until


def test_gc_waits_once_for_the_records_lock(network: Network) -> None:
    """An ADD that is stopped holds the lock of the records; GC that would mark 15 of them is bounded all the same."""
    node = network.node
    for _ in range(15):
        network.add(node.pod())
    node.start(["flock", "-s", f"{STATE_DIR}/{NETWORK}/.lock", "sh", "-c", "touch /run/locked; exec sleep infinity"])
    until(node.path("/run/locked").exists, "the lock is held")
    ran = node.plugin("GC", {**network.head, "cniVersion": "1.1.0", "cni.dev/valid-attachments": []}, timeout=60).check()
    assert ran.seconds < 25, ran


@pytest.mark.usefixtures("live_pod")
def test_long_route_table_is_not_read_by_each_process(network: Network) -> None:
    """A pod with a long table of routes that changes all the time, and many processes: an ADD that reaps looks into it, too."""
    node = network.node
    router = node.pod("router")
    routes = "".join(f"route add {1 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.0/24 dev lo\n" for n in range(20_000))
    node.write("/run/routes", "link set lo up\naddress add 10.66.0.99/32 dev lo\n" + routes)
    node.run(["ip", "-batch", "/run/routes"], netns=router).check()
    change = "while :; do ip route add 223.250.0.0/24 dev lo; ip route del 223.250.0.0/24 dev lo; done"
    node.start(["sh", "-c", change], netns=router)
    for _ in range(10):
        node.start(["sleep", "1000"], netns=router)
    node.reserve(NETWORK, "10.66.0.99", container_id("routes"))
    leak = network.leak()
    own = node.pod()
    add = node.plugin_command("ADD", network.head, netns=own, container_id=container_id(own.name))
    add["argv"] = [*strace.listing("/run/trace"), *add["argv"]]
    node.together([add])[0].check()
    assert leak not in network.held(), node.log()
    assert "10.66.0.99" in network.held(), node.log()
    tables = [call for call in strace.calls(node.read("/run/trace")) if "fib_trie" in call.text]
    processes = sum(name.name.isdecimal() for name in node.path("/proc").iterdir())
    assert len(tables) < processes, "each process of a netns is asked for the same long table"


@pytest.mark.usefixtures("live_pod")
def test_slow_store_frees_what_was_read_in_time(network: Network) -> None:
    """Reading all of a network takes longer than a call may: what has been read is judged, and the dead of it are freed."""
    node = network.node
    live = [network.add(node.pod()) for _ in range(6)]
    own = node.pod()  # before the dead one, whose netns' number it would have
    network.leak("dead")
    record = node.records(NETWORK)[f"{container_id('dead')}:eth0"]
    for number in range(256, 1056):
        owner = container_id(f"dead {number}")
        node.reserve(NETWORK, f"10.66.{number >> 8}.{number & 255}", owner)
        node.write(f"{STATE_DIR}/{NETWORK}/{owner}:eth0", json.dumps(record))
        entry = {"kind": "cniCacheV1", "containerId": owner, "ifName": "eth0", "networkName": NETWORK}
        node.write(f"/var/lib/cni/results/{NETWORK}-{owner}-eth0", json.dumps(entry))  # nothing published: no program is run
    before = len(network.held())
    add = node.plugin_command("ADD", network.head, netns=own, container_id=container_id(own.name))
    add["argv"] = [*strace.slow("read", 10_000), *add["argv"]]
    node.together([add])[0].check()
    assert len(network.held()) < before, node.log()[-1]["reason"]
    assert set(live) <= network.held()


OPEN_MANY = """
import os, resource, sys, threading
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
null = os.open("/dev/null", os.O_RDONLY)
for _ in range(min(most - 20, 20_000)):
    os.dup(null)
open(sys.argv[1], "w").close()
threading.Event().wait()
"""


@pytest.mark.usefixtures("live_pod")
def test_many_open_files_fail_no_add(network: Network) -> None:
    """With most of a million open files an ADD succeeds, whether or not it could look at them in the time that it has."""
    node = network.node
    for number in range(40):
        node.start([sys.executable, "-I", "-c", OPEN_MANY, f"/run/opened-{number}"])
    until(lambda: len([one for one in node.path("/run").iterdir() if one.name.startswith("opened-")]) == 40, "the files are open")
    live = network.add(node.pod("live"))
    network.leak()
    network.reap()
    assert live in network.held()


@pytest.mark.usefixtures("live_pod")
@pytest.mark.parametrize(("ago_s", "is_put_off"), [(full_scan.PUT_OFF_S - 60, True), (full_scan.PUT_OFF_S + 1, False)])
def test_costly_scan_is_left_to_del(network: Network, ago_s: int, is_put_off: bool) -> None:
    """A call has noted that looking around the node takes long: for ten minutes an ADD leaves it to DEL, which reaps."""
    node = network.node
    leak = network.leak()
    node.write("/run/cni-reaper/put-off", str(int(boot.boottime_s()) - ago_s))
    network.reap()
    assert (leak in network.held()) == is_put_off
    assert ("took too long" in str(node.log("sweep-skipped")[-1:])) == is_put_off
    network.reap("DEL")
    assert leak not in network.held(), node.log()


def test_large_store_of_unknown_owners_heals_in_bounded_calls(node: Node) -> None:
    """8,000 leaks from before we came: every ADD is bounded, and after a few all are gone."""
    network = Network(node, subnet="10.66.0.0/16")
    live = network.add(node.pod("live"))
    directory = node.path(f"/var/lib/cni/networks/{NETWORK}")
    for number in range(8000):
        (directory / f"10.66.{100 + number // 250}.{number % 250 + 1}").write_text(f"{container_id(str(number))}\r\neth0")
    calls = 0
    while len(network.held()) > 1:
        network.reap()
        calls += 1
        assert calls < 30
    assert network.held() == {live}


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


def test_hung_file_system_held_open_is_not_asked(network: Network) -> None:
    """A descriptor shows as `/` when its mount is gone, a netns's and a hung FUSE's alike: the latter is not asked anything."""
    node = network.node
    network.leak()
    holder = node.start([sys.executable, "-c", HUNG_FUSE])
    try:
        until(node.path("/run/ready").exists, "the file system hangs")
        assert node.read("/run/ready") == "/"
        own = node.pod()
        ran = node.plugin("ADD", network.head, netns=own, container_id=container_id(own.name))
    finally:
        node.stop(holder)  # before anything else: a process that waits for the file system cannot be killed
    assert ran.rc == 0
    assert network.held() == set()
