"""`cni-reaper reap`: one sweep now, in the words of the log; with --force, UNKNOWN owners too, after a question."""

from __future__ import annotations

import sys

from rich.prompt import Confirm

from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.host_local import store
from cni_reaper_plugin.host_local.pool import PoolError
from cni_reaper_plugin.model import ALL, NOTHING, UNKNOWN, Call, Judged, SkippedError, StrandedError
from cni_reaper_plugin.network_sweep import NetworkSweep, Result
from cni_reaper_plugin.operator import interruption, terminal
from cni_reaper_plugin.operator.conflists import runtimes
from cni_reaper_plugin.operator.inspect.inspection import UNPROVEN, VERDICTS, Inspected, inspect, own_call
from cni_reaper_plugin.operator.mend import mend
from cni_reaper_plugin.operator.scope import Scope, Target
from cni_reaper_plugin.reaper import reap_network, report, sweep
from cni_reaper_plugin.system.clock import Budget

SWEPT, TROUBLE, REFUSED, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""
LIMIT_S = 120.0
_WHY = "; `cni-reaper audit` says why they are UNKNOWN"


class _Told(Log):
    """A log whose warnings the person sees, too. trouble: there was one, or something else went wrong."""

    def __init__(self, log_file: str) -> None:
        super().__init__("info", log_file)
        self.trouble = False
        self.stopped = False
        self._console = terminal.console()

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        super()._write(level, event, fields)
        if level in ("warning", "error"):
            self.trouble = True
            self.tell_of(event, fields)

    def stop(self) -> None:
        """Note that the person wants it to end."""
        self.stopped = True

    def tell_of(self, event: str, fields: dict[str, object]) -> None:
        """Print an event in the words of the log."""
        self.tell("{}  {}".format(event, "  ".join("{}={}".format(*one) for one in fields.items() if one[1] not in (None, ""))))

    def tell(self, text: str) -> None:
        """Print a line. Raises nothing: what was freed must be in the log, whether or not somebody reads this."""
        try:
            self._console.print(terminal.printable(text))
        except (OSError, SystemExit):  # rich's answer to a reader who has gone
            self.trouble = True


def run(scope: Scope, *, dry_run: bool, force: bool, yes: bool) -> int:
    """Sweep each network once, say what came of it, and return the exit code."""
    if force and not (yes or dry_run) and not sys.stdin.isatty():
        _complain("--force asks before it frees anything, and there is no terminal to ask on: add --yes")
        return REFUSED
    try:
        call = own_call()
        call.environment = runtimes.environment(scope.conf_dirs, [])
        targets = _wanted(scope)
    except (OSError, PoolError) as e:
        _complain(str(e))
        return TROUBLE
    counts = {"would be freed" if dry_run else "freed": 0}
    trouble = call.may_reap is not ALL
    for target in targets:
        if target.settings.dry_run and not dry_run:
            _complain(f"network {target.network}: its entry says dryRun, so nothing is freed: take that out first")
        target.settings.dry_run |= dry_run
        log = _Told(target.settings.log_file)
        agreed, count = _reap(target, call, log, force=force, ask=not yes)
        came = "would be freed" if target.settings.dry_run else "freed"
        counts[came] = counts.get(came, 0) + count
        trouble = trouble or log.trouble
        if not agreed:
            _complain(
                f"answered with no: nothing but what was stale was freed, "
                f"and the networks behind {target.network} were not looked at"
            )
            return REFUSED
        if log.stopped:
            return INTERRUPTED
    trouble |= mend.beside_a_sweep(scope.conf_dirs, dry_run=dry_run)
    if call.may_reap is not ALL:
        _complain(UNPROVEN)
    _Told("").tell(", ".join("%d %s" % (count, came) for came, count in counts.items()))
    return TROUBLE if trouble else SWEPT


def _wanted(scope: Scope) -> list[Target]:
    """Return the networks to sweep: those that were named, else those that are cni-reaper's; say which are left out.

    Another program can keep its addresses in the same store, of machines that have no netns at all. Raises OSError, PoolError.
    """
    targets = scope.targets()
    if scope.networks:
        return targets
    ours = [target for target in targets if target.is_ours]
    others = [target.network for target in targets if target not in ours]
    if others:
        _complain(
            f"left out, since no conflist here has a cni-reaper entry for them and no record exists: "
            f"{', '.join(others)}; --network NAME sweeps one"
        )
    return ours


