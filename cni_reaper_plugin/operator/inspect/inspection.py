"""What a person's look finds in a network's store: every reservation judged, and what a sweep does not look for.

Takes no lock and changes nothing. A pod that starts or ends meanwhile is no finding: what looks wrong is looked at twice.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.host_local import store
from cni_reaper_plugin.host_local.pool import Pool, pack, unpack
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.model import LIVE, STALE, UNKNOWN, Call, Evidence, Judged, Reservation, SkippedError
from cni_reaper_plugin.network_sweep import NetworkSweep
from cni_reaper_plugin.notices import lifeless
from cni_reaper_plugin.operator.inspect import inhabitants
from cni_reaper_plugin.reaper import quick_scan
from cni_reaper_plugin.reaper.full_scan import AUDIT, Judging
from cni_reaper_plugin.reasons import UNACCOUNTED, Reason
from cni_reaper_plugin.scan_model import VisibleNetns
from cni_reaper_plugin.system import boot
from cni_reaper_plugin.system.clock import Budget

LIMIT_S = 120.0
AGAIN_S = 1.0  # a chain's ADD or DEL has moved on by then
VERDICTS = (LIVE, STALE, UNKNOWN)
UNPROVEN = (
    "no ADD of this boot has shown the pods' network namespaces to a process like this one, so nothing is freed, and what looks "
    "stale is called UNKNOWN. Install cni-reaper, wait for the next pod, and run this again, as root on the host and not in a "
    "container. On a full node, too: the next pod's try frees what has leaked"
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_reaper_plugin.options import Settings


@dataclass(frozen=True)
class Row:
    """One reservation as it was judged.

    unproven: it looks stale from a view that nobody has proven, and is called UNKNOWN.
    """

    judged: Judged
    unproven: bool

    @property
    def reservation(self) -> Reservation:
        """What was judged."""
        return self.judged.reservation

    @property
    def evidence(self) -> Evidence:
        """All there was."""
        return self.judged.evidence

    @property
    def verdict(self) -> str:
        """LIVE, STALE or UNKNOWN."""
        return self.judged.verdict

    @property
    def reason(self) -> Reason:
        """Why it would be that, were the view proven."""
        return self.judged.reason

    @property
    def waits(self) -> bool:
        """Whether it is UNKNOWN since a network namespace of nobody may be its owner's."""
        return self.verdict == UNKNOWN and self.reason == UNACCOUNTED

    @property
    def pod(self) -> str:
        """The owner's pod, `namespace/name`, "" where nobody told."""
        pod = self.evidence.mapping.pod if self.evidence.mapping is not None else {}
        return f"{pod['namespace']}/{pod['name']}" if pod.get("namespace") and pod.get("name") else ""

    @property
    def age_s(self) -> int:
        """Seconds since the reservation's file was written, by the wall clock: for people only."""
        return max(0, int(time.time() - self.reservation.mtime_s))


@dataclass(frozen=True)
class Holder:
    """A netns in which an address is configured. place: a path that leads to it; names: whose it is known to be."""

    place: str
    names: tuple[str, ...]


@dataclass
class Inspected:
    """What was found of one network.

    rows: by address; unreserved: addresses of the pool that a netns has and nobody has reserved; doubles: addresses that
    more netns have than one, or another than their owner's; outside: reserved addresses that are not in the pool; nobodys:
    where the netns are that may be a waiting owner's; inhabited: the same, and who lives there, in words; lifeless: address ->
    place of a netns in which no process runs and whose container no runtime names; holders: packed address -> the netns that
    have it, of any network; served: a conflist here has an entry of ours for it.
    """

    name: str
    pool: Pool | None
    rows: list[Row] = field(default_factory=list)
    unreserved: dict[str, list[Holder]] = field(default_factory=dict)
    doubles: dict[str, list[Holder]] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)
    nobodys: list[str] = field(default_factory=list)
    inhabited: list[str] = field(default_factory=list)
    lifeless: dict[str, str] = field(default_factory=dict)
    holders: dict[bytes, list[VisibleNetns]] = field(default_factory=dict)
    served: bool = True

    @property
    def used(self) -> list[int]:
        """How many addresses of each set of the pool are reserved; [] where the pool is not known."""
        if self.pool is None:
            return []
        sets = [self.pool.set_of(row.evidence.packed) for row in self.rows if row.evidence.packed]
        return [sets.count(at) for at in range(len(self.pool.sets))]

    @property
    def waits(self) -> int:
        """How many reservations are UNKNOWN since a network namespace of nobody may be their owner's."""
        return sum(row.waits for row in self.rows)

    def count(self, verdict: str) -> int:
        """Return how many reservations have a verdict."""
        return sum(row.verdict == verdict for row in self.rows)


def own_call() -> Call:
    """Return the call of a person's look, with what may be reaped from here. Raises OSError."""
    call = Call(AUDIT)
    call.view = proven_views.own_view()
    call.may_reap = proven_views.allowance(boot.boot_id(), call.view)
    return call


def inspect(
    network: str,
    pool: Pool | None,
    call: Call,
    settings: Settings,
    judged: Callable[[int], None],
    stores: list[tuple[str, str]] | None = None,
) -> Inspected:
    """Look at one network. Raises OSError, StrandedError, and SkippedError when the evidence cannot be read.

    judged: told how many reservations were judged since it was told last; stores: (dataDir, stateDir) of all networks of the
    node, whose reservations account for addresses, too.
    """
    stores = stores or [(settings.data_dir, settings.state_dir)]
    found = _once(network, pool, call, settings, judged, stores)
    if found.unreserved or found.doubles:
        time.sleep(AGAIN_S)
        again = _once(network, pool, call, settings, lambda _: None, stores)
        again.unreserved = {address: again.unreserved[address] for address in found.unreserved if address in again.unreserved}
        again.doubles = {address: again.doubles[address] for address in found.doubles if address in again.doubles}
        return again
    return found


