"""One look at all places: which files are broken, which of them may be removed, and removes these. docs/evidence.md has the rule.

No judgement about life is in it: a broken file helps no verb, whoever owns it. What is judged is only whether a process may be
writing it just now, since libcni and the plugins truncate a file and write it after that.
"""

from __future__ import annotations

import fcntl
import posix
from typing import TYPE_CHECKING

from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.mend import removal
from cni_reaper_plugin.mend.broken import Broken, cause_of
from cni_reaper_plugin.mend.noted import Noted
from cni_reaper_plugin.mend.places import Place
from cni_reaper_plugin.system import files, flock
from cni_reaper_plugin.system import network_file_system as file_systems
from cni_reaper_plugin.system.clock import Budget

OLD_S = 30
"""For how long nothing may have been written to a broken file before it is removed."""
LARGEST = 1 << 20
"""Bytes; a larger file is not read and not judged. libcni's have some thousand."""
LOCK = "mend.lock"

_READ = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK | posix.O_NOFOLLOW | posix.O_NOCTTY
_MOST_NAMES = 1 << 18  # of one directory; what is behind them is not seen
_MOST_TROUBLE = 20  # that one look tells of
_ALL = 1 << 64  # above each inode number

if TYPE_CHECKING:
    from collections.abc import Iterable


class Result:
    """What a look has found.

    Attributes:
        removed: broken files that are gone, or with dry_run would be.
        waiting: those that have changed less than OLD_S ago, or that a process may be writing, with `reason` and `wait_s`.
        kept: those that could not be removed, with `reason`.
        trouble: what could not be read, in words.
        checked: how many files were read.
        is_whole: False where time was up, or another process is looking.
    """

    __slots__ = ("checked", "is_whole", "kept", "removed", "trouble", "waiting")

    def __init__(self) -> None:
        self.removed: list[Broken] = []
        self.waiting: list[Broken] = []
        self.kept: list[Broken] = []
        self.trouble: list[str] = []
        self.checked = 0
        self.is_whole = True


def look(
    places: Iterable[Place],
    log: Log,
    *,
    dry_run: bool,
    budget: Budget | None = None,
    networks: Iterable[str] = (),
    lock_wait_s: float = 0.0,
) -> Result:
    """Look at all places once; remove what is broken and was not written to for OLD_S.

    Args:
        places: where to look.
        log: for its events.
        dry_run: remove nothing, say what would be.
        budget: of the whole look, None for no limit.
        networks: names that are known, see Place.named.
        lock_wait_s: how long to wait while another process looks.

    Raises:
        OSError: /proc cannot be read.
    """
    result = Result()
    lock = _opened_lock()
    try:
        if lock >= 0 and not flock.take(lock, fcntl.LOCK_EX, lock_wait_s):
            result.is_whole = False
            return result
        one = _Look(log, result, dry_run, budget, list(networks))
        one.at_all(list(places))
    finally:
        if lock >= 0:
            posix.close(lock)
    return result


def _opened_lock() -> int:
    """Return the lock's descriptor, -1 where there can be none. It is there so that not all look at once, not for safety."""
    try:
        files.make_directory(proven_views.RUN_DIR, 0o700)
        return flock.open_lock("%s/%s" % (proven_views.RUN_DIR, LOCK), 0o600)
    except OSError:
        return -1


