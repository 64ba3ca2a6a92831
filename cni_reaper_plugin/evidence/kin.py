"""Whose is which network namespace, by all records and cache entries of the node; and who else has a container's ID.

Read for a full scan, and only where some owner has no netns of its own.
"""

from __future__ import annotations

import errno
import posix
from typing import TYPE_CHECKING

from cni_reaper_plugin import other_nodes
from cni_reaper_plugin.attachment import CNITOOL
from cni_reaper_plugin.evidence import libcni_cache, records
from cni_reaper_plugin.model import OWNED, Evidence, Mapping, Reservation, Surroundings
from cni_reaper_plugin.namespaces import addresses, netns, visible
from cni_reaper_plugin.scan_model import VisibleNetns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_reaper_plugin.options import Settings

    Attachments = dict[tuple[str, str], Mapping]  # (network, ifname) -> mapping


class Kin:
    """Every attachment of the node that a record or a cache entry maps, by container ID, also those without a reservation."""

    def __init__(self, everyone: list[Reservation], settings: Settings, boot_id: str, end: float) -> None:
        """Read all records, and the cache entries of all owners without one. Raises OSError; TimeoutError after `end`.

        everyone: the reservations of all networks. A file of somebody that cannot be read is left out: it can only account
        for a netns, and one that nobody accounts for keeps its unmapped owners. Of its own container nothing is known then.
        """
        self._settings = settings
        self._boot_id = boot_id
        self._end = end
        self._known: dict[str, Attachments] = {}
        self._reserved: dict[str, list[Reservation]] = {}
        self._unreadable: dict[str, OSError] = {}
        self._networks = {reservation.network for reservation in everyone}
        for reservation in everyone:
            if reservation.kind == OWNED:
                self._reserved.setdefault(reservation.container_id, []).append(reservation)
        self._read_records()
        for reservation in everyone:
            own = self._known.get(reservation.container_id, {})
            if reservation.ifname and (reservation.network, reservation.ifname) not in own:
                self._read_cache(reservation.network, reservation.container_id, reservation.ifname)

    def _read_records(self) -> None:
        for network in records.networks(self._settings.state_dir):
            self._networks.add(network)
            with records.Directory(self._settings.state_dir, network) as directory:
                for container_id, ifname in directory.names():
                    self._check_time()
                    try:
                        record = directory.read(container_id, ifname)
                    except OSError as e:
                        self._unreadable[container_id] = e
                        continue
                    if record is not None:
                        self._known.setdefault(container_id, {})[network, ifname] = netns.locate(record.mapping, self._boot_id)

    def _read_cache(self, network: str, container_id: str, ifname: str) -> None:
        self._check_time()
        try:
            cached = libcni_cache.read(self._settings.cache_dirs, network, container_id, ifname)
        except OSError:
            return
        if cached is not None:
            self._known.setdefault(container_id, {})[network, ifname] = netns.locate(cached)

    def _check_time(self) -> None:
        if posix.times().elapsed > self._end:
            raise TimeoutError(errno.ETIMEDOUT, "there are too many records to read")

    def knows(self, owner: str) -> bool:
        """Tell whether a record or a cache entry of a container ID is known, or could not be read."""
        return owner in self._known or owner in self._unreadable

    def account(self, surroundings: Surroundings) -> None:
        """Note for which IDs each visible netns is named: by a recorded identity, or by a cache entry and an address.

        What merely stands at the path of a cache entry now says nothing: the path may be another container's by now. Nor does
        an address alone, since another IPAM may give the same to somebody else. Both together do, where no record knows better
        and the path has a name that no runtime gives twice.
        """
        holders: dict[bytes, set[str]] = {}
        recorded_ids = set()
        for container_id, attachments in self._known.items():
            for mapping in attachments.values():
                recorded = mapping.recorded
                if recorded is None:
                    continue
                recorded_ids.add(container_id)
                if mapping.boot_id == surroundings.boot_id and other_nodes.is_another(mapping.node, surroundings.node):
                    surroundings.shared = surroundings.shared or "another node of this kernel writes records here"
                if mapping.deleted:
                    continue  # what stands there now may be another container's: a VM's slot is given to one after the other
                seen = surroundings.with_inode_of(recorded)
                same_boot = mapping.boot_id == surroundings.boot_id
                if seen is not None and seen.netns.is_proven(recorded, same_boot):
                    seen.names.add(container_id)
        for container_id in self._known.keys() - recorded_ids:
            for reservation in self._reserved.get(container_id, ()):
                holders.setdefault(addresses.pack(reservation.address), set()).add(container_id)
        for seen in surroundings.visible():
            for packed in seen.addresses or ():
                seen.names.update(owner for owner in holders.get(packed, ()) if self._stands_at(owner, seen))

    def _stands_at(self, owner: str, seen: VisibleNetns) -> bool:
        """Tell whether a cache entry of an owner leads to this netns, by a name that is never given twice."""
        return any(
            mapping.now is not None and mapping.now.same_inode(seen.netns) and is_random(mapping.path)
            for mapping in self._known[owner].values()
        )

    def reserved(self) -> Iterable[tuple[bytes, Reservation]]:
        """Return what is reserved for containers in all networks, with the packed addresses."""
        return [(addresses.pack(one.address), one) for ones in self._reserved.values() for one in ones]

    def placed(self, surroundings: Surroundings, sightings: visible.Sightings) -> dict[int, set[str]]:
        """Return, by inode number, which IDs something places in a netns: a cache entry's path, a path that tells the ID.

        And "a record", which is no ID, where one of a container has its number: `account` knows better what that says.
        """
        found: dict[int, set[str]] = {}
        for container_id, attachments in self._known.items():
            for mapping in attachments.values():
                for ino in _numbers(mapping, surroundings):
                    found.setdefault(ino, set()).add(container_id if mapping.recorded is None else "a record")
        by_cnitool = any(container_id.startswith(CNITOOL) for container_id in self._reserved)
        for seen in surroundings.unaccounted(""):
            sighting = sightings[seen.netns.ino]
            for path in (*sighting.mounts, *("/proc/%d/ns/net" % pid for pid in sighting.processes)):
                for container_id in (path.rpartition("/")[2], *(cnitool_ids(path) if by_cnitool else ())):
                    if container_id in self._reserved:
                        found.setdefault(seen.netns.ino, set()).add(container_id)
        return found

    def add_siblings(self, reservation: Reservation, evidence: Evidence) -> None:
        """Find the same container ID under another ifname or network. Raises OSError."""
        if reservation.container_id in self._unreadable:
            raise self._unreadable[reservation.container_id]
        own = (reservation.network, reservation.ifname)
        attachments = dict(self._known.get(reservation.container_id, {}))
        attachments.pop(own, None)
        for network in self._networks - {reservation.network}:
            if reservation.ifname and (network, reservation.ifname) not in attachments:
                cached = libcni_cache.read(self._settings.cache_dirs, network, reservation.container_id, reservation.ifname)
                if cached is not None:
                    attachments[network, reservation.ifname] = netns.locate(cached)
        evidence.siblings = list(attachments.values())
        for other in self._reserved.get(reservation.container_id, ()):
            # Of the same attachment only the other family: a second address of one family is of an earlier life.
            if (other.network, other.ifname) != own or (":" in other.address) != (":" in reservation.address):
                evidence.sibling_addresses.add(addresses.pack(other.address))
        evidence.sibling_addresses.discard(b"")
        if evidence.mapping is None:
            # Podman and nerdctl start the same ID again in another netns; the sandbox of a pod has one netns for life.
            evidence.mapping = next((one for one in evidence.siblings if one.recorded is not None and one.pod.get("uid")), None)


