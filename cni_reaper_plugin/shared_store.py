"""Is a store shared with other nodes? Asked when something is about to be called stale, and said once per boot."""

from cni_reaper_plugin import network_file_system, once, store
from cni_reaper_plugin.events import Log
from cni_reaper_plugin.facts import Settings

_REASON = (
    "the store is on a network file system (%s), which other nodes may use: nothing is freed but what a record of this node "
    "proves dead; give each node a dataDir on a disk of its own"
)


def kind(directory: store.Network, settings: Settings, boot_id: str, log: Log) -> str:
    """Return the network file system that a network's directory is on, "" where it is on a local one. Raises OSError."""
    found = network_file_system.name("%s/%s" % (settings.data_dir, directory.name))
    if found and once.first_time(directory.key + ".shared", boot_id):
        log.warning("store-shared", network=directory.name, reason=_REASON % found)
    return found
