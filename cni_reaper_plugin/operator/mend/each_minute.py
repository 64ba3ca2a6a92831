"""Mends at once and each minute, for a watcher that stays: see `mend`. The sweep and rich are loaded with the first time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

EVERY_S = 60.0
LEAST_S = 5.0  # a process may hold a file open for long

if TYPE_CHECKING:
    from collections.abc import Callable


class Mender:
    """Removes the broken files that keep pods from ending, and says what it did; what stays as it is, once.

    conf_dirs: where conflists are, [] for where the runtimes of this node look; say: takes a line.
    """

    def __init__(self, conf_dirs: list[str], say: Callable[[str], None]) -> None:
        self._conf_dirs = conf_dirs
        self._say = say
        self._next = time.monotonic()
        self._said: set[str] = set()

    def once(self) -> float:
        """Mend if it is time; return in how many seconds the next time is: EVERY_S, or when a file is old enough."""
        if time.monotonic() >= self._next:
            wait_s = self._mend()
            self._next = time.monotonic() + min(EVERY_S, max(LEAST_S, wait_s or EVERY_S))
        return max(0.0, self._next - time.monotonic())

    def _mend(self) -> float:
        """Mend, and return in how many seconds the last of the waiting files can be removed, 0 where none waits."""
        from cni_reaper_plugin.operator import terminal
        from cni_reaper_plugin.operator.mend import mend

        outcome = mend.once(self._conf_dirs)
        for line in mend.done(outcome):
            self._say(terminal.printable(line))
        stays = {*mend.waits(outcome), *outcome.notes, *outcome.problems}
        for line in sorted(stays - self._said):
            self._say(terminal.printable(line))
        self._said = stays
        return outcome.wait_s + mend.AGAIN_S if outcome.waiting else 0.0