class _Look:
    """A look that is going on."""

    __slots__ = ("_budget", "_dry_run", "_log", "_moved", "_networks", "_noted", "_removal", "_result")

    def __init__(self, log: Log, result: Result, dry_run: bool, budget: Budget | None, networks: list[str]) -> None:
        self._log = log
        self._result = result
        self._dry_run = dry_run
        self._budget = budget
        self._networks = networks
        self._noted = Noted()
        self._removal = removal.Removal(-1)
        self._moved: list[tuple[Broken, posix.stat_result]] = []

    def at_all(self, places: list[Place]) -> None:
        """Look at each place, beginning where the last look was cut; then say what could not be read, and note what was seen."""
        number, begin = self._noted.beginning([place.path for place in places])
        parts = [(place, 0, _ALL) for place in places[number:] + places[:number]]
        if begin:
            parts = [(places[number], begin, _ALL), *parts[1:], (places[number], 0, begin)]
        for place, since, below in parts:
            self._at(place, since, below)
            if not self._result.is_whole:
                break
        for trouble in self._result.trouble:
            (self._log.warning if self._noted.is_new_trouble(trouble) else self._log.debug)("cache-not-read", reason=trouble)
        try:
            self._noted.save(self._result.is_whole)
        except OSError as e:
            self._log.debug("cache-not-noted", reason=str(e))

    def _at(self, place: Place, since: int, below: int) -> None:
        """Look at the files of one place whose inode numbers are in a range; what goes wrong is noted as trouble."""
        if self._result.checked and self._is_late():
            self._cut(place, since)
            return
        try:
            directory = place.open()
        except FileNotFoundError:
            return
        except NotADirectoryError:
            self._trouble("%s is a symlink or no directory; it is not followed" % place.path)
            return
        except OSError as e:
            self._trouble("%s cannot be opened: %s" % (place.path, e.strerror))
            return
        try:
            self._inside(place, directory, since, below)
        except OSError as e:
            self._trouble("%s cannot be read: %s" % (place.path, e.strerror))
        finally:
            posix.close(directory)

    def _inside(self, place: Place, directory: int, since: int, below: int) -> None:
        """Look at the files of a place, in the order of their inode numbers. Raises OSError.

        The directory is locked, so that what this look moves aside is not what another one finds left behind; a process with
        another /run may be looking. No writer takes this lock.
        """
        if not flock.take(directory, fcntl.LOCK_EX, 0):
            self._cut(place, since)
            return
        found = sorted(one for one in self._regular(place, directory) if since <= one[0] < below)
        if self._budget is not None:
            self._budget.next_sweep()  # a list of 200,000 names may have taken all of it, and one file a look is none
        shared = bool(found) and bool(file_systems.name("/proc/self/fd/%d" % directory))
        with removal.Removal(directory) as self._removal:
            for number, (ino, name) in enumerate(found):
                if number and self._is_late():
                    self._cut(place, ino)
                    break
                try:
                    self._file(place, directory, name, shared)
                except OSError as e:
                    self._trouble("%s/%s: %s" % (place.path, name, e.strerror))
                if self._removal.is_full:
                    self._finish()
            self._finish()

    def _regular(self, place: Place, directory: int) -> list[tuple[int, str]]:
        """Return (inode number, name) of the regular files of a place. Raises OSError."""
        found = []
        with posix.scandir(directory) as entries:
            for number, entry in enumerate(entries):
                if number == _MOST_NAMES:
                    self._trouble("%s has more than %d entries; not all are looked at" % (place.path, number))
                    break
                if entry.is_file(follow_symlinks=False):
                    found.append((entry.inode(), entry.name))
        return found

    def _file(self, place: Place, directory: int, name: str, shared: bool) -> None:
        """Judge one file, and remove it if it is broken and may be. Raises OSError.

        shared: it is on a file system whose files another clock stamps. What an earlier look has moved aside that was killed
        then is put back before, to be judged as any other.
        """
        own_name = removal.own_name(name)
        aside = own_name != name
        named = place.named(own_name, self._networks)
        if named is None:
            return
        if aside and not self._dry_run:
            removal.put_back(directory, name)
            name = own_name
        try:
            fd = posix.open(name, _READ, dir_fd=directory)
        except FileNotFoundError:
            return
        try:
            judged = posix.fstat(fd)
            if not files.is_regular(judged) or judged.st_size > LARGEST:
                return
            cause = _cause(fd, name)
            self._result.checked += 1
            if cause:
                found = Broken("%s/%s" % (place.path, name), place.kind, named, judged.st_size, cause)
                self._judge(found, name, fd, judged, shared)
        finally:
            posix.close(fd)

    def _judge(self, found: Broken, name: str, fd: int, judged: posix.stat_result, shared: bool) -> None:
        """Remove a broken file, or say why it has to wait or stays. Raises OSError."""
        same_for_s = self._noted.same_for_s(judged)
        writer = removal.may_be_written(fd) if not shared else None
        found.wait_s = OLD_S - same_for_s
        if writer is False:  # else the clock alone is not enough: it can have been set while the file was being written
            found.wait_s = min(found.wait_s, OLD_S - _age_s(judged))
        if writer or found.wait_s > 0:
            found.wait_s = max(found.wait_s, 1.0)
            found.reason = "a process has it open for writing" if writer else "it was written less than %d s ago" % OLD_S
            self._result.waiting.append(found)
            self._log.debug("cache-waits", **found.fields(), reason=found.reason)
        elif self._dry_run:
            self._result.removed.append(found)
            (self._log.info if self._noted.is_new(judged) else self._log.debug)("would-remove", **found.fields())
        else:
            self._remove(found, name, fd, judged)

    def _remove(self, found: Broken, name: str, fd: int, judged: posix.stat_result) -> None:
        try:
            if self._removal.move(name, fd, judged):
                self._moved.append((found, judged))
        except OSError as e:
            self._keep(found, judged, e)

    def _finish(self) -> None:
        """Remove what was moved aside, and say what became of it."""
        for (found, judged), told in zip(self._moved, self._removal.finish(), strict=True):
            if isinstance(told, OSError):
                self._keep(found, judged, told)
            elif told:
                self._result.removed.append(found)
                self._log.info("cache-removed", **found.fields())
        self._moved.clear()

    def _keep(self, found: Broken, judged: posix.stat_result, error: OSError) -> None:
        found.reason = error.strerror or str(error)
        self._result.kept.append(found)
        level = self._log.warning if self._noted.is_new(judged) else self._log.debug
        level("cache-not-removed", **found.fields(), reason=found.reason)

    def _cut(self, place: Place, ino: int = 0) -> None:
        """End the look for now; the next one begins here."""
        self._result.is_whole = False
        self._noted.begin_with(place.path, ino)

    def _trouble(self, words: str) -> None:
        if len(self._result.trouble) < _MOST_TROUBLE:
            self._result.trouble.append(words)

    def _is_late(self) -> bool:
        return self._budget is not None and self._budget.spent()


def _age_s(about: posix.stat_result) -> float:
    """Return how many seconds ago a file's inode was last changed, below 0 where that lies in the future.

    The kernel stamps ctime with CLOCK_REALTIME (ktime_get_coarse_real_ts64, at most one tick behind), which is one clock for
    all processes: it has no namespace.
    """
    import time

    return (time.time_ns() - about.st_ctime_ns) / 1e9


def _cause(fd: int, name: str) -> str:
    """Return why a file is broken, "" for one that is not, or has grown beyond LARGEST. Raises OSError."""
    try:
        return cause_of(files.read_open(fd, name, LARGEST))
    except files.TooLargeError:
        return ""
