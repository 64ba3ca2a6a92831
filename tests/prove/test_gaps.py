"""Every gap of a sweep, one by one: a container that starts in it, and whose netns soon shows no path, keeps its address.

The random walks come by here as well, but seldom at the very moment; these come each time.
"""

import random

import pytest

from tests.prove.node_state import Attached, Box
from tests.prove.world import World

GAPS = (
    ("after the snapshot", 1),
    ("after the snapshot", 2),
    ("before looking around", 1),
    ("after looking around", 1),
    ("before the records", 1),
    ("before the records", 2),
    ("after the records", 1),
    ("after the records", 2),
    ("before a lock", 1),
    ("before a lock", 2),
    ("before the removal", 1),
)


class Gap(World):
    """A node on which a container starts once, in one gap of a sweep, and loses its path.

    place, wanted: the gap, and the how manieth time a sweep comes by it; chain: where cni-reaper stands in that container's.
    """

    def __init__(self, place: str, wanted: int, chain: str, has_ns_id: bool) -> None:
        super().__init__(random.Random(1))
        self.star = False
        self.kernel.has_ns_id = has_ns_id
        self.place, self.wanted, self.chain = place, wanted, chain
        self.times = 0
        self.begun: Attached | None = None

    def _between(self, place: str) -> None:
        if self.quiet or place != self.place:
            return
        self.times += 1
        if self.times == self.wanted:
            self.quiet = True
            self.depth += 1
            self.begun = self.started(self.chain)
            self.depth -= 1
            self.begun.box.netns.threads.add(self.kernel.pid())
            self.kernel.umount(self.begun.box.path)

    def started(self, chain: str) -> Attached:
        """Start a container; its ADD stops before an interface has the address."""
        netns = self.kernel.create()
        self.serial += 1
        path = f"/run/netns/n{self.serial}"
        self.kernel.mount(netns, path)
        box = Box(f"{self.serial:064x}", "", netns, path, self.kernel.boots)
        self.boxes.append(box)
        attached = Attached(box, "alpha", "eth0", chain)
        flight = self._flight(attached)
        while not (attached.address and (self.data / "alpha" / attached.address).read_bytes()):
            next(flight)
        self.flights.append(flight)
        return attached


@pytest.mark.parametrize("has_ns_id", [True, False], ids=["with NS_GET_ID", "without"])
@pytest.mark.parametrize("chain", ["head", "none"])
@pytest.mark.parametrize(("place", "wanted"), GAPS)
def test_who_starts_in_a_gap_keeps_its_address(place: str, wanted: int, chain: str, has_ns_id: bool) -> None:
    """Whatever a sweep has read by then, and whatever it reads after."""
    world = Gap(place, wanted, chain, has_ns_id)
    try:
        world._end(world.started("head").box)  # so that there is something to reap
        world.quiet = False
        world.started("head")
        assert world.begun is not None, "the sweep has come by"
        world.check()
        for waited_s in (0, 11, 0):
            world.kernel.monotonic_s += waited_s
            world.started("head")
            world.check()
    finally:
        world.close()
