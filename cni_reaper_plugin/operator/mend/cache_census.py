"""What is in libcni's caches and in the scratch directories of delegating plugins now. Reads only.

A file that is being written looks broken for a moment, so what looks so is read twice, a second apart.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cni_reaper_plugin.evidence import libcni_cache
from cni_reaper_plugin.mend.broken import Broken, cause_of
from cni_reaper_plugin.mend.places import LIBCNI, Place
from cni_reaper_plugin.model import GONE
from cni_reaper_plugin.namespaces import netns
from cni_reaper_plugin.system import files

AGAIN_S = 1.0
_LIMIT = 1 << 22  # bytes: the longest entry that evidence.libcni_cache reads

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator


@dataclass(frozen=True)
class Seen:
    """A broken file. since_s: seconds since the epoch, by its mtime, for people only."""

    file: Broken
    since_s: float

    @property
    def age_s(self) -> int:
        """For how many seconds it has been so, by the wall clock."""
        return max(0, int(time.time() - self.since_s))


@dataclass
class Census:
    """What is there.

    Attributes:
        broken: broken files, by their places.
        left: directory -> how many of its files are valid and belong to a container that does not live.
        trouble: what could not be read, a sentence each.
    """

    broken: list[Seen] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)


def broken(places: Iterable[Place], networks: Iterable[str]) -> Census:
    """Return the broken files and the trouble; `left` stays empty. networks: names that are known. Raises nothing."""
    census, known = Census(), list(networks)
    found = [one for place in places for one in _broken_in(place, known, census)]
    if not found:
        return census
    time.sleep(AGAIN_S)
    census.broken = [one for one, now in found if _state(one.file.path) == now]
    return census


def count_left(census: Census, places: Iterable[Place], networks: Iterable[str], living: Collection[str]) -> None:
    """Count the valid files whose container does not live, for `census.left`. Raises nothing.

    A container lives where a reservation of it is not STALE, or where the netns that its entry in libcni's cache names is there.
    An entry that names no netns counts as one of a living container.

    Args:
        census: what `broken` has found.
        places: as for `broken`.
        networks: as for `broken`.
        living: IDs of containers that have a reservation which is not STALE.
    """
    known, wrong, alive = list(networks), {one.file.path for one in census.broken}, {*living}
    ids: dict[str, list[str]] = {}  # of the valid files of a place
    for place in places:
        for name, named in _files(place, known, Census()):
            path = f"{place.path}/{name}"
            if path in wrong:
                alive.add(named[1])
                continue
            ids.setdefault(place.path, []).append(named[1])
            if place.kind == LIBCNI and not _is_over(place, named):
                alive.add(named[1])
    census.left = {path: count for path, theirs in ids.items() if (count := sum(one not in alive for one in theirs))}


def _is_over(place: Place, named: tuple[str, str, str]) -> bool:
    """Tell whether an entry of libcni's cache names a netns that is gone."""
    try:
        mapping = libcni_cache.read([place.path.rpartition("/")[0]], *named)
        return mapping is not None and netns.locate(mapping).now is None and mapping.state == GONE
    except OSError:
        return False


def _broken_in(place: Place, networks: list[str], census: Census) -> Iterator[tuple[Seen, tuple[int, int, int]]]:
    """Yield each broken file with its inode, ctime and size."""
    for name, named in _files(place, networks, census):
        path = f"{place.path}/{name}"
        state = _state(path)
        if state is None or state[2] > _LIMIT:
            continue
        try:
            data = files.read(path, limit=_LIMIT, flags=os.O_NOFOLLOW)
            since_s = os.lstat(path).st_mtime
        except FileNotFoundError:
            continue
        except OSError as e:
            census.trouble.append(f"{path} cannot be read: {e.strerror or e}")
            continue
        cause = cause_of(data)
        if cause:
            yield Seen(Broken(path, place.kind, named, len(data), cause), since_s), state


def _files(place: Place, networks: list[str], census: Census) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Yield the files of a place whose names are its writer's, sorted, with (network, container ID, ifname)."""
    try:
        fd = place.open()
        try:
            names = os.listdir(fd)
        finally:
            os.close(fd)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as e:
        census.trouble.append(f"{place.path} cannot be listed: {e.strerror or e}")
        return
    for name in sorted(names):
        named = place.named(name, networks)
        if named is not None:
            yield name, named


def _state(path: str) -> tuple[int, int, int] | None:
    """Return the inode, ctime and size of a regular file, None of anything else."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if stat.S_ISREG(found.st_mode):
            return found.st_ino, found.st_ctime_ns, found.st_size
    return None
