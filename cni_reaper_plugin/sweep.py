"""One sweep, top to bottom: snapshot, gather, judge, remove, report. Read it beside docs/evidence.md.

The order is a safety property. Reservations are read first, netns are looked for after that, and nothing is removed that is
not, under host-local's lock, still exactly what was judged.
"""

import fcntl
import posix

from cni_reaper_plugin import expiry, files, flock, store
from cni_reaper_plugin.clock import Budget, ticks
from cni_reaper_plugin.events import Log
from cni_reaper_plugin.evidence import gather, records, views
from cni_reaper_plugin.facts import (
    ADDED_AGAIN,
    LEFT_BY_DEL,
    LIVE,
    REBOOTED,
    STALE,
    UNKNOWN,
    Call,
    Evidence,
    Reservation,
    Settings,
)
from cni_reaper_plugin.judge import EMPTY, NETNS_GONE, NO_NETNS_LEFT, judge

WALL_LIMIT_S = 5.0  # for all networks of a call and every wait in it
SLICE = 512  # reservations between two looks at the budget
BATCH = 256  # reservations removed before host-local has its lock back: all of a /24 at once
SUSPICIOUS = 3  # so many recorded attachments, all stale at once, are rather a wrong view

CAUSES = {
    REBOOTED: "the node rebooted and no DEL came for this container",
    NETNS_GONE: "DEL never came, or failed, and the runtime removed the netns all the same",
    NO_NETNS_LEFT: "DEL never came, or failed, before cni-reaper was in the chain",
    EMPTY: "host-local was killed, or the disk was full, between creating and writing the file",
    ADDED_AGAIN: "the runtime starts the same container again and never sent its DEL",
    LEFT_BY_DEL: "a plugin of the chain answered DEL with success and released nothing",
}

Judged = tuple[Reservation, Evidence, str, str]


class SkippedError(Exception):
    """This network is not reaped now; the text says why."""


def run(call: Call, settings: Settings, log: Log) -> None:
    """Sweep every network of the settings. Raises nothing: trouble is logged, and everything in doubt stays.

    call.may_reap says what this call's view allows, see facts.Call.
    """
    budget = Budget(WALL_LIMIT_S, settings.budget_ms)
    for network in _networks(call, settings, log):
        budget.next_sweep()
        try:
            _sweep(network, call, settings, budget, log)
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


def _sweep(network: str, call: Call, settings: Settings, budget: Budget, log: Log) -> None:
    """Sweep one network. Raises OSError, SkippedError and LockTimeoutError; then nothing, or not all, was reaped."""
    try:
        directory = store.Network(settings.data_dir, network)
    except FileNotFoundError:
        log.info("sweep-skipped", network=network, reason="no reservations here yet: no %s/%s" % (settings.data_dir, network))
        return
    with directory:
        reservations = directory.snapshot()
        candidate = _first_candidate(network, _turned(reservations, ticks()), call, settings, budget, log)
        if candidate is not None:
            if not call.may_reap:
                msg = (
                    "this process cannot be sure to see the pods' network namespaces (does it run in a daemon's mount namespace?)"
                )
                raise SkippedError(msg)
            gate = _one_at_a_time(network, budget)
            try:
                _reap(directory, candidate, call, settings, budget, log)
            finally:
                posix.close(gate)
    if call.may_reap == "all" and not settings.dry_run:
        expiry.drop_records(network, reservations, settings)


def _first_candidate(
    network: str, reservations: list[Reservation], call: Call, settings: Settings, budget: Budget, log: Log
) -> str | None:
    """Judge on cheap facts only: return an address that is worth the closer look, None when there is none."""
    for start in range(0, len(reservations), SLICE):
        part = reservations[start : start + SLICE]
        troubled, unlisted = [], []
        for reservation, evidence in zip(part, gather.cheap(network, part, settings, call), strict=True):
            if evidence.surroundings.trouble:
                raise SkippedError(evidence.surroundings.trouble)
            verdict, reason = judge(reservation, evidence)
            if verdict == STALE:
                return reservation.address
            if evidence.trouble:
                troubled.append((reservation, evidence, reason))
            if verdict == LIVE and call.misses(reservation):
                unlisted.append((reservation, evidence, reason))
        for reservation, evidence, reason in troubled:
            _report("kept", reservation, evidence, reason, log)
        for reservation, evidence, reason in unlisted:
            _report("live-unlisted", reservation, evidence, reason, log)
        if budget.spent(share=0.5):
            msg = "half of budgetMs went into a first look; the rest waits for the next call"
            raise SkippedError(msg)
    return None


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


