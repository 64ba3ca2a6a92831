"""What the rooms tell each other: reservations, netns, evidence, verdicts. Plain values, no input or output.

No dataclasses, enum or typing here: this is on the path that the runtime pays for with every pod.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin.attachment import IFNAME_BYTES, Attachment, valid_ifname, valid_name
from cni_reaper_plugin.reasons import EMPTY, REBOOTED, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_reaper_plugin.scan_model import Unclaimed, VisibleNetns

LIVE = "LIVE"
STALE = "STALE"
UNKNOWN = "UNKNOWN"

OWNED = "owned"  # content is `id` or `id\r\nifname`
BLANK = "blank"  # content is empty, or only NUL and white space: host-local died between creating and writing it
ODD = "odd"  # anything else


class Permission:
    """What a call may reap, by what is proven of its view (memory.proven_views). There are three, told apart by identity."""

    __slots__ = ("code",)

    def __init__(self, code: str) -> None:
        self.code = code

    def __repr__(self) -> str:
        return "Permission(%r)" % self.code


NOTHING = Permission("nothing")
NEEDS_NO_POD = Permission("needs-no-pod")
"""What needs no pod to be judged: REBOOTED and EMPTY."""
ALL = Permission("all")
"""All that is STALE."""

HEX_RUN = 12
DATA_DIR = "/var/lib/cni/networks"  # host-local's own default
LONGEST_KEY = 200  # of a store's network in /run/cni-reaper; a file name has 255 bytes at most, and an ending comes to it


class SkippedError(Exception):
    """This network is not reaped now; the text says why."""


class StrandedError(Exception):
    """This process looked into another netns and found no way back: it must look at nothing any more."""


class Reservation:
    """One file of host-local's store as it was read once.

    Attributes:
        network: the name of its directory.
        address: its file name.
        content: its bytes.
        ino: its inode number.
        ctime: its change time in ns.
        kind: OWNED, BLANK or ODD.
        container_id: of its owner, "" unless OWNED.
        ifname: of its owner, "" unless OWNED, and where host-local before 0.8 wrote it.
        mtime_s: seconds since the epoch; for people only, never evidence.
    """

    __slots__ = ("address", "container_id", "content", "ctime", "ifname", "ino", "kind", "mtime_s", "network")

    def __init__(self, network: str, address: str, content: bytes, ino: int, ctime: int, mtime_s: float = 0.0) -> None:
        self.network = network
        self.address = address
        self.content = content
        self.ino = ino
        self.ctime = ctime
        self.mtime_s = mtime_s
        self.kind, self.container_id, self.ifname = _parse(content)

    @property
    def has_runtime_id(self) -> bool:
        """Whether the ID is one that a runtime gives: it has HEX_RUN hex digits in a row."""
        run = 0
        for c in self.container_id:
            run = run + 1 if c in "0123456789abcdefABCDEF" else 0
            if run == HEX_RUN:
                return True
        return False


def _parse(content: bytes) -> tuple[str, str, str]:
    """Read a reservation's content as host-local writes it (plugins backend/disk, 3d27709; bare `id` before v0.8.0)."""
    text = content.strip(b" \t\r\n\v\f").decode("utf-8", "replace")
    container_id, line_end, ifname = text.partition("\r\n")
    if text.isascii() and container_id.isalnum() and ifname.isalnum() and len(ifname) <= IFNAME_BYTES:
        return OWNED, container_id, ifname  # nearly always, and much cheaper
    if valid_name(container_id) and (not line_end or valid_ifname(ifname)):
        return OWNED, container_id, ifname
    if not content.strip(b" \t\r\n\v\f\0"):
        return BLANK, "", ""
    return ODD, "", ""


class Netns:
    """The identity of a network namespace.

    Attributes:
        dev: the device of its nsfs inode.
        ino: the number of that inode.
        ctime: the inode's change time in ns, 0 where it cannot be had.
        ns_id: ioctl NS_GET_ID (Linux 6.18 and later), unique within one boot; 0 where it is not known.
    """

    __slots__ = ("ctime", "dev", "ino", "ns_id")

    def __init__(self, dev: int, ino: int, ctime: int, ns_id: int = 0) -> None:
        self.dev = dev
        self.ino = ino
        self.ctime = ctime
        self.ns_id = ns_id

    def same_inode(self, other: Netns) -> bool:
        """Tell whether both have one (dev, ino) number; numbers are reused at once, so this is no proof."""
        return self.ino == other.ino and self.dev == other.dev

    def is_another(self, other: Netns) -> bool:
        """Tell whether both are proven to be different ones of one boot, whatever their inode numbers say."""
        return self.ns_id != 0 and other.ns_id != 0 and self.ns_id != other.ns_id

    def is_proven(self, other: Netns, same_boot: bool = True) -> bool:
        """Tell whether both are proven to be one netns.

        An equal ctime proves it, a different one proves nothing (it changes after a lazy umount); NS_GET_ID decides where
        both know it, within one boot.
        """
        if not self.same_inode(other):
            return False
        if same_boot and self.ns_id and other.ns_id:
            return self.ns_id == other.ns_id
        return self.ctime != 0 and self.ctime == other.ctime


