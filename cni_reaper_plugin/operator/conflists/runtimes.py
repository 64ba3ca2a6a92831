"""Where the runtimes of this node look: for conflists, and for the plugins' executables.

What a runtime's own configuration says counts, else what that runtime takes by default.
"""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING, NamedTuple

from cni_reaper_plugin.operator.conflists import conflist

ETC = "/etc/cni/net.d"
OPT = "/opt/cni/bin"

if TYPE_CHECKING:
    from collections.abc import Iterator


class Runtime(NamedTuple):
    """configs: files and directories of TOML; conf_dir, bin_dirs: where it looks when they say nothing."""

    configs: tuple[str, ...]
    conf_dir: str
    bin_dirs: tuple[str, ...]


class Place(NamedTuple):
    """A directory of conflists, and the directories in which the runtimes that read it look for executables.

    paths: each the directories of one runtime, as the person or its configuration has them; defaults: where some runtime would
    look whose configuration says nothing; sure: the person or a runtime's configuration has named conf_dir; else it is one that
    some runtime would look into by default.
    """

    conf_dir: str
    paths: list[list[str]]
    defaults: list[str] = []
    sure: bool = True

    @property
    def bin_dirs(self) -> list[str]:
        """All that is known of where they look."""
        return _unique(one for path in self.paths for one in path) or self.defaults

    @property
    def all_bin_dirs(self) -> list[str]:
        """Those, and where some other runtime would look by default."""
        return _unique(iter([*self.bin_dirs, *self.defaults]))


_K3S, _RKE2, _SNAP = "/var/lib/rancher/k3s", "/var/lib/rancher/rke2", "/var/snap/microk8s/current"
RUNTIMES = (
    Runtime(("/etc/containerd/config.toml", "/etc/containerd/conf.d"), ETC, (OPT, "/usr/lib/cni", "/usr/libexec/cni")),
    Runtime(("/etc/crio/crio.conf", "/etc/crio/crio.conf.d"), ETC, (OPT, "/usr/libexec/cni", "/usr/lib/cni")),
    Runtime(
        (_K3S + "/agent/etc/containerd/config.toml",),
        _K3S + "/agent/etc/cni/net.d",
        (_K3S + "/data/cni", _K3S + "/data/current/bin"),
    ),
    Runtime((_RKE2 + "/agent/etc/containerd/config.toml",), ETC, (OPT,)),
    Runtime((), _RKE2 + "/agent/etc/cni/net.d", (OPT, _RKE2 + "/data/cni")),
    Runtime((_SNAP + "/args/containerd.toml",), _SNAP + "/args/cni-network", (_SNAP + "/opt/cni/bin",)),
)


class Configuration(NamedTuple):
    """What the configurations of this node's runtimes say, read once.

    by_runtime: a place for each section that names one; there: the directories of conflists that are on this node; unread: what
    of it cannot be read, one text each.
    """

    by_runtime: list[tuple[Runtime, Place]]
    there: list[str]
    unread: list[str]

    def places(self, conf_dirs: list[str], bin_dirs: list[str]) -> list[Place]:
        """Return where to look. conf_dirs, bin_dirs: as the person has given them; [] for those of the runtimes here."""
        told = [place for _, place in self.by_runtime]
        silent = [one for one in RUNTIMES if not any(runtime is one and place.paths[0] for runtime, place in self.by_runtime)]
        wanted = conf_dirs or self.there
        named = [*conf_dirs, *(place.conf_dir for place in told)]
        if bin_dirs:
            return [Place(one, [bin_dirs], [], one in named) for one in wanted]
        return [Place(one, _paths_of(one, told), _default_bin_dirs(one, told, silent), one in named) for one in wanted]

    def place_of(self, conf_dir: str) -> Place:
        """Return what the runtimes of this node have for a directory of conflists."""
        return self.places([conf_dir], [])[0]


def configuration() -> Configuration:
    """Read the configurations of the runtimes of this node."""
    by_runtime, unread = _configured()
    known = [*(place.conf_dir for _, place in by_runtime), *_defaults()]
    return Configuration(by_runtime, _unique(one for one in known if _is_there(one)), unread)


