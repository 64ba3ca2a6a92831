"""The options of the conflist entry: their defaults, and every problem named."""

from collections.abc import Callable
from typing import Any

import pytest

from cni_reaper_plugin import options
from cni_reaper_plugin.options import Settings

RIGHT: dict[str, tuple[str, Any]] = {
    "dataDir": ("data_dir", "/data"),
    "networks": ("networks", ["a", "*"]),
    "stateDir": ("state_dir", "/state"),
    "cacheDirs": ("cache_dirs", ["/cache"]),
    "cache": ("cache", False),
    "reapOn": ("reap_on", ["STATUS"]),
    "dryRun": ("dry_run", True),
    "graceSeconds": ("grace_s", 300),
    "budgetMs": ("budget_ms", 1),
    "logFile": ("log_file", "/log"),
    "logLevel": ("log_level", "debug"),
    "metricsFile": ("metrics_file", "/m/cni-reaper.prom"),
}
WRONG: dict[str, tuple[Any, ...]] = {
    "dataDir": (7, None, "", "a", [], "/a\0b"),
    "networks": ("a", None, [7], [""], ["../a"], ["a/b"], {"a": 1}),
    "stateDir": (7, None, "", "./a"),
    "cache": (0, 1, None, "true", "no", []),
    "cacheDirs": ("/a", None, [""], ["a"], [7], [["/a"]]),
    "reapOn": ("ADD", None, ["CHECK"], ["add"], [None]),
    "dryRun": (0, 1, None, "true", "false", []),
    "graceSeconds": (299, 0, -1, 1500.0, "1500", None, True, []),
    "budgetMs": (0, -1, 0.5, "500", None, True),
    "logFile": (7, None, "a.log", "/a\0b", []),
    "logLevel": ("INFO", "", None, 7, ["info"], {}),
    "metricsFile": (7, None, "a.prom", "/a", "/a.prom/", "/a.prom.bak", "/a\0.prom", ["/a.prom"]),
}
ONE_BY_ONE = [(key, value) for key, wrong in WRONG.items() for value in wrong]


def values(settings: Settings) -> dict[str, Any]:
    """Return the settings by attribute."""
    return {name: getattr(settings, name) for name in Settings.__slots__}


def test_defaults_are_those_of_the_documentation() -> None:
    """An empty entry has the documented defaults, and its own network."""
    settings, problems = options.read({"type": "cni-reaper", "unknown": 7, "dataDirectory": 7}, "net")
    assert problems == []
    assert values(settings) == {
        "data_dir": "/var/lib/cni/networks",
        "networks": ["net"],
        "state_dir": "/var/lib/cni/reaper",
        "cache_dirs": ["/var/lib/cni", "/var/lib/cni/multus", "/var/lib/cni/cache"],
        "cache": True,
        "reap_on": ["ADD", "DEL", "GC"],
        "dry_run": False,
        "grace_s": 1500,
        "budget_ms": 500,
        "log_file": "",
        "log_level": "info",
        "metrics_file": "",
    }


def test_every_option_is_read() -> None:
    """Each key sets its own setting, and there is no setting without a key."""
    settings, problems = options.read({key: value for key, (_, value) in RIGHT.items()}, "net")
    assert problems == []
    assert values(settings) == dict(RIGHT.values())


@pytest.mark.parametrize(("key", "value"), ONE_BY_ONE)
def test_a_wrong_option_is_named_and_has_its_default(key: str, value: Any) -> None:
    """A wrong type or value is one problem that begins with its key; what is right beside it still counts."""
    other = "dryRun" if key != "dryRun" else "budgetMs"
    settings, problems = options.read({key: value, other: RIGHT[other][1]}, "net")
    assert [problem.split()[0] for problem in problems] == [key]
    default = options.read({}, "net")[0]
    assert values(settings) == {**values(default), RIGHT[other][0]: RIGHT[other][1]}


def test_every_problem_is_named() -> None:
    """All wrong options are listed at once, each with what it must be."""
    _, problems = options.read({key: wrong[0] for key, wrong in WRONG.items()}, "net")
    assert {problem.split(" must be ")[0] for problem in problems} == set(WRONG)
    assert all(problem.split(" must be ")[1] for problem in problems)


@pytest.mark.parametrize(("given", "read"), [("/a/", "/a"), ("/a//", "/a"), ("/", "/"), ("//", "/"), ("/a b", "/a b")])
def test_paths_lose_their_last_slash(given: str, read: str) -> None:
    """A directory is the same with a slash at the end."""
    settings, problems = options.read({"dataDir": given}, "net")
    assert (settings.data_dir, problems) == (read, [])


def test_no_network_without_a_name() -> None:
    """A DEL whose configuration has no usable name reaps nowhere."""
    assert options.read({}, "")[0].networks == []


def test_settings_are_not_shared() -> None:
    """What one call's options change is not the next call's default."""
    first, _ = options.read({}, "net")
    first.networks.append("x")
    first.cache_dirs.append("x")
    assert options.read({}, "net")[0].networks == ["net"]
    assert "x" not in options.read({}, "net")[0].cache_dirs


@pytest.mark.parametrize("key", RIGHT)
@pytest.mark.parametrize(
    "spelled", [str.lower, str.upper, lambda key: "".join("_" + c.lower() if c.isupper() else c for c in key) + "_"]
)
def test_another_spelling_is_a_problem(key: str, spelled: Callable[[str], str]) -> None:
    """`dryrun` is meant to free nothing, so it must not be taken for a key of somebody else."""
    assert options.KEYS[key.lower()] == key
    _, problems = options.read({spelled(key): RIGHT[key][1]}, "net")
    assert problems == ([f"{spelled(key)} is spelled {key}"] if spelled(key) != key else [])