class Surroundings:
    """What one sweep saw of the node.

    Attributes:
        boot_id: of this boot.
        node: the machine ID and the host name of this node, see system.boot.node.
        netns: every visible netns by inode number. Before the full scan only those remembered of an earlier one and seen again,
            None where there are none.
        deep: all sources were read, addresses too.
        trouble: why something may be missing, "" when every source was read.
        peer_addresses: packed addresses in netns that the far end of a link shows.
        grace_s: how long an owner without a netns is waited for.
        list_complete: GC's list names every owner of its network that is LIVE.
        shared: why other nodes may have reservations in this store, "" where nothing says so, None before it was asked.
    """

    __slots__ = ("boot_id", "deep", "grace_s", "list_complete", "netns", "node", "peer_addresses", "shared", "trouble")

    def __init__(self, boot_id: str, grace_s: int = 1500) -> None:
        self.boot_id = boot_id
        self.grace_s = grace_s
        self.netns: dict[int, VisibleNetns] | None = None
        self.peer_addresses: frozenset[bytes] = frozenset()
        self.deep = False
        self.trouble = ""
        self.list_complete = False
        self.node = ("", "")
        self.shared: str | None = None

    def visible(self) -> Iterable[VisibleNetns]:
        """Return every netns that was seen, none before somebody has looked."""
        return self.netns.values() if self.netns is not None else ()

    def unaccounted(self, owner: str) -> list[VisibleNetns]:
        """Return the visible netns that may be this owner's (an ID): nothing says that they are somebody else's."""
        return [seen for seen in self.visible() if not seen.is_accounted(owner)]

    def with_inode_of(self, netns: Netns) -> VisibleNetns | None:
        """Return the visible netns that has this netns' inode number now, if any."""
        seen = self.netns.get(netns.ino) if self.netns is not None else None
        return seen if seen is not None and seen.netns.same_inode(netns) else None


_NO_NODE = (None, None)

GONE = "gone"
NETNS = "netns"
UNREADABLE = "unreadable"


class Mapping:
    """Which netns an owner is said to have, and what stands at that path now.

    Attributes:
        source: `record`, `cache`, `path` or `cnitool`.
        path: where the netns is said to be.
        recorded: the identity that a record has, None from other sources.
        boot_id: of the record.
        pod: {namespace, name, uid} of the record.
        state: what the path is now: GONE, NETNS or UNREADABLE.
        now: the identity of what the path is now, None unless NETNS.
        of_host: it is the host's own netns.
        head: the record was written before the reservation.
        deleted: the attachment's DEL has called cni-reaper since.
        outlived: the reservation is of a later life of the container than the record.
        pid_ns: inode of the PID namespace in which a process's path was recorded, 0 where the record does not say.
        node: what the record says of its node (machine ID, host name), None where it says nothing, see other_nodes.
    """

    __slots__ = (
        "boot_id",
        "deleted",
        "head",
        "node",
        "now",
        "of_host",
        "outlived",
        "path",
        "pid_ns",
        "pod",
        "recorded",
        "source",
        "state",
    )

    def __init__(self, source: str, path: str) -> None:
        self.source = source
        self.path = path
        self.recorded: Netns | None = None
        self.boot_id = ""
        self.pod: dict[str, object] = {}
        self.state = GONE
        self.now: Netns | None = None
        self.of_host = False
        self.head = False
        self.deleted = False
        self.outlived = False
        self.pid_ns = 0
        self.node: tuple[object, object] = _NO_NODE

    @property
    def of_process(self) -> bool:
        """Whether the path is a process's, whose number can be another process's by now."""
        return self.path.startswith("/proc/")

    def stands(self, boot_id: str) -> bool:
        """Whether what was recorded stands at its path now; boot_id: this boot's.

        Nothing pins the inode behind a process's path, so there an equal number in the same boot is all that can be asked.
        """
        if self.recorded is None or self.now is None:
            return False
        same_boot = self.boot_id == boot_id
        if self.of_process and same_boot and self.now.same_inode(self.recorded) and not self.now.is_another(self.recorded):
            return True
        return self.now.is_proven(self.recorded, same_boot)

    @property
    def can_prove_death(self) -> bool:
        """Whether the record's netns is the owner's last one.

        At the head of a chain the record is new before the address is reserved. Elsewhere, and where we were not called for
        it, an ADD for the same ID may have reserved already while the record is still of its last life; but a pod's sandbox
        has only one.
        """
        return self.recorded is not None and ((self.head and not self.outlived) or bool(self.pod.get("uid")))


