"""`cni-reaper uninstall`: our entry out of every conflist, then, when no runtime can call us any more, the rest of us.

In that order: whoever still calls an executable that is gone cannot delete its pods.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.operator.conflists import atomic_edit, conflist, converted, drop_in, entry
from cni_reaper_plugin.operator.conflists.conflist import OURS, Conflist, ConflistError
from cni_reaper_plugin.operator.conflists.conflist_text import TextError, plugins
from cni_reaper_plugin.operator.executable import legacy_bundle, plugin_dir
from cni_reaper_plugin.operator.install import install, installation, plugin_calls, presence, preview, state_removal
from cni_reaper_plugin.operator.install.install import Outcome
from cni_reaper_plugin.operator.install.installation import InstallationError
from cni_reaper_plugin.operator.install.presence import Found
from cni_reaper_plugin.operator.install.targets import Given
from cni_reaper_plugin.options import Settings

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

TROUBLE = (ConflistError, TextError, InstallationError, OSError)


def run(given: Given, purge: bool, dry_run: bool) -> int:
    """Uninstall, say what was done, and return the exit code: 0 our entry is nowhere, 1 something could not be done."""
    outcome = Outcome()
    try:
        _run(given, purge, dry_run, outcome)
    except InstallationError as e:
        outcome.problems.append(str(e))
    return _tell(outcome)


def _run(given: Given, purge: bool, dry_run: bool, outcome: Outcome) -> None:
    """Uninstall, and note what was done and what could not be. Raises InstallationError."""
    if not dry_run:
        _tidy(given)
    found, directories = presence.look(given), presence.conf_dirs(given)
    outcome.problems += [f"{path}: {why}" for path, why in found.unread.items()]
    outcome.problems += [f"{one}: there is no such file: name one that is there." for one in given.files if not _is_there(one)]
    if dry_run:
        _show(found, given, directories, purge, outcome)
        return
    _take_out(found, outcome)
    if not outcome.problems and outcome.done:
        _settle(given, outcome)
    if not outcome.problems:
        _remove_the_rest(found, given, directories, purge, outcome)


def _is_there(path: str) -> bool:
    return os.path.isfile(path) or os.path.islink(path)


def _tell(outcome: Outcome) -> int:
    for line in outcome.done:
        sys.stdout.write(line + "\n")
    for line in outcome.problems:
        sys.stderr.write(f"cni-reaper uninstall: {line}\n")
    if not outcome.done and not outcome.problems:
        sys.stdout.write("nothing of it is here\n")
    return 1 if outcome.problems else 0


def _tidy(given: Given) -> None:
    """Remove temporary files that somebody has left who was killed."""
    for place in presence.all_places(given):
        atomic_edit.tidy(place.conf_dir)
        for path in conflist.files_of(place.conf_dir):
            drop_in.tidy(path)


def _take_out(found: Found, outcome: Outcome) -> None:
    """Take our entry out of every file, and note what was done and what could not be."""
    acts: list[tuple[str, Callable[[], str]]] = []
    acts += [(path, partial(_revert, path)) for path in found.aside]
    acts += [(path, partial(_take, path)) for path in found.lists]
    acts += [(path, partial(_drop_out, path, one)) for path, one in found.drop_ins]
    for path, act in acts:
        try:
            done = act()
        except TROUBLE as e:
            outcome.problems.append(install.problem_of(path, e))
        else:
            outcome.done += [done] if done else []


def _revert(path: str) -> str:
    if not os.path.lexists(_list_beside(path)) and not os.path.lexists(path.removesuffix(converted.BEFORE)):
        return f"{path}: left there, since {_list_beside(path)}, which was made of it, is gone: rename it, or remove it"
    if converted.revert(path):
        return f"{path.removesuffix(converted.BEFORE)}: put back as it was, in the place of {_list_beside(path)}"
    raise ConflistError(f"{_list_beside(path)} was changed since it was made of this file: look which of them is to stay.")


def _list_beside(path: str) -> str:
    return converted.target_of(path.removesuffix(converted.BEFORE))


def _take(path: str) -> str:
    try:
        before, after = atomic_edit.edit(path, _without_us)
    except FileNotFoundError:
        before = after = b""  # the list of a file that has just been put back
    if converted.is_left_over(path):
        atomic_edit.remove(path)
        return f"{path}: removed, and {path.removesuffix('list')} counts as before"
    return f"{path}: our entry is out" if before != after else ""


def _without_us(raw: bytes) -> bytes:
    made = entry.take(raw)
    if not plugins(made).values:
        raise ConflistError("our entry is the only one in it, and no runtime loads a list of none: remove the file.")
    return made


def _drop_out(path: str, one: Conflist) -> str:
    drop_in.remove(path, one)
    return f"{path}: removed"


def _settle(given: Given, outcome: Outcome) -> None:
    """Wait until the runtimes have loaded what we have written, and see that nobody puts our entry back."""
    begun = time.monotonic()
    while True:
        found, waited = presence.look(given), time.monotonic() - begun
        if not _is_out(found.paths, outcome) or (waited > SETTLE_S and not found.copies):
            return
        if waited > MULTUS_S:
            outcome.problems.append(f"{', '.join(found.copies)}: {_COPIED}")
            return
        time.sleep(_POLL_S)


def _remove_the_rest(found: Found, given: Given, directories: list[str], purge: bool, outcome: Outcome) -> None:
    """Forget the entries that are out; remove records, memory and executable, if nobody can call us; with `purge` in any case.

    Raises InstallationError.
    """
    bin_dirs = presence.with_us(given)
    if not bin_dirs and found.lists:
        outcome.done.append("no executable of ours is where runtimes look: after an install with --bin-dir, name it here as well")
    if not bin_dirs and not found.settings and not any(map(os.path.lexists, (installation.DIRECTORY, proven_views.RUN_DIR))):
        return
    still = plugin_calls.wait_for(LONGEST_CALL_S) if bin_dirs else set()
    if still:
        outcome.problems.append(_RUNNING % (", ".join(map(plugin_dir.path_of, bin_dirs)), ", ".join(sorted(still))))
        return
    with installation.locked():
        elsewhere = presence.anywhere(directories)
        if not _is_out([path for path in elsewhere if path in found.paths], outcome):
            return
        try:
            why = _why_left(found, given, purge, bin_dirs, elsewhere)
            if why:
                outcome.done += [why] if bin_dirs else []
            else:
                _remove_records(found, outcome)
                _withdraw(bin_dirs, directories, outcome)
            if not outcome.problems:
                _forget(found, given, bin_dirs, elsewhere)
            if not outcome.problems and not why:
                installation.remove()
        except plugin_dir.TROUBLE as e:
            outcome.problems.append(plugin_dir.told(e, state_removal.CNI_DIR))


def _is_out(back: list[str], outcome: Outcome) -> bool:
    """Tell whether our entry has stayed out, and note where it has not. back: files that have it again."""
    if back:
        outcome.problems.append(f"{', '.join(back)}: {_BACK}")
    return not back


def _remove_records(found: Found, outcome: Outcome) -> None:
    """Remove records and memory. Raises OSError."""
    stores = sorted({Settings().state_dir, *(settings.state_dir for _, settings in found.settings)})
    count = sum(state_removal.remove_records(store, network) for store in stores for network in records.networks(store))
    outcome.done += ["%d records: removed" % count] if count else []
    state_removal.remove_memory()


def _withdraw(bin_dirs: list[str], directories: list[str], outcome: Outcome) -> None:
    """Remove the executables, unless our entry has been put back meanwhile. Raises executable.TROUBLE, InstallationError."""
    if not _is_out(presence.anywhere(directories), outcome):
        return
    for bin_dir in bin_dirs:
        path = plugin_dir.path_of(bin_dir)
        is_gone = plugin_dir.remove(bin_dir)
        if legacy_bundle.withdraw(bin_dir) or is_gone:
            outcome.done.append(f"{path}: removed")
        if os.path.isfile(path) and not os.path.islink(path):
            outcome.done.append(f"{path}: left there, since no sum of cni-reaper is at its end: remove it by hand")
        if legacy_bundle.is_there(bin_dir):
            outcome.done.append(
                f"{legacy_bundle.root_of(bin_dir)}: left there, since a process runs it, or other files are in it"
            )


def _forget(found: Found, given: Given, bin_dirs: list[str], elsewhere: list[str]) -> None:
    """Forget the entries that are out for good, and their options, without files given also those that a platform has taken out;
    not one that has been put back meanwhile. Raises InstallationError, OSError."""
    installation.take_over(bin_dirs)
    taken, back = {installation.key(path) for path in found.paths}, {installation.key(path) for path in elsewhere}
    is_all = not given.files and not given.conf_dirs
    gone = [path for path in presence.noted(given) if (is_all or path in taken) and path not in back]
    if gone:
        installation.forget(gone)


def _why_left(found: Found, given: Given, purge: bool, bin_dirs: list[str], elsewhere: list[str]) -> str:
    """Return why executable and records cannot go, "" when they can. elsewhere: files that have us, or may have us."""
    links = ", ".join(map(plugin_dir.path_of, bin_dirs))
    if elsewhere:
        return _ELSEWHERE % (links, ", ".join(elsewhere))
    if given.files:
        return _ONLY % links
    callers = state_removal.callers([one for _, settings in found.settings for one in settings.cache_dirs])
    command = plugin_dir.path_of(bin_dirs[0]) if bin_dirs else OURS
    if purge or callers == []:
        return ""
    if callers is None:
        return _UNKNOWN % (links, state_removal.CNI_DIR, command)
    more = " and others" if len(callers) > 1 else ""
    return _CALLED % (links, len(callers), callers[0], more, command, command)


def _show(found: Found, given: Given, directories: list[str], purge: bool, outcome: Outcome) -> None:
    """Note what would be done. Raises InstallationError."""
    for path in found.aside:
        outcome.done.append(f"would put {path.removesuffix(converted.BEFORE)} back in the place of {_list_beside(path)}")
    for path in found.lists:
        try:
            raw = conflist.read(path)
            outcome.done += preview.difference(path, raw, _without_us(raw))
        except TROUBLE as e:
            outcome.problems.append(install.problem_of(path, e))
    outcome.done += [f"would remove {path}" for path, _ in found.drop_ins]
    bin_dirs = presence.with_us(given)
    if bin_dirs and not outcome.problems:
        still = [one for one in presence.anywhere(directories) if one not in found.paths]
        links = ", ".join(map(plugin_dir.path_of, bin_dirs))
        why = _why_left(found, given, purge, bin_dirs, still)
        outcome.done.append(why or f"would remove {links}, and the records")
