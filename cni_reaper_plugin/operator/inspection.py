"""What a person's look finds in a network's store: every reservation judged, and what a sweep does not look for.

Takes no lock and changes nothing. A pod that starts or ends meanwhile is no finding: what looks wrong is looked at twice.
"""

import time
from dataclasses import dataclass, field

from cni_reaper_plugin import store
from cni_reaper_plugin.clock import Budget
from cni_reaper_plugin.evidence import boot, views
from cni_reaper_plugin.evidence.unclaimed import Memory
from cni_reaper_plugin.facts import LIVE, STALE, UNKNOWN, Call, Evidence, Reservation, Settings, VisibleNetns
from cni_reaper_plugin.first_look import SkippedError
from cni_reaper_plugin.judging import AUDIT, Judging
from cni_reaper_plugin.pool import Pool, pack, unpack

LIMIT_S = 120.0
AGAIN_S = 1.0  # a chain's ADD or DEL has moved on by then
VERDICTS = (LIVE, STALE, UNKNOWN)
UNPROVEN = (
    "no ADD of this boot has shown that a process like this one sees the pods' network namespaces, so what looks stale is "
    "called unknown; run this as root on the host, outside of any container, after a pod was started with cni-reaper in its chain"
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Row:
    """One reservation as it was judged.

    evidence: all there was; unproven: it looks stale from a view that nobody has proven, so `verdict` is UNKNOWN.
    """

    reservation: Reservation
    evidence: Evidence
    verdict: str
    reason: str
    unproven: bool

    @property
    def pod(self) -> str:
        """The owner's pod, `namespace/name`, "" where nobody told."""
        pod = self.evidence.mapping.pod if self.evidence.mapping is not None else {}
        return "%s/%s" % (pod["namespace"], pod["name"]) if pod.get("namespace") and pod.get("name") else ""

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
    more netns have than one, or another than their owner's; outside: reserved addresses that are not in the pool.
    """

    name: str
    pool: Pool | None
    rows: list[Row] = field(default_factory=list)
    unreserved: dict[str, list[Holder]] = field(default_factory=dict)
    doubles: dict[str, list[Holder]] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)

    def count(self, verdict: str) -> int:
        """Return how many reservations have a verdict."""
        return sum(row.verdict == verdict for row in self.rows)


def own_call() -> Call:
    """Return the call of a person's look, with what may be reaped from here. Raises OSError."""
    call = Call(AUDIT)
    call.view = views.own_view()
    call.may_reap = views.allowance(boot.boot_id(), call.view)
    return call


def inspect(network: str, pool: Pool | None, call: Call, settings: Settings, judged: "Callable[[int], None]") -> Inspected:
    """Look at one network. Raises OSError, and SkippedError when the evidence cannot be read.

    judged: told how many reservations were judged since it was told last.
    """
    found = _once(network, pool, call, settings, judged)
    if found.unreserved or found.doubles:
        time.sleep(AGAIN_S)
        again = _once(network, pool, call, settings, lambda _: None)
        again.unreserved = {address: again.unreserved[address] for address in found.unreserved if address in again.unreserved}
        again.doubles = {address: again.doubles[address] for address in found.doubles if address in again.doubles}
        return again
    return found


def _once(network: str, pool: Pool | None, call: Call, settings: Settings, judged: "Callable[[int], None]") -> Inspected:
    found = Inspected(network, pool)
    with store.Network(settings.data_dir, network) as directory:
        reservations = directory.snapshot(directory.addresses())
        memory = Memory(views.RUN_DIR, network, boot.boot_id(), call.view)
        judging = Judging(directory, reservations, [], call, settings, Budget(LIMIT_S, int(LIMIT_S * 1000)), memory)
        if judging.surroundings.trouble:
            raise SkippedError(judging.surroundings.trouble)
        for part in judging.parts():
            found.rows += [_row(*one, call) for one in part]
            judged(len(part))
        if len(found.rows) < len(reservations):
            msg = "only %d of %d reservations could be judged in %d s" % (len(found.rows), len(reservations), LIMIT_S)
            raise SkippedError(msg)
        _find_holders(found, list(judging.surroundings.visible()), _reserved(settings) | set(directory.addresses()))
    found.rows.sort(key=lambda row: (len(row.evidence.packed), row.evidence.packed, row.reservation.address))
    if pool is not None:
        found.outside = [row.reservation.address for row in found.rows if row.evidence.packed and row.evidence.packed not in pool]
    return found


def _row(reservation: Reservation, evidence: Evidence, verdict: str, reason: str, call: Call) -> Row:
    unproven = verdict == STALE and call.may_reap not in ("all", reason)
    return Row(reservation, evidence, UNKNOWN if unproven else verdict, reason, unproven)


def _reserved(settings: Settings) -> set[str]:
    """Return the addresses that any network has reserved: after a renaming two of them share one pool. Raises OSError."""
    found: set[str] = set()
    for name in store.networks(settings.data_dir):
        try:
            with store.Network(settings.data_dir, name) as directory:
                found.update(directory.addresses())
        except FileNotFoundError:
            continue
    return found


def _find_holders(found: Inspected, visible: list[VisibleNetns], reserved: set[str]) -> None:
    """Find what no sweep looks for: who has which address of this network, by the kernel.

    Read after the look: an address that was reserved meanwhile is no finding.
    """
    holders: dict[bytes, list[VisibleNetns]] = {}
    for seen in visible:
        if not seen.host:
            for packed in seen.addresses or ():
                holders.setdefault(packed, []).append(seen)
    for row in found.rows:
        theirs = holders.get(row.evidence.packed, [])
        if len(theirs) > 1 or (theirs and _is_elsewhere(row.evidence, theirs[0])):
            found.doubles[row.reservation.address] = [_holder(seen) for seen in theirs]
    if found.pool is None:
        return
    packed_reserved = {pack(address) for address in reserved}
    for packed in sorted(holders.keys() - packed_reserved):
        if packed in found.pool:
            found.unreserved[unpack(packed)] = [_holder(seen) for seen in holders[packed]]


def _is_elsewhere(evidence: Evidence, holder: VisibleNetns) -> bool:
    """Tell whether the owner's netns stands, and the address is in another."""
    mapping = evidence.mapping
    if mapping is None or mapping.now is None or mapping.recorded is None:
        return False
    return mapping.stands(evidence.surroundings.boot_id) and not mapping.now.same_inode(holder.netns)


def _holder(seen: VisibleNetns) -> Holder:
    return Holder(seen.place, tuple(sorted(seen.names)))
