"""The table of docs/evidence.md, row by row in its order: first the facts on which a row keeps, then those on which it reaps.

A fact that is not named is that of a leak: a record of this boot whose netns is gone, nothing visible but the host's and this
call's netns, everything looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from cni_reaper_plugin.attachment import Attachment
from cni_reaper_plugin.model import (
    ALL,
    GONE,
    LIVE,
    NETNS,
    STALE,
    UNKNOWN,
    UNREADABLE,
    Call,
    Evidence,
    Mapping,
    Netns,
    Reservation,
    Surroundings,
)
from cni_reaper_plugin.namespaces.addresses import pack
from cni_reaper_plugin.reaper.decision import ROWS, is_defenceless, judge
from cni_reaper_plugin.reasons import (
    ADDED_AGAIN,
    EMPTY,
    LEFT_BY_DEL,
    NETNS_GONE,
    NO_NETNS_LEFT,
    NOT_LISTED,
    OTHER_NODE,
    REBOOTED,
    SHARED_STORE,
    UNCLAIMED,
    Reason,
)
from cni_reaper_plugin.scan_model import Unclaimed, VisibleNetns

BOOT, OTHER_BOOT = "this boot", "another boot"
OWNER, CALLER, THIRD = "aa11bb22cc33" * 5, "dd44ee55ff66" * 5, "0123456789ab" * 5
DOCKERS, OTHER_OF_DOCKER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
NETWORK, ADDRESS, IFNAME = "net", "10.9.0.7", "eth0"
HOST, OF_CALL, OF_POD, OF_THIRD, ANOTHER = (Netns(4, 4026531840 + number, 1000 + number) for number in range(5))
RECORDED = Netns(4, 4026533000, 5000)
REUSED = Netns(4, 4026533000, 6000)
"""The number of RECORDED, given to another netns."""
NO_CTIME = Netns(4, 4026533000, 0)
NUMBERED, NUMBERED_ANEW = Netns(4, 4026533000, 5000, 77), Netns(4, 4026533000, 5000, 78)


def owned(owner: str = OWNER, ifname: str = IFNAME, address: str = ADDRESS, network: str = NETWORK) -> Reservation:
    """Return a reservation as host-local writes it."""
    return Reservation(network, address, f"{owner}\r\n{ifname}".encode() if ifname else owner.encode(), ino=11, ctime=22)


def content(raw: bytes) -> Reservation:
    """Return a reservation with odd content."""
    return Reservation(NETWORK, ADDRESS, raw, ino=11, ctime=22)


def record(
    recorded: Netns | None = RECORDED,
    now: Netns | None = None,
    boot: str = BOOT,
    state: str = GONE,
    head: bool = True,
    uid: str = "",
) -> Mapping:
    """Return what a record says, and what stands at its path now."""
    mapping = Mapping("record", "/run/netns/pod")
    mapping.recorded, mapping.boot_id, mapping.now, mapping.head = recorded, boot, now, head
    mapping.state = NETNS if now is not None else state
    mapping.pod = {"uid": uid} if uid else {}
    return mapping


THIS_NODE = ("this", "node")


def of_this_node(mapping: Mapping) -> Mapping:
    """Return the same record, which says that this node wrote it."""
    mapping.node = THIS_NODE
    return mapping


def of_another_node(mapping: Mapping) -> Mapping:
    """Return the same record, which says that another node wrote it."""
    mapping.node = ("another", "node")
    return mapping


def outlived(mapping: Mapping) -> Mapping:
    """Return the same mapping, for a reservation of a later life of the container."""
    mapping.outlived = True
    return mapping


def of_process(mapping: Mapping) -> Mapping:
    """Return the same mapping, recorded by a process's path."""
    mapping.path = "/proc/7/ns/net"
    return mapping


def cache(now: Netns | None = None, path: str = "/run/netns/pod", of_host: bool = False, state: str = GONE) -> Mapping:
    """Return what libcni's cache says, and what stands at that path now; it knows no inode."""
    mapping = Mapping("cache", path)
    mapping.now, mapping.of_host = now, of_host
    mapping.state = NETNS if now is not None else state
    return mapping


def visible(netns: Netns, *addresses: str, names: str = "", unseen: bool = False, foreign: bool = False) -> VisibleNetns:
    """Return a visible netns.

    names: the container ID it is known to be of; unseen: it cannot be looked into; foreign: it is another user's.
    """
    seen = VisibleNetns(netns, "", None if unseen else frozenset(pack(one) for one in addresses))
    seen.names = {names} if names else set()
    seen.foreign = foreign
    return seen


def assigned(*containers: str) -> VisibleNetns:
    """Return a netns that is a unit's, or that of docker containers."""
    seen = visible(OF_POD)
    seen.assigned, seen.containers = "a unit or a container", frozenset(containers)
    return seen


def a_call(verb: str = "ADD", owner: str = CALLER, ifname: str = IFNAME, network: str = NETWORK) -> Call:
    """Return a call at the head of the chain for another container than the owner."""
    call = Call(verb, Attachment(network, owner, ifname), "/run/netns/call", OF_CALL)
    call.at_head = True
    call.may_reap = ALL
    return call


@dataclass
class Facts:
    """One situation; its defaults are a leak."""

    reservation: Reservation = field(default_factory=owned)
    mapping: Mapping | None = field(default_factory=record)
    netns: list[VisibleNetns] = field(default_factory=list)
    call: Call = field(default_factory=a_call)
    siblings: list[Mapping] = field(default_factory=list)
    sibling_addresses: tuple[str, ...] = ()
    valid: set[tuple[str, str]] | None = None
    named: bool = False
    trouble: str = ""
    blind: str = ""
    deep: bool = True
    packed: bytes | None = None
    unclaimed: Unclaimed | None = None
    complete: bool = True
    peers: tuple[str, ...] = ()
    shared: str = ""
    adopted: bool = False

    def judged(self) -> tuple[str, str]:
        """Judge them."""
        verdict, reason = judge(self.reservation, self.evidence())
        return verdict, reason.text

    def evidence(self) -> Evidence:
        """Return them as the judge is given them."""
        surroundings = Surroundings(BOOT)
        surroundings.deep, surroundings.trouble, surroundings.list_complete = self.deep, self.blind, self.complete
        surroundings.peer_addresses = frozenset(pack(one) for one in self.peers)
        surroundings.shared, surroundings.node = self.shared, THIS_NODE
        host, called = visible(HOST, "10.0.0.1"), visible(OF_CALL, names=CALLER)
        host.host = True
        if self.call.attachment is not None and self.call.verb == "ADD":
            called.names = {self.call.attachment.container_id}
        surroundings.netns = {seen.netns.ino: seen for seen in (host, called, *self.netns)} if self.deep else None
        self.call.valid, self.call.valid_network = self.valid, NETWORK
        evidence = Evidence(self.call, surroundings)
        evidence.mapping, evidence.siblings, evidence.named, evidence.trouble = (
            self.mapping,
            self.siblings,
            "/run/task" if self.named else "",
            self.trouble,
        )
        if self.mapping is not None and self.mapping.source == "record" and not self.adopted:
            evidence.record = b"{}"
        evidence.unclaimed = self.unclaimed
        evidence.sibling_addresses = {pack(one) for one in self.sibling_addresses}
        evidence.packed = pack(self.reservation.address) if self.packed is None else self.packed
        if not self.deep:
            evidence.packed = b""
        return evidence


