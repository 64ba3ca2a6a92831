"""`cni-reaper mend`: remove the broken files that keep pods from ending, and free what needs no pod to be proven dead.

A systemd unit and `install --watch` call it as well: after a power cut no pod can end, so none starts, and no ADD comes.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from cni_reaper_plugin import metrics
from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.mend import look as mend
from cni_reaper_plugin.mend.places import FLANNEL, MULTUS, Place, places
from cni_reaper_plugin.operator import interruption, terminal
from cni_reaper_plugin.operator.mend import cache_places, first_sweep
from cni_reaper_plugin.system.clock import Budget

MENDED, TROUBLE, INTERRUPTED = 0, 1, 130
"""Exit codes."""
LOCK_WAIT_S = 5.0  # for another process that looks; a look takes milliseconds
LIMIT_S = 10.0  # of one look: at boot the kubelet waits for it; the next one goes on where it was cut
LONGEST_WAIT_S = 60.0
AGAIN_S = 0.2  # what a file that waits is given beyond its time
_CPU_MS = 10_000

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_reaper_plugin.mend.broken import Broken
    from cni_reaper_plugin.operator.mend.first_sweep import Freed


@dataclass
class Outcome:
    """What a run has done.

    Attributes:
        removed: files that were removed.
        waiting: broken files that were written too short a time ago to be removed.
        freed: (network, address, reason) of each reservation that was freed.
        dry_run: whether nothing was removed or freed, and all of this is what would be.
        notes: why something is left alone on purpose, a sentence each.
        problems: what could not be done, a sentence each.
    """

    removed: list[Broken] = field(default_factory=list)
    waiting: list[Broken] = field(default_factory=list)
    freed: list[Freed] = field(default_factory=list)
    dry_run: bool = False
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def wait_s(self) -> float:
        """In how many seconds the last of the waiting files can be removed, 0 where none waits."""
        return max((one.wait_s for one in self.waiting), default=0.0)


def run(conf_dirs: list[str], *, dry_run: bool, wait: bool, as_json: bool) -> int:
    """Mend, say what came of it, and return the exit code.

    conf_dirs: where conflists are, [] for where the runtimes of this node look; wait: stay until no file has to wait any more,
    LONGEST_WAIT_S at most.
    """
    end = time.monotonic() + LONGEST_WAIT_S
    removed: list[Broken] = []
    freed: list[Freed] = []
    ended: list[bool] = []
    while True:
        with interruption.noted(lambda: ended.append(True)):
            outcome = once(conf_dirs, dry_run=dry_run)
        removed += outcome.removed
        freed += outcome.freed
        left_s = end - time.monotonic()
        if not wait or not outcome.waiting or outcome.dry_run or ended or left_s <= 0:
            break
        time.sleep(min(left_s, outcome.wait_s + AGAIN_S))
    outcome.removed, outcome.freed = removed, freed
    _print_json(outcome) if as_json else _print(outcome)
    if ended:
        return INTERRUPTED
    return TROUBLE if outcome.problems else MENDED


def once(conf_dirs: list[str], *, dry_run: bool = False) -> Outcome:
    """Mend once, and return what was done. Raises nothing that a node can be the cause of."""
    told = cache_places.told(conf_dirs)
    outcome = Outcome(dry_run=dry_run or bool(told.dry_run))
    _files(told, outcome, is_asked=dry_run)
    outcome.freed, problems = first_sweep.free(conf_dirs, dry_run=dry_run)
    outcome.problems += problems
    return outcome


def _files(told: cache_places.Told, outcome: Outcome, *, is_asked: bool) -> None:
    """Remove broken files, or note why that is not to be. is_asked: the person has asked for a dry run."""
    if told.problems:
        outcome.problems += [f"no file is removed with wrong options: {problem}" for problem in told.problems]
        return
    if told.switched_off:
        outcome.notes.append(f'{told.switched_off}: its entry says "cache": false, so no file is removed')
        return
    if told.dry_run and not is_asked:
        outcome.notes.append(f"{told.dry_run}: its entry says dryRun, so no file is removed")
    _look(told, outcome)


def beside_a_sweep(conf_dirs: list[str], *, dry_run: bool) -> bool:
    """Remove broken files after a person's sweep, say what was removed, and return whether something went wrong."""
    told = cache_places.told(conf_dirs)
    outcome = Outcome(dry_run=dry_run or bool(told.dry_run))
    _files(told, outcome, is_asked=dry_run)
    console, errors = terminal.console(), terminal.console(errors=True)
    for line in (*done(outcome), *_waits_and_what_to_do(outcome)):
        console.print(terminal.printable(line), soft_wrap=True)
    for problem in outcome.problems:
        errors.print(f"cni-reaper reap: {terminal.printable(problem)}", soft_wrap=True)
    return bool(outcome.problems)


