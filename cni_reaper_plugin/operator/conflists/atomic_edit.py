"""A file that others write, too, gets a new content: whole, with the same mode, owner and labels, and without losing theirs.

A reader sees the old content or the new one: temporary file in the same directory, fsync, rename(2). A writer who rewrites the
file meanwhile is not written over: the content is compared under our lock just before the rename, and what was written into
the replaced file by somebody who had it open is looked for afterwards. Only one of us is at it: flock(2) on the directory itself,
since every other file there would be an event for whoever watches it. Anybody who can read the directory can take that lock, too,
so who has waited long enough goes on without: temporary files have names of their own, and the content is compared all the same.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cni_reaper_plugin.system import files, flock

TEMPORARY_END = ".cni-reaper"  # no extension that libcni, go-cni or ocicni loads; a leading dot alone hides nothing from them
LOCK_WAIT_S = 10.0  # longer than any of us holds it
_TEMPORARY = re.compile(rf"\..+\.[0-9a-f]{{8}}{re.escape(TEMPORARY_END)}", re.DOTALL)
_REST_S = 2.0  # for a writer that was in the middle of it when we renamed
_POLL_S = 0.01
_ATTEMPTS = 20
_OF_THE_CONTENT = ("security.ima", "security.evm")  # the kernel's sums of the file that is replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Edit = Callable[[bytes], bytes]


class BusyError(OSError):
    """Somebody else changes the file faster than it can be replaced."""


def edit(path: str, change: Edit) -> tuple[bytes, bytes]:
    """Give a file the content that `change` makes of the one it has, and return (before, after).

    The same bytes: nothing is written. A symlink is followed, and stays. What `change` raises
    goes through, and the file is as it was. Raises OSError, BusyError.
    """
    real = os.path.realpath(path)
    with _locked(os.path.dirname(real)) as directory:
        name = os.path.basename(real)
        first = there = meant = files.read(name, directory)
        for _ in range(_ATTEMPTS):
            after = change(meant)
            if after == there:
                return first, after
            with _opened(name, directory) as old:
                if not _replaced(name, directory, old, there, after):
                    there = meant = files.read(name, directory)
                    continue
                missed = _missed(old, there, change)
            if missed is None:
                _nudge_for(path, real)
                return first, after
            there, meant = after, missed
    raise BusyError(errno.EBUSY, "somebody else changes it all the time: try again", path)


def create(path: str, content: bytes) -> bool:
    """Write a file that is ours alone, whole; False when it has that content already. Raises OSError.

    It is root's alone, as CNI configurations are to be (CIS 1.1.9).
    """
    with _locked(os.path.dirname(path)) as directory:
        name = os.path.basename(path)
        with suppress(FileNotFoundError):
            if files.read(name, directory) == content:
                return False
        temporary = _written(name, directory, content, None)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
        return True


def move(path: str, to: str) -> None:
    """Give a file another name in its directory. Raises OSError."""
    with _locked(os.path.dirname(path)) as directory:
        os.rename(os.path.basename(path), os.path.basename(to), src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)


def remove(path: str) -> None:
    """Remove a file that is ours; it may be gone. Raises OSError."""
    with _locked(os.path.dirname(path)) as directory, suppress(FileNotFoundError):
        os.unlink(os.path.basename(path), dir_fd=directory)
        os.fsync(directory)


def tidy(directory: str) -> None:
    """Remove what somebody has left who was killed, or failed, between a temporary file and its rename. Never complains."""
    with suppress(OSError):
        if not _left(directory):
            return
        with _locked(directory, alone=True) as held:
            for name in _left(directory):
                os.unlink(name, dir_fd=held)


def is_temporary(name: str) -> bool:
    """Tell whether a file of that name is a temporary one of ours."""
    return _TEMPORARY.fullmatch(name) is not None


def _left(directory: str) -> list[str]:
    return [name for name in os.listdir(directory) if is_temporary(name)]


@contextmanager
def _locked(path: str, alone: bool = False) -> Iterator[int]:
    """Hold the directory's lock, and yield a descriptor of it. alone: not without it. Raises OSError."""
    directory = os.open(path, files.DIRECTORY)
    try:
        if not flock.take(directory, fcntl.LOCK_EX, LOCK_WAIT_S) and alone:
            raise BlockingIOError(errno.EWOULDBLOCK, "somebody holds the lock", path)
        yield directory
    finally:
        os.close(directory)


