"""One network is reaped, top to bottom: snapshot, gather, judge, remove, report. Read it beside docs/evidence.md.

The order is a safety property. Reservations are read first, netns are looked for after that, and nothing is removed that is
not, under host-local's lock, still exactly what was judged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin.evidence import proof, records
from cni_reaper_plugin.memory.waiting_owners import Memory
from cni_reaper_plugin.model import ALL, LIVE, STALE, UNKNOWN, Evidence, Judged, Reservation, SkippedError
from cni_reaper_plugin.network_sweep import NetworkSweep
from cni_reaper_plugin.reaper import quick_scan, report
from cni_reaper_plugin.reaper.decision import is_defenceless
from cni_reaper_plugin.reaper.full_scan import Judging
from cni_reaper_plugin.reaper.quick_scan import SLICE, from_cursor
from cni_reaper_plugin.reasons import FORCED, NETNS_THERE

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_reaper_plugin.options import Settings

BATCH = 256  # reservations removed before host-local has its lock back: all of a /24 at once
YOUNG_S = 120  # an address that was given just now is configured by the plugin behind host-local, and by nobody before
SUSPICIOUS = 3  # so many recorded attachments, all stale at once, are rather a wrong view


def reap(sweep: NetworkSweep, candidate: str, others_wait: Callable[[], bool]) -> tuple[list[Reservation] | None, bool]:
    """From a new snapshot: gather everything, judge, remove, report, and remember who is waited for and who is kept.

    others_wait: tells whether other calls wait for this one. Returns the snapshot, None if it is not of the whole network; and
    whether all of the network was judged, on all evidence, in a view in which all may be reaped, and all that was stale is gone.
    """
    call, network, budget = sweep.call, sweep.network, sweep.budget
    memory = quick_scan.memory(sweep)
    addresses = _beginning_with(candidate, network.addresses())
    reservations: list[Reservation] = []
    taken = 0
    while taken < len(addresses) and not (taken and budget.spent(share=0.6)):
        reservations += network.snapshot(addresses[taken : taken + SLICE])
        taken += SLICE
    judged = Judging(sweep, reservations, addresses[taken:], memory).all(others_wait)
    following = reservations[len(judged)].address if len(judged) < len(reservations) else "".join(addresses[taken : taken + 1])
    stale = [one for one in judged if one.verdict == STALE and call.permits(one.reason)]
    stale.sort(key=lambda one: one.evidence.packed)
    _refuse_a_wrong_view(sweep, judged)
    if call.may_reap is ALL:
        _remember(judged, addresses, following, memory)
        _remember_kept(judged, sweep.settings, memory)
        memory.save(sweep.log, closely=True)
    is_done = True
    if sweep.settings.dry_run:
        for one in stale:
            report.would_free(sweep, one)
    elif stale:
        is_done = _free(sweep, stale)
    _report_kept(sweep, judged, candidate)
    _tell_of_lifeless(sweep, judged)
    if following:
        sweep.result.cut = "budgetMs is used up; the next call goes on from there"
        sweep.log.info("sweep-cut", network=network.name, reason=sweep.result.cut)
    is_whole = not following and call.may_reap is ALL and is_done
    is_whole = is_whole and not any(one.evidence.trouble for one in judged)
    return reservations if taken >= len(addresses) else None, is_whole


def _report_kept(sweep: NetworkSweep, judged: list[Judged], candidate: str) -> None:
    """Report who is kept: UNKNOWN, LIVE against GC's list, and LIVE by what only a full scan finds."""
    sweep.result.kept.clear()  # whom the quick scan has kept may be freed, or LIVE, by now
    for one in judged:
        if one.verdict == UNKNOWN:
            report.kept(sweep, one)
        elif one.verdict == LIVE and sweep.call.misses(one.reservation):
            report.unlisted(sweep, one)
        elif one.verdict == LIVE:
            place = proof.in_words(one.evidence, one.reservation, one.reason)
            if place is not None or one.reservation.address == candidate:
                report.kept_live(sweep, one, place or "")


def _tell_of_lifeless(sweep: NetworkSweep, judged: list[Judged]) -> None:
    """Tell how many addresses netns without a process hold; that it cannot be told is no trouble."""
    from cni_reaper_plugin.notices import lifeless

    try:
        lifeless.tell(sweep, judged)
    except OSError as e:
        sweep.log.debug("not-counted", reason=str(e))


def force(sweep: NetworkSweep, asked: list[Reservation]) -> None:
    """Free reservations that a person says are dead, of those that are UNKNOWN still; what cannot be judged stays.

    asked: as they were read when the person was asked. Raises OSError and SkippedError.
    """
    network = sweep.network
    judged = Judging(sweep, network.snapshot(network.addresses()), [], quick_scan.memory(sweep)).all()
    wanted = {(one.address, one.ino, one.ctime) for one in asked}
    forced = []
    for one in judged:
        reservation = one.reservation
        if (reservation.address, reservation.ino, reservation.ctime) in wanted and may_be_forced(one):
            forced.append(Judged(reservation, one.evidence, one.verdict, FORCED))
    if forced:
        _free(sweep, forced)


