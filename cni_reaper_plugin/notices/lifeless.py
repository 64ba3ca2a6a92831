"""Addresses that network namespaces without life hold: the runtime has leaked the netns together with the address.

Such a netns still exists, so its owner is LIVE and nothing here frees it. But no process runs in it and no runtime names its
container, so a person can. They are counted where a full scan was taken anyway, and after an ADD that failed
(reaper.lifeless_count).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin.evidence import runtime_names
from cni_reaper_plugin.model import LIVE, Call, Evidence, Judged, Reservation
from cni_reaper_plugin.network_sweep import NetworkSweep
from cni_reaper_plugin.notices import said_once
from cni_reaper_plugin.system import boot

ADVICE = (
    "if these pods are gone, restart the container runtime, or remove the netns (`ip netns delete NAME`, or umount and rm): "
    "the next ADD frees its address"
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_reaper_plugin.scan_model import VisibleNetns

    Found = list[tuple[Reservation, VisibleNetns]]


def among(judged: Iterable[Judged], call: Call) -> Found:
    """Return the LIVE owners whose netns has no process and whom no runtime names, with that netns. Raises OSError.

    judged: after a full scan; call: whose own container is left out, since its netns is new.
    """
    own = call.attachment.container_id if call.attachment is not None else ""
    found = []
    for one in judged:
        if one.verdict == LIVE and one.reservation.container_id != own:
            seen = _netns_of(one.evidence)
            if seen is not None and not seen.inhabited:
                found.append((one.reservation, seen))
    if not found:
        return []
    names = runtime_names.Names()
    found.sort(key=lambda one: (len(one[0].address), one[0].address))
    return [one for one in found if not names.where(one[0].container_id)]


def _netns_of(evidence: Evidence) -> VisibleNetns | None:
    """Return the netns of a LIVE owner: the one that is recorded or mapped and visible, else the one that has its address."""
    surroundings, mapping = evidence.surroundings, evidence.mapping
    for identity in (mapping.now, mapping.recorded) if mapping is not None else ():
        seen = surroundings.with_inode_of(identity) if identity is not None else None
        if seen is not None and identity is not None and not seen.host and seen.netns.is_proven(identity):
            return seen
    holders = [seen for seen in surroundings.visible() if not seen.host and evidence.packed in (seen.addresses or ())]
    return next((seen for seen in holders if seen.inhabited), holders[0] if holders else None)


def tell(sweep: NetworkSweep, judged: list[Judged]) -> None:
    """Log how many there are and the first of them: at `info` once per boot, else at `debug`. Raises OSError.

    judged: after a full scan. How many goes into the sweep's result.
    """
    network, log = sweep.network, sweep.log
    found = among(judged, sweep.call)
    sweep.result.lifeless = len(found)
    if not found:
        log.debug("lifeless", network=network.name, count=0)
        return
    reservation, seen = found[0]
    is_new = said_once.first_time(network.key + ".lifeless", boot.boot_id())
    (log.info if is_new else log.debug)(
        "lifeless",
        network=network.name,
        count=len(found),
        address=reservation.address,
        container=reservation.container_id,
        netns=seen.place,
        reason="no process runs in their network namespaces, and no runtime names their containers: " + ADVICE,
    )
