"""cni-reaper in a directory of plugins: one file, `<bin>/cni-reaper`, which is put there whole by rename(2).

A process that runs an older one keeps it: the kernel does, for as long as the process lives.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import orjson

from cni_reaper_plugin.operator import advice
from cni_reaper_plugin.operator.conflists import atomic_edit
from cni_reaper_plugin.operator.conflists.conflist import OURS
from cni_reaper_plugin.operator.executable import elf, frozen, legacy_bundle
from cni_reaper_plugin.system import files

_START_WAIT_S = 30.0
_CHUNK = 1 << 20
_AGAIN = "take it from the release again, and compare it with its .sha256"
_ELSEWHERE = "install into a directory elsewhere with --bin-dir, and name that to the runtime"

if TYPE_CHECKING:
    Identity = tuple[int, int, int, int, int]


class ExecutableError(Exception):
    """The executable cannot be put there, or does not run there; one sentence that says what to do."""


TROUBLE = (ExecutableError, OSError)
_ran: dict[str, Identity] = {}
"""What has answered at a path, so that a watcher runs it once and not at each look."""


def path_of(bin_dir: str) -> str:
    """Return the path at which a runtime looks for cni-reaper."""
    return f"{bin_dir.rstrip('/')}/{OURS}"


def place(bin_dir: str) -> bool:
    """Put the executable that runs into a directory of plugins; False when it is there already, which writes nothing.

    It has answered VERSION where it lies before it gets the name that a runtime calls. The lock of `installation` is held.
    Raises ExecutableError, OSError.
    """
    path = path_of(bin_dir)
    with _Running() as running:
        _make(bin_dir)
        atomic_edit.tidy(bin_dir)
        if os.path.isdir(path) and not os.path.islink(path):
            raise ExecutableError(
                f"{path} is a directory, and the executable has to be there: remove it, or name another --bin-dir."
            )
        if running.is_at(path):
            _run(path, path)
            return False
        temporary = f"{bin_dir.rstrip('/')}/{atomic_edit.temporary_name(OURS)}"
        try:
            running.copy(temporary)
            _run(temporary, path)
            legacy_bundle.note_that_the_link_goes(bin_dir)
            os.rename(temporary, path)
        except BaseException as e:
            with suppress(OSError):
                os.unlink(temporary)
            if isinstance(e, OSError) and e.filename == temporary:
                e.filename = path  # each attempt has another temporary name, and a watcher says the same only once
            raise
    _sync(bin_dir)
    return True


def is_placed(bin_dir: str) -> bool:
    """Tell whether the executable that runs is the one in a directory of plugins. Raises ExecutableError, OSError."""
    with _Running() as running:
        return running.is_at(path_of(bin_dir))


def works(bin_dir: str) -> bool:
    """Tell whether an executable is there and answers; one that has not changed since it answered is not run again.

    Raises ExecutableError where another program is writing it.
    """
    path = path_of(bin_dir)
    try:
        now = _identity(path)
        if _ran.get(path) != now:
            _run(path, path)
            _ran[path] = now
    except _BusyError:
        raise
    except TROUBLE:
        return False
    return True


def remove(bin_dir: str) -> bool:
    """Remove the executable; False where there is none that an install has put there. Raises OSError."""
    path = path_of(bin_dir)
    atomic_edit.tidy(bin_dir)
    if os.path.islink(path) or not is_own(path):
        return False
    os.unlink(path)
    return True


def is_own(path: str) -> bool:
    """Tell whether a file is an executable of cni-reaper, of whichever version: such a one ends with its sum. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return frozen.told_sum(fd) is not None
    finally:
        os.close(fd)


def told(error: Exception, where: str) -> str:
    """Return a sentence about what went wrong in a directory, and what to do."""
    if not isinstance(error, OSError):
        return str(error)
    is_source = error.errno in (errno.ENOSPC, errno.EDQUOT)  # what a failed copy names is not what is full
    return f"{(not is_source and error.filename) or where}: {error.strerror or error}: {advice.on(error)}."


