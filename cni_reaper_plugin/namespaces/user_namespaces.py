"""Whose is a namespace? The user namespace that owns it, and the user who made that one. Asked only before something is reaped.

A runtime makes the namespaces of its pods as root, also the user namespace of a pod that has its own. What belongs to another
user's user namespace is not a runtime's. The owner of a namespace counts; the processes in it and its open descriptors do not.
Source: ioctl_ns(2), user_namespaces(7).
"""

import fcntl
import posix

from cni_reaper_plugin.namespaces import netns
from cni_reaper_plugin.system import files
from cni_reaper_plugin.system.files import GONE_ERRNOS

_NS_GET_USERNS, _NS_GET_OWNER_UID = 0xB701, 0xB704  # _IO(0xb7, 1), Linux >= 4.9; _IO(0xb7, 4), Linux >= 4.11
_OWN = "/proc/self/ns/user"
_INITIAL = 0xEFFFFFFD  # PROC_USER_INIT_INO, include/linux/proc_ns.h
_SYS_ADMIN = 21  # CAP_SYS_ADMIN, include/uapi/linux/capability.h
_OVERFLOW_UID = 65534  # of whoever has no number in our user namespace; in the initial one everybody has


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


def is_netns_foreign(ino: int, path: str) -> bool | None:
    """Tell whether another user owns the netns with an inode number; None where the path no longer leads to it.

    A user namespace that root has made below another user's is root's.
    """
    try:
        fd = files.open_on_device(path, netns.nsfs_device())
    except OSError:
        return None
    try:
        return _maker(fd) not in _ours() if posix.fstat(fd).st_ino == ino else None
    finally:
        posix.close(fd)


def is_process_powerless(task: str) -> bool:
    """Tell whether a task of another user has no capability in our user namespace, or is in one below. Raises OSError.

    It cannot enter a runtime's netns, so it can hold only the one that it was started in. False where it is gone.
    """
    status = _status(task)
    return status is not None and _is_powerless(task, status)


def _is_powerless(task: str, status: bytes) -> bool:
    if not _is_foreign(status):
        return False
    try:
        return _permitted(status).strip(b"0") == b"" or posix.stat(task + "/ns/user").st_ino != posix.stat(_OWN).st_ino
    except OSError as e:
        if e.errno not in GONE_ERRNOS:
            raise
        return False


def can_mount_nothing(process: str) -> bool:
    """Tell whether no thread of a process has CAP_SYS_ADMIN in our user namespace. Raises OSError; True where it is gone.

    A thread that ends meanwhile says nothing of the others.
    """
    try:
        tasks = posix.listdir(process + "/task")
    except OSError as e:
        if e.errno not in GONE_ERRNOS:
            raise
        return True
    return all(_can_mount_nothing("%s/task/%s" % (process, task)) for task in tasks)


def _can_mount_nothing(task: str) -> bool:
    status = _status(task)
    if status is None or _is_powerless(task, status):
        return True
    permitted = _permitted(status)
    return permitted != b"" and not int(permitted, 16) >> _SYS_ADMIN & 1


def is_process_foreign(task: str) -> bool:
    """Tell whether a task was started by another user than root; it may have become root by a program that is set-user-ID.

    False where it is gone. Raises OSError.
    """
    status = _status(task)
    return status is not None and _is_foreign(status)


def _status(task: str) -> bytes | None:
    """Return what proc(5) says of a task, None where it is gone. Raises OSError."""
    try:
        return files.read(task + "/status")
    except OSError as e:
        if e.errno not in GONE_ERRNOS:
            raise
        return None


def _is_foreign(status: bytes) -> bool:
    real = status.partition(b"\nUid:\t")[2].partition(b"\t")[0]
    return real.isdigit() and int(real) not in _ours()


def _permitted(status: bytes) -> bytes:
    """Return the capabilities that a task may have, in hex digits, b"" where it has no such line."""
    return status.partition(b"\nCapPrm:\t")[2].partition(b"\n")[0]


def _ours() -> tuple[int | None, ...]:
    return None, 0, posix.geteuid()


def _maker(fd: int) -> int | None:
    """Return the user who made the user namespace that owns a namespace; None for our own, and where that is not to be known.

    EPERM: it is above ours. A user who is not mapped in ours may be root above it.
    """
    try:
        owner = fcntl.ioctl(fd, _NS_GET_USERNS)
    except OSError:
        return None
    try:
        own = posix.stat(_OWN).st_ino
        if posix.fstat(owner).st_ino == own:
            return None
        maker = int.from_bytes(fcntl.ioctl(owner, _NS_GET_OWNER_UID, b"\0" * 4), "little")
        return None if maker == _OVERFLOW_UID and own != _INITIAL else maker
    except OSError:
        return None
    finally:
        posix.close(owner)
