"""`cni-reaper audit`: every reservation of a node, whose it is, and what a sweep would make of it. Changes nothing."""

import os
import sys
import time
from dataclasses import dataclass, field

import orjson
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cni_reaper_plugin.host_local.pool import PoolError
from cni_reaper_plugin.model import LIVE, STALE, SkippedError, StrandedError
from cni_reaper_plugin.notices import lifeless
from cni_reaper_plugin.operator import terminal
from cni_reaper_plugin.operator.inspect import published_ports
from cni_reaper_plugin.operator.inspect.inspection import UNPROVEN, VERDICTS, Holder, Inspected, inspect, own_call
from cni_reaper_plugin.operator.inspect.pool_map import around, pictures
from cni_reaper_plugin.operator.mend import broken_files
from cni_reaper_plugin.operator.mend.cache_census import Census
from cni_reaper_plugin.operator.scope import Scope

CLEAN, FOUND, WRONG = 0, 1, 2
"""Exit codes: nothing is stale; something is; something cannot be read, the store is wrong, or a published port leads astray."""
MOST_SHOWN = 512
MOST_NAMED = 8
MOST = 1 << 53  # what every reader of JSON takes
COLUMNS = ("ADDRESS", "VERDICT", "REASON", "POD", "CONTAINER", "IFNAME", "AGE")
LEGEND = "L live  S stale  ? unknown  . free  - never given"
_SHORT_ID = 13  # so much of an ID as tells containers apart for a person


@dataclass(frozen=True)
class Wanted:
    """How to show it. everything: also the LIVE ones of a large network; interval_s: look again so often, 0 for once."""

    as_json: bool
    draw: bool
    everything: bool
    interval_s: float


@dataclass
class Report:
    """One look at all networks, and at libcni's cache.

    astray: published ports that lead to an address which their container does not have; unseen: why some may be missing there,
    "" where none is; problems: why something could not be looked at, a sentence each.
    """

    networks: list[Inspected] = field(default_factory=list)
    astray: list[published_ports.Astray] = field(default_factory=list)
    unseen: str = ""
    problems: list[str] = field(default_factory=list)
    cache: Census = field(default_factory=Census)

    @property
    def exit_code(self) -> int:
        """CLEAN, FOUND or WRONG."""
        if self.problems or self.astray or any(one.unreserved or one.doubles or one.outside for one in self.networks):
            return WRONG
        return FOUND if self.cache.broken or any(one.count(STALE) for one in self.networks) else CLEAN


def run(scope: Scope, wanted: Wanted) -> int:
    """Print the audit, again and again if that is wanted, and return the exit code of the last one."""
    if not wanted.interval_s:
        report = look(scope)
        _print(report, wanted)
        return report.exit_code
    return _watch(scope, wanted)


def look(scope: Scope) -> Report:
    """Look at every network once."""
    published = published_ports.Published(scope.conf_dirs, [])
    report = Report(unseen=published.trouble)
    try:
        call, targets = own_call(), scope.targets()
    except (OSError, PoolError) as e:
        report.problems.append(str(e) if os.geteuid() == 0 else f"run it as root on the host: {e}")
        return report
    stores = sorted({(target.settings.data_dir, target.settings.state_dir) for target in targets if not target.is_missing})
    with terminal.progress() as progress:
        for target in targets:
            report.problems += target.problems
            task = progress.add_task(target.network, total=None)
            try:
                found = inspect(
                    target.network,
                    target.pool,
                    call,
                    target.settings,
                    lambda n, task=task: progress.advance(task, n),  # type: ignore[misc]
                    stores,
                )
                found.served = bool(target.state_dirs)
                report.networks.append(found)
            except FileNotFoundError:
                report.problems.append(f"network {target.network} has no directory in {target.settings.data_dir}")
            except (OSError, SkippedError, StrandedError) as e:
                report.problems.append(f"network {target.network}: {e}")
    rows = [row for one in report.networks for row in one.rows]
    living = {row.reservation.container_id for row in rows if row.verdict != STALE}
    report.cache = broken_files.census(scope.conf_dirs, None if scope.networks else living)
    report.problems += report.cache.trouble
    report.astray = published.astray(report.networks, not scope.networks and len(report.networks) == len(targets))
    if any(row.unproven for row in rows):
        report.problems.append(UNPROVEN)
    return report


