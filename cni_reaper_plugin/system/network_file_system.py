"""Which file systems can other nodes have mounted as well? Asked only when something is about to be reaped.

What a store on such a file system holds can be another node's, whose network namespaces are not seen from here.
"""

import posix

try:
    from _kernel import file_system  # type: ignore[import-not-found]  # packaging/bootloader/kernel.c
except ImportError:  # run from source

    def file_system(_: int) -> int:
        """Return f_type of statfs(2), which from source is not to be had."""
        return 0


_TYPES = {
    0x6969: "nfs",
    0x517B: "smb",
    0xFF534D42: "cifs",
    0xFE534D42: "smb3",
    0x00C36400: "ceph",
    0x65735546: "fuse",  # also virtiofs, glusterfs, sshfs, JuiceFS; and local ones, which cannot be told from these
    0x01021997: "9p",
    0x01161970: "gfs2",
    0x7461636F: "ocfs2",
    0x0BD00BD0: "lustre",
    0x47504653: "gpfs",
    0x19830326: "beegfs",
    0x20030528: "orangefs",
    0xAAD7AAEA: "panfs",
    0x5346414F: "afs",
    0x6B414653: "kafs",
    0x73757245: "coda",
    0x786F4256: "vboxsf",
    0xBACBACBC: "vmhgfs",
}
"""By f_type. Sources: linux/magic.h, statfs(2), coreutils stat.c."""


def name(path: str) -> str:
    """Return the name of the network file system that a directory is on, "" where it is on a local one. Raises OSError."""
    fd = posix.open(path, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        return _TYPES.get(file_system(fd), "")
    finally:
        posix.close(fd)
