"""What sweeps do, counted over all calls: a Prometheus textfile (docs/metrics.md), for node_exporter to read.

    <metricsFile>         the text format; its last line is a comment, `# state` and Samples as JSON: all that is read back
    <metricsFile>.lock    flock: one process at a time reads, adds and writes; one byte for each call that did not get it in time

A call ends with its process, so the file is all that remembers. One that is missing, or not as we write it, is begun anew.
Imported when `metricsFile` is set. Nothing here may fail or delay the call: what cannot be counted is not.
"""

from __future__ import annotations

import fcntl
import posix
import time
from typing import TYPE_CHECKING

import orjson

from cni_reaper_plugin import __version__
from cni_reaper_plugin.network_sweep import CLEAN, OUTCOMES, REAPED, Result
from cni_reaper_plugin.reasons import ADDED_AGAIN, EMPTY, LEFT_BY_DEL, NETNS_GONE, NO_NETNS_LEFT, NOT_LISTED, REBOOTED, UNCLAIMED
from cni_reaper_plugin.system import files, flock

WAIT_S = 0.02  # for the lock: on a busy machine its holder may not be running just now
MOST_DROPPED = 1 << 20  # bytes of the lock file, in which each call that is not counted leaves one
BUCKETS_S = ("0.001", "0.002", "0.005", "0.02", "0.1", "0.5", "5", "+Inf")
REASONS = (REBOOTED, NETNS_GONE, EMPTY, NO_NETNS_LEFT, UNCLAIMED, NOT_LISTED, ADDED_AGAIN, LEFT_BY_DEL)
NODE = ""  # in the place of a network: what is counted for the whole node
CACHE_REMOVED = "cni_reaper_cache_removed_total"
DROPPED = "cni_reaper_dropped_total"
CACHE_KINDS = ("libcni", "flannel", "multus")
FAMILIES = (
    ("cni_reaper_reaped_total", "counter", "reason", "Reservations that were freed."),
    ("cni_reaper_would_reap_total", "counter", "reason", "Reservations that were kept for dryRun only, again in each sweep."),
    (CACHE_REMOVED, "counter", "kind", "Broken files of libcni's cache, of flannel and of multus that were removed."),
    (DROPPED, "counter", "", "Calls that are not counted, since others held the lock of the file."),
    ("cni_reaper_sweeps_total", "counter", "outcome", "Sweeps of the network."),
    ("cni_reaper_sweep_duration_seconds", "histogram", "le", "Wall time of a sweep, waiting for locks included."),
    (
        "cni_reaper_kept_unknown",
        "gauge",
        "",
        "Reservations whose owner nobody knew, at the last whole sweep.",
    ),
    (
        "cni_reaper_lifeless",
        "gauge",
        "",
        "Addresses that are held by network namespaces in which no process runs, at the last full scan.",
    ),
    ("cni_reaper_reservations", "gauge", "verdict", "Reservations that were left by the last whole sweep."),
    ("cni_reaper_pool_used", "gauge", "", "Addresses that were reserved after the last sweep."),
    ("cni_reaper_last_sweep_timestamp_seconds", "gauge", "", "When the last sweep was that was neither skipped nor failed."),
)
"""Name, type, label besides `network`, and help, in the order of the file."""

if TYPE_CHECKING:
    from cni_reaper_plugin.event_log import Log

Families = dict[str, dict[str, float]]
Samples = dict[str, Families]
"""Network -> name of a family -> value of its label, "" where it has none -> number. A histogram's sum is under `sum`."""

_STATE = b"\n# state "
_MODE = 0o644  # node_exporter runs as somebody else
_LIMIT = 1 << 22
_MALFORMED = (AttributeError, LookupError, TypeError, ValueError)


def now_s() -> float:
    """Return a time in seconds, of which only differences mean something."""
    return time.monotonic()


def save(path: str, results: list[Result], log: Log) -> None:
    """Add what sweeps have done to a file. Raises nothing: what cannot be counted is logged at `debug`."""
    counts: Samples = {}
    gauges: Samples = {}
    try:
        for result in results:
            counts[result.network] = _counts(result)
            if result.took_s is not None and result.listed is not None:
                gauges[result.network] = _gauges(result, result.listed)
        if counts:
            _update(path, {NODE: {}, **counts}, gauges)
    except Exception as e:  # noqa: BLE001  whatever it is, no pod fails for its being counted
        log.debug("not-counted", reason=str(e))


def save_removed(path: str, kinds: list[str], log: Log) -> None:
    """Count the broken files that were removed, in a file; as `save`. kinds: of CACHE_KINDS, one for each file."""
    try:
        _update(path, {NODE: {CACHE_REMOVED: {kind: kinds.count(kind) for kind in kinds}}}, {})
    except Exception as e:  # noqa: BLE001  as in `save`
        log.debug("not-counted", reason=str(e))


def _counts(result: Result) -> Families:
    """Return what is added to the counters of a network."""
    counts: Families = {"cni_reaper_sweeps_total": {result.outcome: 1}}
    if result.took_s is not None:
        counts["cni_reaper_sweep_duration_seconds"] = {bound: int(result.took_s <= float(bound)) for bound in BUCKETS_S}
        counts["cni_reaper_sweep_duration_seconds"]["sum"] = result.took_s
    for family, those in (("cni_reaper_reaped_total", result.freed), ("cni_reaper_would_reap_total", result.would_free.values())):
        for one in those:
            values = counts.setdefault(family, {})
            values[one.reason.code] = values.get(one.reason.code, 0) + 1
    return counts


