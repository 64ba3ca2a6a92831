"""Why was this address freed? The table of docs/evidence.md, row by row in its order, as a pure function.

`judge` is given facts and returns a verdict with its reason; it reads no file and no clock. The first row that has an answer
decides. A STALE answer must then pass the guards. Wherever a fact is missing, the answer is UNKNOWN: the address is kept.

A sweep judges twice: first on cheap facts (`surroundings.deep` is False), where STALE only means "worth a full scan", then
on all of them.
"""

from cni_reaper_plugin.model import BLANK, LIVE, OWNED, STALE, UNKNOWN, UNREADABLE, Call, Evidence, Mapping, Reservation
from cni_reaper_plugin.reasons import (
    ADDED_AGAIN,
    ADDRESS_IN_USE,
    CONTAINER_OF_THIS_CALL,
    EMPTY,
    FORCED,
    LEFT_BY_DEL,
    LISTED,
    NAMED,
    NETNS_GONE,
    NETNS_THERE,
    NO_ADDRESS,
    NO_NETNS_LEFT,
    NO_OWNER,
    NO_RUNTIME_ID,
    NOT_LISTED,
    NOT_LOOKED_INTO,
    REBOOTED,
    SIBLING_ADDRESS_IN_USE,
    SIBLING_HAS_NETNS,
    THIS_CALL,
    UNACCOUNTED,
    UNCLAIMED,
    UNEXPECTED,
    UNREADABLE_EVIDENCE,
    UNREADABLE_NETNS,
    UNREADABLE_SIBLING,
    VISIBLE_ELSEWHERE,
    Reason,
)

LISTED_AFTER_S = 120  # a runtime may make its list before an ADD that it has begun, and send it after

Answer = tuple[str, Reason]


def judge(reservation: Reservation, evidence: Evidence) -> Answer:
    """Return (verdict, reason) for one reservation: LIVE, STALE or UNKNOWN, and why."""
    for number, row in ROWS:
        answer = row(reservation, evidence)
        if answer is not None:
            return _guarded(answer, number, reservation, evidence) if answer[0] == STALE else answer
    return UNKNOWN, UNEXPECTED


def is_defenceless(reservation: Reservation, evidence: Evidence) -> bool:
    """Tell whether all about an UNKNOWN owner could be read and no guard says that it lives: a person may have it freed."""
    mappings = [*evidence.siblings, *([evidence.mapping] if evidence.mapping is not None else [])]
    if evidence.trouble or any(one.state == UNREADABLE for one in mappings):
        return False
    return _guarded((STALE, FORCED), NAMED_ROWS[-1], reservation, evidence)[0] == STALE


def _own_call(reservation: Reservation, evidence: Evidence) -> Answer | None:
    """Row 1: the owner is this call's attachment. LIVE, but for what docs/evidence.md says of ADD and DEL at the head."""
    call = evidence.call
    own = call.attachment
    if own is None or not own.owns(reservation.network, reservation.container_id, reservation.ifname):
        return None
    if call.at_head and call.verb == "ADD" and _is_added_again(reservation, call, evidence.surroundings.boot_id):
        return STALE, ADDED_AGAIN
    if call.at_head and call.verb == "DEL" and _is_left_behind(call, evidence.mapping):
        return STALE, LEFT_BY_DEL
    return LIVE, THIS_CALL


def _is_added_again(reservation: Reservation, call: Call, boot_id: str) -> bool:
    """Tell whether the reservation is of an earlier ADD of this attachment, made for another netns than this call's."""
    older = call.older
    if older is None or older.recorded is None or call.netns is None:
        return False
    if (reservation.address, reservation.ino, reservation.ctime) not in call.standing:
        return False  # an ADD that runs beside this one has made it
    same_boot = older.boot_id == boot_id
    numbered = call.netns.ns_id and older.recorded.ns_id
    if same_boot and not numbered and call.netns.same_inode(older.recorded) and call.netns_path.startswith("/proc/"):
        return False  # nothing pins its inode, so its ctime says nothing
    return not call.netns.is_proven(older.recorded, same_boot)


def _is_left_behind(call: Call, mapping: Mapping | None) -> bool:
    """Tell whether this DEL is for the netns that our record names, so that what still stands is nobody else's.

    A record that no DEL has marked is of an ADD that came in between.
    """
    if mapping is None or mapping.source != "record" or not mapping.deleted:
        return False
    if not call.netns_path or call.netns_path == mapping.path:
        return True
    return call.netns is not None and mapping.recorded is not None and call.netns.is_proven(mapping.recorded)


def _source_unreadable(_: Reservation, evidence: Evidence) -> Answer | None:
    """Before rows 2-10: only ENOENT, ENOTDIR and ESRCH mean gone; after any other errno nothing is stale."""
    if evidence.trouble:
        return UNKNOWN, UNREADABLE_EVIDENCE.detailed(evidence.trouble)
    if evidence.mapping is not None and evidence.mapping.state == UNREADABLE:
        return UNKNOWN, UNREADABLE_NETNS
    return None


