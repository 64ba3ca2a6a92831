"""`cni-reaper install`: the bundle into the directory of plugins, then our entry into the conflist that is in use.

In that order, and out in the other one: a conflist that names an executable which is not there stops every pod of the node.
"""

import difflib
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field

from cni_reaper_plugin.operator import bundle, conflist, converted, drop_in, entry, replacement, targets
from cni_reaper_plugin.operator.conflist import ConflistError
from cni_reaper_plugin.operator.entry import OptionsError
from cni_reaper_plugin.operator.targets import Given, Target

FRESH_S = 3.0  # a file that was written so lately may be half written
_AGAIN_S = 0.05
_NO_CONFLIST = "there is no conflist yet: let the network plugin of the cluster write it first, or wait for it with --watch."
TROUBLE = (ConflistError, OptionsError, OSError)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_reaper_plugin.operator.conflist import Json


@dataclass(frozen=True)
class Wanted:
    """options: for our entry, None to leave an entry's own; convert, drop_in: as --help has them; conflists: False for the bundle
    only."""

    options: "Json | None" = None
    convert: bool = False
    drop_in: bool = False
    conflists: bool = True


@dataclass
class Outcome:
    """done: a sentence for each thing that has changed; problems: for each that could not be done; waiting: directories without
    a conflist; put: conflists that our entry was put into; fresh: one of the files with a problem was written just now."""

    done: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    put: list[str] = field(default_factory=list)
    fresh: bool = False


def run(given: Given, wanted: Wanted, dry_run: bool) -> int:
    """Install once, say what was done, and return the exit code: 0 done, 1 not everything."""
    if dry_run:
        return _show(given, wanted)
    end = time.monotonic() + FRESH_S
    outcome = apply(given, wanted)
    while outcome.problems and outcome.fresh and time.monotonic() < end:
        time.sleep(_AGAIN_S)
        done = outcome.done
        outcome = apply(given, wanted)
        outcome.done = done + outcome.done
    return tell(outcome)


def tell(outcome: Outcome) -> int:
    """Print an outcome, and return the exit code."""
    for line in outcome.done:
        sys.stdout.write(line + "\n")
    for directory in outcome.waiting:
        outcome.problems.append("%s: %s" % (directory, _NO_CONFLIST))
    for line in outcome.problems:
        sys.stderr.write("cni-reaper install: %s\n" % line)
    if not outcome.done and not outcome.problems:
        sys.stdout.write("everything is in its place already\n")
    return 1 if outcome.problems else 0


def apply(given: Given, wanted: Wanted, renew: bool = True) -> Outcome:
    """Do what is to be done; nothing, when everything is in its place.

    renew: put our own bundle there, whichever is; else only where there is none that could be run: somebody may have installed
    a newer one meanwhile.
    """
    outcome = Outcome()
    wished = targets.find(given) if wanted.conflists else targets.Targets()
    outcome.waiting = wished.waiting
    for problem in wished.problems:
        outcome.problems.append(problem)
        outcome.fresh |= _is_fresh(problem.partition(": ")[0])
    for bin_dir in wished.bin_dirs or targets.bin_dirs(given):
        try:
            with bundle.locked(bin_dir):
                _place_bundle(bin_dir, renew, outcome)
                for target in wished.found:
                    if target.bin_dir == bin_dir:
                        _put_into(target, wanted, outcome)
        except bundle.TROUBLE as e:
            outcome.problems.append(bundle.told(e, bin_dir))
    return outcome


def _place_bundle(bin_dir: str, renew: bool, outcome: Outcome) -> None:
    """Put the bundle there, and note what has changed. Raises bundle.TROUBLE."""
    if not renew and bundle.is_there(bin_dir):
        bundle.tidy(bin_dir)
        return
    directory, changed = bundle.place(bundle.home(), bin_dir)
    if changed:
        outcome.done.append("%s: now leads to %s" % (bundle.link_of(bin_dir), directory))


def _put_into(target: Target, wanted: Wanted, outcome: Outcome) -> None:
    path = target.path
    try:
        drop_in.tidy(path)
        text = _put(path, wanted)
    except TROUBLE as e:
        outcome.problems.append(problem_of(path, e))
        outcome.fresh |= _is_fresh(path)
        return
    if text:
        outcome.done.append(text)
        outcome.put.append(path)


def _put(path: str, wanted: Wanted) -> str:
    """Put our entry into a conflist, and return a sentence about it, "" when it is there. Raises TROUBLE."""
    if wanted.drop_in:
        one = conflist.load(path)
        if not drop_in.put(one, wanted.options):
            return ""
        return "%s: written; %s" % (drop_in.path_of(one), drop_in.COSTS)
    if wanted.convert and path.endswith(".conf"):
        converted.convert(path, wanted.options)
        return "%s: made of %s, which is set aside as %s%s; `cni-reaper uninstall` puts it back" % (
            converted.target_of(path),
            path,
            os.path.basename(path),
            converted.BEFORE,
        )
    before, after = replacement.edit(path, lambda raw: entry.put(path, raw, wanted.options))
    return "" if before == after else "%s: our entry is in it" % path


def problem_of(path: str, error: Exception) -> str:
    """Return a sentence about what went wrong with a conflist, and what to do."""
    if isinstance(error, OptionsError):
        return "%s: the options are wrong: %s; docs/options.md has them all." % (path, error)
    if isinstance(error, FileNotFoundError):
        return "%s: there is no such file: name one that is there." % path
    if isinstance(error, OSError):
        if error.errno is not None and error.strerror and not isinstance(error, replacement.BusyError):
            return "%s cannot be replaced (%s): make its directory writable, and try again." % (
                path,
                error.strerror,
            )
        return "%s: %s." % (path, error.strerror or error)
    return "%s: %s" % (path, error)


def _is_fresh(path: str) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime < FRESH_S
    except OSError:
        return False


def _show(given: Given, wanted: Wanted) -> int:
    """Print what would be done, the conflists' part of it as a diff, and return the exit code."""
    wished = targets.find(given) if wanted.conflists else targets.Targets()
    outcome = Outcome(problems=wished.problems, waiting=wished.waiting)
    for bin_dir in wished.bin_dirs or targets.bin_dirs(given):
        outcome.done.append("would put the bundle into %s, and link %s to it" % (bin_dir, bundle.link_of(bin_dir)))
    for target in wished.found:
        try:
            for name, before, after in _changes(target.path, wanted):
                outcome.done += difference(name, before, after)
        except TROUBLE as e:
            outcome.problems.append(problem_of(target.path, e))
    return tell(outcome)


def _changes(path: str, wanted: Wanted) -> "list[tuple[str, bytes, bytes]]":
    """Return (file, content now, content then) of each file that would be written for a conflist. Raises TROUBLE."""
    if wanted.drop_in:
        one = conflist.load(path)
        now = b""
        with suppress(OSError, ConflistError):
            now = conflist.read(drop_in.path_of(one))
        return [(drop_in.path_of(one), now, drop_in.text_of(one, wanted.options))]
    raw = conflist.read(path)
    if wanted.convert and path.endswith(".conf"):
        return [(path, raw, b""), (converted.target_of(path), b"", converted.text_of(path, wanted.options))]
    return [(path, raw, entry.put(path, raw, wanted.options))]


def difference(path: str, before: bytes, after: bytes) -> list[str]:
    """Return a unified diff of a file's content now and then, [] when they are equal."""
    now, then = (text.decode("utf-8", "backslashreplace").splitlines() for text in (before, after))
    return list(difflib.unified_diff(now, then, path, path, lineterm=""))
