"""Our bundle in a directory of CNI plugins: `<bin>/cni-reaper -> .cni-reaper/<version>/cni-reaper`, relative, inside of it.

A process that has started keeps reading its own bundle, so none is ever written over: each version, and each build of a
version, has its directory, the link goes to the new one by rename(2), and the old one stays until nobody runs it.
"""

import errno
import fcntl
import filecmp
import os
import shutil
import sys
import time
from contextlib import contextmanager, suppress

from cni_reaper_plugin import files, flock
from cni_reaper_plugin.operator import advice, replacement
from cni_reaper_plugin.operator.conflist import OURS

VERSIONS = ".cni-reaper"
INTERNAL = "_internal"
ENTRIES = "entries.json"  # what register notes
NEW = ".new-"
_LOCK = "lock"
_LOCK_WAIT_S = 60.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class BundleError(Exception):
    """The bundle cannot be put there, or does not run there; one sentence that says what to do."""


def home() -> str:
    """Return the directory of the bundle that this process runs from. Raises BundleError where it is not frozen."""
    internal = str(getattr(sys, "_MEIPASS", ""))
    if not internal:
        raise BundleError("only the frozen executable can be installed: ./build.sh makes dist/cni-reaper/, or take a release.")
    return os.path.dirname(os.path.realpath(internal))


def link_of(bin_dir: str) -> str:
    """Return the path at which a runtime looks for us."""
    return "%s/%s" % (bin_dir.rstrip("/"), OURS)


def root_of(bin_dir: str) -> str:
    """Return the directory beside it that has all else of ours: a directory for each bundle, our lock, what `register` notes."""
    return "%s/%s" % (bin_dir.rstrip("/"), VERSIONS)


def is_there(bin_dir: str) -> bool:
    """Tell whether a runtime finds something executable of ours, with what belongs to it."""
    real = os.path.realpath(link_of(bin_dir))
    if not os.path.isfile(real) or not os.access(real, os.X_OK):
        return False
    return VERSIONS not in real.split("/") or os.path.isdir("%s/%s" % (os.path.dirname(real), INTERNAL))


def is_own(bin_dir: str) -> bool:
    """Tell whether what a runtime finds there is one of the bundles beside it."""
    return os.path.realpath(link_of(bin_dir)).startswith(os.path.realpath(root_of(bin_dir)) + "/") and is_there(bin_dir)


def is_placed(bin_dir: str) -> bool:
    """Tell whether the bundle that this process runs from is the one there. Raises BundleError where it is not frozen."""
    directory = os.path.dirname(os.path.realpath(link_of(bin_dir)))
    return os.path.isdir(root_of(bin_dir)) and (directory == home() or same(home(), directory))


def withdraw(bin_dir: str) -> bool:
    """Remove link and bundles, as far as they are ours. Returns whether anything was there. `locked` is held. Raises OSError."""
    root, link = root_of(bin_dir), link_of(bin_dir)
    was_there = False
    if os.path.islink(link) and VERSIONS in os.readlink(link).split("/"):
        os.unlink(link)
        was_there = True
    for name in os.listdir(root):
        if _is_ours(root, name):  # and the lock the last to go, when nothing is left for whoever waits for it to lose
            _remove_whole(root, name)
            was_there = True
    return was_there


def _remove_whole(root: str, name: str) -> None:
    """Remove a bundle under a name by which the rest of it is known as ours, should we be killed in it. Raises OSError."""
    path = aside = "%s/%s" % (root, name)
    if os.path.isdir(path) and not name.startswith(NEW):
        aside = "%s/%s%s" % (root, NEW, name)
        if os.path.lexists(aside):
            remove(aside)
        os.rename(path, aside)
    remove(aside)


def _is_ours(root: str, name: str) -> bool:
    if name == ENTRIES or name.startswith(NEW) or name.endswith(replacement.TEMPORARY_END):
        return True
    return any(os.path.lexists("%s/%s/%s" % (root, name, part)) for part in (INTERNAL, OURS))


@contextmanager
def locked(bin_dir: str) -> "Iterator[None]":
    """Hold a directory of plugins, which is made if it is not there: flock(2) on a file that only root can open.

    Whoever puts an entry into a conflist holds it from before the executable is there until the entry is, and whoever removes the
    executable from before the last look for an entry: else an entry could lose its executable between the two. What is empty at
    the end goes. Raises OSError, BundleError.
    """
    root = root_of(bin_dir)
    fd = _locked(root, bin_dir)
    try:
        yield
        _leave(root)
    except BaseException:
        with suppress(OSError):
            _leave(root)
        raise
    finally:
        os.close(fd)


def _leave(root: str) -> None:
    """Remove lock and directory when nothing else is there. Raises OSError."""
    try:
        if os.listdir(root) == [_LOCK]:
            os.unlink("%s/%s" % (root, _LOCK))
            os.rmdir(root)
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR):  # gone, begun anew by somebody, or a link
            raise


def _locked(root: str, bin_dir: str) -> int:
    """Take the lock, which its last holder may have removed meanwhile, and return its descriptor. Raises OSError, BundleError."""
    path, end = "%s/%s" % (root, _LOCK), time.monotonic() + _LOCK_WAIT_S
    while True:
        if os.path.islink(root):
            raise BundleError("%s is a link, and bundles are put and removed there: remove it, or make it a directory." % root)
        if not os.path.isdir(root):
            files.make_directory(root, 0o755)
            os.chmod(root, 0o755)  # noqa: S103  whatever the umask: everybody may run a plugin
        try:
            fd = flock.open_lock(path, 0o600)
        except FileNotFoundError:
            continue  # its last holder has removed it with the directory
        if not flock.take(fd, fcntl.LOCK_EX, end - time.monotonic()) or time.monotonic() > end:
            os.close(fd)
            raise BundleError("another cni-reaper install or uninstall holds %s: wait for it, and try again." % bin_dir)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), os.lstat(path)):
                return fd
        os.close(fd)


def remove(path: str) -> None:
    """Remove a file, a link, or a directory with all that is in it. Raises OSError."""
    shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def same(one: str, other: str) -> bool:
    """Tell whether two directories have the same files, with the same content, and the same of them executable."""
    compared = filecmp.dircmp(one, other, ignore=[], hide=[os.curdir, os.pardir])
    if compared.left_only or compared.right_only or compared.common_funny:
        return False
    paths = [(os.path.join(one, name), os.path.join(other, name)) for name in compared.common_files]
    alike = all(filecmp.cmp(a, b, shallow=False) and runs(a) == runs(b) for a, b in paths)
    return alike and all(same(os.path.join(one, name), os.path.join(other, name)) for name in compared.common_dirs)


def runs(path: str) -> bool:
    """Tell whether a file of a bundle is to be executable."""
    return bool(os.stat(path).st_mode & 0o100)


TROUBLE = (BundleError, OSError)


def told(error: Exception, where: str) -> str:
    """Return a sentence about what went wrong in a directory, and what to do."""
    if not isinstance(error, OSError):
        return str(error)
    is_source = error.errno in (errno.ENOSPC, errno.EDQUOT)  # what a failed copy names is not what is full
    return "%s: %s: %s." % ((not is_source and error.filename) or where, error.strerror or error, advice.on(error))
