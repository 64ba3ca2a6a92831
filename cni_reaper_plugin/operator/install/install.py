"""`cni-reaper install`: the executable into the directory of plugins, then our entry into the conflist that is in use.

In that order, and out in the other one: a conflist that names an executable which is not there stops every pod of the node.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from cni_reaper_plugin import __version__, options
from cni_reaper_plugin.operator import advice
from cni_reaper_plugin.operator.conflists import atomic_edit, conflist, converted, drop_in, entry
from cni_reaper_plugin.operator.conflists.conflist import ConflistError
from cni_reaper_plugin.operator.conflists.entry import OptionsError
from cni_reaper_plugin.operator.executable import legacy_bundle, plugin_dir
from cni_reaper_plugin.operator.install import installation, presence, targets
from cni_reaper_plugin.operator.install.installation import InstallationError
from cni_reaper_plugin.operator.install.targets import Given, Target, Targets
from cni_reaper_plugin.system import mountinfo

FRESH_S = 3.0  # a file that was written so lately may be half written
_AGAIN_S = 0.05
_NO_CONFLIST = "there is no conflist yet: let the network plugin of the cluster write it first, or wait for it with --watch."
_OF_CONTAINER = (
    f"this is a container, and {installation.DIRECTORY} in it is lost when it ends, "
    "with the options of the entry (a dry run would become a real one): "
    "mount the node's, as packaging/kubernetes does."
)
_NO_DIRECTORY = "there is no such directory: name one that is there, or wait for it with --watch."
TROUBLE = (ConflistError, OptionsError, InstallationError, OSError)

if TYPE_CHECKING:
    from cni_reaper_plugin.operator.conflists.conflist import Json


@dataclass(frozen=True)
class Wanted:
    """options: for our entry, None to leave an entry's own; convert, drop_in: as --help has them; conflists: False for the
    executable only."""

    options: Json | None = None
    convert: bool = False
    drop_in: bool = False
    conflists: bool = True


@dataclass
class Outcome:
    """done: a sentence for each thing that has changed; problems: for each that could not be done; waiting: directories without
    a conflist; put: conflists that our entry was put into; there: those that it was in already; fresh: one of the files with a
    problem was written just now; notes: what a person should know, and no failure; is_placed: the executable is everywhere."""

    done: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    put: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    fresh: bool = False
    notes: list[str] = field(default_factory=list)
    is_placed: bool = True


def run(given: Given, wanted: Wanted) -> int:
    """Install once, say what was done, and return the exit code: 0 done, 1 not everything."""
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
    return [f"{', '.join(unknown)}: not an option of version {__version__}, so it has no effect."] if unknown else []


def tell(outcome: Outcome) -> int:
    """Print an outcome, and return the exit code."""
    for line in outcome.done:
        sys.stdout.write(line + "\n")
    for directory in outcome.waiting:
        outcome.problems.append(f"{directory}: {_NO_CONFLIST if os.path.isdir(directory) else _NO_DIRECTORY}")
    for line in [*outcome.notes, *outcome.problems]:
        sys.stderr.write(f"cni-reaper install: {line}\n")
    if not outcome.done and not outcome.problems:
        sys.stdout.write("everything is in its place already\n")
    return 1 if outcome.problems else 0


def apply(given: Given, wanted: Wanted, renew: bool = True) -> Outcome:
    """Do what is to be done; nothing, when everything is in its place.

    renew: put the executable that runs there, whichever is; else only where none is that works: another one may have been
    installed meanwhile.
    """
    outcome = Outcome()
    wished = targets.find(given) if wanted.conflists else targets.Targets()
    outcome.waiting = wished.waiting
    for problem in wished.problems:
        outcome.problems.append(problem)
        outcome.fresh |= _is_fresh(problem.partition(": ")[0])
    needed = sorted(targets.bin_dirs(given, wished))
    if installation.is_of_container(needed, mountinfo.read(), os.stat("/proc/self/ns/pid").st_ino):
        outcome.problems.append(_OF_CONTAINER)
        outcome.is_placed = False
        return outcome
    try:
        with installation.locked():
            placed = [one for one in needed if _place(one, renew, wished, outcome)]
            for target in wished.found:
                if set(target.bin_dirs) <= set(placed):
                    _put_into(target, [one for one in target.all_bin_dirs if one in placed], wanted, outcome)
    except InstallationError as e:
        outcome.problems.append(str(e))
        outcome.is_placed = False
    return outcome


def _place(bin_dir: str, renew: bool, wished: Targets, outcome: Outcome) -> bool:
    """Put the executable there, take over what version 0.1.0 has left, and note what has changed. Returns whether it is there.

    Where only some runtime may look that is not configured, nothing but a note is made of trouble.
    """
    try:
        if (renew or not plugin_dir.works(bin_dir)) and plugin_dir.place(bin_dir):
            outcome.done.append(f"{plugin_dir.path_of(bin_dir)}: put there, version {__version__}")
    except plugin_dir.TROUBLE as e:
        is_needed = not wished.found or any(bin_dir in target.bin_dirs for target in wished.found)
        (outcome.problems if is_needed else outcome.notes).append(plugin_dir.told(e, bin_dir))
        outcome.is_placed = False
        return False
    try:
        installation.take_over([bin_dir])
        stays = legacy_bundle.tidy(bin_dir)
    except (InstallationError, OSError) as e:
        outcome.problems.append(plugin_dir.told(e, legacy_bundle.root_of(bin_dir)))
    else:
        outcome.notes += [stays] if stays else []
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
        return _drop_in(conflist.load(path), bin_dirs, wanted)
    refuse_twice(path)
    place = place_of(path, wanted)
    had = had_options(place, bin_dirs)
    if place != path:
        _note(place, converted.text_of(path, wanted.options, had), bin_dirs)
        converted.convert(path, wanted.options, had)
        aside = f"{os.path.basename(path)}{converted.BEFORE}"
        return f"{place}: made of {path}, which is set aside as {aside}; `cni-reaper uninstall` puts it back"
    before, after = atomic_edit.edit(path, lambda raw: _note(path, entry.put(path, raw, wanted.options, had), bin_dirs))
    return "" if before == after else f"{path}: our entry is in it"


def _note(path: str, made: bytes, bin_dirs: list[str]) -> bytes:
    """Note our entry in a text before that becomes a conflist, and return the text: what is not noted is not put anywhere, since
    a dry run would be forgotten, and uninstall would not find it. Raises InstallationError."""
    one = conflist.of_bytes(path, made)
    installation.note(path, entry.options_of(one, one.ours[0]), bin_dirs)
    return made


def _drop_in(one: conflist.Conflist, bin_dirs: list[str], wanted: Wanted) -> str:
    """Put our drop-in beside a list, and return a sentence about it, "" when it is there. Raises TROUBLE."""
    place = drop_in.path_of(one)
    text = drop_in.text_of(one, wanted.options, had_options(place, bin_dirs))
    installation.note(place, entry.options_of(one, orjson.loads(text)), bin_dirs)
    return f"{place}: written; {drop_in.COSTS}" if drop_in.put(one, text) else ""


def had_options(place: str, bin_dirs: list[str]) -> Json | None:
    """Return the options that our entry had in a conflist or drop-in, also when its runtime found us elsewhere then.

    Raises InstallationError.
    """
    return installation.options_of(place, [*bin_dirs, *presence.bin_dirs(presence.all_places(Given([], [], [])))])


def refuse_twice(path: str) -> None:
    """See that no drop-in has us already where the list does not. Raises ConflistError."""
    try:
        one = conflist.load(path)
    except ConflistError:
        return  # which entry.put has words for
    others = drop_in.files_of(one) if not one.single and not one.ours and not one.inlined_only else []
    if others:
        raise ConflistError(f"our entry is in {', '.join(others)} already, and would be there twice: uninstall it first.")


def place_of(path: str, wanted: Wanted) -> str:
    """Return the list that our entry is in then: the conflist itself, or what is made of it."""
    return converted.target_of(path) if wanted.convert and path.endswith(".conf") else path


def problem_of(path: str, error: Exception) -> str:
    """Return a sentence about what went wrong with a conflist, and what to do."""
    if isinstance(error, OptionsError):
        return f"{path}: the options are wrong: {error}; docs/options.md has them all."
    if isinstance(error, FileNotFoundError):
        missing = error.filename
        if isinstance(missing, str) and missing.startswith("/") and os.path.realpath(missing) != os.path.realpath(path):
            return f"{path}: {missing} is missing, or leads to nothing: make it, or remove the link."
        return f"{path}: there is no such file: name one that is there."
    if isinstance(error, atomic_edit.BusyError):
        return f"{path}: {error.strerror}."
    if isinstance(error, OSError):
        return f"{path} cannot be replaced ({error.strerror or error}): {advice.on(error)}."
    return f"{path}: {error}"


def _is_fresh(path: str) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime < FRESH_S
    except OSError:
        return False
