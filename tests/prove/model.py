"""The model as a Hypothesis state machine: it chooses the steps and all chance in them, and makes a failing walk short."""

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.prove.node_state import STATISTICS, Statistics, ViolationError
from tests.prove.world import World, count_rows, steps

WALK = 100  # steps of one walk
WALKS = Path(".build/walks")  # where a walk that broke a promise is kept, to be walked again
CHANCE = st.integers(0, 2**32 - 1)
ALL = [name for name, times in steps().items() for _ in range(times)]


class Node(RuleBasedStateMachine):
    """One walk. Every step takes its chance from Hypothesis."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None
        self.walk: list[tuple[str, int]] = []

    @initialize(chance=CHANCE)
    def start(self, chance: int) -> None:
        """A new node."""
        self.walk.append(("", chance))
        self.world = World(random.Random(chance))

    @rule(name=st.sampled_from(ALL), chance=CHANCE)
    def step(self, name: str, chance: int) -> None:
        """One step of any kind."""
        assert self.world is not None
        self.world.random = random.Random(chance)
        self.walk.append((name, chance))
        try:
            self.world.step(name)
        except ViolationError as e:
            WALKS.mkdir(parents=True, exist_ok=True)
            file = WALKS / f"{self.walk[0][1]}.json"
            file.write_text(json.dumps(self.walk))
            message = f"{e}; to walk it again: python -m tests.prove.model again {file}"
            raise ViolationError(message) from None
        PROGRESS(sum(STATISTICS.steps.values()))

    def teardown(self) -> None:
        """The node's files go."""
        if self.world is not None:
            self.world.close()


PROGRESS: Callable[[int], Any] = lambda _: None  # noqa: E731  replaced by those who want to see it


def run(wanted: int, number: int, shrink: bool = True, say: Callable[[str], None] | None = None) -> str:
    """Walk at least `wanted` steps from a seed; return "" or what was violated. shrink: make a failing walk short first."""
    global PROGRESS
    begun = time.monotonic()
    last = [begun]

    def progress(taken: int) -> None:
        if say is not None and time.monotonic() - last[0] > 60:
            last[0] = time.monotonic()
            say(f"{taken} steps, {taken / (last[0] - begun):.0f} a second")

    PROGRESS = progress
    phases = [Phase.generate, *([Phase.shrink] if shrink else [])]
    turn = 0
    while sum(STATISTICS.steps.values()) < wanted:
        left = wanted - sum(STATISTICS.steps.values())
        machine = seed(number + turn)(type("Seeded", (Node,), {}))
        turn += 1
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=max(1, min(1000, left // WALK + 1)),
                    stateful_step_count=WALK,
                    deadline=None,
                    database=None,
                    phases=phases,
                    suppress_health_check=list(HealthCheck),
                    print_blob=False,
                    report_multiple_bugs=False,
                ),
            )
        except ViolationError as e:
            return f"seed {number + turn - 1}: {e}"
    return ""


def walk_alone(wanted: int, number: int) -> tuple[str, Statistics]:
    """Walk in a process of its own; return what was violated, and what was done."""
    count_rows()
    found = run(wanted, number, shrink=False, say=lambda text: print(f"  seed {number}: {text}", flush=True))
    if found:
        print(found, flush=True)  # the other processes may walk on for half an hour
    return found, STATISTICS


def again(file: str) -> None:
    """Take the steps of a walk that was kept once more, and name each."""
    (_, chance), *walk = json.loads(Path(file).read_text())
    world = World(random.Random(chance))
    try:
        for number, (name, then) in enumerate(walk):
            print(number, name, flush=True)
            world.random = random.Random(then)
            world.step(name)
    finally:
        world.close()


def main() -> int:
    """Walk as many steps as the first argument says, from the seed of the second, for mutations; or `again`, and a file."""
    if sys.argv[1] == "again":
        again(sys.argv[2])
        return 0
    wanted, number = int(sys.argv[1]), int(sys.argv[2])
    count_rows()
    found = run(wanted, number, shrink=False)
    print(found.replace("\n", " ")[:400] if found else f"no violation in {sum(STATISTICS.steps.values())} steps")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
