"""What there is of us on a node: conflists and drop-ins with our entry, what was set aside, directories with our executable."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cni_reaper_plugin import options
from cni_reaper_plugin.operator.conflists import conflist
from cni_reaper_plugin.operator.conflists.conflist import OURS, Conflist, ConflistError
from cni_reaper_plugin.operator.conflists.entry import settings_of
from cni_reaper_plugin.operator.executable import legacy_bundle, plugin_dir
from cni_reaper_plugin.operator.install import snapshot
from cni_reaper_plugin.system import files

_LARGEST = 1 << 28  # bytes; nobody writes such a conflist

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_reaper_plugin.operator.conflists.directory import Directory
    from cni_reaper_plugin.operator.install.snapshot import Snapshot
    from cni_reaper_plugin.options import Settings


@dataclass
class Found:
    """What there is of us.

    Attributes:
        lists: conflists with our entry.
        drop_ins: (file, its list).
        aside: files that 0.1.0 has converted.
        copies: multus' own files that have us in their copy.
        unread: files that may have us, and directories, and why they cannot be read.
        settings: of our entries, with the network's name.
    """

    lists: list[str] = field(default_factory=list)
    drop_ins: list[tuple[str, Conflist]] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
    settings: list[tuple[str, Settings]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """The files that have us, but for multus' copies."""
        return [*self.lists, *(path for path, _ in self.drop_ins)]


def look(node: Snapshot) -> Found:
    """Look for all of it in the places given, or else in all that this node has. Raises InstallationError."""
    scope = dict.fromkeys(place.conf_dir for place in node.all_places(node.given))
    return _look(node, filter(node.directories.__contains__, scope), node.given.files)


def anywhere(node: Snapshot) -> list[str]:
    """Return the files of every directory of a snapshot that have us or may have us."""
    found = _look(node, node.directories, [])
    return [*found.paths, *found.copies, *found.unread]


def _look(node: Snapshot, conf_dirs: Iterable[str], only: list[str]) -> Found:
    """Look in these directories. only: files that are meant alone, [] for all."""
    found = Found()
    for conf_dir in conf_dirs:
        directory = node.directories[conf_dir]
        entries = [(path, one) for path, one in directory.entries if not only or path in only]
        _add(entries, node, found)
        if not only:
            _add_odd_ones(directory, found)
    for path, one in found.drop_ins:
        plugin = next(each.plugin for each in node.drop_ins[one.path] if each.path == path)
        found.settings.append((path, options.read(plugin, one.name)[0]))
    return found


def _add(entries: conflist.Found, node: Snapshot, found: Found) -> None:
    """Add what there is of us in conflists and beside them."""
    for path, one in entries:
        if isinstance(one, ConflistError):
            if _may_have_us(path):
                found.unread[path] = str(one)
            continue
        if one.is_multus:
            found.copies += [path for copy in conflist.delegates(one) if copy.ours]
        elif one.ours:
            found.lists.append(path)
        found.drop_ins += [(each.path, one) for each in node.drop_ins.get(path, ())]
    found.settings += settings_of(entries)


def _add_odd_ones(directory: Directory, found: Found) -> None:
    """Add what is no conflist of a runtime now, and was one or may be."""
    if directory.trouble:
        found.unread[directory.path] = directory.trouble
    found.lists += filter(_may_have_us, directory.renamed)
    found.aside += directory.aside


def _may_have_us(path: str) -> bool:
    """Tell whether our entry may be in a file that is no conflist to us; a runtime may well load it."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and b'"%s"' % OURS.encode() in files.read(path, limit=_LARGEST)
    except OSError as e:
        return e.errno not in (*files.GONE_ERRNOS, errno.ELOOP)


def with_us(node: Snapshot) -> list[str]:
    """Return the directories of plugins that have our executable, or what version 0.1.0 has left there.

    Raises InstallationError.
    """
    found = snapshot.bin_dirs(node.all_places(node.given))
    if not node.given.conf_dirs and not node.given.files:
        found += [one for known in node.entries_noted(node.given).values() for one in known.bin_dirs if one not in found]
    return [one for one in dict.fromkeys(found) if _is_there(plugin_dir.path_of(one)) or legacy_bundle.is_there(one)]


def _is_there(path: str) -> bool:
    """Tell whether something is there; an error of the disk does not say that nothing is."""
    try:
        os.lstat(path)
    except OSError as e:
        return e.errno not in files.GONE_ERRNOS
    return True
