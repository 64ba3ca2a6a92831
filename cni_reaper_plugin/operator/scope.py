"""What a command is about: which networks, in which store, with which options, and which addresses each can give.

Read from the conflists that the runtimes of this node load, unless the command line says otherwise.
"""

from dataclasses import dataclass, field

from cni_reaper_plugin import options, store
from cni_reaper_plugin.facts import Settings
from cni_reaper_plugin.operator import conflist, places
from cni_reaper_plugin.operator.conflist import Conflist
from cni_reaper_plugin.pool import Pool, PoolError, of_ipam, of_subnets


@dataclass
class Target:
    """One network. settings: those of our entry in its conflist, with the store where host-local writes; pool: None where
    nobody says which addresses it can give; problems: wrong options of the entry, with which nothing is to be freed."""

    network: str
    settings: Settings
    pool: Pool | None = None
    problems: list[str] = field(default_factory=list)


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
        told = self._told()
        stores = [self.data_dir] if self.data_dir else list(dict.fromkeys([Settings().data_dir, *(place for place, _ in told)]))
        found = [
            self._target(data_dir, name, told, pool)
            for data_dir in stores
            for name in _networks(data_dir)
            if not self.networks or name in self.networks
        ]
        missing = [name for name in self.networks if name not in {one.network for one in found}]
        return found + [self._target(stores[0], name, told, pool) for name in missing]

    def _target(self, data_dir: str, name: str, told: "dict[tuple[str, str], Target]", pool: Pool | None) -> Target:
        target = told.get((data_dir, name)) or Target(name, Settings())
        target.settings.data_dir = data_dir
        if self.state_dir:
            target.settings.state_dir = self.state_dir
        target.pool = pool or target.pool
        return target

    def _told(self) -> "dict[tuple[str, str], Target]":
        """Return what the conflists say, by (dataDir, network); of two of one name the first, as the runtime takes it."""
        told: dict[tuple[str, str], Target] = {}
        for _, one in conflist.found(places.directories(self.conf_dirs)):
            if isinstance(one, Conflist):
                for ipam in conflist.host_local(one):
                    told.setdefault((ipam.data_dir, ipam.network), _of(one, ipam))
        return told


def _of(one: Conflist, ipam: conflist.Ipam) -> Target:
    settings, problems = options.read(one.ours[0], one.name) if one.ours else (Settings(), [])
    try:
        pool = of_ipam(ipam.section)
    except PoolError:
        pool = None  # usePodCidr, or a range that flannel fills in: it is not on the disk
    return Target(ipam.network, settings, pool, ["%s: %s" % (one.path, problem) for problem in problems])


def _networks(data_dir: str) -> list[str]:
    """Return the networks of a store; one that is not there has none. Raises OSError."""
    try:
        return store.networks(data_dir)
    except FileNotFoundError:
        return []
