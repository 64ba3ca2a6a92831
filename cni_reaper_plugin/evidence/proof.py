"""Where stands what proves that an owner lives? Asked after a full scan, so that the next call need not scan for it again."""

import posix

from cni_reaper_plugin.model import Evidence, Mapping, Netns, Reservation
from cni_reaper_plugin.reasons import (
    ADDRESS_IN_USE,
    NAMED,
    NOT_LOOKED_INTO,
    SIBLING_ADDRESS_IN_USE,
    SIBLING_HAS_NETNS,
    VISIBLE_ELSEWHERE,
    Reason,
)
from cni_reaper_plugin.scan_model import Place, VisibleNetns

FAR_END = "the far end of a link"  # no netns that was seen on the node has it, a socket may be all that holds it
_BY_FULL_SCAN = (ADDRESS_IN_USE, NAMED, NOT_LOOKED_INTO, SIBLING_ADDRESS_IN_USE, SIBLING_HAS_NETNS, VISIBLE_ELSEWHERE)


def of(evidence: Evidence, reservation: Reservation, reason: Reason) -> Place | None:
    """Return the place that proves what a LIVE verdict of a full scan says, None where there is none to be found again."""
    if reason == NAMED:
        return _at(evidence.named)
    if reason == SIBLING_HAS_NETNS:
        return next((_of_mapping(one) for one in evidence.siblings if one.now is not None), None)
    return next((_of_netns(seen) for seen in _provers(evidence, reservation, reason) if seen.place), None)


def in_words(evidence: Evidence, reservation: Reservation, reason: Reason) -> str | None:
    """Return for people where stands what proves a LIVE verdict; None for a reason that no full scan is needed for."""
    if reason not in _BY_FULL_SCAN:
        return None
    if reason == NAMED:
        return evidence.named
    place = of(evidence, reservation, reason)
    if place is not None:
        return place[0]
    return FAR_END if reason == ADDRESS_IN_USE and evidence.packed in evidence.surroundings.peer_addresses else ""


def _provers(evidence: Evidence, reservation: Reservation, reason: Reason) -> list[VisibleNetns]:
    """Return the netns that show what a reason says."""
    surroundings = evidence.surroundings
    recorded = evidence.mapping.recorded if evidence.mapping is not None else None
    own = surroundings.with_inode_of(recorded) if recorded is not None else None
    if reason == VISIBLE_ELSEWHERE:
        return [own] if own is not None else []
    if reason == ADDRESS_IN_USE:
        return [seen for seen in surroundings.visible() if not seen.foreign and evidence.packed in (seen.addresses or ())]
    if reason == SIBLING_ADDRESS_IN_USE:
        return [seen for seen in surroundings.visible() if not evidence.sibling_addresses.isdisjoint(seen.addresses or ())]
    if reason == NOT_LOOKED_INTO:
        return [seen for seen in surroundings.unaccounted(reservation.container_id) if seen.addresses is None] + (
            [own] if own is not None and own.addresses is None else []
        )
    return []


def _of_netns(seen: VisibleNetns) -> Place:
    return _place(seen.place, seen.netns)


def _of_mapping(mapping: Mapping) -> Place | None:
    return _place(mapping.path, mapping.now) if mapping.now is not None else None


def _place(path: str, netns: Netns) -> Place:
    return path, netns.dev, netns.ino, 0 if path.endswith("/ns/net") else netns.ctime


def _at(path: str) -> Place | None:
    """Return the place of a file or directory that is there now."""
    if not path:
        return None
    try:
        about = posix.stat(path)
    except OSError:
        return None
    return path, about.st_dev, about.st_ino, 0
