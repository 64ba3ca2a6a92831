"""Addresses in the netns that our links lead to, also where nothing but the far end of a veth tells that there is one.

A netns that only a socket keeps alive is in no mountinfo and in no process's /proc; its veth still ends here.
"""

from cni_reaper_plugin.rtnetlink import Rtnetlink

_ASKED_AGAIN_AFTER_S = (0.01, 0.04, 0.1)  # in all twice as long as the kernel was ever seen to take under load


def addresses() -> frozenset[bytes]:
    """Return the packed addresses configured in every netns that has an nsid in ours. Raises OSError.

    One that cannot be listed counts for nothing: the far end of a node's own uplink may be another host's.
    """
    with Rtnetlink() as netlink:
        return frozenset(netlink.addresses_by_nsid())


def lasting(found: frozenset[bytes], doubtful: frozenset[bytes]) -> frozenset[bytes]:
    """Return the addresses without those that soon show no more. Raises OSError.

    found: what `addresses` has returned; doubtful: those of them that are asked for again, until 150 ms have passed. A netlink
    socket that was closed in a netns lets go of it only after an RCU grace period: so long the far end of a veth still shows the
    addresses of a netns that has ended.
    """
    import time

    for pause_s in _ASKED_AGAIN_AFTER_S:
        if not doubtful:
            break
        time.sleep(pause_s)
        gone = doubtful - addresses()
        found, doubtful = found - gone, doubtful - gone
    return found