def own_add(
    older: Mapping | None, standing: bool = True, netns: Netns | None = OF_CALL, head: bool = True, path: str = ""
) -> Call:
    """Return an ADD of the owner itself. older: its record before the call; standing: the reservation is from before it, too."""
    call = a_call("ADD", OWNER)
    call.netns_path = path or call.netns_path
    call.older, call.netns, call.at_head = older, netns, head
    call.standing = {(ADDRESS, 11, 22)} if standing else {(ADDRESS, 11, 23), (ADDRESS, 12, 22), ("10.9.0.8", 11, 22)}
    return call


def marked(mapping: Mapping) -> Mapping:
    """Return the same record after its DEL."""
    mapping.deleted = True
    return mapping


def own_del(path: str = "/run/netns/pod", netns: Netns | None = None, head: bool = True) -> Call:
    """Return a DEL of the owner itself, with this CNI_NETNS."""
    call = a_call("DEL", OWNER)
    call.netns_path, call.netns, call.at_head = path, netns, head
    return call


def waited(seconds: float, *netns: Netns) -> Unclaimed:
    """Return what is remembered of an owner that was first seen so long ago, when these netns could have been its own."""
    return Unclaimed(seconds, list(netns))


def gc_call() -> Call:
    """Return a GC, which is of no attachment."""
    return Call("GC")


@dataclass(frozen=True)
class Case:
    """One line of the table: what is special, the facts, and the verdict with its reason."""

    row: str
    what: str
    facts: Callable[[], Facts]
    verdict: str
    reason: Reason | str = ""

    @property
    def text(self) -> str:
        """The reason's text."""
        return self.reason.text if isinstance(self.reason, Reason) else self.reason

    def __str__(self) -> str:
        return f"{self.row}: {self.what}"


