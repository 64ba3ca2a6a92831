"""What to do about an error of the system that came in the way of install or uninstall."""

import errno
import os

_BY_ERRNO = {
    errno.EROFS: "its file system is read-only: mount it writable; a systemd unit names it in ReadWritePaths=, and a container "
    "mounts the node's directory there",
    errno.ETIMEDOUT: "wait for it, and try again",
    errno.ENOSPC: "make room there, and try again",
    errno.EDQUOT: "make room there, and try again",
    errno.EBUSY: "something is mounted there: unmount it, or change it where it comes from",
    errno.EISDIR: "it is a directory, and a file is wanted: name one, or remove it",
    errno.ENOTDIR: "something in its path is no directory: name another path, or remove that",
    errno.EMFILE: "raise the limit of open files (ulimit -n), and try again",
    errno.ENFILE: "raise the limit of open files (fs.file-max), and try again",
}
_FORBIDDEN = (errno.EACCES, errno.EPERM)


def on(error: OSError) -> str:
    """Return what to do, as the end of a sentence."""
    if error.errno in _FORBIDDEN:
        if os.geteuid():
            return "run this as root"
        return "root may not do that: look for chattr +i, SELinux, or a capability that is missing"
    return _BY_ERRNO.get(error.errno or 0, "look at its file system, and try again")
