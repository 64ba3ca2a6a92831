"""Which conflists of this node our entry belongs into, and which directories of plugins then need our executable."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cni_reaper_plugin.attachment import valid_name
from cni_reaper_plugin.operator.conflists import conflist, plugin_path, position
from cni_reaper_plugin.operator.conflists.conflist import Conflist, ConflistError
from cni_reaper_plugin.operator.conflists.runtimes import ETC

_NOTHING_TO_FREE = (
    "no plugin in it uses host-local (%s), so there is nothing for us to free: name it with --conflist to put us in all the same."
)
_NOT_THERE = (
    "none of its plugins (%s) is in %s, so no runtime would find us there: name the directory that has them with --bin-dir, or "
    "wait until they are there."
)

if TYPE_CHECKING:
    from cni_reaper_plugin.operator.conflists.directory import File
    from cni_reaper_plugin.operator.conflists.runtimes import Place
    from cni_reaper_plugin.operator.install.snapshot import Snapshot


@dataclass(frozen=True)
class Target:
    """file: a conflist; bin_dirs: where the runtimes that read it look for our executable, one for each; also: where another one
    may look, since plugins of the chain are there."""

    file: File
    bin_dirs: list[str]
    also: list[str] = field(default_factory=list)

    @property
    def all_bin_dirs(self) -> list[str]:
        """Both."""
        return [*self.bin_dirs, *self.also]


@dataclass
class Targets:
    """What there is to do. problems: sentences about what cannot be; refused: the plugins that are missing in a directory which
    the person has named; waiting: some place has no conflist yet."""

    found: list[Target] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)

    @property
    def bin_dirs(self) -> list[str]:
        """The directories of plugins, each once."""
        return list(dict.fromkeys(one for target in self.found for one in target.all_bin_dirs))


def find(node: Snapshot) -> Targets:
    """Return the conflists that are in use."""
    targets = Targets()
    for file in node.named.values():
        _add(file, _place_of(file, node), node, targets)
    looked_at = of_runtimes(node) if not node.named else []
    for place, files in looked_at:
        number = position.master([(one.path, one.told) for one in files])
        if number < 0:
            targets.waiting.append(place.conf_dir)
            continue
        path, one = files[number].path, files[number].told
        if isinstance(one, ConflistError):
            targets.problems.append(f"{path}: {one}")
        elif not conflist.host_local(one):
            kinds = ", ".join(sorted({ipam.kind for ipam in conflist.ipams(one)})) or "no ipam section"
            targets.problems.append(f"{path}: {_NOTHING_TO_FREE % kinds}")
        else:
            _add(files[number], place, node, targets)
    if not looked_at and not node.named:
        targets.waiting.append(ETC)
    if targets.found:  # then a directory that is there, and that nobody has named, is nobody's
        targets.waiting = [place.conf_dir for place, _ in looked_at if place.sure and place.conf_dir in targets.waiting]
    return targets


def _add(file: File, place: Place, node: Snapshot, targets: Targets) -> None:
    """Add a conflist, unless the directory of plugins that the person has named cannot be its runtime's."""
    kinds = others(file)
    target = Target(file, *_bin_dirs(kinds, place))
    if node.given.bin_dirs:
        (named,) = target.bin_dirs
        there = any(os.path.lexists(f"{named}/{kind}") for kind in kinds)  # links of the node's, in a container
        if kinds and not there and not any(named in one for one in node.configuration.place_of(place.conf_dir).paths):
            targets.problems.append(f"{file.path}: {_NOT_THERE % (', '.join(kinds), named)}")
            targets.refused[named] = kinds
            return
    targets.found.append(target)


def _bin_dirs(kinds: list[str], place: Place) -> tuple[list[str], list[str]]:
    """Choose from the directories of a place: one for each runtime that is configured, or else the default; and besides those
    that have plugins of the chain (kinds), since somebody may look there."""
    also = _with_plugins(place.defaults, kinds)
    needed = list(dict.fromkeys(_first(one, kinds) for one in place.paths)) or [_first(place.defaults, kinds)]
    return needed, [one for one in also if one not in needed]


def _first(bin_dirs: list[str], kinds: list[str]) -> str:
    """Return the first of these directories that has the plugins, else the first, whether it is there yet or not."""
    return [*_with_plugins(bin_dirs, kinds), *bin_dirs][0]


def _with_plugins(bin_dirs: list[str], kinds: list[str]) -> list[str]:
    return [one for one in bin_dirs if any(plugin_path.locate(kind, [one]) for kind in kinds)]


def others(file: File) -> list[str]:
    """Return the types of a conflist's plugins but for ours, those that can be names of files; [] when it cannot be loaded."""
    types = file.told.types if isinstance(file.told, Conflist) else []
    return [kind for kind in types if kind != conflist.OURS and valid_name(kind)]


def of_runtimes(node: Snapshot) -> list[tuple[Place, tuple[File, ...]]]:
    """Return the places that runtimes of pods read, with what is in each; podman's on a node of k3s is none of them."""
    by_place = [(place, node.directories[place.conf_dir].files) for place in node.places]
    known = any(place.sure and here for place, here in by_place)
    return [(place, here) for place, here in by_place if place.sure or not known]


def bin_dirs(node: Snapshot, wished: Targets) -> list[str]:
    """Return the directories of plugins that need our executable, where no conflist says which the first of each place."""
    known = wished.bin_dirs or _by_default(node)
    return [one for one in known if one not in wished.refused]


def _by_default(node: Snapshot) -> list[str]:
    if node.given.bin_dirs:
        return node.given.bin_dirs
    found = of_runtimes(node) or [(node.configuration.place_of(ETC), ())]
    chosen = [_bin_dirs(others(here[0]) if here else [], place) for place, here in found]
    return list(dict.fromkeys(one for needed, also in chosen for one in [*needed, *also]))


def _place_of(file: File, node: Snapshot) -> Place:
    return node.configuration.places([os.path.dirname(os.path.abspath(file.path))], node.given.bin_dirs)[0]
