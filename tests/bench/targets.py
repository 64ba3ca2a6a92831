"""What the figures have to be: medians, as ratios of one run. `bench --check` says which are missed; no test does."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.rows import BARE, COUNTED, HUGE, NOTHING_TO_REAP, PARALLEL, REAPED

MEGA = 1e6


@dataclass
class Figures:
    """What one run has measured. median_ms, instructions (user), rss_kb: by the row's name; bundle_bytes: of all its files."""

    median_ms: dict[str, float]
    instructions: dict[str, int]
    rss_kb: dict[str, int]
    bundle_bytes: int

    def ratio(self, row: str, other: str) -> float:
        """Return how many times as long a row takes as another."""
        return self.median_ms[row] / self.median_ms[other]


@dataclass(frozen=True)
class Target:
    """One target. local, release: the most it may be, for the build with this machine's Python and for the release."""

    name: str
    unit: str
    local: float
    release: float
    figure: Callable[[Figures], float]


TARGETS = (
    Target("VERSION / bare interpreter", "", 1.0, 0.80, lambda run: run.ratio("VERSION", BARE)),
    Target("VERSION / Go loopback", "", 3.2, 2.5, lambda run: run.ratio("VERSION", "Go loopback VERSION")),
    Target(f"{NOTHING_TO_REAP} / bare interpreter", "", 1.15, 1.0, lambda run: run.ratio(NOTHING_TO_REAP, BARE)),
    Target("metricsFile on: longer by", "ms", 0.3, 0.3, lambda run: run.median_ms[COUNTED] - run.median_ms[NOTHING_TO_REAP]),
    Target("the same ADD, user instructions", "M", 26, 24, lambda run: run.instructions[NOTHING_TO_REAP] / MEGA),
    Target(
        f"ADD that reaps {REAPED[-1]} / ({REAPED[-1]} x host-local DEL)",
        "",
        1 / 40,
        1 / 40,
        lambda run: run.ratio(f"ADD that reaps {REAPED[-1]}", f"{REAPED[-1]} x host-local DEL"),
    ),
    Target(
        "whole chain with us / without",
        "",
        1.10,
        1.08,
        lambda run: run.ratio("the whole chain, with us", "the whole chain, without us"),
    ),
    Target(
        f"{PARALLEL} parallel ADDs with us / without",
        "",
        1.2,
        1.15,
        lambda run: run.ratio(f"{PARALLEL} ADDs in parallel, with us", f"{PARALLEL} ADDs in parallel, without us"),
    ),
    Target(
        f"{HUGE} reservations, one full sweep / time to read them all",
        "",
        1.5,
        1.2,
        lambda run: run.ratio(f"ADD, {HUGE} reservations, 1 % stale", f"read {HUGE} reservations"),
    ),
    Target("peak RSS", "MB", 9, 9, lambda run: max(run.rss_kb["VERSION"], run.rss_kb[NOTHING_TO_REAP]) / 1024),
    Target("bundle size", "MB", 13, 12, lambda run: run.bundle_bytes / MEGA),
)
