"""Conflists as the runtimes load them: which there are, which plugins are in them, and where their host-local keeps its store.

Reading only. A conflist is written by others, so any JSON value may stand anywhere in it; what is not as the SPEC has it raises
ConflistError, or counts as not there. Source: libcni/conf.go (3f51e88), containerd/go-cni opts.go.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

import orjson

from cni_reaper_plugin.attachment import valid_name
from cni_reaper_plugin.operator.conflists import go_json
from cni_reaper_plugin.options import Settings
from cni_reaper_plugin.system import files

OURS = "cni-reaper"
HOST_LOCAL = "host-local"
MULTUS = ("multus", "multus-shim")
EXTENSIONS = (".conf", ".conflist", ".json")
_LIMIT = 1 << 20  # bytes; etcd, where many come from, takes no more
_NO_VERSION = "0.1.0"  # what libcni takes a list for that has none

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Json = dict[str, object]
    Found = list[tuple[str, "Conflist | ConflistError"]]


class ConflistError(Exception):
    """A file that the runtime cannot load either; one sentence that says what to do."""


class Conflist(NamedTuple):
    """One network configuration.

    path: the file; name: valid_name; version: cniVersion; plugins: JSON objects, each with a `type` that is a str; single: the
    file holds one plugin and no list (.conf); inlined_only: libcni is to load no plugins from a directory `name` beside it.
    """

    path: str
    name: str
    version: str
    plugins: list[Json]
    single: bool = False
    inlined_only: bool = False

    @property
    def types(self) -> list[str]:
        """The plugins' types, in their order."""
        return [str(plugin["type"]) for plugin in self.plugins]

    @property
    def ours(self) -> list[Json]:
        """Our entries."""
        return [plugin for plugin in self.plugins if plugin["type"] == OURS]

    @property
    def is_multus(self) -> bool:
        """Whether this is multus' own file, which hands on to another conflist."""
        return self.types[0] in MULTUS


class Ipam(NamedTuple):
    """An ipam section. plugin: the type of the plugin that calls it; kind: its own type; data_dir: host-local's dataDir;
    network: the name of its directory there; section: itself, with ranges as they are written, "usePodCidr" among them."""

    plugin: str
    kind: str
    data_dir: str
    network: str
    section: Json


def load(path: str) -> Conflist:
    """Read one file. Raises ConflistError."""
    return of_bytes(path, read(path))


