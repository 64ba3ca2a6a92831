"""One network is reaped, top to bottom: snapshot, gather, judge, remove, report. Read it beside docs/evidence.md.

The order is a safety property. Reservations are read first, netns are looked for after that, and nothing is removed that is
not, under host-local's lock, still exactly what was judged.
"""

from cni_reaper_plugin import report, store
from cni_reaper_plugin.clock import Budget
from cni_reaper_plugin.events import Log
from cni_reaper_plugin.evidence import boot, proof, records, views
from cni_reaper_plugin.evidence.unclaimed import Memory
from cni_reaper_plugin.facts import (
    ALL,
    FORCED,
    LIVE,
    NETNS_THERE,
    STALE,
    UNKNOWN,
    Call,
    Evidence,
    Reservation,
    Settings,
    SkippedError,
)
from cni_reaper_plugin.first_look import SLICE, from_cursor
from cni_reaper_plugin.judge import is_defenceless
from cni_reaper_plugin.judging import Judged, Judging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 256  # reservations removed before host-local has its lock back: all of a /24 at once
YOUNG_S = 120  # an address that was given just now is configured by the plugin behind host-local, and by nobody before
SUSPICIOUS = 3  # so many recorded attachments, all stale at once, are rather a wrong view


def reap(
    directory: store.Network,
    candidate: str,
    call: Call,
    settings: Settings,
    budget: Budget,
    log: Log,
    others_wait: "Callable[[], bool]",
) -> tuple[list[Reservation] | None, bool]:
    """From a new snapshot: gather everything, judge, remove, report, and remember who is waited for and who is kept.

    others_wait: tells whether other calls wait for this one. Returns the snapshot, None if it is not of the whole network; and
    whether all of the network was judged, on all evidence, in a view in which all may be reaped, and all that was stale is gone.
    """
    memory = Memory(views.RUN_DIR, directory.key, boot.boot_id(), call.view)
    addresses = _beginning_with(candidate, directory.addresses())
    reservations: list[Reservation] = []
    taken = 0
    while taken < len(addresses) and not (taken and budget.spent(share=0.6)):
        reservations += directory.snapshot(addresses[taken : taken + SLICE])
        taken += SLICE
    judged = Judging(directory, reservations, addresses[taken:], call, settings, budget, memory).all(others_wait)
    following = reservations[len(judged)].address if len(judged) < len(reservations) else "".join(addresses[taken : taken + 1])
    stale = [one for one in judged if one[2] == STALE and call.permits(one[3])]
    stale.sort(key=lambda one: one[1].packed)
    _refuse_a_wrong_view(judged, call)
    if call.may_reap == ALL:
        _remember(judged, addresses, following, memory)
        _remember_kept(judged, settings, memory)
        memory.save(log, closely=True)
    removed = 0
    for start in range(0, len(stale), BATCH):
        batch = stale[start : start + BATCH]
        if settings.dry_run:
            for reservation, evidence, _, reason in batch:
                report.reaped(reservation, evidence, reason, log, dry_run=True)
            removed += len(batch)
        else:
            removed += _remove(directory, batch, settings, budget, log)
    for reservation, evidence, verdict, reason in judged:
        if verdict == UNKNOWN:
            report.kept(reservation, evidence, reason, log)
        elif verdict == LIVE and call.misses(reservation):
            report.unlisted(reservation, evidence, reason, log)
        elif verdict == LIVE:
            place = proof.in_words(evidence, reservation, reason)
            if place is not None or reservation.address == candidate:
                report.kept_live(reservation, evidence, reason, place or "", log)
    _tell_of_lifeless(judged, call, directory, log)
    if following:
        log.info("sweep-cut", network=directory.name, reason="budgetMs is used up; the next call goes on from there")
    is_whole = not following and call.may_reap == ALL and removed == len(stale)
    is_whole = is_whole and not any(evidence.trouble for _, evidence, _, _ in judged)
    return reservations if taken >= len(addresses) else None, is_whole


def _tell_of_lifeless(judged: list[Judged], call: Call, directory: store.Network, log: Log) -> None:
    """Tell how many addresses netns without a process hold; that it cannot be told is no trouble."""
    from cni_reaper_plugin import lifeless

    try:
        lifeless.tell(directory, judged, call, log)
    except OSError as e:
        log.debug("not-counted", reason=str(e))


