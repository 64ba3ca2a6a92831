"""What has changed in what a look at the node depends on, by inotify.

Each directory of conflists, that of what a symlink in it leads to, each directory of plugins, and all their parents, so that one
that is replaced or appears later is noticed.
"""

from __future__ import annotations

import errno
import os
import select
import time
from typing import TYPE_CHECKING

from cni_reaper_plugin.operator.conflists import atomic_edit, conflist, drop_in, runtimes
from cni_reaper_plugin.operator.conflists.conflist import OURS, Conflist
from cni_reaper_plugin.operator.conflists.runtimes import RUNTIMES
from cni_reaper_plugin.operator.install import snapshot, targets
from cni_reaper_plugin.operator.watch import inotify

QUIET_S = 0.05  # a writer has finished when nothing has come for so long
LONGEST_WRITE_S = 0.5
_NAMES = inotify.MOVED_TO | inotify.MOVED_FROM | inotify.CREATE | inotify.DELETE
_FILES = _NAMES | inotify.CLOSE_WRITE
_PLUGINS = _FILES | inotify.ATTRIB  # one that is no longer executable
_CONTENT = _FILES | inotify.MOVE_SELF | inotify.MODIFY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_reaper_plugin.operator.conflists.directory import File
    from cni_reaper_plugin.operator.conflists.runtimes import Configuration
    from cni_reaper_plugin.operator.install.snapshot import Given

    Watched = tuple[str, int, Callable[[str], bool]]


class Changes:
    """The changes from now on in what a look reads; a context manager. are_told: False where the kernel has no inotify left."""

    def __init__(self, given: Given) -> None:
        self._matter: dict[int, list[Callable[[str], bool]]] = {}  # by watch: does a name matter?
        self.are_told = False
        self._inotify: inotify.Inotify | None = None
        try:
            self._inotify = inotify.Inotify()
        except OSError:
            return
        self.are_told = True
        for directory, mask, matters in _watched(given):
            try:
                watch = self._inotify.add(directory, mask | inotify.ONLYDIR | inotify.MASK_ADD)
            except OSError as e:
                self.are_told &= e.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP)
                continue
            self._matter.setdefault(watch, []).append(matters)

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._inotify:
            self._inotify.close()

    def wait(self, longest_s: float, ended: int) -> bool:
        """Wait for a change and until its writer has finished, for a time, or until a descriptor can be read.

        Returns whether something has changed, and `ended` cannot be read.
        """
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        if self._inotify:
            poll.register(self._inotify.fd, select.POLLIN)
        end, is_changed = time.monotonic() + longest_s, False
        while True:
            left_s = min(QUIET_S, end - time.monotonic()) if is_changed else end - time.monotonic()
            ready = [fd for fd, _ in poll.poll(max(0.0, left_s) * 1000)] if left_s > 0 else []
            if not ready or ended in ready:
                return is_changed and not ready
            if self._is_about_us() and not is_changed:
                end, is_changed = time.monotonic() + LONGEST_WRITE_S, True

    def _is_about_us(self) -> bool:
        """Read what has come, and tell whether any of it can have changed what a look finds."""
        for event in self._inotify.read() if self._inotify else ():
            if event.mask & inotify.Q_OVERFLOW or any(matters(event.name) for matters in self._matter.get(event.watch, ())):
                return True
        return False


def _watched(given: Given) -> Iterator[Watched]:
    """Yield (directory, events, does a name in it matter?) of what a look depends on, parents included.

    What is in a directory is read when its own events are told.
    """
    configuration = runtimes.configuration()
    for directory in _directories(given, configuration):
        yield directory, _CONTENT, _is_configuration
        yield from _parents(directory)
    node = snapshot.take(given, configuration)
    for path in node.files:
        if os.path.islink(path):
            yield os.path.dirname(os.path.realpath(path)), _CONTENT, _is_not_ours
    wished = targets.find(node)
    names = {OURS, *(kind for kinds in wished.refused.values() for kind in kinds)}
    for target in wished.found:
        names.update(targets.others(target.file))
        yield from _drop_ins(target.file)
    for directory in dict.fromkeys([*wished.bin_dirs, *wished.refused, *snapshot.bin_dirs(node.places)]):
        yield directory, _PLUGINS, names.__contains__
        yield from _parents(directory)


def _drop_ins(file: File) -> Iterator[Watched]:
    if isinstance(file.told, Conflist):
        directory = drop_in.directory_of(file.told)
        yield directory, _NAMES, _is_configuration
        yield os.path.dirname(directory), _NAMES, os.path.basename(directory).__eq__


def _is_configuration(name: str) -> bool:
    """Tell whether a runtime reads a file of that name; "" is the directory itself."""
    return not name or name.endswith(conflist.EXTENSIONS)


def _is_not_ours(name: str) -> bool:
    return not name.endswith(atomic_edit.TEMPORARY_END)


def _parents(directory: str) -> Iterator[Watched]:
    while directory != "/":
        parent, name = os.path.split(directory)
        yield parent, _NAMES, name.__eq__
        directory = parent


def directories(given: Given) -> list[str]:
    """Return the directories of conflists, those that are not there yet among them."""
    return _directories(given, runtimes.configuration())


def _directories(given: Given, configuration: Configuration) -> list[str]:
    if given.files:
        return list(dict.fromkeys(os.path.dirname(os.path.abspath(path)) for path in given.files))
    if given.conf_dirs:
        return given.conf_dirs
    here = [place.conf_dir for place in configuration.places([], [])]
    return list(dict.fromkeys([*(runtime.conf_dir for runtime in RUNTIMES), *here]))
