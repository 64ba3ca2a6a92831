"""What only a full scan of the node can know, or what it has left for a later call. Not loaded where there is nothing to reap."""

from cni_reaper_plugin.model import Netns

Place = tuple[str, int, int, int]
"""Where something stands: path, device, inode, ctime in ns. It is 0 for `/proc/<pid>/ns/net`: nothing pins the inode there."""


class VisibleNetns:
    """A netns that a process of this node has open, has mounted or runs in.

    Attributes:
        netns: its identity.
        place: a path that led to it, "" where none does now.
        addresses: packed addresses configured in it, None where it could not be looked into.
        host: it is this process's or PID 1's.
        foreign: another user owns it, so a root runtime has no pod in it.
        inhabited: a process or a thread runs in it.
        names: container IDs for which it is known to be: this ADD's, or one whose record or address says so.
        assigned: the unit or docker container that has it, for people; "" for neither.
        containers: the IDs of those docker containers.
    """

    __slots__ = ("addresses", "assigned", "containers", "foreign", "host", "inhabited", "names", "netns", "place")

    def __init__(
        self,
        netns: Netns,
        place: str = "",
        addresses: frozenset[bytes] | None = None,
        host: bool = False,
    ) -> None:
        self.netns = netns
        self.place = place
        self.addresses = addresses
        self.host = host
        self.foreign = False
        self.inhabited = True
        self.names: set[str] = set()
        self.assigned = ""
        self.containers: frozenset[str] = frozenset()

    def is_accounted(self, owner: str) -> bool:
        """Tell whether this netns is known to be somebody's other than the owner's (an ID).

        A docker container's can be that of an owner to whom another than docker gave an ID: Nomad has its allocations in one.
        """
        names = self.names  # asked for every netns beside every owner: no generator
        if self.host or self.foreign or len(names) > (owner in names):
            return True
        if self.containers:
            return owner not in self.containers and self.is_dockers_id(owner)
        return bool(self.assigned)

    @staticmethod
    def is_dockers_id(container_id: str) -> bool:
        """Tell whether an ID is spelled as docker, and the runtimes of Kubernetes, spell theirs: 64 hex digits."""
        return len(container_id) == 64 and not container_id.strip("0123456789abcdef")


class Unclaimed:
    """What an earlier full scan of this boot found of the same reservation (same file), whose owner had no netns then.

    A netns exists before its reservation, so no later one can be the owner's.

    Attributes:
        age_s: seconds since the first such scan (CLOCK_MONOTONIC).
        netns: those that could be the owner's at that time, None where none was looked for.
    """

    __slots__ = ("age_s", "netns")

    def __init__(self, age_s: float, netns: list[Netns] | None) -> None:
        self.age_s = age_s
        self.netns = netns