KEEPS = [
    Case("1", "an ADD of the owner itself, without an older record", lambda: Facts(call=own_add(None)), LIVE, "this call"),
    Case(
        "1", "the same ADD repeated while the first still runs", lambda: Facts(call=own_add(record(OF_CALL))), LIVE, "this call"
    ),
    Case(
        "1",
        "ADD again, but the reservation was made meanwhile",
        lambda: Facts(call=own_add(record(), standing=False)),
        LIVE,
        "this call",
    ),
    Case("1", "ADD again, with a netns that is none", lambda: Facts(call=own_add(record(), netns=None)), LIVE, "this call"),
    Case("1", "ADD again, the older record knew no netns", lambda: Facts(call=own_add(record(None))), LIVE, "this call"),
    Case("1", "ADD again, not at the head", lambda: Facts(call=own_add(record(), head=False)), LIVE, "this call"),
    Case(
        "1",
        "ADD again, NS_GET_ID says the same netns",
        lambda: Facts(call=own_add(record(NUMBERED), netns=NUMBERED)),
        LIVE,
        "this call",
    ),
    Case(
        "1",
        "ADD again, in a process's netns of the same number",
        lambda: Facts(call=own_add(record(), netns=REUSED, path="/proc/7/ns/net")),
        LIVE,
        "this call",
    ),
    Case(
        "1",
        "ADD again, the address is in the new netns",
        lambda: Facts(call=own_add(record()), netns=[visible(OF_POD, ADDRESS)]),
        LIVE,
        "address in use",
    ),
    Case(
        "1",
        "DEL of the owner, not at the head",
        lambda: Facts(call=own_del(head=False), mapping=marked(record())),
        LIVE,
        "this call",
    ),
    Case("1", "DEL of the owner, whose record is newer", lambda: Facts(call=own_del()), LIVE, "this call"),
    Case("1", "DEL of the owner, no record", lambda: Facts(call=own_del(), mapping=None), LIVE, "this call"),
    Case("1", "DEL of the owner, only a cache entry", lambda: Facts(call=own_del(), mapping=cache()), LIVE, "this call"),
    Case(
        "1",
        "DEL of the owner in another netns",
        lambda: Facts(call=own_del("/run/netns/new", OF_POD), mapping=marked(record())),
        LIVE,
        "this call",
    ),
    Case(
        "1",
        "DEL of the owner at a path that is gone",
        lambda: Facts(call=own_del("/run/netns/new"), mapping=marked(record())),
        LIVE,
        "this call",
    ),
    Case(
        "1",
        "DEL of the owner, the address is still in a netns",
        lambda: Facts(call=own_del(), mapping=marked(record()), netns=[visible(OF_POD, ADDRESS)]),
        LIVE,
        "address in use",
    ),
    Case(
        "1",
        "the owner's ID alone, in a call of its first interface",
        lambda: Facts(reservation=owned(ifname=""), call=own_add(None)),
        LIVE,
        "this call",
    ),
    Case("1", "a CHECK of the owner", lambda: Facts(call=a_call("CHECK", OWNER)), LIVE, "this call"),
    Case("-", "a source about this owner cannot be read", lambda: Facts(trouble="EIO"), UNKNOWN, "EIO"),
    Case(
        "-",
        "the mapped path cannot be read",
        lambda: Facts(mapping=record(state=UNREADABLE)),
        UNKNOWN,
        "netns path cannot be read",
    ),
    Case(
        "-",
        "a path that cannot be read, another boot's",
        lambda: Facts(mapping=record(state=UNREADABLE, boot=OTHER_BOOT)),
        UNKNOWN,
    ),
    Case("-", "a cached path that cannot be read", lambda: Facts(mapping=cache(state=UNREADABLE)), UNKNOWN),
    Case(
        "-", "an empty file whose source cannot be read", lambda: Facts(reservation=content(b""), trouble="EIO"), UNKNOWN, "EIO"
    ),
    Case("-", "the surroundings cannot be seen", lambda: Facts(blind="mountinfo"), UNKNOWN, "mountinfo"),
    Case(
        "-",
        "the surroundings cannot be seen, another boot's",
        lambda: Facts(blind="mountinfo", mapping=record(boot=OTHER_BOOT)),
        UNKNOWN,
        "mountinfo",
    ),
    Case(
        "-",
        "the surroundings cannot be seen, an empty file",
        lambda: Facts(blind="mountinfo", reservation=content(b"")),
        UNKNOWN,
        "mountinfo",
    ),
    Case(
        "2",
        "another boot ID, but the netns stands where it was",
        lambda: Facts(mapping=record(now=RECORDED, boot=OTHER_BOOT)),
        LIVE,
        "netns there",
    ),
    Case(
        "2",
        "another boot ID, but the netns stands elsewhere",
        lambda: Facts(mapping=record(boot=OTHER_BOOT), netns=[visible(RECORDED, unseen=True)]),
        LIVE,
        "netns visible elsewhere",
    ),
    Case(
        "2",
        "another boot, but the address is in a netns",
        lambda: Facts(mapping=record(boot=OTHER_BOOT), netns=[visible(OF_POD, ADDRESS)]),
        LIVE,
    ),
    Case(
        "2",
        "another boot, the address is the host's own",
        lambda: Facts(reservation=owned(address="10.0.0.1"), mapping=record(boot=OTHER_BOOT)),
        LIVE,
    ),
    Case(
        "2",
        "a record without identity, of another boot",
        lambda: Facts(mapping=record(None, boot=OTHER_BOOT), netns=[visible(OF_THIRD)]),
        UNKNOWN,
    ),
    Case("3", "the netns stands as recorded", lambda: Facts(mapping=record(now=RECORDED)), LIVE, "netns there"),
    Case(
        "3",
        "the netns stands with the recorded NS_GET_ID",
        lambda: Facts(mapping=record(NUMBERED, now=NUMBERED)),
        LIVE,
        "netns there",
    ),
    Case(
        "3",
        "after a lazy umount the ctime differs, NS_GET_ID does not",
        lambda: Facts(mapping=record(NUMBERED, now=Netns(4, 4026533000, 9, 77))),
        LIVE,
    ),
    Case(
        "3",
        "gVisor: the netns stands, the address is nowhere",
        lambda: Facts(mapping=record(now=RECORDED), netns=[visible(RECORDED)]),
        LIVE,
    ),
    Case("3", "a cached path is a netns", lambda: Facts(mapping=cache(OF_POD)), LIVE, "netns there"),
    Case(
        "3",
        "a cached process's netns holds the address",
        lambda: Facts(mapping=cache(OF_POD, "/proc/7/ns/net"), netns=[visible(OF_POD, ADDRESS)]),
        LIVE,
        "netns there",
    ),
    Case(
        "3",
        "a cached process's netns cannot be looked into",
        lambda: Facts(mapping=cache(OF_POD, "/proc/7/ns/net"), netns=[visible(OF_POD, unseen=True)]),
        LIVE,
        "netns there",
    ),
    Case(
        "4",
        "a record not written at the head may be of the ID's last life",
        lambda: Facts(mapping=record(head=False), netns=[visible(OF_POD)]),
        UNKNOWN,
        "1 netns unaccounted for",
    ),
    Case(
        "4",
        "the same, another boot's",
        lambda: Facts(mapping=record(head=False, boot=OTHER_BOOT), netns=[visible(OF_POD)]),
        UNKNOWN,
    ),
    Case("4", "the same, its number visible", lambda: Facts(mapping=record(head=False), netns=[visible(REUSED)]), UNKNOWN),
    Case("4", "a record of an earlier life", lambda: Facts(mapping=outlived(record()), netns=[visible(OF_POD)]), UNKNOWN),
    Case(
        "2",
        "a record of an earlier life, in another boot",
        lambda: Facts(mapping=outlived(record(boot=OTHER_BOOT)), netns=[visible(OF_POD)]),
        UNKNOWN,
    ),
    Case("3", "a record of an earlier life whose netns stands", lambda: Facts(mapping=outlived(record(now=RECORDED))), LIVE),
    Case(
        "4",
        "the netns is gone, but its address is in another one",
        lambda: Facts(netns=[visible(OF_POD, ADDRESS)]),
        LIVE,
        "address in use",
    ),
    Case(
        "4",
        "the netns is gone, but its address is the host's",
        lambda: Facts(reservation=owned(address="10.0.0.1")),
        LIVE,
        "address in use",
    ),
    Case(
        "5", "the path is gone, the netns is elsewhere", lambda: Facts(netns=[visible(RECORDED)]), LIVE, "netns visible elsewhere"
    ),
    Case(
        "5",
        "overmounted: the path is another netns, the own is elsewhere",
        lambda: Facts(mapping=record(now=OF_POD), netns=[visible(RECORDED)]),
        LIVE,
    ),
    Case(
        "5",
        "the number is visible and holds the address",
        lambda: Facts(netns=[visible(REUSED, ADDRESS)]),
        LIVE,
        "address in use",
    ),
    Case(
        "5",
        "the number is visible and cannot be looked into",
        lambda: Facts(netns=[visible(REUSED, unseen=True)]),
        LIVE,
        "netns cannot be looked into",
    ),
    Case(
        "5",
        "the number is visible, and nobody knows whose it is",
        lambda: Facts(netns=[visible(REUSED)]),
        UNKNOWN,
        "1 netns unaccounted for",
    ),
    Case("5", "the number is visible, named for the owner itself", lambda: Facts(netns=[visible(REUSED, names=OWNER)]), UNKNOWN),
    Case(
        "5",
        "a ctime that could not be had proves nothing",
        lambda: Facts(mapping=record(NO_CTIME), netns=[visible(NO_CTIME)]),
        UNKNOWN,
    ),
    Case("5", "only the record knows NS_GET_ID", lambda: Facts(mapping=record(NUMBERED), netns=[visible(REUSED)]), UNKNOWN),
    Case(
        "5",
        "the number was reused, the address is elsewhere",
        lambda: Facts(netns=[visible(REUSED, names=THIRD), visible(OF_POD, ADDRESS)]),
        LIVE,
        "address in use",
    ),
    Case(
        "5",
        "the number was reused, another netns is of nobody and dark",
        lambda: Facts(netns=[visible(REUSED, names=THIRD), visible(OF_POD, unseen=True)]),
        LIVE,
        "netns cannot be looked into",
    ),
    Case(
        "5",
        "the number was reused, another netns is the owner's own and dark",
        lambda: Facts(netns=[visible(REUSED, names=THIRD), visible(OF_POD, unseen=True, names=OWNER)]),
        LIVE,
        "netns cannot be looked into",
    ),
    Case(
        "5",
        "the number was reused, the runtime names the owner",
        lambda: Facts(netns=[visible(REUSED, names=THIRD)], named=True),
        LIVE,
        "named by the runtime",
    ),
    Case(
        "5",
        "the number is that of this call's netns, in which the owner is adding another interface",
        lambda: Facts(mapping=record(Netns(4, OF_CALL.ino, 5000)), call=a_call(owner=OWNER, ifname="net1")),
        LIVE,
        "container of this call",
    ),
    Case(
        "8",
        "a DEL accounts for nothing: its path can be another container's by now",
        lambda: Facts(mapping=None, netns=[visible(OF_POD)], call=a_call("DEL")),
        UNKNOWN,
    ),
    Case(
        "6", "GC's list names the owner", lambda: Facts(mapping=None, call=gc_call(), valid={(OWNER, IFNAME)}), LIVE, "in GC list"
    ),
    Case(
        "6",
        "GC's list names the ID of an older file",
        lambda: Facts(owned(ifname=""), None, call=gc_call(), valid={(OWNER, "net9")}),
        LIVE,
        "in GC list",
    ),
    Case(
        "7",
        "an empty file whose address is in a netns",
        lambda: Facts(content(b""), None, [visible(OF_POD, ADDRESS)]),
        LIVE,
        "address in use",
    ),
    Case(
        "sibling",
        "the container of this call, another interface",
        lambda: Facts(mapping=None, call=a_call(owner=OWNER, ifname="net1")),
        LIVE,
    ),
    Case(
        "sibling",
        "the container of this call, another network",
        lambda: Facts(mapping=None, call=a_call(owner=OWNER, network="other")),
        LIVE,
    ),
    Case(
        "sibling",
        "a sibling's netns stands",
        lambda: Facts(mapping=None, siblings=[record(now=RECORDED)]),
        LIVE,
        "sibling has a netns",
    ),
    Case(
        "sibling",
        "a sibling's netns is visible elsewhere",
        lambda: Facts(mapping=None, siblings=[record()], netns=[visible(RECORDED)]),
        LIVE,
    ),
    Case(
        "sibling",
        "a sibling's number is of nobody",
        lambda: Facts(mapping=None, siblings=[record()], netns=[visible(REUSED)]),
        UNKNOWN,
        "1 netns unaccounted for",
    ),
    Case(
        "sibling",
        "a sibling's path is a process's, whose inode nothing pins",
        lambda: Facts(mapping=None, siblings=[of_process(record(now=REUSED))], netns=[visible(REUSED)]),
        LIVE,
        "sibling has a netns",
    ),
    Case(
        "3",
        "a process's path, whose inode nothing pins",
        lambda: Facts(mapping=of_process(record(now=REUSED)), netns=[visible(REUSED)], unclaimed=waited(9999, REUSED)),
        LIVE,
        "netns there",
    ),
    Case(
        "sibling",
        "a sibling's cached path is a netns",
        lambda: Facts(mapping=None, siblings=[cache(OF_POD)]),
        LIVE,
        "sibling has a netns",
    ),
    Case("sibling", "a sibling's path cannot be read", lambda: Facts(mapping=None, siblings=[record(state=UNREADABLE)]), UNKNOWN),
    Case(
        "sibling",
        "an address of a sibling is in a netns that is somebody's",
        lambda: Facts(mapping=None, sibling_addresses=("10.8.0.7",), netns=[visible(OF_POD, "10.8.0.7", names=THIRD)]),
        LIVE,
        "sibling's address in use",
    ),
    Case(
        "8", "a netns that is of nobody", lambda: Facts(mapping=None, netns=[visible(OF_POD)]), UNKNOWN, "1 netns unaccounted for"
    ),
    Case(
        "8",
        "a docker container's that has the owner's ID",
        lambda: Facts(owned(DOCKERS), None, netns=[assigned(DOCKERS)]),
        UNKNOWN,
        "1 netns unaccounted for",
    ),
    Case(
        "8",
        "a docker container's that shares the netns with the owner's",
        lambda: Facts(owned(DOCKERS), None, netns=[assigned(DOCKERS, OTHER_OF_DOCKER)]),
        UNKNOWN,
    ),
    Case(
        "8",
        "a docker container's, and the owner's ID is not docker's",
        lambda: Facts(mapping=None, netns=[assigned(OTHER_OF_DOCKER)]),
        UNKNOWN,
        "1 netns unaccounted for",
    ),
    Case(
        "9",
        "then beside a docker container's, and the owner's ID is not docker's",
        lambda: Facts(mapping=None, netns=[assigned(OTHER_OF_DOCKER)], unclaimed=waited(10, OF_POD)),
        UNKNOWN,
    ),
    Case("8", "a netns that is the owner's own", lambda: Facts(mapping=None, netns=[visible(OF_POD, names=OWNER)]), UNKNOWN),
    Case(
        "8",
        "one of several netns is of nobody",
        lambda: Facts(mapping=None, netns=[visible(OF_THIRD, names=THIRD), visible(OF_POD)]),
        UNKNOWN,
    ),
    Case(
        "8",
        "the address is in a netns of somebody else",
        lambda: Facts(mapping=None, netns=[visible(OF_THIRD, ADDRESS, names=THIRD)]),
        LIVE,
    ),
    Case("8", "the runtime names the owner", lambda: Facts(mapping=None, named=True), LIVE, "named by the runtime"),
    Case("8", "a dead cached path beside a netns of nobody", lambda: Facts(mapping=cache(), netns=[visible(OF_POD)]), UNKNOWN),
    Case(
        "8",
        "a cached path that is the host's netns, beside one of nobody",
        lambda: Facts(mapping=cache(HOST, of_host=True), netns=[visible(OF_POD)]),
        UNKNOWN,
    ),
    Case(
        "8",
        "a dead record without identity, beside a netns of nobody",
        lambda: Facts(mapping=record(None), netns=[visible(OF_POD)]),
        UNKNOWN,
    ),
    Case(
        "9",
        "the netns of then is still of nobody",
        lambda: Facts(mapping=None, netns=[visible(OF_POD)], unclaimed=waited(1499, OF_POD, OF_THIRD)),
        UNKNOWN,
        "1 netns unaccounted for",
    ),
    Case(
        "9",
        "the number of then is visible, its ctime another",
        lambda: Facts(mapping=None, netns=[visible(REUSED)], unclaimed=waited(1499, RECORDED)),
        UNKNOWN,
    ),
    Case(
        "9",
        "the netns of then is known to be the owner's",
        lambda: Facts(mapping=None, netns=[visible(OF_POD, names=OWNER)], unclaimed=waited(1499, OF_POD)),
        UNKNOWN,
    ),
    Case(
        "9",
        "not remembered yet, beside a netns of nobody",
        lambda: Facts(mapping=None, netns=[visible(OF_POD)]),
        UNKNOWN,
    ),
    Case(
        "9",
        "reported once, but nobody looked for its netns then",
        lambda: Facts(mapping=cache(), netns=[visible(OF_POD)], unclaimed=Unclaimed(9999, None)),
        UNKNOWN,
    ),
    Case(
        "10",
        "reported once, but nobody looked for its netns then",
        lambda: Facts(mapping=cache(), netns=[visible(OF_POD)], call=gc_call(), valid=set(), unclaimed=Unclaimed(9999, None)),
        UNKNOWN,
    ),
    Case(
        "9",
        "the time is over, but the runtime names the owner",
        lambda: Facts(mapping=None, netns=[visible(OF_POD)], unclaimed=waited(1500, OF_POD), named=True),
        LIVE,
        "named by the runtime",
    ),
    Case(
        "9",
        "the time is over, but a netns of nobody is dark",
        lambda: Facts(mapping=None, netns=[visible(OF_POD, unseen=True)], unclaimed=waited(9999)),
        LIVE,
        "netns cannot be looked into",
    ),
    Case(
        "9",
        "the number of a recorded netns is of nobody, perhaps its own",
        lambda: Facts(netns=[visible(REUSED)], unclaimed=waited(1499, REUSED)),
        UNKNOWN,
    ),
    Case(
        "9",
        "an operator's note, however old",
        lambda: Facts(owned("reserved", ""), None, [visible(OF_POD)], unclaimed=waited(9999)),
        UNKNOWN,
        "no runtime's ID",
    ),
    Case(
        "9",
        "a sibling has a netns, however long ago",
        lambda: Facts(mapping=None, siblings=[record(now=RECORDED)], netns=[visible(OF_POD)], unclaimed=waited(9999)),
        LIVE,
        "sibling has a netns",
    ),
    Case(
        "10",
        "first seen less than two minutes ago",
        lambda: Facts(mapping=None, netns=[visible(OF_POD)], call=gc_call(), valid=set(), unclaimed=waited(119, OF_POD)),
        UNKNOWN,
    ),
    Case(
        "10",
        "never seen before",
        lambda: Facts(mapping=None, netns=[visible(OF_POD)], call=gc_call(), valid=set()),
        UNKNOWN,
    ),
    Case(
        "10",
        "the list lacks a live owner",
        lambda: Facts(
            mapping=None, netns=[visible(OF_POD)], call=gc_call(), valid=set(), unclaimed=waited(121, OF_POD), complete=False
        ),
        UNKNOWN,
    ),
    Case(
        "10",
        "there is no list",
        lambda: Facts(mapping=None, netns=[visible(OF_POD)], call=gc_call(), unclaimed=waited(121, OF_POD)),
        UNKNOWN,
    ),
    Case(
        "10",
        "the list is another network's",
        lambda: Facts(owned(network="other"), None, [visible(OF_POD)], gc_call(), valid=set(), unclaimed=waited(121, OF_POD)),
        UNKNOWN,
    ),
    Case(
        "10",
        "an operator's note that no list names",
        lambda: Facts(owned("reserved", ""), None, [visible(OF_POD)], gc_call(), valid=set(), unclaimed=waited(121, OF_POD)),
        UNKNOWN,
        "no runtime's ID",
    ),
    Case(
        "10",
        "the list does not name an owner whose netns stands",
        lambda: Facts(mapping=record(now=RECORDED), call=gc_call(), valid=set(), unclaimed=waited(9999)),
        LIVE,
        "netns there",
    ),
    Case(
        "guard",
        "the address is at the far end of one of our links",
        lambda: Facts(peers=("10.9.0.7",)),
        LIVE,
        "address in use",
    ),
    Case(
        "11", "an operator's own note", lambda: Facts(reservation=owned("reserved", ""), mapping=None), UNKNOWN, "no runtime's ID"
    ),
    Case(
        "11",
        "an operator's note of two lines, ended by an editor",
        lambda: Facts(reservation=content(b"printer\r\nlab2\r\n"), mapping=None),
        UNKNOWN,
        "no runtime's ID",
    ),
    Case(
        "11",
        "an ID without an ifname that has 11 hex digits",
        lambda: Facts(reservation=owned("x" + "a" * 11 + "x" + "b" * 11, ""), mapping=None),
        UNKNOWN,
    ),
    Case(
        "11",
        "content of three lines",
        lambda: Facts(content(f"{OWNER}\r\neth0\r\nx".encode()), None),
        UNKNOWN,
        "content is no owner",
    ),
    Case(
        "11",
        "content with a bare newline",
        lambda: Facts(content(f"{OWNER}\neth0".encode()), None),
        UNKNOWN,
        "content is no owner",
    ),
    Case("11", "content that is binary", lambda: Facts(content(b"\xff\x00\x01"), None), UNKNOWN, "content is no owner"),
    Case("11", "content with a way up", lambda: Facts(content(b"../../etc\r\neth0"), None), UNKNOWN, "content is no owner"),
    Case("11", "a name that is no address", lambda: Facts(owned(address="1.2.3")), UNKNOWN, "name is no address"),
    Case("11", "an address in another spelling", lambda: Facts(owned(address="fd00:0::7")), UNKNOWN, "name is no address"),
    Case("11", "an IPv4 address with a zero in front", lambda: Facts(owned(address="10.9.0.07")), UNKNOWN, "name is no address"),
    Case(
        "5",
        "the netns is another user's, and the one that was recorded",
        lambda: Facts(netns=[visible(RECORDED, unseen=True, foreign=True)]),
        LIVE,
        "netns visible elsewhere",
    ),
    Case(
        "5",
        "another user's netns has the number and the address",
        lambda: Facts(netns=[visible(REUSED, ADDRESS, foreign=True)]),
        LIVE,
        "address in use",
    ),
    Case(
        "9",
        "beside another user's netns there is one of root's",
        lambda: Facts(mapping=None, netns=[visible(OF_THIRD, foreign=True), visible(OF_POD)]),
        UNKNOWN,
        "1 netns unaccounted for",
    ),
    Case(
        "9",
        "another user's netns and one of root's show the address",
        lambda: Facts(mapping=None, netns=[visible(OF_THIRD, ADDRESS, foreign=True), visible(OF_POD, ADDRESS, names=THIRD)]),
        LIVE,
        "address in use",
    ),
    *(
        Case("shared", name, facts, UNKNOWN, SHARED_STORE)
        for name, facts in (
            ("a record that names no node, rebooted", lambda: Facts(mapping=record(boot=OTHER_BOOT), shared="nfs")),
            ("a record that names no node, netns gone", lambda: Facts(shared="nfs")),
            (
                "another node's record of another boot",
                lambda: Facts(mapping=of_another_node(record(boot=OTHER_BOOT)), shared="nfs"),
            ),
            ("no record", lambda: Facts(mapping=None, shared="nfs")),
            ("no record, before the full scan", lambda: Facts(mapping=None, deep=False, shared="nfs")),
            ("no record, waited for", lambda: Facts(owned(), None, [visible(OF_POD)], unclaimed=waited(9999), shared="nfs")),
            ("not in GC's list", lambda: Facts(mapping=None, call=gc_call(), valid=set(), unclaimed=waited(999), shared="nfs")),
            ("an empty file", lambda: Facts(content(b""), None, shared="nfs")),
            ("this node's record, second in the chain", lambda: Facts(mapping=of_this_node(record(head=False)), shared="nfs")),
            ("the record of a sibling", lambda: Facts(mapping=of_this_node(record(uid="u")), adopted=True, shared="nfs")),
            ("ADD again, the older record names no node", lambda: Facts(call=own_add(record()), shared="nfs")),
            ("left by DEL, the record names no node", lambda: Facts(mapping=marked(record()), call=own_del(), shared="nfs")),
        )
    ),
    *(
        Case("shared", name, facts, UNKNOWN, OTHER_NODE)
        for name, facts in (
            ("another node's record of this boot", lambda: Facts(mapping=of_another_node(record()))),
            (
                "another node's record of this boot, before the full scan",
                lambda: Facts(mapping=of_another_node(record()), deep=False),
            ),
            ("ADD again, the older record is another node's", lambda: Facts(call=own_add(of_another_node(record())))),
            (
                "left by DEL, the record is another node's",
                lambda: Facts(mapping=of_another_node(marked(record())), call=own_del()),
            ),
        )
    ),
]

