"""Our bundle in a directory of CNI plugins: `<bin>/cni-reaper -> .cni-reaper/<version>/cni-reaper`, relative, inside of it.

A process that has started keeps reading its own bundle, so none is ever written over: each version, and each build of a
version, has its directory, the link goes to the new one by rename(2), and the old one stays until nobody runs it.
"""

import errno
import fcntl
import filecmp
import os
import posix
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import orjson

from cni_reaper_plugin import __version__, files, flock
from cni_reaper_plugin.operator import advice, installed, replacement
from cni_reaper_plugin.operator.conflist import OURS

VERSIONS = ".cni-reaper"
INTERNAL = "_internal"
LONGEST_CALL_S = 600.0  # no runtime gives a call so long; from a container the processes of the host cannot be seen
_NEW = ".new-"
_LOCK = "lock"
_LOCK_WAIT_S = 60.0
_START_WAIT_S = 30.0
_MOST_BUILDS = 100  # of one version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


_ADVICE = (
    "is the file system mounted noexec, or this build for a newer glibc or another machine? Take a release, or put it elsewhere "
    "with --bin-dir."
)


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


def is_placed(bin_dir: str) -> bool:
    """Tell whether the bundle that this process runs from is the one there. Raises BundleError where it is not frozen."""
    directory = os.path.dirname(os.path.realpath(link_of(bin_dir)))
    return os.path.isdir(root_of(bin_dir)) and (directory == home() or _same(home(), directory))


def place(source: str, bin_dir: str) -> tuple[str, bool]:
    """Put a bundle into a directory of plugins, see that it runs there, and link it.

    Returns (its directory, has anything changed?). Nothing is linked that has not run from its place. `locked` is held.
    Raises BundleError, OSError.
    """
    root = root_of(bin_dir)
    _clear(root)
    directory, copied = _copied(source, root)
    try:
        if copied:
            _compare(directory)
        _try(directory + "/" + OURS)
    except BundleError:
        if copied:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    linked = _link(bin_dir, "%s/%s/%s" % (VERSIONS, os.path.basename(directory), OURS))
    _remove_old(root, os.path.basename(directory))
    return directory, copied or linked


def tidy(bin_dir: str) -> None:
    """Remove the bundles that nobody can be running any more. `locked` is held. Raises OSError."""
    root = root_of(bin_dir)
    _remove_old(root, os.path.basename(os.path.dirname(os.path.realpath(link_of(bin_dir)))))


def withdraw(bin_dir: str) -> bool:
    """Remove link and bundles, as far as they are ours. Returns whether anything was there. `locked` is held. Raises OSError."""
    root, link = root_of(bin_dir), link_of(bin_dir)
    was_there = False
    if os.path.islink(link) and VERSIONS in os.readlink(link).split("/"):
        os.unlink(link)
        was_there = True
    for name in os.listdir(root):
        if name != _LOCK:  # the last to go, when nothing is left for whoever waits for it to lose
            _remove(root + "/" + name)
            was_there = True
    return was_there


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
    if os.listdir(root) == [_LOCK]:
        os.unlink("%s/%s" % (root, _LOCK))
        try:
            os.rmdir(root)
        except OSError as e:
            if e.errno not in (errno.ENOTEMPTY, errno.ENOTDIR):  # somebody has begun anew, or it is a link
                raise


def _locked(root: str, bin_dir: str) -> int:
    """Take the lock, which its last holder may have removed meanwhile, and return its descriptor. Raises OSError, BundleError."""
    path, end = "%s/%s" % (root, _LOCK), time.monotonic() + _LOCK_WAIT_S
    while True:
        if not os.path.isdir(root):
            files.make_directory(root, 0o755)
            os.chmod(root, 0o755)  # noqa: S103  whatever the umask: everybody may run a plugin
        try:
            fd = flock.open_lock(path, 0o600)
        except FileNotFoundError:
            continue
        if not flock.take(fd, fcntl.LOCK_EX, end - time.monotonic()):
            os.close(fd)
            raise BundleError("another cni-reaper install or uninstall holds %s: wait for it, and try again." % bin_dir)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), os.lstat(path)):
                return fd
        os.close(fd)


def _clear(root: str) -> None:
    """Remove what was left by somebody who was killed: we hold the lock."""
    for name in os.listdir(root):
        if name.startswith(_NEW) or name.endswith(replacement.TEMPORARY_END):
            _remove(root + "/" + name)


def _remove(path: str) -> None:
    shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def _copied(source: str, root: str) -> tuple[str, bool]:
    """Return the directory below `root` that has this very bundle, and whether it had to be made. Raises OSError, BundleError."""
    for number in range(1, _MOST_BUILDS):
        directory = "%s/%s%s" % (root, __version__, "-%d" % number if number > 1 else "")
        if not os.path.lexists(directory):
            _copy(source, directory)
            return directory, True
        if os.path.realpath(directory) == os.path.realpath(source) or _same(source, directory):
            return directory, False
    raise BundleError(
        "%s has %d other builds of version %s: remove those that no link names." % (root, _MOST_BUILDS, __version__)
    )


