"""The proof in short: a walk that finds nothing, and mutations that a walk, or the unit tests, have to find."""

import random

import pytest

from tests.prove import model, mutations
from tests.prove.node_state import ViolationError
from tests.prove.world import World


def test_a_short_walk_finds_nothing() -> None:
    """Some thousand steps from a fixed seed: no live address freed, no leak left. `./build.sh prove` walks a million."""
    assert model.run(8_000, number=1) == ""


@pytest.mark.parametrize(
    "name",
    ["row 3 (netns_there)", "row 4 (netns_gone)", "netns first, reservations afterwards", "what is removed is not read again"],
)
def test_model_or_unit_tests_catch_mutation(name: str) -> None:
    """A product with a mutation is caught; all of them are tried by `./build.sh prove`."""
    (mutation,) = [one for one in mutations.MUTATIONS if name in one.name]
    caught = mutations.run(mutation, number=1)
    assert caught.by, caught.how


def test_every_mutation_fits() -> None:
    """Each mutation changes a piece of source that is there exactly once, and there are enough of them."""
    assert len(mutations.MUTATIONS) >= 25
    assert [one.name for one in mutations.MUTATIONS if not mutations.fits(one)] == []


def test_the_ledger_knows_who_lives() -> None:
    """A live owner's reservation that goes is a violation, whoever took it."""
    world = World(random.Random(3))
    try:
        while not any(one.up for one in world.ledger.values()):
            world.whole_add()
        world.check()
        for network, address in world.ledger:
            (world.data / network / address).unlink()
        with pytest.raises(ViolationError):
            world.check()
    finally:
        world.close()
