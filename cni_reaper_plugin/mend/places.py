"""Where broken files are looked for, and which names there are the writer's own.

libcni writes `<cacheDir>/results/<network>-<container ID>-<ifname>`, flannel's plugin `<dataDir>/<container ID>`, multus
`<cniDir>/<container ID>`. A file with a name of another form is never opened. Sources: containernetworking/cni libcni/api.go
getCacheFilePath (1.1.2), containernetworking/plugins meta/flannel saveScratchNetConf (0.9.1), multus-cni pkg/multus (4.3).
"""

from __future__ import annotations

import posix
from typing import TYPE_CHECKING

from cni_reaper_plugin.attachment import CNITOOL, valid_ifname, valid_name
from cni_reaper_plugin.system import files

LIBCNI, FLANNEL, MULTUS = "libcni", "flannel", "multus"
SCRATCH_DIRS = ((FLANNEL, "/var/lib/cni/flannel"), (MULTUS, "/var/lib/cni/multus"))
"""The directories of delegating plugins that have no option for them in cni-reaper's entry: (kind, directory)."""

_RESULTS = (("results",), ("cache", "results"))
_HEX = frozenset("0123456789abcdef")

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Named = tuple[str, str, str]


class Place:
    """One directory of broken files.

    kind: LIBCNI, FLANNEL or MULTUS; directory: an absolute path, as it is configured; below: the parts of the path below it.
    """

    __slots__ = ("below", "directory", "kind")

    def __init__(self, kind: str, directory: str, below: Sequence[str] = ()) -> None:
        self.kind = kind
        self.directory = directory
        self.below = tuple(below)

    @property
    def path(self) -> str:
        """The directory that holds the files."""
        return "/".join((self.directory.rstrip("/"), *self.below)) or "/"

    def open(self) -> int:
        """Open the directory that holds the files, and return its descriptor, which the caller closes.

        The configured directory may be a symlink, since its writer follows one. What libcni makes below it is never followed.
        Raises OSError: FileNotFoundError where it is missing, NotADirectoryError where it is a symlink or no directory.
        """
        fd = posix.open(self.directory, files.DIRECTORY)
        for name in self.below:
            try:
                below = posix.open(name, files.DIRECTORY | posix.O_NOFOLLOW, dir_fd=fd)
            finally:
                posix.close(fd)
            fd = below
        return fd

    def named(self, name: str, networks: Iterable[str] = ()) -> Named | None:
        """Return (network, container ID, ifname) of a file's name, "" for what it does not hold; None for another form.

        networks: names that are known; libcni's names are ambiguous, since each part of one may hold a dash.
        """
        if self.kind == LIBCNI:
            return _of_libcni(name, networks)
        return ("", name, "") if _is_of_runtime(name) else None


def places(cache_dirs: Iterable[str], scratch_dirs: Iterable[tuple[str, str]] = SCRATCH_DIRS) -> list[Place]:
    """Return each place once, libcni's first.

    cache_dirs: as the option cacheDirs, absolute; scratch_dirs: (FLANNEL or MULTUS, absolute directory).
    """
    found: dict[str, Place] = {}
    for directory in cache_dirs:
        for below in _RESULTS:
            place = Place(LIBCNI, directory, below)
            found.setdefault(place.path, place)
    for kind, directory in scratch_dirs:
        place = Place(kind, directory)
        found.setdefault("%s %s" % (kind, place.path), place)
    return list(found.values())


def _is_of_runtime(name: str) -> bool:
    """Tell whether a name is a container ID that a runtime of pods gives, 64 hex digits, or one of cnitool.

    So strict, since a dataDir may be a directory that holds other files, too (/run/flannel/subnet.env).
    """
    digits = name.removeprefix(CNITOOL)
    return len(digits) == (64 if digits == name else 20) and _HEX.issuperset(digits)


def _of_libcni(name: str, networks: Iterable[str]) -> Named | None:
    parts = name.split("-")
    for number in range(1, len(parts) - 1):
        first = number - 1 if parts[number - 1] == "cnitool" and number > 1 else number
        container_id = "-".join(parts[first : number + 1])
        if _is_of_runtime(container_id):
            return _valid("-".join(parts[:first]), container_id, "-".join(parts[number + 1 :]))
    for network in sorted(networks, key=len, reverse=True):
        if name.startswith(network + "-"):
            container_id, _, ifname = name[len(network) + 1 :].rpartition("-")
            if container_id:
                return _valid(network, container_id, ifname)
    return _valid("-".join(parts[:-2]), *parts[-2:]) if len(parts) > 2 else None


def _valid(network: str, container_id: str, ifname: str) -> Named | None:
    if valid_name(network) and valid_name(container_id) and valid_ifname(ifname):
        return network, container_id, ifname
    return None
