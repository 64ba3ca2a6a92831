"""What this kernel can do that not every kernel of a node can, asked as cni-reaper asks it; prints {what: bool} as JSON."""

import ctypes
import fcntl
import json
import os
import platform
import socket
import tempfile

NS_GET_ID = 0x8008B70D
SOL_NETLINK, NETLINK_GET_STRICT_CHK = 270, 12
SYS_STATMOUNT = 457
LOOKS = 200


def ns_get_id() -> bool:
    """Since Linux 6.18: a number of a netns that is never used again."""
    fd = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        fcntl.ioctl(fd, NS_GET_ID, b"\0" * 8)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def fine_times() -> bool:
    """Since Linux 6.13: two changes of a file with a look in between have two times."""
    with tempfile.NamedTemporaryFile() as file:
        times = set()
        for number in range(LOOKS):
            os.fchmod(file.fileno(), 0o600 + number % 2)
            times.add(os.fstat(file.fileno()).st_ctime_ns)
    return len(times) == LOOKS


def statmount() -> bool:
    """Since Linux 6.8. cni-reaper reads mountinfo on all kernels."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(SYS_STATMOUNT, None, None, ctypes.c_size_t(0), 0)
    return ctypes.get_errno() != 38  # ENOSYS


def descriptors_counted() -> bool:
    """Since Linux 6.2: the size of /proc/<pid>/fd is how many there are."""
    return os.stat("/proc/self/fd").st_size > 0


def number_of_a_descriptor() -> bool:
    """Since Linux 5.14: fdinfo tells the inode number."""
    with open("/proc/self/fdinfo/0") as about:
        return "ino:\t" in about.read()


def addresses_of_another_netns() -> bool:
    """Since Linux 4.20: rtnetlink is strict, lists all netns, and asks for addresses in another one (IFA_TARGET_NETNSID)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as asked:
        try:
            asked.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        except OSError:
            return False
    return True


def pidfd() -> bool:
    """Since Linux 5.3: a descriptor that tells of a process's end."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


ASKED = (ns_get_id, fine_times, statmount, descriptors_counted, number_of_a_descriptor, pidfd, addresses_of_another_netns)

if __name__ == "__main__":
    print(json.dumps({one.__name__: one() for one in ASKED} | {"release": platform.release()}))
