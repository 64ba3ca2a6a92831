"""libcni's result cache: `<cacheDir>/results/<network>-<id>-<ifname>`, opened by exact name, never listed.

libcni writes an entry after the whole chain's ADD has succeeded and without fsync, so a missing or empty one proves nothing.
Source: containernetworking/cni libcni/api.go (3f51e88); `netns` is there since v1.2.0, the bare result before v0.8.0.
"""

import posix

import orjson

from cni_reaper_plugin import files
from cni_reaper_plugin.facts import Mapping

_LIMIT = 1 << 22


def read(cache_dirs: list[str], network: str, container_id: str, ifname: str) -> Mapping | None:
    """Return what the first entry found says of the attachment's netns, None when none says anything.

    Raises OSError when an entry cannot be read.
    """
    for cache_dir in cache_dirs:
        path = "%s/results/%s-%s-%s" % (cache_dir, network, container_id, ifname)
        try:
            raw = files.read(path, limit=_LIMIT, flags=posix.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError, files.TooLargeError):
            continue
        netns = _netns(raw, network, container_id, ifname)
        if netns:
            return Mapping("cache", netns)
    return None


def _netns(raw: bytes, network: str, container_id: str, ifname: str) -> str:
    """Return the netns path of an entry: `netns`, else the first sandbox of its result; "" when it has none.

    The parts of the file name may hold dashes themselves, so what the entry says of its own attachment must agree.
    """
    try:
        entry = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(entry, dict):
        return ""
    names = {"networkName": network, "containerId": container_id, "ifName": ifname}
    if any(entry.get(key, name) != name for key, name in names.items()):
        return ""
    result = entry.get("result") if "kind" in entry else entry
    interfaces = result.get("interfaces") if isinstance(result, dict) else None
    paths = [entry.get("netns")]
    if isinstance(interfaces, list):
        paths += [interface.get("sandbox") for interface in interfaces if isinstance(interface, dict)]
    for path in paths:
        if isinstance(path, str) and path.startswith("/") and "\0" not in path:
            return path
    return ""
