"""Take back what dead containers have published, before their addresses are free: portmap's DEL, and what conntrack still knows.

The order is a safety property. First the rules go, by the plugin that made them; then it is seen that none names the container
any more; then the connections that were rewritten to the address are ended. Only then may the reservation be unlinked. Whoever
is killed in between has freed nothing, and the next call does it again: each step can be done twice. Read it beside
docs/evidence.md.

Which container has published something, its entry in libcni's cache says. Where no entry is whole, one look for all of them at
what portmap has written does. Leaks without ports start no program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.model import UNREADABLE, Judged, Mapping, Surroundings
from cni_reaper_plugin.namespaces import netns
from cni_reaper_plugin.network_sweep import NetworkSweep
from cni_reaper_plugin.published import deletion, entries, tries, written
from cni_reaper_plugin.published.written import NO_TIME
from cni_reaper_plugin.reasons import PORT_PUBLISHED
from cni_reaper_plugin.system import boot, programs

PROGRAM_S = 10.0  # one that takes longer, on a node that is very busy, hangs: on the lock of iptables for instance
RESERVE_S = 2.0  # of the call's wall time, for what is to be done after this
_LEAST_S = 0.2
_NOTED = -1.0  # for how long a reservation stays is noted already
FLOWS_S = 3.0  # for the connections of addresses to which no port leads: host-local's own release does not end them either
_ANY_PORT = [{"hostPort": 1, "containerPort": 1, "protocol": "tcp"}]  # without one its DEL does nothing; which does not matter
_OLDEST = "0.3.1"  # a version of configurations that each portmap takes
_ANY_IFNAME = "eth0"  # host-local < 0.8 writes none, and portmap's DEL asks for one and does not look at it

STANDS = "its rules stand after portmap's DEL"
CHANGED = "it has changed since it was judged"
HANGS = "not tried: portmap did not end in time for another container"
SHARED = "another attachment of its container lives, and portmap's DEL would take its ports away, too"

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_reaper_plugin.system.programs import Ended, Environment

    Owner = tuple[str, str]  # container ID, ifname

    StillJudged = Callable[[Judged], bool]


class Withdrawn:
    """What came of it. free: may be freed now; stays: may not, each with the reason why; put_off: some were not even tried."""

    __slots__ = ("free", "put_off", "stays")

    def __init__(self) -> None:
        self.free: list[Judged] = []
        self.stays: list[tuple[Judged, bool]] = []
        self.put_off = False


def take_back(sweep: NetworkSweep, stale: list[Judged], still_judged: StillJudged) -> Withdrawn:
    """Take back what these owners have published, as far as the call's wall time goes. Raises OSError.

    stale: reservations of the sweep's network, about to be freed; still_judged: asked before a program is started for one,
    whether its owner's record and its file are still what was judged.
    """
    withdrawn = Withdrawn()
    withdrawn.free = [one for one in stale if not deletion.is_wanted(one)]
    asked: dict[Owner, list[Judged]] = {}
    for one in stale:
        if deletion.is_wanted(one):
            asked.setdefault((one.reservation.container_id, one.reservation.ifname), []).append(one)
    known = {owner: _entry(sweep, owner) for owner in asked}
    if all(entry is not None and not entry.has_ports for entry in known.values()):
        withdrawn.free = stale
    else:
        _Withdrawal(sweep, still_judged).of(asked, known, withdrawn)
    # Who answers a dead pod would talk to the next one. That this cannot be ended in FLOWS_S keeps no address.
    why = _end_flows(sweep, [one for one in withdrawn.free if deletion.is_wanted(one)], FLOWS_S)
    if why:
        sweep.log.debug("flows-left", network=sweep.network.name, reason=why)
    return withdrawn


def _end_flows(sweep: NetworkSweep, those: list[Judged], limit_s: float) -> str:
    """End the connections of these addresses; return why that could not be done, "" where it was."""
    from cni_reaper_plugin.system import conntrack

    addresses = {one.evidence.packed for one in those} - {b""}
    left = sweep.budget.wall_left_s() - RESERVE_S
    if addresses and left <= _LEAST_S:
        return NO_TIME
    try:
        if addresses:
            conntrack.end_flows(addresses, min(limit_s, left))
    except OSError as e:
        return "its connections cannot be ended: %s" % e
    return ""


def _entry(sweep: NetworkSweep, owner: Owner) -> entries.Entry | None:
    container_id, ifname = owner
    return entries.read(sweep.settings.cache_dirs, sweep.network.name, container_id, ifname) if ifname else None


class _Withdrawal:
    """The taking back for one sweep."""

    def __init__(self, sweep: NetworkSweep, still_judged: StillJudged) -> None:
        self._sweep = sweep
        self._still_judged = still_judged
        self._network = sweep.network.name
        environment = sweep.call.environment
        self._plugin_dirs = deletion.directories(environment, b"CNI_PATH")
        self._path = written.search_path(deletion.directories(environment, b"PATH"), self._plugin_dirs)
        kept = {name: value for name, value in environment.items() if not name.startswith(b"CNI_")}
        self._environment = {**kept, b"PATH": ":".join(self._path).encode("utf-8", "surrogateescape")}
        self._tried = tries.Tried(sweep.network.key)
        self._stays: dict[Owner, tuple[str, float]] = {}
        self._is_hung = False
        self._was_run = False

    def of(self, asked: dict[Owner, list[Judged]], known: dict[Owner, entries.Entry | None], withdrawn: Withdrawn) -> None:
        """Take back what the asked owners have published, and sort them into `withdrawn`."""
        fresh = {}
        for owner, theirs in asked.items():
            why = next((why for one in theirs if (why := self._tried.waits(one.reservation))), "")
            if why:
                self._stays[owner] = why, _NOTED
            else:
                fresh[owner] = known[owner]
        self._of_all({owner: entry for owner, entry in fresh.items() if entry is None or entry.has_ports}, asked)
        stays, done = [], []
        for owner, theirs in asked.items():
            for one in theirs:
                if owner not in self._stays:
                    withdrawn.free.append(one)
                    done.append(one.reservation)
                    continue
                why, wait_s = self._stays[owner]
                withdrawn.put_off = withdrawn.put_off or not wait_s
                kept = Judged(one.reservation, one.evidence, one.verdict, PORT_PUBLISHED.detailed(why))
                withdrawn.stays.append((kept, not self._tried.knows(one.reservation)))
                if wait_s > 0:
                    stays.append((one.reservation, why, wait_s))
        withdrawn.free.sort(key=lambda one: one.evidence.packed)
        self._tried.note(stays, done)

    def _of_all(self, owners: dict[Owner, entries.Entry | None], asked: dict[Owner, list[Judged]]) -> None:
        if not owners:
            return
        seen = self._look(list(owners))
        withdrawn = []
        for owner, entry in owners.items():
            backends = seen.backends(self._network, owner[0])
            if owner in self._stays or (entry is None and not backends):
                continue  # nobody says that it has published something, and nothing names it
            if self._take_back(owner, entry, backends, asked[owner]):
                withdrawn.append(owner)
        if self._was_run and withdrawn:
            seen = self._look(withdrawn)
        for owner in withdrawn:
            if owner in self._stays:
                continue
            if seen.backends(self._network, owner[0]):
                self._keep(owner, STANDS)
            else:
                why = _end_flows(self._sweep, asked[owner], PROGRAM_S)
                if why:
                    self._keep(owner, why)

    def _look(self, owners: list[Owner]) -> written.Written:
        """Look at what stands; where that cannot be seen, these owners stay."""
        seen = written.look(self._path, self._environment, self._run)
        for owner in owners if seen.trouble else ():
            self._keep(owner, seen.trouble, seen.is_hung)
        return seen

    def _take_back(self, owner: Owner, entry: entries.Entry | None, backends: list[str], theirs: list[Judged]) -> bool:
        """Run portmap's DEL for a container; return whether all that was to be run ended well."""
        if self._is_hung:
            self._keep(owner, HANGS)
            return False
        if not all(map(self._still_judged, theirs)):
            self._keep(owner, CHANGED)
            return False
        if self._lives_on(owner, backends, theirs[0].evidence.surroundings):
            if backends:
                self._keep(owner, SHARED)
            return not backends
        for config in self._configs(entry, backends):
            why = self._delete(owner, entry, config)
            if why:
                self._keep(owner, why, self._is_hung)
                return False
        return True

    def _keep(self, owner: Owner, why: str, is_hung: bool = False) -> None:
        """Let an owner's addresses stay; is_hung: since a program did not end."""
        wait_s = tries.AGAIN_AFTER_HANGING_S if is_hung else tries.AGAIN_S
        self._stays[owner] = why, 0.0 if why in (NO_TIME, CHANGED, HANGS) else wait_s

    def _configs(self, entry: entries.Entry | None, backends: list[str]) -> list[entries.Config]:
        """Return what is to be given to portmap: the cached entry, or as little as it takes; for the backends that were seen."""
        bare: list[entries.Config] = [{"cniVersion": _OLDEST, "name": self._network, "type": entries.PORTMAP}]
        bare[0]["runtimeConfig"] = {"portMappings": _ANY_PORT}
        configs = entry.configs if entry is not None and entry.configs else bare
        if not backends:
            return configs
        return [{**config, "backend": backend} for config in configs for backend in backends]

    def _delete(self, owner: Owner, entry: entries.Entry | None, config: entries.Config) -> str:
        """Run portmap's DEL once; return why it did not end well, "" where it did."""
        container_id, ifname = owner
        portmap = programs.find(entries.PORTMAP, self._plugin_dirs)
        if portmap is None:
            return "portmap is not in CNI_PATH (%s)" % ":".join(self._plugin_dirs)
        args = entry.args if entry is not None else ""
        environment = deletion.environment_of(self._environment, container_id, ifname or _ANY_IFNAME, args, self._plugin_dirs)
        try:
            ended = self._run([portmap], environment, orjson.dumps(config))
        except (OSError, ValueError) as e:
            return "portmap cannot be started: %s" % e
        if ended is None:
            return NO_TIME
        self._was_run = True
        if ended.code is None:
            self._is_hung = True
            return "portmap's DEL: %s" % ended.trouble
        return "portmap's DEL failed: %s" % _said(ended) if ended.code else ""

    def _run(self, argv: list[str], environment: Environment, document: bytes = b"") -> Ended | None:
        """Run a program; None where no time is left for it. Raises OSError when it cannot be started."""
        left = self._sweep.budget.wall_left_s() - RESERVE_S
        if left <= _LEAST_S:
            return None
        ended = programs.run(argv, environment, min(PROGRAM_S, left), document)
        return ended if ended.code is not None or left >= PROGRAM_S else None

    def _lives_on(self, owner: Owner, backends: list[str], surroundings: Surroundings) -> bool:
        """Tell whether another attachment of the container stands whose ports portmap's DEL would take as well.

        By our records: a container of Podman comes back by its ID. portmap's DEL takes all of a container in a network, and with
        nftables in all of them. Also where it cannot be told.
        """
        state_dir, call = self._sweep.settings.state_dir, self._sweep.call
        own = call.attachment
        if own is not None and call.netns is not None and own.container_id == owner[0]:
            is_another = (own.network, own.ifname) != (self._network, owner[1])
            if is_another and (own.network == self._network or backends != [written.IPTABLES]):
                return True
        try:
            networks = [self._network] if backends == [written.IPTABLES] else records.networks(state_dir)
            return any(self._lives_in(network, owner, surroundings) for network in networks)
        except OSError:
            return True

    def _lives_in(self, network: str, owner: Owner, surroundings: Surroundings) -> bool:
        """Tell whether another attachment of the container stands in a network. Raises OSError."""
        try:
            directory = records.Directory(self._sweep.settings.state_dir, network)
        except FileNotFoundError:
            return False
        with directory:
            for container_id, ifname in directory.names():
                if container_id == owner[0] and (network, ifname) != (self._network, owner[1]):
                    record = directory.read(container_id, ifname)
                    if record is not None and _stands(netns.locate(record.mapping, boot.boot_id()), surroundings):
                        return True
        return False


def _stands(mapping: Mapping, surroundings: Surroundings) -> bool:
    """Tell whether the netns of a record stands at its path, or was seen anywhere."""
    if mapping.state == UNREADABLE or mapping.stands(surroundings.boot_id):
        return True
    seen = surroundings.with_inode_of(mapping.recorded) if mapping.recorded is not None else None
    same_boot = mapping.boot_id == surroundings.boot_id
    return seen is not None and mapping.recorded is not None and seen.netns.is_proven(mapping.recorded, same_boot)


def _said(ended: Ended) -> str:
    """Return what a plugin says of its failure: the error object's text, else the end of what it printed."""
    try:
        told = orjson.loads(ended.out)
        said = "%s %s" % (told["msg"], told.get("details") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        said = (ended.err or ended.out)[-200:].decode("utf-8", "replace")
    return said.strip()[:500] or "exit code %s" % ended.code
