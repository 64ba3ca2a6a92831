"""The first look of a sweep: on cheap facts, find one reservation that is worth the closer look. A healthy node has none.

It frees nothing. What it leaves behind for the next one lies in /run/cni-reaper: who was found LIVE and who is waited for.
"""

import posix

from cni_reaper_plugin import store
from cni_reaper_plugin.clock import Budget
from cni_reaper_plugin.events import Log
from cni_reaper_plugin.evidence import boot, gather, records, standing, views
from cni_reaper_plugin.facts import (
    LIVE,
    NETNS_THERE,
    STALE,
    UNKNOWN,
    Call,
    Evidence,
    Reservation,
    Settings,
    SkippedError,
    Surroundings,
)
from cni_reaper_plugin.judge import judge

SLICE = 64  # reservations between two looks at the budget, and the least that a call gets done
MOST_NOTED = 1024  # more attachments than any node has; beyond that what is noted costs more than it spares

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_reaper_plugin.evidence.unclaimed import Memory

    Judged = tuple[Reservation, Evidence, str, str]


def candidate(
    directory: store.Network, call: Call, settings: Settings, budget: Budget, log: Log
) -> "tuple[str | None, list[Reservation] | None]":
    """Return an address that looks stale, None when there is none, and the snapshot, None if it is not of the whole network.

    Raises OSError, and SkippedError when evidence cannot be read or the budget is used up.
    """
    network, boot_id = directory.name, boot.boot_id()
    memory = _remembered(directory.key, call)
    surroundings = Surroundings(boot_id, settings.grace_s)
    surroundings.node = boot.node()
    surroundings.netns = memory.standing() if memory is not None else None
    noted = _Noted(directory, call)
    addresses = from_cursor(memory.cursor if memory is not None else "", directory.addresses(noted.live))
    reservations: list[Reservation] = []
    is_known = bool(noted.live)
    for start in range(0, len(addresses), SLICE):
        part = directory.snapshot(addresses[start : start + SLICE])
        reservations += part
        gathered = gather.cheap(network, part, settings, call, surroundings, memory)
        if surroundings.trouble:
            raise SkippedError(surroundings.trouble)
        odd: list[Judged] = []
        for reservation, evidence in zip(part, gathered, strict=True):
            is_known = is_known or evidence.record != b""
            verdict, reason = _judged(directory, reservation, evidence, settings, log)
            if verdict == STALE:
                if memory is None or not _is_kept(reservation, evidence, reason, call, settings, memory, log):
                    return reservation.address, None
                continue
            if (verdict, reason) == (LIVE, NETNS_THERE):
                noted.add(reservation, evidence)
            if verdict != LIVE or evidence.unclaimed is not None or call.valid is not None:
                odd.append((reservation, evidence, verdict, reason))
        if odd:
            memory = memory or _memory(directory.key, call)
            _report(odd, call, memory, log)
        if budget.spent(share=0.5) and start + SLICE < len(addresses):
            raise _cut(memory or _memory(directory.key, call), addresses[start + SLICE], log)
    if memory is not None:
        memory.begin_at("")
        memory.save(log)
    noted.save(boot_id, log)
    if not is_known and call.verb == "ADD":
        _note_others_without_reservation(directory, settings, log)
    return None, reservations


def _cut(memory: "Memory", address: str, log: Log) -> SkippedError:
    """Note where the next sweep begins, and return what is to be raised."""
    memory.begin_at(address)
    memory.save(log)
    return SkippedError("half of budgetMs went into a first look; the next call goes on from there")


def _judged(
    directory: store.Network, reservation: Reservation, evidence: Evidence, settings: Settings, log: Log
) -> tuple[str, str]:
    """Judge a reservation; what looks stale once more when it is known whether other nodes use the store. Raises OSError."""
    answer = judge(reservation, evidence)
    surroundings = evidence.surroundings
    if answer[0] != STALE or surroundings.shared is not None:
        return answer
    from cni_reaper_plugin import shared_store

    surroundings.shared = shared_store.kind(directory, settings, surroundings.boot_id, log)
    return judge(reservation, evidence)


