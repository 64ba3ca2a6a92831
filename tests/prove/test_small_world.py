"""The small world in short: a few events deep. `./build.sh prove` explores it for ten minutes."""

from typing import Any

import pytest

from cni_reaper_plugin.reaper import decision
from tests.prove import mutations, small_world
from tests.prove.small_files import Broken, Machine, installed
from tests.prove.small_world import ORDERS, ROOTS, Small, explore

LONG_S = 36_000.0  # never over: a test goes so deep, however slow the machine is


def test_two_events_break_no_promise() -> None:
    """From every begin, with one thing in between at any moment: no live address is freed, no leak is left."""
    found = explore(LONG_S, depth=2, orders=ORDERS[:2])
    assert [one.broken for one in found] == [""] * 2 * len(ROOTS)
    assert {one.depth for one in found} == {2}
    assert sum(one.states for one in found) > 100_000


def test_two_calls_in_every_order_break_no_promise() -> None:
    """An old node and one event, and then a pod's ADD beside what that began: each order of their system calls."""
    (found,) = explore(LONG_S, depth=1, orders=ORDERS[2:], roots=ROOTS[1:2])
    assert (found.broken, found.depth) == ("", 1)
    with installed() as seat:
        world = Small(ROOTS[0], seat)
        state = world.event(world.event(world.begin(), "B starts"), "A starts")
        one = small_world.Exploration(world)
        one.go_through(state)
    assert one.done.broken == ""
    assert one.done.states > 5_000


def test_exploration_is_the_same_each_time() -> None:
    """The same states by the same steps."""
    first, second = (explore(LONG_S, depth=1, orders=ORDERS[1:2], roots=ROOTS[:2]) for _ in range(2))
    assert [(one.states, one.transitions) for one in first] == [(one.states, one.transitions) for one in second]


def test_what_is_looked_up_is_what_the_plugin_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world that runs the plugin anew for each part of a call has the same states."""
    (quick,) = explore(LONG_S, depth=1, orders=ORDERS[1:2], roots=ROOTS[:1])
    machine = Small.machine

    def forgetful(self: Small, *arguments: Any) -> Machine:
        self.table.clear()
        return machine(self, *arguments)

    monkeypatch.setattr(Small, "machine", forgetful)
    (slow,) = explore(LONG_S, depth=1, orders=ORDERS[1:2], roots=ROOTS[:1])
    assert (slow.states, slow.transitions) == (quick.states, quick.transitions)


def test_a_way_to_what_is_broken_can_be_gone_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends where it ended, and names each step."""
    monkeypatch.setattr(decision, "ROWS", tuple(row for row in decision.ROWS if row[0] != 4))
    (found,) = [one for one in explore(LONG_S, depth=2) if one.broken]
    assert "is still there: its netns is gone and its record says so" in found.broken
    assert small_world.again(small_world.FILE) == found.broken
    assert "B goes on" in capsys.readouterr().out


def test_who_lives_keeps_its_address() -> None:
    """A live owner's reservation that goes is a broken promise, whoever took it."""
    with installed() as seat:
        world = Small(ROOTS[2], seat)  # A lives
        state = world.begin()
        world.check(state)
        gone = {path: number for path, number in state.files.items() if not path.endswith(small_world.ADDRESSES[0])}
        with pytest.raises(Broken):
            world.check(state._replace(files=gone))


@pytest.mark.parametrize("name", mutations.IN_THE_SMALL_WORLD)
def test_exploration_catches_mutation(name: str) -> None:
    """A product with a mutation is caught; all of them are tried by `./build.sh prove`."""
    (mutation,) = [one for one in mutations.MUTATIONS if name in one.name]
    caught = mutations.run_small(mutation, minutes=LONG_S, depth=2)
    assert caught.by == "small world", caught.how


def test_a_defect_is_no_broken_promise() -> None:
    """Where the small world lacks a system call of the product, nothing runs in it, and so it catches nothing."""
    row = "    for number, row in ROWS:\n"
    mutation = mutations.Mutation("a judge that fails", "reaper/decision.py", row, "    raise LookupError\n" + row)
    assert mutations.run_small(mutation, minutes=LONG_S, depth=1).by == "small world (crash)"
