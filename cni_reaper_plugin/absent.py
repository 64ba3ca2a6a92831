"""A network that has no reservations yet, or never will: another IPAM gives its addresses. Told at `info` once per boot.

`/run/cni-reaper/<network>.absent` is JSON [boot ID, dataDir]: what was told. Imported only where there is no such directory.
"""

import posix

import orjson

from cni_reaper_plugin import files
from cni_reaper_plugin.events import Log
from cni_reaper_plugin.evidence import boot, views


def tell(network: str, data_dir: str, log: Log) -> None:
    """Log that there is nothing to sweep: at `info`, and at `debug` where that was told in this boot. Raises nothing."""
    level = log.debug if _was_told(network, data_dir) else log.info
    level("sweep-skipped", network=network, reason="no reservations here yet: no %s/%s" % (data_dir, network))


def _was_told(network: str, data_dir: str) -> bool:
    """Tell whether it was told before, and note that it is now; what cannot be noted is told again."""
    name = network + ".absent"
    try:
        now = orjson.dumps([boot.boot_id(), data_dir])
        files.make_directory(views.RUN_DIR, 0o700)
        fd = posix.open(views.RUN_DIR, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC | posix.O_NOFOLLOW)
    except (OSError, TypeError):
        return False
    try:
        try:
            if files.read(name, fd, 1 << 16, posix.O_NOFOLLOW) == now:
                return True
        except FileNotFoundError:
            pass
        files.replace(name, now, fd)
    except OSError:
        return False
    finally:
        posix.close(fd)
    return False
