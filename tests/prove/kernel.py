"""A simulated kernel under the real judge, sweep, store and records: network namespaces, processes, boots and clocks.

Everything that is a file for us (host-local's store, records, libcni's cache, what we remember) is a real file in a temporary
directory. SEAMS lists what of the product is replaced, and nothing else is; `installed` checks that each name is still there.
"""

import contextlib
import errno
import importlib
import ipaddress
import json
import posix
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

from cni_reaper_plugin import model
from cni_reaper_plugin.namespaces.visible import Sighting, Sightings
from cni_reaper_plugin.system import programs

DEVICE = 4
FIRST_INO = 4026532000
HOST_INO = 4026531840
PID_NAMESPACE, MOUNT_NAMESPACE = 4026531836, 4026531841
PRODUCT = "cni_reaper_plugin"
NAMED = "/named/"
PLACES = ("/run/netns/", "/var/run/netns/", "/run/docker/netns/", "/proc/")
RUNTIME, RUNTIME_UNIT = 2, "/system.slice/runtime.service"
POD = "/kubepods.slice/kubepods-pod.slice/cri-pod.scope"

PORTMAPS = ("works", "missing", "fails", "hangs", "does nothing", "unseen")
"""What becomes of portmap's DEL: it may answer with success and do nothing; or what it has written cannot be listed."""

POSIX = ("namespaces.netns.posix", "evidence.proof.posix", "evidence.records.posix", "memory.proven_views.posix")
STORE_CALLS = ("host_local.store.Network.snapshot", "host_local.store.Network.remove")
SEAMS = (
    *POSIX,
    "system.boot.boot_id",
    "system.boot.boottime_s",
    "namespaces.netns.nsfs_device",
    "namespaces.netns._nsfs_device",
    "namespaces.netns.identify_fully",
    "namespaces.visible.everywhere",
    "namespaces.visible.sees",
    "namespaces.visible.shows_all",
    "namespaces.addresses.Look.configured",
    "namespaces.addresses.of_processes",
    "namespaces.assigned.files",
    "namespaces.assigned.posix",
    "system.boot.node",
    "evidence.kin.Kin._check_time",
    "system.network_file_system.name",
    "system.clock.Budget.wall_left_s",
    "namespaces.peer_addresses.addresses",
    "namespaces.peer_addresses._ASKED_AGAIN_AFTER_S",
    "evidence.runtime_names.Names",
    "system.files.identity",
    "system.conntrack.end_flows",
    "system.programs.find",
    "system.programs.run",
    "memory.waiting_owners.Memory._clock_s",
    "memory.proven_views.own_view",
    "memory.proven_views.RUN_DIR",
    "system.clock.Budget.spent",
    "reaper.record_expiry.ticks",
    "reaper.sweep.ticks",
    "system.flock.take",
    *STORE_CALLS,
    "evidence.quick_evidence.cheap",
    "plugin.verbs.Log",
)
"""What is replaced: the kernel's answers, the clocks, waiting, and four places at which something else may happen in between."""


@dataclass
class Netns:
    """One network namespace. places: paths at which it is mounted; hidden_mount: in a mount namespace of another runtime;
    processes, threads, descriptors: process IDs that live in it, have a thread in it, or hold it open; veth: its far end is
    in the host's netns; lookable: our user namespace may enter it; owned_by_other: by another user than root, None where that
    cannot be read; linked: it has an interface besides loopback; elsewhere: it lives on another node and is not seen here."""

    ino: int
    ctime: int
    ns_id: int
    places: set[str] = field(default_factory=set)
    hidden_mount: bool = False
    processes: set[int] = field(default_factory=set)
    threads: set[int] = field(default_factory=set)
    descriptors: set[int] = field(default_factory=set)
    socket: bool = False
    veth: bool = True
    lookable: bool = True
    owned_by_other: bool | None = False
    linked: bool = False
    elsewhere: bool = False
    addresses: set[bytes] = field(default_factory=set)

    @property
    def pinned(self) -> bool:
        """Whether a mount keeps its inode, and with it the ctime."""
        return bool(self.places) or self.hidden_mount

    @property
    def held(self) -> bool:
        """Whether anything keeps it alive."""
        return self.pinned or bool(self.processes or self.threads or self.descriptors) or self.socket


