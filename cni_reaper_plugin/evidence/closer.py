"""The closer look, taken only when something is about to be called stale: all visible netns, and the kin of unmapped owners."""

from cni_reaper_plugin.evidence import addresses, libcni_cache, named, netns, records
from cni_reaper_plugin.facts import OWNED, Evidence, Mapping, Reservation, Settings, Surroundings, VisibleNetns

CNITOOL = "cnitool-"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Pairs = list[tuple[Reservation, Evidence]]


class Known:
    """One attachment of which somebody says which netns it has. network, container_id, ifname: str; mapping: located."""

    __slots__ = ("container_id", "ifname", "mapping", "network")

    def __init__(self, network: str, container_id: str, ifname: str, mapping: Mapping) -> None:
        self.network = network
        self.container_id = container_id
        self.ifname = ifname
        self.mapping = mapping


def look(pairs: "Pairs", settings: Settings, surroundings: Surroundings, neighbours: "Callable[[], list[Reservation]]") -> None:
    """Complete the evidence of all owners in place. Raises OSError when a source cannot be read."""
    sightings = netns.everywhere()
    surroundings.netns = _visible(sightings, pairs)
    for reservation, evidence in pairs:
        evidence.packed = addresses.pack(reservation.address)
    suspects = [(reservation, evidence) for reservation, evidence in pairs if _is_suspect(reservation, evidence)]
    if not suspects:
        return
    _map_cnitool(suspects, sightings)
    others = neighbours()
    known = _known(pairs, others, settings)
    everyone = [reservation for reservation, _ in pairs] + others
    for reservation, evidence in suspects:
        _add_siblings(reservation, evidence, known, everyone, settings)
    _account(surroundings, known, everyone)
    names = named.named({reservation.container_id for reservation, _ in suspects})
    for reservation, evidence in suspects:
        evidence.named = reservation.container_id in names


def _visible(sightings: netns.Sightings, pairs: "Pairs") -> list[VisibleNetns]:
    """Look into every visible netns."""
    hosts = {netns.identify_ino(path) for path in netns.HOSTS}
    call = pairs[0][1].call if pairs else None
    called = call.netns.ino if call is not None and call.netns is not None else 0
    return [
        VisibleNetns(
            sighting.identify(),
            addresses.configured(sighting.ino, sighting.processes, sighting.mounts),
            host=sighting.ino in hosts,
            call=sighting.ino == called,
        )
        for sighting in sightings.values()
    ]


def _is_suspect(reservation: Reservation, evidence: Evidence) -> bool:
    """Tell whether the kernel alone does not settle this owner: it has no recorded netns, or one whose inode number lives on."""
    if reservation.kind != OWNED:
        return False
    mapping = evidence.mapping
    if mapping is None or mapping.recorded is None:
        return mapping is None or mapping.now is None or mapping.of_process or mapping.of_host
    recorded = mapping.recorded
    if mapping.now is not None and mapping.now.is_proven(recorded, mapping.boot_id == evidence.surroundings.boot_id):
        return False
    return any(seen.netns.same_inode(recorded) for seen in evidence.surroundings.netns or ())


def _map_cnitool(suspects: "Pairs", sightings: netns.Sightings) -> None:
    """Map `cnitool-…` IDs to the visible path whose hash they are (containernetworking/cni cnitool/cmd/root.go, 3f51e88)."""
    wanted = {
        reservation.container_id: evidence for reservation, evidence in suspects if reservation.container_id.startswith(CNITOOL)
    }
    if not wanted:
        return
    import hashlib

    for sighting in sightings.values():
        for path in sighting.mounts:
            name = path.rpartition("/")[2]
            for spelling in (path, *(directory + name for directory in netns.RUN_NETNS)):
                container_id = CNITOOL + hashlib.sha512(spelling.encode("utf-8", "surrogateescape")).hexdigest()[:20]
                evidence = wanted.get(container_id)
                if evidence is not None and evidence.mapping is None:
                    evidence.mapping = netns.locate(Mapping("cnitool", path))


def _known(pairs: "Pairs", others: list[Reservation], settings: Settings) -> list[Known]:
    """Return every attachment on this node that a record or a cache entry maps, also those that hold no reservation (yet)."""
    known = []
    mapped = set()
    for network in records.networks(settings.state_dir):
        with records.Directory(settings.state_dir, network) as directory:
            for container_id, ifname in directory.names():
                record = directory.read(container_id, ifname)
                if record is not None:
                    mapped.add((network, container_id, ifname))
                    known.append(Known(network, container_id, ifname, netns.locate(record.mapping)))
    for reservation in [*(reservation for reservation, _ in pairs), *others]:
        owner = (reservation.network, reservation.container_id, reservation.ifname)
        if reservation.kind == OWNED and reservation.ifname and owner not in mapped:
            mapped.add(owner)
            cached = libcni_cache.read(settings.cache_dirs, *owner)
            if cached is not None:
                known.append(Known(*owner, netns.locate(cached)))
    return known


def _add_siblings(
    reservation: Reservation, evidence: Evidence, known: list[Known], everyone: list[Reservation], settings: Settings
) -> None:
    """Find the same container ID under another ifname or network."""
    own = (reservation.network, reservation.container_id, reservation.ifname)
    kin = {(other.network, other.ifname): other.mapping for other in known if other.container_id == reservation.container_id}
    kin.pop((reservation.network, reservation.ifname), None)
    for network in ({other.network for other in known} | {other.network for other in everyone}) - {reservation.network}:
        if reservation.ifname and (network, reservation.ifname) not in kin:
            cached = libcni_cache.read(settings.cache_dirs, network, reservation.container_id, reservation.ifname)
            if cached is not None:
                kin[network, reservation.ifname] = netns.locate(cached)
    evidence.siblings = list(kin.values())
    for other in everyone:
        if other.container_id == reservation.container_id and (other.network, other.container_id, other.ifname) != own:
            evidence.sibling_addresses.add(addresses.pack(other.address))
    evidence.sibling_addresses.discard(b"")
    if evidence.mapping is None:
        # Podman and nerdctl start the same ID again in another netns; the sandbox of a pod has one netns for life.
        evidence.mapping = next(
            (sibling for sibling in evidence.siblings if sibling.recorded is not None and sibling.pod.get("uid")), None
        )


def _account(surroundings: Surroundings, known: list[Known], everyone: list[Reservation]) -> None:
    """Note for which container IDs each visible netns is named, by identity or by holding an address reserved for the ID."""
    mapped = {other.container_id for other in known}
    held = [(addresses.pack(other.address), other.container_id) for other in everyone if other.container_id in mapped]
    for seen in surroundings.netns or ():
        seen.names.update(other.container_id for other in known if _names(other.mapping, seen, surroundings.boot_id))
        if seen.addresses:
            seen.names.update(container_id for packed, container_id in held if packed in seen.addresses)


def _names(mapping: Mapping, seen: VisibleNetns, boot_id: str) -> bool:
    """Tell whether a mapping names this netns: as recorded, or by what stands at a path that cannot be another process's."""
    if mapping.recorded is not None:
        return seen.netns.is_proven(mapping.recorded, mapping.boot_id == boot_id)
    return mapping.now is not None and not mapping.of_process and seen.netns.same_inode(mapping.now)
