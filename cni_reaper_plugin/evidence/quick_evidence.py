"""Gather what is known about the owners of a network's reservations at little cost; `full_evidence` goes on from here.

The reservations were read before anything here is: a netns exists before its reservation, so the netns of a live owner is
among those seen here. The other order frees live addresses (whereabouts#207).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.model import GONE, OWNED, Call, Evidence, Mapping, Reservation, Surroundings
from cni_reaper_plugin.namespaces import netns

LIFE_S = 120  # between our ADD at the head and host-local's lie milliseconds; a runtime gives up an ADD after two minutes

if TYPE_CHECKING:
    from cni_reaper_plugin.memory.waiting_owners import Memory
    from cni_reaper_plugin.network_sweep import NetworkSweep
    from cni_reaper_plugin.options import Settings
    from cni_reaper_plugin.scan_model import VisibleNetns


def cheap(
    sweep: NetworkSweep, reservations: list[Reservation], surroundings: Surroundings, memory: Memory | None
) -> list[Evidence]:
    """Map every owner by its record, those without one by libcni's cache and by path. Same order as the reservations.

    surroundings: of the sweep, for the evidence to refer to; its `trouble` says when nothing may be called stale. memory: what
    earlier sweeps have seen of owners that nobody maps, None where they have left nothing.
    """
    settings = sweep.settings
    gathered = [Evidence(sweep.call, surroundings) for _ in reservations]
    try:
        try:
            directory = records.Directory(settings.state_dir, sweep.network.name)
        except FileNotFoundError:
            _map_all(reservations, gathered, settings, None, surroundings.boot_id)
        else:
            with directory:
                if not directory.is_writable():
                    surroundings.trouble = "records cannot be replaced (is stateDir read-only?), so one may be of a past life"
                _map_all(reservations, gathered, settings, directory, surroundings.boot_id)
    except OSError as e:
        surroundings.trouble = "evidence cannot be read: %s" % e
    if memory is not None:
        for reservation, evidence in zip(reservations, gathered, strict=True):
            evidence.unclaimed = memory.of(reservation)
    if surroundings.netns and not surroundings.deep:
        _account(reservations, gathered, surroundings)
    return gathered


def _account(reservations: list[Reservation], gathered: list[Evidence], surroundings: Surroundings) -> None:
    """Note whose the remembered netns are by now, as far as these records say so."""
    if gathered and surroundings.netns is not None:
        account_call(gathered[0].call, surroundings.netns)
    for reservation, evidence in zip(reservations, gathered, strict=True):
        mapping = evidence.mapping
        if mapping is not None and mapping.recorded is not None and mapping.now is not None and not mapping.deleted:
            seen = surroundings.with_inode_of(mapping.now)
            if seen is not None and mapping.now.is_proven(mapping.recorded, mapping.boot_id == surroundings.boot_id):
                seen.names.add(reservation.container_id)


def account_call(call: Call, visible: dict[int, VisibleNetns]) -> None:
    """Note that an ADD's CNI_NETNS is its container's, if it is the one that was seen and no other has its number by now.

    On DEL the path can be another container's by now, however random its name looks.
    """
    if call.verb != "ADD" or call.netns is None or call.attachment is None or call.netns.ino not in visible:
        return
    seen = visible[call.netns.ino]
    if seen.netns.is_proven(call.netns) or (call.netns_path.startswith("/proc/") and _leads_to(call.netns_path, seen)):
        seen.names.add(call.attachment.container_id)


def _leads_to(path: str, seen: VisibleNetns) -> bool:
    """Tell whether a process's path, whose inode nothing pins, leads to a netns now."""
    try:
        return not seen.netns.ns_id and netns.identify_ino(path) == seen.netns.ino
    except OSError:
        return False


def _map_all(
    reservations: list[Reservation],
    gathered: list[Evidence],
    settings: Settings,
    directory: records.Directory | None,
    boot_id: str,
) -> None:
    for reservation, evidence in zip(reservations, gathered, strict=True):
        if reservation.kind != OWNED:
            continue
        try:
            record = directory.read(reservation.container_id, reservation.ifname) if directory is not None else None
            if directory is not None and record is not None:
                evidence.record = record.raw
                evidence.mapping = mapping = netns.locate(record.mapping, boot_id)
                if mapping.head and (mapping.now is None or not mapping.stands(boot_id)):
                    mapping.outlived = _is_outlived(reservation, directory, record)
            else:
                evidence.mapping = _foreign(reservation, settings)
        except OSError as e:
            evidence.trouble = "evidence of its owner cannot be read: %s" % e


def _is_outlived(reservation: Reservation, directory: records.Directory, record: records.Record) -> bool:
    """Tell whether a reservation is of a later life of its container than the record: an ADD that did not reach us made it.

    It is where its file is more than LIFE_S younger than that of the record, by ctime, which nobody can set. A wall clock that
    was stepped in between can only keep an address, or leave all as it is. Raises OSError.
    """
    return reservation.ctime > directory.added_ns(reservation.container_id, reservation.ifname, record) + LIFE_S * 10**9


def _foreign(reservation: Reservation, settings: Settings) -> Mapping | None:
    """Return what others say of an owner without a record: a cache entry, else a path under /run/netns. Raises OSError."""
    from cni_reaper_plugin.evidence import libcni_cache

    container_id, ifname = reservation.container_id, reservation.ifname
    cached = libcni_cache.read(settings.cache_dirs, reservation.network, container_id, ifname) if ifname else None
    if cached is not None:
        return netns.locate(cached)
    for directory in netns.RUN_NETNS:
        mapping = netns.locate(Mapping("path", directory + container_id))
        if mapping.state != GONE:
            return mapping
    return None
