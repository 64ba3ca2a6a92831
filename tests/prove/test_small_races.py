"""Races that the small world has found, each again in every order of the system calls."""

import pytest

from tests.prove.small_files import installed
from tests.prove.small_world import ROOTS, Exploration, Small


@pytest.mark.parametrize("root", ROOTS[:10:5], ids=lambda root: root.name)
def test_gc_list_older_than_an_add_loses_no_record(root: object) -> None:
    """GC marks the record of a container's last life while its next one's ADD writes a new one: that is not lost."""
    with installed() as seat:
        (begin,) = [one for one in ROOTS if one == root]
        world = Small(begin, seat)
        exploration = Exploration(world)
        exploration.go_through(world.event(world.event(world.begin(), "GC with a list"), "A starts"))
    assert exploration.done.broken == ""
    assert exploration.done.states > 10_000
