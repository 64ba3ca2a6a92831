"""Does a runtime still name a container? Its processes' cgroups, and the task directories under /run.

Needed where the kernel shows no address in a live pod's netns: gVisor, DPDK, vhost-user, VFIO, an IPv6 link that is down.
A missing cgroup or directory proves nothing.
"""

import posix

from cni_reaper_plugin import files
from cni_reaper_plugin.files import GONE_ERRNOS

TASKS = ("/run/containerd/io.containerd.runtime.v2.task", "/run/k3s/containerd/io.containerd.runtime.v2.task")
PODMAN = ("/run/containers/storage/overlay-containers", "/run/containers/storage/vfs-containers")


class Names:
    """All the names at one time: cgroup paths of processes, and entries of task directories."""

    def __init__(self) -> None:
        """Read them. Raises OSError."""
        self._cgroups = _cgroups()
        self._entries = _entries()

    def have(self, owner: str) -> bool:
        """Tell whether a container ID is among them, whole or bare."""
        return owner in self._entries or bare(owner) in self._entries or bare(owner).encode() in self._cgroups


def bare(owner: str) -> str:
    """Return the hex of nerdctl's `<namespace>-<hex>`, any other ID as it is."""
    prefix, dash, last = owner.rpartition("-")
    if dash and prefix and len(last) >= 12 and not last.strip("0123456789abcdef"):
        return last
    return owner


def _cgroups() -> bytes:
    """Return the cgroup files of all processes in one piece."""
    found = []
    for name in posix.listdir("/proc"):
        if name.isdecimal():
            try:
                found.append(files.read("/proc/" + name + "/cgroup"))
            except OSError as e:
                if e.errno not in GONE_ERRNOS:
                    raise
    return b"".join(found)


def _entries() -> set[str]:
    """Return the names in the task directories of containerd, k3s (one level of namespaces) and Podman."""
    found: set[str] = set()
    for tasks in TASKS:
        for namespace in _listed(tasks):
            found.update(_listed(tasks + "/" + namespace))
    for containers in PODMAN:
        found.update(_listed(containers))
    return found


def _listed(path: str) -> list[str]:
    try:
        return posix.listdir(path)
    except OSError as e:
        if e.errno not in GONE_ERRNOS:
            raise
        return []
