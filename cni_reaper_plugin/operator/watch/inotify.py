"""The kernel's events of directories and files, by inotify. Source: inotify(7)."""

import os
import sys
from typing import NamedTuple

import _kernel  # type: ignore[import-not-found]  # a C module that is in the frozen executable alone

MODIFY = 0x2
ATTRIB = 0x4
CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
MOVE_SELF = 0x800
Q_OVERFLOW = 0x4000
ONLYDIR = 0x1000000
MASK_ADD = 0x20000000
_MOST = 1 << 16  # bytes of one read: some hundred events of the longest name
_HEAD = 16  # struct inotify_event: int wd, uint32_t mask, cookie, len; then char name[len], filled up with zeros


class Event(NamedTuple):
    """One event. watch: what `add` has returned; mask: what happened; name: in the directory, "" for the directory itself."""

    watch: int
    mask: int
    name: str


class Inotify:
    """A queue of events. Raises OSError where the kernel gives none."""

    def __init__(self) -> None:
        self.fd: int = _kernel.inotify_init(os.O_NONBLOCK | os.O_CLOEXEC)

    def add(self, path: str, mask: int) -> int:
        """Have events of a path told, and return the number of the watch. Raises OSError."""
        watch: int = _kernel.inotify_add_watch(self.fd, path.encode("utf-8", "surrogateescape"), mask)
        return watch

    def read(self) -> list[Event]:
        """Return the events that have come, [] when none has. Raises OSError."""
        try:
            data = os.read(self.fd, _MOST)
        except BlockingIOError:
            return []
        return parsed(data)

    def close(self) -> None:
        """End it."""
        os.close(self.fd)


def parsed(data: bytes) -> list[Event]:
    """Return the events in what was read."""
    found, at = [], 0
    while at + _HEAD <= len(data):
        watch, mask, _, length = (int.from_bytes(data[at + n : at + n + 4], sys.byteorder, signed=n == 0) for n in (0, 4, 8, 12))
        name = data[at + _HEAD : at + _HEAD + length].partition(b"\0")[0]
        found.append(Event(watch, mask, name.decode("utf-8", "surrogateescape")))
        at += _HEAD + length
    return found
