"""What a command is about: which networks, in which store, with which options, and which addresses each can give.

Read from the conflists that the runtimes of this node load, unless the command line says otherwise.
"""

import contextlib
from dataclasses import dataclass, field

from cni_reaper_plugin import options
from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.host_local import store
from cni_reaper_plugin.host_local.pool import Pool, PoolError, of_ipam, of_subnets
from cni_reaper_plugin.operator.conflists import conflist, runtimes
from cni_reaper_plugin.operator.conflists.conflist import Conflist
from cni_reaper_plugin.options import Settings


@dataclass
class Target:
    """One network. settings: those of our entry in its conflist, with the store where host-local writes; pool: None where
    nobody says which addresses it can give; problems: wrong options of the entry, with which nothing is to be freed;
    state_dirs: where entries of ours for this network have their records; is_missing: it was asked for, and is in no store."""

    network: str
    settings: Settings
    pool: Pool | None = None
    problems: list[str] = field(default_factory=list)
    state_dirs: set[str] = field(default_factory=set)
    is_missing: bool = False

    @property
    def is_ours(self) -> bool:
        """Whether a conflist here has an entry of ours for the network, or it has records of ours. Raises OSError."""
        if self.state_dirs:
            return True
        try:
            with records.Directory(self.settings.state_dir, self.network) as directory:
                return bool(directory.names())
        except FileNotFoundError:
            return False

    @property
    def knows_its_records(self) -> bool:
        """Whether the records are where our one entry for this network has them."""
        return self.state_dirs == {self.settings.state_dir}


@dataclass(frozen=True)
class Scope:
    """What the command line said.

    networks: [] for all there are; data_dir, state_dir: "" for what the conflists say; subnets: of each network's pool (CIDR),
    [] for what they say; conf_dirs: where they are, [] for where the runtimes look.
    """

    networks: list[str]
    data_dir: str
    state_dir: str
    subnets: list[str]
    conf_dirs: list[str]

    def targets(self) -> list[Target]:
        """Return the networks to look at, by store and name. Raises OSError, PoolError.

        One that was asked for and is nowhere is among them.
        """
        pool = of_subnets(self.subnets) if self.subnets else None
        if self.data_dir:
            store.usable(self.data_dir, must_exist=True)
        told = self._told()
        stores = [self.data_dir] if self.data_dir else list(dict.fromkeys([Settings().data_dir, *(place for place, _ in told)]))
        found = [
            self._target(data_dir, name, told, pool)
            for data_dir in stores
            for name in _networks(data_dir)
            if not self.networks or name in self.networks
        ]
        missing = [name for name in self.networks if name not in {one.network for one in found}]
        for name in missing:
            target = self._target(stores[0], name, told, pool)
            target.is_missing = True
            found.append(target)
        return found

    def _target(self, data_dir: str, name: str, told: "dict[tuple[str, str], Target]", pool: Pool | None) -> Target:
        target = told.get((data_dir, name)) or Target(name, Settings())
        target.settings.data_dir = data_dir
        if self.state_dir:
            target.settings.state_dir = self.state_dir
        target.pool = pool or target.pool
        return target

    def _told(self) -> "dict[tuple[str, str], Target]":
        """Return what the conflists say, by (dataDir, network); of two of one name the first, as the runtime takes it.

        Where they do not agree on the range, nobody knows which one a reservation was made by.
        """
        told: dict[tuple[str, str], Target] = {}
        for _, one in conflist.found(runtimes.directories(self.conf_dirs)):
            if isinstance(one, Conflist):
                for ipam in conflist.host_local(one):
                    said = _of(one, ipam)
                    first = told.setdefault((ipam.data_dir, ipam.network), said)
                    first.state_dirs |= said.state_dirs
                    first.pool = first.pool if first.pool == said.pool else None
        return told


def _of(one: Conflist, ipam: conflist.Ipam) -> Target:
    ours = [*one.ours, *(plugin for plugin in conflist.drop_ins(one) if plugin["type"] == conflist.OURS)]
    read = [options.read(entry, one.name) for entry in ours]
    settings, problems = read[0] if read else (Settings(), [])
    pool: Pool | None = None
    if not any(_ranges_come_with_the_call(plugin) for plugin in one.plugins):
        with contextlib.suppress(PoolError):  # usePodCidr, or a range that flannel fills in: it is not on the disk
            pool = of_ipam(ipam.section)
    told = [f"{one.path}: {problem}" for problem in problems]
    return Target(ipam.network, settings, pool, told, {each.state_dir for each, _ in read})


def _ranges_come_with_the_call(plugin: dict[str, object]) -> bool:
    capabilities = plugin.get("capabilities")
    return isinstance(capabilities, dict) and bool(capabilities.get("ipRanges"))


def _networks(data_dir: str) -> list[str]:
    """Return the networks of a store; one that is not there has none. Raises OSError."""
    try:
        return store.networks(data_dir)
    except FileNotFoundError:
        return []
