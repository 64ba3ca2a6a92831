"""Metrics: what is written is Prometheus' format, what is read back is what was written, and anything else is begun anew."""

import fcntl
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from cni_reaper_plugin import __version__, metrics
from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.model import STALE, UNKNOWN, Call, Evidence, Judged, Reservation, Surroundings
from cni_reaper_plugin.network_sweep import OUTCOMES, Result
from cni_reaper_plugin.reaper import report
from cni_reaper_plugin.reasons import EMPTY, NETNS_GONE, UNACCOUNTED, Reason
from tests.support.programs import ROOT

Sample = tuple[str, frozenset[tuple[str, str]]]


def samples(path: Path) -> dict[Sample, float]:
    """Return the samples of a file as Prometheus' own parser reads them; each once, and each name of one type with a help."""
    found: dict[Sample, float] = {}
    names = set()
    for family in text_string_to_metric_families(path.read_bytes().decode()):
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        assert family.name not in names
        names.add(family.name)
        for one in family.samples:
            key = one.name, frozenset(one.labels.items())
            assert key not in found
            found[key] = one.value
    return found


def value(path: Path, name: str, **labels: str) -> float | None:
    """Return one sample, of the network `net` unless another is said; None when it is not there."""
    return samples(path).get((f"cni_reaper_{name}", frozenset({"network": "net", **labels}.items())))


def quiet() -> Log:
    """Return a log that says nothing."""
    return Log("error", "")


def judged(address: str = "10.0.0.2", reason: Reason = EMPTY) -> Judged:
    """Return an owner as a sweep has judged it."""
    evidence = Evidence(Call("ADD"), Surroundings("boot"))
    return Judged(Reservation("net", address, b"", 1, 1), evidence, UNKNOWN if reason == UNACCOUNTED else STALE, reason)


def freed(result: Result) -> None:
    """Let a sweep have freed one that was empty."""
    result.freed.append(judged())


def twice(tell: Callable[[Any, Judged], None], result: Result, one: Judged) -> None:
    """Let a sweep find the same twice, as a quick scan and a full scan do."""
    for _ in range(2):
        tell(SimpleNamespace(result=result, log=quiet()), one)


def would_free(result: Result) -> None:
    """Let a sweep have found one under dryRun."""
    twice(report.would_free, result, judged())


