"""The quick scan of a sweep: on cheap facts, find one reservation that is worth the full scan. A healthy node has none.

It frees nothing. What it leaves behind for the next one lies in /run/cni-reaper: who was found LIVE and who is waited for.
"""

from __future__ import annotations

import posix
from typing import TYPE_CHECKING

from cni_reaper_plugin.evidence import quick_evidence, records
from cni_reaper_plugin.memory import live_cache, proven_views
from cni_reaper_plugin.model import LIVE, NEEDS_NO_POD, STALE, UNKNOWN, Evidence, Judged, Reservation, SkippedError, Surroundings
from cni_reaper_plugin.network_sweep import NetworkSweep
from cni_reaper_plugin.reaper.decision import judge
from cni_reaper_plugin.reasons import NETNS_THERE
from cni_reaper_plugin.system import boot

SLICE = 64  # reservations between two looks at the budget, and the least that a call gets done
MOST_NOTED = 1024  # more attachments than any node has; beyond that what is noted costs more than it spares

if TYPE_CHECKING:
    from cni_reaper_plugin.event_log import Log
    from cni_reaper_plugin.memory.waiting_owners import Memory
    from cni_reaper_plugin.published.tries import Tried
    from cni_reaper_plugin.reaper.decision import Answer


def candidate(sweep: NetworkSweep) -> tuple[str | None, list[Reservation] | None]:
    """Return an address that looks stale, None when there is none, and the snapshot, None if it is not of the whole network.

    Raises OSError, and SkippedError when evidence cannot be read or the budget is used up.
    """
    network, call, boot_id = sweep.network, sweep.call, boot.boot_id()
    remembered = _remembered(sweep)
    surroundings = Surroundings(boot_id, sweep.settings.grace_s)
    surroundings.node = boot.node()
    surroundings.netns = remembered.standing() if remembered is not None else None
    noted = _Noted(sweep)
    addresses = from_cursor(remembered.cursor if remembered is not None else "", network.addresses(noted.live))
    reservations: list[Reservation] = []
    is_known = bool(noted.live)
    tried: list[Tried] = []
    for start in range(0, len(addresses), SLICE):
        part = network.snapshot(addresses[start : start + SLICE])
        reservations += part
        gathered = quick_evidence.cheap(sweep, part, surroundings, remembered)
        if surroundings.trouble:
            raise SkippedError(surroundings.trouble)
        odd: list[Judged] = []
        for reservation, evidence in zip(part, gathered, strict=True):
            is_known = is_known or evidence.record != b""
            verdict, reason = _judged(sweep, reservation, evidence)
            if verdict == STALE:
                if not _stays(sweep, Judged(reservation, evidence, verdict, reason), remembered, tried):
                    return reservation.address, None
                continue
            if verdict == LIVE and reason is NETNS_THERE:
                noted.add(reservation, evidence)
            if verdict != LIVE or evidence.unclaimed is not None or call.valid is not None:
                odd.append(Judged(reservation, evidence, verdict, reason))
        if odd:
            remembered = remembered or memory(sweep)
            _report(sweep, odd, remembered)
        if sweep.budget.spent(share=0.5) and start + SLICE < len(addresses):
            raise _cut(remembered or memory(sweep), addresses[start + SLICE], sweep.log)
    if remembered is not None:
        remembered.begin_at("")
        remembered.save(sweep.log)
    noted.save(boot_id, sweep.log)
    if not is_known and call.verb == "ADD":
        _note_others_without_reservation(sweep)
    return None, reservations


def _cut(remembered: Memory, address: str, log: Log) -> SkippedError:
    """Note where the next sweep begins, and return what is to be raised."""
    remembered.begin_at(address)
    remembered.save(log)
    return SkippedError("half of budgetMs went into a quick scan; the next call goes on from there")


def _judged(sweep: NetworkSweep, reservation: Reservation, evidence: Evidence) -> Answer:
    """Judge a reservation; what looks stale once more when it is known whether other nodes use the store. Raises OSError."""
    answer = judge(reservation, evidence)
    surroundings = evidence.surroundings
    if answer[0] != STALE or surroundings.shared is not None:
        return answer
    from cni_reaper_plugin.notices import shared_store

    surroundings.shared = shared_store.kind(sweep, surroundings.boot_id)
    return judge(reservation, evidence)


def _stays(sweep: NetworkSweep, stale: Judged, remembered: Memory | None, tried: list[Tried]) -> bool:
    """Tell whether this very reservation was found to stay a moment ago, by what no quick scan sees. Raises OSError.

    Not asked of this call's own attachment: what the call says of it is news. tried: what was tried to take ports back, once it
    has been read.
    """
    own, reservation = sweep.call.attachment, stale.reservation
    if own is not None and own.owns(reservation.network, reservation.container_id, reservation.ifname):
        return False
    return (remembered is not None and _is_kept(sweep, stale, remembered)) or _is_published(sweep, stale, tried)


