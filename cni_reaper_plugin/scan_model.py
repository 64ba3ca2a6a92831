"""What only a full scan of the node can know, or what it has left for a later call. Not loaded where there is nothing to reap."""

from cni_reaper_plugin.model import Netns

Place = tuple[str, int, int, int]
"""Where something stands: path, device, inode, ctime in ns. It is 0 for `/proc/<pid>/ns/net`: nothing pins the inode there."""


class VisibleNetns:
    """A netns that somebody on this node has open, mounted or lives in.

    addresses: packed addresses configured in it, None where it could not be looked into; host: ours or PID 1's; names:
    container IDs for which it is known to be: this ADD's, or one whose record or address says so; place: a path that led to
    it, "" where none does now; foreign: another user owns it, so it is no pod's of a root runtime; assigned: the unit or docker
    container whose it is, for people, "" where it is neither's; containers: the IDs of those docker containers; inhabited: a
    process or a thread runs in it.
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

    age_s: seconds since the first such look (CLOCK_MONOTONIC); netns: those that could be the owner's at that time, None
    where nobody looked for them. As a netns exists before its reservation, no later one can be.
    """

    __slots__ = ("age_s", "netns")

    def __init__(self, age_s: float, netns: list[Netns] | None) -> None:
        self.age_s = age_s
        self.netns = netns