class Kernel:
    """The node's kernel, its clocks and one boot.

    has_ns_id: it knows NS_GET_ID (Linux >= 6.18). node: machine ID and host name; shared: what lies on a network file system;
    cgroups: of a process, that of a pod where nothing else is said. rules: what portmap has written: (network, container ID) ->
    the addresses that a port leads to; flows: (container ID, address) that connections lead to; taken: told what our DEL of
    portmap takes away; backend: portmap's; portmap: one of PORTMAPS.
    """

    def __init__(self, has_ns_id: bool) -> None:
        self.has_ns_id = has_ns_id
        self.boots = 0
        self.wall = 10**18
        self.named: set[str] = set()
        self.trouble = ""
        self.unreadable: set[str] = set()
        self.blind = False
        self.view_start = 0
        self.portmap = "works"
        self.backend = "iptables"
        self.taken: Callable[[set[tuple[str, str, bytes]]], None] | None = None
        self.node = ("a" * 32, "one")
        self.shared: set[str] = set()
        self.boot()

    def boot(self) -> None:
        """Begin a new boot: nothing of the last one is left, and numbers are given anew."""
        self.boots += 1
        self.boot_id = f"00000000-0000-0000-0000-{self.boots:012d}"
        self.monotonic_s = 100.0
        self.netns: dict[int, Netns] = {}
        self.mounts: dict[str, list[Netns]] = {}
        self.next_id = 10
        self.next_pid = 100
        self.cgroups = {1: "/init.scope", RUNTIME: RUNTIME_UNIT}
        self.named = set()
        self.blind = False
        self.ending: list[set[bytes]] = []
        self.rules: dict[tuple[str, str], set[bytes]] = {}
        self.flows: set[tuple[str, bytes]] = set()
        self.host = Netns(HOST_INO, 1, 1, processes={1})
        self.host.addresses = {bytes((10, 0, 0, 1))}

    def tick(self) -> int:
        """Return a time of the wall clock, later than the last one."""
        self.wall += 1
        return self.wall

    def create(self) -> Netns:
        """Make a netns with the lowest free inode number, as the kernel gives it out again at once."""
        ino = FIRST_INO
        while ino in self.netns:
            ino += 1
        self.next_id += 1
        made = self.netns[ino] = Netns(ino, self.tick(), self.next_id)
        return made

    def mount(self, netns: Netns, path: str) -> None:
        """Mount a netns at a path, over what is mounted there."""
        self.mounts.setdefault(path, []).append(netns)
        netns.places.add(path)

    def umount(self, path: str) -> None:
        """Unmount what is on top at a path."""
        stack = self.mounts.get(path)
        if stack:
            gone = stack.pop()
            if gone not in stack:
                gone.places.discard(path)
            if not stack:
                del self.mounts[path]
            self.settle(gone)

    def settle(self, netns: Netns) -> None:
        """Let a netns that nothing holds any more end."""
        if not netns.held and self.netns.get(netns.ino) is netns:
            del self.netns[netns.ino]
            if netns.veth:
                self.ending.append(netns.addresses)

    def pid(self, cgroup: str = POD) -> int:
        """Return a new process ID."""
        self.next_pid += 1
        self.cgroups[self.next_pid] = cgroup
        return self.next_pid

    def alive(self, netns: Netns) -> bool:
        """Tell whether a netns is there (an equal object, of this boot), or on another node."""
        return netns.elsewhere or self.netns.get(netns.ino) is netns

    def shows_mounted(self, netns: Netns) -> list[str]:
        """Return where a netns is mounted and not mounted over."""
        return sorted(place for place in netns.places if self.at(place) is netns)

    def is_foreign(self, netns: Netns) -> bool:
        """Tell whether another user owns a netns, and root has mounted it nowhere that is seen."""
        return bool(netns.owned_by_other) and not self.shows_mounted(netns)

    def at(self, path: str) -> Netns | None:
        """Return the netns that a path leads to now."""
        if path in ("/proc/self/ns/net", "/proc/1/ns/net"):
            return self.host
        if path in self.mounts:
            return self.mounts[path][-1]
        if path.startswith("/proc/"):
            pid = int(path.split("/")[2])
            for netns in self.netns.values():
                holders = (
                    netns.processes if path.endswith("/ns/net") and "/task/" not in path else netns.threads | netns.descriptors
                )
                if pid in holders:
                    return netns
        return None

    def stat(self, path: Any, *arguments: Any, **options: Any) -> Any:
        """Answer for the paths of namespaces; all others are real."""
        if isinstance(path, str) and path.startswith(NAMED):
            if path.removeprefix(NAMED) not in self.named:
                raise FileNotFoundError(2, "simulated", path)
            return SimpleNamespace(st_dev=DEVICE, st_ino=int(path[-8:], 16), st_ctime_ns=1)
        if isinstance(path, str) and (path in FIXED or path.startswith(PLACES)):
            if path in FIXED:
                return SimpleNamespace(st_dev=DEVICE, st_ino=FIXED[path], st_ctime_ns=1)
            found = self.at(path)
            if path in self.unreadable:
                raise PermissionError(13, "simulated", path)
            if found is None:
                raise FileNotFoundError(2, "simulated", path)
            if not found.pinned:
                found.ctime = self.tick()  # nothing keeps the inode, so each look makes a new one
            return SimpleNamespace(st_dev=DEVICE, st_ino=found.ino, st_ctime_ns=found.ctime)
        return posix.stat(path, *arguments, **options)

    def identify_fully(self, path: str) -> model.Netns:
        """Answer fstat(2) and NS_GET_ID of what stands at a path."""
        about, found = self.stat(path), self.at(path)
        if found is None:
            raise OSError(errno.EXDEV, "no netns", path)
        return model.Netns(about.st_dev, about.st_ino, about.st_ctime_ns, found.ns_id if self.has_ns_id else 0)

    def visible(self) -> list[Netns]:
        """Return the netns that a look at mounts, processes, threads and descriptors shows in the present view."""
        everyone = [self.host, *self.netns.values()]
        if self.blind:
            return everyone[:1]
        return [one for one in everyone if one.pinned or one.processes or one.threads or one.descriptors]

    def everywhere(self, limit_s: float = 1) -> Sightings:
        """Answer namespaces.visible.everywhere."""
        if not limit_s:
            raise TimeoutError(errno.ETIMEDOUT, "simulated")
        if self.trouble:
            raise OSError(5, self.trouble)
        seen = {}
        for netns in self.visible():
            one = seen[netns.ino] = Sighting(netns.ino)
            one.mounts = self.shows_mounted(netns)
            one.owned_by_other = None if one.mounts else netns.owned_by_other
            one.processes = sorted(netns.processes)
            one.others = [f"/proc/{pid}/task/{pid}x/ns/net" for pid in sorted(netns.threads)]
            one.others += [f"/proc/{pid}/fd/3" for pid in sorted(netns.descriptors)]
        return seen

    def sees(self, path: str, netns: Any) -> bool:
        """Answer the self-check of an ADD, and whether the netns of a DEL proves the view: it is what stands at its path."""
        found = self.at(path)
        return not self.blind and found is not None and found is not self.host and found.ino == netns.ino

    def configured(self, ino: int) -> frozenset[bytes] | None:
        """Answer which addresses a netns has."""
        netns = self.host if ino == HOST_INO else self.netns.get(ino)
        return frozenset(netns.addresses) if netns is not None and netns.lookable else None

    def network_file_system(self, path: str) -> str:
        """Answer on which network file system a path lies."""
        return "nfs" if any(path.startswith(one) for one in self.shared) else ""

    def processes(self) -> dict[int, Netns]:
        """Return all processes, and in which netns each is; who holds one by a thread or a descriptor is in the host's."""
        found = dict.fromkeys((1, RUNTIME), self.host)
        for netns in self.netns.values():
            found.update(dict.fromkeys(netns.threads | netns.descriptors, self.host))
        for netns in self.netns.values():
            found.update(dict.fromkeys(netns.processes, netns))
        return found

    def peers(self, passed_over: Container[int] = ()) -> frozenset[bytes]:
        """Answer which addresses the far ends of our links have; passed_over: inode numbers of netns that do not count."""
        ending, self.ending = self.ending, []  # the far end of a link shows a netns for a moment after its end
        shown = [netns.addresses for netns in self.netns.values() if netns.veth and netns.ino not in passed_over] + ending
        return frozenset() if self.blind else frozenset(address for addresses in shown for address in addresses)

    def leads_to(self, network: str, container_id: str, address: bytes) -> bool:
        """Tell whether something that a container has published leads to an address."""
        return address in self.rules.get((network, container_id), ()) or (container_id, address) in self.flows

    def check_removed(self, removed: list[model.Reservation]) -> None:
        """Check that nothing leads to addresses that have just been freed."""
        for one in removed:
            if self.leads_to(one.network, one.container_id, ipaddress.ip_address(one.address).packed):
                message = f"{one.address} of {one.container_id} was freed while something leads there"
                raise AssertionError(message)

    def publish(self, network: str, container_id: str, address: bytes) -> None:
        """Do portmap's ADD; and clients come."""
        self.rules.setdefault((network, container_id), set()).add(address)
        self.flows.add((container_id, address))

    def withdraw(self, network: str, container_id: str) -> None:
        """Do portmap's DEL: with nftables of the container in all networks."""
        for key in list(self.rules):
            if key[1] == container_id and (self.backend == "nftables" or key[0] == network):
                del self.rules[key]

    def _led_to(self) -> set[tuple[str, str, bytes]]:
        return {(*key, address) for key, addresses in self.rules.items() for address in addresses}

    def end_flows(self, addresses: Collection[bytes], wait_s: float) -> None:
        """End the connections that lead to some addresses."""
        del wait_s
        self.flows = {flow for flow in self.flows if flow[1] not in addresses}

    def find(self, name: str, directories: Iterable[str]) -> str | None:
        """Return the path of portmap, unless it is missing, and of the program that lists what it has written."""
        del directories
        there = {"iptables": ("iptables-save",), "nftables": ("nft",)}[self.backend]
        return f"/programs/{name}" if name in there or (name == "portmap" and self.portmap != "missing") else None

    def run(self, argv: list[str], environment: dict[bytes, bytes], wait_s: float, document: bytes = b"") -> programs.Ended:
        """Run one of these programs."""
        del wait_s
        if argv[0] == "/programs/portmap":
            assert environment[b"CNI_COMMAND"] == b"DEL"
            if self.portmap == "hangs":
                return programs.Ended(None, b"", b"", "it did not end in time")
            if self.portmap == "works":
                before = self._led_to()
                self.withdraw(json.loads(document)["name"], environment[b"CNI_CONTAINERID"].decode())
                if self.taken is not None:
                    self.taken(before - self._led_to())
            return programs.Ended(int(self.portmap == "fails"), b"", b"")
        if self.portmap == "unseen":
            return programs.Ended(1, b"", b"no answer")
        if argv[1:] == ["list", "tables"]:
            return programs.Ended(0, b"table ip cni_hostport\n", b"")
        said = "".join(
            f'comment "{container_id}"\n'
            if self.backend == "nftables"
            else f'-A CNI-HOSTPORT-DNAT --comment "dnat name: \\"{network}\\" id: \\"{container_id}\\"" -j CNI-DN\n'
            for network, container_id in self.rules
        )
        return programs.Ended(0, said.encode(), b"")

    def view(self) -> list[int]:
        """Answer which view this process has."""
        return [PID_NAMESPACE + 900, MOUNT_NAMESPACE + 900, self.boots] if self.blind else [PID_NAMESPACE, MOUNT_NAMESPACE, 1]


