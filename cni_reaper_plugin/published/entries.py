"""What libcni's cache says of an attachment's published ports: what the runtime gave, and portmap's entry in the list.

libcni writes `capabilityArgs` and `config` (the list, base64) into the entry once the whole chain's ADD has succeeded; the key is
left out where nothing was given. Source: containernetworking/cni libcni/api.go, cachedInfo (3f51e88).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin.evidence import libcni_cache

PORTMAP = "portmap"
KIND = "cniCacheV1"

Config = dict[str, object]

if TYPE_CHECKING:
    from collections.abc import Iterator


class Entry:
    """What is known of an attachment's ports.

    mappings: `portMappings` as the runtime gave them, [] for none; configs: what portmap gets on stdin, [] where the list has no
    portmap; args: CNI_ARGS.
    """

    __slots__ = ("args", "configs", "mappings")

    def __init__(self, mappings: list[object], configs: list[Config], args: str) -> None:
        self.mappings = mappings
        self.configs = configs
        self.args = args

    @property
    def has_ports(self) -> bool:
        """Whether portmap has published something."""
        return bool(self.mappings and self.configs)


def read(cache_dirs: list[str], network: str, container_id: str, ifname: str) -> Entry | None:
    """Return what the cache says; None where no entry is whole enough to say it. One with ports wins. Raises nothing."""
    known: Entry | None = None
    for told in _entries(cache_dirs, network, container_id, ifname):
        entry = _entry(told, network)
        if entry is not None and (known is None or entry.has_ports):
            known = entry
    return known


def chained(cache_dirs: list[str], network: str, container_id: str, ifname: str, kind: str) -> tuple[list[Config], str]:
    """Return what libcni would give to the DEL of an attachment's plugins of a type, by the cache, and CNI_ARGS. Raises nothing.

    The first entry that is whole counts; ([], "") without one.
    """
    for told in _entries(cache_dirs, network, container_id, ifname):
        conflist, capabilities = libcni_cache.conflist_of(told), told.get("capabilityArgs")
        if conflist is not None:
            given = capabilities if isinstance(capabilities, dict) else {}
            configs = [_config(one, conflist, told, network, _wanted(one, given)) for one in _plugins(conflist, kind)]
            return configs, _args(told)
    return [], ""


def _entries(cache_dirs: list[str], network: str, container_id: str, ifname: str) -> Iterator[Config]:
    """Yield the entries that are this attachment's."""
    for cache_dir in cache_dirs:
        try:
            told = libcni_cache.load(cache_dir, network, container_id, ifname)
        except (OSError, ValueError):  # among them what is too large
            continue
        if told.get("kind") == KIND:
            yield told


def _entry(told: Config, network: str) -> Entry | None:
    """Return what a whole entry says, None where it has ports and not the list that they were given to."""
    capabilities = told.get("capabilityArgs")
    mappings = capabilities.get("portMappings") if isinstance(capabilities, dict) else None
    if not isinstance(mappings, list) or not mappings:
        return Entry([], [], "")
    conflist = libcni_cache.conflist_of(told)
    if conflist is None:
        return None
    given: Config = {"portMappings": mappings}
    configs = [_config(one, conflist, told, network, given) for one in _plugins(conflist, PORTMAP)]
    return Entry(mappings, configs, _args(told))


def _plugins(conflist: Config, kind: str) -> list[Config]:
    """Return the entries of a list that are of a type."""
    plugins = conflist.get("plugins", [conflist])
    return [one for one in plugins if isinstance(one, dict) and one.get("type") == kind] if isinstance(plugins, list) else []


def _wanted(plugin: Config, given: Config) -> Config:
    """Return of what the runtime gave what a plugin takes."""
    takes = plugin.get("capabilities")
    return {key: value for key, value in given.items() if isinstance(takes, dict) and takes.get(key) is True}


def _config(plugin: Config, conflist: Config, told: Config, network: str, given: Config) -> Config:
    """Return what libcni would give to a plugin's DEL."""
    config = {**plugin, "name": network, "cniVersion": conflist.get("cniVersion", "")}
    if given:
        config["runtimeConfig"] = given
    if isinstance(told.get("result"), dict):
        config["prevResult"] = told["result"]
    return config


def _args(told: Config) -> str:
    pairs = ["%s=%s" % (name, value) for name, value in libcni_cache.cni_args(told)]
    return ";".join(pair for pair in pairs if "\0" not in pair)
