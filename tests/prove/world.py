"""One node in the model: pods, host-local, the runtime's mishaps, and a ledger that knows who lives.

Each public method is one step. Two promises are checked after each: no live owner's reservation is gone, and a dead owner's is
gone after an ADD that nothing hindered (after `graceSeconds` where only row 9 can free it).
"""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.host_local import store_key
from cni_reaper_plugin.model import Netns as Identity
from cni_reaper_plugin.reaper import decision
from tests.prove import kernel as kernels
from tests.prove.kernel import Netns
from tests.prove.node_state import DEPTH, NETWORKS, STATISTICS, Attached, Box, KilledError, packed
from tests.prove.pods import Pods

BROKEN = {"absent": None, "empty": b"", "NUL": bytes(80)}
"""What a power cut leaves of a file that is whole otherwise; what each cut of tests/machines has left is among these states."""
STATES = ("whole", *BROKEN)


class World(Pods):
    """A node and its history. choices: where all chance comes from, so that a walk can be walked again."""

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
        if self.neighbour != "nfs" and self.random.random() < 0.5:
            self._lose_power()
        self.unwritten.clear()
        for (network, address), one in list(self.ledger.items()):
            if not self._stands(network, address, one):
                del self.ledger[network, address]

    def _lose_power(self) -> None:
        """What the disk had not written yet is lost with the reboot, each file for itself: some were never made, some are empty.

        And some that host-local had removed are there again.
        """
        for (network, address), one in self.unwritten.items():
            file = self.data / network / address
            if not file.exists() and one.box in self.boxes and self.random.random() < 0.3:
                file.write_text(f"{one.box.id}\r\n{one.ifname}")
                self.ledger[network, address] = one
                one.address = address
        often = self.random.choice((0.1, 0.5, 0.9))
        files = [*self.data.glob("*/[0-9]*"), *self.state.glob("*/*:*"), *(self.cache / "results").iterdir()]
        for file in sorted(files):
            if file.is_file() and self.random.random() < often and not file.read_bytes().startswith(b"reserved"):
                self._break(file, self.random.choices(list(BROKEN), (4, 4, 1))[0])
        for one in self._attachments():
            record = self.state / one.network / f"{one.box.id}:{one.ifname}"
            one.mapped = one.mapped and record.exists() and bool(record.read_bytes().strip(b"\0"))
        for network in NETWORKS:
            self.last[network] = self.random.choice((0, self.last[network]))  # host-local begins anew where its note is empty

    def _break(self, file: Path, state: str) -> None:
        left = BROKEN[state]
        STATISTICS.between[f"power cut: {state}"] += 1
        if left is None:
            file.unlink()
        else:
            file.write_bytes(left)

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
