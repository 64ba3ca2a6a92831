"""What cni-reaper leaves on a node when its entry goes: records, memory, and runtimes that may still call it.

Only what is ours is removed, by name and content; a reservation never.
"""

import errno
import os
from contextlib import suppress

import orjson

from cni_reaper_plugin import files
from cni_reaper_plugin.evidence import libcni_cache, records, views
from cni_reaper_plugin.facts import Settings
from cni_reaper_plugin.operator.conflist import OURS

CNI_DIR = "/var/lib/cni"
MULTUS_CACHE = CNI_DIR + "/multus"  # multus.go saveDelegates: what its DEL calls is what its ADD called
_QUOTED = b'"%s"' % OURS.encode()


def remove_records(state_dir: str, network: str) -> int:
    """Remove our records of a network, and the directory when nothing else is in it. Returns how many. Raises OSError."""
    try:
        directory = records.Directory(state_dir, network)
    except FileNotFoundError:
        return 0
    with directory:
        removed = directory.drop(directory.names(), lambda *_: True)
        if not directory.names():
            with suppress(FileNotFoundError):
                os.unlink("%s/%s/%s" % (state_dir, network, records.LOCK))
    for path in ("%s/%s" % (state_dir, network), state_dir):
        _remove_directory(path)
    return removed


def remove_memory() -> None:
    """Remove what we remember until the next boot. Raises OSError."""
    with suppress(FileNotFoundError):
        for name in os.listdir(views.RUN_DIR):
            os.unlink("%s/%s" % (views.RUN_DIR, name))
        _remove_directory(views.RUN_DIR)


def callers(cache_dirs: list[str]) -> "int | None":
    """Return how many attachments were made by a list with us in it, as the caches have it; None if nobody knows.

    CRI-O and multus call for a DEL the plugins that were there at the ADD, whatever the conflist says by then. From a container
    that sees neither cache nothing is known. cache_dirs: libcni's, besides the default one.
    """
    if not os.path.isdir(CNI_DIR):
        return None
    found = 0
    try:
        for directory in dict.fromkeys([*Settings().cache_dirs, *cache_dirs]):
            for raw in _contents(directory + "/results"):
                found += _names_us(raw)
        return found + sum(_QUOTED in raw for raw in _contents(MULTUS_CACHE))
    except OSError:
        return None


def _names_us(raw: bytes) -> bool:
    try:
        config = orjson.loads(raw)["config"]
        return _QUOTED in libcni_cache.from_base64(config)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _contents(directory: str) -> "Iterator[bytes]":
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        with suppress(OSError):
            yield files.read("%s/%s" % (directory, name), limit=1 << 22)


def _remove_directory(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError as e:
        if e.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.EBUSY):
            raise


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
