"""A store full of things that host-local never put there: nothing is followed, nothing but stale reservations is removed.

And whatever it holds, a call ends, and its memory is bounded. The frozen executable as root; in every test a leak stands among
the rest, and is gone in the end.
"""

import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import agent, strace
from tests.support.cni_calls import Pod
from tests.support.commands import Ran
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, STATE_DIR

STORE = f"{DATA_DIR}/{NETWORK}"
RECORDS = f"{STATE_DIR}/{NETWORK}"
RESULTS = "/var/lib/cni/results"
OUTSIDE = "/run/outside"
NO_OVERRIDE = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
PEAK = "/run/peak"
MOST_CALLS = 1000  # each gets at least a slice of 64 reservations done, however slow the machine is
MEASURED = [
    sys.executable,
    "-c",
    f"""
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
open("{PEAK}", "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
""",
]
BOUND_KB = 256_000
GIB = 1 << 30

Place = Callable[[Path], None]


@pytest.fixture
def network(node: Node) -> Network:
    """A network with a live pod, which has not configured its address yet, and a leak."""
    network = Network(node)
    network.add(node.pod("live"))
    network.leak("dead")
    return network


LIVE, LEAK, OTHER = "10.66.0.2", "10.66.0.3", "10.66.0.4"


def leak_another(network: Network) -> None:
    """Leave a second leak, at OTHER."""
    pod = network.node.pod("other")
    assert network.add(pod, reapOn=[]) == OTHER
    pod.delete()


def reap(network: Network, prefix: list[str] | None = None, **options: object) -> Ran:
    """Run ADD behind a command prefix; it ends, whatever the store holds."""
    pod = network.node.pod()
    command = network.node.plugin_command("ADD", {**network.head, **options}, netns=pod, container_id=container_id(pod.name))
    command["argv"] = [*(prefix or []), *command["argv"]]
    ran = network.node.together([command])[0].check()
    assert ran.json() == {"cniVersion": "1.0.0"}
    assert ran.err == b""
    return ran


def listed(node: Node, directory: str = STORE) -> set[bytes]:
    """Return the names in a directory as they are, except what host-local and we keep there."""
    return {name for name in os.listdir(os.fsencode(node.path(directory))) if name not in (b"lock", b"last_reserved_ip.0")}


def state_of(node: Node, directory: str) -> dict[str, tuple[object, ...]]:
    """Return what can be known of everything below a directory, but for its access times."""

    def entries(path: Path) -> Iterator[tuple[str, tuple[object, ...]]]:
        for entry in sorted(path.iterdir()):
            about = entry.lstat()
            content = entry.read_bytes() if stat.S_ISREG(about.st_mode) else b""
            yield str(entry), (about.st_ino, about.st_mode, about.st_mtime_ns, about.st_ctime_ns, about.st_nlink, content)
            if stat.S_ISDIR(about.st_mode):
                yield from entries(entry)

    return dict(entries(node.path(directory)))


def dead_owner(name: str = "gone") -> bytes:
    """Return the content of a reservation that looks as stale as can be."""
    return container_id(name).encode() + b"\r\neth0"


