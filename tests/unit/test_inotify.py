"""The reader of the kernel's events, with real events, and with bytes as inotify(7) has them."""

import os
import struct
from pathlib import Path

from tests.support import kernel_calls

kernel_calls.stand_in()
from cni_reaper_plugin.operator.watch import inotify  # noqa: E402  its C module is stood in for first


def test_what_happens_in_a_directory_is_told(tmp_path: Path) -> None:
    """Each event with the watch it belongs to and the name; nothing more, and no wait for it."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    queue = inotify.Inotify()
    watches = [queue.add(str(path), inotify.CREATE | inotify.MOVED_TO | inotify.CLOSE_WRITE) for path in (one, other)]
    assert queue.read() == []
    (one / "a\udcff").write_bytes(b"x")
    (other / "b").mkdir()
    (one / "a\udcff").rename(other / "c")
    told = [(event.watch, event.mask & 0xFFFF, event.name) for event in queue.read()]
    assert told == [
        (watches[0], inotify.CREATE, "a\udcff"),
        (watches[0], inotify.CLOSE_WRITE, "a\udcff"),
        (watches[1], inotify.CREATE, "b"),
        (watches[1], inotify.MOVED_TO, "c"),
    ]
    queue.close()


def test_the_bytes_of_the_kernel() -> None:
    """An overflow has the watch -1 and no name; a name is filled up with zeros; half an event is not taken for one."""
    data = (
        struct.pack("iIII", -1, inotify.Q_OVERFLOW, 0, 0)
        + struct.pack("iIII", 7, inotify.DELETE, 9, 16)
        + b"net".ljust(16, b"\0")
    )
    whole = [inotify.Event(-1, inotify.Q_OVERFLOW, ""), inotify.Event(7, inotify.DELETE, "net")]
    assert inotify.parsed(data) == whole
    assert inotify.parsed(data + b"\0" * 8) == whole


def test_it_ends_with_the_process() -> None:
    """The descriptor does not go on to a program that is started."""
    queue = inotify.Inotify()
    assert not os.get_inheritable(queue.fd)
    queue.close()