def _is_kept(
    reservation: Reservation,
    evidence: Evidence,
    reason: str,
    call: Call,
    settings: Settings,
    memory: "Memory",
    log: Log,
) -> bool:
    """Tell whether a full scan has found a moment ago that this very reservation stays, by something that stands still.

    Not asked of this call's own attachment: what the call says of it is news. reason: why it is stale at first sight, which is
    what is told of it under dryRun.
    """
    own = call.attachment
    if own is not None and own.owns(reservation.network, reservation.container_id, reservation.ifname):
        return False
    if not memory.keeps(reservation, evidence.record, settings.dry_run):
        return False
    if not memory.tell_proof(reservation, log):
        from cni_reaper_plugin import report

        report.reaped(reservation, evidence, reason, log, dry_run=True)
    return True


def _note_others_without_reservation(directory: store.Network, settings: Settings, log: Log) -> None:
    """Note that nobody here has a record, while attachments besides this call's own are recorded. Raises OSError."""
    try:
        with records.Directory(settings.state_dir, directory.name) as recorded:
            are_others = len(recorded.names()) > 1
    except FileNotFoundError:
        return
    if are_others:
        from cni_reaper_plugin import elsewhere

        elsewhere.note(directory.name, directory.key, settings, log)


class _Noted:
    """Who was LIVE when an earlier ADD looked, and is by a single look at its netns. Only for ADD, which asks no more than that.

    live: see evidence.standing; without what this call's own attachment had reserved before, which row 1 judges.
    """

    __slots__ = ("_directory", "_known", "_network", "_used", "live")

    def __init__(self, directory: store.Network, call: Call) -> None:
        """Read it."""
        self._directory = directory
        self._network = directory.name
        self._used = call.verb == "ADD" and not call.standing
        self.live: standing.Standing = {}
        if self._used:
            self.live = standing.still(views.RUN_DIR, directory.key, boot.boot_id(), directory.identity)
        self._known = len(self.live)

    def add(self, reservation: Reservation, evidence: Evidence) -> None:
        """Note a reservation whose owner's netns stands at its path just now."""
        entry = standing.entry(reservation, evidence.mapping) if self._used else None
        if entry is not None:
            self.live[reservation.address] = entry

    def save(self, boot_id: str, log: Log) -> None:
        """Write it anew if enough has come to it; what has gone costs nothing."""
        if len(self.live) < self._known + standing.MORE or self._directory.listed > MOST_NOTED:
            return
        try:
            standing.note(views.RUN_DIR, self._directory.key, boot_id, self.live)
        except (OSError, TypeError) as e:
            log.debug("not-noted", network=self._network, reason=str(e))


def _report(odd: "list[Judged]", call: Call, memory: "Memory", log: Log) -> None:
    """Report who is kept for want of an owner, or alive against GC's list."""
    from cni_reaper_plugin import report

    for reservation, evidence, verdict, reason in odd:
        if verdict == UNKNOWN:
            report.kept(reservation, evidence, reason, log)
            if evidence.unclaimed is None and not evidence.trouble:
                memory.remember([reservation], None)  # so that it is said once
        elif evidence.unclaimed is not None:
            memory.forget(reservation)
        if verdict == LIVE and call.misses(reservation):
            report.unlisted(reservation, evidence, reason, log)


def from_cursor(cursor: str, addresses: list[str]) -> list[str]:
    """Begin where the last sweep was cut off, so that a budget that is too small for all starves nobody."""
    if len(addresses) <= SLICE:
        return addresses
    addresses.sort()
    turn = sum(address < cursor for address in addresses)
    return addresses[turn:] + addresses[:turn]


def _remembered(key: str, call: Call) -> "Memory | None":
    """Return what earlier sweeps of this network have left, None where they left nothing, as on a healthy node."""
    return _memory(key, call) if posix.access("%s/%s.json" % (views.RUN_DIR, key), posix.F_OK) else None


def _memory(key: str, call: Call) -> "Memory":
    from cni_reaper_plugin.evidence import unclaimed

    return unclaimed.Memory(views.RUN_DIR, key, boot.boot_id(), call.view)
