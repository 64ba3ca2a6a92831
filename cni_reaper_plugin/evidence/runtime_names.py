"""Does a runtime still name a container? Its processes' cgroups, and the task directories under /run.

Needed where the kernel shows no address in a live pod's netns: gVisor, DPDK, vhost-user, VFIO, an IPv6 link that is down.
A missing cgroup or directory proves nothing.
"""

import posix

from cni_reaper_plugin.system import files
from cni_reaper_plugin.system.files import GONE_ERRNOS

TASKS = ("/run/containerd/io.containerd.runtime.v2.task", "/run/k3s/containerd/io.containerd.runtime.v2.task")
PODMAN = ("/run/containers/storage/overlay-containers", "/run/containers/storage/vfs-containers")
_LONG = 12  # what is shorter may be a part of any word


class Names:
    """All the names at one time: cgroup paths of processes, and entries of task directories."""

    def __init__(self) -> None:
        """Read them. Raises OSError."""
        self._cgroups = _cgroups()
        self._entries = _entries()
        self._all_cgroups = b"".join(self._cgroups.values())

    def where(self, owner: str) -> str:
        """Return the path of what names a container ID: a task directory, or a process; "" where nothing does.

        It may be named whole, bare, or as a function of faasd.
        """
        for name in (owner, bare(owner)):
            if name in self._entries:
                return self._entries[name]
        function = _running_function(owner)
        if function in self._entries:
            return self._entries[function]
        within = bare(owner).encode()
        if within not in self._all_cgroups:
            return ""
        return next((process for process, cgroups in self._cgroups.items() if within in cgroups), "/proc")

    @staticmethod
    def is_of(owner: str, pid: int) -> bool:
        """Tell whether an ID that is not short is in the cgroup of a process; False when that is gone. Raises OSError."""
        try:
            return len(bare(owner)) >= _LONG and bare(owner).encode() in files.read("/proc/%d/cgroup" % pid)
        except OSError as e:
            if e.errno not in GONE_ERRNOS:
                raise
            return False


def bare(owner: str) -> str:
    """Return the hex of nerdctl's `<namespace>-<hex>`, any other ID as it is."""
    prefix, dash, last = owner.rpartition("-")
    if dash and prefix and len(last) >= 12 and not last.strip("0123456789abcdef"):
        return last
    return owner


def _running_function(owner: str) -> str:
    """Return the task of an ID that is faasd's `<task>-<PID>`, "" where it is none or there is no such process.

    Source: openfaas/faasd pkg/cninetwork/cni_network.go, netID (0.16).
    """
    task, _, pid = owner.rpartition("-")
    return task if pid.isdecimal() and posix.access("/proc/" + pid, posix.F_OK) else ""


def _cgroups() -> dict[str, bytes]:
    """Return the cgroup files of all processes, by the process's directory."""
    found = {}
    for name in posix.listdir("/proc"):
        if name.isdecimal():
            process = "/proc/" + name
            try:
                found[process] = files.read(process + "/cgroup")
            except OSError as e:
                if e.errno not in GONE_ERRNOS:
                    raise
    return found


def _entries() -> dict[str, str]:
    """Return the names in the task directories of containerd, k3s (one level of namespaces) and Podman, with their paths.

    ctr calls a task `<id>` and its attachment `<namespace>-<id>` (containerd cmd/ctr/commands/tasks, FullID): both are named.
    """
    found = {name: "%s/%s" % (containers, name) for containers in PODMAN for name in _listed(containers)}
    for tasks in TASKS:
        for namespace in _listed(tasks):
            for name in _listed("%s/%s" % (tasks, namespace)):
                found[name] = found["%s-%s" % (namespace, name)] = "%s/%s/%s" % (tasks, namespace, name)
    return found


def _listed(path: str) -> list[str]:
    try:
        return posix.listdir(path)
    except OSError as e:
        if e.errno not in GONE_ERRNOS:
            raise
        return []
