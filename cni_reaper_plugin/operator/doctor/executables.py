"""The doctor on executables: does the runtime find ours and those of the whole chain, can they be run, is ours intact?"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from cni_reaper_plugin.operator.conflists import plugin_path
from cni_reaper_plugin.operator.conflists.conflist import OURS
from cni_reaper_plugin.operator.executable import elf, frozen
from cni_reaper_plugin.operator.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def check(types: Iterable[str], bin_dirs: list[str]) -> Iterator[Finding]:
    """Yield what is to be said of the executables of these plugins, ours always among them."""
    yield from _our_own(bin_dirs)
    for kind in dict.fromkeys(types):
        if kind != OURS and not plugin_path.locate(kind, bin_dirs):
            what = f"The plugin {kind} of the chain is in none of {', '.join(bin_dirs)}."
            yield Finding(
                "plugin-missing", bin_dirs[0], what, "Install it, or take it out of the list: without it no pod starts."
            )


def _our_own(bin_dirs: list[str]) -> Iterator[Finding]:
    path = plugin_path.locate(OURS, bin_dirs)
    if not path:
        yield _missing(bin_dirs)
        return
    real = os.path.realpath(path)
    runs = True
    if not os.stat(real).st_mode & 0o111:
        runs = False
        yield Finding("not-executable", path, "It is there, and not executable.", f"chmod 755 {real}")
    if os.statvfs(real).f_flag & os.ST_NOEXEC:
        runs = False
        what = "The file system it is on is mounted noexec."
        yield Finding(
            "noexec", path, what, "Mount it without noexec, or install into a directory elsewhere and name that to the runtime."
        )
    made_for = _architecture(real)
    if elf.is_foreign(made_for):
        runs = False
        what = f"It is built for {made_for}, and this kernel runs {os.uname().machine}."
        yield Finding("other-architecture", path, what, "Run `install` of the file for this architecture: docs/install.md.")
    if runs:
        where = f", at {real}" if real != path else ""
        yield Finding("executable", path, "The runtime finds it{}{}.".format(where, f", for {made_for}" if made_for else ""))
    home = os.path.realpath(os.path.dirname(path))
    if not real.startswith(home + "/"):
        what = f"It is a link to {real}, outside of its directory."
        advice = f"Where a runtime in a container (multus thick, kind) sees only {home}, install it there, as README.md has it."
        yield Finding("link-leaves", path, what, advice)
    yield _content(path, real)


def _architecture(path: str) -> str:
    try:
        return elf.architecture(path)
    except OSError:
        return ""


def _missing(bin_dirs: list[str]) -> Finding:
    for directory in bin_dirs:
        path = f"{directory}/{OURS}"
        try:
            if stat.S_ISLNK(os.lstat(path).st_mode):
                advice = "Run `cni-reaper install`: docs/install.md."
                return Finding("executable-missing", path, f"It is a link to {os.readlink(path)}, which is not there.", advice)
        except OSError:
            continue
    what = f"{OURS} is in none of the directories in which the runtime looks: {', '.join(bin_dirs)}."
    return Finding("executable-missing", bin_dirs[0], what, "Run `cni-reaper install`: docs/install.md.")


def _content(path: str, real: str) -> Finding:
    """Compare an executable with the sum that it ends with."""
    advice = "Run `install` of an intact one: docs/install.md."
    try:
        fd = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            sums = frozen.sums(fd)
        finally:
            os.close(fd)
    except OSError as e:
        return Finding("executable-damaged", path, f"It cannot be read: {e.strerror}.", advice)
    if sums is None:
        what = "It does not end with its sum: it is of version 0.1.0, cut off, or not cni-reaper's own file."
        return Finding("executable-no-sum", path, what, "Run `install`, if it is to be this version.")
    if sums[0] != sums[1]:
        what = f"It is damaged: its SHA-256 is {sums[1]}, and it was built with {sums[0]}."
        return Finding("executable-damaged", path, what, advice)
    return Finding("executable-intact", path, "Its content has the SHA-256 that it was built with.")
