"""`cni-reaper uninstall`: our entry out of every conflist, then, when no runtime can call us any more, the rest of us.

In that order: whoever still calls an executable that is gone cannot delete its pods.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.operator.conflists.conflist import OURS
from cni_reaper_plugin.operator.executable import plugin_dir
from cni_reaper_plugin.operator.install import installation, plan, plugin_calls, presence, register, snapshot, state_removal
from cni_reaper_plugin.operator.install.outcome import TROUBLE, Outcome, problem_of
from cni_reaper_plugin.operator.install.register import InstallationError

SETTLE_S = 3.0  # containerd loads a conflist again at once, a watcher of ours puts the entry back within 2 s
LONGEST_CALL_S = 60.0  # that is waited for
MULTUS_S = 10.0  # its thin plugin makes its copy anew each second
_POLL_S = 0.1
_BACK = (
    "our entry is back: stop what puts it there (systemctl disable --now cni-reaper-install.path cni-reaper-install.timer "
    "cni-reaper-install.service, or apply the DaemonSet's uninstall overlay and delete it), and try again."
)
_COPIED = "multus has still a copy with us: restart its pod, and try again."
_RUNNING = (
    "%s: left there with its records: plugins still run for %s, and their runtime may call it once more. Wait for them, and run "
    "uninstall again."
)
_CALLED = (
    "%s: left there with its records: %d attachments were made with it in the chain, as %s%s has it, and CRI-O and multus call "
    "it once more when they end. Then: %s uninstall. Where neither of the two runs, or after a drain and a reboot: "
    "%s uninstall --purge"
)
_UNKNOWN = (
    "%s: left there with its records: nothing of a runtime is in %s, so whether one can still call it is not to be seen. In a "
    "container: run this on the node itself. On a node that has never started a pod: %s uninstall --purge"
)
_ELSEWHERE = "%s: left there with its records: our entry is in %s, or may be"
_ONLY = "%s: left there with its records: `uninstall` without --conflist removes them"

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_reaper_plugin.operator.install.changes import Removal
    from cni_reaper_plugin.operator.install.presence import Found
    from cni_reaper_plugin.operator.install.snapshot import Given, Snapshot


def run(given: Given, purge: bool, dry_run: bool) -> int:
    """Uninstall, say what was done, and return the exit code: 0 our entry is nowhere, 1 something could not be done."""
    outcome = Outcome()
    try:
        _run(given, purge, dry_run, outcome)
    except InstallationError as e:
        outcome.problems.append(str(e))
    return outcome.tell("uninstall", "nothing of it is here")


def _run(given: Given, purge: bool, dry_run: bool, outcome: Outcome) -> None:
    """Uninstall, and note what was done and what could not be. Raises InstallationError."""
    node = snapshot.take_all(given)
    found = presence.look(node)
    outcome.problems += [f"{path}: {why}" for path, why in found.unread.items()]
    outcome.problems += [f"{one}: there is no such file: name one that is there." for one in given.files if not _is_there(one)]
    if dry_run:
        _show(node, found, purge, outcome)
        return
    node.tidy()
    _each(plan.without_entries(node, found), lambda one: one.undo(), outcome)
    if not outcome.problems and outcome.done:
        _settle(node, outcome)
    if not outcome.problems:
        _remove_the_rest(node, found, purge, outcome)


def _is_there(path: str) -> bool:
    return os.path.isfile(path) or os.path.islink(path)


def _each(removals: list[Removal], act: Callable[[Removal], list[str]], outcome: Outcome) -> None:
    """Undo or show each of them, and note what was done and what could not be."""
    for removal in removals:
        try:
            outcome.done += act(removal)
        except TROUBLE as e:
            outcome.problems.append(problem_of(removal.path, e))


def _settle(node: Snapshot, outcome: Outcome) -> None:
    """Wait until the runtimes have loaded what we have written, and see that nobody puts our entry back.

    Raises InstallationError.
    """
    begun = time.monotonic()
    while True:
        found, waited = presence.look(node.again()), time.monotonic() - begun
        if not _is_out(found.paths, outcome) or (waited > SETTLE_S and not found.copies):
            return
        if waited > MULTUS_S:
            outcome.problems.append(f"{', '.join(found.copies)}: {_COPIED}")
            return
        time.sleep(_POLL_S)


def _remove_the_rest(node: Snapshot, found: Found, purge: bool, outcome: Outcome) -> None:
    """Forget the entries that are out; remove records, memory and executable, if nobody can call us; with `purge` in any case.

    Raises InstallationError.
    """
    bin_dirs = presence.with_us(node)
    if not bin_dirs and found.lists:
        outcome.done.append("no executable of ours is where runtimes look: after an install with --bin-dir, name it here as well")
    if not bin_dirs and not found.settings and not any(map(os.path.lexists, (register.DIRECTORY, proven_views.RUN_DIR))):
        return
    still = plugin_calls.wait_for(LONGEST_CALL_S) if bin_dirs else set()
    if still:
        outcome.problems.append(_RUNNING % (", ".join(map(plugin_dir.path_of, bin_dirs)), ", ".join(sorted(still))))
        return
    with installation.locked() as noted:
        _remove_under_lock(node.again(noted), found, purge, bin_dirs, outcome)


def _remove_under_lock(node: Snapshot, found: Found, purge: bool, bin_dirs: list[str], outcome: Outcome) -> None:
    """Do it, under the lock. node: as it is now; found: what there was. Raises InstallationError."""
    unread = presence.look(node).unread  # it could be read before
    if unread:
        outcome.problems += [f"{path}: {why}" for path, why in unread.items()]
        return
    elsewhere = presence.anywhere(node)
    if not _is_out([path for path in elsewhere if path in found.paths], outcome):
        return
    try:
        why = _why_left(node, found, purge, bin_dirs, elsewhere)
        if why:
            outcome.done += [why] if bin_dirs else []
        else:
            for removal in plan.without_records(found):
                outcome.done += removal.undo()
            state_removal.remove_memory()
            if _is_out(presence.anywhere(node.again()), outcome):
                for executable in plan.executables(bin_dirs):
                    outcome.done += executable.undo()
        if not outcome.problems:
            _forget(node, found, bin_dirs, elsewhere)
        if not outcome.problems and not why:
            installation.remove()
    except plugin_dir.TROUBLE as e:
        outcome.problems.append(plugin_dir.told(e, state_removal.CNI_DIR))


def _is_out(back: list[str], outcome: Outcome) -> bool:
    """Tell whether our entry has stayed out, and note where it has not. back: files that have it again."""
    if back:
        outcome.problems.append(f"{', '.join(back)}: {_BACK}")
    return not back


def _forget(node: Snapshot, found: Found, bin_dirs: list[str], elsewhere: list[str]) -> None:
    """Forget the entries that are out for good, and their options, without files given also those that a platform has taken out;
    not one that has been put back meanwhile. Raises InstallationError, OSError."""
    node.noted.take_over(bin_dirs)
    taken, back = {register.key(path) for path in found.paths}, {register.key(path) for path in elsewhere}
    is_all = not node.given.files and not node.given.conf_dirs
    gone = [path for path in node.entries_noted(node.given) if (is_all or path in taken) and path not in back]
    if gone:
        node.noted.forget(gone)


def _why_left(node: Snapshot, found: Found, purge: bool, bin_dirs: list[str], elsewhere: list[str]) -> str:
    """Return why executable and records cannot go, "" when they can. elsewhere: files that have us, or may have us."""
    links = ", ".join(map(plugin_dir.path_of, bin_dirs))
    if elsewhere:
        return _ELSEWHERE % (links, ", ".join(elsewhere))
    if node.given.files:
        return _ONLY % links
    callers = state_removal.callers([one for _, settings in found.settings for one in settings.cache_dirs])
    command = plugin_dir.path_of(bin_dirs[0]) if bin_dirs else OURS
    if purge or callers == []:
        return ""
    if callers is None:
        return _UNKNOWN % (links, state_removal.CNI_DIR, command)
    more = " and others" if len(callers) > 1 else ""
    return _CALLED % (links, len(callers), callers[0], more, command, command)


def _show(node: Snapshot, found: Found, purge: bool, outcome: Outcome) -> None:
    """Note what would be done. Raises InstallationError."""
    _each(plan.without_entries(node, found), lambda one: one.show_undo(), outcome)
    bin_dirs = presence.with_us(node)
    if bin_dirs and not outcome.problems:
        still = [one for one in presence.anywhere(node) if one not in found.paths]
        why = _why_left(node, found, purge, bin_dirs, still)
        outcome.done += [why] if why else []
        rest = [] if why else [*plan.executables(bin_dirs), *plan.without_records(found)]
        _each(rest, lambda one: one.show_undo(), outcome)