def _is_kept(sweep: NetworkSweep, stale: Judged, remembered: Memory) -> bool:
    """Tell whether a full scan has found a moment ago that this very reservation stays, by something that stands still.

    stale: why it is stale at first sight, which is what is told of it under dryRun.
    """
    reservation = stale.reservation
    if not remembered.keeps(reservation, stale.evidence.record, sweep.settings.dry_run):
        return False
    if not remembered.tell_proof(reservation, sweep.log):
        from cni_reaper_plugin.reaper import report

        report.would_free(sweep, stale)
    return True


def _is_published(sweep: NetworkSweep, stale: Judged, tried: list[Tried]) -> bool:
    """Tell whether what leads to a reservation's address could not be taken back a moment ago. Raises OSError."""
    if sweep.settings.dry_run:
        return False
    if not tried:
        from cni_reaper_plugin.published import tries

        tried.append(tries.Tried(sweep.network.key))
    why = tried[0].waits(stale.reservation)
    if not why:
        return False
    from cni_reaper_plugin.reaper import report
    from cni_reaper_plugin.reasons import PORT_PUBLISHED

    report.published(sweep, Judged(stale.reservation, stale.evidence, STALE, PORT_PUBLISHED.detailed(why)), is_news=False)
    return True


def _note_others_without_reservation(sweep: NetworkSweep) -> None:
    """Note that nobody here has a record, while attachments besides this call's own are recorded. Raises OSError."""
    network, settings = sweep.network, sweep.settings
    try:
        with records.Directory(settings.state_dir, network.name) as recorded:
            are_others = len(recorded.names()) > 1
    except FileNotFoundError:
        return
    if are_others:
        from cni_reaper_plugin.notices import store_elsewhere

        store_elsewhere.note(network.name, network.key, settings, sweep.log)


class _Noted:
    """Who was LIVE when an earlier ADD looked, and is by a single look at its netns. Only for ADD, which asks no more than that.

    live: see memory.live_cache; without what this call's own attachment had reserved before, which row 1 judges.
    """

    __slots__ = ("_known", "_network", "_used", "live")

    def __init__(self, sweep: NetworkSweep) -> None:
        """Read it."""
        self._network = sweep.network
        self._used = sweep.call.verb == "ADD" and not sweep.call.standing
        self.live: live_cache.Standing = {}
        if self._used:
            self.live = live_cache.still(proven_views.RUN_DIR, self._network.key, boot.boot_id(), self._network.identity)
        self._known = len(self.live)

    def add(self, reservation: Reservation, evidence: Evidence) -> None:
        """Note a reservation whose owner's netns stands at its path just now."""
        entry = live_cache.entry(reservation, evidence.mapping) if self._used else None
        if entry is not None:
            self.live[reservation.address] = entry

    def save(self, boot_id: str, log: Log) -> None:
        """Write it anew if enough has come to it; what has gone costs nothing."""
        if len(self.live) < self._known + live_cache.MORE or self._network.listed > MOST_NOTED:
            return
        try:
            live_cache.note(proven_views.RUN_DIR, self._network.key, boot_id, self.live)
        except (OSError, TypeError) as e:
            log.debug("not-noted", network=self._network.name, reason=str(e))


def _report(sweep: NetworkSweep, odd: list[Judged], remembered: Memory) -> None:
    """Report who is kept for want of an owner, or alive against GC's list."""
    from cni_reaper_plugin.reaper import report

    for one in odd:
        if one.verdict == UNKNOWN:
            report.kept(sweep, one)
            is_said = sweep.call.may_reap is not NEEDS_NO_POD  # else nobody reads it: operator.mend.first_sweep
            if is_said and one.evidence.unclaimed is None and not one.evidence.trouble:
                remembered.remember([one.reservation], None)  # so that it is said once
        elif one.evidence.unclaimed is not None:
            remembered.forget(one.reservation)
        if one.verdict == LIVE and sweep.call.misses(one.reservation):
            report.unlisted(sweep, one)


def from_cursor(cursor: str, addresses: list[str]) -> list[str]:
    """Begin where the last sweep was cut off, so that a budget that is too small for all starves nobody."""
    if len(addresses) <= SLICE:
        return addresses
    addresses.sort()
    turn = sum(address < cursor for address in addresses)
    return addresses[turn:] + addresses[:turn]


def _remembered(sweep: NetworkSweep) -> Memory | None:
    """Return what earlier sweeps of this network have left, None where they left nothing, as on a healthy node."""
    return memory(sweep) if posix.access("%s/%s.json" % (proven_views.RUN_DIR, sweep.network.key), posix.F_OK) else None


def memory(sweep: NetworkSweep) -> Memory:
    """Return what is remembered of the network in this boot, as it is now."""
    from cni_reaper_plugin.memory import waiting_owners

    return waiting_owners.Memory(proven_views.RUN_DIR, sweep.network.key, boot.boot_id(), sweep.call.view)
