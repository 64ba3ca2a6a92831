"""Proven views: in which PID and mount namespaces an ADD has seen its own pod's netns in this boot.

`/run/cni-reaper/views` is JSON {bootID: str, views: [[PID namespace, mount namespace, PID 1's start], ...], shown: [...]}.
Whoever looks from another view (a debug pod, a plugin inside a daemon's container) may be blind to every pod and never know it.
`shown` are those of the DELs of failed ADDs, which count until an ADD has proven a view of another PID namespace.
"""

import posix

import orjson

from cni_reaper_plugin.model import ALL, NEEDS_NO_POD, NOTHING, Permission
from cni_reaper_plugin.system import files

RUN_DIR = "/run/cni-reaper"
_FILE = "views"
_MOST = 64  # views worth remembering; the oldest go first
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h


def own_view() -> list[int]:
    """Return our view: the inode numbers of our PID and mount namespaces, and when the former's PID 1 was started.

    The numbers alone are given again to the next container at once. The start is in clock ticks since boot, field 22 of
    /proc/1/stat, proc(5). Raises OSError.
    """
    started = files.read("/proc/1/stat").rpartition(b")")[2].split()[19]
    return [posix.stat("/proc/self/ns/pid").st_ino, posix.stat("/proc/self/ns/mnt").st_ino, int(started)]


def proven(boot_id: str) -> list[list[int]]:
    """Return the views proven by an ADD of this boot, [] when there are none or the file is not ours."""
    return _noted(boot_id, "views")


def _noted(boot_id: str, key: str) -> list[list[int]]:
    try:
        noted = orjson.loads(files.read(RUN_DIR + "/" + _FILE, limit=1 << 16))
    except (OSError, orjson.JSONDecodeError):
        return []
    if not isinstance(noted, dict) or noted.get("bootID") != boot_id or not isinstance(noted.get(key), list):
        return []
    return [view for view in noted[key] if isinstance(view, list)]


def prove(boot_id: str, view: list[int], key: str = "views") -> None:
    """Note a view, our own, as proven; key: "views" by an ADD, "shown" by a DEL. Raises OSError."""
    noted: dict[str, object] = {"bootID": boot_id, "views": proven(boot_id), "shown": _noted(boot_id, "shown")}
    noted[key] = [*_noted(boot_id, key)[1 - _MOST :], view]
    files.replace_in(RUN_DIR, _FILE, orjson.dumps(noted))


def may_show(boot_id: str, view: list[int]) -> bool:
    """Tell whether a DEL may prove our view: no ADD of this boot has proven one, or only in our PID namespace."""
    known = proven(boot_id)
    return view not in known and all(one[::2] == view[::2] for one in known)


def allowance(boot_id: str, view: list[int]) -> Permission:
    """Return what may be reaped in our view without an ADD's self-check: ALL where it is proven, NEEDS_NO_POD, or NOTHING.

    Before the first ADD of a boot the initial PID namespace with PID 1's mount namespace counts, for NEEDS_NO_POD.
    Raises OSError.
    """
    known = proven(boot_id)
    if view in known:
        return ALL
    if view in _noted(boot_id, "shown") and may_show(boot_id, view):
        return ALL
    if not known and view[:2] == [_INITIAL_PID_NAMESPACE, posix.stat("/proc/1/ns/mnt").st_ino]:
        return NEEDS_NO_POD
    return NOTHING
