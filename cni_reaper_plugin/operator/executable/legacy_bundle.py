"""What version 0.1.0 has left in a directory of plugins, and how it goes: `<bin>/.cni-reaper/`, with a directory for each bundle,
`entries.json` and `lock`; `<bin>/cni-reaper` was a link to an executable in there.

A process of a bundle reads its files when it needs them. So a bundle stays while a process that can be seen runs it, and for
the longest time of a call after the link has left it: from a container the processes of the host cannot be seen.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cni_reaper_plugin.operator import lock_file
from cni_reaper_plugin.operator.conflists import atomic_edit, conflist
from cni_reaper_plugin.operator.conflists.conflist import OURS
from cni_reaper_plugin.system import files

NAME = ".cni-reaper"
LONGEST_CALL_S = 600.0  # no runtime gives a call so long
_ENTRIES, _LOCK, _INTERNAL, _NEW = "entries.json", "lock", "_internal", ".new-"
_LOCK_WAIT_S = 60.0
_LIMIT = 1 << 24
_STAYS = (
    "%s: the files of version 0.1.0 stay while a process runs them, and for %d minutes after the upgrade; the next install, "
    "--watch or uninstall removes them"
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_reaper_plugin.operator.conflists.conflist import Json


def root_of(bin_dir: str) -> str:
    """Return the directory in which 0.1.0 has all but its link."""
    return f"{bin_dir.rstrip('/')}/{NAME}"


def is_there(bin_dir: str) -> bool:
    """Tell whether 0.1.0 has left something; behind a link it is not looked for."""
    root = root_of(bin_dir)
    return os.path.isdir(root) and not os.path.islink(root)


def entries(bin_dir: str) -> dict[str, Json]:
    """Return the options of the entries that 0.1.0 has noted, by the absolute path of the conflist."""
    try:
        raw = files.read(f"{root_of(bin_dir)}/{_ENTRIES}", limit=_LIMIT) if is_there(bin_dir) else b"{}"
        told = json.loads(raw.decode(), parse_constant=conflist.no_constant)
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    return {path: one for path, one in told.items() if path.startswith("/") and "\0" not in path and isinstance(one, dict)}


def forget_entries(bin_dir: str) -> None:
    """Remove what 0.1.0 has noted, once it is noted elsewhere. Raises OSError."""
    root = root_of(bin_dir)
    if is_there(bin_dir):
        with _locked(root), suppress(FileNotFoundError):
            os.unlink(f"{root}/{_ENTRIES}")


def note_that_the_link_goes(bin_dir: str) -> None:
    """Note on the bundle that the link names when the link leaves it, as 0.1.0 does: its age in that sense counts."""
    bundle = _linked(bin_dir)
    if bundle:
        with suppress(OSError):
            os.utime(bundle)


def tidy(bin_dir: str) -> str:
    """Remove all of 0.1.0 that nothing can be running, and return a sentence when something stays. Raises OSError."""
    linked = os.path.realpath(_linked(bin_dir)) if _linked(bin_dir) else ""

    def stays(path: str, running: list[str]) -> bool:
        return time.time() - os.stat(path).st_mtime < LONGEST_CALL_S or _is_run(path, running)

    left = _clear(bin_dir, lambda path, running: os.path.realpath(path) == linked or stays(path, running))[1]
    is_over = [path for path in left if os.path.realpath(path) != linked]
    return _STAYS % (root_of(bin_dir), LONGEST_CALL_S / 60) if is_over else ""


def withdraw(bin_dir: str) -> bool:
    """Remove link and bundles of 0.1.0, but for one that a process runs. Returns whether something was there. Raises OSError."""
    is_linked = bool(_linked(bin_dir))
    if is_linked:
        os.unlink(f"{bin_dir.rstrip('/')}/{OURS}")
    return bool(_clear(bin_dir, _is_run)[0]) or is_linked


def _clear(bin_dir: str, stays: Callable[[str, list[str]], bool]) -> tuple[list[str], list[str]]:
    """Remove what is 0.1.0's, but for bundles that stay; return the paths of (what was removed, bundles that are left).

    stays: tells it of a bundle, and of the executables of the processes that can be seen. Raises OSError.
    """
    root = root_of(bin_dir)
    gone: list[str] = []
    left: list[str] = []
    if not is_there(bin_dir):
        return gone, left
    with _locked(root) as is_held:
        running = _running()
        for name in os.listdir(root) if is_held else ():
            path = f"{root}/{name}"
            if _is_bundle(path) and not name.startswith(_NEW) and stays(path, running):
                left.append(path)
            elif _is_bundle(path) or name == _ENTRIES or name.startswith(_NEW) or name.endswith(atomic_edit.TEMPORARY_END):
                _remove(root, name)
                gone.append(path)
        if is_held:
            _leave(root)
    return gone, left


@contextmanager
def _locked(root: str) -> Iterator[bool]:
    """Hold 0.1.0's own lock, so that its commands wait; yield False where a command of 0.1.0 has removed the directory.

    Raises OSError.
    """
    fd = _taken(root)
    try:
        yield fd >= 0
    finally:
        if fd >= 0:
            os.close(fd)


def _taken(root: str) -> int:
    """Take the lock; -1 where the directory is gone. Raises OSError."""
    path = f"{root}/{_LOCK}"
    try:
        fd = lock_file.take(path, time.monotonic() + _LOCK_WAIT_S)
    except FileNotFoundError:
        return -1
    if fd < 0:
        raise TimeoutError(errno.ETIMEDOUT, "a command of version 0.1.0 holds it", path)
    return fd


def _linked(bin_dir: str) -> str:
    """Return the bundle that the link names, "" when the link is not 0.1.0's."""
    link = f"{bin_dir.rstrip('/')}/{OURS}"
    target = os.readlink(link) if os.path.islink(link) else ""
    return os.path.dirname(os.path.join(bin_dir, target)) if NAME in target.split("/") else ""


def _is_bundle(path: str) -> bool:
    return any(os.path.lexists(f"{path}/{part}") for part in (_INTERNAL, OURS))


def _is_run(bundle: str, running: list[str]) -> bool:
    return any(one.startswith(os.path.realpath(bundle) + "/") for one in running)


def _running() -> list[str]:
    """Return the executables of the processes that can be seen."""
    found = []
    with suppress(OSError):  # without /proc none can be
        for name in os.listdir("/proc"):
            if name.isdigit():
                with suppress(OSError):
                    found.append(os.readlink(f"/proc/{name}/exe"))
    return found


def _remove(root: str, name: str) -> None:
    """Remove a bundle under a name by which the rest of it is known as 0.1.0's, should this process be killed in it.

    Raises OSError.
    """
    path = aside = f"{root}/{name}"
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
        return
    if not name.startswith(_NEW):
        aside = f"{root}/{_NEW}{name}"
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(path, aside)
    shutil.rmtree(aside)


def _leave(root: str) -> None:
    """Remove lock and directory when nothing else is there. Raises OSError."""
    if os.listdir(root) == [_LOCK]:
        os.unlink(f"{root}/{_LOCK}")
        with suppress(OSError):  # a command of 0.1.0 has made a lock again
            os.rmdir(root)
