"""One sweep, top to bottom: snapshot, gather, judge, remove, report. Read it beside docs/evidence.md.

The order is a safety property. Reservations are read first, netns are looked for after that, and nothing is removed that is
not, under host-local's lock, still exactly what was judged.
"""

import fcntl
import posix

from cni_reaper_plugin import expiry, files, first_look, flock, store
from cni_reaper_plugin.clock import Budget, ticks
from cni_reaper_plugin.events import DEFECT, Log
from cni_reaper_plugin.evidence import boot, records, views
from cni_reaper_plugin.facts import LIVE, STALE, UNKNOWN, Call, Evidence, Reservation, Settings, StrandedError
from cni_reaper_plugin.first_look import SLICE, SkippedError, from_cursor
from cni_reaper_plugin.judge import judge

WALL_LIMIT_S = 5.0  # for all networks of a call and every wait in it
BATCH = 256  # reservations removed before host-local has its lock back: all of a /24 at once
UNSEEN = (
    "this process cannot be sure to see the pods' network namespaces: it runs in a daemon's mount namespace, "
    "or could not read them (event=blind)"
)
SUSPICIOUS = 3  # so many recorded attachments, all stale at once, are rather a wrong view

Judged = tuple[Reservation, Evidence, str, str]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_reaper_plugin.evidence.unclaimed import Memory

    Allow = Callable[[], None]


def run(call: Call, settings: Settings, log: Log, allow: "Allow") -> None:
    """Sweep every network of the settings. Raises nothing: trouble is logged, and everything in doubt stays.

    allow: fills in call.may_reap, what this call's view allows, see facts.Call; asked before anything is called stale.
    """
    budget = Budget(WALL_LIMIT_S, settings.budget_ms)
    for number, network in enumerate(_networks(call, settings, log)):
        if number and not budget.wall_left_s():
            log.info(
                "sweep-cut", network=network, reason="this call has taken all its time; the next one begins at another network"
            )
            return
        budget.next_sweep()
        try:
            _sweep(network, call, settings, budget, log, allow)
        except store.LockTimeoutError:
            log.warning("sweep-skipped", network=network, reason="host-local's lock was held by others all the time")
        except (SkippedError, OSError) as e:
            log.warning("sweep-skipped", network=network, reason=str(e))
        except StrandedError as e:
            log.error("sweep-skipped", network=network, reason=str(e))
            return
        except Exception as e:  # noqa: BLE001  the reaper is never the cause of a failed pod
            log.error("sweep-skipped", network=network, reason=DEFECT % e)


def _networks(call: Call, settings: Settings, log: Log) -> list[str]:
    """Return the networks to sweep: this call's own, and the others from another one on in each call."""
    if "*" not in settings.networks:
        return settings.networks
    try:
        found = store.networks(settings.data_dir)
    except OSError as e:
        log.warning("sweep-skipped", network="*", reason=str(e))
        return []
    own = call.attachment.network if call.attachment is not None else ""
    turn = ticks() % len(found) if found else 0
    return sorted(found[turn:] + found[:turn], key=lambda name: name != own)


def _sweep(network: str, call: Call, settings: Settings, budget: Budget, log: Log, allow: "Allow") -> None:
    """Sweep one network. Raises OSError, SkippedError and LockTimeoutError; then nothing, or not all, was reaped."""
    try:
        directory = store.Network(settings.data_dir, network)
    except FileNotFoundError:
        log.info("sweep-skipped", network=network, reason="no reservations here yet: no %s/%s" % (settings.data_dir, network))
        return
    with directory:
        candidate, reservations = first_look.candidate(directory, call, settings, budget, log)
        if candidate is None and call.verb == "ADD":
            return  # what else there is to do can wait for a call that nobody waits for
        allow()
        if candidate is not None:
            if not call.may_reap:
                raise SkippedError(UNSEEN)
            gate = _one_at_a_time(network, budget)
            try:
                reservations = _reap(directory, candidate, call, settings, budget, log)
            finally:
                posix.close(gate)
    if reservations is not None and call.may_reap == "all" and not settings.dry_run:
        expiry.drop_records(network, reservations, settings)


def _one_at_a_time(network: str, budget: Budget) -> int:
    """Wait until no other process sweeps this network; return the gate's descriptor, which the caller closes.

    Waiting, never skipping: whoever skips finds a full pool. Without the gate 110 ADDs at once gather the same evidence.
    """
    try:
        files.make_directory(views.RUN_DIR, 0o700)
        gate = flock.open_lock("%s/%s.sweep" % (views.RUN_DIR, network), 0o600)
    except OSError as e:
        msg = "the lock of sweeps cannot be opened: %s" % e
        raise SkippedError(msg) from e
    if not flock.take(gate, fcntl.LOCK_EX, budget.wall_left_s()):
        posix.close(gate)
        msg = "other sweeps of this network took all the time there was"
        raise SkippedError(msg)
    return gate


def _reap(
    directory: store.Network, candidate: str, call: Call, settings: Settings, budget: Budget, log: Log
) -> list[Reservation] | None:
    """From a new snapshot: gather everything, judge, remove, report, and remember who is waited for.

    Returns the snapshot, None if it is not of the whole network.
    """
    from cni_reaper_plugin import report
    from cni_reaper_plugin.evidence import unclaimed

    memory = unclaimed.Memory(views.RUN_DIR, directory.name, boot.boot_id(), call.view)
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
    memory: "Memory",
) -> list[Judged]:
    """Judge on all facts, in order, as far as the budget goes. Raises SkippedError when something cannot be seen.

    untaken: addresses of the network that are not among the reservations; their owners can only account for netns.
    """
    from cni_reaper_plugin.evidence import closer

    def neighbours() -> list[Reservation]:
        """Return everybody else's reservations."""
        return directory.snapshot(untaken) + _neighbours(directory.name, settings)

    look = closer.Look(directory.name, reservations, settings, call, memory, neighbours)
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
        if budget.spent():
            break
    if call.valid is None or untaken or len(judged) < len(reservations):
        return judged
    look.surroundings.list_complete = not any(verdict == LIVE and call.misses(one) for one, _, verdict, _ in judged)
    return [(reservation, evidence, *judge(reservation, evidence)) for reservation, evidence, _, _ in judged]


def _remember(judged: list[Judged], addresses: list[str], following: str, memory: "Memory") -> None:
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
    from cni_reaper_plugin import report

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
