"""One sweep, top to bottom: snapshot, gather, judge, remove, report. Read it beside docs/evidence.md.

The order is a safety property. Reservations are read first, netns are looked for after that, and nothing is removed that is
not, under host-local's lock, still exactly what was judged.
"""

import fcntl
import posix

from cni_reaper_plugin import expiry, files, flock, store
from cni_reaper_plugin.clock import Budget
from cni_reaper_plugin.events import Log
from cni_reaper_plugin.evidence import boot, gather, records, views
from cni_reaper_plugin.facts import LIVE, STALE, UNKNOWN, Call, Evidence, Reservation, Settings, Surroundings
from cni_reaper_plugin.judge import judge

WALL_LIMIT_S = 5.0  # for all networks of a call and every wait in it
SLICE = 512  # reservations between two looks at the budget
BATCH = 256  # reservations removed before host-local has its lock back: all of a /24 at once
SUSPICIOUS = 3  # so many recorded attachments, all stale at once, are rather a wrong view

Judged = tuple[Reservation, Evidence, str, str]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_reaper_plugin.evidence.unclaimed import Memory

    Allow = Callable[[], None]


class SkippedError(Exception):
    """This network is not reaped now; the text says why."""


def run(call: Call, settings: Settings, log: Log, allow: "Allow") -> None:
    """Sweep every network of the settings. Raises nothing: trouble is logged, and everything in doubt stays.

    allow: fills in call.may_reap, what this call's view allows, see facts.Call; asked before anything is called stale.
    """
    budget = Budget(WALL_LIMIT_S, settings.budget_ms)
    for network in _networks(call, settings, log):
        budget.next_sweep()
        try:
            _sweep(network, call, settings, budget, log, allow)
        except store.LockTimeoutError:
            log.warning("sweep-skipped", network=network, reason="host-local's lock was held by others all the time")
        except (SkippedError, OSError) as e:
            log.warning("sweep-skipped", network=network, reason=str(e))
        except Exception as e:  # noqa: BLE001  the reaper is never the cause of a failed pod
            log.error("sweep-skipped", network=network, reason="a defect of cni-reaper, please report it: %r" % e)


def _networks(call: Call, settings: Settings, log: Log) -> list[str]:
    """Return the networks to sweep, this call's own first."""
    if "*" not in settings.networks:
        return settings.networks
    try:
        found = store.networks(settings.data_dir)
    except OSError as e:
        log.warning("sweep-skipped", network="*", reason=str(e))
        return []
    own = call.attachment.network if call.attachment is not None else ""
    return sorted(found, key=lambda name: name != own)


def _sweep(network: str, call: Call, settings: Settings, budget: Budget, log: Log, allow: "Allow") -> None:
    """Sweep one network. Raises OSError, SkippedError and LockTimeoutError; then nothing, or not all, was reaped."""
    try:
        directory = store.Network(settings.data_dir, network)
    except FileNotFoundError:
        log.info("sweep-skipped", network=network, reason="no reservations here yet: no %s/%s" % (settings.data_dir, network))
        return
    with directory:
        candidate, standing = _first_candidate(directory, call, settings, budget, log)
        if candidate is None and call.verb == "ADD":
            return  # what else there is to do can wait for a call that nobody waits for
        allow()
        if candidate is not None:
            if not call.may_reap:
                msg = (
                    "this process cannot be sure to see the pods' network namespaces (does it run in a daemon's mount namespace?)"
                )
                raise SkippedError(msg)
            gate = _one_at_a_time(network, budget)
            try:
                standing = _reap(directory, candidate, call, settings, budget, log)
            finally:
                posix.close(gate)
    if standing is not None and call.may_reap == "all" and not settings.dry_run:
        expiry.drop_records(network, standing, settings)


def _first_candidate(
    directory: store.Network, call: Call, settings: Settings, budget: Budget, log: Log
) -> "tuple[str | None, list[Reservation] | None]":
    """Judge on cheap facts only: return an address that is worth the closer look, None when there is none.

    Also returns the snapshot, None if it is not of the whole network.
    """
    memory = _remembered(directory.name, call)
    surroundings = Surroundings(boot.boot_id(), settings.grace_s)
    surroundings.netns = memory.standing() if memory is not None else None
    addresses = _from(memory.cursor if memory is not None else "", directory.addresses())
    reservations: list[Reservation] = []
    for start in range(0, len(addresses), SLICE):
        part = directory.snapshot(addresses[start : start + SLICE])
        reservations += part
        gathered = gather.cheap(directory.name, part, settings, call, surroundings, memory)
        if surroundings.trouble:
            raise SkippedError(surroundings.trouble)
        candidate, odd = _worth_a_closer_look(part, gathered, call)
        if candidate is not None:
            return candidate, None
        if odd:
            memory = memory or _memory(directory.name, call)
            _say(odd, call, memory, log)
        if budget.spent(share=0.5) and start + SLICE < len(addresses):
            memory = memory or _memory(directory.name, call)
            memory.begin_at(addresses[start + SLICE])
            _save(memory, log)
            msg = "half of budgetMs went into a first look; the next call goes on from there"
            raise SkippedError(msg)
    if memory is not None:
        memory.begin_at("")
        _save(memory, log)
    return None, reservations


