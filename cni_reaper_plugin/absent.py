"""A network that has no reservations yet, or never will: another IPAM gives its addresses. Told at `info` once per boot.

`/run/cni-reaper/<network>.absent` is JSON [boot ID, dataDir]: what was told. Imported only where there is no such directory.
"""

import orjson

from cni_reaper_plugin import once
from cni_reaper_plugin.events import Log
from cni_reaper_plugin.evidence import boot, views


def tell(network: str, data_dir: str, log: Log) -> None:
    """Log that there is nothing to sweep: at `info`, and at `debug` where that was told in this boot. Raises OSError."""
    now = orjson.dumps([boot.boot_id(), data_dir])
    level = log.debug if once.was_told(views.RUN_DIR, network + ".absent", now) else log.info
    level("sweep-skipped", network=network, reason="no reservations here yet: no %s/%s" % (data_dir, network))