def _once(
    network: str,
    pool: Pool | None,
    call: Call,
    settings: Settings,
    judged: Callable[[int], None],
    stores: list[tuple[str, str]],
) -> Inspected:
    found = Inspected(network, pool)
    with store.Network(settings.data_dir, network) as directory:
        reservations = directory.snapshot(directory.addresses())
        look = NetworkSweep(directory, call, settings, Budget(LIMIT_S, int(LIMIT_S * 1000)), Log("error", ""))
        judging = Judging(look, reservations, [], quick_scan.memory(look))
        if judging.surroundings.trouble:
            raise SkippedError(judging.surroundings.trouble)
        for part in judging.parts():
            found.rows += [_row(one, call) for one in part]
            judged(len(part))
        if len(found.rows) < len(reservations):
            msg = "only %d of %d reservations could be judged in %d s" % (len(found.rows), len(reservations), LIMIT_S)
            raise SkippedError(msg)
        visible = list(judging.surroundings.visible())
        waiting = {row.reservation.container_id for row in found.rows if row.waits}
        nobodys = [seen for seen in visible if not seen.names and not seen.foreign and not all(map(seen.is_accounted, waiting))]
        found.nobodys = sorted(seen.place or "one without a path" for seen in nobodys)
        found.inhabited = inhabitants.told(nobodys)
        found.lifeless = {
            reservation.address: seen.place or "a netns"
            for reservation, seen in lifeless.among([row.judged for row in found.rows], call)
        }
        _find_holders(found, visible, stores)
    found.rows.sort(key=lambda row: (len(row.evidence.packed), row.evidence.packed, row.reservation.address))
    if pool is not None:
        found.outside = [row.reservation.address for row in found.rows if row.evidence.packed and row.evidence.packed not in pool]
    return found


def _row(judged: Judged, call: Call) -> Row:
    if judged.verdict != STALE or call.permits(judged.reason):
        return Row(judged, unproven=False)
    return Row(Judged(judged.reservation, judged.evidence, UNKNOWN, judged.reason), unproven=True)


def _find_holders(found: Inspected, visible: list[VisibleNetns], stores: list[tuple[str, str]]) -> None:
    """Find what no sweep looks for: who has which address of this network, by the kernel.

    Reservations are read again after the look: an address that was reserved meanwhile is no finding, nor one that another network
    has given: two bridges may have one range.
    """
    holders: dict[bytes, list[VisibleNetns]] = {}
    for seen in visible:
        if not seen.host:
            for packed in seen.addresses or ():
                holders.setdefault(packed, []).append(seen)
    found.holders = holders
    for row in found.rows:
        theirs = holders.get(row.evidence.packed, [])
        if len(theirs) > 1 or (theirs and _is_elsewhere(row.evidence, theirs[0])):
            strangers = [seen for seen in theirs if not _is_given_to(seen, row.reservation.address, stores)]
            if strangers and (len(theirs) > 1 or _is_elsewhere(row.evidence, strangers[0])):
                found.doubles[row.reservation.address] = [_holder(seen) for seen in theirs]
    if found.pool is None:
        return
    candidates = [packed for packed in sorted(holders) if packed in found.pool and not _is_of_a_link(packed)]
    taken = {pack(address) for data_dir, _ in stores for address in _reserved(data_dir)} if candidates else set()
    for packed in candidates:
        if packed not in taken:
            found.unreserved[unpack(packed)] = [_holder(seen) for seen in holders[packed]]


def _reserved(data_dir: str) -> set[str]:
    """Return the addresses that any network of a store has reserved. Raises OSError."""
    found: set[str] = set()
    for name in store.networks(data_dir):
        with contextlib.suppress(FileNotFoundError), store.Network(data_dir, name) as directory:
            found.update(directory.addresses())
    return found


def _is_given_to(holder: VisibleNetns, address: str, stores: list[tuple[str, str]]) -> bool:
    """Tell whether an owner of a reservation of this address, in any network, has this netns by its record. Raises OSError."""
    for data_dir, state_dir in stores:
        for name in store.networks(data_dir):
            with contextlib.suppress(FileNotFoundError):
                with store.Network(data_dir, name) as directory:
                    reservation = directory.read(address)
                if reservation is None or not reservation.ifname:
                    continue
                with records.Directory(state_dir, name) as directory_of_records:
                    record = directory_of_records.read(reservation.container_id, reservation.ifname)
                recorded = record.mapping.recorded if record is not None else None
                if recorded is not None and recorded.same_inode(holder.netns):
                    return True
    return False


def _is_of_a_link(packed: bytes) -> bool:
    """Tell whether an address is one that every link has of itself: fe80::/10, loopback."""
    address = ipaddress.ip_address(packed)
    return address.is_link_local or address.is_loopback


def _is_elsewhere(evidence: Evidence, holder: VisibleNetns) -> bool:
    """Tell whether the owner's own netns is known, and the address is in another."""
    recorded = evidence.mapping.recorded if evidence.mapping is not None else None
    return recorded is not None and not recorded.same_inode(holder.netns)


def _holder(seen: VisibleNetns) -> Holder:
    return Holder(seen.place, tuple(sorted(seen.names)))