def sweep(path: Path, do: Callable[[Result], None] = lambda _: None, listed: int | None = 3, **options: Any) -> None:
    """Let one call sweep one network, and do something in it."""
    result = Result(options.get("network", "net"))
    result.listed, result.judged, result.took_s = listed, options.get("judged", True), options.get("took_s", 0.004)
    do(result)
    metrics.save(str(path), [result], quiet())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A place for the file."""
    return tmp_path / "own.prom"


def test_clean_sweep_is_counted(file: Path) -> None:
    """One sweep that finds nothing: it is counted, all counters are there from the beginning, and others can read the file."""
    before = os.umask(0o077)
    try:
        sweep(file)
    finally:
        os.umask(before)
    assert value(file, "sweeps_total", outcome="clean") == 1
    assert [value(file, "sweeps_total", outcome=one) for one in OUTCOMES[1:]] == [0] * 4
    assert [value(file, "reaped_total", reason=one.code) for one in metrics.REASONS] == [0] * 8
    assert [value(file, "reservations", verdict=one) for one in ("live", "stale", "unknown")] == [3, 0, 0]
    assert (value(file, "kept_unknown"), value(file, "pool_used")) == (0, 3)
    assert value(file, "sweep_duration_seconds_count") == value(file, "sweep_duration_seconds_bucket", le="+Inf") == 1
    assert samples(file)["cni_reaper_build_info", frozenset({("version", __version__)})] == 1
    assert file.stat().st_mode & 0o7777 == 0o644
    assert sorted(os.listdir(file.parent)) == ["own.prom", "own.prom.lock"]


def test_what_a_sweep_does_is_counted(file: Path) -> None:
    """Freed, refused, kept and unknown reservations; the same address is counted once."""

    def do(result: Result) -> None:
        result.freed += [judged("10.0.0.2", NETNS_GONE), judged("10.0.0.3", EMPTY)]
        twice(report.kept, result, judged("10.0.0.4", UNACCOUNTED))
        result.refused.append((judged("10.0.0.5").reservation, OSError()))

    sweep(file, do, listed=9)
    sweep(file, do, listed=9)
    assert value(file, "reaped_total", reason="netns-gone") == value(file, "reaped_total", reason="empty") == 2
    assert value(file, "sweeps_total", outcome="reaped") == 2
    assert [value(file, "reservations", verdict=one) for one in ("live", "stale", "unknown")] == [5, 1, 1]
    assert (value(file, "kept_unknown"), value(file, "pool_used")) == (1, 7)


def test_dry_run_counts_stale_and_frees_nothing(file: Path) -> None:
    """Nothing is freed: the sweep is a clean one, and what it would have freed is stale, still there, and counted once."""
    sweep(file, would_free)
    assert value(file, "would_reap_total", reason="empty") == value(file, "sweeps_total", outcome="clean") == 1
    assert [value(file, "reservations", verdict=one) for one in ("live", "stale")] == [2, 1]
    assert (value(file, "reaped_total", reason="empty"), value(file, "pool_used")) == (0, 3)


@pytest.mark.parametrize("outcome", ["cut", "skipped", "failed"])
def test_a_sweep_that_is_not_whole_changes_no_verdict(file: Path, outcome: str) -> None:
    """What a sweep has not seen it does not say; only one that was cut knows how many there are."""
    sweep(file, listed=5)
    first = value(file, "last_sweep_timestamp_seconds")

    def do(result: Result) -> None:
        twice(report.kept, result, judged("10.0.0.3", UNACCOUNTED))
        setattr(result, outcome, "x")
        freed(result)

    sweep(file, do, listed=8 if outcome == "cut" else None)
    assert value(file, "sweeps_total", outcome=outcome) == value(file, "reaped_total", reason="empty") == 1
    assert value(file, "sweeps_total", outcome="reaped") == 0
    assert (value(file, "reservations", verdict="live"), value(file, "kept_unknown")) == (5, 0)
    assert value(file, "pool_used") == (7 if outcome == "cut" else 5)
    assert (value(file, "last_sweep_timestamp_seconds") == first) == (outcome != "cut")


def test_a_sweep_that_may_free_only_some_says_no_verdicts(file: Path) -> None:
    """Stale ones that it had to leave would look live."""
    sweep(file, judged=False)
    assert value(file, "reservations", verdict="live") is None
    assert value(file, "pool_used") == 3


def test_what_did_not_even_begin_is_counted(file: Path) -> None:
    """No time for the next network, or the networks cannot be listed."""
    all_of_them, own = Result("*"), Result("net")
    all_of_them.skipped = own.cut = "x"
    metrics.save(str(file), [all_of_them, own], quiet())
    assert value(file, "sweeps_total", outcome="skipped", network="*") == value(file, "sweeps_total", outcome="cut") == 1


def test_durations_are_a_histogram(file: Path) -> None:
    """Buckets are cumulative, and a sweep of exactly a bound is in its bucket."""
    sweep(file, took_s=0.005)
    sweep(file, took_s=0.3)
    found = [value(file, "sweep_duration_seconds_bucket", le=one) for one in metrics.BUCKETS_S[:-1]]
    assert found == [0, 0, 1, 1, 1, 2, 2]
    assert value(file, "sweep_duration_seconds_sum") == pytest.approx(0.305)


names = st.text(max_size=12) | st.sampled_from(('"', "\\", "\n", '\\"', "\\n", "} 1", '",le="', "\u2028", "\r", "# state {}"))


@given(st.lists(st.tuples(names, names), max_size=4))
def test_any_label_value_is_escaped(tmp_path: Path, given_labels: list[tuple[str, str]]) -> None:
    """Each network and reason is one label value, escaped, for the official parser and for ourselves."""
    file = tmp_path / "labels.prom"
    file.unlink(missing_ok=True)
    for network, reason in given_labels:
        for _ in range(2):
            sweep(file, lambda result, r=reason: result.freed.append(judged(reason=Reason(r))), network=network)  # type: ignore[misc]
    for network, reason in given_labels:
        if (
            network.isprintable() and reason.isprintable()
        ):  # the official parser splits lines at \r and the like, Prometheus at \n
            assert value(file, "reaped_total", network=network, reason=reason) == 2 * given_labels.count((network, reason))
    if given_labels:
        assert metrics.render(metrics.parse(file.read_bytes())) == file.read_bytes()


NOT_OURS = {
    "empty": b"",
    "zeros": bytes(4096),
    "another's": b"# HELP up up\n# TYPE up gauge\nup 1\n",
    "no JSON": b"x 1\n# state {\n",
    "a list": b"x 1\n# state []\n",
    "a network that is none": b'x 1\n# state {"net":7}\n',
    "a family that is none": b'x 1\n# state {"net":{"cni_reaper_reaped_total":[]}}\n',
    "numbers that are none": b'x 1\n# state {"net":{"cni_reaper_reaped_total":{"empty":"1"}}}\n',
    "another network's numbers are none": b'x 1\n# state {"other":{"cni_reaper_pool_used":{"":null}}}\n',
    "half a histogram": b'x 1\n# state {"net":{"cni_reaper_sweep_duration_seconds":{"sum":null}}}\n',
    "half another histogram": b'x 1\n# state {"other":{"cni_reaper_sweep_duration_seconds":{"sum":1}}}\n',
}


@pytest.mark.parametrize("content", NOT_OURS.values(), ids=NOT_OURS.keys())
def test_a_damaged_file_is_replaced(file: Path, content: bytes) -> None:
    """What is not as we write it counts for nothing; all begins anew."""
    file.write_bytes(content)
    sweep(file, freed)
    assert value(file, "reaped_total", reason="empty") == 1
    assert value(file, "sweeps_total", outcome="reaped") == 1


@given(st.integers(0), st.binary(min_size=1, max_size=3), st.booleans())
def test_any_file_is_made_readable_again(tmp_path: Path, where: int, what: bytes, ends: bool) -> None:
    """Bytes written over it, or its end cut off: the next call leaves a file that Prometheus reads."""
    file = tmp_path / "bent.prom"
    file.unlink(missing_ok=True)
    sweep(file)
    data = file.read_bytes()
    where %= len(data)
    file.write_bytes(data[:where] + what + (b"" if ends else data[where + len(what) :]))
    sweep(file)
    assert value(file, "sweep_duration_seconds_count") in (1, 2)


def test_a_newer_version_s_families_are_kept(file: Path) -> None:
    """What this version does not know it neither shows nor forgets."""
    sweep(file)
    known = metrics.parse(file.read_bytes())
    known["net"]["cni_reaper_new_total"] = {"x": 1}
    file.write_bytes(metrics.render(known))
    sweep(file)
    assert metrics.parse(file.read_bytes())["net"]["cni_reaper_new_total"] == {"x": 1}
    assert "cni_reaper_new_total{" not in file.read_text()


def test_each_network_has_its_own(file: Path) -> None:
    """Samples of one name stand together, whatever network they are of."""
    for network in ("a", "b", "a"):
        sweep(file, network=network)
    assert [value(file, "sweeps_total", network=one, outcome="clean") for one in ("a", "b")] == [2, 1]


def dropped(file: Path) -> float:
    """Return how many calls the file says are not counted."""
    return samples(file)["cni_reaper_dropped_total", frozenset()]


def held(file: Path) -> int:
    """Take the lock of a file, and return the descriptor."""
    fd = os.open(f"{file}.lock", os.O_RDONLY | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_a_call_without_the_lock_is_dropped_and_said(file: Path, tmp_path: Path) -> None:
    """While the lock is held a call changes nothing and says so; the next one that has it counts how many there were."""
    sweep(file, listed=1)
    assert dropped(file) == 0
    fd = held(file)
    before = file.read_bytes()
    for _ in range(3):
        sweep(file, freed, listed=7)
    metrics.save(str(file), [Result("net")], Log("debug", str(tmp_path / "log")))
    assert file.read_bytes() == before
    assert f'event=not-counted reason="others hold the lock of {file}"' in (tmp_path / "log").read_text()
    os.close(fd)
    sweep(file, listed=2)
    assert (dropped(file), value(file, "sweeps_total", outcome="clean"), value(file, "pool_used")) == (4, 2, 2)
    assert value(file, "reaped_total", reason="empty") == value(file, "sweeps_total", outcome="reaped") == 0
    assert sorted(os.listdir(file.parent)) == ["log", "own.prom", "own.prom.lock"]


def test_a_lock_that_is_never_free_does_not_fill_the_disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows by a byte a call, and not for ever."""
    monkeypatch.setattr(metrics, "MOST_DROPPED", 2)
    monkeypatch.setattr(metrics, "WAIT_S", 0.0)
    fd = held(file)
    for _ in range(5):
        sweep(file)
    os.close(fd)
    assert Path(f"{file}.lock").stat().st_size == 2


