"""How many addresses a network has for pods. A plugin is given its own entry of the conflist; libcni's cache has all of it.

Imported by a DEL that keeps metricsFile, once an hour: at that time the attachment's cache entry is still there.
"""

from cni_reaper_plugin.attachment import Attachment
from cni_reaper_plugin.evidence import libcni_cache
from cni_reaper_plugin.host_local import go_json
from cni_reaper_plugin.host_local.pool import PoolError, of_ipam

MOST = 1 << 53  # what a float still counts; no node has as many pods


def of_network(cache_dirs: list[str], attachment: Attachment) -> int | None:
    """Return the addresses of the network's ranges, None where its conflist is not known or does not name them.

    A pod takes one address of each set of ranges (dual stack has two), so the smallest set counts, once for each. Raises OSError.
    """
    conflist = libcni_cache.conflist(cache_dirs, attachment.network, attachment.container_id, attachment.ifname)
    plugins = conflist.get("plugins")
    for plugin in plugins if isinstance(plugins, list) else ():
        ipam = go_json.plugin(plugin).get("ipam") if isinstance(plugin, dict) else None
        if isinstance(ipam, dict) and ipam.get("type") == "host-local":
            try:
                sizes = of_ipam(ipam).sizes
            except PoolError:
                return None  # usePodCidr
            return min(MOST, min(sizes) * len(sizes))
    return None
