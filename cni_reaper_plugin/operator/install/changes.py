"""The changes that an installation is made of: each can say what it would do, do it, and undo it.

    install: executable, then entry       uninstall: entry, then records, memory and executable

What a change would do is said by the snapshot that it was planned from; what it does goes by what is there then
(`atomic_edit.edit`).
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import orjson

from cni_reaper_plugin import __version__
from cni_reaper_plugin.operator.conflists import atomic_edit, conflist, converted, drop_in, entry
from cni_reaper_plugin.operator.conflists.conflist import ConflistError
from cni_reaper_plugin.operator.conflists.conflist_text import plugins
from cni_reaper_plugin.operator.executable import legacy_bundle, plugin_dir
from cni_reaper_plugin.operator.install import snapshot
from cni_reaper_plugin.operator.install.snapshot import Given

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_reaper_plugin.operator.conflists.conflist import Conflist, Json
    from cni_reaper_plugin.operator.install.snapshot import Snapshot


class Removal(Protocol):
    """What uninstall can take back."""

    @property
    def path(self) -> str:
        """The file that it is about."""

    def show_undo(self) -> list[str]:
        """Return what `undo` would do, a line each."""

    def undo(self) -> list[str]:
        """Take it back, and return a sentence for each thing that was done."""


class Change(Removal, Protocol):
    """What install does, and uninstall takes back."""

    def show(self) -> list[str]:
        """Return what `apply` would do, a line each, [] where it is done already."""

    def apply(self) -> list[str]:
        """Do it, and return a sentence for each thing that was done."""


@dataclass(frozen=True)
class Memory:
    """What the register knows of entries, and is told of them. bin_dirs: where the runtimes of a list find the executable."""

    node: Snapshot
    bin_dirs: tuple[str, ...] = ()

    def options_of(self, path: str) -> Json | None:
        """Return the options that our entry had in a conflist or drop-in, also when its runtime found us elsewhere then.

        Raises InstallationError.
        """
        everywhere = snapshot.bin_dirs(self.node.all_places(Given([], [], [])))
        return self.node.noted.options_of(path, [*self.bin_dirs, *everywhere])

    def note(self, path: str, one: Conflist, plugin: Json) -> None:
        """Note our entry before it gets into a file. Raises InstallationError.

        What is not noted is not put anywhere: a dry run would be forgotten, and uninstall would not find it.
        """
        self.node.noted.note(path, entry.options_of(one, plugin), list(self.bin_dirs))


def difference(path: str, before: bytes, after: bytes) -> list[str]:
    """Return a unified diff of a file's content now and then, [] when they are equal."""
    now, then = (text.decode("utf-8", "backslashreplace").splitlines() for text in (before, after))
    return list(difflib.unified_diff(now, then, path, path, lineterm=""))


@dataclass(frozen=True)
class Executable:
    """The executable in a directory of plugins. renew: the one that runs, whichever is there; else only where none works.

    Its methods raise plugin_dir.TROUBLE.
    """

    bin_dir: str
    renew: bool = True

    @property
    def path(self) -> str:
        """Where a runtime looks for it."""
        return plugin_dir.path_of(self.bin_dir)

    def show(self) -> list[str]:
        """Say whether another one would be put there."""
        return [] if plugin_dir.is_placed(self.bin_dir) else [f"would put this executable at {self.path}"]

    def apply(self) -> list[str]:
        """Put it there."""
        is_put = (self.renew or not plugin_dir.works(self.bin_dir)) and plugin_dir.place(self.bin_dir)
        return [f"{self.path}: put there, version {__version__}"] if is_put else []

    def show_undo(self) -> list[str]:
        """Say that it would go."""
        return [f"would remove {self.path}"]

    def undo(self) -> list[str]:
        """Remove it with what 0.1.0 has left, and say what stays."""
        done = []
        is_gone = plugin_dir.remove(self.bin_dir)
        if legacy_bundle.withdraw(self.bin_dir) or is_gone:
            done.append(f"{self.path}: removed")
        if os.path.isfile(self.path) and not os.path.islink(self.path):
            done.append(f"{self.path}: left there, since no sum of cni-reaper is at its end: remove it by hand")
        if legacy_bundle.is_there(self.bin_dir):
            root = legacy_bundle.root_of(self.bin_dir)
            done.append(f"{root}: left there, since a process runs it, or other files are in it")
        return done


