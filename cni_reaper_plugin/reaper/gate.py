"""The gate of a network: one full scan at a time, and whoever waited learns of the scan that was made meanwhile.

`/run/cni-reaper/<key>.sweep` (store.Network.key) is the lock, flock(2), and holds two numbers of 8 bytes, little-endian: of the
last full scan that was begun, and of the last one that has judged the whole network; and behind them the length and the text of
that one's terms. All are written by who holds the lock. Numbers and not times: two processes may have two clocks
(time_namespaces(7)).
"""

import fcntl
import posix

from cni_reaper_plugin.system import files, flock

_NUMBER = 8
_NUMBERS = 1 << 64
_HASTE = -10  # nice(2); everybody else waits for the holder, and busy neighbours would have it be slow
_PRIO_PROCESS = 0  # getpriority(2)
_DIRECTORY_MODE, _MODE = 0o700, 0o600


class Gate:
    """A gate, open or not; close it in any case.

    Where /run cannot be written there is none: `is_there` is False, and everybody passes. It is there so that not everybody
    scans at once, not for safety.
    """

    __slots__ = ("_begun", "_fd", "_nice", "_number", "_terms", "is_there")

    def __init__(self, run_dir: str, key: str, terms: bytes = b"") -> None:
        """Open it, and note how many scans have begun. Raises nothing.

        terms: what a scan's answer depends on beside the node; only one on equal terms speaks for who waits.
        """
        self._number = 0
        self._terms = len(terms).to_bytes(_NUMBER, "little") + terms
        self._nice: int | None = None
        self._fd = _opened(run_dir, key)
        self.is_there = self._fd >= 0
        self._begun = self._read(0)

    def take(self, wait_s: float) -> bool:
        """Wait until nobody else scans, `wait_s` seconds at most; True if it is ours. Raises OSError.

        The holder runs with a higher priority, where it may, until the gate is closed.
        """
        if self.is_there and not flock.take(self._fd, fcntl.LOCK_EX, wait_s):
            return False
        try:
            self._nice = posix.getpriority(_PRIO_PROCESS, 0)
            posix.setpriority(_PRIO_PROCESS, 0, min(self._nice, _HASTE))
        except OSError:
            self._nice = None  # an operator without the right to
        return True

    def was_passed(self) -> bool:
        """Tell whether somebody has begun a scan after this gate was opened, and has judged all; asked by the holder.

        A scan that ended has begun: numbers that say otherwise are of a file that could not be written, and say nothing.
        """
        return self._begun < self._read(1) <= self._read(0) and self._read_terms() == self._terms

    def is_waited_for(self) -> bool:
        """Tell whether somebody waits for the holder, by proc(5), /proc/locks; False where that cannot be told."""
        try:
            needle = b":%d 0 EOF" % posix.fstat(self._fd).st_ino
            locks = files.read("/proc/locks").split(b"\n")
        except OSError:
            return False
        return any(b" -> FLOCK " in line and line.endswith(needle) for line in locks)

    def begin(self) -> None:
        """Note that a full scan begins; what is reserved from now on may not be in it."""
        self._number = (self._read(0) + 1) % _NUMBERS
        self._write(0, self._number.to_bytes(_NUMBER, "little"))

    def complete(self) -> None:
        """Note that the scan has judged the whole network and freed what was stale."""
        self._write(_NUMBER, self._number.to_bytes(_NUMBER, "little") + self._terms)

    def close(self) -> None:
        """Let the next one in."""
        if self._nice is not None:
            try:
                posix.setpriority(_PRIO_PROCESS, 0, self._nice)
            except OSError:
                self._nice = None
        if self.is_there:
            posix.close(self._fd)

    def _read(self, which: int) -> int:
        """Return one of the numbers; 0 where it was never written."""
        try:
            return int.from_bytes(posix.pread(self._fd, _NUMBER, which * _NUMBER), "little") if self.is_there else 0
        except OSError:
            return 0

    def _read_terms(self) -> bytes:
        try:
            return posix.pread(self._fd, len(self._terms), 2 * _NUMBER) if self.is_there else b""
        except OSError:
            return b""

    def _write(self, where: int, data: bytes) -> None:
        """Write at an offset. Where that cannot be done, each who waits scans for himself."""
        if self.is_there:
            try:
                posix.pwrite(self._fd, data, where)
            except OSError:
                return


def _opened(run_dir: str, key: str) -> int:
    """Return the descriptor of a gate, for reading alone where it cannot be written, -1 where it cannot be had."""
    path = "%s/%s.sweep" % (run_dir, key)
    try:
        files.make_directory(run_dir, _DIRECTORY_MODE)
        return flock.open_lock(path, _MODE, writable=True)
    except OSError:
        pass
    try:
        return flock.open_lock(path, _MODE)
    except OSError:
        return -1