def _watch(scope: Scope, wanted: Wanted) -> int:
    """Look again and again until the terminal's ^C; return the last exit code."""
    code = CLEAN
    console = terminal.console()
    try:
        if wanted.as_json or not sys.stdout.isatty():
            while True:
                report = look(scope)
                code = report.exit_code
                _print(report, wanted)
                sys.stdout.flush()
                time.sleep(wanted.interval_s)
        with Live(console=console, auto_refresh=False, screen=True) as live:
            while True:
                report = look(scope)
                code = report.exit_code
                live.update(Group(*_renderables(report, wanted, console)), refresh=True)
                time.sleep(wanted.interval_s)
    except KeyboardInterrupt:
        return code


def _print(report: Report, wanted: Wanted) -> None:
    if wanted.as_json:
        option = orjson.OPT_APPEND_NEWLINE | (0 if wanted.interval_s else orjson.OPT_INDENT_2)
        sys.stdout.write(orjson.dumps(terminal.printable_json(as_json(report)), option=option).decode())
        return
    console = terminal.console()
    for one in _renderables(report, wanted, console):
        console.print(one)
    errors = terminal.console(errors=True)
    for problem in [*report.problems, *([published_ports.UNSEEN % report.unseen] if report.unseen else [])]:
        errors.print(f"cni-reaper audit: {terminal.printable(problem)}")


def as_json(report: Report) -> dict[str, object]:
    """Return the report as docs/audit.schema.json describes it."""
    return {
        "networks": [
            {
                "name": one.name,
                **{verdict.lower(): one.count(verdict) for verdict in VERDICTS},
                "pool": None
                if one.pool is None
                else [{"size": min(size, MOST), "used": used} for size, used in zip(one.pool.sizes, one.used, strict=True)],
                "reservations": [
                    {
                        "address": row.reservation.address,
                        "container": row.reservation.container_id,
                        "ifname": row.reservation.ifname,
                        "pod": row.pod,
                        "ageSeconds": row.age_s,
                        "verdict": row.verdict,
                        "reason": row.reason.code,
                        "detail": row.reason.text,
                    }
                    for row in one.rows
                ],
                "outside": one.outside,
                "unreserved": _held(one.unreserved),
                "doubles": _held(one.doubles),
                "unaccounted": one.nobodys if one.waits else [],
                "lifeless": [{"address": address, "netns": place} for address, place in one.lifeless.items()],
            }
            for one in report.networks
        ],
        "cache": broken_files.as_json(report.cache),
        "published": [one.as_json() for one in report.astray],
        "publishedUnseen": report.unseen,
        "problems": report.problems,
    }


def _held(found: dict[str, list[Holder]]) -> list[dict[str, object]]:
    return [
        {"address": address, "holders": [{"netns": holder.place, "containers": list(holder.names)} for holder in holders]}
        for address, holders in found.items()
    ]


def _renderables(report: Report, wanted: Wanted, console: Console) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for one in report.networks:
        parts += _network(one, wanted, console)
    parts += [Text(terminal.printable(line)) for line in broken_files.lines(report.cache)]
    if not report.networks and not report.problems:
        parts.append(Text("no network has a reservation here"))
    for astray in report.astray:
        parts += [Text(terminal.printable(astray.what)), Text(f"  -> {terminal.printable(astray.advice)}")]
    return parts


