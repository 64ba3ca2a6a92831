"""Owners that an earlier ADD found LIVE: each costs one look at the path of its netns, not the reading of two files.

`/run/cni-reaper/<key>.live` (see store_key) is JSON {bootID: str, live: {address: [ino, ctime, path, dev, ino, ctime]}}: of the
reservation's file, and of the netns at a path. While both are there as they were, the owner is LIVE, as by row 3. This can
only keep an address: whatever has changed, or was never noted, is judged as ever.
"""

from __future__ import annotations

import posix
from typing import TYPE_CHECKING

import orjson

from cni_reaper_plugin.model import Mapping, Reservation
from cni_reaper_plugin.system import files

MORE = 8  # new owners that are worth writing the file again

if TYPE_CHECKING:
    from collections.abc import Callable

    Standing = dict[str, list[object]]  # address -> [ino and ctime of the reservation, path, dev, ino, ctime]


def still(run_dir: str, key: str, boot_id: str, identity: Callable[[str], tuple[int, int]]) -> Standing:
    """Return what is noted of the reservations whose file is the same and whose netns still stands where it stood.

    identity: returns a reservation's (ino, ctime) now. Raises OSError when that does.
    """
    try:
        noted = orjson.loads(files.read("%s/%s.live" % (run_dir, key), limit=1 << 26, flags=posix.O_NOFOLLOW))
        live = noted["live"].items() if noted["bootID"] == boot_id else ()
    except (OSError, orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return {}
    found = {}
    for address, one in live:
        try:
            ino, ctime, path, dev, netns_ino, netns_ctime = one
            stands = files.identity(path, files.HERE, 0) == (dev, netns_ino, netns_ctime)
        except (OSError, TypeError, ValueError):
            continue
        if stands and "/" not in address and identity(address) == (ino, ctime):
            found[address] = one
    return found


def entry(reservation: Reservation, mapping: Mapping | None) -> list[object] | None:
    """Return what is to be noted of an owner whose mapped netns stands, None where its path may be another's any time."""
    if mapping is None or mapping.now is None or mapping.of_process:
        return None
    return [reservation.ino, reservation.ctime, mapping.path, mapping.now.dev, mapping.now.ino, mapping.now.ctime]


def note(run_dir: str, key: str, boot_id: str, standing: Standing) -> None:
    """Write the file anew. Raises OSError, and TypeError for a path that is not UTF-8."""
    files.replace_in(run_dir, key + ".live", orjson.dumps({"bootID": boot_id, "live": standing}))
