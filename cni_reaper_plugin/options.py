"""The options of the conflist entry (docs/options.md), and their defaults. Every problem is named, not only the first.

Unknown keys are ignored, but for one that is an option of ours in another spelling: `dryrun` that reaps would lose data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin.attachment import valid_name
from cni_reaper_plugin.event_log import LEVELS
from cni_reaper_plugin.model import DATA_DIR

CACHE_DIRS = ["/var/lib/cni", "/var/lib/cni/multus", "/var/lib/cni/cache"]  # where libcni may keep results
VERBS_THAT_REAP = ("ADD", "DEL", "GC", "STATUS")
LEAST_GRACE_S = 300
METRICS_END = ".prom"  # node_exporter reads no other; and no slip of the pen has us write over a file of another kind
KEYS = {
    "datadir": "dataDir",
    "networks": "networks",
    "statedir": "stateDir",
    "cachedirs": "cacheDirs",
    "cache": "cache",
    "reapon": "reapOn",
    "dryrun": "dryRun",
    "graceseconds": "graceSeconds",
    "budgetms": "budgetMs",
    "logfile": "logFile",
    "loglevel": "logLevel",
    "metricsfile": "metricsFile",
}
"""The options, by their letters alone."""


class Settings:
    """The options (docs/options.md), with their defaults.

    Attributes:
        data_dir: host-local's store.
        networks: the networks to sweep, or ["*"].
        state_dir: where records are.
        cache_dirs: where libcni may keep results.
        cache: remove broken files of libcni's cache.
        reap_on: the verbs that sweep.
        dry_run: free nothing.
        grace_s: how long an owner without a netns is waited for.
        budget_ms: CPU time of a sweep.
        log_file: "" for none.
        log_level: see event_log.LEVELS.
        metrics_file: "" for none.
    """

    __slots__ = (
        "budget_ms",
        "cache",
        "cache_dirs",
        "data_dir",
        "dry_run",
        "grace_s",
        "log_file",
        "log_level",
        "metrics_file",
        "networks",
        "reap_on",
        "state_dir",
    )

    def __init__(self) -> None:
        self.data_dir = DATA_DIR
        self.networks: list[str] = []
        self.state_dir = "/var/lib/cni/reaper"
        self.cache_dirs = list(CACHE_DIRS)
        self.cache = True
        self.reap_on = ["ADD", "DEL", "GC"]
        self.dry_run = False
        self.grace_s = 1500
        self.budget_ms = 500
        self.log_file = ""
        self.log_level = "info"
        self.metrics_file = ""


def read(config: dict[str, object], name: str) -> tuple[Settings, list[str]]:
    """Return the settings of a config and a list of what is wrong with its options.

    config: the plugin's own object; name: the network's, the default of `networks`. An option that is wrong has its default,
    which is good for recording and logging; with any problem nothing may be reaped.
    """
    settings, options = Settings(), _Options(config)
    settings.networks = [name] if name else []
    settings.data_dir = options.path("dataDir", settings.data_dir)
    settings.state_dir = options.path("stateDir", settings.state_dir)
    settings.log_file = options.path("logFile", settings.log_file)
    settings.metrics_file = options.path("metricsFile", settings.metrics_file, METRICS_END)
    settings.cache_dirs = options.strings("cacheDirs", settings.cache_dirs, _is_path, "absolute paths")
    settings.networks = options.strings(
        "networks", settings.networks, lambda one: one == "*" or valid_name(one), 'network names, or ["*"]'
    )
    settings.reap_on = options.strings(
        "reapOn", settings.reap_on, lambda one: one in VERBS_THAT_REAP, "of " + ", ".join(VERBS_THAT_REAP)
    )
    settings.log_level = options.word("logLevel", settings.log_level, LEVELS)
    settings.dry_run = options.flag("dryRun", settings.dry_run)
    settings.cache = options.flag("cache", settings.cache)
    settings.grace_s = options.number("graceSeconds", settings.grace_s, LEAST_GRACE_S)
    settings.budget_ms = options.number("budgetMs", settings.budget_ms, 1)
    for key in config:
        meant = KEYS.get(key.lower().replace("_", "").replace("-", ""), key)
        if meant != key:
            options.problems.append("%s is spelled %s" % (key, meant))
    return settings, options.problems


if TYPE_CHECKING:
    from collections.abc import Callable


class _Options:
    """Reads one option at a time; a wrong one is noted in `problems` and has its default."""

    def __init__(self, config: dict[str, object]) -> None:
        self._config = config
        self.problems: list[str] = []

    def _refuse(self, key: str, wanted: str) -> None:
        self.problems.append("%s must be %s" % (key, wanted))

    def path(self, key: str, default: str, end: str = "") -> str:
        """Read an absolute path, without the slash at its end; `end`: how its name must end."""
        value = self._config.get(key, default)
        if isinstance(value, str) and ((_is_path(value) and value.endswith(end)) or value == default):
            return value.rstrip("/") or value[:1]
        self._refuse(key, "an absolute path" + (" that ends in " + end if end else ""))
        return default

    def strings(self, key: str, default: list[str], fits: Callable[[str], bool], wanted: str) -> list[str]:
        """Read a list of strings, each of which `fits`; `wanted` says in words what they must be."""
        value = self._config.get(key, default)
        if isinstance(value, list) and all(isinstance(one, str) and fits(one) for one in value):
            return value
        self._refuse(key, "a list " + wanted if wanted.startswith("of") else "a list of " + wanted)
        return default

    def word(self, key: str, default: str, words: tuple[str, ...]) -> str:
        """Read one of a few words."""
        value = self._config.get(key, default)
        if isinstance(value, str) and value in words:
            return value
        self._refuse(key, "one of " + ", ".join(words))
        return default

    def flag(self, key: str, default: bool) -> bool:
        """Read true or false."""
        value = self._config.get(key, default)
        if isinstance(value, bool):
            return value
        self._refuse(key, "true or false")
        return default

    def number(self, key: str, default: int, least: int) -> int:
        """Read a whole number that is at least `least`."""
        value = self._config.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        self._refuse(key, "a whole number from %d" % least)
        return default


def _is_path(value: str) -> bool:
    return value.startswith("/") and "\0" not in value
