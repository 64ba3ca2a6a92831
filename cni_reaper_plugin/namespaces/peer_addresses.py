"""Addresses in the netns that our links lead to, also where nothing but the far end of a veth tells that there is one.

A netns that only a socket keeps alive is in no mountinfo and in no process's /proc; its veth still ends here.
"""

from __future__ import annotations

import errno
import posix
from typing import TYPE_CHECKING

from cni_reaper_plugin.system import files
from cni_reaper_plugin.system.rtnetlink import Rtnetlink, UnsteadyError

if TYPE_CHECKING:
    from collections.abc import Collection

    from cni_reaper_plugin.scan_model import VisibleNetns

_ASKED_AGAIN_AFTER_S = (0.01, 0.04, 0.1)  # in all twice as long as the kernel was ever seen to take under load


def addresses(visible: Collection[VisibleNetns]) -> frozenset[bytes]:
    """Return the packed addresses configured in every netns that has an nsid in ours, but in another user's. Raises OSError.

    visible: the netns that were seen on the node. A netns that cannot be listed counts for nothing: the far end of a node's own
    uplink may be another host's. Where a list changes each time it is read, the addresses that it showed count, and the netns has
    to be a visible one: that counts as a netns that cannot be looked into.
    """
    found: set[bytes] = set()
    unsteady: set[bytes] = set()
    with Rtnetlink() as netlink:
        nsids = netlink.nsids()
        passed_over = _nsids(netlink, [seen for seen in visible if seen.foreign]) if nsids else set()
        for nsid in nsids - passed_over:
            try:
                found |= netlink.addresses_of(nsid)
            except UnsteadyError as e:
                found |= e.found
                unsteady.add(nsid)
        if unsteady and not unsteady <= _nsids(netlink, visible):
            raise OSError(errno.EAGAIN, "addresses at the far end of a link change faster than they can be listed")
    return frozenset(found)


def _nsids(netlink: Rtnetlink, visible: Collection[VisibleNetns]) -> set[bytes]:
    """Return the nsids that visible netns have in ours, without those that are no longer at their place."""
    found = set()
    for seen in visible:
        try:
            fd = files.open_on_device(seen.place, seen.netns.dev)
        except OSError:
            continue
        try:
            if posix.fstat(fd).st_ino == seen.netns.ino:
                found.add(netlink.nsid_of(fd))
        except OSError:
            continue
        finally:
            posix.close(fd)
    return found


def lasting(found: frozenset[bytes], doubtful: frozenset[bytes], visible: Collection[VisibleNetns]) -> frozenset[bytes]:
    """Return the addresses without those that soon show no more. Raises OSError.

    found: what `addresses` has returned for `visible`; doubtful: those of them that are asked for again, until 150 ms have
    passed. A netlink socket that was closed in a netns lets go of it only after an RCU grace period: so long the far end of a
    veth still shows the addresses of a netns that has ended.
    """
    import time

    for pause_s in _ASKED_AGAIN_AFTER_S:
        if not doubtful:
            break
        time.sleep(pause_s)
        gone = doubtful - addresses(visible)
        found, doubtful = found - gone, doubtful - gone
    return found
