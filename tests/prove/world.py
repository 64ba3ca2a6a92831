"""One node in the model: pods, host-local, the runtime's mishaps, and a ledger that knows who lives.

Each public method is one step. Two promises are checked after each: no live owner's reservation is gone, and a dead owner's is
gone after an ADD that nothing hindered (after `graceSeconds` where only row 9 can free it).
"""

import base64
import fcntl
import ipaddress
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.host_local import store_key
from cni_reaper_plugin.memory.waiting_owners import LOOK_AGAIN_S
from cni_reaper_plugin.model import Netns as Identity
from cni_reaper_plugin.plugin import verbs
from cni_reaper_plugin.plugin.request import Request
from cni_reaper_plugin.reaper import decision
from tests.prove import kernel as kernels
from tests.prove.kernel import Kernel, Netns

NETWORKS = ("alpha", "beta")
POOL = 7
GRACE_S = 1500
LONG_S = 120
DEPTH = 2  # how deep processes are nested into each other's gaps


class ViolationError(AssertionError):
    """A promise was broken."""


class KilledError(BaseException):
    """A process of the plugin was killed. No `except Exception` holds it up."""


@dataclass
class Box:
    """One life of a container. id: its ID, which Podman gives again to its next life; uid: a pod's; path: CNI_NETNS.

    foreign: no container of this node's runtime; elsewhere: one of another node that has the same store.
    """

    id: str
    uid: str
    netns: Netns
    path: str
    boot: int
    foreign: bool = False
    elsewhere: bool = False
    attachments: list["Attached"] = field(default_factory=list)


@dataclass
class Attached:
    """One attachment of a box.

    place: of our entry in its chain, `head`, `second` or `none`; address: from host-local, "" before; hidden: the kernel never
    shows the address (gVisor); publishes: a port of the node is to lead there; up: configured; mapped: our record stands as
    written; released: DEL has begun; waiting_since: when a dead one was first looked at by an ADD without hindrance, in this
    boot.
    """

    box: Box
    network: str
    ifname: str
    place: str
    hidden: bool = False
    publishes: bool = False
    address: str = ""
    up: bool = False
    mapped: bool = False
    released: bool = False
    recorded_ino: int = 0
    waiting_since: float | None = None


@dataclass
class Statistics:
    """What was done so far: steps and places by name, rows by number, reasons of what was freed."""

    steps: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    reaped: Counter[str] = field(default_factory=Counter)
    between: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Statistics") -> None:
        """Add another process's."""
        for mine, theirs in ((self.steps, other.steps), (self.rows, other.rows), (self.reaped, other.reaped)):
            mine.update(theirs)
        self.between.update(other.between)


STATISTICS = Statistics()


def packed(address: str) -> bytes:
    """Return the bytes of an address."""
    return ipaddress.ip_address(address).packed


