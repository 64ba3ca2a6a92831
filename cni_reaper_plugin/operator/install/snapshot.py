"""What install and uninstall know of the node: the runtimes' configuration, directories, conflists and the register, read once.

Before a file is replaced, `Snapshot.again` reads under the lock what others write: all but the runtimes' configuration.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cni_reaper_plugin.operator.conflists import atomic_edit, directory, drop_in, runtimes
from cni_reaper_plugin.operator.conflists.conflist import Conflist
from cni_reaper_plugin.operator.conflists.runtimes import ETC, Place
from cni_reaper_plugin.operator.install import register

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cni_reaper_plugin.operator.conflists.directory import Directory, DropIn, File
    from cni_reaper_plugin.operator.conflists.runtimes import Configuration
    from cni_reaper_plugin.operator.install.register import Noted, Register


@dataclass(frozen=True)
class Given:
    """What the command line says of places: directories and files, [] for what the runtimes of this node have."""

    conf_dirs: list[str]
    bin_dirs: list[str]
    files: list[str]


@dataclass(frozen=True)
class Snapshot:
    """What was read of the node.

    Attributes:
        given: what the command line says.
        configuration: of the runtimes.
        noted: the register.
        directories: of conflists, by path.
        named: the files that the command line names, by path.
        drop_ins: those that have us, by the path of their list.
        beside: other directories in which something of ours may be left: of drop-ins, and of what links lead to; by path.
    """

    given: Given
    configuration: Configuration
    noted: Register
    directories: Mapping[str, Directory]
    named: Mapping[str, File]
    drop_ins: Mapping[str, tuple[DropIn, ...]]
    beside: Mapping[str, Directory]

    def again(self, noted: Register | None = None) -> Snapshot:
        """Read it again, but for the runtimes' configuration. noted: the register, where it was read again."""
        return _read(replace(self, noted=noted or self.noted), self.directories)

    @property
    def places(self) -> list[Place]:
        """The places given, else those of this node."""
        return self.configuration.places(self.given.conf_dirs, self.given.bin_dirs)

    @property
    def files(self) -> Mapping[str, File]:
        """All its conflists, those named among them, by path."""
        return {**{one.path: one for each in self.directories.values() for one in each.files}, **self.named}

    @property
    def leftovers(self) -> list[str]:
        """The directories in which somebody has left temporary files who was killed."""
        listed = [*self.directories.values(), *self.beside.values()]
        return [one.path for one in listed if any(map(atomic_edit.is_temporary, one.names))]

    def tidy(self) -> None:
        """Remove them."""
        for path in self.leftovers:
            atomic_edit.tidy(path)

    def entries_noted(self, given: Given) -> dict[str, Noted]:
        """Return the entries that are noted, of the directories of plugins given if there are some.

        Raises InstallationError.
        """
        of_the_node = self.configuration.places([], given.bin_dirs) or self.configuration.places([ETC], given.bin_dirs)
        found = self.noted.noted(bin_dirs(of_the_node))
        return {path: one for path, one in found.items() if not given.bin_dirs or set(one.bin_dirs) & set(given.bin_dirs)}

    def all_places(self, given: Given) -> list[Place]:
        """Return every place, those of no runtime of pods among them: our entry may be in any. Raises InstallationError."""
        directories = [*given.conf_dirs, *dict.fromkeys(os.path.dirname(os.path.abspath(path)) for path in given.files)]
        found = self.configuration.places(directories, given.bin_dirs) or self.configuration.places([ETC], given.bin_dirs)
        if directories:
            return found
        known = {place.conf_dir for place in found}
        more: dict[str, list[list[str]]] = {}
        for path, one in self.entries_noted(given).items():
            if _conf_dir(path) not in known:
                more.setdefault(_conf_dir(path), []).append(one.bin_dirs)
        return found + [Place(conf_dir, paths) for conf_dir, paths in more.items()]


def take(given: Given, configuration: Configuration | None = None) -> Snapshot:
    """Read what install has to know: the places given, else those of this node.

    configuration: of the runtimes, where it was read already.
    """
    empty = Snapshot(given, configuration or runtimes.configuration(), register.read(), {}, {}, {}, {})
    return _read(empty, () if given.files else dict.fromkeys(place.conf_dir for place in empty.places))


def take_all(given: Given) -> Snapshot:
    """Read what uninstall has to know: every directory in which our entry may be, those given and those of the register as well.

    Raises InstallationError.
    """
    empty = Snapshot(given, runtimes.configuration(), register.read(), {}, {}, {}, {})
    everywhere = [
        *empty.configuration.places([], []),
        *empty.all_places(Given([], given.bin_dirs, [])),
        *empty.all_places(given),
    ]
    return _read(empty, dict.fromkeys(place.conf_dir for place in everywhere))


def bin_dirs(of: Iterable[Place]) -> list[str]:
    """Return where the runtimes of these places look for plugins, each once."""
    return list(dict.fromkeys(one for place in of for one in place.all_bin_dirs))


def _conf_dir(path: str) -> str:
    """Return the directory of conflists that a path which is noted belongs to."""
    directory = os.path.dirname(path)
    return os.path.dirname(directory) if os.path.basename(path) == drop_in.NAME else directory


def _read(of: Snapshot, conf_dirs: Iterable[str]) -> Snapshot:
    """Return a snapshot with the contents of directories, and of the files that are named."""
    directories = {path: directory.read(path) for path in conf_dirs}
    here = {one.path: one for each in directories.values() for one in each.files}
    named = {path: here.get(path) or directory.read_file(path) for path in of.given.files}
    drop_ins: dict[str, tuple[DropIn, ...]] = {}
    beside: dict[str, Directory] = {}

    def listed(path: str) -> Directory:
        if path not in beside:
            beside[path] = directories.get(path) or directory.listed(path)
        return beside[path]

    for path, file in {**here, **named}.items():
        listed(os.path.dirname(os.path.abspath(path)))
        if os.path.islink(path):
            listed(os.path.dirname(os.path.realpath(path)))
        if isinstance(file.told, Conflist) and not file.told.single:
            drop_ins[path] = directory.drop_ins(listed(drop_in.directory_of(file.told)))
    return replace(of, directories=directories, named=named, drop_ins=drop_ins, beside=beside)
