"""Is host-local's store elsewhere? Asked where attachments are recorded and the store has no reservation of any of them.

The plugin that calls host-local may do so in another mount namespace (antrea), or from another dataDir than is known here. Then
nothing is ever freed, and nothing else says so.
"""

from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.model import NETNS
from cni_reaper_plugin.namespaces import netns
from cni_reaper_plugin.notices import said_once
from cni_reaper_plugin.options import Settings
from cni_reaper_plugin.system import boot

YOUNG_S = 120  # an ADD that has recorded its attachment has not reserved yet
TIMES = 3  # somebody may have emptied the store by hand
_REASON = (
    "%d attachments that live are recorded, and %s/%s has no reservation of any: host-local's store is elsewhere, or this "
    "network has another IPAM; nothing is freed"
)


def recorded(state_dir: str, network: str) -> int:
    """Return how many attachments of a network are recorded, live, and must have a reservation by now. Raises OSError."""
    boot_id, now_s, count = boot.boot_id(), boot.boottime_s(), 0
    try:
        directory = records.Directory(state_dir, network)
    except FileNotFoundError:
        return 0
    with directory:
        for owner in directory.names():
            record = directory.read(*owner)
            if record is None or record.mapping.deleted or record.mapping.boot_id != boot_id:
                continue
            mapping = netns.locate(record.mapping, boot_id)
            count += mapping.state == NETNS and mapping.stands(boot_id) and now_s - record.boottime_s > YOUNG_S
    return count


def note(network: str, key: str, settings: Settings, log: Log) -> None:
    """Note that a sweep has found no reservation of a recorded attachment; the third time in a boot it is said. Raises OSError.

    key: of the store's network, see store_key.
    """
    boot_id = boot.boot_id()
    name = key + ".elsewhere"
    times = said_once.number(name, boot_id) or 0
    if times >= TIMES:
        return
    count = recorded(settings.state_dir, network)
    if not count:
        return
    said_once.note(name, [boot_id, times + 1])
    if times + 1 == TIMES:
        log.warning("store-elsewhere", network=network, reason=_REASON % (count, settings.data_dir, network))
