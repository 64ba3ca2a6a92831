"""What is remembered between two looks: which broken files were seen, since when they are the same, and where to go on.

`/run/cni-reaper/mend.json` is {bootID: str, clock: int, files: {"<dev>:<ino>": [ctime ns, size, seen since s, said]},
next: [path, ino], trouble: [str]}. Times are CLOCK_BOOTTIME's, which no change of the wall clock moves; `clock` is the time
namespace of who wrote them, since another one may have another CLOCK_BOOTTIME (time_namespaces(7)). Whatever is not as we write
it is forgotten.
"""

from __future__ import annotations

import posix
from typing import TYPE_CHECKING

import orjson

from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.system import boot, files

FILE = "mend.json"
MOST = 10_000  # files; what does not fit begins to wait again at the next look
_LIMIT = 1 << 22

if TYPE_CHECKING:
    Seen = tuple[int, int, float, bool]


class Noted:
    """What earlier looks of this boot have seen."""

    __slots__ = ("_begin", "_boot_id", "_clock", "_files", "_next", "_now_s", "_seen", "_told", "_trouble")

    def __init__(self) -> None:
        """Read it. Raises OSError where the boot or its clock cannot be told."""
        self._boot_id = boot.boot_id()
        self._now_s = boot.boottime_s()
        self._clock = _time_namespace()
        self._files: dict[str, Seen] = {}
        self._begin = ("", 0)
        self._next = ("", 0)
        self._seen: dict[str, Seen] = {}
        self._told: list[str] = []
        self._trouble: list[str] = []
        self._read()

    def same_for_s(self, about: posix.stat_result) -> float:
        """Return for how many seconds a broken file has had its inode, ctime and size, and note that it is seen."""
        key, now = _key(about), (about.st_ctime_ns, about.st_size)
        since_s, said = self._now_s, False
        before = self._files.get(key)
        if before is not None and before[:2] == now and before[2] <= self._now_s:
            since_s, said = before[2:]
        if len(self._seen) < MOST:
            self._seen[key] = (*now, since_s, said)
        return self._now_s - since_s

    def is_new(self, about: posix.stat_result) -> bool:
        """Tell whether this is asked for the first time about a file that was noted in `same_for_s`."""
        seen = self._seen.get(_key(about))
        if seen is None:
            return True
        self._seen[_key(about)] = (*seen[:3], True)
        return not seen[3]

    def is_new_trouble(self, words: str) -> bool:
        """Tell whether the last look had not this trouble, and note it."""
        self._trouble.append(ascii(words))
        return ascii(words) not in self._told

    def beginning(self, paths: list[str]) -> tuple[int, int]:
        """Return where this look begins: the number of the place, and the inode number in it."""
        known = [ascii(path) for path in paths]
        return (known.index(self._begin[0]), self._begin[1]) if self._begin[0] in known else (0, 0)

    def begin_with(self, path: str, ino: int = 0) -> None:
        """Note where the next look begins."""
        self._next = (ascii(path), ino)

    def save(self, is_whole: bool) -> None:
        """Write it; is_whole: what this look has not seen is gone. Raises OSError."""
        kept = self._seen if is_whole else {**self._files, **self._seen}
        if len(kept) > MOST:
            kept = self._seen
        noted = {"files": kept, "next": self._next, "trouble": self._trouble}
        files.replace_in(proven_views.RUN_DIR, FILE, orjson.dumps({"bootID": self._boot_id, "clock": self._clock, **noted}))

    def _read(self) -> None:
        try:
            noted = orjson.loads(files.read("%s/%s" % (proven_views.RUN_DIR, FILE), limit=_LIMIT, flags=posix.O_NOFOLLOW))
        except (OSError, ValueError):
            return
        if not isinstance(noted, dict) or (noted.get("bootID"), noted.get("clock")) != (self._boot_id, self._clock):
            return
        seen, begins, told = noted.get("files"), noted.get("next"), noted.get("trouble")
        if isinstance(seen, dict):
            self._files = {key: tuple(one) for key, one in seen.items() if _is_seen(one)}
        if isinstance(begins, list) and [type(part) for part in begins] == [str, int]:
            self._begin = (begins[0], begins[1])
        if isinstance(told, list):
            self._told = [words for words in told if isinstance(words, str)]


def _key(about: posix.stat_result) -> str:
    return "%d:%d" % (about.st_dev, about.st_ino)


def _is_seen(one: object) -> bool:
    if not isinstance(one, list) or len(one) != 4:
        return False
    return [type(part) for part in one[:2]] == [int, int] and type(one[2]) in (int, float) and type(one[3]) is bool


def _time_namespace() -> int:
    """Return the inode number of our time namespace, 0 on a kernel without (before 5.6)."""
    try:
        return posix.stat("/proc/self/ns/time").st_ino
    except OSError:
        return 0
