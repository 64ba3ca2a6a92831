"""A lock by a file that goes with its directory: who removes it holds it, and who waited for it then has a lock of nothing."""

import fcntl
import os
import time
from contextlib import suppress

from cni_reaper_plugin.system import flock


def take(path: str, end: float) -> int:
    """Take the lock at a path, made if it is missing, and return its descriptor; -1 when others hold it until then.

    One that its last holder has removed meanwhile is left, and the one that is there then is taken. end: of time.monotonic().
    Raises OSError, FileNotFoundError where the directory is missing.
    """
    while True:
        fd = flock.open_lock(path, 0o600)
        try:
            is_taken = flock.take(fd, fcntl.LOCK_EX, end - time.monotonic())
            with suppress(FileNotFoundError):
                if is_taken and os.path.samestat(os.fstat(fd), os.lstat(path)):
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if not is_taken:
            return -1
