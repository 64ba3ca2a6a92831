"""`cni-reaper reap`: one sweep now, in the words of the log; with --force, UNKNOWN owners too, after a question."""

import contextlib
import signal
import sys

from rich.prompt import Confirm

from cni_reaper_plugin import reap, store, sweep
from cni_reaper_plugin.clock import Budget
from cni_reaper_plugin.events import Log
from cni_reaper_plugin.facts import ALL, Call, Reservation, Settings, SkippedError, StrandedError
from cni_reaper_plugin.operator import terminal
from cni_reaper_plugin.operator.inspection import UNPROVEN, VERDICTS, Inspected, inspect, own_call
from cni_reaper_plugin.operator.scope import Scope, Target
from cni_reaper_plugin.pool import PoolError

SWEPT, TROUBLE, REFUSED, INTERRUPTED = 0, 1, 2, 130
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
        self.stopped = False
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
        self.tell("%s  %s" % (event, told))

    def stop(self) -> None:
        """Note that the person wants it to end."""
        self.stopped = True

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
        targets = _wanted(scope)
    except (OSError, PoolError) as e:
        _complain(str(e))
        return TROUBLE
    counts = {"would be freed" if dry_run else "freed": 0}
    trouble = call.may_reap != ALL
    for target in targets:
        if target.settings.dry_run and not dry_run:
            _complain("network %s: its entry says dryRun, so nothing is freed: take that out first" % target.network)
        target.settings.dry_run |= dry_run
        log = _Told(target.settings.log_file)
        agreed = _reap(target, call, log, force=force, ask=not yes)
        came = "would be freed" if target.settings.dry_run else "freed"
        counts[came] = counts.get(came, 0) + log.reaped
        trouble = trouble or log.trouble
        if not agreed:
            _complain(
                "answered with no: nothing but what was stale was freed, and the networks behind %s were not looked at"
                % target.network
            )
            return REFUSED
        if log.stopped:
            return INTERRUPTED
    if call.may_reap != ALL:
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
            "left out, since no conflist here has a cni-reaper entry for them and no record exists: %s; --network NAME sweeps one"
            % ", ".join(others)
        )
    return ours


def _reap(target: Target, call: Call, log: _Told, *, force: bool, ask: bool) -> bool:
    """Reap one network and say what is left. Returns False when the person has said no."""
    if target.problems:
        _complain("network %s: nothing is freed with wrong options: %s" % (target.network, "; ".join(target.problems)))
        log.trouble = True
    if target.problems or not call.may_reap:
        return True
    settings = target.settings
    settings.networks, settings.budget_ms = [target.network], int(LIMIT_S * 1000)
    with _to_its_end(log):
        _sweep(settings, call, log)
    left = _left(target, call, log)
    if left is not None and force and not log.stopped:
        if not _force(left, target, call, log, ask=ask):
            return False
        left = _left(target, call, log)
    if left is not None:
        log.tell("%s: left: %s" % (left.name, ", ".join("%d %s" % (left.count(verdict), verdict) for verdict in VERDICTS)))
    return True


@contextlib.contextmanager
def _to_its_end(log: _Told) -> "Iterator[None]":
    """Note SIGINT and SIGTERM instead of being ended by them: what is removed is reported first."""
    old = {number: signal.signal(number, lambda *_: log.stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _left(target: Target, call: Call, log: _Told) -> Inspected | None:
    """Look at what there is now; None, and trouble, when that cannot be done."""
    try:
        return inspect(target.network, None, call, target.settings, lambda _: None)
    except FileNotFoundError:
        _complain("network %s has no directory in %s" % (target.network, target.settings.data_dir))
    except (OSError, SkippedError, StrandedError) as e:
        _complain("network %s: %s" % (target.network, e))
    log.trouble = True
    return None


def _sweep(settings: Settings, person: Call, log: _Told) -> None:
    """Sweep a network as a call of the runtime would, again as long as that is cut off and gets on."""
    while True:
        call = Call(sweep.PERSON)
        call.view, call.may_reap = person.view, person.may_reap
        log.cut, before = False, log.reaped
        sweep.run(call, settings, log, lambda: None, LIMIT_S)
        if not log.cut or log.reaped == before or log.stopped:
            return


def _force(found: Inspected, target: Target, call: Call, log: _Told, *, ask: bool) -> bool:
    """Free whose owner nobody knows, if the person says so. Returns whether the answer was yes."""
    if call.may_reap != ALL:
        return True
    if not target.knows_its_records:
        _complain("network %s: --force wants one entry of ours in its conflist, which says where the records are" % found.name)
        log.trouble = True
        return True
    rows = [row for row in found.rows if reap.may_be_forced(row.reservation, row.evidence, row.verdict)]
    if not rows:
        return True
    for row in rows:
        told = (row.reservation.address, row.reason, row.reservation.container_id or "no owner", terminal.age(row.age_s))
        log.tell("%s: %s" % (found.name, "  ".join(told)))
    if target.settings.dry_run:
        log.reaped += len(rows)
        return True
    if ask and not _agrees(len(rows)):
        return False
    with _to_its_end(log):
        _free(found.name, [row.reservation for row in rows], target.settings, call, log)
    return True


def _agrees(count: int) -> bool:
    """Ask the person; no answer is a no."""
    question = "Free these %d? Nobody knows whether their owners live; one that does loses its address" % count
    try:
        return Confirm.ask(question, console=terminal.console(), default=False)
    except (EOFError, OSError, SystemExit):
        return False


def _free(network: str, asked: list[Reservation], settings: Settings, call: Call, log: _Told) -> None:
    try:
        with store.Network(settings.data_dir, network) as directory:
            reap.force(directory, asked, call, settings, Budget(LIMIT_S, settings.budget_ms), log)
    except (OSError, SkippedError, StrandedError) as e:
        log.warning("sweep-skipped", network=network, reason=str(e))


def _complain(text: str) -> None:
    terminal.console(errors=True).print("cni-reaper reap: %s" % terminal.printable(text))


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