REAPS = [
    Case(
        "2",
        "another node's record of another boot",
        lambda: Facts(mapping=of_another_node(record(boot=OTHER_BOOT))),
        STALE,
        REBOOTED,
    ),
    Case(
        "2",
        "shared, this node's record",
        lambda: Facts(mapping=of_this_node(record(boot=OTHER_BOOT)), shared="nfs"),
        STALE,
        REBOOTED,
    ),
    Case("4", "shared, this node's record", lambda: Facts(mapping=of_this_node(record()), shared="nfs"), STALE, NETNS_GONE),
    Case("1", "shared, ADD again", lambda: Facts(call=own_add(of_this_node(record())), shared="nfs"), STALE, ADDED_AGAIN),
    Case(
        "1",
        "shared, left by DEL",
        lambda: Facts(mapping=of_this_node(marked(record())), call=own_del(), shared="nfs"),
        STALE,
        LEFT_BY_DEL,
    ),
    Case("1", "ADD again in another netns", lambda: Facts(call=own_add(record())), STALE, ADDED_AGAIN),
    Case("1", "ADD again, the number was reused", lambda: Facts(call=own_add(record(), netns=REUSED)), STALE, ADDED_AGAIN),
    Case(
        "1",
        "ADD again, NS_GET_ID says another netns",
        lambda: Facts(call=own_add(record(NUMBERED), netns=NUMBERED_ANEW)),
        STALE,
        ADDED_AGAIN,
    ),
    Case("1", "ADD again after a reboot", lambda: Facts(call=own_add(record(boot=OTHER_BOOT))), STALE, ADDED_AGAIN),
    Case(
        "1",
        "ADD again, a netns of nobody is dark: that is for rows 5 and 8",
        lambda: Facts(call=own_add(record()), netns=[visible(OF_POD, unseen=True)]),
        STALE,
        ADDED_AGAIN,
    ),
    Case(
        "1",
        "DEL at the head, CNI_NETNS is the record's",
        lambda: Facts(call=own_del(), mapping=marked(record())),
        STALE,
        LEFT_BY_DEL,
    ),
    Case("1", "DEL at the head without CNI_NETNS", lambda: Facts(call=own_del(""), mapping=marked(record())), STALE, LEFT_BY_DEL),
    Case(
        "1",
        "DEL at the head, CNI_NETNS is the same netns under another path",
        lambda: Facts(call=own_del("/proc/7/ns/net", RECORDED), mapping=marked(record())),
        STALE,
        LEFT_BY_DEL,
    ),
    Case(
        "1",
        "DEL at the head while the netns still stands",
        lambda: Facts(call=own_del(), mapping=marked(record(now=RECORDED))),
        STALE,
        LEFT_BY_DEL,
    ),
    Case("2", "another boot, the path is gone", lambda: Facts(mapping=record(boot=OTHER_BOOT)), STALE, REBOOTED),
    Case(
        "2",
        "another boot, the path is another netns",
        lambda: Facts(mapping=record(now=OF_POD, boot=OTHER_BOOT)),
        STALE,
        REBOOTED,
    ),
    Case(
        "2",
        "another boot, the path has the number again",
        lambda: Facts(mapping=record(now=REUSED, boot=OTHER_BOOT)),
        STALE,
        REBOOTED,
    ),
    Case(
        "2",
        "another boot, NS_GET_ID counts from the start again",
        lambda: Facts(mapping=record(NUMBERED, now=Netns(4, 4026533000, 9, 77), boot=OTHER_BOOT)),
        STALE,
    ),
    Case(
        "2",
        "another boot, the process number and the inode number are given again",
        lambda: Facts(mapping=of_process(record(now=REUSED, boot=OTHER_BOOT))),
        STALE,
        REBOOTED,
    ),
    Case(
        "4",
        "a process's path, and NS_GET_ID says another netns",
        lambda: Facts(mapping=of_process(record(NUMBERED, now=NUMBERED_ANEW))),
        STALE,
        NETNS_GONE,
    ),
    Case(
        "9",
        "a sibling's number is of nobody, the time is over",
        lambda: Facts(mapping=None, siblings=[record()], netns=[visible(REUSED)], unclaimed=waited(1500, REUSED)),
        STALE,
        UNCLAIMED,
    ),
    Case(
        "2",
        "another boot, the number is visible, the ctime another",
        lambda: Facts(mapping=record(boot=OTHER_BOOT), netns=[visible(REUSED)]),
        STALE,
        REBOOTED,
    ),
    Case(
        "2",
        "another boot, the runtime starts the ID anew",
        lambda: Facts(mapping=record(boot=OTHER_BOOT), named=True),
        STALE,
        REBOOTED,
    ),
    Case(
        "2",
        "another boot, GC's list names the owner",
        lambda: Facts(mapping=record(boot=OTHER_BOOT), call=gc_call(), valid={(OWNER, IFNAME)}),
        STALE,
        REBOOTED,
    ),
    Case("4", "the path is gone and the netns nowhere", Facts, STALE, NETNS_GONE),
    Case("4", "the path is another netns, the own is nowhere", lambda: Facts(mapping=record(now=OF_POD)), STALE, NETNS_GONE),
    Case(
        "4",
        "a pod's sandbox, recorded in another place of the chain",
        lambda: Facts(mapping=record(head=False, uid="u")),
        STALE,
        NETNS_GONE,
    ),
    Case(
        "4",
        "a netns of nobody is dark: the record knows the netns",
        lambda: Facts(netns=[visible(OF_POD, unseen=True)]),
        STALE,
        NETNS_GONE,
    ),
    Case("4", "GC's list names the owner", lambda: Facts(call=gc_call(), valid={(OWNER, IFNAME)}), STALE, NETNS_GONE),
    Case(
        "4",
        "the same number on another device",
        lambda: Facts(netns=[visible(Netns(5, RECORDED.ino, RECORDED.ctime))]),
        STALE,
        NETNS_GONE,
    ),
    Case(
        "4",
        "another interface of this call's ID, whose record is clear",
        lambda: Facts(call=a_call(owner=OWNER, ifname="net1")),
        STALE,
        NETNS_GONE,
    ),
    Case(
        "4",
        "the owner of the same name in another network",
        lambda: Facts(call=a_call("DEL", OWNER, network="other")),
        STALE,
        NETNS_GONE,
    ),
    Case("4", "a container ID that begins with the call's", lambda: Facts(call=a_call("ADD", OWNER[:30])), STALE, NETNS_GONE),
    Case(
        "4", "an IPv6 address", lambda: Facts(owned(address="fd00::7"), netns=[visible(OF_THIRD, "fd00::8")]), STALE, NETNS_GONE
    ),
    Case("4", "an operator's short ID that has a record", lambda: Facts(reservation=owned("web")), STALE, NETNS_GONE),
    Case(
        "5",
        "the number was reused by somebody else's netns",
        lambda: Facts(netns=[visible(REUSED, "10.9.0.8", names=THIRD)]),
        STALE,
        NETNS_GONE,
    ),
    Case(
        "5",
        "the number was reused by this call's netns",
        lambda: Facts(mapping=record(Netns(4, OF_CALL.ino, 5000))),
        STALE,
        NETNS_GONE,
    ),
    Case(
        "4",
        "NS_GET_ID says that the number was reused, a netns of nobody is dark",
        lambda: Facts(mapping=record(NUMBERED), netns=[visible(NUMBERED_ANEW, unseen=True)]),
        STALE,
        NETNS_GONE,
    ),
    Case(
        "4",
        "NS_GET_ID says that the number was reused, at once",
        lambda: Facts(mapping=record(NUMBERED), netns=[visible(NUMBERED_ANEW)]),
        STALE,
        NETNS_GONE,
    ),
    Case(
        "5",
        "the number was reused, a dark netns is somebody else's",
        lambda: Facts(netns=[visible(REUSED, names=THIRD), visible(OF_THIRD, unseen=True, names=THIRD)]),
        STALE,
        NETNS_GONE,
    ),
    Case("7", "a file without content", lambda: Facts(content(b""), None), STALE, EMPTY),
    Case("7", "a file of NUL after a power loss", lambda: Facts(content(b"\0" * 70), None), STALE, EMPTY),
    Case("7", "a file of blanks", lambda: Facts(content(b" \r\n\t"), None), STALE, EMPTY),
    Case(
        "7",
        "an empty file beside a netns of nobody",
        lambda: Facts(content(b""), None, [visible(OF_POD, unseen=True)]),
        STALE,
        EMPTY,
    ),
    Case("8", "no netns but the host's and this call's", lambda: Facts(mapping=None), STALE, NO_NETNS_LEFT),
    Case(
        "8",
        "every netns is somebody else's",
        lambda: Facts(mapping=None, netns=[visible(OF_THIRD, names=THIRD)]),
        STALE,
        NO_NETNS_LEFT,
    ),
    Case(
        "8",
        "a dark netns is somebody else's",
        lambda: Facts(mapping=None, netns=[visible(OF_THIRD, unseen=True, names=THIRD)]),
        STALE,
        NO_NETNS_LEFT,
    ),
    Case("8", "a unit's netns", lambda: Facts(mapping=None, netns=[assigned()]), STALE, NO_NETNS_LEFT),
    Case(
        "8",
        "a docker container's",
        lambda: Facts(owned(DOCKERS), None, netns=[assigned(OTHER_OF_DOCKER)]),
        STALE,
        NO_NETNS_LEFT,
    ),
    Case(
        "9",
        "what was nobody's then is a unit's now, beside another of nobody",
        lambda: Facts(mapping=None, netns=[assigned(), visible(OF_THIRD)], unclaimed=waited(10, OF_POD)),
        STALE,
        UNCLAIMED,
    ),
    Case("8", "a cached path is gone", lambda: Facts(mapping=cache()), STALE, NO_NETNS_LEFT),
    Case("8", "a cached path is the host's netns", lambda: Facts(mapping=cache(HOST, of_host=True)), STALE, NO_NETNS_LEFT),
    Case(
        "8",
        "a cached process number is another's by now",
        lambda: Facts(mapping=cache(OF_THIRD, "/proc/7/ns/net"), netns=[visible(OF_THIRD, names=THIRD)]),
        STALE,
        NO_NETNS_LEFT,
    ),
    Case("8", "a record of an earlier life, no netns left", lambda: Facts(mapping=outlived(record())), STALE, NO_NETNS_LEFT),
    Case("8", "a record not written at the head, its path gone", lambda: Facts(mapping=record(head=False)), STALE, NO_NETNS_LEFT),
    Case("8", "a record without identity, its path gone", lambda: Facts(mapping=record(None)), STALE, NO_NETNS_LEFT),
    Case("8", "an ID without ifname, as host-local < 0.8 wrote it", lambda: Facts(owned(ifname=""), None), STALE, NO_NETNS_LEFT),
    Case(
        "8",
        "a dead sibling proves nothing, and hinders nothing",
        lambda: Facts(mapping=None, siblings=[record(), cache()]),
        STALE,
        NO_NETNS_LEFT,
    ),
    Case(
        "8",
        "GC's list names another interface",
        lambda: Facts(mapping=None, call=gc_call(), valid={(OWNER, "net1")}),
        STALE,
        NO_NETNS_LEFT,
    ),
    Case("8", "GC's list is empty", lambda: Facts(mapping=None, call=gc_call(), valid=set()), STALE, NO_NETNS_LEFT),
    Case("8", "nerdctl's namespace in front of the ID", lambda: Facts(owned("default-" + OWNER), None), STALE, NO_NETNS_LEFT),
    Case(
        "9",
        "the netns of then is gone, another is of nobody",
        lambda: Facts(mapping=None, netns=[visible(OF_POD)], unclaimed=waited(1, OF_THIRD)),
        STALE,
        UNCLAIMED,
    ),
    Case(
        "9",
        "there was no netns of nobody then",
        lambda: Facts(mapping=None, netns=[visible(OF_POD)], unclaimed=waited(1)),
        STALE,
        UNCLAIMED,
    ),
    Case(
        "9",
        "the netns of then is somebody else's by now",
        lambda: Facts(mapping=None, netns=[visible(OF_THIRD, names=THIRD), visible(OF_POD)], unclaimed=waited(1, OF_THIRD)),
        STALE,
        UNCLAIMED,
    ),
    Case(
        "9",
        "NS_GET_ID says that the netns of then is gone",
        lambda: Facts(mapping=None, netns=[visible(NUMBERED_ANEW)], unclaimed=waited(1, NUMBERED)),
        STALE,
        UNCLAIMED,
    ),
    Case(
        "9",
        "the time is over",
        lambda: Facts(mapping=None, netns=[visible(OF_POD)], unclaimed=waited(1500, OF_POD)),
        STALE,
        UNCLAIMED,
    ),
    Case(
        "9",
        "a recorded netns whose number is of nobody, the time is over",
        lambda: Facts(netns=[visible(REUSED)], unclaimed=waited(1500, REUSED)),
        STALE,
        UNCLAIMED,
    ),
    Case(
        "10",
        "GC's list does not name it, two minutes after it was first seen",
        lambda: Facts(mapping=None, netns=[visible(OF_POD)], call=gc_call(), valid=set(), unclaimed=waited(120, OF_POD)),
        STALE,
        NOT_LISTED,
    ),
    Case(
        "10",
        "the list names the container's other interface",
        lambda: Facts(
            mapping=None,
            netns=[visible(OF_POD)],
            call=gc_call(),
            valid={(OWNER, "net1")},
            unclaimed=waited(120, OF_POD),
        ),
        STALE,
        NOT_LISTED,
    ),
    Case("8", "ctr's ID", lambda: Facts(owned("default-web"), None), STALE, NO_NETNS_LEFT),
    Case("9", "a script's ID", lambda: Facts(owned("web"), None, [visible(OF_POD)], unclaimed=waited(9999)), STALE, UNCLAIMED),
    Case("8", "cnitool's ID", lambda: Facts(owned("cnitool-20c433bb2b1d6ede56d6"), None), STALE, NO_NETNS_LEFT),
    Case(
        "4",
        "only another user shows the address",
        lambda: Facts(netns=[visible(OF_POD, ADDRESS, foreign=True)]),
        STALE,
        NETNS_GONE,
    ),
    Case("5", "another user's netns has the number", lambda: Facts(netns=[visible(REUSED, foreign=True)]), STALE, NETNS_GONE),
    Case(
        "8",
        "another user's netns cannot be looked into",
        lambda: Facts(mapping=None, netns=[visible(OF_POD, unseen=True, foreign=True)]),
        STALE,
        NO_NETNS_LEFT,
    ),
    Case(
        "8",
        "only another user shows the address of a sibling",
        lambda: Facts(mapping=None, netns=[visible(OF_POD, "10.9.0.8", foreign=True)], sibling_addresses=("10.9.0.8",)),
        STALE,
        NO_NETNS_LEFT,
    ),
    Case(
        "9",
        "the netns of then is another user's by now",
        lambda: Facts(mapping=None, netns=[visible(OF_THIRD, foreign=True), visible(OF_POD)], unclaimed=waited(1, OF_THIRD)),
        STALE,
        UNCLAIMED,
    ),
]