FIXED = {
    "/proc/self/ns/pid": PID_NAMESPACE,
    "/proc/self/ns/mnt": MOUNT_NAMESPACE,
    "/proc/1/ns/mnt": MOUNT_NAMESPACE,
    "/proc/self/ns/net": HOST_INO,
    "/proc/1/ns/net": HOST_INO,
}


class _Overload:
    """Time that is over anywhere. cut: tells whether a budget is used up."""

    def __init__(self, cut: Callable[[], bool]) -> None:
        self.cut = cut

    def check_time(self) -> None:
        """Answer as where reading the records takes too long."""
        if not self.wall_left_s():
            raise TimeoutError(errno.ETIMEDOUT, "simulated")

    def wall_left_s(self) -> float:
        """Answer how long may still be waited."""
        return 0.0 if self.cut() and self.cut() and self.cut() else 20.0


class _AssignedPosix:
    """The module posix where only processes are asked for: namespaces.assigned."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def listdir(self, path: str) -> list[str]:
        """Answer which processes there are."""
        assert path == "/proc"
        return [str(pid) for pid in self.kernel.processes()]

    def readlink(self, path: str) -> str:
        """Answer in which netns a process is."""
        netns = self.kernel.processes().get(int(path.split("/")[2]))
        if netns is None:
            raise FileNotFoundError(2, "simulated", path)
        return f"net:[{netns.ino}]"


class _AssignedFiles:
    """The product's `files` where only processes are asked for: namespaces.assigned."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def read(self, path: str) -> bytes:
        """Answer in which cgroup a process is, or which interfaces its netns has."""
        pid = int(path.split("/")[2])
        netns = self.kernel.processes().get(pid)
        if netns is None:
            raise FileNotFoundError(2, "simulated", path)
        if path.endswith("/cgroup"):
            return f"0::{self.kernel.cgroups.get(pid, POD)}\n".encode()
        return b"head\nhead\n    lo: 0\n" + (b"  eth0: 0\n" if netns.linked else b"")