def _other_boot(_: Reservation, evidence: Evidence) -> Answer | None:
    """Row 2: the record is of another boot, and what it recorded stands neither at its path nor anywhere else now."""
    mapping = evidence.mapping
    if mapping is None or mapping.recorded is None or mapping.boot_id == evidence.surroundings.boot_id:
        return None
    if mapping.now is not None and mapping.now.is_proven(mapping.recorded, same_boot=False):
        return None
    recorded = mapping.recorded
    if any(seen.netns.is_proven(recorded, same_boot=False) for seen in evidence.surroundings.visible()):
        return LIVE, VISIBLE_ELSEWHERE
    return (STALE, REBOOTED) if mapping.can_prove_death else None


def _netns_there(_: Reservation, evidence: Evidence) -> Answer | None:
    """Row 3: the mapped path is an nsfs file now, with the identity that was recorded, or with none recorded."""
    mapping = evidence.mapping
    if mapping is None or mapping.now is None:
        return None
    if mapping.recorded is not None:
        return (LIVE, NETNS_THERE) if mapping.stands(evidence.surroundings.boot_id) else None
    return (LIVE, NETNS_THERE) if _names_a_netns(mapping, evidence) else None


def _names_a_netns(mapping: Mapping, evidence: Evidence) -> bool:
    """Tell whether a path without a recorded identity counts: not the host's netns; a process's only with the address."""
    if mapping.now is None or mapping.of_host:
        return False
    if not mapping.of_process:
        return True
    if not evidence.surroundings.deep:
        return False
    seen = evidence.surroundings.with_inode_of(mapping.now)
    return seen is not None and (seen.addresses is None or evidence.packed in seen.addresses)


def _netns_gone(_: Reservation, evidence: Evidence) -> Answer | None:
    """Row 4: the mapped path is gone or another netns, and the recorded inode is not visible anywhere.

    Nor is it where NS_GET_ID says that its number is another netns's by now.
    """
    mapping = evidence.mapping
    if mapping is None or mapping.recorded is None or not mapping.can_prove_death:
        return None
    seen = evidence.surroundings.with_inode_of(mapping.recorded)
    return (STALE, NETNS_GONE) if seen is None or seen.netns.is_another(mapping.recorded) else None


def _inode_elsewhere(reservation: Reservation, evidence: Evidence) -> Answer | None:
    """Row 5: as row 4, but the inode number is visible; LIVE unless the number was plainly given to another netns.

    A ctime that differs does not say so: nothing pins the inode of a netns that only a process holds. It does that the netns
    is known to be somebody else's. Where nothing says so it may be the owner's own, and rows 8 to 11 decide.
    """
    mapping = evidence.mapping
    if mapping is None or mapping.recorded is None:
        return None
    seen = evidence.surroundings.with_inode_of(mapping.recorded)
    if seen is None:
        return None
    if seen.netns.is_proven(mapping.recorded, mapping.boot_id == evidence.surroundings.boot_id):
        return LIVE, VISIBLE_ELSEWHERE
    if not evidence.surroundings.deep:
        return (STALE, NETNS_GONE) if evidence.unclaimed is None else None
    if seen.addresses is None:
        return LIVE, NOT_LOOKED_INTO
    if evidence.packed in seen.addresses:
        return LIVE, ADDRESS_IN_USE
    if not mapping.can_prove_death:
        return None
    return (STALE, NETNS_GONE) if seen.is_accounted(reservation.container_id) else None


def _listed(reservation: Reservation, evidence: Evidence) -> Answer | None:
    """Row 6: GC's list is present and names the owner."""
    return (LIVE, LISTED) if evidence.call.lists(reservation) else None


def _blank(reservation: Reservation, _: Evidence) -> Answer | None:
    """Row 7: an empty file. The store asks again while it holds host-local's lock, under which host-local writes."""
    return (STALE, EMPTY) if reservation.kind == BLANK else None


def _sibling(reservation: Reservation, evidence: Evidence) -> Answer | None:
    """Between 7 and 8: a sibling, or the netns of this call where the ID is this call's, proves life and never death.

    That the number of a sibling's netns is visible proves nothing, but rows 8 and 9 count that netns while it is nobody's.
    """
    if reservation.kind != OWNED:
        return None
    own = evidence.call.attachment
    if own is not None and own.container_id == reservation.container_id and evidence.call.netns is not None:
        return LIVE, CONTAINER_OF_THIS_CALL
    for sibling in evidence.siblings:
        if sibling.state == UNREADABLE:
            return UNKNOWN, UNREADABLE_SIBLING
        if sibling.recorded is None:
            alive = _names_a_netns(sibling, evidence)
        else:
            seen = evidence.surroundings.with_inode_of(sibling.recorded)
            same_boot = sibling.boot_id == evidence.surroundings.boot_id
            alive = sibling.stands(evidence.surroundings.boot_id)
            alive = alive or (seen is not None and seen.netns.is_proven(sibling.recorded, same_boot))
        if alive:
            return LIVE, SIBLING_HAS_NETNS
    for seen in evidence.surroundings.visible():
        if not seen.foreign and seen.addresses is not None and not evidence.sibling_addresses.isdisjoint(seen.addresses):
            return LIVE, SIBLING_ADDRESS_IN_USE
    return None