class World:
    """A node and its history. choices: where all chance comes from, so that a walk can be walked again."""

    def __init__(self, choices: random.Random) -> None:
        self.random = choices
        self.kernel = Kernel(has_ns_id=choices.random() < 0.5)
        shm = "/dev/shm"
        self.home = Path(tempfile.mkdtemp(prefix="cni-reaper-model-", dir=shm if os.path.isdir(shm) else None))
        self.data, self.state = self.home / "networks", self.home / "reaper"
        self.cache, self.run = self.home / "cache", self.home / "run"
        for directory in (self.data, self.cache / "results", self.run):
            directory.mkdir(parents=True)
        self.boxes: list[Box] = []
        self.kernel.backend = choices.choice(("iptables", "nftables"))
        self.kernel.taken = self._see_what_is_taken
        self.publishing: dict[tuple[str, str, str], bool] = {}
        self.places: dict[str, str] = {}
        self.ledger: dict[tuple[str, str], Attached] = {}
        self.flights: list[Generator[None]] = []
        self.landing: list[Attached] = []
        self.deleting: set[str] = set()
        self.depth = 0
        self.disturbed = False
        self.quiet = True
        self.cuts = self.kills = False
        self.dies = 0.03  # how often host-local is killed between creating a file and writing it
        self.holder: int | None = None
        self.taken_off: dict[bytes, float] = {}
        self.backup: Path | None = None
        self.serial = 0
        self.star = choices.random() < 0.3
        self.pool = {name: [f"10.{number}.0.{host}" for host in range(2, 2 + POOL)] for number, name in enumerate(NETWORKS, 7)}
        self.last = dict.fromkeys(NETWORKS, 0)
        self.neighbour = choices.choices(("", "container node", "nfs"), (70, 12, 18))[0]
        self.its_node = ("b" * 32, choices.choice(("one", "two")))
        self.its_boot, self.its_records = "", True
        if self.neighbour == "nfs":
            self._share_by_nfs()
        self.stack = ExitStack()
        self.stack.enter_context(kernels.installed(self.kernel, str(self.run), self._between, self._cut))
        kernels.SAID.clear()

    def close(self) -> None:
        """Give the product back its kernel, and remove the files."""
        self.stack.close()
        self._open_gate()
        shutil.rmtree(self.home, ignore_errors=True)

    def _share_by_nfs(self) -> None:
        """Let the store, and perhaps the records, be another node's as well; its name, or its machine ID, can be ours."""
        self.its_boot, self.its_records = "11111111-0000-0000-0000-000000000000", self.random.random() < 0.5
        self.kernel.shared = {str(self.data), *([str(self.state)] if self.its_records else [])}
        same = self.random.randrange(3)
        if same == 1:
            self.its_node = (self.kernel.node[0], "two")
        elif same == 2:
            self.kernel.node = self.its_node = ("", "localhost")

    # What may come in between

    def _between(self, place: str) -> None:
        if self.kills and self.random.random() < 0.1:
            STATISTICS.between[f"killed {place}"] += 1
            raise KilledError
        if self.quiet or self.depth >= DEPTH or self.random.random() > 0.2:
            return
        STATISTICS.between[place] += 1
        self.disturbed = True
        self.depth += 1
        try:
            others = (
                self._fly,
                self._take_off,
                self._rush,
                self._end_some_netns,
                self._del_now,
                self._sweep_now,
                self.gate_changes,
                self.stranger_changes,
            )
            self.random.choices(others, (6, 2, 4, 2, 2, 2, 1, 1))[0]()
        finally:
            self.depth -= 1

    def _cut(self) -> bool:
        return self.cuts and self.random.random() < 0.5

    # host-local

    def _allocate(self, attached: Attached) -> Generator[None]:
        """Take an address as host-local does: under its lock create the file, then write it. Nothing when there is none."""
        directory = self.data / attached.network
        directory.mkdir(exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDONLY | os.O_CREAT)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return  # somebody in a gap of whom we are has it; a real one would wait
            content = f"{attached.box.id}\r\n{attached.ifname}"
            held = {file.name: file.read_bytes() for file in sorted(directory.iterdir()) if file.name[0].isdigit()}
            if content.encode() in held.values():
                return  # duplicate allocation is not allowed
            pool, last = self.pool[attached.network], self.last[attached.network]
            free = [address for address in pool[last:] + pool[:last] if address not in held]
            if not free:
                return
            address = free[0]
            self.last[attached.network] = pool.index(address) + 1
            (directory / address).touch()
            attached.address = address
            self.ledger[attached.network, address] = attached
            killed = True
            try:
                yield
                killed = self.random.random() < self.dies
            finally:
                if killed:  # between creating and writing
                    del self.ledger[attached.network, address]
                    attached.address = ""
            if killed:
                return
            (directory / address).write_text(content)
            mtime = self.random.choice((0, 1e9, 4e9))
            os.utime(directory / address, (mtime, mtime))
        finally:
            os.close(lock)

    def _release(self, attached: Attached) -> None:
        """Release as host-local does: every file of this ID and ifname."""
        content = f"{attached.box.id}\r\n{attached.ifname}".encode()
        for file in (self.data / attached.network).glob("[0-9]*"):
            if file.read_bytes() == content:
                file.unlink()
                self.ledger.pop((attached.network, file.name), None)

    # The plugin

    def _call(self, verb: str, attached: Attached | None, network: str, path: str = "", **config: Any) -> bool:
        """Run one verb of the real plugin; False where it was killed."""
        environment = {b"CNI_COMMAND": verb.encode(), b"CNI_PATH": b"/bin", b"CNI_NETNS": path.encode()}
        if attached is not None:
            environment[b"CNI_CONTAINERID"], environment[b"CNI_IFNAME"] = attached.box.id.encode(), attached.ifname.encode()
            if attached.box.uid:
                environment[b"CNI_ARGS"] = f"K8S_POD_NAMESPACE=d;K8S_POD_NAME=p;K8S_POD_UID={attached.box.uid}".encode()
        whole = {
            "cniVersion": "1.1.0",
            "name": network,
            "type": "cni-reaper",
            "dataDir": str(self.data),
            "stateDir": str(self.state),
            "cacheDirs": [str(self.cache)],
            "cache": False,  # no broken file is in this world: tests/unit/test_mend.py
            **({"networks": ["*"]} if self.star else {}),
            **config,
        }
        request = Request(verb, environment)
        request.configure(json.dumps(whole).encode())
        said = len(kernels.SAID)
        killed = False
        try:
            verbs.VERBS[verb](request, environment)
        except KilledError:
            killed = self.disturbed = True
        for level, event, fields in kernels.SAID[said:]:
            if level == "error":
                raise ViolationError(f"{event} {fields}")
            if event == "reaped":
                STATISTICS.reaped[fields["reason"]] += 1
            if event == "kept" and fields["reason"] == "port-published":
                self.disturbed = True  # at `debug` where that is no news
                STATISTICS.reaped["(kept: port-published)"] += 1
            if level == "warning" or event in ("sweep-skipped", "sweep-cut"):
                expected = event == "store-shared" or (event == "sweep-skipped" and "no reservations here" in fields["reason"])
                self.disturbed = self.disturbed or not expected
        if not self.depth:
            del kernels.SAID[:]
        if verb == "ADD" and not self.depth:
            self._see_what_is_left(network)
        return not killed

    def _gc(self, network: str, listed: dict[str, Any]) -> None:
        self._call("GC", None, network, **listed)

    def _add(self, attached: Attached) -> bool:
        """Run our ADD; what it has to free is known before, and checked after, unless something came in between.

        False where it was killed: then the runtime's ADD has failed.
        """
        if not self.depth:
            self.disturbed = bool(self.kernel.trouble) or self.kernel.blind or self.cuts
            self._expect_before(attached)
        previous = {} if attached.place == "head" else {"prevResult": {"cniVersion": "1.1.0"}}
        attached.recorded_ino = attached.box.netns.ino
        found = self.kernel.at(attached.box.path) is attached.box.netns
        self.disturbed = self.disturbed or not found
        done = self._call("ADD", attached, attached.network, attached.box.path, **previous)
        attached.mapped = found and done
        return done

    # What is expected

    def _lives(self, attached: Attached) -> bool:
        return bool(attached.address) and not attached.released and self.kernel.alive(attached.box.netns)

    def check(self) -> None:
        """Check that no live owner has lost its reservation."""
        for (network, address), attached in self.ledger.items():
            if self._lives(attached):
                try:
                    content = (self.data / network / address).read_text()
                except FileNotFoundError:
                    message = f"{address} of {attached} was freed while it lives"
                    raise ViolationError(message) from None
                if content and not content.startswith(attached.box.id):
                    message = f"{address} of {attached} was given to {content!r}"
                    raise ViolationError(message)

    def _see_what_is_taken(self, taken: set[tuple[str, str, bytes]]) -> None:
        """Check that what we have taken back was no living pod's.

        One without a record, or whose netns nothing shows but the far end of its veth, is a known limit with nftables.
        """
        for one in self.ledger.values():
            if (one.network, one.box.id, packed(one.address)) not in taken or not self._lives(one) or not one.mapped:
                continue
            path_stands = self.kernel.at(one.box.path) is one.box.netns
            if path_stands or (self.kernel.has_ns_id and self._has_a_face(one.box.netns)):
                message = f"a port of {one} was taken from it while it lives"
                raise ViolationError(message)

    def _has_a_face(self, netns: Netns) -> bool:
        """Tell whether some place shows the netns; one that is overmounted, and nothing more, is known by its number alone."""
        held = netns.processes or netns.threads or netns.descriptors
        return bool(held) or any(self.kernel.at(place) is netns for place in netns.places)

    def _cached_elsewhere(self, one: Attached) -> bool:
        """Tell whether libcni's entry of it, or of a sibling, names a path at which another netns stands now: a known limit."""
        for entry in sorted((self.cache / "results").glob(f"*-{one.box.id}-*")):
            try:
                path = json.loads(entry.read_bytes())["netns"]
            except ValueError:
                continue
            if self.kernel.at(path) is not None:
                return True
        return False

    def _stands(self, network: str, address: str, one: Attached) -> bool:
        file = self.data / network / address
        return file.exists() and file.read_bytes() == f"{one.box.id}\r\n{one.ifname}".encode()

    def _expect_before(self, caller: Attached) -> None:
        """Note who is dead, and what this ADD has to free of it."""
        now = self.kernel.monotonic_s
        self.must_go: list[tuple[str, str, str]] = []
        networks = NETWORKS if self.star else (caller.network,)
        everyone = [self.kernel.host, *self.kernel.netns.values()]
        numbers = {netns.ino for netns in everyone}
        ids_alive = {one.box.id for one in self.ledger.values() if self._lives(one)} | {
            box.id for box in self.boxes if self.kernel.alive(box.netns)
        }
        configured = self._configured()
        dark = any(not netns.lookable and not self.kernel.is_foreign(netns) for netns in everyone)
        faceless = {netns.ino for netns in everyone if not self._has_a_face(netns)}
        for (network, address), one in self.ledger.items():
            if network not in networks or self.kernel.alive(one.box.netns) or one.box.id in ids_alive:
                continue
            unreadable = any(box.path in self.kernel.unreadable for box in self.boxes if box.id == one.box.id)
            if unreadable or not self._stands(network, address, one):
                continue
            if packed(address) in configured or one.box.id in self.kernel.named or one.box.elsewhere:
                continue
            kin = [other.recorded_ino for box in self.boxes if box.id == one.box.id for other in box.attachments]
            reused = any(ino in numbers for ino in kin if ino)
            told = self.kernel.has_ns_id and not self.kernel.unreadable and not any(ino in faceless for ino in kin)
            at_once = one.mapped and one.place == "head" and (told or not reused) and self._is_proven_ours(one)
            if at_once:
                self.must_go.append((network, address, "its netns is gone and its record says so"))
            elif self.neighbour:
                continue  # whoever has no record can be another node's
            elif self._is_hindered(one, configured) or self._cached_elsewhere(one):
                one.waiting_since = None
            elif one.waiting_since is not None and now - one.waiting_since >= GRACE_S and not dark:
                self.must_go.append((network, address, f"it was waited for since {one.waiting_since}"))
            elif one.waiting_since is None:
                one.waiting_since = -1.0  # begins when this ADD has looked
        if not self.neighbour:
            self._expect_blank_files_to_go(networks, configured)

    def _configured(self) -> set[bytes]:
        """Return the addresses that keep: those that root's netns show, and those that such a netns showed just now."""
        everyone = [self.kernel.host, *self.kernel.netns.values()]
        shown = {address for netns in everyone if not self.kernel.is_foreign(netns) for address in netns.addresses}
        now = self.kernel.monotonic_s
        return shown | {address for address, when in self.taken_off.items() if now - when <= LOOK_AGAIN_S}

    def _is_proven_ours(self, one: Attached) -> bool:
        """Tell whether its record is known to be of this node: in a shared store, where nodes have no ID, only in this boot."""
        return self.neighbour != "nfs" or bool(self.kernel.node[0]) or one.box.boot == self.kernel.boots

    def _is_hindered(self, one: Attached, configured: set[bytes]) -> bool:
        """Tell whether something keeps a dead owner for as long as it stands, however long that is.

        Its own address or a sibling's in root's netns, the runtime that names it, or another user's netns that has the number of
        one of its container's: with the address, or one that cannot be read.
        """
        theirs = {packed(address) for (_, address), other in self.ledger.items() if other.box.id == one.box.id}
        if not theirs.isdisjoint(configured) or one.box.id in self.kernel.named:
            return True
        numbers = {other.recorded_ino for box in self.boxes if box.id == one.box.id for other in box.attachments}
        reusing = [netns for number, netns in self.kernel.netns.items() if number in numbers and self.kernel.is_foreign(netns)]
        return any(not netns.lookable or packed(one.address) in netns.addresses for netns in reusing)

    def _expect_blank_files_to_go(self, networks: Sequence[str], configured: set[bytes]) -> None:
        for network in networks:
            for file in sorted((self.data / network).glob("[0-9]*")):
                if not file.stat().st_size and (network, file.name) not in self.ledger and packed(file.name) not in configured:
                    self.must_go.append((network, file.name, "it is empty"))

    def _see_what_is_left(self, network: str) -> None:
        del network
        if self.disturbed:
            for one in self.ledger.values():
                one.waiting_since = None if one.waiting_since == -1.0 else one.waiting_since
            return
        for network_, address, why in self.must_go:
            if (self.data / network_ / address).exists():
                message = f"{network_} {address} is still there: {why}: {self.ledger.get((network_, address))}"
                raise ViolationError(message)
            self.ledger.pop((network_, address), None)
        for one in self.ledger.values():
            if one.waiting_since == -1.0:
                one.waiting_since = self.kernel.monotonic_s
        gone = [key for key, one in self.ledger.items() if not (self.data / key[0] / key[1]).exists() and not self._lives(one)]
        for key in gone:
            del self.ledger[key]

    def _forget_waiting(self) -> None:
        for one in self.ledger.values():
            one.waiting_since = None

    # Pods

    def _new_netns(self) -> tuple[Netns, str]:
        netns = self.kernel.create()
        netns.veth = self.random.random() < 0.7
        kind = self.random.random()
        cgroup = self._cgroup()
        if kind < 0.75:
            path = f"/run/netns/ns{self.random.randrange(6)}"  # few names, so that they are used again
            if path in self.kernel.mounts or self.random.random() < 0.3:
                self.serial += 1
                path = f"/run/netns/cni-{self.serial:08x}-0000-4000-8000-{self.serial:012x}"  # given once, as runtimes do
            self.kernel.mount(netns, path)
            if self.random.random() < 0.7:
                netns.processes.add(self.kernel.pid(cgroup))
        else:
            pid = self.kernel.pid(cgroup)
            if self.random.random() < 0.3:
                netns.descriptors.add(self.kernel.pid(kernels.RUNTIME_UNIT))
            netns.processes.add(pid)
            path = f"/proc/{pid}/ns/net"
        return netns, path

    def _cgroup(self) -> str:
        """Return the cgroup of a container's first process; a part of a runtime's own unit may have made its netns."""
        self.serial += 1
        container = f"{self.serial:064x}"
        cgroups = (
            kernels.POD,
            kernels.RUNTIME_UNIT,
            f"/machine.slice/libpod-{container}.scope",
            f"/system.slice/web.service/libpod-payload-{container}",
            f"/kubepods.slice/kubepods-pod.slice/docker-{container}.scope",
        )
        return self.random.choices(cgroups, (5, 3, 1, 1, 1))[0]

    def _new_box(self) -> Box:
        dead_ids = [box.id for box in self.boxes if not box.uid and not box.foreign and not self.kernel.alive(box.netns)]
        alive = {box.id for box in self.boxes if self.kernel.alive(box.netns)} | {one.box.id for one in self.landing}
        alive |= self.deleting  # host-local itself frees by (ID, ifname), whichever life it is
        again = [one for one in dead_ids if one not in alive]
        self.serial += 1
        if again and self.random.random() < 0.4:
            name, uid = self.random.choice(again), ""
        else:
            name, uid = f"{self.serial:064x}", f"uid-{self.serial}" if self.random.random() < 0.6 else ""
            name = "ab" * 16 + name[32:]
            if not uid and self.random.random() < 0.2:  # Nomad: its allocation's, in a docker container's netns
                name = f"{self.serial:08x}-0000-4000-8000-{self.serial:012x}"
        netns, path = self._new_netns()
        if self.random.random() < 0.2 and not uid:
            container = name if len(name) == 64 else f"{self.serial:064x}"
            for pid in netns.processes:
                self.kernel.cgroups[pid] = f"/system.slice/docker-{container}.scope"
        box = Box(name, uid, netns, path, self.kernel.boots)
        self.boxes.append(box)
        return box

    def _flight(self, attached: Attached) -> Generator[None]:
        """One ADD of a chain, phase by phase; the runtime or a plugin may die after each."""
        self.landing.append(attached)
        attached.box.attachments.append(attached)
        try:
            yield from self._phases(attached)
        finally:
            self.landing.remove(attached)

    def _phases(self, attached: Attached) -> Generator[None]:
        if self.kernel.at(attached.box.path) is not attached.box.netns or attached.box.path in self.kernel.unreadable:
            return  # the runtime finds another netns there, or none: it would be that one's ADD
        if attached.place == "head":
            if not self._add(attached):
                return
            yield
        yield from self._allocate(attached)
        if not attached.address:
            return
        yield
        if not attached.hidden and self.kernel.alive(attached.box.netns):
            attached.box.netns.addresses.add(packed(attached.address))
        attached.box.netns.linked = attached.box.netns.linked or not attached.hidden or attached.box.netns.veth
        attached.up = True
        yield
        if attached.place == "second" and self.kernel.alive(attached.box.netns):
            if not self._add(attached):
                return
            yield
        if attached.publishes and self.kernel.alive(attached.box.netns):
            self.kernel.publish(attached.network, attached.box.id, packed(attached.address))
            yield
        if self.random.random() < 0.7 and self.kernel.boots == attached.box.boot:
            entry = {"kind": "cniCacheV1", "netns": attached.box.path, "networkName": attached.network, "result": {}}
            if attached.publishes:
                plugins = [{"type": "portmap"}, {"type": "other"}]
                conflist = json.dumps({"cniVersion": "1.0.0", "name": attached.network, "plugins": plugins}).encode()
                ports = [{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}]
                entry.update(config=base64.b64encode(conflist).decode(), capabilityArgs={"portMappings": ports})
            entry.update(containerId=attached.box.id, ifName=attached.ifname)
            name = f"{attached.network}-{attached.box.id}-{attached.ifname}"
            (self.cache / "results" / name).write_text(json.dumps(entry))

    def _take_off(self) -> None:
        """Begin an ADD of a new container, or of another interface or network of one that lives."""
        living = [box for box in self.boxes if self.kernel.alive(box.netns) and not box.foreign]
        box = self.random.choice(living) if living and self.random.random() < 0.3 else self._new_box()
        network = self.random.choice(NETWORKS)
        ifname = self.random.choice(("eth0", "net1"))
        if any((one.network, one.ifname) == (network, ifname) for one in box.attachments):
            return
        # A container that comes back comes by the same chain; a chain changed in between is a known limit (H3b).
        place = self.places.setdefault(box.id, self.random.choices(("head", "second", "none"), (6, 2, 2))[0])
        attached = Attached(box, network, ifname, place, hidden=self.random.random() < 0.25)
        # Its ports are a part of the container, and the same in each of its lives.
        attached.publishes = self.publishing.setdefault((box.id, network, ifname), self.random.random() < 0.4)
        if attached.hidden:
            self.kernel.named.add(box.id)  # the runtime has its task directory, or a process its cgroup
        self.flights.append(self._flight(attached))
        self._fly_on(self.flights[-1])

    def _rush(self) -> None:
        """Begin an ADD and let it go some way, all in one gap of somebody else."""
        self._take_off()
        for _ in range(self.random.randrange(1, 4)):
            if self.flights:
                self._fly_on(self.flights[-1])

    def _fly(self) -> None:
        """Let an ADD that is on its way go on by one phase."""
        if self.flights:
            self._fly_on(self.random.choice(self.flights))

    def _fly_on(self, flight: Generator[None]) -> None:
        try:
            next(flight)
        except StopIteration:
            if flight in self.flights:
                self.flights.remove(flight)
        except ValueError:
            return  # it is the very one in whose gap this happens

    def _land(self) -> None:
        """Let all ADDs come to their end."""
        for _ in range(100):
            if not self.flights:
                return
            self._fly_on(self.flights[0])

    def _end(self, box: Box) -> None:
        """Take away all that holds a container's netns."""
        netns = box.netns
        netns.elsewhere = False
        for path in sorted(netns.places):
            while self.kernel.alive(netns) and path in netns.places:
                stack = self.kernel.mounts.get(path, [])
                if stack and stack[-1] is not netns:
                    stack.remove(netns)
                    netns.places.discard(path)
                else:
                    self.kernel.umount(path)
        netns.processes.clear()
        netns.threads.clear()
        netns.descriptors.clear()
        netns.hidden_mount = netns.socket = False
        self.kernel.settle(netns)
        if self.random.random() < 0.8 and not any(other.id == box.id and self.kernel.alive(other.netns) for other in self.boxes):
            self.kernel.named.discard(box.id)  # else its task directory stays for a while

    def _end_some_netns(self) -> None:
        living = [box for box in self.boxes if self.kernel.alive(box.netns) and not box.elsewhere]
        if living:
            self._end(self.random.choice(living))

    def _delete(self, attached: Attached) -> None:
        """One DEL of a chain, backwards; any of its parts may be lost."""
        attached.released = True
        self.deleting.add(attached.box.id)
        try:
            self._delete_all(attached)
        finally:
            self.deleting.discard(attached.box.id)

    def _delete_all(self, attached: Attached) -> None:
        given = attached.box.path if self.random.random() < 0.8 else ""
        if attached.address and self.kernel.alive(attached.box.netns):
            attached.box.netns.addresses.discard(packed(attached.address))
        if attached.place == "second":
            self._call("DEL", attached, attached.network, given)
        if self.random.random() < 0.8:  # Podman may give no ports to DEL
            self.kernel.withdraw(attached.network, attached.box.id)
            self.kernel.flows = {flow for flow in self.kernel.flows if flow[0] != attached.box.id}  # they end some day
        if self.random.random() < 0.8:  # flannel and multus may answer success and do nothing
            self._release(attached)
        if attached.place == "head" and self.random.random() < 0.9:
            self._call("DEL", attached, attached.network, given)
        name = f"{attached.network}-{attached.box.id}-{attached.ifname}"
        if self.random.random() < 0.8:
            (self.cache / "results" / name).unlink(missing_ok=True)

    def _del_now(self) -> None:
        """One DEL, perhaps late; never while another life of its container lives or starts: SPEC, no parallel operations."""
        ready = [one for one in self._attachments() if one not in self.landing and not one.released and not one.box.elsewhere]
        living = [one for one in ready if self.kernel.alive(one.box.netns)] + self.landing
        busy = {(one.box.id, id(one.box)) for one in living}
        current = [one for one in ready if not any(name == one.box.id and box != id(one.box) for name, box in busy)]
        if current:
            self._delete(self.random.choice(current))

    def _sweep_now(self) -> None:
        self._call("GC", None, self.random.choice(NETWORKS))

    # Steps

    def step(self, name: str) -> None:
        """Take one step by its name, in STEPS, and check the promises."""
        STATISTICS.steps[name] += 1
        self.quiet = self.random.random() < 0.4
        self.cuts = self.random.random() < 0.05
        self.kills = self.random.random() < 0.03
        if self.random.random() < 0.3:
            self._open_gate()
        self.kernel.trouble = "injected" if self.random.random() < 0.02 else ""
        self.disturbed = False
        getattr(self, name)()
        if any(not netns.lookable and not self.kernel.is_foreign(netns) for netns in self.kernel.netns.values()):
            self._forget_waiting()  # it may hold any address: LIVE, and the waiting begins anew
        configured = self._configured()
        for one in self.ledger.values():
            if one.waiting_since is not None and self._is_hindered(one, configured):
                one.waiting_since = None
        self.kernel.trouble = ""
        self.quiet = True
        self.kills = False
        self.check()
        if len(self.boxes) > 40:
            self._forget_the_long_dead()

    def _forget_the_long_dead(self) -> None:
        needed = {one.box.id for one in self.ledger.values()} | {one.box.id for one in self.landing}
        self.boxes = [box for box in self.boxes if self.kernel.alive(box.netns) or box.id in needed]

    def begin_add(self) -> None:
        """A runtime begins an ADD."""
        self._take_off()

    def go_on(self) -> None:
        """An ADD on its way takes its next phase."""
        self._fly()

    def finish_adds(self) -> None:
        """All ADDs on their way come to their end."""
        self._land()

    def whole_add(self) -> None:
        """A container starts, from ADD's begin to its end."""
        self._take_off()
        for _ in range(10):
            if self.flights:
                self._fly_on(self.flights[-1])

    def repeat_add(self) -> None:
        """An impatient runtime sends ADD again for an attachment that is up or on its way."""
        ready = [
            one
            for box in self.boxes
            if self.kernel.alive(box.netns)
            for one in box.attachments
            if one.place == "head" and not one.released
        ]
        ready = [
            one for one in ready if self.kernel.at(one.box.path) is one.box.netns and one.box.path not in self.kernel.unreadable
        ]
        if ready:
            self._add(self.random.choice(ready))

    def add_fails(self) -> None:
        """An ADD on its way ends where it is; the runtime sends DEL, or does not."""
        if not self.flights:
            return
        flight = self.flights.pop(self.random.randrange(len(self.flights)))
        flight.close()
        ended = [
            one for box in self.boxes for one in box.attachments if one not in self.landing and not one.up and not one.released
        ]
        living = {box.id for box in self.boxes if self.kernel.alive(box.netns)}
        for one in ended:
            if self.random.random() < 0.6 and (self.kernel.alive(one.box.netns) or one.box.id not in living):
                self._delete(one)
            if self.random.random() < 0.8 or one.place == "none" or not one.mapped:
                self._end(one.box)

    def delete(self) -> None:
        """A runtime sends DEL, before or after the netns ends."""
        self._del_now()

    def delete_and_end(self) -> None:
        """A container is stopped in good order."""
        living = [box for box in self.boxes if self.kernel.alive(box.netns) and not box.elsewhere]
        ready = [box for box in living if not any(one.box is box for one in self.landing)]
        if ready:
            box = self.random.choice(ready)
            for one in box.attachments:
                if not one.released:
                    self._delete(one)
            self._end(box)

    def die(self) -> None:
        """A container's netns ends, and no DEL comes, or it comes late."""
        self._end_some_netns()

    def lose_path(self) -> None:
        """A netns stays alive, but its path is unmounted lazily, overmounted, or only in another mount namespace."""
        ready = [box for box in self.boxes if self.kernel.alive(box.netns) and box.netns.places]
        if not ready:
            return
        netns = self.random.choice(ready).netns
        how = self.random.randrange(6)
        if how == 0:
            netns.hidden_mount = True
            netns.processes.add(self.kernel.pid())
        elif how == 1:
            netns.processes.add(self.kernel.pid())
        elif how == 2:
            netns.threads.add(self.kernel.pid())
        elif how == 3:
            netns.descriptors.add(self.kernel.pid())
        elif how == 4 and netns.veth and netns.addresses:
            netns.socket = True  # only the far end of its veth, and the addresses behind that, tell of it
        else:
            over = self.kernel.create()
            self.kernel.mount(over, min(netns.places))
            return
        if netns.socket and not any(one.box.netns is netns and (one.hidden or not one.up) for one in self._attachments()):
            netns.processes.clear()
        elif netns.socket:
            netns.socket = False
            return
        for path in sorted(netns.places):
            if self.kernel.at(path) is netns:
                self.kernel.umount(path)

    def _attachments(self) -> list[Attached]:
        return [one for box in self.boxes for one in box.attachments]

    def path_unreadable(self) -> None:
        """A path answers EACCES for a while, whatever stands there."""
        if self.kernel.unreadable:
            self.kernel.unreadable.clear()
        else:
            paths = [box.path for box in self.boxes if box.path]
            self.kernel.unreadable.update(self.random.sample(paths, min(2, len(paths))))

    def stranger_comes(self) -> None:
        """A service with PrivateNetwork, docker's container, another user's sandbox: a netns of no pod.

        Perhaps nobody can look into it, and perhaps it shows addresses of the pools, which keep where it is root's.
        """
        if len(self.kernel.netns) >= 12:
            return
        self.serial += 1
        netns = self.kernel.create()
        netns.veth = False
        kind = self.random.choice(("service", "docker", "user", "user", "sandbox"))
        if kind == "service":
            netns.processes.add(self.kernel.pid(f"/system.slice/service{self.serial}.service"))
        elif kind == "docker":
            netns.processes.add(self.kernel.pid(f"/system.slice/docker-{self.serial:064x}.scope"))
            netns.linked = self.random.random() < 0.5
            if self.random.random() < 0.7:
                self.kernel.mount(netns, f"/run/docker/netns/{self.serial}")
        else:
            netns.processes.add(self.kernel.pid("/user.slice/user-1000.slice/session-1.scope"))
            netns.lookable = self.random.random() < 0.8
            netns.linked = True
            netns.veth = self.random.random() < 0.3
            netns.addresses.update(packed(self._some_address()) for _ in range(self.random.randrange(3)))
        if kind == "user":
            netns.owned_by_other = self.random.choices((True, None), (9, 1))[0]
            if self.random.random() < 0.15:  # root has taken it over
                self.kernel.mount(netns, f"/run/netns/user{self.serial}")
        self.boxes.append(Box(f"stranger-{self.serial}", "", netns, "", self.kernel.boots, foreign=True))

    def _some_address(self) -> str:
        """Return an address of a pool, mostly one that is reserved."""
        reserved = sorted({address for _, address in self.ledger})
        if reserved and self.random.random() < 0.8:
            return self.random.choice(reserved)
        return self.random.choice(self.pool[self.random.choice(NETWORKS)])

    def stranger_changes(self) -> None:
        """A netns of no pod takes an address of a pool, or gives it up; root's and another user's alike."""
        ready = [box.netns for box in self.boxes if box.foreign and self.kernel.alive(box.netns) and box.netns.linked]
        if ready:
            netns, address = self.random.choice(ready), packed(self._some_address())
            if netns.addresses and self.random.random() < 0.5:
                address = self.random.choice(sorted(netns.addresses))
            if address in netns.addresses:
                netns.addresses.remove(address)
                self.taken_off[address] = self.kernel.monotonic_s
            else:
                netns.addresses.add(address)

    def runtime_tidies(self) -> None:
        """A runtime removes the task directories of containers that are gone."""
        self.kernel.named &= {box.id for box in self.boxes if self.kernel.alive(box.netns)}

    # Other nodes with the same store

    def other_node_adds(self) -> None:
        """A pod starts on another node that has the same store; its reaper has freed before what that node has leaked."""
        theirs = [one for one in self._attachments() if one.box.elsewhere and one.address]
        for one in theirs:
            if not self.kernel.alive(one.box.netns):
                self._release(one)
                one.address = ""
        if not self.neighbour or len([one for one in theirs if one.address]) > 3:
            return
        self.serial += 1
        number = kernels.FIRST_INO + self.random.randrange(8) + (1000 + self.serial if not self.its_boot else 0)
        netns = Netns(number, self.kernel.tick(), self.random.randrange(10, 40), elsewhere=True)
        path, network = f"/run/netns/ns{self.random.randrange(6)}", self.random.choice(NETWORKS)
        box = Box(f"{self.serial:064x}", "", netns, path, self.kernel.boots, foreign=True, elsewhere=True)
        is_recorded = self.its_records and not (self._is_told_of() and self.random.random() < 0.3)
        attached = Attached(box, network, "eth0", "head" if is_recorded else "none")
        self.boxes.append(box)
        box.attachments.append(attached)
        if is_recorded:
            boot_id, now_s = self.its_boot or self.kernel.boot_id, self.kernel.monotonic_s
            identity = Identity(kernels.DEVICE, netns.ino, netns.ctime, netns.ns_id)
            with records.Directory(str(self.state), network, make=True) as directory:
                raw = records.encode(path, identity, boot_id, now_s, True, {}, self.its_node)
                (self.state / network / f"{box.id}:eth0").write_bytes(raw)
                assert directory.read(box.id, "eth0") is not None
        for _ in self._allocate(attached):
            pass
        attached.up = True
        netns.elsewhere = bool(attached.address)

    def _is_told_of(self) -> bool:
        """Tell whether a record says that another node of this kernel has the store as well: then some of its pods have none."""
        own = [one for one in self._attachments() if one.box.elsewhere and one.place == "head"]
        own = [one for one in own if one.box.boot == self.kernel.boots]
        return self.neighbour == "container node" and any(
            (self.state / one.network / f"{one.box.id}:eth0").exists() for one in own
        )

    def other_node_ends(self) -> None:
        """A pod of another node ends; its host-local releases the address, or that leaks."""
        living = [one for one in self._attachments() if one.box.elsewhere and self.kernel.alive(one.box.netns)]
        if living:
            one = self.random.choice(living)
            self._end(one.box)
            if self.random.random() < 0.6:
                self._release(one)

    # Ports

    def portmap_changes(self) -> None:
        """Its executable goes, or fails, or hangs, or what it has written cannot be listed; or all is well again."""
        self.kernel.portmap = self.random.choice(("works", "works", *kernels.PORTMAPS))

    # The gate

    def gate_changes(self) -> None:
        """A gate is held by somebody else, cannot be opened, is lost, or holds numbers that nobody has written."""
        file = self.run / (store_key.key(str(self.data), self.random.choice(NETWORKS)) + ".sweep")
        how = self.random.randrange(4)
        if file.is_dir():
            file.rmdir()
        elif how == 0 and self.holder is None:
            self.holder = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self.holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._open_gate()  # one of us has it
        elif how == 1:
            file.unlink(missing_ok=True)
            file.mkdir()
        elif how == 2:
            file.unlink(missing_ok=True)
        else:
            numbers = [self.random.choice((0, 1, 2, 5, 2**64 - 1)) for _ in range(2)]
            file.write_bytes(b"".join(number.to_bytes(8, "little") for number in numbers)[: self.random.choice((16, 16, 16, 11))])

    def _open_gate(self) -> None:
        """Let go of the gate that somebody else holds."""
        if self.holder is not None:
            os.close(self.holder)
            self.holder = None

    def reboot(self) -> None:
        """The node reboots; /run is wiped, or is a disk and stays."""
        for flight in self.flights:
            flight.close()
        self.flights.clear()
        self.kernel.boot()
        self._forget_waiting()
        self._open_gate()
        self.taken_off.clear()
        if self.neighbour == "container node":
            for box in self.boxes:
                box.netns.elsewhere = False  # its kernel is ours
        if self.random.random() < 0.7:
            shutil.rmtree(self.run)
            self.run.mkdir()
        elif self.random.random() < 0.5:
            for file in self.run.glob("alpha@*.json"):
                file.unlink()
        for (network, address), one in list(self.ledger.items()):
            if not (self.data / network / address).exists():
                del self.ledger[network, address]
            else:
                one.released = one.released or False

    def time_passes(self) -> None:
        """Seconds to an hour go by; whoever is on its way without a record arrives before, as no ADD takes `graceSeconds`."""
        self._land()
        for one in self._attachments():
            if self._lives(one) and not one.up:
                if not one.hidden:
                    one.box.netns.addresses.add(packed(one.address))
                one.up = True
        self.kernel.monotonic_s += self.random.choice((1, 11, 119, 121, 700, 1501, 4000))

    def clock_steps(self) -> None:
        """NTP, or no clock at all: the wall clock jumps either way, and never shows one nanosecond twice."""
        self.kernel.wall += self.random.choice((3600 * 10**9, 10**12, 1))

    def lose_record(self) -> None:
        """A record is lost or corrupt."""
        found = [file for file in sorted(self.state.glob("*/*:*")) if file.is_file()]
        if not found:
            return
        file = self.random.choice(found)
        name, _, ifname = file.name.partition(":")
        theirs = [
            one for one in self._attachments() if one.box.id == name and one.ifname == ifname and one.network == file.parent.name
        ]
        if self.neighbour == "container node" and any(one.box.elsewhere for one in theirs):
            return  # nothing else says that there is another node
        if any(self._lives(one) and not one.up for one in theirs) or any(one in self.landing for one in theirs):
            return  # in flight and unmapped, in a netns that another container's record may name
        if self.random.random() < 0.5:
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[: self.random.randrange(20)])
        for one in theirs:
            one.mapped = False

    def save_records(self) -> None:
        """A backup of stateDir is taken."""
        if self.state.exists():
            if self.backup is not None:
                shutil.rmtree(self.backup)
            self.backup = self.home / "backup"
            shutil.copytree(self.state, self.backup)

    def restore_records(self) -> None:
        """The backup is put back, but for containers whose ID lives again: that is a known limit."""
        if self.backup is None:
            return
        again = {box.id for box in self.boxes if not box.uid}
        for file in sorted(self.backup.glob("*/*:*")):
            if file.name.partition(":")[0] in again:
                continue
            target = self.state / file.parent.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / file.name)

    def lose_cache(self) -> None:
        """Cache entries of libcni are lost, or empty after a power loss."""
        for file in sorted((self.cache / "results").iterdir()):
            if self.random.random() < 0.5:
                file.unlink()
            elif self.random.random() < 0.2:
                file.write_bytes(b"")

    def lose_memory(self) -> None:
        """What is remembered is lost or corrupt."""
        for file in sorted(self.run.iterdir()):
            if file.suffix in (".json", ".live") and file.is_file():
                if self.random.random() < 0.5:
                    file.unlink()
                else:
                    file.write_bytes(file.read_bytes()[: self.random.randrange(60)])
        self._forget_waiting()

    def collect(self) -> None:
        """GC with the runtime's true list, with an empty one, with another runtime's, or with none."""
        network = self.random.choice(NETWORKS)
        kind = self.random.randrange(4)
        theirs = [
            {"containerID": one.box.id, "ifname": one.ifname}
            for one in self._attachments()
            if one.network == network and (self.kernel.alive(one.box.netns) or self.random.random() < 0.2) and not one.released
            if not one.box.elsewhere
        ]
        listed: dict[str, Any] = {}
        if kind == 0:
            self._land()
            listed = {"cni.dev/valid-attachments": theirs}
        elif kind == 1 and not self._a_hidden_one(network):
            listed = {"cni.dev/valid-attachments": []}
        elif kind == 2 and not self._a_hidden_one(network):
            listed = {"cni.dev/attachments": theirs[::2]}
        self._forget_waiting()
        self._gc(network, {**listed, **({"dryRun": True} if self.random.random() < 0.15 else {})})

    def collect_after_a_while(self) -> None:
        """A good runtime's GC: every container with a netns is in its list, and what is not was seen two minutes ago."""
        self.time_passes()
        network = self.random.choice(NETWORKS)
        self._gc(network, {})
        self.kernel.monotonic_s += 121
        theirs = [one for one in self._attachments() if one.network == network and self.kernel.alive(one.box.netns)]
        theirs = [one for one in theirs if not one.box.elsewhere]
        self._forget_waiting()
        self._gc(network, {"cni.dev/valid-attachments": [{"containerID": one.box.id, "ifname": one.ifname} for one in theirs]})

    def _a_hidden_one(self, network: str) -> bool:
        """Tell whether a live owner of the network is not up yet: a wrong list may free it after 120 s, which no ADD takes."""
        return any(one.network == network and self._lives(one) and not one.up for one in self._attachments())

    def sweep_elsewhere(self) -> None:
        """DEL or GC comes in a process that sees not one pod: a debug container, a daemon without the host's PID namespace."""
        self.kernel.blind = True
        try:
            ready = [one for one in self._attachments() if one.released]
            if ready and self.random.random() < 0.5:
                one = self.random.choice(ready)
                if not any(other.box.id == one.box.id and self._lives(other) for other in self._attachments()):
                    self._call("DEL", one, one.network, self.random.choice(("", one.box.path)))
            else:
                self._gc(self.random.choice(NETWORKS), {"cni.dev/valid-attachments": []})
        finally:
            self.kernel.blind = False

    def blind_add(self) -> None:
        """An ADD whose own netns is not among those it sees."""
        self.quiet = True
        self.kernel.blind = True
        try:
            self.whole_add()
        finally:
            self.kernel.blind = False

    def write_note(self) -> None:
        """An operator reserves an address by hand, and once gives it back."""
        network = self.random.choice(NETWORKS)
        file = self.data / network / self.random.choice(self.pool[network])
        if file.parent.exists() and not file.exists():
            file.write_text("reserved by hand")
        elif file.exists() and file.read_text().startswith("reserved"):
            file.unlink()


