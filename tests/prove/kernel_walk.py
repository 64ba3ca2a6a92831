"""Random walks on the real kernel: the frozen executable, real host-local, bridge and ptp, and a ledger of their own.

    python -m tests.prove.kernel_walk --seeds 100 --seed 1      a hundred walks of 200 steps
    python -m tests.prove.kernel_walk --seeds 1 --seed 37       one of them once more

Nothing here knows how the product decides, and nothing is shared with the model: a netns lives while the walk itself has left
something that holds it, and that is written down when it is done. After each ADD: whoever lives has its reservation, no address
was given twice, and whoever has no netns any more has none, but for the reasons that `_may_stay` names.
"""

import argparse
import concurrent.futures
import hashlib
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support import netns_holders
from tests.support.cni_calls import Pod, bridge, host_local, ptp, reaper
from tests.support.commands import Command, Ran
from tests.support.node import Launcher, Node
from tests.support.node_files import Conf
from tests.support.programs import find_programs
from tests.support.waiting import until

STEPS = 200
NETWORKS = {"bridged": "10.61.0.0/28", "routed": "10.62.0.0/28"}
ROOM = 13  # addresses for pods in each
NAMES = ("blue", "green", "red")  # of netns that come again, as those of `ip netns add` do
PLENTY = 9  # pods that live at once on one network, at the most
HOLDS: dict[str, Callable[[Pod], int]] = {
    "a process": netns_holders.by_process,
    "a descriptor": netns_holders.by_descriptor,
    "a thread": netns_holders.by_thread,
    "a process without a leader": netns_holders.by_a_process_whose_leader_has_exited,
    "a socket": netns_holders.by_socket,
}


AGAIN = "to walk it again: python -m tests.prove.kernel_walk --seeds 1 --seed"


class ViolationError(AssertionError):
    """A promise was broken."""


@dataclass
class Space:
    """One netns. ino: its number; path: where it was made; held: what holds it; it lives while that is not empty."""

    ino: int
    path: str
    held: set[str] = field(default_factory=set)


@dataclass
class Owner:
    """One attachment. complete: its ADD has come to its end; reserved: its address, "" where host-local has given none."""

    network: str
    container_id: str
    uid: str
    space: Space
    complete: bool = False
    reserved: str = ""

    def __str__(self) -> str:
        return f"{self.network} {self.reserved} of {self.container_id[:12]} in {self.space}"


