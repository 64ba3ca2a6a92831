"""`cni-reaper install`: the executable into the directory of plugins, then our entry into the conflist that is in use.

In that order, and out in the other one: a conflist that names an executable which is not there stops every pod of the node.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cni_reaper_plugin import __version__, options
from cni_reaper_plugin.operator.executable import legacy_bundle, plugin_dir
from cni_reaper_plugin.operator.install import installation, plan, register, snapshot, targets
from cni_reaper_plugin.operator.install.outcome import TROUBLE, Outcome, problem_of
from cni_reaper_plugin.operator.install.register import InstallationError
from cni_reaper_plugin.operator.install.targets import Targets
from cni_reaper_plugin.system import mountinfo

FRESH_S = 3.0  # a file that was written so lately may be half written
_AGAIN_S = 0.05
_NO_CONFLIST = "there is no conflist yet: let the network plugin of the cluster write it first, or wait for it with --watch."
_OF_CONTAINER = (
    f"this is a container, and {register.DIRECTORY} in it is lost when it ends, "
    "with the options of the entry (a dry run would become a real one): "
    "mount the node's, as packaging/kubernetes does."
)
_NO_DIRECTORY = "there is no such directory: name one that is there, or wait for it with --watch."

if TYPE_CHECKING:
    from cni_reaper_plugin.operator.conflists.conflist import Json
    from cni_reaper_plugin.operator.install.changes import Change, Executable
    from cni_reaper_plugin.operator.install.snapshot import Given, Snapshot


@dataclass(frozen=True)
class Wanted:
    """options: for our entry, None to leave an entry's own; drop_in: as --help has it; conflists: False for the executable
    only."""

    options: Json | None = None
    drop_in: bool = False
    conflists: bool = True


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
    return _tell(outcome)


def dry_run(given: Given, wanted: Wanted) -> int:
    """Print what would be done, the conflists' part of it as a diff, and return the exit code."""
    node = _take(given, wanted)
    outcome, wished = _wished(node, wanted)
    bin_dirs = targets.bin_dirs(node, wished)
    for executable in plan.executables(bin_dirs):
        try:
            outcome.done += executable.show()
        except plugin_dir.TROUBLE as e:
            outcome.problems.append(plugin_dir.told(e, executable.bin_dir))
    for change in plan.entries(node, wished.found, bin_dirs, wanted.options, in_drop_in=wanted.drop_in):
        try:
            outcome.done += change.show()
        except TROUBLE as e:
            outcome.problems.append(problem_of(change.path, e))
    return _tell(outcome)


def apply(given: Given, wanted: Wanted, renew: bool = True) -> Outcome:
    """Do what is to be done; nothing, when everything is in its place.

    renew: put the executable that runs there, whichever is; else only where none is that works: another one may have been
    installed meanwhile.
    """
    node = _take(given, wanted)
    outcome, wished = _wished(node, wanted)
    needed = targets.bin_dirs(node, wished)
    if installation.is_of_container(needed, mountinfo.read(), os.stat("/proc/self/ns/pid").st_ino):
        outcome.problems.append(_OF_CONTAINER)
        outcome.is_placed = False
        return outcome
    try:
        with installation.locked() as noted:
            node = node.again(noted)
            outcome, wished = _wished(node, wanted)
            executables = plan.executables(sorted(targets.bin_dirs(node, wished)), renew=renew)
            placed = [one.bin_dir for one in executables if _place(one, node, wished, outcome)]
            node.tidy()
            for change in plan.entries(node, wished.found, placed, wanted.options, in_drop_in=wanted.drop_in):
                _put(change, outcome)
    except InstallationError as e:
        outcome.problems.append(str(e))
        outcome.is_placed = False
    return outcome


def _take(given: Given, wanted: Wanted) -> Snapshot:
    return snapshot.take(given if wanted.conflists else replace(given, files=[]))


def _wished(node: Snapshot, wanted: Wanted) -> tuple[Outcome, Targets]:
    """Return what there is to do, and an outcome with what cannot be done."""
    wished = targets.find(node) if wanted.conflists else Targets()
    is_fresh = any(_is_fresh(problem.partition(": ")[0]) for problem in wished.problems)
    return Outcome(problems=wished.problems, waiting=wished.waiting, fresh=is_fresh), wished


def _place(executable: Executable, node: Snapshot, wished: Targets, outcome: Outcome) -> bool:
    """Put the executable there, take over what version 0.1.0 has left, and note what has changed. Returns whether it is there.

    Where only some runtime may look that is not configured, nothing but a note is made of trouble.
    """
    bin_dir = executable.bin_dir
    try:
        outcome.done += executable.apply()
    except plugin_dir.TROUBLE as e:
        is_needed = not wished.found or any(bin_dir in target.bin_dirs for target in wished.found)
        (outcome.problems if is_needed else outcome.notes).append(plugin_dir.told(e, bin_dir))
        outcome.is_placed = False
        return False
    try:
        node.noted.take_over([bin_dir])
        stays = legacy_bundle.tidy(bin_dir)
    except (InstallationError, OSError) as e:
        outcome.problems.append(plugin_dir.told(e, legacy_bundle.root_of(bin_dir)))
    else:
        outcome.notes += [stays] if stays else []
    return True


def _put(change: Change, outcome: Outcome) -> None:
    """Put our entry into a conflist, and note what has changed."""
    try:
        done = change.apply()
    except TROUBLE as e:
        outcome.problems.append(problem_of(change.path, e))
        outcome.fresh |= _is_fresh(change.path)
        return
    outcome.done += done
    (outcome.put if done else outcome.there).append(change.path)


def _unknown(wanted: Wanted) -> list[str]:
    """Return a sentence about options that this version does not know; a later one may."""
    known = ("type", *options.KEYS.values())
    unknown = [key for key in wanted.options or {} if key not in known]
    return [f"{', '.join(unknown)}: not an option of version {__version__}, so it has no effect."] if unknown else []


def _tell(outcome: Outcome) -> int:
    """Print an outcome, and return the exit code."""
    for directory in outcome.waiting:
        outcome.problems.append(f"{directory}: {_NO_CONFLIST if os.path.isdir(directory) else _NO_DIRECTORY}")
    return outcome.tell("install", "everything is in its place already")


def _is_fresh(path: str) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime < FRESH_S
    except OSError:
        return False
