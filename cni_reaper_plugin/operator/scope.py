"""What a command is about: which networks, in which store, and which addresses each can give."""

from dataclasses import dataclass

from cni_reaper_plugin import store
from cni_reaper_plugin.facts import Settings
from cni_reaper_plugin.operator.pool import Pool, of_subnets


@dataclass(frozen=True)
class Target:
    """One network. settings: where its store and records are; pool: None where nobody said which addresses it can give."""

    network: str
    settings: Settings
    pool: Pool | None


@dataclass(frozen=True)
class Scope:
    """What the command line said. networks: [] for all there are; subnets: of the one network's pool (CIDR)."""

    networks: list[str]
    data_dir: str
    state_dir: str
    subnets: list[str]

    def targets(self) -> list[Target]:
        """Return the networks to look at, sorted. Raises OSError, PoolError."""
        settings = Settings()
        settings.data_dir, settings.state_dir = self.data_dir, self.state_dir
        pool = of_subnets(self.subnets) if self.subnets else None
        try:
            names = self.networks or store.networks(self.data_dir)
        except FileNotFoundError:
            names = []
        return [Target(name, settings, pool) for name in names]