@pytest.mark.parametrize("case", KEEPS, ids=str)
def test_keeps(case: Case) -> None:
    """On these facts the address stays, for this reason."""
    verdict, reason = case.facts().judged()
    assert (verdict, reason) == (case.verdict, case.text or reason)
    assert verdict != STALE


@pytest.mark.parametrize("case", REAPS, ids=str)
def test_reaps(case: Case) -> None:
    """On these facts, and nothing less, the address is freed, for this reason."""
    verdict, reason = case.facts().judged()
    assert (verdict, reason) == (STALE, case.text or reason)


@pytest.mark.parametrize("case", REAPS, ids=str)
def test_configured_address_is_kept_by_the_last_guard(case: Case) -> None:
    """Whatever calls an address stale: if it is configured in any visible netns, it stays, whosever that netns is."""
    for names in (THIRD, OWNER, ""):
        facts = case.facts()
        facts.netns = [*facts.netns, visible(ANOTHER, facts.reservation.address, names=names)]
        verdict, reason = facts.judged()
        assert verdict != STALE, reason
        assert names != THIRD or (verdict, reason) == (LIVE, "address in use")


@pytest.mark.parametrize("case", REAPS, ids=str)
def test_trouble_keeps(case: Case) -> None:
    """Whatever calls an address stale: if one source could not be read, it stays."""
    facts = case.facts()
    facts.blind = "a source cannot be read"
    assert facts.judged() == (UNKNOWN, "a source cannot be read")


