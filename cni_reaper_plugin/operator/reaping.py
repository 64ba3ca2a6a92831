"""`cni-reaper reap`: one sweep now, in the words of the log; with --force, UNKNOWN owners too, after a question."""

import sys

from rich.prompt import Confirm

from cni_reaper_plugin import reap, store, sweep
from cni_reaper_plugin.clock import Budget
from cni_reaper_plugin.events import Log
from cni_reaper_plugin.facts import Call, Settings
from cni_reaper_plugin.first_look import SkippedError
from cni_reaper_plugin.operator import terminal
from cni_reaper_plugin.operator.inspection import UNPROVEN, VERDICTS, Inspected, inspect, own_call
from cni_reaper_plugin.operator.scope import Scope, Target
from cni_reaper_plugin.pool import PoolError

REAP = "REAP"
SWEPT, TROUBLE, REFUSED = 0, 1, 2
"""Exit codes."""
LIMIT_S = 120.0
_DONE = ("reaped", "would-reap")


class _Told(Log):
    """A log that also tells the person. trouble: something was a warning; reaped: how many were, or would have been."""

    def __init__(self, log_file: str) -> None:
        super().__init__("info", log_file)
        self.trouble = False
        self.reaped = 0
        self.cut = False
        self._console = terminal.console()

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        super()._write(level, event, fields)
        self.cut = self.cut or event == "sweep-cut"
        if level in ("warning", "error"):
            self.trouble = True
        elif event not in _DONE:
            return  # who is kept is told at the end
        self.reaped += event in _DONE
        told = "  ".join("%s=%s" % (key, value) for key, value in fields.items() if value not in (None, ""))
        self._console.print(terminal.printable("%s  %s" % (event, told)))


def run(scope: Scope, *, dry_run: bool, force: bool, yes: bool) -> int:
    """Sweep each network once, say what came of it, and return the exit code."""
    if force and not (yes or dry_run) and not sys.stdin.isatty():
        _complain("--force asks before it frees anything, and there is no terminal to ask on: add --yes")
        return REFUSED
    try:
        call, targets = own_call(), scope.targets()
    except (OSError, PoolError) as e:
        _complain(str(e))
        return TROUBLE
    reaped, trouble = 0, call.may_reap != "all"
    for target in targets:
        target.settings.dry_run = dry_run
        log = _Told(target.settings.log_file)
        if not _reap(target, call, log, force=force, ask=not yes):
            return REFUSED
        reaped, trouble = reaped + log.reaped, trouble or log.trouble
    if call.may_reap != "all":
        _complain(UNPROVEN)
    terminal.console().print("%d %s" % (reaped, "would be freed" if dry_run else "freed"))
    return TROUBLE if trouble else SWEPT


def _reap(target: Target, call: Call, log: _Told, *, force: bool, ask: bool) -> bool:
    """Reap one network and say what is left. Returns False when the person has said no."""
    if target.problems:
        _complain("network %s: nothing is freed with wrong options: %s" % (target.network, "; ".join(target.problems)))
        log.trouble = True
        return True
    settings = target.settings
    settings.networks, settings.budget_ms = [target.network], int(LIMIT_S * 1000)
    _sweep(settings, call, log)
    left = _left(target, call, log)
    if left is not None and force:
        if not _force(left, settings, call, log, ask=ask):
            return False
        left = _left(target, call, log)
    if left is not None:
        told = ", ".join("%d %s" % (left.count(verdict), verdict) for verdict in VERDICTS)
        terminal.console().print("%s: left: %s" % (left.name, told))
    return True


def _left(target: Target, call: Call, log: _Told) -> Inspected | None:
    """Look at what there is now; None, and trouble, when that cannot be done."""
    try:
        return inspect(target.network, None, call, target.settings, lambda _: None)
    except (OSError, SkippedError) as e:
        _complain("network %s: %s" % (target.network, e))
        log.trouble = True
        return None


def _sweep(settings: Settings, person: Call, log: _Told) -> None:
    """Sweep a network as a call of the runtime would, again as long as that is cut off and gets on."""
    while True:
        call = Call(REAP)
        call.view, call.may_reap = person.view, person.may_reap
        log.cut, before = False, log.reaped
        sweep.run(call, settings, log, lambda: None, LIMIT_S)
        if not log.cut or log.reaped == before:
            return


def _force(found: Inspected, settings: Settings, call: Call, log: _Told, *, ask: bool) -> bool:
    """Free whose owner nobody knows, if the person says so. Returns whether the answer was yes."""
    if call.may_reap != "all":
        return True
    rows = [row for row in found.rows if reap.may_be_forced(row.reservation, row.evidence, row.verdict)]
    if not rows:
        return True
    console = terminal.console()
    for row in rows:
        told = (row.reservation.address, row.reason, row.reservation.container_id or "no owner", terminal.age(row.age_s))
        console.print(terminal.printable("%s: %s" % (found.name, "  ".join(told))))
    if settings.dry_run:
        log.reaped += len(rows)
        return True
    question = "Free these %d? Nobody knows whether their owners live; one that does loses its address" % len(rows)
    if ask and not Confirm.ask(question, console=console, default=False):
        return False
    try:
        with store.Network(settings.data_dir, found.name) as directory:
            budget = Budget(LIMIT_S, settings.budget_ms)
            reap.force(directory, [row.reservation for row in rows], call, settings, budget, log)
    except store.LockTimeoutError:
        log.warning("sweep-skipped", network=found.name, reason="host-local's lock was held by others all the time")
    except (OSError, SkippedError) as e:
        log.warning("sweep-skipped", network=found.name, reason=str(e))
    return True


def _complain(text: str) -> None:
    terminal.console(errors=True).print("cni-reaper reap: %s" % terminal.printable(text))