def may_be_forced(judged: Judged) -> bool:
    """Tell whether a person may say of an owner that it is dead: UNKNOWN, not made just now, and nothing says that it lives.

    By the wall clock, which is no evidence, but here it can only keep.
    """
    import time

    is_young = time.time() - judged.reservation.mtime_s <= YOUNG_S
    return judged.verdict == UNKNOWN and not is_young and is_defenceless(judged.reservation, judged.evidence)


def _beginning_with(candidate: str, addresses: list[str]) -> list[str]:
    ordered = from_cursor(candidate, addresses)
    return ordered if len(ordered) > SLICE else sorted(ordered, key=lambda address: address != candidate)


def _remember(judged: list[Judged], addresses: list[str], following: str, memory: Memory) -> None:
    """Note who is kept although no netns is known to be its own, and where the next sweep begins, of all addresses.

    Whoever is LIVE for another reason than its netns begins to be waited for only now.
    """
    waiting: dict[str, list[Reservation]] = {}
    for one in judged:
        begun = one.evidence.unclaimed is not None and one.evidence.unclaimed.netns is not None
        if one.verdict == STALE or one.evidence.trouble or (one.verdict == UNKNOWN and begun):
            continue
        if one.verdict == UNKNOWN or one.evidence.suspect:
            waiting.setdefault(one.reservation.container_id, []).append(one.reservation)
        else:
            memory.forget(one.reservation)
    surroundings = judged[0].evidence.surroundings if judged else None
    if surroundings is not None:
        for owner, theirs in waiting.items():
            memory.remember(theirs, surroundings.unaccounted(owner))
    memory.looked(set(addresses))
    memory.begin_at(following)


def _remember_kept(judged: list[Judged], settings: Settings, memory: Memory) -> None:
    """Note who is kept by something that the quick scan does not see, and where that stands: it need not be found again."""
    memory.keep_none()
    for one in judged:
        if one.verdict == LIVE and one.reason is not NETNS_THERE:
            place = proof.of(one.evidence, one.reservation, one.reason)
            if place is not None:
                memory.keep(one.reservation, one.evidence.record, place)
        elif one.verdict == STALE and settings.dry_run:
            memory.keep(one.reservation, one.evidence.record, None)


def _free(sweep: NetworkSweep, stale: list[Judged]) -> bool:
    """Free all to which nothing leads any more, batch by batch; return whether a next call would find nothing to do.

    Raises SkippedError, OSError.
    """
    free, put_off = _without_published(sweep, stale)
    removed = sum(_remove(sweep, free[start : start + BATCH]) for start in range(0, len(free), BATCH))
    return removed == len(free) and not put_off


def _without_published(sweep: NetworkSweep, stale: list[Judged]) -> tuple[list[Judged], bool]:
    """Take back what leads to these from outside of their pods; return those to which nothing does, and whether some wait.

    Others can do no better for those that were tried and stay; who waits is for the next call. Raises OSError.
    """
    from cni_reaper_plugin.published import devices, withdraw

    def still_judged(one: Judged) -> bool:
        """Tell whether file and record are as they were."""
        reservation = one.reservation
        is_same = sweep.network.identity(reservation.address) == (reservation.ino, reservation.ctime)
        return is_same and _still_judged(reservation, one.evidence, sweep.settings)

    withdrawn = withdraw.take_back(sweep, stale, still_judged)
    devices.take_away(sweep, withdrawn.free, still_judged)
    for one, is_news in withdrawn.stays:
        report.published(sweep, one, is_news)
    return withdrawn.free, withdrawn.put_off


def _remove(sweep: NetworkSweep, batch: list[Judged]) -> int:
    """Remove a batch under host-local's lock and report each; return how many were. Raises SkippedError, OSError."""
    about = {id(one.reservation): one for one in batch}
    removed, refused = sweep.network.remove(
        [one.reservation for one in batch],
        lambda reservation: _still_judged(reservation, about[id(reservation)].evidence, sweep.settings),
        sweep.budget.wall_left_s(),
    )
    for reservation in removed:
        report.freed(sweep, about.pop(id(reservation)))
    for reservation, error in refused:
        report.refused(sweep, reservation, error)
        del about[id(reservation)]
    for one in about.values():
        report.not_freed(sweep, one)
    return len(removed)


def _refuse_a_wrong_view(sweep: NetworkSweep, judged: list[Judged]) -> None:
    """Refuse to call every recorded attachment of this boot stale, unless an ADD's self-check has passed just now."""
    if sweep.call.self_checked:
        return
    recorded = []
    for one in judged:
        evidence, mapping = one.evidence, one.evidence.mapping
        if evidence.record and mapping is not None and mapping.boot_id == evidence.surroundings.boot_id:
            recorded.append(one.verdict)
    if len(recorded) >= SUSPICIOUS and all(verdict == STALE for verdict in recorded):
        msg = "every recorded attachment of this boot looks stale from here; left to the next ADD"
        raise SkippedError(msg)


def _still_judged(reservation: Reservation, evidence: Evidence, settings: Settings) -> bool:
    """Tell whether the owner's record, or that there is none, is what was judged; asked under host-local's lock."""
    if not reservation.ifname:
        return True
    try:
        record = records.raw_record(settings.state_dir, reservation.network, reservation.container_id, reservation.ifname)
    except OSError:
        return False
    return record == evidence.record
