"""What is remembered from one sweep to the next: owners without a netns of their own, what stays for a reason that only a full
scan sees, and where a sweep was cut off.

`/run/cni-reaper/<key>.json` (see store_key), written by temporary file and rename:

    {bootID: str, view: [PID namespace, start of its PID 1], cursor: address or "", looked: s of the last full scan,
     netns: [[dev, ino, ctime, nsID, place], ...]    every netns that the looks name; place: a path that led to it
     looks: [[first seen, CLOCK_MONOTONIC s, [index of a netns, ...] or null where nobody looked for them], ...]
     seen: {address: [ino, ctime of the reservation's file, index of a look]},
     kept: {address: [ino, ctime of the reservation's file, record, CLOCK_MONOTONIC s, place or null]}}

A netns exists before its reservation does, so those that were visible and nobody else's when a reservation was first seen are
the only ones that can be its owner's. `kept` is what a full scan has found LIVE by something that stands at a place
(evidence.proof), or with dryRun STALE (null): for 10 s, and while that stands, no full scan is made for it. The file and the
owner's record must be the same.

Another boot's file, another PID namespace's, or one that is not what we write counts for nothing. Two processes that write at
once lose what one of them has learnt; the next look learns it again.
"""

from __future__ import annotations

import posix
from typing import TYPE_CHECKING

import orjson

from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.model import Netns, Reservation
from cni_reaper_plugin.reasons import PROVEN_BEFORE
from cni_reaper_plugin.scan_model import Place, Unclaimed, VisibleNetns
from cni_reaper_plugin.system import files

if TYPE_CHECKING:
    from collections.abc import Collection

    Kept = tuple[int, int, str, float, Place | None]  # inode, ctime, record, when, where that stands which keeps it
    Look = tuple[float, list[tuple[int, int, int, int, str]] | None]  # when, and (dev, ino, ctime, nsID, place) of each netns

LOOK_AGAIN_S = 10  # a netns that still stands can have become known as somebody else's, or have lost the address it showed
_LIMIT = 1 << 26
_MALFORMED = (AttributeError, KeyError, IndexError, OverflowError, TypeError, ValueError)


