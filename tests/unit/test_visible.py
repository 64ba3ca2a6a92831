"""Looking at a process whose namespaces change meanwhile, on a /proc that is made up."""

import errno
import posix
from collections.abc import Iterator

import pytest

from cni_reaper_plugin.evidence import visible

HOST, OLD, NEW = 4026531841, 4026532100, 4026532200
MOUNTED = {HOST: 1, OLD: 4026532281, NEW: 4026532361}
PROCESS = "/proc/7"


class Proc:
    """A /proc with one process. views: the mount namespaces that it is in, one for each look at its mounts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, views: Iterator[int]) -> None:
        self._views = views
        self.now = next(views)
        self.roots: set[tuple[int, str]] = set()
        self.seen: visible.Sightings = {}
        monkeypatch.setattr(visible, "_namespace_of", lambda _, kind: self.now if kind == "mnt" else HOST)
        monkeypatch.setattr(visible, "_root_of", lambda _: "/")
        monkeypatch.setattr(visible, "_add_descriptors", lambda *_: None)
        monkeypatch.setattr(visible, "_add_mounts", self._add_mounts)
        monkeypatch.setattr(posix, "listdir", lambda _: ["7"])

    def _add_mounts(self, seen: visible.Sightings, *_: str) -> None:
        self.now = next(self._views)
        number = MOUNTED[self.now]
        seen.setdefault(number, visible.Sighting(number))

    def look(self) -> None:
        """Look at the process."""
        visible._look_at(self.seen, PROCESS, self.roots)


def test_a_process_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look at its mounts is enough, and its view counts as read."""
    proc = Proc(monkeypatch, iter([OLD, OLD]))
    proc.look()
    assert proc.roots == {(OLD, "/")}
    assert MOUNTED[OLD] in proc.seen


def test_a_process_that_moves_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its old mount namespace does not count as read: what was read is the new one's."""
    proc = Proc(monkeypatch, iter([OLD, NEW, NEW]))
    proc.look()
    assert proc.roots == {(NEW, "/")}


def test_a_process_that_never_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of looks is bounded, and then nothing may be called stale."""

    def moving() -> Iterator[int]:
        while True:
            yield OLD
            yield NEW

    proc = Proc(monkeypatch, moving())
    with pytest.raises(OSError, match="faster than it can be read") as raised:
        proc.look()
    assert raised.value.errno == errno.EAGAIN
    assert proc.roots == set()
