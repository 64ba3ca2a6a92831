"""Traces to which chance comes seldom, each once a defect: a live owner of which the kernel shows no address keeps its own.

Such an owner is in flight (its interface is not up yet), and no record of ours names its netns: what keeps it is that its netns
is nobody else's.
"""

import random
from collections.abc import Iterator

import pytest

from tests.prove.kernel import Netns
from tests.prove.node_state import Attached, Box, packed
from tests.prove.world import World


class Traced(World):
    """A node on which a test says what happens, and when: `meanwhile`, the how manieth time a call comes by `gap`."""

    def __init__(self, has_ns_id: bool) -> None:
        super().__init__(random.Random(1))
        self.star = False
        self.quiet = True
        self.dies = 0.0
        self.kernel.has_ns_id = has_ns_id
        self.gap, self.times = "", 0

    def _between(self, place: str) -> None:
        self.times -= place == self.gap
        if place == self.gap and not self.times:
            self.gap = ""
            self.depth += 1
            self.meanwhile()
            self.depth -= 1

    def meanwhile(self) -> None:
        """Nothing, unless a test puts something in its place."""

    def box(self, path: str = "") -> Box:
        """A container with a netns of its own."""
        self.serial += 1
        netns = self.kernel.create()
        path = path or f"/run/netns/n{self.serial}"
        self.kernel.mount(netns, path)
        made = Box(f"{self.serial:064x}", "", netns, path, self.kernel.boots)
        self.boxes.append(made)
        return made

    def started(self, box: Box, chain: str, ifname: str = "eth0") -> Attached:
        """Let its ADD come as far as its reservation. chain: `head`, or `none` when cni-reaper is not in it."""
        attached = Attached(box, "alpha", ifname, chain)
        flight = self._flight(attached)
        while not (attached.address and (self.data / "alpha" / attached.address).read_bytes()):
            next(flight)
        self.flights.append(flight)
        return attached

    def leak(self) -> None:
        """Leave something to reap, so that the next sweep looks closely."""
        dead = self.started(self.box(), "head")
        self.flights.pop().close()
        self._end(dead.box)

    def swept(self, waited_s: int = 11) -> None:
        """Let another container start where something is to be reaped, and see that nobody has lost anything."""
        self.kernel.monotonic_s += waited_s
        self.leak()
        self.started(self.box(), "head")
        self.check()

    def held_by_a_thread(self, netns: Netns, path: str) -> None:
        """Let a netns lose its path, and live on."""
        netns.threads.add(self.kernel.pid())
        self.kernel.umount(path)


@pytest.fixture(params=[True, False], ids=["with NS_GET_ID", "without"])
def world(request: pytest.FixtureRequest) -> Iterator[Traced]:
    """A node."""
    made = Traced(request.param)
    yield made
    made.close()


def test_a_second_interface_accounts_for_no_other_container(world: Traced) -> None:
    """An ADD's own netns is its container's: what that container has reserved before stays, at this ADD and at the next."""
    box = world.box()
    world.started(box, "none")
    world.leak()
    world.started(box, "head", "net1")
    world.check()
    (world.state / "alpha" / f"{box.id}:net1").unlink()  # or its record would speak for both
    world.swept()
    world.swept()


def test_a_late_del_accounts_for_nothing(world: Traced) -> None:
    """A late DEL comes with a path at which another container's netns stands by now."""
    first = world.box("/run/netns/again")
    late = world.started(first, "head")
    world._end(first)
    world.started(world.box("/run/netns/again"), "none")
    world.leak()
    world._call("DEL", late, "alpha", "/run/netns/again")
    world.check()
    world.swept()


