"""Walks on the real kernel in short; `./build.sh prove` takes a hundred."""

from collections.abc import Callable

import pytest

from tests.prove import kernel_walk
from tests.prove.kernel_walk import ViolationError, Walk
from tests.support.cni_calls import reaper
from tests.support.node import Node


def test_walk_keeps_the_living_and_frees_leaks(node: Node, record_property: Callable[[str, object], None]) -> None:
    """Two hundred steps from a fixed seed: who lives keeps its address, and the next ADD frees what nobody has."""
    counted = Walk(node, 1).run()
    record_property("leaks freed", counted["leaks freed"])
    assert counted["leaks freed"] > 20
    assert counted["lose_path"] > 5


def test_walk_notices_a_live_address_that_goes(node: Node) -> None:
    """Whoever takes it."""
    walk = Walk(node, 2)
    walk._add("bridged", 1, far=3)
    (owner,) = walk.owners
    node.path(f"/var/lib/cni/networks/bridged/{owner.reserved}").unlink()
    with pytest.raises(ViolationError, match="lives, and its address is reserved for None"):
        walk._add("routed", 1, far=1)


def test_walk_notices_a_leak_that_stays(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ADD that frees nothing is a broken promise."""
    monkeypatch.setattr(kernel_walk, "reaper", lambda: reaper(reapOn=[]))
    walk = Walk(node, 3)
    walk._add("bridged", 1, far=3)
    walk._end(walk.owners[0].space)
    with pytest.raises(ViolationError, match="has no netns, and is still reserved"):
        walk._add("bridged", 1, far=3)


def test_walk_notices_an_address_given_twice(node: Node) -> None:
    """A live pod's reservation goes behind the walk's back, and host-local gives its address to the next one."""
    walk = Walk(node, 4)
    walk._add("bridged", 1, far=3)
    (owner,) = walk.owners
    for name in (owner.reserved, "last_reserved_ip.0"):
        node.path(f"/var/lib/cni/networks/bridged/{name}").unlink()
    walk._see = lambda *_: None  # type: ignore[method-assign]  # it would notice what is gone before host-local is asked
    with pytest.raises(ViolationError, match="was given to"):
        walk._add("bridged", 1, far=3)
