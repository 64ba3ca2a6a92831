"""The bundle goes into a directory of plugins: copied, compared, tried there, linked; old ones go when nobody runs them."""

import os
import posix
import shutil
import subprocess
import time
from contextlib import suppress

import orjson

from cni_reaper_plugin import __version__
from cni_reaper_plugin.operator import installed, replacement
from cni_reaper_plugin.operator.bundle import INTERNAL, NEW, VERSIONS, BundleError, link_of, remove, root_of, runs, same
from cni_reaper_plugin.operator.conflist import OURS

LONGEST_CALL_S = 600.0  # no runtime gives a call so long; from a container the processes of the host cannot be seen
_START_WAIT_S = 30.0
_MOST_BUILDS = 100  # of one version
_ADVICE = (
    "is the file system mounted noexec, or this build for a newer glibc or another machine? Take a release, or put it elsewhere "
    "with --bin-dir."
)


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


def _clear(root: str) -> None:
    """Remove what was left by somebody who was killed: we hold the lock."""
    for name in os.listdir(root):
        if name.startswith(NEW) or name.endswith(replacement.TEMPORARY_END):
            remove(root + "/" + name)


def _copied(source: str, root: str) -> tuple[str, bool]:
    """Return the directory below `root` that has this very bundle, and whether it had to be made. Raises OSError, BundleError."""
    for number in range(1, _MOST_BUILDS):
        directory = "%s/%s%s" % (root, __version__, "-%d" % number if number > 1 else "")
        if not os.path.lexists(directory):
            _copy(source, directory)
            return directory, True
        if os.path.realpath(directory) == os.path.realpath(source) or same(source, directory):
            return directory, False
    raise BundleError(
        "%s has %d other builds of version %s: remove those that no link names." % (root, _MOST_BUILDS, __version__)
    )


def _copy(source: str, directory: str) -> None:
    root, _, name = directory.rpartition("/")
    temporary = "%s/%s%s" % (root, NEW, name)
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
            os.chmod(path, 0o755 if runs(entry.path) else 0o644)
            _sync(path)
    _sync(directory)


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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
    temporary = "%s/%s/%slink" % (bin_dir.rstrip("/"), VERSIONS, NEW)
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