def test_reused_number_of_a_calls_netns_frees_no_live_owner(world: Traced) -> None:
    """While an ADD sweeps, its own netns ends, and the next container's gets the number."""
    own = world.box()
    world.leak()

    def meanwhile() -> None:
        number = own.netns.ino
        world._end(own)
        next_one = world.box()
        assert next_one.netns.ino == number
        world.started(next_one, "none")

    world.meanwhile = meanwhile  # type: ignore[method-assign]
    world.gap, world.times = "before a lock", 2  # that of sweeps: it has seen its own netns by then, and no reservations yet
    world._add(Attached(own, "alpha", "eth0", "head"))
    assert world.gap == ""
    world.check()
    world.swept()


def test_whoever_was_only_reported_has_not_been_looked_for(world: Traced) -> None:
    """A path that cannot be read for a while says nothing of which netns there were meanwhile."""
    box = world.box()
    attached = world.started(box, "none")
    entry = world.cache / "results" / f"alpha-{box.id}-eth0"
    entry.write_text(f'{{"kind": "cniCacheV1", "netns": "{box.path}", "result": {{}}}}')
    world.kernel.unreadable.add(box.path)
    world.started(world.box(), "head")
    world.kernel.unreadable.clear()
    world.held_by_a_thread(box.netns, box.path)
    world.swept(0)
    world.swept()
    assert attached.address


def test_a_source_that_fails_stops_the_sweep(world: Traced) -> None:
    """Where the netns cannot be listed nothing is freed, although none is seen."""
    world.leak()
    world.started(world.box(), "none")
    world.kernel.trouble = "injected"
    world.started(world.box(), "head")
    world.check()
    world.kernel.trouble = ""
    world.swept()


@pytest.mark.parametrize("came_again", [False, True], ids=["its path is gone", "its path has come again"])
def test_an_address_alone_accounts_for_nothing(world: Traced, came_again: bool) -> None:
    """A dead container's cache entry and leak on another network; another IPAM gave its address to one that starts here."""
    box = world.box()
    (world.data / "beta").mkdir()
    dead = f"{255:064x}"
    (world.data / "beta" / "10.8.0.9").write_text(f"{dead}\r\neth0")
    path = box.path if came_again else "/run/netns/gone"
    (world.cache / "results" / f"beta-{dead}-eth0").write_text(f'{{"kind": "cniCacheV1", "netns": "{path}", "result": {{}}}}')
    box.netns.addresses.add(packed("10.8.0.9"))
    world.started(box, "none")
    world.swept()
    world.swept()


def test_reused_pid_and_netns_number_free_no_live_owner(world: Traced) -> None:
    """A record of a process's path: another process has the number now, and its netns that of the recorded one."""
    dead = world.box()
    process = world.kernel.pid()
    dead.netns.processes.add(process)
    world.kernel.umount(dead.path)
    dead.path = f"/proc/{process}/ns/net"
    world.started(dead, "head")
    world._end(dead)
    second = world.box()
    assert second.netns.ino == dead.netns.ino
    second.netns.processes.add(process)
    world.kernel.umount(second.path)
    second.path = dead.path
    world.started(second, "none")
    world.swept()
    world.swept()


def test_a_container_that_has_had_its_del_accounts_for_nothing(world: Traced) -> None:
    """A netns that stays is given to one virtual machine after another."""
    first = world.box()
    attached = world.started(first, "head")
    attached.released = True
    world._release(attached)
    world._call("DEL", attached, "alpha", first.path)
    second = Box(f"{254:064x}", "", first.netns, first.path, world.kernel.boots)
    world.boxes.append(second)
    world.started(second, "none")
    world.swept()
    world.swept()


def test_ipv4_address_keeps_hidden_ipv6_address(world: Traced) -> None:
    """The kernel shows the IPv4 address alone of an attachment from before cni-reaper: that keeps its IPv6 address."""
    box = world.box()
    (world.data / "alpha").mkdir(exist_ok=True)
    for address in ("10.8.200.9", "fd00::9"):
        (world.data / "alpha" / address).write_text(f"{box.id}\r\neth0")
    box.netns.addresses.add(packed("10.8.200.9"))
    for waited_s in (0, 3000, 3000):
        world.swept(waited_s)
        assert (world.data / "alpha" / "fd00::9").exists()
