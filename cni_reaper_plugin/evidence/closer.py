"""The closer look, taken only when something is about to be called stale: all visible netns, and the kin of unmapped owners."""

import errno
import posix

from cni_reaper_plugin import other_nodes
from cni_reaper_plugin.evidence import addresses, gather, libcni_cache, named, netns, peers, records, visible
from cni_reaper_plugin.facts import OWNED, Call, Evidence, Mapping, Reservation, Settings, Surroundings
from cni_reaper_plugin.scanned import VisibleNetns

CNITOOL = "cnitool-"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cni_reaper_plugin.evidence.unclaimed import Memory
    from cni_reaper_plugin.network_sweep import NetworkSweep

    Pairs = list[tuple[Reservation, Evidence]]
    Attachments = dict[tuple[str, str], Mapping]  # (network, ifname) -> mapping


class Look:
    """One look around the node, and the evidence of a network's owners on the strength of it.

    Made after the snapshot of the reservations: see docs/evidence.md. `surroundings` tells in `trouble` when
    something could not be seen.
    """

    def __init__(
        self,
        sweep: "NetworkSweep",
        reservations: list[Reservation],
        memory: "Memory",
        neighbours: "Callable[[], list[Reservation]]",
    ) -> None:
        """Look around, for as long as the sweep may; TimeoutError is raised when that is not enough.

        reservations: the whole snapshot; memory: what earlier sweeps have seen; neighbours: returns the reservations of the
        node's other networks, asked only when an owner has no netns of its own.
        """
        limit_s = sweep.budget.wall_left_s()
        self.surroundings = Surroundings(memory.boot_id, sweep.settings.grace_s)
        self._sweep = sweep
        self._memory = memory
        self._reservations = reservations
        self._neighbours = neighbours
        self._end = posix.times().elapsed + limit_s
        self._kin: _Kin | None = None
        self._names: named.Names | None = None
        self._sightings: visible.Sightings = {}
        try:
            self._sightings = visible.everywhere(limit_s)
            self.surroundings.netns = _visible(self._sightings, sweep.call, self._end)
            self.surroundings.peer_addresses = self._peer_addresses()
        except TimeoutError:
            raise
        except OSError as e:
            self._fail(e)
        self.surroundings.deep = True

    def _peer_addresses(self) -> frozenset[bytes]:
        """Return what the far ends of links show; of reservations that nothing else shows, only what lasts. Raises OSError."""
        visible = list(self.surroundings.visible())
        found = peers.addresses(visible)
        elsewhere = {packed for seen in visible for packed in seen.addresses or ()}
        reserved = {addresses.pack(reservation.address) for reservation in self._reservations}
        doubtful = (found & reserved) - elsewhere
        return peers.lasting(found, doubtful, visible) if doubtful else found

    def _fail(self, error: OSError) -> None:
        self.surroundings.trouble = "not everything can be seen: %s" % error

    def gather(self, part: list[Reservation]) -> list[Evidence]:
        """Return the evidence of some of the network's reservations, in their order."""
        gathered = gather.cheap(self._sweep, part, self.surroundings, self._memory)
        if self.surroundings.trouble:
            return gathered
        self._look_into_mapped(gathered)
        pairs = list(zip(part, gathered, strict=True))
        for reservation, evidence in pairs:
            evidence.packed = addresses.pack(reservation.address)
            evidence.suspect = _is_suspect(reservation, evidence)
        suspects = [pair for pair in pairs if pair[1].suspect]
        try:
            self._complete(suspects)
        except TimeoutError as e:  # the others need nothing of what there was no time for
            for _, evidence in suspects:
                evidence.trouble = "evidence of its container cannot be read: %s" % e
        except OSError as e:
            self._fail(e)
        return gathered

    def account_again(self) -> int:
        """Read the records again; return how many of the netns that were nobody's are known to be somebody's now.

        A pod that is started at the same time has a netns before its ADD has come here. Raises OSError.
        """
        before = len(self.surroundings.unaccounted(""))
        if before and self._kin is not None:
            self._find_kin()
        return before - len(self.surroundings.unaccounted(""))

    def _find_kin(self) -> "tuple[_Kin, named.Names]":
        """Read all records, and find out whose the visible netns are. Raises OSError."""
        kin = _Kin(self._reservations + self._neighbours(), self._sweep.settings, self.surroundings.boot_id, self._end)
        kin.account(self.surroundings)
        self._account_del(kin)
        self._kin, self._names = kin, self._names or named.Names()
        if self.surroundings.unaccounted(""):
            self._ask_whose(kin, self._names)
        return kin, self._names

    def _look_into_mapped(self, gathered: list[Evidence]) -> None:
        """Read the addresses of other users' netns that an owner's record or cache entry leads to.

        Root may have attached such a netns to a network. Other netns of users prove nothing, and reading them has no bound.
        """
        for evidence in gathered:
            mapping = evidence.mapping
            for one in (mapping.recorded, mapping.now) if mapping is not None else ():
                seen = self.surroundings.with_inode_of(one) if one is not None else None
                if seen is not None and seen.foreign and seen.addresses is None:
                    seen.addresses = addresses.of_processes(seen.netns.ino, self._sightings[seen.netns.ino].processes)

    def _ask_whose(self, kin: "_Kin", names: named.Names) -> None:
        """Find out whose the netns of nobody are: another container's, a service's, docker's. Trouble leaves them nobody's."""
        from cni_reaper_plugin.evidence import assigned, shown

        def is_named_in(owner: str, seen: VisibleNetns) -> bool:
            """Tell whether a process in a netns has a container's name in its cgroup. Raises OSError."""
            pids = self._sightings[seen.netns.ino].processes
            return any(names.is_of(owner, pid) and visible.lives_in(pid, seen.netns) for pid in pids)

        try:
            placed = kin.placed(self.surroundings, self._sightings)
            shown.account(self._sweep.network.name, self.surroundings.visible(), kin.reserved(), placed, is_named_in)
            nobodys = self.surroundings.unaccounted("")
            sightings = [self._sightings[seen.netns.ino] for seen in nobodys]
            assigned.assign([(seen, one.mounts, one.others) for seen, one in zip(nobodys, sightings, strict=True)], placed)
        except OSError:
            return

    def _complete(self, suspects: "Pairs") -> None:
        """Find what the kernel alone does not tell of these owners: siblings, and whether a runtime names them."""
        if not suspects:
            return
        kin, names = (self._kin, self._names) if self._kin is not None and self._names is not None else self._find_kin()
        _map_cnitool(suspects, self._sightings)
        for reservation, evidence in suspects:
            try:
                kin.add_siblings(reservation, evidence)
            except OSError as e:
                evidence.trouble = "evidence of its container cannot be read: %s" % e
            evidence.named = names.where(reservation.container_id)

    def _account_del(self, kin: "_Kin") -> None:
        """Note that the CNI_NETNS of a DEL is its container's, where that DEL has proven the view.

        Only a netns that is mounted at this very path, by a name that no runtime gives twice, that nobody else is known to have,
        of a container that nothing else is known of: its ADD has failed before it came to us.
        """
        call = self._sweep.call
        if not call.shows or call.netns is None or call.attachment is None:
            return
        owner, path = call.attachment.container_id, call.netns_path
        seen = self.surroundings.with_inode_of(call.netns)
        if seen is None or seen.names or not seen.netns.is_proven(call.netns) or kin.knows(owner) or not _is_random(path):
            return
        if path.removeprefix("/var") in self._sightings[call.netns.ino].mounts:
            seen.names.add(owner)


