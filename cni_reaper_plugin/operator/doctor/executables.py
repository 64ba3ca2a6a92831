"""The doctor on executables: does the runtime find ours and those of the whole chain, can they be run, is ours intact?"""

from __future__ import annotations

import posix
import posixpath
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
            what = "The plugin %s of the chain is in none of %s." % (kind, ", ".join(bin_dirs))
            yield Finding(
                "plugin-missing", bin_dirs[0], what, "Install it, or take it out of the list: without it no pod starts."
            )


def _our_own(bin_dirs: list[str]) -> Iterator[Finding]:
    path = plugin_path.locate(OURS, bin_dirs)
    if not path:
        yield _missing(bin_dirs)
        return
    real = posixpath.realpath(path)
    runs = True
    if not posix.stat(real).st_mode & 0o111:
        runs = False
        yield Finding("not-executable", path, "It is there, and not executable.", "chmod 755 %s" % real)
    if posix.statvfs(real).f_flag & posix.ST_NOEXEC:
        runs = False
        what = "The file system it is on is mounted noexec."
        yield Finding(
            "noexec", path, what, "Mount it without noexec, or install into a directory elsewhere and name that to the runtime."
        )
    made_for = _architecture(real)
    if elf.is_foreign(made_for):
        runs = False
        what = "It is built for %s, and this kernel runs %s." % (made_for, posix.uname().machine)
        yield Finding("other-architecture", path, what, "Run `install` of the file for this architecture: docs/install.md.")
    if runs:
        where = ", at %s" % real if real != path else ""
        yield Finding("executable", path, "The runtime finds it%s%s." % (where, ", for %s" % made_for if made_for else ""))
    home = posixpath.realpath(posixpath.dirname(path))
    if not real.startswith(home + "/"):
        what = "It is a link to %s, outside of its directory." % real
        advice = "Where a runtime in a container (multus thick, kind) sees only %s, install it there, as README.md has it." % home
        yield Finding("link-leaves", path, what, advice)
    yield _content(path, real)


def _architecture(path: str) -> str:
    try:
        return elf.architecture(path)
    except OSError:
        return ""


def _missing(bin_dirs: list[str]) -> Finding:
    for directory in bin_dirs:
        path = "%s/%s" % (directory, OURS)
        try:
            if stat.S_ISLNK(posix.lstat(path).st_mode):
                advice = "Run `cni-reaper install`: docs/install.md."
                return Finding(
                    "executable-missing", path, "It is a link to %s, which is not there." % posix.readlink(path), advice
                )
        except OSError:
            continue
    what = "%s is in none of the directories in which the runtime looks: %s." % (OURS, ", ".join(bin_dirs))
    return Finding("executable-missing", bin_dirs[0], what, "Run `cni-reaper install`: docs/install.md.")


def _content(path: str, real: str) -> Finding:
    """Compare an executable with the sum that it ends with."""
    advice = "Run `install` of an intact one: docs/install.md."
    try:
        fd = posix.open(real, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
        try:
            sums = frozen.sums(fd)
        finally:
            posix.close(fd)
    except OSError as e:
        return Finding("executable-damaged", path, "It cannot be read: %s." % e.strerror, advice)
    if sums is None:
        what = "It does not end with its sum: it is of version 0.1.0, cut off, or not cni-reaper's own file."
        return Finding("executable-no-sum", path, what, "Run `install`, if it is to be this version.")
    if sums[0] != sums[1]:
        what = "It is damaged: its SHA-256 is %s, and it was built with %s." % (sums[1], sums[0])
        return Finding("executable-damaged", path, what, advice)
    return Finding("executable-intact", path, "Its content has the SHA-256 that it was built with.")
