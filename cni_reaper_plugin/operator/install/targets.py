"""Which conflists of this node our entry belongs into, and which directories of plugins then need our executable."""

import os
from dataclasses import dataclass, field

from cni_reaper_plugin.attachment import valid_name
from cni_reaper_plugin.operator.conflists import conflist, plugin_path, position
from cni_reaper_plugin.operator.conflists.conflist import ConflistError
from cni_reaper_plugin.operator.conflists.runtimes import ETC, Place, place_of, places

_NOTHING_TO_FREE = (
    "no plugin in it uses host-local (%s), so there is nothing for us to free: name it with --conflist to put us in all the same."
)
_NOT_THERE = (
    "none of its plugins (%s) is in %s, so no runtime would find us there: name the directory that has them with --bin-dir, or "
    "wait until they are there."
)


@dataclass(frozen=True)
class Target:
    """path: a conflist; bin_dirs: where the runtimes that read it look for our executable, one for each; also: where another one
    may look, since plugins of the chain are there."""

    path: str
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


@dataclass(frozen=True)
class Given:
    """What the command line says of places: directories and files, [] for what the runtimes of this node have."""

    conf_dirs: list[str]
    bin_dirs: list[str]
    files: list[str]


def find(given: Given) -> Targets:
    """Look for the conflists that are in use. Reads only."""
    targets = Targets()
    for path in given.files:
        _add(path, _place_of(path, given), given, targets)
    looked_at = of_runtimes(given) if not given.files else []
    for place, entries in looked_at:
        number = position.master(entries)
        if number < 0:
            targets.waiting.append(place.conf_dir)
            continue
        path, one = entries[number]
        if isinstance(one, ConflistError):
            targets.problems.append(f"{path}: {one}")
        elif not conflist.host_local(one):
            kinds = ", ".join(sorted({ipam.kind for ipam in conflist.ipams(one)})) or "no ipam section"
            targets.problems.append(f"{path}: {_NOTHING_TO_FREE % kinds}")
        else:
            _add(path, place, given, targets)
    if not looked_at and not given.files:
        targets.waiting.append(ETC)
    if targets.found:  # then a directory that is there, and that nobody has named, is nobody's
        targets.waiting = [place.conf_dir for place, _ in looked_at if place.sure and place.conf_dir in targets.waiting]
    return targets


def _add(path: str, place: Place, given: Given, targets: Targets) -> None:
    """Add a conflist, unless the directory of plugins that the person has named cannot be its runtime's."""
    target = _target(path, place)
    if given.bin_dirs:
        (named,) = target.bin_dirs
        kinds = others(path)
        there = any(os.path.lexists(f"{named}/{kind}") for kind in kinds)  # links of the node's, in a container
        if kinds and not there and not any(named in one for one in place_of(place.conf_dir).paths):
            targets.problems.append(f"{path}: {_NOT_THERE % (', '.join(kinds), named)}")
            targets.refused[named] = kinds
            return
    targets.found.append(target)


def _target(path: str, place: Place) -> Target:
    """Choose from the directories of a place: one for each runtime that is configured, or else the default, and none that has the
    chain's plugins is left out, since somebody may look there."""
    kinds = others(path)
    also = _with_plugins(place.defaults, kinds)
    needed = list(dict.fromkeys(_first(one, kinds) for one in place.paths)) or [_first(place.defaults, kinds)]
    return Target(path, needed, [one for one in also if one not in needed])


def _first(bin_dirs: list[str], kinds: list[str]) -> str:
    """Return the first of these directories that has the plugins, else the first, whether it is there yet or not."""
    return [*_with_plugins(bin_dirs, kinds), *bin_dirs][0]


def _with_plugins(bin_dirs: list[str], kinds: list[str]) -> list[str]:
    return [one for one in bin_dirs if any(plugin_path.locate(kind, [one]) for kind in kinds)]


def others(path: str) -> list[str]:
    """Return the types of a conflist's plugins but for ours, those that can be names of files; [] when it cannot be loaded."""
    try:
        return [kind for kind in conflist.load(path).types if kind != conflist.OURS and valid_name(kind)] if path else []
    except ConflistError:
        return []


def of_runtimes(given: Given) -> "list[tuple[Place, conflist.Found]]":
    """Return the places that runtimes of pods read, with what is in each; podman's on a node of k3s is none of them."""
    by_place = [(place, conflist.found([place.conf_dir])) for place in places(given.conf_dirs, given.bin_dirs)[0]]
    known = any(place.sure and here for place, here in by_place)
    return [(place, here) for place, here in by_place if place.sure or not known]


def bin_dirs(given: Given, wished: Targets) -> list[str]:
    """Return the directories of plugins that need our executable, where no conflist says which the first of each place."""
    known = wished.bin_dirs or _by_default(given)
    return [one for one in known if one not in wished.refused]


def _by_default(given: Given) -> list[str]:
    if given.bin_dirs:
        return given.bin_dirs
    found = of_runtimes(given) or [(place_of(ETC), [])]
    return list(dict.fromkeys(one for place, here in found for one in _target(here[0][0] if here else "", place).all_bin_dirs))


def _place_of(path: str, given: Given) -> Place:
    return places([os.path.dirname(os.path.abspath(path))], given.bin_dirs)[0][0]