def _gauges(result: Result, listed: int) -> Families:
    """Return how a network stands after a sweep that had `listed` reservations."""
    left, unknown = listed - len(result.freed), len(result.kept)
    stale = len(result.would_free) + len(result.refused) + len(result.published)
    gauges: Families = {
        "cni_reaper_last_sweep_timestamp_seconds": {"": time.time()},
        "cni_reaper_pool_used": {"": left},
    }
    if result.lifeless is not None:
        gauges["cni_reaper_lifeless"] = {"": result.lifeless}
    if result.outcome in (CLEAN, REAPED):
        gauges["cni_reaper_kept_unknown"] = {"": unknown}
        if result.judged:
            gauges["cni_reaper_reservations"] = {"live": max(0, left - unknown - stale), "stale": stale, "unknown": unknown}
    return gauges


def render(samples: Samples) -> bytes:
    """Return a file's content: Prometheus' text format, and what `parse` reads. Raises TypeError for numbers that are none."""
    networks = [(_escaped(network), families) for network, families in samples.items()]
    lines = []
    for name, kind, label, about in FAMILIES:
        lines.append("# HELP %s %s\n# TYPE %s %s" % (name, about, name, kind))
        for network, families in networks:
            values = families.get(name, {})
            if kind == "histogram" and values:
                lines += ['%s_bucket{network="%s",le="%s"} %d' % (name, network, key, values[key]) for key in BUCKETS_S]
                lines.append('%s_sum{network="%s"} %.9g' % (name, network, values["sum"]))
                lines.append('%s_count{network="%s"} %d' % (name, network, values["+Inf"]))
            elif label:
                for key, value in values.items():
                    of = 'network="%s",' % network if name != CACHE_REMOVED else ""
                    lines.append('%s{%s%s="%s"} %d' % (name, of, label, _escaped(key), value))
            elif values and name == DROPPED:
                lines.append("%s %d" % (name, values[""]))
            elif values:
                lines.append('%s{network="%s"} %.15g' % (name, network, values[""]))
    lines.append("# HELP cni_reaper_build_info 1, of the version that has written this.\n# TYPE cni_reaper_build_info gauge")
    lines.append('cni_reaper_build_info{version="%s"} 1' % _escaped(__version__))
    return "\n".join(lines).encode("utf-8", "replace") + _STATE + orjson.dumps(samples) + b"\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def parse(data: bytes) -> Samples:
    """Return the samples of what `render` has written. Raises ValueError when that is not the end of it."""
    samples: Samples = orjson.loads(data.rpartition(_STATE)[2])
    return samples


def add(samples: Samples, counts: Samples) -> None:
    """Add counts to samples. Raises AttributeError or TypeError when either is something else."""
    for network, families in counts.items():
        if network == NODE:
            samples.setdefault(NODE, {CACHE_REMOVED: dict.fromkeys(CACHE_KINDS, 0)})
        elif network not in samples:  # Prometheus sees an increase from 0 to 1, but none from nothing to 1
            samples[network] = {
                "cni_reaper_reaped_total": {reason.code: 0 for reason in REASONS},
                "cni_reaper_sweeps_total": dict.fromkeys(OUTCOMES, 0),
                "cni_reaper_lifeless": {"": 0},
            }
        for family, values in families.items():
            known = samples[network].setdefault(family, {})
            for key, more in values.items():
                known[key] = known.get(key, 0) + more


def _update(path: str, counts: Samples, gauges: Samples) -> None:
    """Add counts to a file and set its gauges, when no other call holds its lock for WAIT_S.

    Raises OSError; TimeoutError without the lock: the counts are dropped, and the next call that has it says of how many calls.
    """
    parent, _, name = path.rpartition("/")
    directory = posix.open(parent or "/", files.DIRECTORY)
    try:
        lock = flock.open_lock(name + ".lock", 0o600, directory, writable=True)
        try:
            if not flock.take(lock, fcntl.LOCK_EX, WAIT_S):
                _drop(lock)
                raise TimeoutError("others hold the lock of %s" % path)
            gauges = {**gauges, NODE: {DROPPED: {"": posix.fstat(lock).st_size}}}
            try:
                content = _content(parse(files.read(name, directory, _LIMIT, posix.O_NOFOLLOW)), counts, gauges)
            except (OSError, *_MALFORMED):
                content = _content({}, counts, gauges)
            files.replace(name, content, directory, _MODE)
        finally:
            posix.close(lock)
    finally:
        posix.close(directory)


def _drop(lock: int) -> None:
    """Leave a byte at the end of the lock file. To append one needs no lock, so its size is a counter of its own."""
    if posix.fstat(lock).st_size < MOST_DROPPED:
        fcntl.fcntl(lock, fcntl.F_SETFL, posix.O_APPEND | posix.O_NONBLOCK)
        posix.write(lock, b".")


def _content(samples: Samples, counts: Samples, gauges: Samples) -> bytes:
    add(samples, counts)
    for network, families in gauges.items():
        samples[network].update(families)
    return render(samples)