class Memory:
    """The memory of one network.

    Attributes:
        boot_id: of this boot.
        cursor: the address at which the next sweep begins, "" for the first.
        is_foreign: the file is of another PID namespace, and only a full scan in a proven view may overwrite it.
    """

    __slots__ = (
        "_changed",
        "_file",
        "_kept",
        "_looked_s",
        "_now_s",
        "_run_dir",
        "_seen",
        "_view",
        "boot_id",
        "cursor",
        "is_foreign",
    )

    def __init__(self, run_dir: str, key: str, boot_id: str, view: list[int]) -> None:
        """Read it.

        key: see store_key; view: see memory.proven_views.own_view, of which the PID namespace and the start of its PID 1 count.
        """
        self._run_dir = run_dir
        self._file = key + ".json"
        self.boot_id = boot_id
        self._view = [view[0], view[2]]
        self._now_s = self._looked_s = 0.0
        self._changed = False
        self._seen: dict[str, tuple[int, int, Look]] = {}
        self._kept: dict[str, Kept] = {}
        self.cursor = ""
        self.is_foreign = False
        try:
            self._read(files.read(run_dir + "/" + self._file, limit=_LIMIT, flags=posix.O_NOFOLLOW))
        except (OSError, *_MALFORMED):
            self._seen, self._kept = {}, {}

    def _read(self, raw: bytes) -> None:
        noted = orjson.loads(raw)
        if noted["bootID"] != self.boot_id:
            return
        self.is_foreign = noted["view"] != self._view
        if self.is_foreign:
            return
        netns = [(int(dev), int(ino), int(ctime), int(ns_id), str(place)) for dev, ino, ctime, ns_id, place in noted["netns"]]
        looks: list[Look] = [
            (float(when), None if indexes is None else [netns[index] for index in indexes]) for when, indexes in noted["looks"]
        ]
        self._seen = {str(address): (int(ino), int(ctime), looks[look]) for address, (ino, ctime, look) in noted["seen"].items()}
        for address, (ino, ctime, record, when, place) in noted.get("kept", {}).items():
            self._kept[str(address)] = (int(ino), int(ctime), str(record), float(when), _place(place))
        self.cursor, self._looked_s = str(noted["cursor"]), float(noted["looked"])

    def _clock_s(self) -> float:
        if not self._now_s:
            import time

            self._now_s = time.monotonic()
        return self._now_s

    def of(self, reservation: Reservation) -> Unclaimed | None:
        """Return what is remembered of this very file, None when nothing is."""
        ino, ctime, look = self._seen.get(reservation.address, _NOTHING)
        if (ino, ctime) != (reservation.ino, reservation.ctime):
            return None
        when_s, netns = look
        candidates = None if netns is None else [Netns(dev, number, when, ns_id) for dev, number, when, ns_id, _ in netns]
        return Unclaimed(self._clock_s() - when_s, candidates)

    def standing(self) -> dict[int, VisibleNetns] | None:
        """Return, by inode number, the remembered netns that still stand where they were seen.

        None when there are none, or when it is time for another full scan anyway.
        """
        if not self._seen or self._clock_s() - self._looked_s > LOOK_AGAIN_S:
            return None
        found: dict[int, VisibleNetns] = {}
        looked_at = set()
        for _, _, (_, netns) in self._seen.values():
            for dev, ino, ctime, ns_id, place in netns or ():
                if place and place not in looked_at:
                    looked_at.add(place)
                    try:
                        there = files.identity(place, files.HERE, files.UNASKED)
                    except (OSError, ValueError):
                        continue  # gone, or no path at all
                    if there[:2] == (dev, ino):  # perhaps another with its number: a full scan will tell
                        found[ino] = VisibleNetns(Netns(dev, ino, there[2], ns_id if there[2] == ctime else 0))
        return found or None

    def remember(self, reservations: list[Reservation], netns: list[VisibleNetns] | None) -> None:
        """Note reservations as first seen now, with the netns that can be their owners', None where nobody looked for them."""
        if reservations:
            self._changed = True
            look: Look = (self._clock_s(), None if netns is None else [_noted(one) for one in netns])
            for reservation in reservations:
                self._seen[reservation.address] = (reservation.ino, reservation.ctime, look)

    def forget(self, reservation: Reservation) -> None:
        """Forget a reservation whose owner has a netns after all."""
        self._changed = self._seen.pop(reservation.address, None) is not None or self._changed

    def keep_none(self) -> None:
        """Forget what was kept: a new full scan has found it all again, or not."""
        self._changed = self._changed or bool(self._kept)
        self._kept = {}

    def keep(self, reservation: Reservation, record: bytes, place: Place | None) -> None:
        """Note a reservation that a full scan has just found to stay. record: the owner's; place: None for dryRun's sake."""
        if place is None or place[0].isprintable():  # JSON takes no byte that is not UTF-8
            self._changed = True
            self._kept[reservation.address] = (reservation.ino, reservation.ctime, record.decode(), self._clock_s(), place)

    def keeps(self, reservation: Reservation, record: bytes, dry_run: bool) -> bool:
        """Tell whether a full scan found, LOOK_AGAIN_S ago at most, that this reservation stays, and its proof still stands."""
        kept = self._kept.get(reservation.address)
        if kept is None or kept[:3] != (reservation.ino, reservation.ctime, record.decode()):
            return False
        _, _, _, when_s, place = kept
        if not 0 <= self._clock_s() - when_s <= LOOK_AGAIN_S:
            return False
        return _stands(place) if place is not None else dry_run

    def tell_proof(self, reservation: Reservation, log: Log) -> bool:
        """Say why a reservation that `keeps` names stays without a full scan; False where it does for the sake of dryRun."""
        place = self._kept[reservation.address][4]
        if place is None:
            return False
        log.debug(
            "kept-live",
            network=reservation.network,
            address=reservation.address,
            container=reservation.container_id,
            reason=PROVEN_BEFORE.code,
            place=place[0],
        )
        return True

    def looked(self, addresses: Collection[str]) -> None:
        """Note a full scan, and forget the reservations that are gone: all whose address is not among these."""
        for address in [address for address in self._seen if address not in addresses]:
            del self._seen[address]
            self._changed = True
        if self._seen:
            self._looked_s = self._clock_s()
            self._changed = True

    def begin_at(self, address: str) -> None:
        """Let the next sweep begin at an address; "" for the first."""
        self._changed = self._changed or address != self.cursor
        self.cursor = address

    def save(self, log: Log, closely: bool = False) -> None:
        """Write what has changed; trouble is logged. closely: after a full scan in a proven view."""
        if not self._changed or (self.is_foreign and not closely):
            return
        try:
            files.replace_in(self._run_dir, self._file, self._encoded())
        except (OSError, TypeError) as e:
            log.warning("not-remembered", reason="owners without a netns are waited for in vain: %s" % e)

    def _encoded(self) -> bytes:
        netns: dict[tuple[int, int, int, int, str], int] = {}
        looks: dict[int, int] = {}
        written: list[tuple[float, list[int] | None]] = []
        seen = {}
        for address, (ino, ctime, look) in self._seen.items():
            if id(look) not in looks:
                looks[id(look)] = len(written)
                indexes = None if look[1] is None else [netns.setdefault(one, len(netns)) for one in look[1]]
                written.append((look[0], indexes))
            seen[address] = (ino, ctime, looks[id(look)])
        noted = {"bootID": self.boot_id, "view": self._view, "cursor": self.cursor, "looked": self._looked_s, "kept": self._kept}
        return orjson.dumps({**noted, "netns": list(netns), "looks": written, "seen": seen})


def _stands(place: Place) -> bool:
    """Tell whether what was at a place still is. Nothing but the kernel is asked."""
    path, *was = place
    try:
        now = files.identity(path, files.HERE, files.UNASKED)
    except (OSError, ValueError):
        return False
    return list(now) == was if was[2] else list(now[:2]) == was[:2]


def _place(noted: list[object] | None) -> Place | None:
    """Read a place. Raises as what is no place does."""
    if noted is None:
        return None
    path, dev, ino, ctime = noted
    return str(path), int(str(dev)), int(str(ino)), int(str(ctime))


def _noted(seen: VisibleNetns) -> tuple[int, int, int, int, str]:
    place = seen.place if seen.place.isprintable() else ""  # JSON takes no byte that is not UTF-8
    return seen.netns.dev, seen.netns.ino, seen.netns.ctime, seen.netns.ns_id, place


_NOTHING: tuple[int, int, Look] = (0, 0, (0.0, None))
