"""How a broken file is removed, so that no write to it is lost.

Between the last check and an unlink(2) the file's writer could write it: by unlink alone a good file would go. So it is moved
aside first, under a name of its own in the same directory. Then the file that was judged is asked once more, by its descriptor:
a writer that came before has changed its mtime, and the file is put back, whatever it holds by now. Whoever opens the name
after the move makes a file of its own. So only a writer that is inside its own open(2) while all this happens could lose what it
writes, and no signal stops it there. For its container's DEL a file that is missing is no error.
"""

import errno
import fcntl
import posix

ASIDE = ".cni-reaper."
"""How the name of a file begins that is moved aside; the rest is its own name. No writer's name begins with a dot."""

_URGENT = 23  # SIGURG, which is ignored unless somebody wants it; the default for a lease, SIGIO, ends a process
_NO_LEASES = (errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)


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


def remove(directory: int, name: str, fd: int, judged: posix.stat_result) -> bool:
    """Remove a file that is still the one that was judged; False when it is another, or was written to since.

    directory: descriptor; fd: of the file; judged: by fstat(2) of fd, before its content was read. Raises OSError.
    """
    try:
        if _written(posix.stat(name, dir_fd=directory, follow_symlinks=False)) != _written(judged):
            return False
        aside = ASIDE + name
        posix.rename(name, aside, src_dir_fd=directory, dst_dir_fd=directory)
    except FileNotFoundError:
        return False  # its DEL was faster
    moved = posix.stat(aside, dir_fd=directory, follow_symlinks=False)
    if _content(moved) == _content(judged) == _content(posix.fstat(fd)):
        posix.unlink(aside, dir_fd=directory)
        return True
    put_back(directory, aside)
    return False


def put_back(directory: int, aside: str) -> None:
    """Give a file that was moved aside its name again; where another one has it by now, that one is newer. Raises OSError."""
    try:
        posix.link(aside, aside[len(ASIDE) :], src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except FileExistsError:
        posix.unlink(aside, dir_fd=directory)
        return
    posix.unlink(aside, dir_fd=directory)


def _content(about: posix.stat_result) -> tuple[int, ...]:
    """Return what changes when somebody writes to a file, or puts another one in its place."""
    return about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size


def _written(about: posix.stat_result) -> tuple[int, ...]:
    return (*_content(about), about.st_ctime_ns)