def force(directory: store.Network, asked: list[Reservation], call: Call, settings: Settings, budget: Budget, log: Log) -> None:
    """Free reservations that a person says are dead, of those that are UNKNOWN still; what cannot be judged stays.

    asked: as they were read when the person was asked. Raises OSError and SkippedError.
    """
    memory = Memory(views.RUN_DIR, directory.key, boot.boot_id(), call.view)
    reservations = directory.snapshot(directory.addresses())
    judged = Judging(directory, reservations, [], call, settings, budget, memory).all()
    wanted = {(one.address, one.ino, one.ctime) for one in asked}
    forced = [
        (reservation, evidence, verdict, FORCED)
        for reservation, evidence, verdict, _ in judged
        if (reservation.address, reservation.ino, reservation.ctime) in wanted and may_be_forced(reservation, evidence, verdict)
    ]
    for start in range(0, len(forced), BATCH):
        _remove(directory, forced[start : start + BATCH], settings, budget, log)


def may_be_forced(reservation: Reservation, evidence: Evidence, verdict: str) -> bool:
    """Tell whether a person may say of an owner that it is dead: UNKNOWN, not made just now, and nothing says that it lives.

    By the wall clock, which is no evidence, but here it can only keep.
    """
    import time

    return verdict == UNKNOWN and time.time() - reservation.mtime_s > YOUNG_S and is_defenceless(reservation, evidence)


def _beginning_with(candidate: str, addresses: list[str]) -> list[str]:
    ordered = from_cursor(candidate, addresses)
    return ordered if len(ordered) > SLICE else sorted(ordered, key=lambda address: address != candidate)


def _remember(judged: list[Judged], addresses: list[str], following: str, memory: Memory) -> None:
    """Note who is kept although no netns is known to be its own, and where the next sweep begins, of all addresses.

    Whoever is LIVE for another reason than its netns begins to be waited for only now.
    """
    waiting: dict[str, list[Reservation]] = {}
    for reservation, evidence, verdict, _ in judged:
        begun = evidence.unclaimed is not None and evidence.unclaimed.netns is not None
        if verdict == STALE or evidence.trouble or (verdict == UNKNOWN and begun):
            continue
        if verdict == UNKNOWN or evidence.suspect:
            waiting.setdefault(reservation.container_id, []).append(reservation)
        else:
            memory.forget(reservation)
    surroundings = judged[0][1].surroundings if judged else None
    if surroundings is not None:
        for owner, theirs in waiting.items():
            memory.remember(theirs, surroundings.unaccounted(owner))
    memory.looked(set(addresses))
    memory.begin_at(following)


def _remember_kept(judged: list[Judged], settings: Settings, memory: Memory) -> None:
    """Note who is kept by something that the first look does not see, and where that stands: it need not be found again."""
    memory.keep_none()
    for reservation, evidence, verdict, reason in judged:
        if verdict == LIVE and reason != NETNS_THERE:
            place = proof.of(evidence, reservation, reason)
            if place is not None:
                memory.keep(reservation, evidence.record, place)
        elif verdict == STALE and settings.dry_run:
            memory.keep(reservation, evidence.record, None)


def _remove(directory: store.Network, batch: list[Judged], settings: Settings, budget: Budget, log: Log) -> int:
    """Remove a batch under host-local's lock and report each; return how many were. Raises SkippedError, OSError."""
    about = {id(reservation): (evidence, reason) for reservation, evidence, _, reason in batch}
    removed, refused = directory.remove(
        [one[0] for one in batch],
        lambda reservation: _still_judged(reservation, about[id(reservation)][0], settings),
        budget.wall_left_s(),
    )
    for reservation in removed:
        report.reaped(reservation, *about[id(reservation)], log)
    for reservation, error in refused:
        report.refused(reservation, error, log)
    told = {id(reservation) for reservation in removed} | {id(reservation) for reservation, _ in refused}
    for reservation, evidence, _, reason in batch:
        if id(reservation) not in told:
            report.not_freed(reservation, evidence, reason, log)
    return len(removed)


def _refuse_a_wrong_view(judged: list[Judged], call: Call) -> None:
    """Refuse to call every recorded attachment of this boot stale, unless an ADD's self-check has passed just now."""
    if call.self_checked:
        return
    recorded = [
        verdict
        for _, evidence, verdict, _ in judged
        if evidence.record and evidence.mapping and evidence.mapping.boot_id == evidence.surroundings.boot_id
    ]
    if len(recorded) >= SUSPICIOUS and all(verdict == STALE for verdict in recorded):
        msg = "every recorded attachment of this boot looks stale from here; left to the next ADD"
        raise SkippedError(msg)


def _still_judged(reservation: Reservation, evidence: Evidence, settings: Settings) -> bool:
    """Tell whether the owner's record, or that there is none, is what was judged; asked under host-local's lock."""
    if not reservation.ifname:
        return True
    try:
        return (
            records.raw_record(settings.state_dir, reservation.network, reservation.container_id, reservation.ifname)
            == evidence.record
        )
    except OSError:
        return False
