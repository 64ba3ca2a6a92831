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
from cni_reaper_plugin.operator.conflist import OURS

VERSIONS = ".cni-reaper"
INTERNAL = "_internal"
LONGEST_CALL_S = 600.0  # no runtime gives a call so long; from a container the processes of the host cannot be seen
_NEW = ".new-"
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


def is_there(bin_dir: str) -> bool:
    """Tell whether a runtime finds something executable of ours."""
    return os.path.isfile(link_of(bin_dir)) and os.access(link_of(bin_dir), os.X_OK)


def place(source: str, bin_dir: str) -> tuple[str, bool]:
    """Put a bundle into a directory of plugins, see that it runs there, and link it.

    Returns (its directory, has anything changed?). Nothing is linked that has not run from its place. `locked` is held.
    Raises BundleError, OSError.
    """
    root = "%s/%s" % (bin_dir.rstrip("/"), VERSIONS)
    files.make_directory(root, 0o755)
    _clear(root)
    directory, copied = _copied(source, root)
    try:
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
    root = "%s/%s" % (bin_dir.rstrip("/"), VERSIONS)
    if not os.path.isdir(root) or len(os.listdir(root)) < 2:
        return
    _remove_old(root, os.path.basename(os.path.dirname(os.path.realpath(link_of(bin_dir)))))


def withdraw(bin_dir: str) -> bool:
    """Remove link and bundles, as far as they are ours. Returns whether anything was there. `locked` is held. Raises OSError."""
    root, link = "%s/%s" % (bin_dir.rstrip("/"), VERSIONS), link_of(bin_dir)
    was_there = False
    if os.path.islink(link) and VERSIONS in os.readlink(link).split("/"):
        os.unlink(link)
        was_there = True
    if os.path.isdir(root):
        shutil.rmtree(root)
        was_there = True
    return was_there


@contextmanager
def locked(bin_dir: str) -> "Iterator[None]":
    """Hold a directory of plugins, which is made if it is not there: flock(2) on itself. Raises OSError, BundleError.

    Whoever puts an entry into a conflist holds it from before the executable is there until the entry is, and whoever removes the
    executable from before the last look for an entry: else an entry could lose its executable between the two.
    """
    files.make_directory(bin_dir.rstrip("/") or "/", 0o755)
    fd = os.open(bin_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not flock.take(fd, fcntl.LOCK_EX, _LOCK_WAIT_S):
            raise BundleError("another cni-reaper install or uninstall holds %s: wait for it, and try again." % bin_dir)
        yield
    finally:
        os.close(fd)


def _clear(root: str) -> None:
    """Remove what was left by somebody who was killed: we hold the lock."""
    for name in os.listdir(root):
        if name.startswith(_NEW):
            path = root + "/" + name
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
    path = error.filename or where
    if error.errno == errno.EROFS:
        return "%s is read-only: name a directory that can be written and that the runtime knows with --bin-dir." % path
    if error.errno in (errno.EACCES, errno.EPERM):
        return "%s cannot be written (%s): run this as root." % (path, error.strerror)
    return "%s: %s: correct that, and try again." % (path, error.strerror)
