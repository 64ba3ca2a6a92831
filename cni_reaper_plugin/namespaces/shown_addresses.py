"""Whose is a netns, by an address that the kernel shows in it? Asked only where a netns is accounted to nobody.

An address alone does not say so: another IPAM may give the same to somebody else, who hides the one that is reserved for him.
So a second thing has to lead the same container there. What such a netns does not show, it does not hide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin.model import OWNED, Reservation
from cni_reaper_plugin.scan_model import VisibleNetns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Placed = dict[int, set[str]]  # inode number of a netns -> container IDs that something places in it


def account(
    network: str,
    visible: Iterable[VisibleNetns],
    reserved: Iterable[tuple[bytes, Reservation]],
    placed: Placed,
    is_named_in: Callable[[str, VisibleNetns], bool],
) -> None:
    """Note whose the netns of nobody are that show an address which is reserved for one container and shown nowhere else.

    network: of those who are judged. It has to show an address of its own somewhere: the addresses of a plugin that needs no
    interface of the kernel (DPDK, vhost-user) are never seen, so that one is not seen says nothing. reserved: (packed address,
    reservation) of all networks. is_named_in: tells whether a process in a netns has a container's name in its cgroup.

    The container has to be placed in the netns by a path, of a cache entry or its own, or by such a name; and nobody else by
    anything, since a netns of two containers can be a third one's, too.
    """
    visible = [seen for seen in visible if not seen.foreign]  # what users show says nothing
    holders: dict[bytes, set[str]] = {}
    of_network = set()
    for packed, reservation in reserved:
        if packed and reservation.kind == OWNED:
            holders.setdefault(packed, set()).add(reservation.container_id)
            if reservation.network == network:
                of_network.add(packed)
    times: dict[bytes, int] = {}
    for seen in visible:
        for packed in seen.addresses or ():
            times[packed] = times.get(packed, 0) + 1
    plain = {packed for packed in holders if times.get(packed) == 1}
    if not any(not seen.host and not (of_network & plain).isdisjoint(seen.addresses or ()) for seen in visible):
        return
    for seen in visible:
        owners = {owner for packed in plain.intersection(seen.addresses or ()) for owner in holders[packed]}
        if seen.is_accounted("") or len(owners) != 1:
            continue
        (owner,) = owners
        there = placed.get(seen.netns.ino, set())
        if there <= owners and (there or is_named_in(owner, seen)):
            seen.names.add(owner)
