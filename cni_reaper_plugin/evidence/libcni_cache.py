"""libcni's result cache: `<cacheDir>/results/<network>-<id>-<ifname>`, opened by exact name, never listed.

libcni writes an entry after the whole chain's ADD has succeeded and without fsync, so a missing or empty one proves nothing.
Source: containernetworking/cni libcni/api.go (3f51e88); `netns` is there since v1.2.0, the bare result before v0.8.0.
"""

import posix

import orjson

from cni_reaper_plugin.model import Mapping
from cni_reaper_plugin.system import files

_LIMIT = 1 << 22
_ABSENT = (FileNotFoundError, NotADirectoryError, files.TooLargeError)
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def read(cache_dirs: list[str], network: str, container_id: str, ifname: str) -> Mapping | None:
    """Return what the first entry found says of the attachment's netns, None when none says anything.

    Raises OSError when an entry cannot be read.
    """
    for cache_dir in cache_dirs:
        try:
            entry = load(cache_dir, network, container_id, ifname)
        except _ABSENT:
            continue
        netns = _netns(entry)
        if netns:
            mapping = Mapping("cache", netns)
            mapping.pod = _pod(entry)
            return mapping
    return None


def conflist_of(entry: dict[str, object]) -> dict[str, object] | None:
    """Return the conflist that an entry has, None where it is not whole."""
    config = entry.get("config")
    try:
        told = orjson.loads(from_base64(config)) if isinstance(config, str) else None
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def from_base64(text: str) -> bytes:
    """Decode what Go writes for []byte. Raises ValueError. (binascii wants a zlib that nodes without Python may not have.)"""
    digits = text.rstrip("=")
    bits = "".join(f"{_BASE64.index(digit):06b}" for digit in digits)
    whole = len(bits) // 8
    return int(bits[: 8 * whole] or "0", 2).to_bytes(whole, "big")


def load(cache_dir: str, network: str, container_id: str, ifname: str) -> dict[str, object]:
    """Return an attachment's entry in one cache; {} when it is no JSON object, or another attachment's. Raises OSError.

    The parts of the file name may hold dashes themselves, so what the entry says of its own attachment must agree.
    """
    path = "%s/results/%s-%s-%s" % (cache_dir, network, container_id, ifname)
    try:
        entry = orjson.loads(files.read(path, limit=_LIMIT, flags=posix.O_NOFOLLOW))
    except orjson.JSONDecodeError:
        return {}
    names = {"networkName": network, "containerId": container_id, "ifName": ifname}
    if not isinstance(entry, dict) or any(entry.get(key, name) != name for key, name in names.items()):
        return {}
    return entry


def _pod(entry: dict[str, object]) -> dict[str, object]:
    """Return {namespace, name} as far as CNI_ARGS told: for people, never evidence."""
    keys = {"K8S_POD_NAMESPACE": "namespace", "K8S_POD_NAME": "name"}
    args = cni_args(entry)
    return {keys[name]: value for name, value in args if isinstance(name, str) and name in keys and isinstance(value, str)}


def cni_args(entry: dict[str, object]) -> list[list[object]]:
    """Return the pairs of CNI_ARGS that an entry has."""
    args = entry.get("cniArgs")
    return [pair for pair in args if isinstance(pair, list) and len(pair) == 2] if isinstance(args, list) else []


def _netns(entry: dict[str, object]) -> str:
    """Return the netns path of an entry: `netns`, else the first sandbox of its result; "" when it has none."""
    result = entry.get("result") if "kind" in entry else entry
    interfaces = result.get("interfaces") if isinstance(result, dict) else None
    paths = [entry.get("netns")]
    if isinstance(interfaces, list):
        paths += [interface.get("sandbox") for interface in interfaces if isinstance(interface, dict)]
    for path in paths:
        if isinstance(path, str) and path.startswith("/") and "\0" not in path:
            return path
    return ""