@dataclass(frozen=True)
class ListEntry:
    """Our entry in a conflist. Its methods raise outcome.TROUBLE.

    Attributes:
        path: the conflist.
        raw: its bytes as they were read.
        memory: of the register.
        options: for the entry, None to leave it its own, or those that it had.
        elsewhere: drop-ins that have us already.
    """

    path: str
    raw: bytes
    memory: Memory
    options: Json | None = None
    elsewhere: tuple[str, ...] = ()

    def show(self) -> list[str]:
        """Return a diff."""
        return difference(self.path, self.raw, self._with_us(self.raw, self.memory.options_of(self.path)))

    def apply(self) -> list[str]:
        """Put it in where it belongs."""
        had = self.memory.options_of(self.path)

        def made(raw: bytes) -> bytes:
            text = self._with_us(raw, had)
            one = conflist.of_bytes(self.path, text)
            self.memory.note(self.path, one, one.ours[0])
            return text

        before, after = atomic_edit.edit(self.path, made)
        return [] if before == after else [f"{self.path}: our entry is in it"]

    def _with_us(self, raw: bytes, had: Json | None) -> bytes:
        if self.elsewhere:
            where = ", ".join(self.elsewhere)
            raise ConflistError(f"our entry is in {where} already, and would be there twice: uninstall it first.")
        return entry.put(self.path, raw, self.options, had)

    def show_undo(self) -> list[str]:
        """Return a diff."""
        return difference(self.path, self.raw, _without_us(self.raw))

    def undo(self) -> list[str]:
        """Take it out; a list that 0.1.0 has left over goes altogether."""
        try:
            before, after = atomic_edit.edit(self.path, _without_us)
        except FileNotFoundError:
            before = after = b""  # the list of a file that has just been put back
        if converted.is_left_over(self.path):
            atomic_edit.remove(self.path)
            return [f"{self.path}: removed, and {self.path.removesuffix('list')} counts as before"]
        return [f"{self.path}: our entry is out"] if before != after else []


def _without_us(raw: bytes) -> bytes:
    made = entry.take(raw)
    if not plugins(made).values:
        raise ConflistError("our entry is the only one in it, and no runtime loads a list of none: remove the file.")
    return made


@dataclass(frozen=True)
class DropIn:
    """Our entry in a file of its own beside a list. Its methods raise outcome.TROUBLE.

    Attributes:
        path: what a person knows it by: the list, or the file itself when that goes.
        file: our own.
        one: the list.
        memory, options: as ListEntry has them.
        there: the files beside it that append us, with their bytes.
    """

    path: str
    file: str
    one: Conflist
    memory: Memory
    options: Json | None = None
    there: Mapping[str, bytes] = field(default_factory=dict)

    def show(self) -> list[str]:
        """Return a diff."""
        return difference(self.file, self.there.get(self.file, b""), self._text())

    def apply(self) -> list[str]:
        """Write it."""
        text = self._text()
        self.memory.note(self.file, self.one, orjson.loads(text))
        return [f"{self.file}: written; {drop_in.COSTS}"] if drop_in.put(self.one, text) else []

    def _text(self) -> bytes:
        return drop_in.text_of(self.one, self.there, self.options, self.memory.options_of(self.file))

    def show_undo(self) -> list[str]:
        """Say that it would go."""
        return [f"would remove {self.file}"]

    def undo(self) -> list[str]:
        """Remove it."""
        drop_in.remove(self.file, self.one)
        return [f"{self.file}: removed"]


@dataclass(frozen=True)
class Unreadable:
    """No entry beside a list that cannot be read. Its methods raise that error."""

    path: str
    error: ConflistError

    def show(self) -> list[str]:
        """Raise it."""
        raise self.error

    apply = show_undo = undo = show
