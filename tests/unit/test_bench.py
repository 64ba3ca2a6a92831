"""What the benchmark makes of its samples; no test depends on what it measures."""

import sys
from typing import Any

import pytest

from tests.bench.__main__ import compared, lines
from tests.bench.programs import BESIDE, OURS
from tests.bench.rows import (
    ADD,
    AT_ONCE,
    BARE,
    CHAIN,
    CHAIN_WITHOUT,
    COUNTED,
    DELETES,
    HEALTHY,
    LOOPBACK,
    PARALLEL,
    PARALLEL_WITHOUT,
    PODS,
    REAPS_MOST,
    STAY_BESIDE,
    STAYS,
    VERSION,
    of_build,
    reference_of,
    staying,
)
from tests.bench.stopwatch import AGAIN, WARM, Command, Row, in_turn
from tests.bench.targets import TARGETS, paired


def _samples(*wall_ms: float) -> dict[str, list[float]]:
    return {"wall_ms": list(wall_ms), "cpu_ms": list(wall_ms), "faults": [1.0] * len(wall_ms)}


def _run(beside: bool) -> dict[str, Any]:
    """Return a run in which all rows but the bare interpreter and the like take 1 ms."""
    groups = {
        "starts": [BARE, LOOPBACK, VERSION, ADD, COUNTED],
        "reaps": [DELETES, REAPS_MOST],
        "chain": [CHAIN_WITHOUT, CHAIN],
        "parallel": [PARALLEL_WITHOUT, PARALLEL],
        "stays": [staying(pods, what) for pods in STAY_BESIDE for what in (HEALTHY, *STAYS)],
        "at-once": [staying(PODS, what, AT_ONCE) for what in (HEALTHY, *STAYS)],
    }
    builds = [OURS, BESIDE] if beside else [OURS]
    rows = {name: {row: _samples(1, 1, 1) for row in group} for name, group in groups.items()}
    once = {BARE: _once()}
    for build in builds:
        rows["starts"] |= {of_build(row, build): _samples(1, 1, 1) for row in (VERSION, ADD)}
        once |= {of_build(row, build): _once() for row in (VERSION, ADD)}
    return {
        "versions": dict.fromkeys(builds, "cni-reaper 0"),
        "size_bytes": dict.fromkeys(builds, 1),
        "groups": {name: {"samples": group, "scheduling": "on CPU 0"} for name, group in rows.items()},
        "once": once,
    }


def _once() -> dict[str, float]:
    return {"instructions": 1e6, "system_calls": 50, "rss_kb": 1024}


def test_ratio_is_median_of_rounds_not_ratio_of_medians() -> None:
    """A round in which the machine was slow for both rows does not count twice."""
    assert paired(_samples(1, 10, 300), _samples(2, 10, 100)) == 1
    assert paired(_samples(5, 50, 500), _samples(10, 100, 1000)) == 0.5


def test_table_has_every_row_and_target() -> None:
    """Every row that was measured, of both builds, and every target is in the tables."""
    run = _run(beside=True)
    table, _ = compared(run)
    text = "\n".join(lines(run))
    for group in run["groups"].values():
        assert all(f"| {row} |" in text for row in group["samples"])
    assert all(f"| {target.name} |" in "\n".join(table) for target in TARGETS)
    assert len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize("beside", [False, True])
def test_missed_target_is_counted(beside: bool) -> None:
    """What the other build misses is not counted; a row that it has not is a dash."""
    run = _run(beside)
    run["once"][VERSION]["system_calls"] = 91
    if beside:
        run["once"][of_build(VERSION, BESIDE)]["instructions"] = 1e9
    table, missed = compared(run)
    over = [line.split(" | ")[0] for line in table if "missed" in line]
    assert "| system calls of VERSION" in over
    assert "| user instructions, VERSION" not in over
    assert len(over) == missed
    assert any(line.endswith("| - |") for line in table) == beside


def test_every_round_has_every_row_in_another_order() -> None:
    """The order comes from the seed; all rows have one sample of each round."""
    ran: list[str] = []

    def row(name: str) -> Row:
        return Row(name, lambda _: [Command([sys.executable, "-c", ""])], before=lambda _: ran.append(name))

    rows = [row(name) for name in "abcdef"]
    samples = in_turn(rows, 3, seed=1)
    rounds = [ran[start : start + 6] for start in range(0, len(ran), 6)]
    assert len(rounds) == 3 + WARM
    assert all(sorted(one) == list("abcdef") for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    assert {len(one.wall_ms) for one in samples.values()} == {3}


@pytest.mark.parametrize(("scans", "ran"), [(0, 1 + WARM), (1, 2 + WARM), (99, 2 * (AGAIN + 1))])
def test_round_that_does_not_count_is_taken_again(scans: int, ran: int) -> None:
    """What is left out has no sample, and what is done each time has one all the same."""
    left = [True] * scans
    began: list[int] = []
    nothing = [Command([sys.executable, "-c", ""])]
    row = Row("a", lambda _: nothing, before=began.append, again=lambda: bool(left) and left.pop())
    assert len(in_turn([row], 1, seed=1)["a"].wall_ms) == 1
    assert len(began) == ran


def test_what_stays_is_compared_with_the_same_on_a_healthy_node() -> None:
    """Each row of a number of pods with that number's."""
    assert reference_of("stays", staying(30, STAYS[0])) == staying(30, HEALTHY)
    assert reference_of("at-once", staying(PODS, STAYS[1], AT_ONCE)) == staying(PODS, HEALTHY, AT_ONCE)
    assert reference_of("starts", ADD) == BARE