@contextmanager
def _opened(name: str, directory: int) -> Iterator[int]:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)


def _replaced(name: str, directory: int, old: int, before: bytes, after: bytes) -> bool:
    """Put a content in the place of another, which `old` has open; False when the file is another one by now. Raises OSError."""
    temporary = _written(name, directory, after, old)
    try:
        now = os.stat(name, dir_fd=directory)
        if not os.path.samestat(now, os.fstat(old)) or _content(old) != before:
            os.unlink(temporary, dir_fd=directory)
            return False
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    os.fsync(directory)
    return True


def _missed(old: int, before: bytes, change: Edit) -> bytes | None:
    """Return what somebody has written into the file that was replaced, None when nobody did.

    Who writes in place truncates the file first, and has it open while it is empty or half: waited for, and not for ever.
    """
    end = time.monotonic() + _REST_S
    while (content := _content(old)) != before:
        try:
            change(content)
        except Exception:  # noqa: BLE001  whatever change says of half a file
            if time.monotonic() > end:
                return None
            time.sleep(_POLL_S)
        else:
            return content
    return None


def temporary_name(name: str) -> str:
    """Return a fresh name for a temporary file beside a file of that name; `tidy` knows it."""
    return f".{name}.{os.urandom(4).hex()}{TEMPORARY_END}"


def _content(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    parts = []
    while chunk := os.read(fd, files.CHUNK):
        parts.append(chunk)
    return b"".join(parts)


def _written(name: str, directory: int, content: bytes, like: int | None) -> str:
    """Write a temporary file, whole and on the disk, and return its name. like: whose mode, owner and labels it is to have."""
    temporary = temporary_name(name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        rest = content
        while rest:
            rest = rest[os.write(fd, rest) :]
        if like is not None:
            _resemble(fd, like)
        os.fsync(fd)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    finally:
        os.close(fd)
    return temporary


def _resemble(fd: int, like: int) -> None:
    """Give a file the owner, mode and extended attributes (SELinux' label, ACLs) of another. Raises OSError."""
    wanted, is_ = os.fstat(like), os.fstat(fd)
    if (wanted.st_uid, wanted.st_gid) != (is_.st_uid, is_.st_gid):
        os.fchown(fd, wanted.st_uid, wanted.st_gid)
    os.fchmod(fd, wanted.st_mode & 0o7777)
    try:
        labels = os.listxattr(like)
    except OSError as e:
        if e.errno != errno.ENOTSUP:
            raise
        return
    for label in labels:
        if label in _OF_THE_CONTENT:
            continue
        value = os.getxattr(like, label)
        with suppress(OSError):
            if os.getxattr(fd, label) == value:
                continue  # the label that the directory gives: to set it again may be forbidden where to have it is not
        os.setxattr(fd, label, value)


def _nudge_for(path: str, real: str) -> None:
    """Make an event in the directory of a symlink, when the file behind it is in another one."""
    directory = os.path.dirname(os.path.abspath(path))
    if os.path.realpath(directory) != os.path.dirname(real):
        nudge(path)


def nudge(path: str) -> None:
    """Make an event in the directory of a conflist, which runtimes watch, where something else that it leads to has changed.

    containerd loads again on WRITE, RENAME and REMOVE, not on CREATE (cni_conf_syncer.go, 579c7f43).
    """
    name = f"{os.path.dirname(os.path.abspath(path))}/{temporary_name(os.path.basename(path))}"
    with suppress(OSError):
        with open(name, "wb") as event:
            event.write(b"\n")
        os.unlink(name)
