"""Whose is a namespace? The user namespace that owns it, and the user who made that one. Asked only before something is reaped.

A runtime makes the namespaces of its pods as root, also the user namespace of a pod that has its own. What belongs to another
user's user namespace is not a runtime's. Source: ioctl_ns(2), user_namespaces(7).
"""

import fcntl
import posix

from cni_reaper_plugin import files
from cni_reaper_plugin.files import GONE_ERRNOS

_NS_GET_USERNS, _NS_GET_OWNER_UID = 0xB701, 0xB704  # _IO(0xb7, 1), Linux >= 4.9; _IO(0xb7, 4), Linux >= 4.11
_OWN = "/proc/self/ns/user"


def are_mounts_foreign(task: str) -> bool:
    """Tell whether a task's mount namespace is another user's, and no place for what a runtime has mounted. Raises OSError.

    It is where another user made the user namespace that owns it; or where it is that of a user namespace below ours, as a
    pod's own, and the task is no user of ours. False where it is gone.
    """
    try:
        fd = posix.open(task + "/ns/mnt", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as e:
        if e.errno not in GONE_ERRNOS:
            raise
        return False
    try:
        maker = _maker(fd)
    finally:
        posix.close(fd)
    return maker is not None and (maker not in _ours() or is_process_foreign(task))


def is_process_foreign(task: str) -> bool:
    """Tell whether a task was started by another user than root; it may have become root by a program that is set-user-ID.

    False where it is gone. Raises OSError.
    """
    try:
        status = files.read(task + "/status")
    except OSError as e:
        if e.errno not in GONE_ERRNOS:
            raise
        return False
    real = status.partition(b"\nUid:\t")[2].partition(b"\t")[0]
    return real.isdigit() and int(real) not in _ours()


def _ours() -> tuple[int | None, ...]:
    return None, 0, posix.geteuid()


def _maker(fd: int) -> int | None:
    """Return the user who made the user namespace that owns a namespace; None for our own, and where that is not to be known.

    EPERM: it is above ours.
    """
    try:
        owner = fcntl.ioctl(fd, _NS_GET_USERNS)
    except OSError:
        return None
    try:
        if posix.fstat(owner).st_ino == posix.stat(_OWN).st_ino:
            return None
        return int.from_bytes(fcntl.ioctl(owner, _NS_GET_OWNER_UID, b"\0" * 4), "little")
    except OSError:
        return None
    finally:
        posix.close(owner)
