"""The lock of install and uninstall, `/var/lib/cni/reaper/installation.lock`, beside the register that is read under it."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cni_reaper_plugin.namespaces import netns
from cni_reaper_plugin.operator import advice, lock_file
from cni_reaper_plugin.operator.conflists import atomic_edit
from cni_reaper_plugin.operator.install import register
from cni_reaper_plugin.operator.install.register import InstallationError, Register
from cni_reaper_plugin.system import files, mountinfo

LOCK = register.DIRECTORY + "/installation.lock"
_LOCK_WAIT_S = 60.0

if TYPE_CHECKING:
    from collections.abc import Iterator


def is_of_container(bin_dirs: list[str], mounts: str, pid_namespace: int) -> bool:
    """Tell whether what is noted would be lost with a container, while a directory of plugins is the node's.

    So it is in a PID namespace of its own, where that directory is a mount and the register's is on the root file system.

    Args:
        bin_dirs: directories of plugins.
        mounts: of this process, as `mountinfo` reads them.
        pid_namespace: the inode number of its PID namespace.
    """

    def is_mounted(path: str) -> bool:
        line = mountinfo.line_of(os.path.realpath(path), mounts)
        return line != "" and mountinfo.point(line) != "/"

    if pid_namespace == netns.INITIAL_PID_NAMESPACE or is_mounted(register.DIRECTORY):
        return False
    return any(map(is_mounted, bin_dirs))


def remove() -> None:
    """Remove the lock, all that was set aside, and the directory when nothing else is in it; nothing while an entry is noted.

    `locked` is held. Raises OSError.
    """
    if os.path.lexists(register.PATH):
        return
    for name in os.listdir(register.DIRECTORY):
        if name.startswith(os.path.basename(register.PATH) + register.DAMAGED):
            os.unlink(f"{register.DIRECTORY}/{name}")
    os.unlink(LOCK)
    with suppress(OSError):  # records, or a link in its place
        os.rmdir(register.DIRECTORY)


@contextmanager
def locked() -> Iterator[Register]:
    """Hold the installation of this node: flock(2) on a file that only root can open; yield what is noted.

    Install holds it from before the executable is there until the entry is, and uninstall from before the last look for an
    entry until the executable is removed: else an entry could lose its executable between the two. Raises InstallationError.
    """
    try:
        fd = _locked()
    except OSError as e:
        raise InstallationError(f"{e.filename or LOCK} cannot be locked ({e.strerror or e}): {advice.on(e)}.") from None
    try:
        atomic_edit.tidy(register.DIRECTORY)
        yield register.read()
    finally:
        os.close(fd)


def _locked() -> int:
    """Take the lock, in a directory that its last holder may have removed, and return its descriptor.

    Raises OSError, InstallationError.
    """
    end = time.monotonic() + _LOCK_WAIT_S
    while True:
        files.make_directory(register.DIRECTORY, 0o700)
        if not os.path.islink(register.DIRECTORY) and os.stat(register.DIRECTORY).st_mode & 0o777 != 0o700:
            os.chmod(register.DIRECTORY, 0o700)  # a kubelet makes it for everybody, and who can read it can lock it
        try:
            fd = lock_file.take(LOCK, end)
        except FileNotFoundError:
            if time.monotonic() > end or os.path.islink(register.DIRECTORY):
                raise
            continue  # its last holder has removed it with the directory
        if fd < 0:
            raise InstallationError(f"another cni-reaper install or uninstall holds {LOCK}: wait for it, and try again.")
        return fd
