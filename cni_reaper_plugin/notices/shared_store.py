"""Is a store shared with other nodes? Asked when something is about to be called stale, and said once per boot."""

from cni_reaper_plugin.network_sweep import NetworkSweep
from cni_reaper_plugin.notices import said_once
from cni_reaper_plugin.system import network_file_system

_REASON = (
    "the store is on a network file system (%s), which other nodes may use: nothing is freed but what a record of this node "
    "proves dead; give each node a dataDir on a disk of its own"
)


def kind(sweep: NetworkSweep, boot_id: str) -> str:
    """Return the network file system that a network's directory is on, "" where it is on a local one. Raises OSError."""
    network = sweep.network
    found = network_file_system.name("%s/%s" % (sweep.settings.data_dir, network.name))
    if found and said_once.first_time(network.key + ".shared", boot_id):
        sweep.log.warning("store-shared", network=network.name, reason=_REASON % found)
    return found
