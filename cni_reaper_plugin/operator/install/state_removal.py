"""What cni-reaper leaves on a node when its entry goes: records, memory, and runtimes that may still call it.

Only what is ours is removed, by name and content; a reservation never.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import orjson

from cni_reaper_plugin.evidence import libcni_cache, records
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.operator.conflists.conflist import OURS
from cni_reaper_plugin.options import Settings
from cni_reaper_plugin.system import files

CNI_DIR = "/var/lib/cni"
MULTUS_CACHE = CNI_DIR + "/multus"  # multus.go saveDelegates: what its DEL calls is what its ADD called
_QUOTED = b'"%s"' % OURS.encode()


def remove_records(state_dir: str, network: str) -> int:
    """Remove our records of a network, and the directories when nothing else is in them. Returns how many. Raises OSError.

    A directory without a record of ours is somebody else's, unless all that is there are our empty lock and records that a power
    cut has broken: a stateDir may be anywhere.
    """
    path = f"{state_dir}/{network}"
    lock = f"{path}/{records.LOCK}"
    try:
        directory = records.Directory(state_dir, network)
    except FileNotFoundError:
        return 0
    with directory:
        has_records = any(directory.read(*name) for name in directory.names())
        if not has_records and not _are_broken(directory, path):
            return 0
        removed = directory.drop(directory.names(), lambda *_: True)
        if not directory.names():
            with suppress(FileNotFoundError):
                os.unlink(lock)
    for one in (path, state_dir):
        _remove_directory(one)
    return removed


def _are_broken(directory: records.Directory, path: str) -> bool:
    """Tell whether all that is in a directory are our empty lock and broken records. Raises OSError."""
    names = directory.names()
    left = set(os.listdir(path)) - {"%s:%s" % name for name in names}
    return (
        left == {records.LOCK}
        and not os.lstat("%s/%s" % (path, records.LOCK)).st_size
        and all(directory.is_broken(*name) for name in names)
    )


def remove_memory() -> None:
    """Remove what we remember until the next boot. Raises OSError."""
    if os.path.islink(proven_views.RUN_DIR):
        return  # not by us, and what it leads to neither
    with suppress(FileNotFoundError):
        for entry in os.scandir(proven_views.RUN_DIR):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
        _remove_directory(proven_views.RUN_DIR)


def callers(cache_dirs: list[str]) -> list[str] | None:
    """Return the cache's files of attachments that were made by a list with us in it; None if nobody knows. Raises OSError.

    CRI-O and multus call for a DEL the plugins that were there at the ADD, whatever the conflist says by then. From a container
    that sees neither cache nothing is known; what an installation has made itself does not count.
    cache_dirs: libcni's, besides the default one.
    """
    try:
        if os.listdir(CNI_DIR) in ([], [os.path.basename(Settings().state_dir)]):
            return None
    except (FileNotFoundError, NotADirectoryError):
        return None
    found = []
    for directory in dict.fromkeys([*Settings().cache_dirs, *cache_dirs]):
        found += [path for path, raw in _contents(directory + "/results") if _names_us(raw)]
    return found + [path for path, raw in _contents(MULTUS_CACHE) if _QUOTED in raw]


def _names_us(raw: bytes) -> bool:
    try:
        config = orjson.loads(raw)["config"]
        return _QUOTED in libcni_cache.from_base64(config)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _contents(directory: str) -> Iterator[tuple[str, bytes]]:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        with suppress(OSError):
            path = f"{directory}/{name}"
            yield path, files.read(path, limit=1 << 22)


def _remove_directory(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError as e:
        if e.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.ENOTDIR, errno.EBUSY):
            raise


if TYPE_CHECKING:
    from collections.abc import Iterator
