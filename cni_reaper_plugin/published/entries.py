"""What libcni's cache says of an attachment's published ports: what the runtime gave, and portmap's entry in the list.

libcni writes `capabilityArgs` and `config` (the list, base64) into the entry once the whole chain's ADD has succeeded; the key is
left out where nothing was given. Source: containernetworking/cni libcni/api.go, cachedInfo (3f51e88).
"""

import posix

import orjson

from cni_reaper_plugin import files
from cni_reaper_plugin.evidence import libcni_cache

PORTMAP = "portmap"
KIND = "cniCacheV1"
_LIMIT = 1 << 22

Config = dict[str, object]


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
    for cache_dir in cache_dirs:
        path = "%s/results/%s-%s-%s" % (cache_dir, network, container_id, ifname)
        try:
            told = orjson.loads(files.read(path, limit=_LIMIT, flags=posix.O_NOFOLLOW))
        except (OSError, ValueError):  # among them what is no JSON, and what is too large
            continue
        names = {"networkName": network, "containerId": container_id, "ifName": ifname}
        if not isinstance(told, dict) or any(told.get(key, name) != name for key, name in names.items()):
            continue
        entry = _entry(told, network) if told.get("kind") == KIND else None
        if entry is not None and (known is None or entry.has_ports):
            known = entry
    return known


def _entry(told: Config, network: str) -> Entry | None:
    """Return what a whole entry says, None where it has ports and not the list that they were given to."""
    capabilities = told.get("capabilityArgs")
    mappings = capabilities.get("portMappings") if isinstance(capabilities, dict) else None
    if not isinstance(mappings, list) or not mappings:
        return Entry([], [], "")
    config = told.get("config")
    try:
        conflist = orjson.loads(libcni_cache.from_base64(config)) if isinstance(config, str) else None
    except ValueError:
        return None
    if not isinstance(conflist, dict):
        return None
    plugins = conflist.get("plugins", [conflist])
    ours = [one for one in plugins if isinstance(one, dict) and one.get("type") == PORTMAP] if isinstance(plugins, list) else []
    return Entry(mappings, [_config(one, conflist, told, network, mappings) for one in ours], _args(told))


def _config(plugin: Config, conflist: Config, told: Config, network: str, mappings: list[object]) -> Config:
    """Return what libcni would give to portmap's DEL."""
    config = {**plugin, "name": network, "cniVersion": conflist.get("cniVersion", "")}
    config["runtimeConfig"] = {"portMappings": mappings}
    if isinstance(told.get("result"), dict):
        config["prevResult"] = told["result"]
    return config


def _args(told: Config) -> str:
    args = told.get("cniArgs")
    pairs = [one for one in args if isinstance(one, list) and len(one) == 2] if isinstance(args, list) else []
    return ";".join("%s=%s" % (name, value) for name, value in pairs if "\0" not in "%s%s" % (name, value))