def steps() -> dict[str, int]:
    """Return the steps and how often each is taken, in relation to the others."""
    return {
        "begin_add": 12,
        "go_on": 12,
        "finish_adds": 3,
        "whole_add": 16,
        "repeat_add": 3,
        "add_fails": 4,
        "delete": 7,
        "delete_and_end": 5,
        "die": 10,
        "lose_path": 4,
        "path_unreadable": 2,
        "stranger_comes": 4,
        "stranger_changes": 2,
        "runtime_tidies": 1,
        "other_node_adds": 4,
        "other_node_ends": 2,
        "gate_changes": 2,
        "portmap_changes": 2,
        "reboot": 2,
        "time_passes": 7,
        "clock_steps": 1,
        "lose_record": 2,
        "save_records": 1,
        "restore_records": 1,
        "lose_cache": 1,
        "lose_memory": 1,
        "collect": 4,
        "collect_after_a_while": 3,
        "sweep_elsewhere": 2,
        "blind_add": 1,
        "write_note": 1,
    }


def count_rows() -> None:
    """Count the rows of decision.py that decide, and what each says, from now on."""

    def counted(number: int, row: Callable[..., Any]) -> Callable[..., Any]:
        def count(reservation: Any, evidence: Any) -> Any:
            answer = row(reservation, evidence)
            if answer is not None and evidence.surroundings.deep:
                STATISTICS.rows[f"{number:2} {row.__name__[1:]} {answer[0]}"] += 1
            return answer

        return count

    decision.ROWS = tuple((number, counted(number, row)) for number, row in decision.ROWS)  # type: ignore[assignment]  # other functions
