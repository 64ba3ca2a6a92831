"""How broken files are removed, so that no write to one is lost.

Between the last check and an unlink(2) a file's writer could write it: by unlink alone a good file would be lost. So a file is
moved aside first, under a name of its own in the same directory. Then the file that was judged is asked once more, by its
descriptor, at once and PAUSE_S later: a writer that came before the move has changed its mtime, or has it open, and it is put
back, whatever it holds. A writer that opens the name after the move makes a file of its own. What is left is a writer that needs
longer than PAUSE_S inside its one open(2), between finding the file and truncating it; no signal stops a process there. It would
lose its entry, and a missing entry is no error for its container's DEL.
"""

import errno
import fcntl
import posix

ASIDE, ASIDE_LONG = ".cni-reaper.", "."
"""How the name of a file begins that is moved aside, the latter where the former does not fit; the rest is its own name. No
writer's name begins with a dot."""

PAUSE_S = 0.1
_MOST = 256
_LONGEST_NAME = 255  # NAME_MAX, limits.h
_URGENT = 23  # SIGURG, which is ignored unless somebody wants it; the default for a lease, SIGIO, ends a process


def may_be_written(fd: int) -> bool | None:
    """Tell whether another process has a file open for writing, by fcntl(2), F_SETLEASE; None where the kernel cannot tell.

    fd: of a regular file, open for reading alone. A read lease is refused while somebody has the file open for writing. It is
    given back at once: who opens the file for writing meanwhile waits that long.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, _URGENT)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as e:
        return True if e.errno == errno.EAGAIN else None
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


class Removal:
    """The files of one directory that are being removed; a context manager, which puts back what was not asked once more.

    directory: descriptor. The caller holds a lock on it.
    """

    __slots__ = ("_aside", "_directory")

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._aside: list[tuple[str, int, posix.stat_result]] = []

    def __enter__(self) -> "Removal":
        return self

    def __exit__(self, *_: object) -> None:
        for name, fd, _judged in self._aside:
            posix.close(fd)
            try:
                put_back(self._directory, name)
            except OSError:
                continue  # the next look does it
        self._aside.clear()

    def move(self, name: str, fd: int, judged: posix.stat_result) -> bool:
        """Move a file aside if it is still the one that was judged; False when it is another, or was written to since.

        fd: of the file, which the caller may close; judged: by fstat(2) of fd, before its content was read. Raises OSError.
        """
        held = posix.dup(fd)  # first: what is aside without a descriptor would stay there
        try:
            is_moved = self._moved(name, fd, judged)
            if is_moved:
                self._aside.append((aside_of(name), held, judged))
                held = -1
            return is_moved
        finally:
            if held >= 0:
                posix.close(held)

    def _moved(self, name: str, fd: int, judged: posix.stat_result) -> bool:
        aside = aside_of(name)
        try:
            if _written(posix.stat(name, dir_fd=self._directory, follow_symlinks=False)) != _written(judged):
                return False
            posix.rename(name, aside, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except FileNotFoundError:
            return False  # its DEL was faster
        if not self._is_same(aside, fd, judged):
            put_back(self._directory, aside)
            return False
        return True

    @property
    def is_full(self) -> bool:
        """Whether there are as many as a process without much to its name may hold open."""
        return len(self._aside) >= _MOST

    def finish(self) -> "list[bool | OSError]":
        """Remove what was moved aside and not written to since, after a pause; return what became of each, in its order."""
        if not self._aside:
            return []
        import time

        time.sleep(PAUSE_S)
        told: list[bool | OSError] = []
        for aside, fd, judged in self._aside:
            try:
                told.append(self._finish(aside, fd, judged))
            except OSError as e:
                told.append(e)
            finally:
                posix.close(fd)
        self._aside.clear()
        return told

    def _finish(self, aside: str, fd: int, judged: posix.stat_result) -> bool:
        if self._is_same(aside, fd, judged) and not may_be_written(fd):
            posix.unlink(aside, dir_fd=self._directory)
            return True
        put_back(self._directory, aside)
        return False

    def _is_same(self, aside: str, fd: int, judged: posix.stat_result) -> bool:
        """Tell whether what was moved aside is the file that was judged, and was not written to since. Raises OSError."""
        moved = posix.stat(aside, dir_fd=self._directory, follow_symlinks=False)
        return _content(moved) == _content(judged) == _content(posix.fstat(fd))


def aside_of(name: str) -> str:
    """Return the name under which a file is moved aside."""
    return (ASIDE_LONG if _is_long(name) else ASIDE) + name


def own_name(name: str) -> str:
    """Return a file's own name, if it has the name of one that was moved aside; else the name."""
    if name.startswith(ASIDE):
        return name[len(ASIDE) :]
    if name.startswith(ASIDE_LONG) and _is_long(name[len(ASIDE_LONG) :]):
        return name[len(ASIDE_LONG) :]
    return name


def _is_long(name: str) -> bool:
    return len(ASIDE) + len(name.encode("utf-8", "surrogateescape")) > _LONGEST_NAME


def put_back(directory: int, aside: str) -> None:
    """Give a file that was moved aside its name again; where another one has it by now, that one is newer. Raises OSError."""
    name = own_name(aside)
    try:
        posix.link(aside, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except FileExistsError:
        pass
    except OSError:
        if not _is_there(directory, name):  # a file system without hard links, FAT or vboxsf: better a race than a lost file
            posix.rename(aside, name, src_dir_fd=directory, dst_dir_fd=directory)
            return
    posix.unlink(aside, dir_fd=directory)


def _is_there(directory: int, name: str) -> bool:
    try:
        posix.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _content(about: posix.stat_result) -> tuple[int, ...]:
    """Return what changes when somebody writes to a file, or puts another one in its place."""
    return about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size


def _written(about: posix.stat_result) -> tuple[int, ...]:
    return (*_content(about), about.st_ctime_ns)
