"""What the conflists of this node say of the files that `cni-reaper mend` removes: where they are, and whether it may.

libcni's caches are in the `cacheDirs` of the entries. flannel's plugin has `dataDir` in its object, and multus `cniDir`, where it
has a libcni cache as well. The defaults are always among them: a file of a network whose conflist is gone stops its pod, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cni_reaper_plugin import options
from cni_reaper_plugin.mend.places import FLANNEL, SCRATCH_DIRS
from cni_reaper_plugin.operator.conflists import conflist, runtimes
from cni_reaper_plugin.operator.conflists.conflist import MULTUS, OURS, Conflist
from cni_reaper_plugin.operator.install import register
from cni_reaper_plugin.options import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_reaper_plugin.operator.conflists.conflist import Json


@dataclass
class Told:
    """What all conflists together say.

    Attributes:
        cache_dirs: libcni's caches, without the `results` at their end.
        flannel_dirs: where flannel's plugin keeps its scratch files.
        multus_dirs: where multus keeps its own.
        networks: their names.
        dry_run: the conflist whose entry has `dryRun`, "" where none has.
        switched_off: the conflist whose entry has `"cache": false`, "" where none has.
        problems: wrong options of entries, a sentence each; with any of them nothing may be removed.
        settings: of the first entry, for `logFile`, `logLevel` and `metricsFile`; the defaults without an entry.
    """

    cache_dirs: list[str] = field(default_factory=lambda: [*Settings().cache_dirs])
    flannel_dirs: list[str] = field(default_factory=lambda: [path for kind, path in SCRATCH_DIRS if kind == FLANNEL])
    multus_dirs: list[str] = field(default_factory=lambda: [path for kind, path in SCRATCH_DIRS if kind != FLANNEL])
    networks: list[str] = field(default_factory=list)
    dry_run: str = ""
    switched_off: str = ""
    problems: list[str] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)


def told(conf_dirs: list[str]) -> Told:
    """Return what the conflists say; one that cannot be read says nothing. Raises nothing.

    conf_dirs: where they are, [] for where the runtimes of this node look. An entry that a platform's rewrite has taken out is
    noted in the installation, and counts with the options that are noted.
    """
    found = Told()
    entries: list[tuple[str, str, Json]] = []
    for path, one in conflist.found(runtimes.directories(conf_dirs)):
        if isinstance(one, Conflist):
            for each in (one, *conflist.delegates(one)):
                entries += [(path, each.name, plugin) for plugin in _plugins(each) if plugin["type"] == OURS]
                found.networks.append(each.name)
                _add_directories(each, found)
    here = {register.key(path) for path, _, _ in entries}
    try:
        absent = {path: one.options for path, one in register.read().noted().items() if path not in here}
    except register.InstallationError as e:
        absent = {}
        found.problems.append(str(e))
    entries += [(path, "", noted) for path, noted in absent.items()]
    for number, entry in enumerate(entries):
        _add_entry(*entry, found, is_first=not number)
    return found


def _plugins(one: Conflist) -> Iterator[Json]:
    yield from one.plugins
    yield from conflist.drop_ins(one)


def _add_directories(one: Conflist, found: Told) -> None:
    for plugin in _plugins(one):
        kind = str(plugin["type"])
        if kind == FLANNEL:
            _add(found.flannel_dirs, _directory(plugin, "dataDir"))
        elif kind in MULTUS:
            _add(found.multus_dirs, _directory(plugin, "cniDir"))
            _add(found.cache_dirs, _directory(plugin, "cniDir"))


def _add_entry(path: str, network: str, entry: Json, found: Told, *, is_first: bool) -> None:
    settings, problems = options.read(entry, network)
    found.problems += [f"{path}: {problem}" for problem in problems]
    if settings.dry_run:
        found.dry_run = found.dry_run or path
    if entry.get("cache") is False:
        found.switched_off = found.switched_off or path
    for cache_dir in settings.cache_dirs:
        _add(found.cache_dirs, cache_dir)
    if is_first:
        found.settings = settings
    found.settings.log_file = found.settings.log_file or settings.log_file
    found.settings.metrics_file = found.settings.metrics_file or settings.metrics_file


def _add(directories: list[str], directory: str) -> None:
    directory = directory.rstrip("/")
    if directory and directory not in directories:
        directories.append(directory)


def _directory(plugin: Json, key: str) -> str:
    """Return a directory that a plugin's object names, "" where it names none. Go reads keys in any case; the last one counts."""
    named = [value for name, value in plugin.items() if name.casefold() == key.casefold()]
    value = named[-1] if named else ""
    return value if isinstance(value, str) and value.startswith("/") and "\0" not in value else ""