def _numbers(mapping: Mapping, surroundings: Surroundings) -> set[int]:
    """Return the inode numbers of the netns to which a record or a cache entry may lead now."""
    found = {mapping.now.ino} if mapping.now is not None else set()
    recorded = mapping.recorded
    if recorded is not None:
        seen = surroundings.with_inode_of(recorded)
        if seen is not None and not seen.netns.is_another(recorded):
            found.add(recorded.ino)
    elif mapping.now is None and mapping.of_process:  # of a process of another PID namespace, or so it seems
        try:
            found.add(netns.identify_ino(mapping.path))
        except OSError:
            return found
    return found


def is_random(path: str) -> bool:
    """Tell whether a path's name ends as a UUID is spelled.

    Sources: containerd pkg/netns (`cni-<16 random bytes>`), CRI-O (a UUID), Podman (`netns-<16 random bytes>`).
    """
    parts = path.rpartition("/")[2][-36:].split("-")
    return [len(part) for part in parts] == [8, 4, 4, 4, 12] and not "".join(parts).strip("0123456789abcdef")


def cnitool_ids(path: str) -> list[str]:
    """Return the IDs that cnitool gives to the netns at a path, in each spelling of it."""
    import hashlib

    spellings = (path, *(directory + path.rpartition("/")[2] for directory in netns.RUN_NETNS))
    return [CNITOOL + hashlib.sha512(one.encode("utf-8", "surrogateescape")).hexdigest()[:20] for one in spellings]