class _Running:
    """The file of the executable that runs, whole; a context manager."""

    def __enter__(self) -> _Running:
        try:
            self._fd = frozen.open_running()
        except frozen.NotFrozenError as e:
            raise ExecutableError(str(e)) from None
        try:
            sums = frozen.sums(self._fd)
            if sums is None:
                raise ExecutableError(f"this executable is damaged: the sum that it ends with is missing; {_AGAIN}.")
            if sums[0] != sums[1]:
                raise ExecutableError(
                    f"this executable is damaged: its SHA-256 is {sums[1]}, and it was built with {sums[0]}; {_AGAIN}."
                )
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def is_at(self, path: str) -> bool:
        """Tell whether a path is a regular file of the same bytes that root may run. Raises OSError."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as e:
            if e.errno in (*files.GONE_ERRNOS, errno.ELOOP):
                return False
            raise
        try:
            return bool(os.fstat(fd).st_mode & 0o100) and _same(fd, self._fd)
        finally:
            os.close(fd)

    def copy(self, path: str) -> None:
        """Copy it onto the disk. No times, owner and labels: SELinux' label of where it came from would be wrong there.

        Raises ExecutableError, OSError.
        """
        with open(path, "xb") as made:
            with open(os.dup(self._fd), "rb") as source:
                source.seek(0)
                shutil.copyfileobj(source, made, _CHUNK)
            made.flush()
            os.fchmod(made.fileno(), 0o755)  # whatever the umask: everybody may run a plugin
            os.fsync(made.fileno())
        if not self.is_at(path):
            what = "%s: what was written there is not what is read: look at its file system, and try again."
            raise ExecutableError(what % os.path.dirname(path))


def _same(one: int, other: int) -> bool:
    """Tell whether two files have the same bytes, which is sooner seen than what their sums are. Raises OSError."""
    if os.path.samestat(os.fstat(one), os.fstat(other)):
        return True
    size = os.fstat(one).st_size
    return size == os.fstat(other).st_size and all(
        os.pread(one, _CHUNK, at) == os.pread(other, _CHUNK, at) for at in range(0, size, _CHUNK)
    )


class _BusyError(ExecutableError):
    """The file is open for writing."""


def _make(bin_dir: str) -> None:
    """Make a directory of plugins that is missing. Raises OSError."""
    if not os.path.isdir(bin_dir):
        files.make_directory(bin_dir, 0o755)
        os.chmod(bin_dir, 0o755)  # noqa: S103  whatever the umask: everybody may run a plugin


def _sync(directory: str) -> None:
    fd = os.open(directory, files.DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _identity(path: str) -> Identity:
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _run(path: str, name: str) -> None:
    """Run an executable where it lies, as a runtime would. name: under which the sentence names it. Raises ExecutableError."""
    try:
        done = subprocess.run(  # noqa: S603  what has just been copied, by its full path
            [path],
            input=b'{"cniVersion": "1.1.0"}',
            env={"CNI_COMMAND": "VERSION", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            capture_output=True,
            timeout=_START_WAIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ExecutableError("%s does not answer within %d s: try again on a quieter node." % (name, _START_WAIT_S)) from None
    except OSError as e:
        kind = _BusyError if e.errno == errno.ETXTBSY else ExecutableError
        raise kind(f"{name} does not run: {_why_refused(path, e)}.") from None
    try:
        told = orjson.loads(done.stdout) if done.returncode == 0 else None
    except ValueError:
        told = None
    if not isinstance(told, dict) or "supportedVersions" not in told:
        words = (done.stderr or done.stdout).decode("utf-8", "replace").strip().replace("\n", " ")[:300]
        raise ExecutableError(f"{name} does not run: {_why_failed(done.returncode, words)}.")


def _why_refused(path: str, error: OSError) -> str:
    """Return why the kernel does not start an executable, and what to do."""
    with suppress(OSError):
        made_for = elf.architecture(path) if error.errno == errno.ENOEXEC else ""
        if elf.is_foreign(made_for):
            return f"it is built for {made_for}, and this kernel runs {os.uname().machine}; take the file for that"
        if error.errno == errno.EACCES and os.statvfs(path).f_flag & os.ST_NOEXEC:
            return f"its file system is mounted noexec; mount it without, or {_ELSEWHERE}"
    if error.errno == errno.ENOEXEC:
        return f"the kernel does not know its format; {_AGAIN}"
    if error.errno == errno.ETXTBSY:
        return "another program is writing it; try again when that has finished"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{error.strerror}; look whether SELinux, AppArmor or fapolicyd forbids it"
    return f"{error.strerror or error}; {advice.on(error)}"


def _why_failed(code: int, words: str) -> str:
    """Return why an executable that was started did not answer, and what to do. code: of subprocess, negative for a signal."""
    if "kernel too old" in words:
        return f"this kernel, {os.uname().release}, is too old for it; use a newer kernel"
    if code < 0:
        with suppress(ValueError):
            what = signal.Signals(-code).name
            return f"{what} killed it; it is damaged, or this kernel ({os.uname().release}) or processor is too old for it"
    return "exit code %d, %s; %s" % (code, words or "without a word", _AGAIN)
