r"""host-local's store: what can delete a reservation, and nothing else does.

    <dataDir>/<network>/10.42.0.7            `id\r\nifname` (host-local < 0.8: `id`), no newline at the end
    <dataDir>/<network>/last_reserved_ip.0   never touched
    <dataDir>/<network>/lock                 flock(2) LOCK_EX, as host-local takes it
    <dataDir>/<network>                      the same on the directory itself, as host-local up to 0.6 takes it

Only regular files directly in a network's directory whose names look like addresses are read, and only those are unlinked.
The directory itself may be a symlink, which host-local follows. No symlink in it is followed, and nothing is put into it but
`lock`: host-local reads every file it finds.
Source: containernetworking/plugins plugins/ipam/host-local/backend/disk (3d27709).
"""

from __future__ import annotations

import fcntl
import posix
from typing import TYPE_CHECKING

from cni_reaper_plugin.attachment import valid_name
from cni_reaper_plugin.model import BLANK, DATA_DIR, LONGEST_KEY, Reservation, SkippedError
from cni_reaper_plugin.system import files, flock

LOCK = "lock"
LOCK_MODE = 0o750  # as host-local makes it
LOCK_WAIT_S = 2.0  # host-local's own queue after a reboot is that long
DIRECTORY_WAIT_S = 0.2  # host-local up to 0.6 holds it for milliseconds; each user who can read the directory can hold it, too
HOLD_LIMIT_S = 2.0  # host-local waits for as long as we hold its lock; on a store that is slow the rest waits for the next call
CONTENT_LIMIT = 1024  # an ID and an ifname are far shorter; more is not host-local's
_FILE = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK
_DIRECTORY_LOCKED = "a process holds a lock on the network's directory, as host-local up to 0.6 does while it writes"
_ADDRESS_CHARS = frozenset("0123456789abcdefABCDEF.:")

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Removed = tuple[list[Reservation], list[tuple[Reservation, OSError]]]


def networks(data_dir: str) -> list[str]:
    """Return the networks that have a directory in a store, sorted. Raises OSError."""
    with posix.scandir(data_dir) as entries:
        return sorted(entry.name for entry in entries if valid_name(entry.name) and _is_directory(entry))


