"""`cni-reaper install --dry-run`: what would be done, the conflists' part of it as a diff."""

import difflib
from contextlib import suppress

from cni_reaper_plugin.operator.conflists import conflist, converted, drop_in, entry
from cni_reaper_plugin.operator.conflists.conflist import ConflistError
from cni_reaper_plugin.operator.executable import plugin_dir
from cni_reaper_plugin.operator.install import install, targets
from cni_reaper_plugin.operator.install.install import Wanted
from cni_reaper_plugin.operator.install.targets import Given, Target


def run(given: Given, wanted: Wanted) -> int:
    """Print what would be done, the conflists' part of it as a diff, and return the exit code."""
    wished = targets.find(given) if wanted.conflists else targets.Targets()
    outcome = install.Outcome(problems=wished.problems, waiting=wished.waiting)
    for bin_dir in targets.bin_dirs(given, wished):
        try:
            if not plugin_dir.is_placed(bin_dir):
                outcome.done.append(f"would put this executable at {plugin_dir.path_of(bin_dir)}")
        except plugin_dir.TROUBLE as e:
            outcome.problems.append(plugin_dir.told(e, bin_dir))
    for target in wished.found:
        try:
            for name, before, after in _changes(target, wanted):
                outcome.done += difference(name, before, after)
        except install.TROUBLE as e:
            outcome.problems.append(install.problem_of(target.path, e))
    return install.tell(outcome)


def _changes(target: Target, wanted: Wanted) -> "list[tuple[str, bytes, bytes]]":
    """Return (file, content now, content then) of each file that would be written for a conflist. Raises TROUBLE."""
    path = target.path
    if wanted.drop_in:
        one = conflist.load(path)
        now = b""
        with suppress(OSError, ConflistError):
            now = conflist.read(drop_in.path_of(one))
        had = install.had_options(drop_in.path_of(one), target.all_bin_dirs)
        return [(drop_in.path_of(one), now, drop_in.text_of(one, wanted.options, had))]
    install.refuse_twice(path)
    raw, place = conflist.read(path), install.place_of(path, wanted)
    had = install.had_options(place, target.all_bin_dirs)
    if place != path:
        return [(path, raw, b""), (place, b"", converted.text_of(path, wanted.options, had))]
    return [(path, raw, entry.put(path, raw, wanted.options, had))]


def difference(path: str, before: bytes, after: bytes) -> list[str]:
    """Return a unified diff of a file's content now and then, [] when they are equal."""
    now, then = (text.decode("utf-8", "backslashreplace").splitlines() for text in (before, after))
    return list(difflib.unified_diff(now, then, path, path, lineterm=""))
