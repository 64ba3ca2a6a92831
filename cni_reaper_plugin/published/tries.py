"""What could not be taken back a moment ago: remembered, so that not every pod's start waits for it again.

`/run/cni-reaper/<key>.published` (see store_key): {bootID: str, tries: {address: [ino, ctime of the reservation's file,
CLOCK_BOOTTIME s of the next try, why]}}, written by temporary file and rename. Remembering can only keep. Where it cannot be
written each call tries.
"""

from __future__ import annotations

import posix
from typing import TYPE_CHECKING

import orjson

from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.system import boot, files

AGAIN_S = 10.0
AGAIN_AFTER_HANGING_S = 60.0  # each try makes a pod wait for seconds
_FORGOTTEN_S = 86400.0
_LIMIT = 1 << 22

if TYPE_CHECKING:
    from cni_reaper_plugin.model import Reservation

    Tries = dict[str, tuple[int, int, float, str]]


class Tried:
    """What was tried for the reservations of a network."""

    __slots__ = ("_name", "_now_s", "_tries")

    def __init__(self, key: str) -> None:
        """Read it. key: see store_key. What is malformed, or of another boot, says nothing. Raises OSError."""
        self._name = key + ".published"
        self._now_s = boot.boottime_s()
        self._tries: Tries = {}
        try:
            noted = orjson.loads(files.read("%s/%s" % (proven_views.RUN_DIR, self._name), limit=_LIMIT, flags=posix.O_NOFOLLOW))
            if noted["bootID"] == boot.boot_id():
                self._tries = {
                    str(address): (int(ino), int(ctime), float(when_s), str(why))
                    for address, (ino, ctime, when_s, why) in noted["tries"].items()
                }
        except (OSError, AttributeError, KeyError, OverflowError, TypeError, ValueError):
            self._tries = {}

    def knows(self, reservation: Reservation) -> bool:
        """Tell whether something was tried for this very file."""
        return self._tries.get(reservation.address, (0, 0))[:2] == (reservation.ino, reservation.ctime)

    def waits(self, reservation: Reservation) -> str:
        """Return why a reservation that was tried a moment ago stays, "" where it is to be tried."""
        if not self.knows(reservation):
            return ""
        _, _, again_s, why = self._tries[reservation.address]
        return why if 0 < again_s - self._now_s <= AGAIN_AFTER_HANGING_S else ""

    def note(self, stays: list[tuple[Reservation, str, float]], done: list[Reservation]) -> None:
        """Note what was tried just now, why it stays and for how many seconds it need not be tried again. Raises nothing.

        done: what may be freed now. The first time the next call tries again, unless a program did not end: it may have been a
        moment's trouble.
        """
        before = dict(self._tries)
        for one in done:
            self._tries.pop(one.address, None)
        for one, why, wait_s in stays:
            again_s = self._now_s + wait_s if self.knows(one) or wait_s > AGAIN_S else self._now_s
            self._tries[one.address] = (one.ino, one.ctime, again_s, why)
        if self._tries == before:
            return
        self._tries = {address: one for address, one in self._tries.items() if one[2] > self._now_s - _FORGOTTEN_S}
        try:
            files.replace_in(proven_views.RUN_DIR, self._name, orjson.dumps({"bootID": boot.boot_id(), "tries": self._tries}))
        except (OSError, TypeError):
            return
