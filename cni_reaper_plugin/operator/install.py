"""`cni-reaper install`: the bundle into the directory of plugins, then our entry into the conflist that is in use.

In that order, and out in the other one: a conflist that names an executable which is not there stops every pod of the node.
"""

import difflib
import os
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from cni_reaper_plugin import __version__, options
from cni_reaper_plugin.operator import (
    advice,
    bundle,
    conflist,
    converted,
    drop_in,
    entry,
    placing,
    register,
    replacement,
    targets,
)
from cni_reaper_plugin.operator.conflist import ConflistError
from cni_reaper_plugin.operator.entry import OptionsError
from cni_reaper_plugin.operator.targets import Given, Target, Targets

FRESH_S = 3.0  # a file that was written so lately may be half written
_AGAIN_S = 0.05
_NO_CONFLIST = "there is no conflist yet: let the network plugin of the cluster write it first, or wait for it with --watch."
_NO_DIRECTORY = "there is no such directory: name one that is there, or wait for it with --watch."
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
    a conflist; put: conflists that our entry was put into; there: those that it was in already; fresh: one of the files with a
    problem was written just now; notes: what a person should know, and no failure; is_placed: the bundle is everywhere."""

    done: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    put: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    fresh: bool = False
    notes: list[str] = field(default_factory=list)
    is_placed: bool = True


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
    outcome.notes += _unknown(wanted)
    return tell(outcome)


def _unknown(wanted: Wanted) -> list[str]:
    """Return a sentence about options that this version does not know; a later one may."""
    known = ("type", *options.KEYS.values())
    unknown = [key for key in wanted.options or {} if key not in known]
    return (
        ["%s: no option of version %s, so it is written and does nothing." % (", ".join(unknown), __version__)] if unknown else []
    )


def tell(outcome: Outcome) -> int:
    """Print an outcome, and return the exit code."""
    for line in outcome.done:
        sys.stdout.write(line + "\n")
    for directory in outcome.waiting:
        outcome.problems.append("%s: %s" % (directory, _NO_CONFLIST if os.path.isdir(directory) else _NO_DIRECTORY))
    for line in [*outcome.notes, *outcome.problems]:
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
    try:
        with ExitStack() as held:
            placed = [one for one in sorted(targets.bin_dirs(given, wished)) if _place_bundle(one, renew, wished, held, outcome)]
            for target in wished.found:
                if set(target.bin_dirs) <= set(placed):
                    _put_into(target, [one for one in target.all_bin_dirs if one in placed], wanted, outcome)
    except OSError as e:  # of a lock that could not be removed
        outcome.problems.append(bundle.told(e, ""))
    return outcome


def _place_bundle(bin_dir: str, renew: bool, wished: Targets, held: ExitStack, outcome: Outcome) -> bool:
    """Put the bundle there, lock it for as long as `held` lasts, and note what has changed. Returns whether it is there.

    Where only some runtime may look that is not configured, nothing but a note is made of trouble.
    """
    try:
        held.enter_context(bundle.locked(bin_dir))
        if not renew and bundle.is_there(bin_dir):
            placing.tidy(bin_dir)
            return True
        directory, changed = placing.place(bundle.home(), bin_dir)
    except bundle.TROUBLE as e:
        is_needed = not wished.found or any(bin_dir in target.bin_dirs for target in wished.found)
        (outcome.problems if is_needed else outcome.notes).append(bundle.told(e, bin_dir))
        outcome.is_placed = False
        return False
    if changed:
        outcome.done.append("%s: now leads to %s" % (bundle.link_of(bin_dir), directory))
    return True


def _put_into(target: Target, bin_dirs: list[str], wanted: Wanted, outcome: Outcome) -> None:
    """Put our entry into a conflist whose runtimes find us in these directories, and note what has changed."""
    path = target.path
    try:
        drop_in.tidy(path)
        text = _put(path, bin_dirs, wanted)
    except TROUBLE as e:
        outcome.problems.append(problem_of(path, e))
        outcome.fresh |= _is_fresh(path)
        return
    if text:
        outcome.done.append(text)
    (outcome.put if text else outcome.there).append(path)


def _put(path: str, bin_dirs: list[str], wanted: Wanted) -> str:
    """Put our entry into a conflist, and return a sentence about it, "" when it is there. Raises TROUBLE."""
    if wanted.drop_in:
        one = conflist.load(path)
        if not drop_in.put(one, wanted.options):
            return ""
        return "%s: written; %s" % (drop_in.path_of(one), drop_in.COSTS)
    _refuse_twice(path)
    place, had = _place_of(path, wanted), _had(path, bin_dirs, wanted)
    if place != path:
        converted.convert(path, wanted.options, had)
        said = "%s: made of %s, which is set aside as %s%s; `cni-reaper uninstall` puts it back" % (
            place,
            path,
            os.path.basename(path),
            converted.BEFORE,
        )
    else:
        before, after = replacement.edit(path, lambda raw: entry.put(path, raw, wanted.options, had))
        said = "" if before == after else "%s: our entry is in it" % path
    for bin_dir in bin_dirs:
        register.note(bin_dir, place, entry.options_of(conflist.load(place)))
    return said


def _refuse_twice(path: str) -> None:
    """See that no drop-in has us already where the list does not. Raises ConflistError."""
    try:
        one = conflist.load(path)
    except ConflistError:
        return  # which entry.put has words for
    others = drop_in.files_of(one) if not one.single and not one.ours and not one.inlined_only else []
    if others:
        raise ConflistError("our entry is in %s already, and would be there twice: uninstall it first." % ", ".join(others))


def _place_of(path: str, wanted: Wanted) -> str:
    """Return the list that our entry is in then: the conflist itself, or what is made of it."""
    return converted.target_of(path) if wanted.convert and path.endswith(".conf") else path


def _had(path: str, bin_dirs: list[str], wanted: Wanted) -> "Json | None":
    """Return the options that our entry had when it was last seen there, None when it never was."""
    place = _place_of(path, wanted)
    return next((noted[place] for noted in map(register.read, bin_dirs) if place in noted), None)


def problem_of(path: str, error: Exception) -> str:
    """Return a sentence about what went wrong with a conflist, and what to do."""
    if isinstance(error, OptionsError):
        return "%s: the options are wrong: %s; docs/options.md has them all." % (path, error)
    if isinstance(error, FileNotFoundError):
        missing = error.filename
        if isinstance(missing, str) and missing.startswith("/") and os.path.realpath(missing) != os.path.realpath(path):
            return "%s: %s is missing, or leads to nothing: make it, or remove the link." % (path, missing)
        return "%s: there is no such file: name one that is there." % path
    if isinstance(error, replacement.BusyError):
        return "%s: %s." % (path, error.strerror)
    if isinstance(error, OSError):
        return "%s cannot be replaced (%s): %s." % (path, error.strerror or error, advice.on(error))
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
    for bin_dir in targets.bin_dirs(given, wished):
        try:
            if not bundle.is_placed(bin_dir):
                outcome.done.append("would put the bundle into %s, and link %s to it" % (bin_dir, bundle.link_of(bin_dir)))
        except bundle.TROUBLE as e:
            outcome.problems.append(bundle.told(e, bin_dir))
    for target in wished.found:
        try:
            for name, before, after in _changes(target, wanted):
                outcome.done += difference(name, before, after)
        except TROUBLE as e:
            outcome.problems.append(problem_of(target.path, e))
    return tell(outcome)


def _changes(target: Target, wanted: Wanted) -> "list[tuple[str, bytes, bytes]]":
    """Return (file, content now, content then) of each file that would be written for a conflist. Raises TROUBLE."""
    path = target.path
    if wanted.drop_in:
        one = conflist.load(path)
        now = b""
        with suppress(OSError, ConflistError):
            now = conflist.read(drop_in.path_of(one))
        return [(drop_in.path_of(one), now, drop_in.text_of(one, wanted.options))]
    _refuse_twice(path)
    raw, place, had = conflist.read(path), _place_of(path, wanted), _had(path, target.all_bin_dirs, wanted)
    if place != path:
        return [(path, raw, b""), (place, b"", converted.text_of(path, wanted.options, had))]
    return [(path, raw, entry.put(path, raw, wanted.options, had))]


def difference(path: str, before: bytes, after: bytes) -> list[str]:
    """Return a unified diff of a file's content now and then, [] when they are equal."""
    now, then = (text.decode("utf-8", "backslashreplace").splitlines() for text in (before, after))
    return list(difflib.unified_diff(now, then, path, path, lineterm=""))
