"""`cni-reaper uninstall`: our entry out of every conflist, then, when no runtime can call us any more, the rest of us.

In that order: whoever still calls an executable that is gone cannot delete its pods.
"""

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from cni_reaper_plugin import options
from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.facts import Settings
from cni_reaper_plugin.operator import bundle, conflist, converted, drop_in, entry, install, leftovers, replacement
from cni_reaper_plugin.operator.conflist import OURS, Conflist, ConflistError
from cni_reaper_plugin.operator.conflist_text import TextError, plugins
from cni_reaper_plugin.operator.install import Outcome
from cni_reaper_plugin.operator.placement import settings_of
from cni_reaper_plugin.operator.places import Place, places
from cni_reaper_plugin.operator.targets import Given

SETTLE_S = 3.0  # containerd loads a conflist again at once, a watcher of ours puts the entry back within 2 s
MULTUS_S = 10.0  # its thin plugin makes its copy anew each second
_POLL_S = 0.1
_BACK = (
    "our entry is back: stop what puts it there (systemctl disable --now cni-reaper-install.path, or delete the DaemonSet), "
    "and try again."
)
_COPIED = "multus has still a copy with us: restart its pod, and try again."
_LEFT = "%s: left there with its records, since %s: again when they have ended, or --purge now if neither runs here"
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TROUBLE = (ConflistError, TextError, OSError)