class Events:
    """What the plugin logged, instead of a log."""

    def __init__(self, level: str = "", log_file: str = "") -> None:
        del level, log_file
        self.said = SAID

    def _say(self, level: str, event: str, fields: dict[str, Any]) -> None:
        self.said.append((level, event, fields))

    def error(self, event: str, **fields: object) -> None:
        """Note an event."""
        self._say("error", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Note an event."""
        self._say("warning", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Note an event."""
        self._say("info", event, fields)

    def debug(self, event: str, **fields: object) -> None:
        """Note an event."""
        self._say("debug", event, fields)


SAID: list[tuple[str, str, dict[str, Any]]] = []


class Names:
    """The named guard's oracle: whom a runtime names."""

    kernel: "Kernel"

    def named(self) -> Container[str]:
        """Return the IDs of all containers that are named."""
        return self.kernel.named

    def where(self, owner: str) -> str:
        """Answer at which path a container is named."""
        return NAMED + owner if owner in self.named() else ""

    def is_of(self, _owner: str, _pid: int) -> bool:
        """Tell that no process's cgroup has a container's name: here a runtime names it by its task directory."""
        return False


class _Posix:
    """The module posix with the kernel's stat."""

    def __init__(self, kernel: Kernel) -> None:
        self.stat = kernel.stat

    def __getattr__(self, name: str) -> Any:
        return getattr(posix, name)


def owner_of(seam: str) -> tuple[ModuleType | type, str]:
    """Return the module or class of a seam, and its name there."""
    parts = seam.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module(f"{PRODUCT}." + ".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:-1]:
            owner = getattr(owner, name)
        return owner, parts[-1]
    raise LookupError(seam)


@contextlib.contextmanager
def installed(kernel: Kernel, run_dir: str, between: Callable[[str], None], cut: Callable[[], bool]) -> Iterator[None]:
    """Put the kernel under the product.

    between: called where another process may come in between, with the name of the place; cut: whether the budget is used up.
    """
    before = {}
    for seam in SEAMS:
        owner, name = owner_of(seam)
        assert hasattr(owner, name), f"{seam} is no more: the model has to follow"
        before[seam] = owner, name, getattr(owner, name)
    called_in_turn = ("system.flock.take", *STORE_CALLS, "evidence.quick_evidence.cheap")
    take, snapshot, remove, cheap = (before[seam][2] for seam in called_in_turn)
    Names.kernel = kernel
    posix_identity: Callable[[str, int, int], tuple[int, int, int]] = before["system.files.identity"][2]
    shim = _Posix(kernel)

    def identity_of(path: str, dir_fd: int, flags: int) -> tuple[int, int, int]:
        if not path.startswith("/"):
            return posix_identity(path, dir_fd, flags)
        about = kernel.stat(path)
        return about.st_dev, about.st_ino, about.st_ctime_ns

    overload = _Overload(cut)
    network_file_system: Callable[[str], str] = before["system.network_file_system.name"][2]

    def everywhere(limit_s: float) -> Sightings:
        between("before looking around")
        seen = kernel.everywhere(limit_s)
        between("after looking around")
        return seen

    def take_at_once(fd: int, operation: int, wait_s: float) -> bool:
        del wait_s
        between("before a lock")
        return bool(take(fd, operation, 0))

    def snapshot_and(self: Any, *arguments: Any, **options: Any) -> Any:
        found = snapshot(self, *arguments, **options)
        between("after the snapshot")
        return found

    def remove_after(self: Any, stale: list[Any], *arguments: Any, **options: Any) -> Any:
        between("before the removal")
        removed, refused = remove(self, stale[: len(stale) // 2] if cut() else stale, *arguments, **options)
        kernel.check_removed(removed)
        return removed, refused

    def cheap_and(*arguments: Any, **options: Any) -> Any:
        between("before the records")
        found = cheap(*arguments, **options)
        between("after the records")
        return found

    replacements: dict[str, Any] = {
        "system.boot.boot_id": lambda: kernel.boot_id,
        "system.boot.boottime_s": lambda: kernel.monotonic_s,
        "namespaces.netns.nsfs_device": lambda: DEVICE,
        "namespaces.netns._nsfs_device": DEVICE,
        "namespaces.netns.identify_fully": kernel.identify_fully,
        "system.files.identity": identity_of,
        "system.conntrack.end_flows": kernel.end_flows,
        "system.programs.find": kernel.find,
        "system.programs.run": kernel.run,
        "namespaces.visible.everywhere": everywhere,
        "namespaces.visible.sees": kernel.sees,
        "namespaces.visible.shows_all": kernel.sees,
        "namespaces.addresses.of_processes": lambda ino, _: kernel.configured(ino),
        "namespaces.assigned.files": _AssignedFiles(kernel),
        "namespaces.assigned.posix": _AssignedPosix(kernel),
        "system.boot.node": lambda: kernel.node,
        "evidence.kin.Kin._check_time": lambda _: overload.check_time(),
        "system.network_file_system.name": lambda path: network_file_system(path) or kernel.network_file_system(path),
        "system.clock.Budget.wall_left_s": lambda _: overload.wall_left_s(),
        "namespaces.addresses.Look.configured": lambda _, ino, *__: kernel.configured(ino),
        "namespaces.peer_addresses.addresses": lambda visible: kernel.peers({seen.netns.ino for seen in visible if seen.foreign}),
        "namespaces.peer_addresses._ASKED_AGAIN_AFTER_S": (0, 0, 0),
        "evidence.runtime_names.Names": Names,
        "memory.waiting_owners.Memory._clock_s": lambda _: kernel.monotonic_s,
        "memory.proven_views.own_view": kernel.view,
        "memory.proven_views.RUN_DIR": run_dir,
        "system.clock.Budget.spent": lambda *_, **__: cut(),
        "reaper.record_expiry.ticks": kernel.tick,
        "reaper.sweep.ticks": kernel.tick,
        "system.flock.take": take_at_once,
        "host_local.store.Network.snapshot": snapshot_and,
        "host_local.store.Network.remove": remove_after,
        "evidence.quick_evidence.cheap": cheap_and,
        "plugin.verbs.Log": Events,
    }
    try:
        for seam, (owner, name, _) in before.items():
            setattr(owner, name, shim if seam in POSIX else replacements[seam])
        yield
    finally:
        for owner, name, value in before.values():
            setattr(owner, name, value)
