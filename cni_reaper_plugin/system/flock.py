"""flock(2) with a bounded wait.

flock, not fcntl or OFD record locks: host-local takes flock, and the kinds do not exclude each other.
"""

import fcntl
import posix

_POLL_S = 0.001  # host-local's own queue after a reboot is long: a coarser poll loses the race (facts: 5 of 5 against 2 of 5)


def open_lock(name: str, mode: int, dir_fd: int | None = None, writable: bool = False) -> int:
    """Open a lock file, made if it is missing, and return its descriptor, which the caller closes.

    A symlink is not followed; a FIFO does not block. writable: it holds something, too. Raises OSError.
    """
    flags = (posix.O_RDWR if writable else posix.O_RDONLY) | posix.O_CREAT
    return posix.open(name, flags | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK, mode, dir_fd=dir_fd)


def take(fd: int, operation: int, wait_s: float) -> bool:
    """Take LOCK_EX or LOCK_SH on a descriptor, waiting for at most `wait_s` seconds; True if it was taken.

    Closing the descriptor releases it. Raises OSError for anything but "held by another".
    """
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except (BlockingIOError, InterruptedError):  # EWOULDBLOCK, EINTR
        return wait_s > 0 and _waited(fd, operation, wait_s)
    return True


def _waited(fd: int, operation: int, wait_s: float) -> bool:
    """Wait without costing CPU time; only a held lock pays for it. Raises OSError."""
    try:
        import _kernel  # type: ignore[import-not-found]  # packaging/bootloader/kernel.c
    except ImportError:  # run from source
        return polled(fd, operation, wait_s)
    taken: bool = _kernel.flock(fd, operation, wait_s)
    return taken


def polled(fd: int, operation: int, wait_s: float) -> bool:
    """Ask for a lock again and again, each millisecond, for `wait_s` seconds; for a Python without _kernel. Raises OSError."""
    import time

    end = time.monotonic() + wait_s
    while True:
        time.sleep(_POLL_S)
        try:
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
        except (BlockingIOError, InterruptedError):
            pass
        else:
            return True
        if time.monotonic() >= end:
            return False