def _worth_a_closer_look(part: list[Reservation], gathered: list[Evidence], call: Call) -> tuple[str | None, list[Judged]]:
    """Judge a part: return the first address that looks stale, and whatever else is not plainly LIVE."""
    odd: list[Judged] = []
    for reservation, evidence in zip(part, gathered, strict=True):
        verdict, reason = judge(reservation, evidence)
        if verdict == STALE:
            return reservation.address, odd
        if verdict != LIVE or evidence.unclaimed is not None or call.valid is not None:
            odd.append((reservation, evidence, verdict, reason))
    return None, odd


def _say(odd: list[Judged], call: Call, memory: "Memory", log: Log) -> None:
    """Report what the first look found: who is kept for want of an owner, or alive against GC's list."""
    from cni_reaper_plugin import report

    for reservation, evidence, verdict, reason in odd:
        if verdict == UNKNOWN:
            report.kept(reservation, evidence, reason, log)
            if evidence.unclaimed is None and not evidence.trouble:
                memory.remember([reservation], [])  # so that it is said once: nothing but a closer look can call it stale
        elif evidence.unclaimed is not None:
            memory.forget(reservation)
        if verdict == LIVE and call.misses(reservation):
            report.unlisted(reservation, evidence, reason, log)


def _from(cursor: str, addresses: list[str]) -> list[str]:
    """Begin where the last sweep was cut off, so that a budget that is too small for all starves nobody."""
    if len(addresses) <= SLICE:
        return addresses
    addresses.sort()
    turn = sum(address < cursor for address in addresses)
    return addresses[turn:] + addresses[:turn]


def _remembered(network: str, call: Call) -> "Memory | None":
    """Return what earlier sweeps of this network have left, None where they left nothing, as on a healthy node."""
    return _memory(network, call) if posix.access("%s/%s.json" % (views.RUN_DIR, network), posix.F_OK) else None


def _memory(network: str, call: Call) -> "Memory":
    from cni_reaper_plugin.evidence import unclaimed

    return unclaimed.Memory(views.RUN_DIR, network, boot.boot_id(), call.view)


def _save(memory: "Memory", log: Log) -> None:
    try:
        memory.save()
    except OSError as e:
        log.warning("not-remembered", reason="owners without a netns are waited for in vain: %s" % e)


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
) -> list[Reservation]:
    """From a new snapshot, which is returned: gather everything, judge, remove, report, and remember who is waited for."""
    from cni_reaper_plugin import report

    memory = _memory(directory.name, call)
    reservations = directory.snapshot(_beginning_with(candidate, directory.addresses()))
    judged = _judged_closely(directory.name, reservations, call, settings, budget, memory)
    stale = [one for one in judged if one[2] == STALE and call.may_reap in ("all", one[3])]
    stale.sort(key=lambda one: one[1].packed)
    _refuse_a_wrong_view(judged, call)
    if call.may_reap == "all":
        _remember(judged, reservations, memory)
        _save(memory, log)
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
    if len(judged) < len(reservations):
        log.info("sweep-cut", network=directory.name, reason="budgetMs is used up; the next call goes on from there")
    return reservations


def _beginning_with(candidate: str, addresses: list[str]) -> list[str]:
    ordered = _from(candidate, addresses)
    return ordered if len(ordered) > SLICE else sorted(ordered, key=lambda address: address != candidate)


def _judged_closely(
    network: str, reservations: list[Reservation], call: Call, settings: Settings, budget: Budget, memory: "Memory"
) -> list[Judged]:
    """Judge on all facts, in order, as far as the budget goes. Raises SkippedError when something cannot be seen."""
    from cni_reaper_plugin.evidence import closer

    look = closer.Look(network, reservations, settings, call, memory, lambda: _neighbours(network, settings))
    judged: list[Judged] = []
    for start in range(0, len(reservations), SLICE):
        part = reservations[start : start + SLICE]
        gathered = look.gather(part)
        if look.surroundings.trouble:
            raise SkippedError(look.surroundings.trouble)
        judged += [
            (reservation, evidence, *judge(reservation, evidence)) for reservation, evidence in zip(part, gathered, strict=True)
        ]
        if budget.spent():
            break
    if call.valid is None or len(judged) < len(reservations):
        return judged
    look.surroundings.list_complete = not any(verdict == LIVE and call.misses(one) for one, _, verdict, _ in judged)
    return [(reservation, evidence, *judge(reservation, evidence)) for reservation, evidence, _, _ in judged]


def _remember(judged: list[Judged], reservations: list[Reservation], memory: "Memory") -> None:
    """Note who is kept although no netns is known to be its own, and where the next sweep begins.

    Whoever is LIVE for another reason than its netns begins to be waited for only now.
    """
    waiting: dict[str, list[Reservation]] = {}
    for reservation, evidence, verdict, _ in judged:
        if verdict == STALE or evidence.trouble or (verdict == UNKNOWN and evidence.unclaimed is not None):
            continue
        if verdict == UNKNOWN or evidence.suspect:
            waiting.setdefault(reservation.container_id, []).append(reservation)
        else:
            memory.forget(reservation)
    surroundings = judged[0][1].surroundings if judged else None
    if surroundings is not None:
        for owner, theirs in waiting.items():
            memory.remember(theirs, surroundings.unaccounted(owner))
    memory.looked({reservation.address for reservation in reservations})
    memory.begin_at(reservations[len(judged)].address if len(judged) < len(reservations) else "")


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
