"""A network that has no reservations yet, or never will: another IPAM gives its addresses. Told at `info` once per boot.

Imported only where there is no such directory.
"""

from cni_reaper_plugin import once, store_key
from cni_reaper_plugin.events import Log
from cni_reaper_plugin.evidence import boot


def tell(network: str, data_dir: str, log: Log) -> None:
    """Log that there is nothing to sweep: at `info`, and at `debug` where that was told in this boot. Raises OSError."""
    is_new = once.first_time(store_key.key(data_dir, network) + ".absent", boot.boot_id())
    (log.info if is_new else log.debug)(
        "sweep-skipped", network=network, reason="no reservations here yet: no %s/%s" % (data_dir, network)
    )
