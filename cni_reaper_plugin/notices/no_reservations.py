"""A network that has no reservations yet, or never will: another IPAM gives its addresses. Told at `info` once per boot.

Imported only where there is no such directory.
"""

from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.host_local import store_key
from cni_reaper_plugin.notices import said_once
from cni_reaper_plugin.system import boot


def tell(network: str, data_dir: str, log: Log) -> None:
    """Log that there is nothing to sweep: at `info`, and at `debug` where that was told in this boot. Raises OSError."""
    is_new = said_once.first_time(store_key.key(data_dir, network) + ".absent", boot.boot_id())
    (log.info if is_new else log.debug)(
        "sweep-skipped", network=network, reason="no reservations here yet: no %s/%s" % (data_dir, network)
    )
