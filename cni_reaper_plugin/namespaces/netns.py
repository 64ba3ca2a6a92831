"""Network namespaces: the identity of the one at a path, and whether it is still the one that was recorded.

Only ENOENT, ENOTDIR and ESRCH mean gone. Whatever else a source answers is raised, and the caller must then take nothing
for dead. Source: namespaces(7), proc(5), facts on overmounts and lazy umounts in docs/evidence.md.
"""

import fcntl
import posix

from cni_reaper_plugin.model import GONE, NETNS, UNREADABLE, Mapping, Netns
from cni_reaper_plugin.system import files
from cni_reaper_plugin.system.files import GONE_ERRNOS

OWN = "/proc/self/ns/net"
HOSTS = (OWN, "/proc/1/ns/net")
INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h
RUN_NETNS = ("/run/netns/", "/var/run/netns/")
_NS_GET_ID = 0x8008B70D  # _IOR(0xb7, 13, __u64), Linux >= 6.18


def identify(path: str) -> Netns | None:
    """Return the identity of the namespace file at a path, without its NS_GET_ID; None when it is not an nsfs file.

    A plain file that a lazy umount left behind is None as well. Raises OSError, with GONE_ERRNOS when nothing is there.
    """
    found = posix.stat(path)
    if found.st_dev != (_nsfs_device or nsfs_device()):
        return None
    return Netns(found.st_dev, found.st_ino, found.st_ctime_ns)


def identify_ino(path: str) -> int:
    """Return the inode number of a /proc/<pid>/ns/net link. Raises OSError."""
    return posix.stat(path).st_ino


def nsfs_device() -> int:
    """Return the device number of the kernel's one nsfs. Raises OSError."""
    global _nsfs_device
    if _nsfs_device is None:
        _nsfs_device = posix.stat(OWN).st_dev
    return _nsfs_device


_nsfs_device: int | None = None


def identify_fully(path: str) -> Netns:
    """Return the identity of the namespace file at a path, with its NS_GET_ID where the kernel knows it.

    Both are of one open file: what stands at the path can become another one at any time. Raises OSError: as `identify`, and
    EXDEV when it is not an nsfs file.
    """
    fd = files.open_on_device(path, nsfs_device())
    try:
        return identity_of(fd)
    finally:
        posix.close(fd)


def identity_of(fd: int) -> Netns:
    """Return the identity of an open namespace file, with its NS_GET_ID where the kernel knows it. Raises OSError."""
    found = posix.fstat(fd)
    return Netns(found.st_dev, found.st_ino, found.st_ctime_ns, _ns_id(fd))


def _ns_id(fd: int) -> int:
    """Return the kernel's never reused number of a netns, 0 where it has none or cannot be asked."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, _NS_GET_ID, b"\0" * 8), "little")
    except OSError:
        return 0


def locate(mapping: Mapping, boot_id: str = "") -> Mapping:
    """Look what stands at a mapping's path now: fills `state`, `now` and `of_host`, and returns the mapping.

    A process's path that was recorded in another PID namespace, or by somebody who does not say in which while ours is not
    the host's, is UNREADABLE: the number may be anybody's here. Where it was recorded in another boot than this one (boot_id)
    it is GONE, as is every process of that boot.
    """
    try:
        if mapping.of_process:
            ours = posix.stat("/proc/self/ns/pid").st_ino
            if ours != (mapping.pid_ns or INITIAL_PID_NAMESPACE):
                mapping.state = GONE if mapping.boot_id not in ("", boot_id) else UNREADABLE
                return mapping
        now = identify(mapping.path)
        recorded = mapping.recorded
        if now is not None and recorded is None:
            mapping.of_host = any(identify_ino(host) == now.ino for host in HOSTS)
    except OSError as e:
        mapping.state = GONE if e.errno in GONE_ERRNOS else UNREADABLE
        return mapping
    if now is not None:
        if recorded is not None and now.ctime != recorded.ctime and recorded.ns_id and now.same_inode(recorded):
            now = _with_id(mapping.path, now)
        mapping.state = NETNS
        mapping.now = now
    return mapping


def _with_id(path: str, found: Netns) -> Netns:
    """Return what was found at a path with its NS_GET_ID, or as it is where that cannot be had."""
    try:
        return identify_fully(path)
    except OSError:
        return found