def found_places(told: cache_places.Told) -> list[Place]:
    """Return where the conflists of a node have files that can be broken."""
    scratch = [*((FLANNEL, one) for one in told.flannel_dirs), *((MULTUS, one) for one in told.multus_dirs)]
    return places(told.cache_dirs, scratch)


def _look(told: cache_places.Told, outcome: Outcome) -> None:
    """Look at the files, and count what is removed for `metricsFile`."""
    log = Log(told.settings.log_level, told.settings.log_file)
    result = mend.look(
        found_places(told),
        log,
        dry_run=outcome.dry_run,
        budget=Budget(LIMIT_S, _CPU_MS),
        networks=told.networks,
        lock_wait_s=LOCK_WAIT_S,
    )
    if told.settings.metrics_file and result.removed and not outcome.dry_run:
        metrics.save_removed(told.settings.metrics_file, [one.kind for one in result.removed], log)
    outcome.removed, outcome.waiting = result.removed, result.waiting
    outcome.problems += [f"{one.path} cannot be removed: {one.reason}" for one in result.kept]
    outcome.problems += result.trouble
    if not result.is_whole:
        outcome.notes.append("another process looks at the files just now, or time was up: not all were looked at")


def done(outcome: Outcome) -> Iterator[str]:
    """Yield what was done, a line each; nothing where there was nothing to do."""
    would = "would be " if outcome.dry_run else ""
    for one in outcome.removed:
        yield f"{would}removed  {_in_words(one)}"
    for network, address, reason in outcome.freed:
        yield f"{would}freed  network={network}  address={address}  reason={reason}"


def waits(outcome: Outcome) -> Iterator[str]:
    """Yield which files have to wait, and for what, a line each."""
    for one in outcome.waiting:
        yield f"waits  {_in_words(one)}: {one.reason}"


def _waits_and_what_to_do(outcome: Outcome) -> Iterator[str]:
    yield from waits(outcome)
    if outcome.waiting:
        yield "to remove these as soon as they may be: cni-reaper mend --wait"


def _in_words(one: Broken) -> str:
    """Return a broken file, what is wrong with it, and whose it is."""
    whose = "  ".join("{}={}".format(*pair) for pair in (("network", one.network), ("container", one.container_id)) if pair[1])
    return "%s (%s, %d bytes)  %s" % (one.path, one.cause, one.size, whose)


def _print(outcome: Outcome) -> None:
    console, errors = terminal.console(), terminal.console(errors=True)
    would = "would be " if outcome.dry_run else ""
    counts = "%d %sremoved, %d waiting, %d %sfreed" % (
        len(outcome.removed),
        would,
        len(outcome.waiting),
        len(outcome.freed),
        would,
    )
    for line in (*outcome.notes, *done(outcome), *_waits_and_what_to_do(outcome), counts):
        console.print(terminal.printable(line), soft_wrap=True)
    for problem in outcome.problems:
        errors.print(f"cni-reaper mend: {terminal.printable(problem)}", soft_wrap=True)


def _print_json(outcome: Outcome) -> None:
    told = {
        "dryRun": outcome.dry_run,
        "removed": [one.fields() for one in outcome.removed],
        "waiting": [one.fields() for one in outcome.waiting],
        "freed": [{"network": network, "address": address, "reason": reason} for network, address, reason in outcome.freed],
        "notes": outcome.notes,
        "problems": outcome.problems,
    }
    sys.stdout.write(orjson.dumps(terminal.printable_json(told), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
