"""When a record is over: a record outlives its DEL, since a DEL may have answered success too early, and goes some time later.

Records of an ADD whose IPAM never wrote a reservation go the same way; otherwise nobody would ever look at them again. Those that
a power cut has broken go at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.model import GONE, NETNS
from cni_reaper_plugin.namespaces import netns
from cni_reaper_plugin.system import boot
from cni_reaper_plugin.system.clock import ticks

if TYPE_CHECKING:
    from cni_reaper_plugin.model import Reservation
    from cni_reaper_plugin.options import Settings

MOST = 64  # records looked at in one call; each call begins at another one


def drop_records(network: str, reservations: list[Reservation], settings: Settings) -> None:
    """Drop records of attachments that have no reservation and no netns any more and are old enough. Raises OSError.

    reservations: what the sweep's snapshot held, read before this looks at the records.
    """
    try:
        directory = records.Directory(settings.state_dir, network)
    except FileNotFoundError:
        return
    with directory:
        standing = {(reservation.container_id, reservation.ifname) for reservation in reservations}
        idle = [owner for owner in directory.names() if owner not in standing]
        if not idle and not directory.has_temporary():
            return
        turn = ticks() % len(idle) if len(idle) > MOST else 0
        boot_id, now_s, ours = boot.boot_id(), boot.boottime_s(), boot.node()

        def is_done(record: records.Record, container_id: str, ifname: str) -> bool:
            """Tell whether nothing is left of the attachment; asked again under the records' lock."""
            if record.mapping.node != ours and _is_for_another_node(record, boot_id, ours, settings.state_dir):
                return False
            return (container_id, ifname) not in standing and _is_over(record, boot_id, now_s, settings.grace_s)

        done = [owner for owner in (idle[turn:] + idle[:turn])[:MOST] if directory.is_over(*owner, is_done)]
        if done or directory.has_temporary():
            directory.drop(done, is_done)


def _is_over(record: records.Record, boot_id: str, now_s: float, grace_s: int) -> bool:
    """Tell whether a record's netns is gone and the record older than the grace period."""
    mapping = netns.locate(record.mapping, boot_id)
    if mapping.state not in (GONE, NETNS):
        return False
    if mapping.now is not None and (mapping.recorded is None or mapping.stands(boot_id)):
        return False
    return mapping.boot_id != boot_id or now_s - record.boottime_s > grace_s


def _is_for_another_node(record: records.Record, boot_id: str, ours: tuple[str, str], state_dir: str) -> bool:
    """Tell whether a record is another node's, which lives: one of this kernel, or one with the same stateDir. Raises OSError."""
    from cni_reaper_plugin import other_nodes
    from cni_reaper_plugin.system import network_file_system

    if not other_nodes.is_another(record.mapping.node, ours):
        return False
    return record.mapping.boot_id == boot_id or network_file_system.name(state_dir) != ""
