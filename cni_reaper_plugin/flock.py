"""flock(2) with a bounded wait.

flock, not fcntl or OFD record locks: host-local takes flock, and the kinds do not exclude each other.
"""

import errno
import fcntl
import posix

POLL_S = 0.001  # host-local's own queue after a reboot is long: a coarser poll loses the race (facts: 5 of 5 against 2 of 5)


def open_lock(name: str, mode: int, dir_fd: int | None = None) -> int:
    """Open a lock file, made if it is missing, and return its descriptor, which the caller closes.

    A symlink is not followed; a FIFO does not block. Raises OSError.
    """
    flags = posix.O_RDONLY | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK
    return posix.open(name, flags, mode, dir_fd=dir_fd)


def take(fd: int, operation: int, wait_s: float) -> bool:
    """Take LOCK_EX or LOCK_SH on a descriptor, polling for at most `wait_s` seconds; True if it was taken.

    Closing the descriptor releases it. Raises OSError for anything but "held by another".
    """
    end = None
    while True:
        try:
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
        except OSError as e:
            if e.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                raise
        else:
            return True
        import time  # only a held lock pays for it

        if end is None:
            end = time.monotonic() + wait_s
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_S)