def test_many_writers_are_counted_or_dropped(file: Path) -> None:
    """110 at once, each with one: all are in the file, or are said to be missing."""
    start = threading.Barrier(110)

    def one() -> None:
        start.wait()
        sweep(file, freed)

    threads = [threading.Thread(target=one) for _ in range(110)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sweep(file)
    counted = value(file, "sweeps_total", outcome="reaped")
    assert counted
    assert value(file, "reaped_total", reason="empty") == counted
    assert counted + dropped(file) == 110


@pytest.mark.parametrize("path", ["/nowhere/at/all.prom", "/proc/own.prom", "/.prom/x.prom", "/dev/null/x.prom"])
def test_what_cannot_be_written_is_said_at_debug(tmp_path: Path, path: str) -> None:
    """No error comes out, and one line tells why."""
    metrics.save(path, [Result("net")], Log("debug", str(tmp_path / "log")))
    assert "level=debug event=not-counted reason=" in (tmp_path / "log").read_text()


def test_removed_files_are_counted_for_the_node(file: Path) -> None:
    """By kind and without a network, which flannel's files have not. Each kind begins at 0, from which an increase is seen."""

    def counted() -> list[float]:
        found = samples(file)
        return [found["cni_reaper_cache_removed_total", frozenset({("kind", kind)})] for kind in metrics.CACHE_KINDS]

    sweep(file)
    assert counted() == [0, 0, 0]
    metrics.save_removed(str(file), ["flannel", "flannel"], quiet())
    metrics.save_removed(str(file), ["multus"], quiet())
    assert counted() == [0, 2, 1]
    assert value(file, "sweeps_total", outcome="clean") == 1


# What is said of the metrics elsewhere

ALERTS = ROOT / "packaging/monitoring/alerts.yaml"
DASHBOARD = ROOT / "packaging/monitoring/grafana-dashboard.json"
FOREIGN = {"node_textfile_mtime_seconds", "node_textfile_scrape_error"}


@pytest.fixture
def exported(file: Path) -> dict[str, set[str]]:
    """Return all that can be exported: name of a sample -> its labels."""
    sweep(file, would_free)
    found: dict[str, set[str]] = {}
    for name, labels in samples(file):
        found.setdefault(name, set()).update(key for key, _ in labels)
    assert set(found) >= {name for name, kind, *_ in metrics.FAMILIES if kind != "histogram"}
    return found


def used(expression: str) -> set[str]:
    """Return the metrics that an expression names."""
    return set(re.findall(r"\b(?:cni_reaper|node_textfile)_\w+", expression))


def test_alerts_are_of_what_is_exported(exported: dict[str, set[str]]) -> None:
    """Each alert has an expression of our metrics, says what it is and what to do, and names only labels that are there."""
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len(rules) >= 5
    for rule in rules:
        assert used(rule["expr"]), rule
        assert used(rule["expr"]) <= set(exported) | FOREIGN, rule
        assert rule["labels"]["severity"] in ("warning", "info")
        assert len(rule["annotations"]["summary"]) > 20
        assert len(rule["annotations"]["description"]) > 60
        labels = set().union(*(exported.get(name, set()) for name in used(rule["expr"]))) | {"instance", "file"}
        text = rule["expr"] + rule["annotations"]["summary"] + rule["annotations"]["description"]
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels, rule
        assert set(re.findall(r"(\w+)=~?\"", rule["expr"])) <= labels, rule


def test_the_dashboard_is_of_what_is_exported(exported: dict[str, set[str]]) -> None:
    """It is JSON, its panels do not lie on one another, and each asks for metrics that are there."""
    dashboard = orjson.loads(DASHBOARD.read_bytes())
    assert dashboard["title"]
    assert dashboard["uid"]
    panels = dashboard["panels"]
    assert len({one["id"] for one in panels}) == len(panels) >= 5
    places = [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in panels]
    assert len(set(places)) == len(places)
    for panel in panels:
        for target in panel["targets"]:
            assert used(target["expr"]), target
            assert used(target["expr"]) <= set(exported), target


def test_every_metric_is_documented(exported: dict[str, set[str]]) -> None:
    """docs/metrics.md has a row for each family and none besides; options.md knows the option, and each alert is explained."""
    text = (ROOT / "docs/metrics.md").read_text()
    families = {re.sub(r"(?<=seconds)_(bucket|sum|count)$", "", name) for name in exported}
    assert set(re.findall(r"^\| `(cni_reaper_\w+)", text, re.MULTILINE)) == families
    for outcome in OUTCOMES:
        assert f"`{outcome}`" in text
    for rule in (rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]):
        assert f"`{rule['alert']}`" in text
    assert "| `metricsFile` |" in (ROOT / "docs/options.md").read_text()
