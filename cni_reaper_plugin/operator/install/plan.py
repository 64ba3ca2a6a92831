"""The plan of an install or uninstall: lists of changes, made of one snapshot of the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin.operator.conflists import drop_in
from cni_reaper_plugin.operator.conflists.conflist import Conflist, ConflistError
from cni_reaper_plugin.operator.install.changes import DropIn, Executable, ListEntry, Memory, Unreadable
from cni_reaper_plugin.operator.install.removals import Conversion, Records
from cni_reaper_plugin.options import Settings

if TYPE_CHECKING:
    from cni_reaper_plugin.operator.conflists.conflist import Json
    from cni_reaper_plugin.operator.conflists.directory import File
    from cni_reaper_plugin.operator.install.changes import Change, Removal
    from cni_reaper_plugin.operator.install.presence import Found
    from cni_reaper_plugin.operator.install.snapshot import Snapshot
    from cni_reaper_plugin.operator.install.targets import Target


def executables(bin_dirs: list[str], *, renew: bool = True) -> list[Executable]:
    """Return what puts the executable into these directories, or takes it out. renew: see Executable."""
    return [Executable(one, renew) for one in bin_dirs]


def entries(node: Snapshot, targets: list[Target], placed: list[str], options: Json | None, *, in_drop_in: bool) -> list[Change]:
    """Return what puts our entry into conflists, or beside them.

    Args:
        node: what was read.
        targets: the conflists; one whose runtimes would not find the executable is left out.
        placed: the directories that have it.
        options: for the entry, None to leave it its own.
        in_drop_in: beside the list, in a file of our own.
    """
    change = _drop_in if in_drop_in else _list_entry
    found = [target for target in targets if set(target.bin_dirs) <= set(placed)]
    return [
        change(node, target.file, Memory(node, tuple(one for one in target.all_bin_dirs if one in placed)), options)
        for target in found
    ]


def _list_entry(node: Snapshot, file: File, memory: Memory, options: Json | None) -> Change:
    one = file.told
    elsewhere: tuple[str, ...] = ()
    if isinstance(one, Conflist) and not one.single and not one.ours and not one.inlined_only:
        elsewhere = tuple(each.path for each in node.drop_ins[file.path])
    return ListEntry(file.path, file.raw, memory, options, elsewhere)


def _drop_in(node: Snapshot, file: File, memory: Memory, options: Json | None) -> Change:
    if isinstance(file.told, ConflistError):
        return Unreadable(file.path, file.told)
    there = {one.path: one.raw for one in node.drop_ins.get(file.path, ())}
    return DropIn(file.path, drop_in.path_of(file.told), file.told, memory, options, there)


def without_entries(node: Snapshot, found: Found) -> list[Removal]:
    """Return what takes our entry out of every file, in this order: a `.conf` that comes back takes its list with it."""
    raw = {file.path: file.raw for directory in node.directories.values() for file in directory.files}
    memory = Memory(node)
    return [
        *map(Conversion, found.aside),
        *(ListEntry(path, raw.get(path, b""), memory) for path in found.lists),
        *(DropIn(path, path, one, memory) for path, one in found.drop_ins),
    ]


def without_records(found: Found) -> list[Removal]:
    """Return what removes the records, wherever an entry of ours has them."""
    return [Records(one) for one in sorted({Settings().state_dir, *(settings.state_dir for _, settings in found.settings)})]