def _network(one: Inspected, wanted: Wanted, console: Console) -> list[RenderableType]:
    rows = [row for row in one.rows if wanted.everything or len(one.rows) <= MOST_SHOWN or row.verdict != LIVE]
    parts: list[RenderableType] = []
    if rows and not (wanted.draw and not wanted.everything):
        shown = [
            (
                row.reservation.address,
                row.verdict,
                row.reason.text,
                row.pod or "-",
                row.reservation.container_id[: None if wanted.everything else _SHORT_ID] or "-",
                row.reservation.ifname or "-",
                terminal.age(row.age_s),
            )
            for row in rows
        ]
        parts += [terminal.table(COLUMNS, shown, COLUMNS.index("VERDICT")), Text()]
    if wanted.draw:
        parts += _drawn(one, console)
    if not wanted.draw and len(rows) < len(one.rows):
        parts.append(Text("%d LIVE ones are not shown: --all shows them" % (len(one.rows) - len(rows))))
    parts += [Text(line) for line in _summary(one)]
    return [*parts, Text()]


def _drawn(one: Inspected, console: Console) -> list[RenderableType]:
    verdicts = {row.evidence.packed: row.verdict for row in one.rows if row.evidence.packed}
    pool = one.pool or around(list(verdicts))
    parts: list[RenderableType] = []
    for picture in pictures(pool, verdicts):
        widest = max(len(first) for first, _ in picture.lines)
        step = 64 if console.width >= widest + 66 else 32
        for first, letters in picture.lines:
            for start in range(0, len(letters), step):
                label = first if not start else ""
                parts.append(Text(label.rjust(widest) + "  ").append_text(terminal.letters(letters[start : start + step])))
        parts.append(Text(f"{LEGEND}{'' if picture.each == 1 else '  (each letter: %d addresses, the worst)' % picture.each}"))
    if one.pool is None and verdicts:
        parts.append(Text("which addresses the network can give is in no conflist here: --subnet CIDR tells"))
    return [*parts, Text()] if parts else parts


def _summary(one: Inspected) -> list[str]:
    told = ", ".join("%d %s" % (one.count(verdict), verdict) for verdict in VERDICTS)
    use = ""
    if one.pool is not None:
        sets = zip(one.used, one.pool.sizes, strict=True)
        use = f"; {' and '.join('%d of %d' % pair for pair in sets)} addresses in use"
    lines = ["%s: %d reservations: %s%s" % (one.name, len(one.rows), told, use)]
    if one.waits:
        lines.append(
            "%s: %d UNKNOWN are kept because one of these network namespaces may be their owner's: %s. They are freed when these "
            "have ended, or graceSeconds after a sweep first saw them. Sooner, if you know that the pods are gone: "
            "cni-reaper reap --force" % (one.name, one.waits, terminal.printable(", ".join(one.inhabited[:MOST_NAMED])))
        )
    if one.lifeless:
        lines.append(f"{one.name}: {terminal.printable(lifeless_text(one))}")
    if one.count(STALE) and not one.served:
        lines.append(f"{one.name}: no conflist here has cni-reaper for this network, so no ADD frees them: cni-reaper doctor")
    if one.outside:
        lines.append(f"{one.name}: reserved, but outside the network's range: {', '.join(one.outside)}")
    for address, holders in one.unreserved.items():
        lines.append(f"{one.name}: {address} is in use without a reservation, host-local can give it again: {_told(holders)}")
    for address, holders in one.doubles.items():
        lines.append(f"{one.name}: {address} is in use by another than its owner: {_told(holders)}")
    return lines


def lifeless_text(one: Inspected) -> str:
    """Return how many addresses netns without life hold, the first of them, and what to do."""
    address, place = next(iter(one.lifeless.items()))
    return "LIVE in network namespaces in which no process runs, and that no runtime names: %d, the first is %s, in %s; %s" % (
        len(one.lifeless),
        address,
        place,
        lifeless.ADVICE,
    )


def _told(holders: list[Holder]) -> str:
    return "; ".join(
        terminal.printable("{}{}".format(holder.place or "a netns", f" ({', '.join(holder.names)})" if holder.names else ""))
        for holder in holders
    )
