"""What there is of us on a node: conflists and drop-ins with our entry, what was set aside, directories with our executable."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cni_reaper_plugin import options
from cni_reaper_plugin.operator.conflists import conflist, converted, drop_in
from cni_reaper_plugin.operator.conflists.conflist import OURS, Conflist, ConflistError
from cni_reaper_plugin.operator.conflists.entry import settings_of
from cni_reaper_plugin.operator.conflists.runtimes import ETC, Place, places
from cni_reaper_plugin.operator.executable import legacy_bundle, plugin_dir
from cni_reaper_plugin.operator.install import installation
from cni_reaper_plugin.operator.install.targets import Given
from cni_reaper_plugin.system import files

RENAMED = (".conflist.cilium_bak",)  # a list that Cilium has set aside, and puts back when it goes (cni.exclusive)
_LARGEST = 1 << 28  # bytes; nobody writes such a conflist

if TYPE_CHECKING:
    from cni_reaper_plugin.operator.install.installation import Noted
    from cni_reaper_plugin.options import Settings


@dataclass
class Found:
    """What there is of us. lists: conflists with our entry; drop_ins: (file, its list); aside: files that were converted;
    copies: multus' own files that have us in their copy; unread: files that may have us, and why they cannot be read; settings:
    of our entries, with the network's name."""

    lists: list[str] = field(default_factory=list)
    drop_ins: list[tuple[str, Conflist]] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    unread: dict[str, ConflistError] = field(default_factory=dict)
    settings: list[tuple[str, Settings]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """The files that have us, but for multus' copies."""
        return [*self.lists, *(path for path, _ in self.drop_ins)]


def all_places(given: Given) -> list[Place]:
    """Return every place, those of no runtime of pods among them: our entry may be in any.

    Raises installation.InstallationError.
    """
    directories = [*given.conf_dirs, *dict.fromkeys(os.path.dirname(os.path.abspath(path)) for path in given.files)]
    found = places(directories, given.bin_dirs)[0] or places([ETC], given.bin_dirs)[0]
    if directories:
        return found
    known = {place.conf_dir for place in found}
    more: dict[str, list[list[str]]] = {}
    for path, one in noted(given).items():
        if _conf_dir(path) not in known:
            more.setdefault(_conf_dir(path), []).append(one.bin_dirs)
    return found + [Place(conf_dir, paths) for conf_dir, paths in more.items()]


def noted(given: Given) -> dict[str, Noted]:
    """Return the entries that are noted, of the directories of plugins given if there are some.

    Raises installation.InstallationError.
    """
    of_the_node = places([], given.bin_dirs)[0] or places([ETC], given.bin_dirs)[0]
    found = installation.noted(bin_dirs(of_the_node))
    return {path: one for path, one in found.items() if not given.bin_dirs or set(one.bin_dirs) & set(given.bin_dirs)}


def _conf_dir(path: str) -> str:
    """Return the directory of conflists that a path which is noted belongs to."""
    directory = os.path.dirname(path)
    return os.path.dirname(directory) if os.path.basename(path) == drop_in.NAME else directory


def look(given: Given) -> Found:
    """Look for all of it, in the places given or else in all that this node has."""
    found = Found()
    for place in all_places(given):
        entries = conflist.found([place.conf_dir])
        if given.files:
            entries = [(path, one) for path, one in entries if path in given.files]
        for path, one in entries:
            if isinstance(one, ConflistError):
                if _may_have_us(path):
                    found.unread[path] = one
                continue
            if one.is_multus:
                found.copies += [path for copy in conflist.delegates(one) if copy.ours]
            elif one.ours:
                found.lists.append(path)
            found.drop_ins += [(path, one) for path in ([] if one.single else drop_in.files_of(one))]
        found.settings += settings_of(entries)
        if not given.files:
            found.lists += [path for path in conflist.files_of(place.conf_dir, RENAMED) if _may_have_us(path)]
        found.aside += conflist.files_of(place.conf_dir, (converted.BEFORE,)) if not given.files else []
    for path, _ in found.drop_ins:
        with suppress(ConflistError):
            found.settings.append((path, options.read(conflist.of_drop_in(path), os.path.basename(os.path.dirname(path)))[0]))
    return found


def _may_have_us(path: str) -> bool:
    """Tell whether our entry may be in a file that is no conflist to us; a runtime may well load it."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and b'"%s"' % OURS.encode() in files.read(path, limit=_LARGEST)
    except OSError as e:
        return e.errno not in (*files.GONE_ERRNOS, errno.ELOOP)


def conf_dirs(given: Given) -> list[str]:
    """Return all directories in which our entry may be: the node's, those that are noted, and those given."""
    everywhere = [*places([], [])[0], *all_places(Given([], given.bin_dirs, [])), *all_places(given)]
    return list(dict.fromkeys(place.conf_dir for place in everywhere))


def anywhere(directories: list[str]) -> list[str]:
    """Return the files of these directories that have us or may have us."""
    found = look(Given(directories, [], []))
    return [*found.paths, *found.copies, *found.unread]


def bin_dirs(of: list[Place]) -> list[str]:
    """Return where the runtimes of these places look for plugins, each once."""
    return list(dict.fromkeys(one for place in of for one in place.all_bin_dirs))


def with_us(given: Given) -> list[str]:
    """Return the directories of plugins that have our executable, or what version 0.1.0 has left there."""
    found = bin_dirs(all_places(given))
    if not given.conf_dirs and not given.files:
        found += [one for known in noted(given).values() for one in known.bin_dirs if one not in found]
    return [one for one in dict.fromkeys(found) if os.path.lexists(plugin_dir.path_of(one)) or legacy_bundle.is_there(one)]