class Call:
    """The call of the runtime (or the command of an operator) that a sweep is part of.

    Attributes:
        verb: CNI_COMMAND, or sweep.PERSON.
        attachment: None on GC, STATUS and the command line.
        environment: of this process, by bytes, as the programs that run for this call get it. CNI_PATH says where plugins are.
        netns_path: CNI_NETNS as given.
        netns: its identity now, None where it has none.
        at_head: ADD without prevResult, DEL whose record says so.
        may_reap: ALL, NEEDS_NO_POD or NOTHING, by the self-check and the proven views.
        view: of this process, see memory.proven_views.
        self_checked: ADD whose self-check passed.
        shows: DEL whose CNI_NETNS has proven the view, while no ADD of this boot had.
        add_failed: DEL without prevResult, so its ADD has probably failed.
        valid: GC's list of (container ID, ifname), None without one.
        valid_network: the network that the list is of.
        older: on ADD what the attachment's record said before this call.
        standing: on ADD {(address, ino, ctime)} of the attachment's reservations before this call's record was written.
    """

    __slots__ = (
        "add_failed",
        "at_head",
        "attachment",
        "environment",
        "may_reap",
        "netns",
        "netns_path",
        "older",
        "self_checked",
        "shows",
        "standing",
        "valid",
        "valid_network",
        "verb",
        "view",
    )

    def __init__(self, verb: str, attachment: Attachment | None = None, netns_path: str = "", netns: Netns | None = None) -> None:
        self.verb = verb
        self.attachment = attachment
        self.environment: dict[bytes, bytes] = {}
        self.netns_path = netns_path
        self.netns = netns
        self.at_head = False
        self.may_reap = NOTHING
        self.view: list[int] = []
        self.self_checked = False
        self.shows = False
        self.add_failed = False
        self.valid: set[tuple[str, str]] | None = None
        self.valid_network = ""
        self.older: Mapping | None = None
        self.standing: set[tuple[str, int, int]] = set()

    @property
    def tells_of_its_own(self) -> bool:
        """Whether this call says something of some owner that no other call's sweep knows: row 1, GC's list, a person."""
        if self.verb == "DEL":
            return self.at_head or self.shows
        return self.verb not in ("ADD", "STATUS") or bool(self.standing)

    def permits(self, reason: Reason) -> bool:
        """Tell whether a reservation that is STALE for a reason may be freed by this call."""
        return self.may_reap is ALL or (self.may_reap is NEEDS_NO_POD and reason in (REBOOTED, EMPTY))

    def lists(self, reservation: Reservation) -> bool:
        """Tell whether GC's list names the owner; an older reservation holds the ID alone."""
        if self.valid is None or reservation.kind != OWNED:
            return False
        if reservation.ifname:
            return (reservation.container_id, reservation.ifname) in self.valid
        return any(container_id == reservation.container_id for container_id, _ in self.valid)

    def misses(self, reservation: Reservation) -> bool:
        """Tell whether GC's list is of this network and does not name the owner."""
        if self.valid is None or reservation.network != self.valid_network or reservation.kind != OWNED:
            return False
        return not self.lists(reservation)


class Evidence:
    """All that is known about the owner of one reservation.

    Attributes:
        call: of the sweep.
        surroundings: of the sweep.
        mapping: which netns it is said to have, None when unmapped.
        siblings: mappings of the same container ID under another ifname or network.
        sibling_addresses: packed addresses reserved for those.
        packed: the reservation's own address, b"" before the full scan.
        record: the bytes of the owner's own record, b"" without one.
        named: the path at which a runtime names the owner, "" where none does.
        unclaimed: what an earlier full scan found of it, None without one.
        suspect: the kernel alone does not settle it.
        trouble: why a source about this owner could not be read, "" where none failed.
    """

    __slots__ = (
        "call",
        "mapping",
        "named",
        "packed",
        "record",
        "sibling_addresses",
        "siblings",
        "surroundings",
        "suspect",
        "trouble",
        "unclaimed",
    )

    def __init__(self, call: Call, surroundings: Surroundings) -> None:
        self.call = call
        self.surroundings = surroundings
        self.mapping: Mapping | None = None
        self.siblings: list[Mapping] = []
        self.sibling_addresses: set[bytes] = set()
        self.packed = b""
        self.record = b""
        self.named = ""
        self.unclaimed: Unclaimed | None = None
        self.suspect = False
        self.trouble = ""


class Judged:
    """One reservation with what is known of its owner, and what follows from that.

    Attributes:
        reservation: the file.
        evidence: what is known of its owner.
        verdict: LIVE, STALE or UNKNOWN.
        reason: why.
    """

    __slots__ = ("evidence", "reason", "reservation", "verdict")

    def __init__(self, reservation: Reservation, evidence: Evidence, verdict: str, reason: Reason) -> None:
        self.reservation = reservation
        self.evidence = evidence
        self.verdict = verdict
        self.reason = reason