def _reap(directory: store.Network, candidate: str, call: Call, settings: Settings, budget: Budget, log: Log) -> None:
    """From a new snapshot: gather everything, judge, remove, report."""
    judged = _judged_closely(directory, candidate, call, settings, budget)
    stale = [one for one in judged if one[2] == STALE and call.may_reap in ("all", one[3])]
    stale.sort(key=lambda one: one[1].packed)
    _refuse_a_wrong_view(judged, call)
    for start in range(0, len(stale), BATCH):
        batch = stale[start : start + BATCH]
        if settings.dry_run:
            for reservation, evidence, _, reason in batch:
                _report("would-reap", reservation, evidence, reason, log)
        else:
            _remove(directory, batch, settings, budget, log)
    for reservation, evidence, verdict, reason in judged:
        if verdict == UNKNOWN:
            _report("kept", reservation, evidence, reason, log)
        elif verdict == LIVE and call.misses(reservation):
            _report("live-unlisted", reservation, evidence, reason, log)
    if budget.spent():
        log.info("sweep-cut", network=directory.name, reason="budgetMs is used up; the rest waits for the next call")


def _judged_closely(directory: store.Network, candidate: str, call: Call, settings: Settings, budget: Budget) -> list[Judged]:
    """Judge on all facts, the candidate first, as far as the budget goes. Raises SkippedError when something cannot be seen."""
    from cni_reaper_plugin.evidence import closer

    reservations = directory.snapshot()
    found = (place for place, reservation in enumerate(reservations) if reservation.address == candidate)
    reservations = _turned(reservations, next(found, 0))
    look = closer.Look(directory.name, reservations, settings, call, lambda: _neighbours(directory.name, settings))
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
    return judged


def _turned(reservations: list[Reservation], turn: int) -> list[Reservation]:
    """Begin at another place, so that a budget that is too small for all starves nobody."""
    turn = turn % len(reservations) if len(reservations) > SLICE else 0
    return reservations[turn:] + reservations[:turn]


def _remove(directory: store.Network, batch: list[Judged], settings: Settings, budget: Budget, log: Log) -> None:
    """Remove a batch under host-local's lock and report each. Raises LockTimeoutError, OSError."""
    about = {id(reservation): (evidence, reason) for reservation, evidence, _, reason in batch}
    removed, refused = directory.remove(
        [one[0] for one in batch],
        lambda reservation: _still_judged(reservation, about[id(reservation)][0], settings),
        budget.wall_left_s(),
    )
    for reservation in removed:
        _report("reaped", reservation, *about[id(reservation)], log)
    for reservation, error in refused:
        log.warning(
            "not-reaped",
            network=directory.name,
            address=reservation.address,
            container=reservation.container_id,
            reason=str(error),
        )


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
                found += directory.snapshot()
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


def _report(event: str, reservation: Reservation, evidence: Evidence, reason: str, log: Log) -> None:
    """Write one reservation's event: what was reaped, would be, or was kept because nobody knows its owner."""
    mapping = evidence.mapping
    pod = mapping.pod if mapping is not None else {}
    import time

    fields = {
        "network": reservation.network,
        "address": reservation.address,
        "container": reservation.container_id,
        "ifname": reservation.ifname,
        "pod": "%s/%s" % (pod["namespace"], pod["name"]) if pod.get("namespace") and pod.get("name") else "",
        "age_s": max(0, int(time.time() - reservation.mtime_s)) if reservation.ino else None,
        "reason": reason,
    }
    if event == "kept":
        (log.warning if evidence.trouble else log.debug)(event, **fields)
    else:
        log.info(event, **fields, cause=CAUSES.get(reason))
