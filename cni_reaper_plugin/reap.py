"""One network is reaped, top to bottom: snapshot, gather, judge, remove, report. Read it beside docs/evidence.md.

The order is a safety property. Reservations are read first, netns are looked for after that, and nothing is removed that is
not, under host-local's lock, still exactly what was judged.
"""

import posix

from cni_reaper_plugin import files, report, store
from cni_reaper_plugin.clock import Budget
from cni_reaper_plugin.events import Log
from cni_reaper_plugin.evidence import boot, closer, records, views
from cni_reaper_plugin.evidence.unclaimed import Memory
from cni_reaper_plugin.facts import LIVE, STALE, UNKNOWN, Call, Evidence, Reservation, Settings
from cni_reaper_plugin.first_look import SLICE, SkippedError, from_cursor
from cni_reaper_plugin.judge import judge

BATCH = 256  # reservations removed before host-local has its lock back: all of a /24 at once
TOLERABLE_LOOK_S = 2.0  # CPU time of a look around the node: that of half a million open files
LONG_LOOK_S = 20.0  # of DEL and GC, which are to end something
PUT_OFF_S = 600
_PUT_OFF = "put-off"  # in RUN_DIR: seconds since boot
SUSPICIOUS = 3  # so many recorded attachments, all stale at once, are rather a wrong view

Judged = tuple[Reservation, Evidence, str, str]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def reap(
    directory: store.Network, candidate: str, call: Call, settings: Settings, budget: Budget, log: Log
) -> list[Reservation] | None:
    """From a new snapshot: gather everything, judge, remove, report, and remember who is waited for.

    Returns the snapshot, None if it is not of the whole network.
    """
    memory = Memory(views.RUN_DIR, directory.name, boot.boot_id(), call.view)
    addresses = _beginning_with(candidate, directory.addresses())
    reservations: list[Reservation] = []
    taken = 0
    while taken < len(addresses) and not (taken and budget.spent(share=0.6)):
        reservations += directory.snapshot(addresses[taken : taken + SLICE])
        taken += SLICE
    judged = _judged_closely(directory, reservations, addresses[taken:], call, settings, budget, memory)
    following = reservations[len(judged)].address if len(judged) < len(reservations) else "".join(addresses[taken : taken + 1])
    stale = [one for one in judged if one[2] == STALE and call.may_reap in ("all", one[3])]
    stale.sort(key=lambda one: one[1].packed)
    _refuse_a_wrong_view(judged, call)
    if call.may_reap == "all":
        _remember(judged, addresses, following, memory)
        memory.save(log, closely=True)
    for start in range(0, len(stale), BATCH):
        batch = stale[start : start + BATCH]
        if settings.dry_run:
            for reservation, evidence, _, reason in batch:
                report.reaped(reservation, evidence, reason, log, dry_run=True)
        else:
            _remove(directory, batch, settings, budget, log)
    for reservation, evidence, verdict, reason in judged:
        if verdict == UNKNOWN:
            report.kept(reservation, evidence, reason, log)
        elif verdict == LIVE and call.misses(reservation):
            report.unlisted(reservation, evidence, reason, log)
    if following:
        log.info("sweep-cut", network=directory.name, reason="budgetMs is used up; the next call goes on from there")
    return reservations if taken >= len(addresses) else None


def _beginning_with(candidate: str, addresses: list[str]) -> list[str]:
    ordered = from_cursor(candidate, addresses)
    return ordered if len(ordered) > SLICE else sorted(ordered, key=lambda address: address != candidate)


def _judged_closely(
    directory: store.Network,
    reservations: list[Reservation],
    untaken: list[str],
    call: Call,
    settings: Settings,
    budget: Budget,
    memory: Memory,
) -> list[Judged]:
    """Judge on all facts, in order, as far as the budget goes. Raises SkippedError when something cannot be seen.

    untaken: addresses of the network that are not among the reservations; their owners can only account for netns.
    """

    def neighbours() -> list[Reservation]:
        """Return everybody else's reservations."""
        return directory.snapshot(untaken) + _neighbours(directory.name, settings)

    look = _look(directory.name, reservations, settings, call, memory, neighbours, budget)
    judged: list[Judged] = []
    for start in range(0, len(reservations), SLICE):
        part = reservations[start : start + SLICE]
        gathered = look.gather(part)
        if look.surroundings.trouble:
            raise SkippedError(look.surroundings.trouble)
        if not start:
            budget.next_sweep()  # what all owners have in common is gathered, and would have to be again at the next call
        judged += [
            (reservation, evidence, *judge(reservation, evidence)) for reservation, evidence in zip(part, gathered, strict=True)
        ]
        if budget.spent(share=0.9):
            break
    if call.valid is None or untaken or len(judged) < len(reservations):
        return judged
    look.surroundings.list_complete = not any(verdict == LIVE and call.misses(one) for one, _, verdict, _ in judged)
    return [(reservation, evidence, *judge(reservation, evidence)) for reservation, evidence, _, _ in judged]


def _look(
    network: str,
    reservations: list[Reservation],
    settings: Settings,
    call: Call,
    memory: Memory,
    neighbours: "Callable[[], list[Reservation]]",
    budget: Budget,
) -> closer.Look:
    """Look around the node; note it when that takes longer than an ADD may. Raises TimeoutError."""
    began = posix.times()
    limit_s = budget.wall_left_s() if call.verb == "ADD" else LONG_LOOK_S
    try:
        return closer.Look(network, reservations, settings, call, memory, neighbours, limit_s)
    finally:
        now = posix.times()  # CPU time: on a machine that is merely busy the next look may be quicker
        if now.user + now.system - began.user - began.system > TOLERABLE_LOOK_S:
            _put_off_looks()


def is_put_off(call: Call) -> bool:
    """Tell whether an ADD is to leave looking around to DEL and GC, since that took too long not long ago."""
    if call.verb != "ADD":
        return False
    try:
        ago_s = boot.boottime_s() - float(files.read("%s/%s" % (views.RUN_DIR, _PUT_OFF), limit=64))
    except (OSError, ValueError):
        return False
    return 0 <= ago_s < PUT_OFF_S


def _put_off_looks() -> None:
    fd = posix.open(views.RUN_DIR, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        files.replace(_PUT_OFF, b"%d" % boot.boottime_s(), fd)
    finally:
        posix.close(fd)


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


def _remove(directory: store.Network, batch: list[Judged], settings: Settings, budget: Budget, log: Log) -> None:
    """Remove a batch under host-local's lock and report each. Raises LockTimeoutError, OSError."""
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


def _neighbours(network: str, settings: Settings) -> list[Reservation]:
    """Return the reservations of the other networks in the store. Raises OSError."""
    found = []
    for other in store.networks(settings.data_dir):
        if other != network:
            try:
                directory = store.Network(settings.data_dir, other)
            except FileNotFoundError:
                continue
            with directory:
                found += directory.snapshot(directory.addresses())
    return found


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