def _is_directory(entry: posix.DirEntry[str]) -> bool:
    """Tell whether an entry of a store is a directory or leads to one; a link to nowhere or in a circle does not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_address_like(name: str) -> bool:
    """Tell whether a name has only the characters of an IPv4 or IPv6 address, and a dot or colon between them."""
    return ("." in name or ":" in name) and _ADDRESS_CHARS.issuperset(name) and name.strip(".") != ""


def _is_reservation(entry: posix.DirEntry[str]) -> bool:
    return is_address_like(entry.name) and entry.is_file(follow_symlinks=False)


def _is_blank(reservation: Reservation) -> bool:
    return reservation.kind == BLANK


def usable(data_dir: str, must_exist: bool = False) -> None:
    """Check that a store can be listed; one that is not there yet is fine, unless it must exist. Raises OSError."""
    try:
        posix.close(posix.open(data_dir, files.DIRECTORY))
    except FileNotFoundError:
        if must_exist:
            raise


def _key(data_dir: str, network: str) -> str:
    from cni_reaper_plugin.host_local import store_key

    return store_key.key(data_dir, network)


class Network:
    """The directory of one network. Holds a directory descriptor; a context manager.

    key: what it is called in /run/cni-reaper, see store_key; listed: how many `addresses` found last.
    """

    __slots__ = ("_fd", "key", "listed", "name")

    def __init__(self, data_dir: str, name: str) -> None:
        """Open the directory; `name` is a valid network name. Raises OSError."""
        self.name = name
        self.key = name if data_dir == DATA_DIR and len(name) <= LONGEST_KEY else _key(data_dir, name)
        self.listed = 0
        self._fd = posix.open(data_dir + "/" + name, files.DIRECTORY)

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        posix.close(self._fd)

    def addresses(self, known: Collection[str] = ()) -> list[str]:
        """Return the names of the regular files that look like addresses, without those that are known. Raises OSError."""
        with posix.scandir(self._fd) as entries:
            names = [entry.name for entry in entries if entry.name in known or _is_reservation(entry)]
        self.listed = len(names)
        return [name for name in names if name not in known] if known else names

    def identity(self, address: str) -> tuple[int, int]:
        """Return the inode number and the ctime of a reservation's file; (0, 0) when it is gone. Raises OSError."""
        try:
            _, ino, ctime = files.identity(address, self._fd, files.NOFOLLOW)
        except FileNotFoundError:
            return 0, 0
        return ino, ctime

    def snapshot(self, addresses: list[str]) -> list[Reservation]:
        """Read reservations once, without the lock. One that vanishes meanwhile is left out. Raises OSError."""
        return [reservation for reservation in map(self.read, addresses) if reservation is not None]

    def read(self, address: str) -> Reservation | None:
        r"""Read one reservation; None when it is gone. A file that cannot be read has the content b"\xff": no owner."""
        try:
            fd = posix.open(address, _FILE, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        except OSError as e:
            import errno

            if e.errno in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.EIO):
                return Reservation(self.name, address, b"\xff", 0, 0)
            raise
        try:
            content = posix.read(fd, CONTENT_LIMIT)
            about = posix.fstat(fd)
        finally:
            posix.close(fd)
        if len(content) == CONTENT_LIMIT:
            content = b"\xff"
        return Reservation(self.name, address, content, about.st_ino, about.st_ctime_ns, about.st_mtime)

    def has_allocated(self) -> bool:
        """Tell whether host-local has ever given an address here: it notes the last one of each range."""
        return any(name.startswith("last_reserved_ip") for name in posix.listdir(self._fd))

    def remove(self, stale: list[Reservation], still_judged: Callable[[Reservation], bool], wait_s: float) -> Removed:
        """Unlink reservations that are, under host-local's lock, still what was judged.

        A blank file is removed under a lock on the directory as well, since host-local up to 0.6 creates and writes under that
        one; such files come last. The order is always `lock`, then the directory, and both waits are bounded.

        Args:
            stale: from `snapshot`.
            still_judged: asked under the lock whether the owner's record is still the one judged.
            wait_s: how long to wait for the lock.

        Returns:
            Those that are gone now, and those that could not be unlinked, with the error.

        Raises:
            SkippedError: others hold the lock; nothing is removed.
            OSError: the lock cannot be opened or taken.
        """
        lock = flock.open_lock(LOCK, LOCK_MODE, self._fd)
        older = -1
        try:
            if not flock.take(lock, fcntl.LOCK_EX, min(wait_s, LOCK_WAIT_S)):
                raise SkippedError("host-local's lock was held by others all the time")
            free = False
            removed: list[Reservation] = []
            refused: list[tuple[Reservation, OSError]] = []
            end = posix.times().elapsed + HOLD_LIMIT_S
            for judged in sorted(stale, key=_is_blank):
                if posix.times().elapsed > end:
                    break
                if _is_blank(judged):
                    if older < 0:
                        older = posix.open(".", files.DIRECTORY, dir_fd=self._fd)
                        free = flock.take(older, fcntl.LOCK_EX, DIRECTORY_WAIT_S)
                    if not free:
                        import errno

                        refused.append((judged, OSError(errno.EWOULDBLOCK, _DIRECTORY_LOCKED)))
                        continue
                now = self.read(judged.address)
                if now is None or (now.ino, now.ctime, now.content) != (judged.ino, judged.ctime, judged.content) or not now.ino:
                    continue
                if judged.kind != BLANK and not still_judged(judged):
                    continue
                try:
                    posix.unlink(judged.address, dir_fd=self._fd)
                except OSError as e:
                    refused.append((judged, e))
                else:
                    removed.append(judged)
            return removed, refused
        finally:
            if older >= 0:
                posix.close(older)
            posix.close(lock)
