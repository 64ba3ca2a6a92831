"""Is a netns a service's or a docker container's, so that it can be no pod's? Asked only where a netns is accounted to nobody.

It is told by the cgroups of all processes in it, cgroups(7): `0::<path>` of cgroup2, `<n>:name=systemd:<path>` of systemd's own
hierarchy. systemd.exec(5), PrivateNetwork=: a unit's processes are all in a netns of their own, which has nothing but loopback.
docker keeps its containers' netns at /run/docker/netns (moby libnetwork/osl), also those without a network, which others then
set up by CNI: cri-dockerd for pods, Nomad for its allocations.
"""

from __future__ import annotations

import errno
import posix
from typing import TYPE_CHECKING

from cni_reaper_plugin.scan_model import VisibleNetns
from cni_reaper_plugin.system import files
from cni_reaper_plugin.system.files import GONE_ERRNOS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    Places = tuple[VisibleNetns, list[str], list[str]]  # a netns, its mount points, the other paths that lead to it

DOCKERS = ("/run/docker/netns/", "/var/run/docker/netns/")
_SYSTEMD = b"name=systemd"
_LOOPBACK6 = b"\0" * 15 + b"\1"
FALLBACK_LINKS = frozenset(
    (b"lo", b"tunl0", b"gre0", b"gretap0", b"erspan0", b"ip_vti0", b"ip6_vti0", b"sit0", b"ip6tnl0", b"ip6gre0")
)
"""What a new netns has: loopback, and a tunnel of each kind whose module is loaded (net.core.fb_tunnels_only_for_init_net)."""


def assign(nobodys: Iterable[Places], claimed: Collection[int]) -> None:
    """Note in `assigned` and `containers` which of these netns are a unit's or docker's. Raises OSError.

    claimed: inode numbers of netns in which a record or a cache entry places a container; those stay as they are.
    """
    processes: _Processes | None = None
    for seen, mounts, others in nobodys:
        if seen.netns.ino in claimed or not all(_below_its_root(path).startswith(DOCKERS) for path in mounts):
            continue
        processes = processes or _Processes()
        inside = processes.inside.get(seen.netns.ino)
        if not inside:
            continue
        holders = inside | {int(path.split("/")[2]) for path in others}
        cgroups = {processes.cgroups[pid] for pid in holders if pid in processes.cgroups}
        containers = {_container(cgroup) for cgroup in cgroups}
        if "" not in containers:
            if all(processes.of_container[one] <= inside for one in containers):  # else one of them has made it, or is around us
                seen.containers = frozenset(containers)
                seen.assigned = "docker container %s" % ", ".join(sorted(one[:12] for one in containers))
            continue
        units = {_unit(cgroup) for cgroup in cgroups}
        unit = units.pop()
        if units or not unit or mounts:
            continue
        if processes.of_unit[unit] <= inside and _is_bare(seen, inside):
            seen.assigned = "unit %s" % unit.rpartition("/")[2]


class _Processes:
    """Every process of the node by its ID, and its cgroups; but for zombies, which are in no netns.

    Attributes:
        cgroups: process ID -> its cgroup file.
        inside: inode number of a netns -> IDs of the processes in it.
        of_unit: unit -> IDs of the processes in its own cgroup.
        of_container: docker container -> IDs of the processes in its own cgroup.
    """

    def __init__(self) -> None:
        """Read them. Raises OSError."""
        self.cgroups: dict[int, bytes] = {}
        self.inside: dict[int, set[int]] = {}
        self.of_unit: dict[str, set[int]] = {}
        self.of_container: dict[str, set[int]] = {}
        for name in posix.listdir("/proc"):
            if name.isdecimal():
                try:
                    cgroup, ino = files.read("/proc/%s/cgroup" % name), _netns_of(name)
                except OSError as e:
                    if e.errno not in GONE_ERRNOS:
                        raise
                    continue
                if ino:
                    self._add(int(name), cgroup, ino)

    def _add(self, pid: int, cgroup: bytes, ino: int) -> None:
        self.cgroups[pid] = cgroup
        self.inside.setdefault(ino, set()).add(pid)
        self.of_unit.setdefault(_unit(cgroup), set()).add(pid)
        self.of_container.setdefault(_container(cgroup), set()).add(pid)


def _below_its_root(path: str) -> str:
    """Return a path as the processes see it that have it: `/proc/<pid>/root` of another mount namespace is taken off."""
    return "/" + path.partition("/root/")[2] if path.startswith("/proc/") else path


def _is_loopback(packed: bytes) -> bool:
    return packed == _LOOPBACK6 or (len(packed) == 4 and packed[0] == 127)


def _netns_of(pid: str) -> int:
    """Return the inode number of a process's netns, 0 where it has none any more: it is a zombie. Raises OSError."""
    try:
        link = posix.readlink("/proc/%s/ns/net" % pid)
    except OSError as e:
        if e.errno not in GONE_ERRNOS:
            raise
        return 0
    return int(link[5:-1])


def _paths(cgroup: bytes) -> list[tuple[bytes, str]]:
    """Return (controllers, path) of each hierarchy of a /proc/<pid>/cgroup."""
    fields = [line.split(b":", 2) for line in cgroup.split(b"\n") if line.count(b":") >= 2]
    return [(controllers, path.decode("utf-8", "surrogateescape")) for _, controllers, path in fields]


def _deciding(paths: list[tuple[bytes, str]]) -> str:
    """Return the path in systemd's own hierarchy, or in cgroup2 where that is the only one."""
    by_controllers = dict(paths)
    return by_controllers.get(_SYSTEMD, by_controllers.get(b"", "/"))


def _unit(cgroup: bytes) -> str:
    """Return the path of the `.service` of the system's systemd whose own cgroup this is, "" for any other.

    Below slices only: what is below a unit's cgroup is a container, or a user's own systemd. A controller may leave the process
    in a group above, and not have a group of its own for it.
    """
    paths = _paths(cgroup)
    own = _deciding(paths)
    *above, name = own.strip("/").split("/")
    if not name.endswith(".service") or any(not one.endswith(".slice") or "kubepods" in one for one in above):
        return ""
    return own if all((own + "/").startswith(path.rstrip("/") + "/") for _, path in paths) else ""


def _container(cgroup: bytes) -> str:
    """Return the ID of the docker container whose own cgroup this is, "" for any other and for a pod's."""
    paths = _paths(cgroup)
    if any("kubepods" in path for _, path in paths):
        return ""
    *above, name = _deciding(paths).strip("/").split("/")
    if above == ["docker"]:
        container_id = name
    elif name.startswith("docker-") and name.endswith(".scope") and all(one.endswith(".slice") for one in above):
        container_id = name[7:-6]
    else:
        return ""
    return container_id if VisibleNetns.is_dockers_id(container_id) else ""


def _is_bare(seen: VisibleNetns, inside: Iterable[int]) -> bool:
    """Tell whether a netns has no interface but what a new one has, and no address but loopback's. Raises OSError."""
    if seen.addresses is None or not all(_is_loopback(one) for one in seen.addresses):
        return False
    for pid in inside:
        try:
            table = files.read("/proc/%d/net/dev" % pid)
            if _netns_of(str(pid)) != seen.netns.ino:
                continue  # the process has left it, or its number is another's
        except OSError as e:
            if e.errno not in (*GONE_ERRNOS, errno.EINVAL):  # it is ending
                raise
            continue
        links = {line.partition(b":")[0].strip() for line in table.split(b"\n")[2:] if line.strip()}
        return links <= FALLBACK_LINKS
    return False
