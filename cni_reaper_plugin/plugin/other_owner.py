"""CHECK has found an address reserved for another attachment: does that one still live? Imported only then.

A network that has changed its IPAM and kept its name leaves host-local's files behind. The pod to which the new IPAM has given
such an address is healthy, and an owner without a netns is no reason to call it broken.
"""

from cni_reaper_plugin.attachment import Attachment
from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.host_local import store
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.model import ALL, STALE, Call, Netns, Reservation, SkippedError, StrandedError
from cni_reaper_plugin.namespaces.addresses import pack
from cni_reaper_plugin.network_sweep import NetworkSweep
from cni_reaper_plugin.options import Settings
from cni_reaper_plugin.reaper import quick_scan
from cni_reaper_plugin.reaper.full_scan import AUDIT, Judging
from cni_reaper_plugin.system import boot
from cni_reaper_plugin.system.clock import Budget

WALL_LIMIT_S = 5.0


def is_stale(
    network: store.Network,
    reservation: Reservation,
    attachment: Attachment,
    netns: Netns | None,
    settings: Settings,
    log: Log,
) -> bool:
    """Tell whether the owner of a reservation has no netns, by all evidence; writes nothing, and raises nothing.

    attachment, netns: of this CHECK. That its netns has the address says nothing about the other owner. False where that cannot
    be told, as from a view that is not proven; and for a reservation that is younger than this attachment's record: host-local
    has given the address to another while this one had it.
    """
    call = Call(AUDIT)
    try:
        call.view = proven_views.own_view()
        if netns is None or proven_views.allowance(boot.boot_id(), call.view) is not ALL:
            return False
        if _is_younger(reservation, attachment, settings):
            return False
        others = [address for address in network.addresses() if address != reservation.address]
        look = NetworkSweep(network, call, settings, Budget(WALL_LIMIT_S, settings.budget_ms), log)
        judging = Judging(look, [reservation], others, quick_scan.memory(look))
        surroundings, packed = judging.surroundings, pack(reservation.address)
        own = surroundings.with_inode_of(netns)
        if own is None or own.addresses is None or packed not in own.addresses:
            return False
        own.addresses -= {packed}
        own.names.add(attachment.container_id)
        surroundings.peer_addresses -= {packed}
        return all(one.verdict == STALE for one in judging.all())
    except (OSError, SkippedError, StrandedError):
        return False


def _is_younger(reservation: Reservation, attachment: Attachment, settings: Settings) -> bool:
    """Tell whether a reservation was made after the ADD of an attachment; not where that has no record. Raises OSError."""
    try:
        with records.Directory(settings.state_dir, attachment.network) as directory:
            record = directory.read(attachment.container_id, attachment.ifname)
            if record is None:
                return False
            return reservation.ctime > directory.added_ns(attachment.container_id, attachment.ifname, record)
    except FileNotFoundError:
        return False
