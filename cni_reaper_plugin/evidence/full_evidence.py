"""The full scan, taken only when something is about to be called stale: all visible netns, and the kin of unmapped owners."""

from __future__ import annotations

import errno
import posix
from typing import TYPE_CHECKING

from cni_reaper_plugin.attachment import CNITOOL
from cni_reaper_plugin.evidence import quick_evidence, runtime_names
from cni_reaper_plugin.evidence.kin import Kin, cnitool_ids, is_random
from cni_reaper_plugin.model import OWNED, Call, Evidence, Mapping, Reservation, Surroundings
from cni_reaper_plugin.namespaces import addresses, netns, peer_addresses, visible
from cni_reaper_plugin.scan_model import VisibleNetns

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_reaper_plugin.memory.waiting_owners import Memory
    from cni_reaper_plugin.network_sweep import NetworkSweep

    Pairs = list[tuple[Reservation, Evidence]]


class Look:
    """One look around the node, and the evidence of a network's owners on the strength of it.

    Made after the snapshot of the reservations: see docs/evidence.md. `surroundings` tells in `trouble` when
    something could not be seen.
    """

    def __init__(
        self,
        sweep: NetworkSweep,
        reservations: list[Reservation],
        memory: Memory,
        neighbours: Callable[[], list[Reservation]],
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
        self._kin: Kin | None = None
        self._names: runtime_names.Names | None = None
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
        found = peer_addresses.addresses(visible)
        elsewhere = {packed for seen in visible for packed in seen.addresses or ()}
        reserved = {addresses.pack(reservation.address) for reservation in self._reservations}
        doubtful = (found & reserved) - elsewhere
        return peer_addresses.lasting(found, doubtful, visible) if doubtful else found

    def _fail(self, error: OSError) -> None:
        self.surroundings.trouble = "not everything can be seen: %s" % error

    def gather(self, part: list[Reservation]) -> list[Evidence]:
        """Return the evidence of some of the network's reservations, in their order."""
        gathered = quick_evidence.cheap(self._sweep, part, self.surroundings, self._memory)
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

    def _find_kin(self) -> tuple[Kin, runtime_names.Names]:
        """Read all records, and find out whose the visible netns are. Raises OSError."""
        kin = Kin(self._reservations + self._neighbours(), self._sweep.settings, self.surroundings.boot_id, self._end)
        kin.account(self.surroundings)
        self._account_del(kin)
        self._kin, self._names = kin, self._names or runtime_names.Names()
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

    def _ask_whose(self, kin: Kin, names: runtime_names.Names) -> None:
        """Find out whose the netns of nobody are: another container's, a service's, docker's. Trouble leaves them nobody's."""
        from cni_reaper_plugin.namespaces import assigned, shown_addresses

        def is_named_in(owner: str, seen: VisibleNetns) -> bool:
            """Tell whether a process in a netns has a container's name in its cgroup. Raises OSError."""
            pids = self._sightings[seen.netns.ino].processes
            return any(names.is_of(owner, pid) and visible.lives_in(pid, seen.netns) for pid in pids)

        try:
            placed = kin.placed(self.surroundings, self._sightings)
            shown_addresses.account(self._sweep.network.name, self.surroundings.visible(), kin.reserved(), placed, is_named_in)
            nobodys = self.surroundings.unaccounted("")
            sightings = [self._sightings[seen.netns.ino] for seen in nobodys]
            assigned.assign([(seen, one.mounts, one.others) for seen, one in zip(nobodys, sightings, strict=True)], placed)
        except OSError:
            return

    def _complete(self, suspects: Pairs) -> None:
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

    def _account_del(self, kin: Kin) -> None:
        """Note that the CNI_NETNS of a DEL is its container's, where that DEL has proven the view.

        Only a netns that is mounted at this very path, by a name that no runtime gives twice, that nobody else is known to have,
        of a container that nothing else is known of: its ADD has failed before it came to us.
        """
        call = self._sweep.call
        if not call.shows or call.netns is None or call.attachment is None:
            return
        owner, path = call.attachment.container_id, call.netns_path
        seen = self.surroundings.with_inode_of(call.netns)
        if seen is None or seen.names or not seen.netns.is_proven(call.netns) or kin.knows(owner) or not is_random(path):
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
    quick_evidence.account_call(call, found)
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


def _map_cnitool(suspects: Pairs, sightings: visible.Sightings) -> None:
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
            for container_id in cnitool_ids(path):
                evidence = wanted.get(container_id)
                if evidence is not None:
                    evidence.mapping = netns.locate(Mapping("cnitool", path))
