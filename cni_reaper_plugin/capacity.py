"""How many addresses a network has for pods. A plugin is given its own entry of the conflist; libcni's cache has all of it.

Imported by a DEL that keeps metricsFile, once an hour: at that time the attachment's cache entry is still there.
"""

from cni_reaper_plugin.attachment import Attachment
from cni_reaper_plugin.evidence import libcni_cache
from cni_reaper_plugin.pool import PoolError, of_set


def of_network(cache_dirs: list[str], attachment: Attachment) -> int | None:
    """Return the addresses of the network's ranges, None where its conflist is not known or does not name them.

    A pod takes one address of each set of ranges (dual stack has two), so the smallest set counts, once for each. Raises OSError.
    """
    conflist = libcni_cache.conflist(cache_dirs, attachment.network, attachment.container_id, attachment.ifname)
    plugins = conflist.get("plugins")
    for plugin in plugins if isinstance(plugins, list) else ():
        ipam = plugin.get("ipam") if isinstance(plugin, dict) else None
        if isinstance(ipam, dict) and ipam.get("type") == "host-local":
            return _smallest(ipam)
    return None


def _smallest(ipam: dict[str, object]) -> int | None:
    sets = ipam.get("ranges")
    every = [*([[ipam]] if "subnet" in ipam else []), *(sets if isinstance(sets, list) else [])]
    try:
        sizes = [of_set(one).size for one in every if isinstance(one, list)]
    except PoolError:
        return None  # usePodCidr
    return min(sizes) * len(sizes) if sizes else None