def _visible(sightings: visible.Sightings, call: Call, end: float) -> dict[int, VisibleNetns]:
    """Look into every visible netns. Raises OSError; TimeoutError after `end`, in seconds of times(2)."""
    hosts = {netns.identify_ino(path) for path in netns.HOSTS}
    found = {}
    with addresses.Look() as look:
        for ino, sighting in sightings.items():
            seen = found[ino] = sighting.identify()
            if not seen.foreign:
                seen.addresses = look.configured(ino, sighting.processes, sighting.others + sighting.mounts)
            seen.host = ino in hosts
            seen.inhabited = bool(sighting.processes) or any(path.endswith("/ns/net") for path in sighting.others)
            if posix.times().elapsed > end:
                raise TimeoutError(errno.ETIMEDOUT, "there are too many network namespaces to look into")
    gather.account_call(call, found)
    return found


def _is_suspect(reservation: Reservation, evidence: Evidence) -> bool:
    """Tell whether the kernel alone does not settle this owner: no netns recorded for good, or its inode number lives on."""
    mapping = evidence.mapping
    if reservation.kind != OWNED:
        return False
    if mapping is None or mapping.recorded is None:
        return mapping is None or mapping.now is None or mapping.of_process or mapping.of_host
    recorded = mapping.recorded
    if mapping.stands(evidence.surroundings.boot_id):
        return False
    return not mapping.can_prove_death or evidence.surroundings.with_inode_of(recorded) is not None


def _map_cnitool(suspects: "Pairs", sightings: visible.Sightings) -> None:
    """Map `cnitool-…` IDs to the visible path whose hash they are (containernetworking/cni cnitool/cmd/root.go, 3f51e88)."""
    wanted = {
        reservation.container_id: evidence
        for reservation, evidence in suspects
        if evidence.mapping is None and reservation.container_id.startswith(CNITOOL)
    }
    if not wanted:
        return
    for sighting in sightings.values():
        for path in sighting.mounts:
            for container_id in _cnitool_ids(path):
                evidence = wanted.get(container_id)
                if evidence is not None:
                    evidence.mapping = netns.locate(Mapping("cnitool", path))


def _cnitool_ids(path: str) -> list[str]:
    """Return the IDs that cnitool gives to the netns at a path, in each spelling of it."""
    import hashlib

    spellings = (path, *(directory + path.rpartition("/")[2] for directory in netns.RUN_NETNS))
    return [CNITOOL + hashlib.sha512(one.encode("utf-8", "surrogateescape")).hexdigest()[:20] for one in spellings]


class _Kin:
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
            mapping.now is not None and mapping.now.same_inode(seen.netns) and _is_random(mapping.path)
            for mapping in self._known[owner].values()
        )

    def reserved(self) -> "Iterable[tuple[bytes, Reservation]]":
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
                for container_id in (path.rpartition("/")[2], *(_cnitool_ids(path) if by_cnitool else ())):
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


def _is_random(path: str) -> bool:
    """Tell whether a path's name ends as a UUID is spelled.

    Sources: containerd pkg/netns (`cni-<16 random bytes>`), CRI-O (a UUID), Podman (`netns-<16 random bytes>`).
    """
    parts = path.rpartition("/")[2][-36:].split("-")
    return [len(part) for part in parts] == [8, 4, 4, 4, 12] and not "".join(parts).strip("0123456789abcdef")