def a_socket(path: Path) -> None:
    """Bind a socket; the path is short, as long ones have no socket."""
    here = os.open(path.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


def a_directory(path: Path) -> None:
    """Make a directory with a reservation in it."""
    path.mkdir()
    (path / "10.66.0.99").write_bytes(dead_owner())


def a_device(kind: int, major: int, minor: int) -> Place:
    """Return what makes a device node."""
    return lambda path: os.mknod(path, kind | 0o600, os.makedev(major, minor))


def a_link(target: str) -> Place:
    """Return what makes a symlink."""
    return lambda path: path.symlink_to(target)


NOT_FILES: dict[str, Place] = {
    "10.66.0.100": a_link(f"{OUTSIDE}/10.66.0.100"),
    "10.66.0.101": a_link(OUTSIDE),
    "10.66.0.102": a_link("/nowhere"),
    "10.66.0.103": a_link("10.66.0.103"),
    "10.66.0.104": a_link(LEAK),
    "10.66.0.105": a_link(f"{OUTSIDE}/fifo"),
    "10.66.0.106": os.mkfifo,
    "10.66.0.107": a_socket,
    "10.66.0.108": a_device(stat.S_IFCHR, 1, 3),
    "10.66.0.109": a_device(stat.S_IFCHR, 10, 130),
    "10.66.0.110": a_device(stat.S_IFBLK, 7, 0),
    "10.66.0.111": a_directory,
    "fd66::100": a_directory,
}
"""What is no plain file, by name. 10:130 is a watchdog, which begins to count when it is opened."""

OTHER_NAMES = [
    b"FD66::1",
    b"fd66:0::1",
    b"fd66:0:0:0:0:0:0:1",
    b"fd66::0001",
    b"fd66::1%eth0",
    b"010.66.0.7",
    b"10.66.0.7.",
    b".10.66.0.7",
    b"10.66.7",
    b"10.66.0.07",
    b"0x0a.66.0.7",
    b"10.66.0.7\n",
    b"10.66.0.7\r\n",
    b"\n10.66.0.7",
    b"10.66.0.7 ",
    b"10.66.0.\xff",
    b"\xff\xfe",
    b"10.66.0.\xe2\x80\x8b7",
    b"10.66.0.7.tmp",
    b":.:.:",
    b"1" * 251 + b".1.1",
    b"-rf",
    b"*",
]


def test_odd_names_and_kinds_are_left_alone(network: Network) -> None:
    """Links, FIFOs, sockets, devices, directories, odd names: none is opened for what it is, followed or removed."""
    node = network.node
    outside = node.path(OUTSIDE)
    outside.mkdir()
    (outside / "10.66.0.100").write_bytes(dead_owner())
    os.mkfifo(outside / "fifo")
    store = node.path(STORE)
    node.mount("none", "/var/lib", flags=agent.MS_BIND | 32)  # MS_REMOUNT, without MS_NODEV
    for name, place in NOT_FILES.items():
        place(store / name)
    for raw in OTHER_NAMES:
        Path(os.fsdecode(os.fsencode(store) + b"/" + raw)).write_bytes(dead_owner())
    before = state_of(node, OUTSIDE)
    among = {name: (store / name).lstat() for name in NOT_FILES}
    strange = listed(node) - {LEAK.encode()}
    reap(network)
    assert listed(node) == strange, node.log()
    assert state_of(node, OUTSIDE) == before
    assert {name: (store / name).lstat() for name in NOT_FILES} == among
    assert (store / "10.66.0.111" / "10.66.0.99").read_bytes() == dead_owner()
    assert [line["address"] for line in node.log("reaped")] == [LEAK]


def test_hard_link_keeps_the_file_outside(network: Network) -> None:
    """A stale reservation that is a second name of a file elsewhere goes; the file itself stays word for word."""
    node = network.node
    outside = node.path("/var/lib/cni/outside")
    outside.write_bytes(dead_owner("dead"))
    os.link(outside, node.path(f"{STORE}/10.66.0.100"))
    node.path(f"{STORE}/{LEAK}").unlink()
    reap(network)
    assert listed(node) == {LIVE.encode()}
    assert outside.read_bytes() == dead_owner("dead")


OWNERS = {
    "a record by another way": f"../{NETWORK}/{{dead}}\r\neth0",
    "a record through its own name": "{dead}/../{dead}\r\neth0",
    "out of the state directory": "../../../../../run/outside/{dead}\r\neth0",
    "an ifname that climbs": "{dead}\r\n../../../../run/outside/x",
    "an ifname that climbs a little": "{dead}\r\n/../{dead}:eth0",
    "an absolute path": "/run/outside/{dead}\r\neth0",
    "a netns outside": "../outside/{dead}\r\neth0",
    "two dots": "..\r\neth0",
    "NUL": "{dead}\0\r\neth0",
    "newline": "{dead}\n\r\neth0",
    "an ifname of a thousand characters": "{dead}\r\n" + "e" * 940,
    "an ID of a thousand characters": "a" * 1000 + "\r\neth0",
}


def test_owners_that_are_paths_lead_nowhere(network: Network) -> None:
    """An owner names no file but its own record: baits lie wherever a path would lead, and each reservation is kept."""
    node = network.node
    dead = container_id("dead")
    record = node.read(f"{RECORDS}/{dead}:eth0")
    for bait in (f"{OUTSIDE}/{dead}:eth0", f"{OUTSIDE}/x", f"{OUTSIDE}/{dead}", f"{OUTSIDE}/results/{dead}"):
        node.write(bait, record)
    before = state_of(node, OUTSIDE), state_of(node, RECORDS)
    for number, content in enumerate(OWNERS.values()):
        node.path(f"{STORE}/10.66.0.{100 + number}").write_bytes(content.replace("{dead}", dead).encode())
    for verb in ("ADD", "DEL"):
        network.node.plugin(verb, network.head, netns=node.pod(), container_id=container_id(verb)).check()
        kept = {f"10.66.0.{100 + number}".encode() for number in range(len(OWNERS))}
        assert listed(node) == kept | {LIVE.encode()}, node.log()
    assert state_of(node, OUTSIDE) == before[0]
    now = state_of(node, RECORDS)
    assert {name: now[name] for name in before[1] if name.endswith(":eth0")} == {
        name: value for name, value in before[1].items() if name.endswith(":eth0")
    }


def test_networks_that_lead_elsewhere_are_not_swept(network: Network) -> None:
    """With networks ["*"]: a link to a file or to nowhere, a name with a newline or not in UTF-8, a file: none is swept."""
    node = network.node
    outside = node.path(OUTSIDE)
    outside.mkdir()
    (outside / "10.66.0.100").write_bytes(dead_owner())
    data_dir = node.path(DATA_DIR)
    (data_dir / "linked").symlink_to(f"{OUTSIDE}/10.66.0.100")
    (data_dir / "dangling").symlink_to("/nowhere")
    (data_dir / "circle").symlink_to("circle")
    (data_dir / "file").write_bytes(dead_owner())
    for raw in (b"new\nline", b"\xff\xfe", b".hidden", b"-rf", b"a b"):
        directory = Path(os.fsdecode(os.fsencode(data_dir) + b"/" + raw))
        directory.mkdir()
        (directory / "10.66.0.100").write_bytes(dead_owner())
    before = state_of(node, OUTSIDE)
    reap(network, networks=["*"])
    assert listed(node) == {LIVE.encode()}
    assert {line["network"] for line in node.log()} == {NETWORK}
    assert state_of(node, OUTSIDE) == before
    for raw in (b"new\nline", b"\xff\xfe", b".hidden", b"-rf", b"a b"):
        assert os.listdir(os.fsencode(data_dir) + b"/" + raw) == [b"10.66.0.100"]


@pytest.mark.parametrize("which", ["reservation", "record", "cache entry"])
def test_gigabyte_file_is_not_read_whole(network: Network, which: str) -> None:
    """A file of a gigabyte, named like a reservation, a record or a cache entry: no more of it is read than ours would have."""
    node = network.node
    owner = container_id("big")
    path = {
        "reservation": f"{STORE}/10.66.0.100",
        "record": f"{RECORDS}/{owner}:eth0",
        "cache entry": f"{RESULTS}/{NETWORK}-{owner}-eth0",
    }[which]
    if which != "reservation":
        node.reserve(NETWORK, "10.66.0.100", owner)
        node.pod("stranger")
    file = node.path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    os.truncate(file, GIB)
    reap(network, MEASURED)
    assert listed(node) == {LIVE.encode(), b"10.66.0.100"}, node.log()
    assert file.stat().st_size == GIB
    assert int(node.read(PEAK)) < 64_000


@pytest.mark.parametrize("which", ["reservation", "record"])
def test_unreadable_file_is_kept_and_others_judged(network: Network, which: str) -> None:
    """Without the right to read a reservation, or an owner's record, that one is kept and the others are judged."""
    node = network.node
    leak_another(network)
    closed = f"{STORE}/{OTHER}" if which == "reservation" else f"{RECORDS}/{container_id('other')}:eth0"
    node.path(closed).chmod(0)
    reap(network, NO_OVERRIDE)
    assert listed(node) == {LIVE.encode(), OTHER.encode()}, node.log()
    node.path(closed).chmod(0o600)
    reap(network, NO_OVERRIDE)
    assert listed(node) == {LIVE.encode()}


@pytest.mark.parametrize("why", ["something is mounted on it", "immutable", "the directory is read-only"])
def test_unremovable_reservation_stops_no_sweep(network: Network, why: str) -> None:
    """The kernel refuses to unlink one (EBUSY), or all (EPERM, EROFS): each is said, and the rest goes."""
    node = network.node
    leak_another(network)
    prefix: list[str] = []
    refused = {LEAK, OTHER}
    if why.startswith("something"):
        node.mount(f"{STORE}/{OTHER}", f"{STORE}/{OTHER}", flags=agent.MS_BIND)
        refused = {OTHER}
    elif why == "immutable":  # tmpfs has known that attribute since Linux 6.6 only
        prefix = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=unlinkat", "-e", "inject=unlinkat:error=EPERM"]
    else:
        node.mount(STORE, STORE, flags=agent.MS_BIND)
        node.mount("none", STORE, flags=agent.MS_BIND | 32 | 1)  # MS_REMOUNT | MS_RDONLY
    reap(network, prefix)
    assert network.held() == {LIVE, *refused}, node.log()
    assert {line["address"] for line in node.log("not-reaped")} == refused, node.log()
    if why != "immutable":
        node.umount(STORE if why.startswith("the") else f"{STORE}/{OTHER}")
    reap(network)
    assert listed(node) == {LIVE.encode()}


def test_slow_store_gets_a_slice_done_by_each_add(node: Node) -> None:
    """Every file of the store, and of everything else, takes 2 ms to open and 2 ms to read: each ADD gets a slice done."""
    network = Network(node)
    live = network.add(node.pod("live"))
    leak = Pod(node, "dead", "/run/netns/dead")
    network.leak("dead")
    record = node.read(f"{RECORDS}/{container_id('dead')}:eth0")
    for number in range(200):
        owner = container_id(f"slow {number}")
        node.reserve(NETWORK, f"10.66.0.{number + 50}", owner)
        node.write(f"{RECORDS}/{owner}:eth0", record)
    assert not node.path(leak.path).exists()
    slow = strace.slow("openat,read", 2000)
    calls = 0
    while network.held() != {live}:
        reap(network, slow)
        calls += 1
        assert calls < MOST_CALLS


EVERYBODY = 65_534
STALE_EVERY = 100


def test_sixteen_bit_subnet_heals_in_bounded_memory(node: Node) -> None:
    """65,534 reservations: every ADD is bounded in memory, and after some of them all the stale ones are gone."""
    network = Network(node, subnet="10.66.0.0/16")
    first = network.add(node.pod("live"))
    network.leak("dead")
    live_record = node.path(f"{RECORDS}/{container_id('live')}:eth0").read_bytes()
    dead_record = node.path(f"{RECORDS}/{container_id('dead')}:eth0").read_bytes()
    store, records = node.path(STORE), node.path(RECORDS)
    kept = {first}
    for number in range(4, EVERYBODY + 1):
        address = f"10.66.{number >> 8}.{number & 255}"
        owner = f"{number:064x}"
        stale = number % STALE_EVERY == 0
        (store / address).write_bytes(f"{owner}\r\neth0".encode())
        (records / f"{owner}:eth0").write_bytes(dead_record if stale else live_record)
        if not stale:
            kept.add(address)
    calls, peak = 0, 0
    while len(listed(node)) > len(kept):
        reap(network, MEASURED)
        calls, peak = calls + 1, max(peak, int(node.read(PEAK)))
        assert peak < BOUND_KB
        assert calls < MOST_CALLS, f"{len(listed(node)) - len(kept)} are left"
    assert network.held() == kept
    print(f"{calls} ADDs, {peak} kB at most")