def read(path: str) -> bytes:
    """Return the bytes of a configuration file, which is looked at before it is opened. Raises ConflistError."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConflistError("it is no regular file: remove it.")
        return files.read(path, limit=_LIMIT)
    except files.TooLargeError:
        raise ConflistError("it has more than %d bytes, which is more than we read: edit it by hand." % _LIMIT) from None
    except FileNotFoundError:
        raise ConflistError("it leads to no file: remove the link, or put back what it leads to.") from None
    except OSError as e:
        raise ConflistError(f"it cannot be read ({e.strerror}): run this as root, or look at the file system.") from None


def found(directories: Iterable[str]) -> Found:
    """Return what is in directories, in the order in which a runtime loads it: the first of each is the one it uses."""
    entries: Found = []
    for directory in directories:
        for path in files_of(directory):
            try:
                entries.append((path, load(path)))
            except ConflistError as e:
                entries.append((path, e))
    return entries


def files_of(directory: str, extensions: tuple[str, ...] = EXTENSIONS) -> list[str]:
    """Return the paths of a directory's configuration files, sorted by name; [] when it cannot be listed."""
    try:
        with os.scandir(directory) as entries:
            names = [one.name for one in entries if one.name.endswith(extensions) and not one.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [f"{directory.rstrip('/')}/{name}" for name in sorted(names)]


def of_bytes(path: str, data: bytes) -> Conflist:
    """Return the conflist that a file has in it; its name says whether it is a list. Raises ConflistError."""
    try:
        told = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        raise ConflistError(f"it cannot be parsed as JSON ({e}): correct it, or have it written again.") from None
    return of_object(path, told, path.endswith(".conflist"))


def no_constant(name: str) -> object:
    """Refuse NaN and Infinity, which json.loads takes and JSON does not have. Raises ValueError."""
    raise ValueError(name)


def of_object(path: str, told: object, is_list: bool) -> Conflist:
    """Return the conflist of a JSON value; is_list: whether it must be a list, or one plugin. Raises ConflistError."""
    if not isinstance(told, dict):
        raise ConflistError("it is no JSON object: correct it.")
    if not is_list and "plugins" in told and "type" not in go_json.plugin(told):
        raise ConflistError("it holds a list of plugins: a file of that kind has to be named *.conflist.")
    head = told if is_list else go_json.plugin(told)
    name, version = head.get("name"), head.get("cniVersion", _NO_VERSION)
    if not isinstance(name, str) or not valid_name(name):
        raise ConflistError("its `name` is no name of a network: give it one of letters, digits, `_`, `.` and `-`.")
    if not isinstance(version, str):
        raise ConflistError("its `cniVersion` is no text: write a version of the CNI protocol there.")
    plugins = told.get("plugins") if is_list else [told]
    if not isinstance(plugins, list) or not plugins:
        raise ConflistError("it has no list of `plugins`: add one.")
    plugins = [go_json.plugin(plugin, OURS) if isinstance(plugin, dict) else plugin for plugin in plugins]
    for number, plugin in enumerate(plugins):
        if not isinstance(plugin, dict) or not isinstance(plugin.get("type"), str) or not plugin["type"]:
            raise ConflistError("entry %d of `plugins` has no `type`: add it, or remove the entry." % (number + 1))
    inlined_only = str(told.get("loadOnlyInlinedPlugins")).lower() == "true"  # libcni's readBool takes both
    return Conflist(path, name, version or _NO_VERSION, plugins, not is_list, inlined_only)


def delegates(conflist: Conflist) -> list[Conflist]:
    """Return the configurations that multus' own file holds copies of; what is none is left out."""
    copies: list[Conflist] = []
    for plugin in conflist.plugins:
        inlined = plugin.get("delegates")
        for one in inlined if isinstance(inlined, list) else ():
            try:
                copies.append(of_object(conflist.path, one, isinstance(one, dict) and "plugins" in one))
            except ConflistError:
                continue
    return copies


def cluster_network(conflist: Conflist) -> str:
    """Return the path of the conflist that multus hands on to, "" where it names none by its path."""
    named = conflist.plugins[0].get("clusterNetwork")
    return named if isinstance(named, str) and named.startswith("/") and "\0" not in named else ""


def has_drop_ins(conflist: Conflist) -> bool:
    """Tell whether there is a directory that is called as the network is, beside its file, and libcni 1.3 and later reads it."""
    return not conflist.inlined_only and not conflist.single and os.access(_beside(conflist) + "/.", os.F_OK)


def _beside(conflist: Conflist) -> str:
    return f"{conflist.path.rpartition('/')[0]}/{conflist.name}"


def drop_ins(conflist: Conflist) -> list[Json]:
    """Return the plugins that libcni appends to a list from that directory."""
    plugins: list[Json] = []
    for path in files_of(_beside(conflist), (".conf",)) if has_drop_ins(conflist) else ():
        try:
            told = of_drop_in(read(path))
        except ConflistError:
            continue
        if isinstance(told.get("type"), str):
            plugins.append(told)
    return plugins


def of_drop_in(data: bytes) -> Json:
    """Return the object that such a file holds. Raises ConflistError."""
    try:
        told = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        raise ConflistError(f"it is no JSON ({e}): correct it.") from None
    if not isinstance(told, dict):
        raise ConflistError("it is no JSON object: correct it.")
    return go_json.plugin(told, OURS)


def ipams(conflist: Conflist) -> list[Ipam]:
    """Return the ipam sections of a conflist's plugins and of what they delegate to."""
    return [one for plugin in conflist.plugins for one in _ipams_of(plugin, conflist.name)]


def host_local(conflist: Conflist) -> list[Ipam]:
    """Return those of them that are host-local's: the stores that an entry of ours in the same list is there for."""
    return [one for one in ipams(conflist) if one.kind == HOST_LOCAL]


def _ipams_of(plugin: Json, network: str) -> Iterator[Ipam]:
    kind, delegate = str(plugin["type"]), plugin.get("delegate")
    section = plugin.get("ipam")
    if section is None and isinstance(delegate, dict):
        section = delegate.get("ipam")
    if section is None and kind == "flannel":
        section = {"type": HOST_LOCAL}  # flannel fills in the range that it knows from /run/flannel
    if not isinstance(section, dict) or not isinstance(section.get("type", HOST_LOCAL), str):
        return
    own = section.get("type", HOST_LOCAL if kind == "flannel" else "")
    if not own:
        return
    data_dir = section.get("dataDir")
    if not isinstance(data_dir, str) or not data_dir or "\0" in data_dir:
        data_dir = Settings().data_dir
    yield Ipam(kind, own, data_dir.rstrip("/") or "/", network, section)