class Walk:
    """One walk on one node. number: its seed, from which all chance comes."""

    def __init__(self, node: Node, number: int) -> None:
        self.node = node
        self.random = random.Random(number)
        self.number = number
        self.owners: list[Owner] = []
        self.spaces: list[Space] = []
        self.strangers: list[Space] = []
        self.processes: dict[int, list[Space]] = {}
        self.made = 0
        self.done: list[str] = []
        self.counted: Counter[str] = Counter()

    # Netns and who holds them

    def _space(self, path: str, holder: str) -> Space:
        ino = os.stat(self.node.path(path)).st_ino
        space = Space(ino, path, {holder})
        self.spaces.append(space)
        return space

    def _named(self) -> Space:
        """Make a netns with a path in /run/netns, of a name that comes again or not."""
        self.made += 1
        name = self.random.choice(NAMES) if self.random.random() < 0.4 else f"cni-5d2a7c1e-9d47-4a6b-8e05-{self.made:012x}"
        if os.path.exists(self.node.path(f"/run/netns/{name}")):
            name = f"pod-{self.made}"
        path = self.node.create_netns(f"/run/netns/{name}")
        return self._space(path, f"mount {path}")

    def _of_process(self) -> Space:
        """Make a netns that only a process holds, and whose path is the process's."""
        pid = self.node.start(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink(self.node.path("/proc/1/ns/net"))
        path = f"/proc/{pid}/ns/net"
        until(lambda: os.readlink(self.node.path(path)) != own, "the process has its netns")
        until(lambda: os.readlink(self.node.path(f"/proc/{pid}/exe")).endswith("sleep"), "it sleeps")
        space = self._space(path, f"process {pid}")
        self.processes[pid] = [space]
        return space

    def _stop(self, pid: int) -> None:
        self.node.stop(pid, signal.SIGKILL)
        for space in self.processes.pop(pid):
            space.held.discard(f"process {pid}")

    def _end(self, space: Space) -> None:
        """Take away all that holds a netns."""
        below, path = f"below {space.path}", f"mount {space.path}"
        if below in space.held:  # what is over it goes first
            self.node.umount(space.path)
            for over in self.strangers:
                over.held.discard(f"over {space.path}")
            space.held = space.held - {below} | {path}
        if path in space.held:
            self.node.delete_netns(space.path)
            space.held.discard(path)
        for pid in [pid for pid, held in self.processes.items() if any(one is space for one in held)]:
            self._stop(pid)
        assert not space.held, space

    def _living(self, network: str = "") -> list[Owner]:
        return [one for one in self.owners if one.space.held and network in ("", one.network)]

    # The plugins

    def _configs(self, network: str) -> tuple[Conf, Conf]:
        """Return what our plugin and the one behind it are given."""
        head: Conf = {"cniVersion": "1.0.0", "name": network, **reaper()}
        ipam = host_local(NETWORKS[network])
        main = bridge(ipam, name="walk0") if network == "bridged" else ptp(ipam)
        return head, {"cniVersion": "1.0.0", "name": network, **main}

    def _command(self, verb: str, owner: Owner, binary: str, conf: Conf) -> Command:
        args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=d;K8S_POD_NAME=p;K8S_POD_UID={owner.uid}" if owner.uid else None
        path = owner.space.path if verb == "ADD" or self.random.random() < 0.8 else ""
        return self.node.plugin_command(
            verb, conf, binary=binary, container_id=owner.container_id, netns=path, ifname="eth0", args=args
        )

    def _together(self, commands: list[Command], what: str) -> list[Ran]:
        ran = self.node.together(commands)
        for one in ran:
            if one.rc:
                self._violate(f"{what} failed: {one}")
        return ran

    def _new_owner(self, network: str) -> Owner:
        self.made += 1
        alive = {one.container_id for one in self._living()}
        again = [one for one in self.owners if not one.uid and one.network == network and one.container_id not in alive]
        if again and self.random.random() < 0.25:
            container_id, uid = self.random.choice(again).container_id, ""
        else:
            container_id = hashlib.sha256(f"{self.number}-{self.made}".encode()).hexdigest()
            uid = f"uid-{self.made}" if self.random.random() < 0.5 else ""
        space = self._of_process() if self.random.random() < 0.25 else self._named()
        return Owner(network, container_id, uid, space)

    def _add(self, network: str, count: int, far: int) -> None:
        """Run the ADDs of so many new containers at once. far: 1 for our plugin alone, 2 for host-local as well, 3 for all."""
        dead = [one for one in self.owners if one.reserved and not one.space.held and one.network == network]
        begun: list[Owner] = []
        for _ in range(count):
            new = self._new_owner(network)
            if any(new.container_id == one.container_id for one in begun):
                self._end(new.space)
                continue
            begun.append(new)
        head, main = self._configs(network)
        self._together([self._command("ADD", one, "cni-reaper", head) for one in begun], "our ADD")
        self.owners += begun
        self._see(network, dead, begun)
        if far == 1:
            return
        binary, conf = ("host-local", main) if far == 2 else (main["type"], main)
        for one, ran in zip(
            begun, self._together([self._command("ADD", one, binary, conf) for one in begun], binary), strict=True
        ):
            address = ran.json()["ips"][0]["address"].partition("/")[0]
            for other in self.owners:
                if other.network == network and other.reserved == address:
                    if other.space.held:
                        self._violate(f"{other} was given to {one.container_id} as well")
                    other.reserved = ""
            one.reserved, one.complete = address, far == 3
        self._see(network, [], [])

    def _delete(self, owner: Owner) -> None:
        """Run the DELs of a chain, backwards."""
        head, main = self._configs(owner.network)
        binary = main["type"] if owner.complete else "host-local"
        for name, conf in ((binary, main), ("cni-reaper", head)):
            command = self._command("DEL", owner, name, conf)
            self._together([command], f"DEL of {name}")
            self._note_unplugged(command["env"].get("CNI_NETNS", ""), owner)
        for one in self.owners:
            if (one.network, one.container_id) == (owner.network, owner.container_id):
                one.reserved = ""

    def _note_unplugged(self, path: str, owner: Owner) -> None:
        """Note who has lost its link, since the path of a DEL led to its netns by then: it has no address to be kept for."""
        try:
            ino = os.stat(self.node.path(path)).st_ino if path else 0
        except OSError:
            return
        for one in self.owners:
            if one.space.ino == ino and one.space is not owner.space:
                one.complete = False

    # What has to hold

    def _violate(self, text: str) -> None:
        last = "\n  ".join(self.done[-40:])
        raise ViolationError(f"seed {self.number}, step {len(self.done)}: {text}\n  {last}\n{AGAIN} {self.number}")

    def _see(self, network: str, dead: list[Owner], begun: list[Owner]) -> None:
        """Look at the store. dead: those whose reservations an ADD has had to free; begun: by whose ADDs."""
        for name in NETWORKS:
            held = self.node.reservations(name)
            for one in self._living(name):
                if one.reserved and held.get(one.reserved) != (one.container_id, "eth0"):
                    self._violate(f"{one} lives, and its address is reserved for {held.get(one.reserved)}")
        held = self.node.reservations(network)
        for one in dead:
            if held.get(one.reserved) != (one.container_id, "eth0"):
                self.counted["leaks freed"] += 1
                one.reserved = ""
                continue
            why = self._may_stay(one, begun)
            if not why:
                self._violate(f"{one} has no netns, and is still reserved; {self.node.log()[-8:]}")
            self.counted[f"leaks kept for now: {why}"] += 1
        self.owners = [one for one in self.owners if one.space.held or one.reserved]

    def _may_stay(self, one: Owner, begun: list[Owner]) -> str:
        """Return why a dead owner's reservation may stay for now, "" where it has to be freed by the next ADD."""
        if any(other.container_id == one.container_id and other.space.held for other in self.owners):
            return "a container of its ID lives again"
        if any(space.ino == one.space.ino and space.held for space in self.spaces) and not _has_ns_id():
            return "the number of its netns is another's by now, and this kernel has no NS_GET_ID"
        del begun
        return ""

    # Steps

    def add(self) -> None:
        """A pod starts, or some of its ADD are done and then no more."""
        network = self.random.choice(list(NETWORKS))
        count = 1 if self.random.random() < 0.8 else self.random.randrange(2, 5)
        while len(self._living(network)) + count > PLENTY:
            self._end(self.random.choice(self._living(network)).space)
        far = self.random.choices((3, 2, 1), (16, 2, 1))[0]
        self._add(network, count, far)

    def die(self) -> None:
        """A netns ends, and no DEL comes."""
        if self._living():
            self._end(self.random.choice(self._living()).space)

    def stop(self) -> None:
        """A pod is stopped in good order: DEL, then the end of its netns, or the other way round."""
        if not self._living():
            return
        owner = self.random.choice(self._living())
        if self.random.random() < 0.3:
            self._end(owner.space)
        self._delete(owner)
        self._end(owner.space)

    def delete_late(self) -> None:
        """DEL comes for a container that has lost its netns long ago."""
        alive = {one.container_id for one in self._living()}
        dead = [one for one in self.owners if not one.space.held and one.reserved and one.container_id not in alive]
        if dead:
            self._delete(self.random.choice(dead))

    def lose_path(self) -> None:
        """A netns is held by something else, and its path is unmounted lazily."""
        ready = [one for one in self._living() if f"mount {one.space.path}" in one.space.held]
        if not ready:
            return
        owner = self.random.choice(ready)
        how = self.random.choice([name for name in HOLDS if owner.complete or name != "a socket"])
        pod = Pod(self.node, f"held-{self.made}-{len(self.done)}", owner.space.path)
        pid = HOLDS[how](pod)
        self.processes[pid] = [owner.space]
        owner.space.held.add(f"process {pid}")
        netns_holders.unpin(pod)
        owner.space.held.discard(f"mount {owner.space.path}")
        self.done[-1] += f" ({how})"

    def overmount(self) -> None:
        """Another netns is mounted over a path; what was mounted there lives on below it."""
        ready = [one for one in self._living() if f"mount {one.space.path}" in one.space.held]
        if not ready or len(self.strangers) > 6:
            return
        owner = self.random.choice(ready)
        pid = self.node.start(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink(self.node.path("/proc/1/ns/net"))
        until(lambda: os.readlink(self.node.path(f"/proc/{pid}/ns/net")) != own, "the process has its netns")
        self.node.run(["mount", "--bind", f"/proc/{pid}/ns/net", owner.space.path]).check()
        self.node.stop(pid, signal.SIGKILL)
        over = self._space(owner.space.path, f"over {owner.space.path}")
        self.strangers.append(over)
        self.done[-1] += f" ({owner.space.path})"
        if self.random.random() < 0.7:  # and taken away again, soon or never
            self.node.umount(owner.space.path)
            over.held.clear()
        else:
            owner.space.held.discard(f"mount {owner.space.path}")
            owner.space.held.add(f"below {owner.space.path}")

    def stranger(self) -> None:
        """A netns of another runtime or of nobody comes, perhaps with an address of its own, or one goes."""
        ending = [one for one in self.strangers if one.held and not any(held.startswith("over ") for held in one.held)]
        if ending and self.random.random() < 0.5:
            self._end(ending[0])
            return
        space = self._of_process() if self.random.random() < 0.5 else self._named()
        if self.random.random() < 0.5:
            self.node.add_address("lo", f"192.0.2.{self.random.randrange(1, 250)}/32", space.path)
        self.strangers.append(space)

    def mount_namespace(self) -> None:
        """A process takes copies of all mounts into a mount namespace of its own, or one that has such copies ends."""
        keeping = [pid for pid, held in self.processes.items() if len(held) != 1]
        if keeping:
            self._stop(keeping[0])
            return
        pid = self.node.start(["unshare", "--mount", "--propagation", "private", "sleep", "infinity"])
        until(lambda: os.readlink(self.node.path(f"/proc/{pid}/exe")).endswith("sleep"), "the mounts are copied")
        mounted = [one for one in self.spaces if any(held.startswith(("mount ", "below ", "over ")) for held in one.held)]
        if len(mounted) < 2:
            self.node.stop(pid, signal.SIGKILL)
            return
        self.processes[pid] = mounted
        for space in mounted:
            space.held.add(f"process {pid}")

    def reboot(self) -> None:
        """The node reboots."""
        self.node.reboot()
        for space in self.spaces:
            space.held.clear()
        self.spaces, self.strangers, self.processes = [], [], {}

    def run(self, steps: int = STEPS) -> Counter[str]:
        """Take so many steps; return what was done. Raises ViolationError."""
        kinds: dict[Callable[[], None], int] = {
            self.add: 40,
            self.die: 16,
            self.stop: 10,
            self.delete_late: 3,
            self.lose_path: 8,
            self.overmount: 3,
            self.stranger: 8,
            self.mount_namespace: 3,
            self.reboot: 1,
        }
        for _ in range(steps):
            (step,) = self.random.choices(list(kinds), list(kinds.values()))
            self.done.append(step.__name__)
            self.counted[step.__name__] += 1
            step()
            self.spaces = [space for space in self.spaces if space.held]
            self.strangers = [space for space in self.strangers if space.held]
        for network in NETWORKS:
            for one in self._living(network)[PLENTY - 1 :]:
                self._end(one.space)
            self._add(network, 1, 3)
        return self.counted


def _has_ns_id() -> bool:
    """Tell whether this kernel knows NS_GET_ID, Linux >= 6.18."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (6, 18)


def walk(number: int, steps: int = STEPS) -> tuple[str, Counter[str]]:
    """Walk once on a node of its own; return what was violated, and what was done."""
    with Node(find_programs(old=False)) as node:
        one = Walk(node, number)
        try:
            return "", one.run(steps)
        except ViolationError as e:
            return str(e), one.counted
        except Exception as e:
            e.add_note(f"seed {number}, after {one.done[-10:]}\n{AGAIN} {number}")
            raise


def walk_all(seeds: int, number: int, workers: int, say: Callable[[str], Any]) -> list[str]:
    """Walk from so many seeds, one after the other for each worker; return what was violated."""
    begun = time.monotonic()
    counted: Counter[str] = Counter()
    violations = []
    Launcher.running()  # one for all threads
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for found, done in pool.map(walk, range(number, number + seeds)):
            counted.update(done)
            if found:
                violations.append(found)
                say(found)
    say(f"walks on the kernel: seeds {number} to {number + seeds - 1}, {STEPS} steps each, {time.monotonic() - begun:.0f} s")
    for name, times in sorted(counted.items()):
        say(f"  {times:8} {name}")
    say(f"  violations: {len(violations)}")
    return violations


def main() -> int:
    """Read the arguments and walk; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.prove.kernel_walk", description="Walk on the real kernel.")
    parser.add_argument("--seeds", type=int, default=100, help="walks (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the first one's (default: the time)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="walks at one time (default: %(default)s)")
    arguments = parser.parse_args()
    return 1 if walk_all(arguments.seeds, arguments.seed, arguments.workers, lambda text: print(text, flush=True)) else 0


if __name__ == "__main__":
    sys.exit(main())