@pytest.mark.parametrize("case", REAPS, ids=str)
def test_named_owner_is_kept_where_the_kernel_cannot_prove(case: Case) -> None:
    """What the runtime still names is kept on the rows that the kernel alone cannot prove, and on no other."""
    facts = case.facts()
    facts.named = True
    named = case.row in ("5", "8", "9", "10")
    assert facts.judged() == ((LIVE, "named by the runtime") if named else (STALE, case.text or facts.judged()[1]))


@pytest.mark.parametrize("case", [*KEEPS, *REAPS], ids=str)
def test_a_closer_look_is_never_spared(case: Case) -> None:
    """What all facts call stale, the cheap ones call worth a full scan; and what they keep by then, they keep for good."""
    facts = case.facts()
    facts.deep = False
    if case.row != "-" and facts.judged()[0] != STALE:
        assert case.facts().judged()[0] != STALE


def test_rows_stand_in_their_order() -> None:
    """The numbers of the table rise: the first row with an answer decides."""
    numbers = [number for number, _ in ROWS if number]
    assert numbers == sorted(numbers) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize(
    ("container_id", "it_is"),
    [("a" * 12, True), ("0123456789AB", True), ("a" * 11, False), ("x" + "a" * 12 + "y", True), ("x", False)],
)
def test_twelve_hex_digits_are_no_operators_note(container_id: str, it_is: bool) -> None:
    """Twelve hex digits in a row, anywhere, are a runtime's."""
    assert (Facts(owned(container_id, ""), None).judged()[0] == STALE) is it_is


@pytest.mark.parametrize(
    ("facts", "may_be_freed"),
    [
        (Facts(mapping=None, trouble="its record cannot be read"), False),
        (Facts(mapping=cache(state=UNREADABLE)), False),
        (Facts(mapping=None, siblings=[cache(state=UNREADABLE)]), False),
        (Facts(mapping=None, netns=[visible(RECORDED, ADDRESS)]), False),
        (Facts(mapping=None, named=True), False),
        (Facts(mapping=None, netns=[visible(RECORDED, unseen=True)]), False),
        (Facts(mapping=None, netns=[visible(RECORDED)]), True),
    ],
    ids=["trouble", "path", "sibling's path", "last guard", "named guard", "dark netns", "nothing says that it lives"],
)
def test_person_may_free_only_what_no_guard_knows(facts: Facts, may_be_freed: bool) -> None:
    """An owner of whom everything could be read, and whom no guard knows."""
    assert is_defenceless(facts.reservation, facts.evidence()) is may_be_freed
