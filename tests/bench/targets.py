"""What the figures have to be: medians of ratios, round by round. `bench --check` says which are missed; no test does."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.bench.programs import OURS
from tests.bench.rows import (
    ADD,
    AT_ONCE,
    BARE,
    CHAIN,
    CHAIN_WITHOUT,
    COUNTED,
    DELETES,
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

MEGA = 1e6

Samples = dict[str, list[float]]


def paired(samples: Samples, reference: Samples, what: str = "wall_ms") -> float:
    """Return the median of the ratios of two rows of a group, each of one round."""
    return statistics.median(one / other for one, other in zip(samples[what], reference[what], strict=True))


@dataclass(frozen=True)
class Figures:
    """What a run has measured of one build; KeyError where it has not been measured.

    run: as in the JSON; build: as in CNI_PATH.
    """

    run: dict[str, Any]
    build: str

    def samples(self, group: str, row: str) -> Samples:
        """Return the samples of a row by its name."""
        found: Samples = self.run["groups"][group]["samples"][row]
        return found

    def ratio(self, group: str, row: str, other: str, what: str = "wall_ms") -> float:
        """Return how many times as much a row of the build takes as a row that has nothing to do with it."""
        return paired(self.samples(group, of_build(row, self.build)), self.samples(group, other), what)

    def longer_ms(self, group: str, row: str, other: str) -> float:
        """Return how much longer a row of the build takes than another of its rows, the median of the rounds."""
        one, than = (self.samples(group, of_build(name, self.build))["wall_ms"] for name in (row, other))
        return statistics.median(more - less for more, less in zip(one, than, strict=True))

    def staying(self, group: str, pods: int, times: int, what: str) -> float:
        """Return the largest ratio of an ADD, or so many at once, beside something that stays to the same on a healthy node."""
        rows = (staying(pods, kept, times) for kept in STAYS)
        return max(self.ratio(group, row, reference_of(group, row), what) for row in rows)

    def once(self, row: str, what: str) -> float:
        """Return a figure that needs no rounds."""
        found: float = self.run["once"][of_build(row, self.build)][what]
        return found

    def size_bytes(self) -> float:
        """Return the size of all files of the build."""
        size: float = self.run["size_bytes"][self.build]
        return size


@dataclass(frozen=True)
class Target:
    """One target. most: the most it may be."""

    name: str
    unit: str
    most: float
    figure: Callable[[Figures], float]

    def measured(self, run: dict[str, Any], build: str = OURS) -> float | None:
        """Return what was measured of a build, None where nothing was."""
        try:
            return self.figure(Figures(run, build))
        except KeyError:
            return None

    def text(self, figure: float | None) -> str:
        """Return a figure with its unit, "-" for none."""
        return "-" if figure is None else f"{figure:.3g} {self.unit}".rstrip()


TARGETS = (
    Target("VERSION / bare Python", "", 0.52, lambda of: of.ratio("starts", VERSION, BARE)),
    Target("ADD, 110 live / bare Python", "", 0.62, lambda of: of.ratio("starts", ADD, BARE)),
    Target("VERSION / Go loopback", "", 2.9, lambda of: of.ratio("starts", VERSION, LOOPBACK)),
    Target("user instructions, VERSION", "M", 13.5, lambda of: of.once(VERSION, "instructions") / MEGA),
    Target("user instructions, ADD, 110 live", "M", 17, lambda of: of.once(ADD, "instructions") / MEGA),
    Target("system calls of VERSION", "", 90, lambda of: of.once(VERSION, "system_calls")),
    Target("whole chain with / without, CPU", "", 1.11, lambda of: of.ratio("chain", CHAIN, CHAIN_WITHOUT, "cpu_ms")),
    Target("110 ADDs in parallel with / without", "", 1.15, lambda of: of.ratio("parallel", PARALLEL, PARALLEL_WITHOUT)),
    Target("ADD that reaps 254 / 254 x host-local DEL", "", 0.055, lambda of: of.ratio("reaps", REAPS_MOST, DELETES)),
    *(
        Target(f"what stays, {pods} live / healthy, CPU", "", 1.3, lambda of, pods=pods: of.staying("stays", pods, 1, "cpu_ms"))  # type: ignore[misc]  # mypy has no type for the default
        for pods in STAY_BESIDE
    ),
    Target(f"what stays, {AT_ONCE} ADDs at once / healthy", "", 1.5, lambda of: of.staying("at-once", PODS, AT_ONCE, "wall_ms")),
    Target("metricsFile on: ADD longer by", "ms", 0.3, lambda of: of.longer_ms("starts", COUNTED, ADD)),
    Target("peak RSS", "MB", 9, lambda of: max(of.once(row, "rss_kb") for row in (VERSION, ADD)) / 1024),
    Target("size of all files", "MB", 12, lambda of: of.size_bytes() / MEGA),
)
