"""How long a sweep has run: wall and CPU time, without the `time` module on the hot path.

times(2) counts both in ticks of 10 ms, which is fine enough for limits of half a second and more.
"""

import posix

TICKS_A_SECOND = posix.sysconf("SC_CLK_TCK")


def ticks() -> int:
    """Return a number that is another one every 10 ms; it means nothing else."""
    return int(posix.times().elapsed * TICKS_A_SECOND)


class Budget:
    """The time one call may spend on reaping.

    wall_s: seconds since the start of the call in which every wait must end; cpu_ms: CPU time of one sweep.
    """

    __slots__ = ("_cpu_s", "_cpu_start", "_end", "_wall_s")

    def __init__(self, wall_s: float, cpu_ms: int) -> None:
        now = posix.times()
        self._wall_s = wall_s
        self._end = now.elapsed + wall_s
        self._cpu_s = cpu_ms / 1000
        self._cpu_start = now.user + now.system

    def next_sweep(self) -> None:
        """Give the next sweep of this call its own CPU budget; the wall limit stays that of the call."""
        now = posix.times()
        self._cpu_start = now.user + now.system

    def wall_left_s(self) -> float:
        """Return how many seconds may still be waited, never below 0."""
        return max(0.0, self._end - posix.times().elapsed)

    def spent(self, share: float = 1) -> bool:
        """Tell whether the sweep has used up this share of its CPU time, or the call this share of its wall time."""
        now = posix.times()
        late = now.elapsed > self._end - (1 - share) * self._wall_s
        return late or now.user + now.system > self._cpu_start + share * self._cpu_s
