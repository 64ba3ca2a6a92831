"""Which conflists of this node our entry belongs into, and which directories of plugins then need our executable."""

import os
from dataclasses import dataclass, field

from cni_reaper_plugin.operator import conflist, installed, placement
from cni_reaper_plugin.operator.conflist import ConflistError
from cni_reaper_plugin.operator.places import ETC, Place, places

_NOTHING_TO_FREE = (
    "no plugin in it uses host-local (%s), so there is nothing for us to free: name it with --conflist to put us in all the same."
)


@dataclass(frozen=True)
class Target:
    """path: a conflist; bin_dir: where the runtime that reads it finds its plugins; named: the person has named the file."""

    path: str
    bin_dir: str
    named: bool = False


@dataclass
class Targets:
    """What there is to do. problems: sentences about what cannot be; waiting: some place has no conflist yet."""

    found: list[Target] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    @property
    def bin_dirs(self) -> list[str]:
        """The directories of plugins, each once."""
        return list(dict.fromkeys(target.bin_dir for target in self.found))


@dataclass(frozen=True)
class Given:
    """What the command line says of places: directories and files, [] for what the runtimes of this node have."""

    conf_dirs: list[str]
    bin_dirs: list[str]
    files: list[str]


def find(given: Given) -> Targets:
    """Look for the conflists that are in use. Reads only."""
    if given.files:
        return Targets([Target(path, _bin_dir(_place_of(path, given), path), named=True) for path in given.files])
    targets = Targets()
    looked_at = of_runtimes(given)
    for place, entries in looked_at:
        number = placement.master(entries)
        if number < 0:
            targets.waiting.append(place.conf_dir)
            continue
        path, one = entries[number]
        if isinstance(one, ConflistError):
            targets.problems.append("%s: %s" % (path, one))
        elif not conflist.host_local(one):
            kinds = ", ".join(sorted({ipam.kind for ipam in conflist.ipams(one)})) or "no ipam section"
            targets.problems.append("%s: %s" % (path, _NOTHING_TO_FREE % kinds))
        else:
            targets.found.append(Target(path, _bin_dir(place, path)))
    if not looked_at:
        targets.waiting.append(ETC)
    return targets


def of_runtimes(given: Given) -> "list[tuple[Place, conflist.Found]]":
    """Return the places that runtimes of pods read, with what is in each; podman's on a node of k3s is none of them."""
    by_place = [(place, conflist.found([place.conf_dir])) for place in places(given.conf_dirs, given.bin_dirs)[0]]
    known = any(place.sure and here for place, here in by_place)
    return [(place, here) for place, here in by_place if place.sure or not known]


def bin_dirs(given: Given) -> list[str]:
    """Return the directories of plugins, where no conflist says which."""
    if given.bin_dirs:
        return given.bin_dirs
    found = of_runtimes(given) or [(Place(ETC, places([ETC], [])[0][0].bin_dirs, sure=False), [])]
    return list(dict.fromkeys(_bin_dir(place, here[0][0] if here else "") for place, here in found))


def _place_of(path: str, given: Given) -> Place:
    return places([os.path.dirname(os.path.abspath(path))], given.bin_dirs)[0][0]


def _bin_dir(place: Place, path: str) -> str:
    """Return the directory of a place's list that has the plugins of a conflist, else the first that there is."""
    try:
        kinds = [kind for kind in conflist.load(path).types if kind != conflist.OURS] if path else []
    except ConflistError:
        kinds = []
    with_plugins = [one for one in place.bin_dirs if any(installed.locate(kind, [one]) for kind in kinds)]
    there = [one for one in place.bin_dirs if os.path.isdir(one)]
    return [*with_plugins, *there, *place.bin_dirs][0]