def _reap(target: Target, call: Call, log: _Told, *, force: bool, ask: bool) -> tuple[bool, int]:
    """Reap one network and say what is left. Returns whether the person has not said no, and how many are freed, or would be."""
    if target.problems:
        _complain(f"network {target.network}: nothing is freed with wrong options: {'; '.join(target.problems)}")
        log.trouble = True
    if target.problems or call.may_reap is NOTHING:
        return True, 0
    settings = target.settings
    settings.networks, settings.budget_ms = [target.network], int(LIMIT_S * 1000)
    with interruption.noted(log.stop):
        count = _sweep(target, call, log)
    left = _left(target, call, log)
    if left is not None and force and not log.stopped:
        forced = _force(left, target, call, log, ask=ask)
        if forced is None:
            return False, count
        count += forced
        left = _left(target, call, log)
    if left is not None:
        counts = ", ".join("%d %s" % (left.count(verdict), verdict) for verdict in VERDICTS)
        log.tell(f"{left.name}: left: {counts}{_WHY if left.count(UNKNOWN) else ''}")
    return True, count


def _left(target: Target, call: Call, log: _Told) -> Inspected | None:
    """Look at what there is now; None, and trouble, when that cannot be done."""
    try:
        return inspect(target.network, None, call, target.settings, lambda _: None)
    except FileNotFoundError:
        _complain(f"network {target.network} has no directory in {target.settings.data_dir}")
    except (OSError, SkippedError, StrandedError) as e:
        _complain(f"network {target.network}: {e}")
    log.trouble = True
    return None


def _sweep(target: Target, person: Call, log: _Told) -> int:
    """Sweep a network as a call of the runtime would, again while that is cut off and gets on; return how many were freed."""
    count = 0
    while True:
        call = Call(sweep.PERSON)
        call.view, call.may_reap, call.environment = person.view, person.may_reap, person.environment
        results = sweep.run(call, target.settings, log, lambda: None, Budget(LIMIT_S, target.settings.budget_ms))
        got_on = sum(_tell_freed(result, log) for result in results)
        count += got_on
        if not got_on or log.stopped or not any(result.cut for result in results):
            return count


def _tell_freed(result: Result, log: _Told) -> int:
    """Print what a sweep has freed, or would have but for a dry run; return how many that is."""
    for event, those in (("reaped", result.freed), ("would-reap", result.would_free.values())):
        for one in those:
            log.tell_of(event, report.of_freed(one))
    return len(result.freed) + len(result.would_free)


def _force(found: Inspected, target: Target, call: Call, log: _Told, *, ask: bool) -> int | None:
    """Free whose owner nobody knows, if the person says so. Returns how many, None where the answer was no."""
    if call.may_reap is not ALL:
        return 0
    if not target.knows_its_records:
        _complain(f"network {found.name}: --force wants one entry of ours in its conflist, which says where the records are")
        log.trouble = True
        return 0
    rows = [row for row in found.rows if reap_network.may_be_forced(row.judged)]
    if kept := found.count(UNKNOWN) - len(rows):
        log.tell(
            "%s: %d UNKNOWN stay: --force frees none that was made in the last two minutes or may be in use" % (found.name, kept)
        )
    if not rows:
        return 0
    for row in rows:
        told = (row.reservation.address, row.reason.text, row.reservation.container_id or "no owner", terminal.age(row.age_s))
        log.tell(f"{found.name}: {'  '.join(told)}")
    if target.settings.dry_run:
        return len(rows)
    if ask and not _agrees(len(rows)):
        return None
    with interruption.noted(log.stop):
        return _free(found.name, [row.judged for row in rows], target, call, log)


def _agrees(count: int) -> bool:
    """Ask the person; no answer is a no."""
    question = "Free these %d? Nobody knows whether their owners live; one that does loses its address" % count
    try:
        return Confirm.ask(question, console=terminal.console(), default=False)
    except (EOFError, OSError, SystemExit):
        return False


def _free(network: str, asked: list[Judged], target: Target, call: Call, log: _Told) -> int:
    settings, result = target.settings, Result(network)
    try:
        with store.Network(settings.data_dir, network) as directory:
            forced = NetworkSweep(directory, call, settings, Budget(LIMIT_S, settings.budget_ms), log, result)
            reap_network.force(forced, [one.reservation for one in asked])
    except (OSError, SkippedError, StrandedError) as e:
        log.warning("sweep-skipped", network=network, reason=str(e))
    return _tell_freed(result, log)


def _complain(text: str) -> None:
    terminal.console(errors=True).print(f"cni-reaper reap: {terminal.printable(text)}")
