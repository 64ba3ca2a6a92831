"""The soak of tests.prove.soak in short; `./build.sh prove` runs ten thousand cycles."""

from collections.abc import Callable

from tests.prove import soak
from tests.support.node import Node


def test_thousand_cycles_lose_and_leave_nothing(node: Node, record_property: Callable[[str, object], None]) -> None:
    """No address is handed out twice, no live pod loses its own, and nothing is left of the dead."""
    said: list[str] = []
    counted = soak.run(node, 1000, number=1, say=said.append)
    record_property("soak cycles", counted.cycles)
    assert said == []
    assert counted.leaks_left == 0
    assert counted.reaped > soak.POOL, "without cni-reaper the pool would not have run out"
    assert min(counted.dels_lost, counted.adds_failed_halfway) > 10  # chance, from a fixed seed
    assert counted.reaper_killed, "no process was killed"  # by the clock: how many depends on the machine's speed