def places(conf_dirs: list[str], bin_dirs: list[str]) -> tuple[list[Place], list[str]]:
    """Return where to look (`Configuration.places`), and what of the runtimes' configuration cannot be read, one text each."""
    read = configuration()
    return read.places(conf_dirs, bin_dirs), read.unread


def directories(given: list[str]) -> list[str]:
    """Return the directories of conflists: those given, else those that there are on this node."""
    return [place.conf_dir for place in places(given, [])[0]]


def environment(conf_dirs: list[str], bin_dirs: list[str]) -> dict[bytes, bytes]:
    """Return this process's environment, with a CNI_PATH of all directories in which runtimes of this node have plugins.

    conf_dirs, bin_dirs: as `places` takes them.
    """
    if b"CNI_PATH" in os.environb:
        return dict(os.environb)
    found = (one for place in places(conf_dirs, bin_dirs)[0] for one in place.all_bin_dirs)
    return {**os.environb, b"CNI_PATH": ":".join(dict.fromkeys(found)).encode("utf-8", "surrogateescape")}


def _defaults() -> Iterator[str]:
    return (runtime.conf_dir for runtime in RUNTIMES)


def _unique(names: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(name.rstrip("/") or "/" for name in names))


def _is_there(directory: str) -> bool:
    return os.access(directory + "/.", os.F_OK)


def _paths_of(conf_dir: str, told: list[Place]) -> list[list[str]]:
    """Return the paths that configurations name, each once."""
    found: list[list[str]] = []
    for path in (path for place in told if place.conf_dir == conf_dir for path in place.paths):
        if path and path not in found:
            found.append(path)
    return found


def _default_bin_dirs(conf_dir: str, told: list[Place], silent: list[Runtime]) -> list[str]:
    """Return where those runtimes look whose configuration names no directory of plugins."""
    by_default = _unique(one for runtime in silent if runtime.conf_dir == conf_dir for one in runtime.bin_dirs)
    return by_default or ([] if _paths_of(conf_dir, told) else [OPT, "/usr/lib/cni", "/usr/libexec/cni"])


def _configured() -> tuple[list[tuple[Runtime, Place]], list[str]]:
    """Return what the configurations of the runtimes say; one that names no directory of conflists has its default."""
    told: list[tuple[Runtime, Place]] = []
    unread: list[str] = []
    for runtime in RUNTIMES:
        for path in _configs(runtime):
            try:
                text = conflist.read(path).decode()
                sections = list(_sections(tomllib.loads(text)))
            except (conflist.ConflistError, ValueError, RecursionError) as e:
                unread.append(f"{path}: {e}")
                continue
            named = ((_path(one, "conf_dir", "network_dir") or runtime.conf_dir, _paths(one)) for one in sections)
            told += [(runtime, Place(conf_dir, [bin_dirs])) for conf_dir, bin_dirs in named]
    return told, unread


def _configs(runtime: Runtime) -> Iterator[str]:
    for path in runtime.configs:
        if path.endswith(".d"):
            yield from conflist.files_of(path, ("",))
        elif os.access(path, os.F_OK):
            yield path


def _sections(told: dict[str, object]) -> Iterator[dict[str, object]]:
    """Yield the tables that name the directories: containerd's plugins.*.cni, CRI-O's crio.network."""
    crio = told.get("crio")
    plugins = told.get("plugins")
    tables = [crio.get("network")] if isinstance(crio, dict) else []
    tables += [one.get("cni") for one in plugins.values() if isinstance(one, dict)] if isinstance(plugins, dict) else []
    yield from (one for one in tables if isinstance(one, dict))


def _path(section: dict[str, object], *keys: str) -> str:
    found = [value for key in keys if _is_path(value := section.get(key))]
    return str(found[0]).rstrip("/") or "/" if found else ""


def _paths(section: dict[str, object]) -> list[str]:
    named = [section.get("bin_dir")]
    for key in ("bin_dirs", "plugin_dirs"):
        more = section.get(key)
        named += more if isinstance(more, list) else []
    return _unique(str(one) for one in named if _is_path(one))


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/") and "\0" not in value
