"""Addresses in the netns that our links lead to, also where nothing but the far end of a veth tells that there is one.

A netns that only a socket keeps alive is in no mountinfo and in no process's /proc; its veth still ends here.
"""

from cni_reaper_plugin.rtnetlink import Rtnetlink


def addresses() -> frozenset[bytes]:
    """Return the packed addresses configured in every netns that has an nsid in ours. Raises OSError.

    One that cannot be listed counts for nothing: the far end of a node's own uplink may be another host's.
    """
    with Rtnetlink() as netlink:
        return frozenset(netlink.addresses_by_nsid())
