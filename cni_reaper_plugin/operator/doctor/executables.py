"""The doctor on executables: does the runtime find ours and those of the whole chain, can they be run, is ours intact?"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from cni_reaper_plugin.operator.conflists import plugin_path
from cni_reaper_plugin.operator.conflists.conflist import OURS
from cni_reaper_plugin.operator.doctor import catalogue
from cni_reaper_plugin.operator.executable import elf, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cni_reaper_plugin.operator.doctor.catalogue import Finding


def check(types: Iterable[str], bin_dirs: list[str]) -> Iterator[Finding]:
    """Yield what is to be said of the executables of these plugins, ours always among them."""
    yield from _our_own(bin_dirs)
    for kind in dict.fromkeys(types):
        if kind != OURS and not plugin_path.locate(kind, bin_dirs):
            yield catalogue.PLUGIN_MISSING.at(bin_dirs[0], kind=kind, directories=", ".join(bin_dirs))


def _our_own(bin_dirs: list[str]) -> Iterator[Finding]:
    path = plugin_path.locate(OURS, bin_dirs)
    if not path:
        yield _missing(bin_dirs)
        return
    real = os.path.realpath(path)
    runs = True
    if not os.stat(real).st_mode & 0o111:
        runs = False
        yield catalogue.NOT_EXECUTABLE.at(path, path=real)
    if os.statvfs(real).f_flag & os.ST_NOEXEC:
        runs = False
        yield catalogue.NOEXEC.at(path)
    made_for = _architecture(real)
    if elf.is_foreign(made_for):
        runs = False
        yield catalogue.OTHER_ARCHITECTURE.at(path, built_for=made_for, kernel=os.uname().machine)
    if runs:
        where = f", at {real}" if real != path else ""
        yield catalogue.EXECUTABLE.at(path, where=where + (f", for {made_for}" if made_for else ""))
    home = os.path.realpath(os.path.dirname(path))
    if not real.startswith(home + "/"):
        yield catalogue.LINK_LEAVES.at(path, real=real, directory=home)
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
                return catalogue.EXECUTABLE_LINK_TO_NOTHING.at(path, target=os.readlink(path))
        except OSError:
            continue
    return catalogue.EXECUTABLE_MISSING.at(bin_dirs[0], directories=", ".join(bin_dirs))


def _content(path: str, real: str) -> Finding:
    """Compare an executable with the sum that it ends with."""
    try:
        fd = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            sums = frozen.sums(fd)
        finally:
            os.close(fd)
    except OSError as e:
        return catalogue.EXECUTABLE_UNREADABLE.at(path, trouble=e.strerror)
    if sums is None:
        return catalogue.EXECUTABLE_NO_SUM.at(path)
    if sums[0] != sums[1]:
        return catalogue.EXECUTABLE_DAMAGED.at(path, found=sums[1], built_with=sums[0])
    return catalogue.EXECUTABLE_INTACT.at(path)