def _unmapped(reservation: Reservation, evidence: Evidence) -> Answer | None:
    """Row 8: no netns is known for the owner, and every visible one is known to be somebody else's."""
    if not _has_owner(reservation, evidence) or evidence.surroundings.unaccounted(reservation.container_id):
        return None
    return STALE, NO_NETNS_LEFT


def _unclaimed(reservation: Reservation, evidence: Evidence) -> Answer | None:
    """Row 9: some visible netns is nobody's, but none that was so when this reservation was first seen; or it was long ago.

    One that is not remembered yet is worth a full scan, which remembers it.
    """
    if not _has_owner(reservation, evidence):
        return None
    surroundings, remembered = evidence.surroundings, evidence.unclaimed
    if remembered is None or remembered.netns is None:
        return None if surroundings.deep else (STALE, UNCLAIMED)
    if remembered.age_s >= surroundings.grace_s:
        return STALE, UNCLAIMED
    for candidate in remembered.netns:
        seen = surroundings.with_inode_of(candidate)
        if seen is not None and not seen.netns.is_another(candidate) and not seen.is_accounted(reservation.container_id):
            return None
    return STALE, UNCLAIMED


def _not_listed(reservation: Reservation, evidence: Evidence) -> Answer | None:
    """Row 10: GC's list, which lacks no live owner of the network, does not name an owner that was first seen some time ago."""
    if not evidence.call.misses(reservation) or not _has_owner(reservation, evidence):
        return None
    remembered, surroundings = evidence.unclaimed, evidence.surroundings
    if remembered is None or remembered.netns is None or remembered.age_s < LISTED_AFTER_S:
        return None
    return (STALE, NOT_LISTED) if surroundings.list_complete or not surroundings.deep else None


def _kept(reservation: Reservation, evidence: Evidence) -> Answer:
    """Row 11: whatever is not understood is kept and reported."""
    if reservation.kind != OWNED:
        return UNKNOWN, NO_OWNER
    if not _has_owner(reservation, evidence):
        return UNKNOWN, NO_RUNTIME_ID
    return UNKNOWN, UNACCOUNTED.detailed(
        "%d netns unaccounted for" % len(evidence.surroundings.unaccounted(reservation.container_id))
    )


ROWS = (
    (1, _own_call),
    (0, _source_unreadable),
    (2, _other_boot),
    (3, _netns_there),
    (4, _netns_gone),
    (5, _inode_elsewhere),
    (6, _listed),
    (7, _blank),
    (0, _sibling),
    (8, _unmapped),
    (9, _unclaimed),
    (10, _not_listed),
    (11, _kept),
)
NAMED_ROWS = (5, 8, 9, 10)  # the rows that the kernel alone cannot prove
RECORDED_ROWS = (1, 2, 4, 5)  # the rows that a record proves


def _guarded(answer: Answer, row: int, reservation: Reservation, evidence: Evidence) -> Answer:
    """Pass a STALE answer through the last guard and the named guard, once everything was looked at."""
    surroundings = evidence.surroundings
    if surroundings.trouble:
        return UNKNOWN, UNREADABLE_EVIDENCE.detailed(surroundings.trouble)
    from cni_reaper_plugin import other_nodes

    others = other_nodes.may_own(evidence, answer[1], row in RECORDED_ROWS)
    if others is not None:
        return UNKNOWN, others
    if not surroundings.deep:
        return answer
    if not evidence.packed:
        return UNKNOWN, NO_ADDRESS
    if evidence.packed in surroundings.peer_addresses:
        return LIVE, ADDRESS_IN_USE
    for seen in surroundings.visible():
        if seen.foreign:
            continue  # its user can configure any address, and no pod is in it
        if seen.addresses is not None:
            if evidence.packed in seen.addresses:
                return LIVE, ADDRESS_IN_USE
        elif row in NAMED_ROWS and not seen.is_accounted(reservation.container_id):
            return LIVE, NOT_LOOKED_INTO
    if row in NAMED_ROWS and evidence.named:
        return LIVE, NAMED
    return answer


def _has_owner(reservation: Reservation, evidence: Evidence) -> bool:
    """Tell whether an attachment made this reservation, and not an operator by hand (`echo reserved > 10.0.0.9`).

    An attachment made it if its netns is known, if its ID looks like a runtime's, or if the content is what host-local writes:
    an ID and an ifname, without a newline at the end. An editor and `echo` end a file with one.
    """
    if reservation.kind != OWNED:
        return False
    if evidence.mapping is not None or reservation.has_runtime_id:
        return True
    return bool(reservation.ifname) and not reservation.content[-1:].isspace()
