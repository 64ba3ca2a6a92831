"""A directory of conflists as it was read, once: names, conflists, what was set aside, and the drop-ins that have us."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cni_reaper_plugin.operator import advice
from cni_reaper_plugin.operator.conflists import conflist, converted
from cni_reaper_plugin.operator.conflists.conflist import OURS, Conflist, ConflistError
from cni_reaper_plugin.system import files

RENAMED = (".conflist.cilium_bak",)  # a list that Cilium has set aside, and puts back when it goes (cni.exclusive)

if TYPE_CHECKING:
    from cni_reaper_plugin.operator.conflists.conflist import Json


@dataclass(frozen=True)
class File:
    """A configuration file.

    Attributes:
        path: where it is.
        raw: its bytes, b"" where they cannot be read.
        told: what a runtime makes of it.
    """

    path: str
    raw: bytes
    told: Conflist | ConflistError


@dataclass(frozen=True)
class DropIn:
    """A file beside a list that appends our entry to it. raw: its bytes; plugin: the object in it."""

    path: str
    raw: bytes
    plugin: Json


@dataclass(frozen=True)
class Directory:
    """A directory of conflists.

    Attributes:
        names: of the files in it, sorted.
        files: its conflists, in the order in which a runtime loads them.
        aside: what 0.1.0 has set aside in it.
        renamed: lists that somebody else has set aside in it.
        trouble: why it cannot be listed, "" when it can or is not there.
    """

    path: str
    names: tuple[str, ...]
    files: tuple[File, ...] = ()
    aside: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()
    trouble: str = ""

    @property
    def entries(self) -> conflist.Found:
        """Its files, as `conflist.found` has them."""
        return [(one.path, one.told) for one in self.files]


def listed(path: str) -> Directory:
    """Return a directory with the names of the files in it; none where it cannot be listed."""
    try:
        with os.scandir(path) as entries:
            return Directory(path, tuple(sorted(one.name for one in entries if not one.is_dir(follow_symlinks=False))))
    except OSError as e:
        is_gone = e.errno in (*files.GONE_ERRNOS, errno.ELOOP)
        return Directory(path, (), trouble="" if is_gone else f"it cannot be listed ({e.strerror}): {advice.on(e)}.")


def read(path: str) -> Directory:
    """Read a directory of conflists."""
    found = listed(path)
    return replace(
        found,
        files=tuple(map(read_file, _ending(found, conflist.EXTENSIONS))),
        aside=tuple(_ending(found, (converted.BEFORE,))),
        renamed=tuple(_ending(found, RENAMED)),
    )


def _ending(of: Directory, extensions: tuple[str, ...]) -> list[str]:
    return [f"{of.path.rstrip('/')}/{name}" for name in of.names if name.endswith(extensions)]


def read_file(path: str) -> File:
    """Read a configuration file."""
    raw = b""
    try:
        raw = conflist.read(path)
        return File(path, raw, conflist.of_bytes(path, raw))
    except ConflistError as e:
        return File(path, raw, e)


def drop_ins(of: Directory) -> tuple[DropIn, ...]:
    """Return the files of a directory that append us to a list: ours, and those that somebody has written by hand."""
    found = []
    for path in _ending(of, (".conf",)):
        with suppress(ConflistError):
            raw = conflist.read(path)
            plugin = conflist.of_drop_in(raw)
            if plugin.get("type") == OURS:
                found.append(DropIn(path, raw, plugin))
    return tuple(found)