def _copy(source: str, directory: str) -> None:
    root, _, name = directory.rpartition("/")
    temporary = "%s/%s%s" % (root, _NEW, name)
    try:
        _copy_below(source, temporary)
        os.rename(temporary, directory)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(root)


def _copy_below(source: str, directory: str) -> None:
    """Copy a directory, onto the disk. No times, owners and labels: SELinux' label of where it came from would be wrong here."""
    os.mkdir(directory, 0o755)
    os.chmod(directory, 0o755)  # noqa: S103  whatever the umask: everybody may run a plugin
    for entry in os.scandir(source):
        path = "%s/%s" % (directory, entry.name)
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), path)
        elif entry.is_dir():
            _copy_below(entry.path, path)
        else:
            shutil.copyfile(entry.path, path)
            os.chmod(path, 0o755 if _runs(entry.path) else 0o644)
            _sync(path)
    _sync(directory)


def _runs(path: str) -> bool:
    return bool(os.stat(path).st_mode & 0o100)


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _same(one: str, other: str) -> bool:
    """Tell whether two directories have the same files, with the same content, and the same of them executable."""
    compared = filecmp.dircmp(one, other, ignore=[], hide=[os.curdir, os.pardir])
    if compared.left_only or compared.right_only or compared.common_funny:
        return False
    paths = [(os.path.join(one, name), os.path.join(other, name)) for name in compared.common_files]
    alike = all(filecmp.cmp(a, b, shallow=False) and _runs(a) == _runs(b) for a, b in paths)
    return alike and all(_same(os.path.join(one, name), os.path.join(other, name)) for name in compared.common_dirs)


def _compare(directory: str) -> None:
    """Compare what was copied with the sums of a release, if it is one. Raises BundleError."""
    wrong = installed.differing(directory)
    if wrong:
        what = "%d of its files are not as released (%s)" % (len(wrong), ", ".join(wrong[:5]))
        raise BundleError("this bundle is damaged: %s: unpack the release anew, and compare it with its .sha256." % what)


def _try(executable: str) -> None:
    """Run a copy where it lies, as a runtime would. Raises BundleError."""
    try:
        done = subprocess.run(  # noqa: S603  what has just been copied, by its full path
            [executable],
            input=b'{"cniVersion": "1.1.0"}',
            env={"CNI_COMMAND": "VERSION", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            capture_output=True,
            timeout=_START_WAIT_S,
            check=False,
        )
        told = orjson.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired) as e:
        raise BundleError("%s does not run (%s): %s" % (executable, e, _ADVICE)) from None
    if not isinstance(told, dict) or "supportedVersions" not in told:
        words = (done.stderr or done.stdout).decode("utf-8", "replace").strip().replace("\n", " ")[:300]
        raise BundleError("%s does not run (exit code %d: %s): %s" % (executable, done.returncode, words, _ADVICE))


def _link(bin_dir: str, target: str) -> bool:
    """Have the link lead to a bundle; False when it does so already. Raises OSError, BundleError."""
    link = link_of(bin_dir)
    before = os.readlink(link) if os.path.islink(link) else ""
    if before == target:
        return False
    if os.path.isdir(link) and not before:
        raise BundleError("%s is a directory, where our executable has to be: remove it, or name another --bin-dir." % link)
    temporary = "%s/%s/%slink" % (bin_dir.rstrip("/"), VERSIONS, _NEW)
    os.symlink(target, temporary)
    _retire(os.path.join(bin_dir, before) if before else "")
    os.rename(temporary, link)
    _sync(bin_dir)
    return True


def _retire(executable: str) -> None:
    """Note on a bundle when the link left it: its age in that sense is what _remove_old goes by."""
    with suppress(OSError):
        if executable:
            os.utime(os.path.dirname(executable))


def _remove_old(root: str, current: str) -> None:
    """Remove the bundles that nobody can be running any more."""
    running: list[str] | None = None
    for name in os.listdir(root):
        directory = root + "/" + name
        if name == current or not os.path.isfile("%s/%s/build.json" % (directory, INTERNAL)) or os.path.islink(directory):
            continue
        if time.time() - os.stat(directory).st_mtime < LONGEST_CALL_S:
            continue
        running = _running() if running is None else running
        if not any(one.startswith(os.path.realpath(directory) + "/") for one in running):
            shutil.rmtree(directory, ignore_errors=True)


def _running() -> list[str]:
    """Return the executables of the processes that can be seen."""
    found = []
    for name in posix.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                found.append(os.readlink("/proc/%s/exe" % name))
    return found


TROUBLE = (BundleError, OSError)


def told(error: Exception, where: str) -> str:
    """Return a sentence about what went wrong in a directory, and what to do."""
    if not isinstance(error, OSError):
        return str(error)
    is_source = error.errno in (errno.ENOSPC, errno.EDQUOT)  # what a failed copy names is not what is full
    return "%s: %s: %s." % ((not is_source and error.filename) or where, error.strerror or error, advice.on(error))