@dataclass
class _Found:
    """What there is of us. lists: conflists with our entry; drop_ins: (file, its list); aside: files that were converted;
    copies: multus' own files that have us in their copy; settings: of our entries, with the network's name."""

    lists: list[Conflist] = field(default_factory=list)
    drop_ins: list[tuple[str, Conflist]] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    settings: list[tuple[str, Settings]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """The files that have us, but for multus' copies."""
        return [*(one.path for one in self.lists), *(path for path, _ in self.drop_ins)]


def run(given: Given, purge: bool, dry_run: bool) -> int:
    """Uninstall, say what was done, and return the exit code: 0 our entry is nowhere, 1 something could not be done."""
    outcome = Outcome()
    if not dry_run:
        _tidy(given)
    found = _look(given, outcome)
    if dry_run:
        return _show(found, outcome)
    _take_out(found, outcome)
    if not outcome.problems and outcome.done:
        _settle(given, outcome)
    if not outcome.problems:
        _remove_the_rest(found, given, purge, outcome)
    return _tell(outcome)


def _tell(outcome: Outcome) -> int:
    for line in outcome.done:
        sys.stdout.write(line + "\n")
    for line in outcome.problems:
        sys.stderr.write("cni-reaper uninstall: %s\n" % line)
    if not outcome.done and not outcome.problems:
        sys.stdout.write("nothing of it is here\n")
    return 1 if outcome.problems else 0


def _all_places(given: Given) -> list[Place]:
    """Return every place, those of no runtime of pods among them: our entry may be in any."""
    directories = [*given.conf_dirs, *dict.fromkeys(os.path.dirname(os.path.abspath(path)) for path in given.files)]
    return places(directories, given.bin_dirs)[0]


def _look(given: Given, outcome: Outcome) -> _Found:
    found = _Found()
    for place in _all_places(given):
        entries = conflist.found([place.conf_dir])
        if given.files:
            entries = [(path, one) for path, one in entries if path in given.files]
        for path, one in entries:
            if isinstance(one, ConflistError):
                _look_at_broken(path, one, outcome)
                continue
            if one.is_multus:
                found.copies += [path for copy in conflist.delegates(one) if copy.ours]
            elif one.ours:
                found.lists.append(one)
            found.drop_ins += [(path, one) for path in ([] if one.single else drop_in.files_of(one))]
        found.settings += settings_of(entries)
        found.aside += conflist.files_of(place.conf_dir, (converted.BEFORE,)) if not given.files else []
    for path, _ in found.drop_ins:
        with suppress(ConflistError):
            found.settings.append((path, options.read(conflist.of_drop_in(path), os.path.basename(os.path.dirname(path)))[0]))
    return found


def _tidy(given: Given) -> None:
    """Remove temporary files that somebody has left who was killed."""
    for place in _all_places(given):
        replacement.tidy(place.conf_dir)
        for path in conflist.files_of(place.conf_dir):
            drop_in.tidy(path)


def _look_at_broken(path: str, error: ConflistError, outcome: Outcome) -> None:
    """Complain of a file that cannot be read only if we may be in it."""
    try:
        if b'"%s"' % OURS.encode() in conflist.read(path):
            outcome.problems.append("%s: %s" % (path, error))
    except ConflistError:
        return


def _take_out(found: _Found, outcome: Outcome) -> None:
    """Take our entry out of every file, and note what was done and what could not be."""
    acts: list[tuple[str, Callable[[], str]]] = []
    acts += [(path, partial(_revert, path)) for path in found.aside]
    acts += [(one.path, partial(_take, one.path)) for one in found.lists]
    acts += [(path, partial(_drop_out, path, one)) for path, one in found.drop_ins]
    for path, act in acts:
        try:
            done = act()
        except TROUBLE as e:
            outcome.problems.append(install.problem_of(path, e))
        else:
            outcome.done += [done] if done else []


def _revert(path: str) -> str:
    if converted.revert(path):
        return "%s: put back as it was, in the place of %s" % (path.removesuffix(converted.BEFORE), _list_beside(path))
    raise ConflistError("%s was changed since it was made of this file: look which of them is to stay." % _list_beside(path))


def _list_beside(path: str) -> str:
    return converted.target_of(path.removesuffix(converted.BEFORE))


def _take(path: str) -> str:
    try:
        before, after = replacement.edit(path, _without_us)
    except FileNotFoundError:
        return ""  # the list of a file that has just been put back
    if converted.is_left_over(path):
        replacement.remove(path)
        return "%s: removed, and %s counts as before" % (path, path.removesuffix("list"))
    return "%s: our entry is out" % path if before != after else ""


def _without_us(raw: bytes) -> bytes:
    made = entry.take(raw)
    if not plugins(made).values:
        raise ConflistError("our entry is the only one in it, and no runtime loads a list of none: remove the file.")
    return made


def _drop_out(path: str, one: Conflist) -> str:
    drop_in.remove(path, one)
    return "%s: removed" % path


def _settle(given: Given, outcome: Outcome) -> None:
    """Wait until the runtimes have loaded what we have written, and see that nobody puts our entry back."""
    begun = time.monotonic()
    while True:
        found, waited = _look(given, Outcome()), time.monotonic() - begun
        if found.paths:
            outcome.problems.append("%s: %s" % (", ".join(found.paths), _BACK))
            return
        if waited > SETTLE_S and not found.copies:
            return
        if waited > MULTUS_S:
            outcome.problems.append("%s: %s" % (", ".join(found.copies), _COPIED))
            return
        time.sleep(_POLL_S)


def _remove_the_rest(found: _Found, given: Given, purge: bool, outcome: Outcome) -> None:
    """Remove records, memory and executable, if nobody can call us; with `purge` in any case."""
    bin_dirs = [one for one in _bin_dirs(given) if _has_us(one)]
    elsewhere = _anywhere(given)
    if elsewhere.paths or elsewhere.copies:
        outcome.done += ["left there with executable and records: %s" % ", ".join(elsewhere.paths + elsewhere.copies)]
        return
    callers = leftovers.callers([one for _, settings in found.settings for one in settings.cache_dirs])
    if callers != 0 and not purge:
        outcome.done += [_why_left(callers, bin_dirs)] if bin_dirs else []
        return
    try:
        stores = {Settings().state_dir, *(settings.state_dir for _, settings in found.settings)}
        count = sum(leftovers.remove_records(store, network) for store in sorted(stores) for network in records.networks(store))
        outcome.done += ["%d records: removed" % count] if count else []
        leftovers.remove_memory()
        for bin_dir in bin_dirs:
            _withdraw(bin_dir, given, outcome)
    except bundle.TROUBLE as e:
        outcome.problems.append(bundle.told(e, ""))


def _anywhere(given: Given) -> _Found:
    """Return what there is of us in the node's directories, and in those given."""
    everywhere = [*_all_places(Given([], [], [])), *_all_places(given)]
    return _look(Given([place.conf_dir for place in everywhere], [], []), Outcome())


def _withdraw(bin_dir: str, given: Given, outcome: Outcome) -> None:
    """Remove the executable, unless somebody has put our entry back by now. Raises bundle.TROUBLE."""
    with bundle.locked(bin_dir):
        back = _anywhere(given).paths
        if back:
            outcome.problems.append("%s: %s" % (", ".join(back), _BACK))
        elif bundle.withdraw(bin_dir):
            outcome.done.append("%s: removed, and its bundles" % bundle.link_of(bin_dir))


def _bin_dirs(given: Given) -> list[str]:
    return list(dict.fromkeys(one for place in _all_places(given) for one in place.bin_dirs))


def _has_us(bin_dir: str) -> bool:
    return os.path.lexists(bundle.link_of(bin_dir)) or os.path.isdir("%s/%s" % (bin_dir, bundle.VERSIONS))


def _why_left(callers: int | None, bin_dirs: list[str]) -> str:
    links = ", ".join(map(bundle.link_of, bin_dirs))
    if callers is None:
        why = "whether a runtime can still call it is not to be seen from here (no %s)" % leftovers.CNI_DIR
    else:
        why = "%d attachments were made with it in the chain, and CRI-O and multus call it once more when they end" % callers
    return _LEFT % (links, why)


def _show(found: _Found, outcome: Outcome) -> int:
    for path in found.aside:
        outcome.done.append("would put %s back in the place of %s" % (path.removesuffix(converted.BEFORE), _list_beside(path)))
    for one in found.lists:
        try:
            raw = conflist.read(one.path)
            outcome.done += install.difference(one.path, raw, _without_us(raw))
        except TROUBLE as e:
            outcome.problems.append(install.problem_of(one.path, e))
    outcome.done += ["would remove %s" % path for path, _ in found.drop_ins]
    return _tell(outcome)
