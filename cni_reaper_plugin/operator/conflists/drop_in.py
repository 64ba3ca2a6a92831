"""Our entry in a file of its own, `<conf dir>/<network>/50-cni-reaper.conf`, which libcni 1.3 and later appends to a list.

No platform that rewrites its list touches it. Its place is the tail: an ADD does not reach us there while the pool is full, and
only the DEL that follows frees something. Older runtimes ignore the directory without a word. Source: libcni/conf.go (3f51e88).
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from cni_reaper_plugin.operator.conflists import atomic_edit, conflist, entry
from cni_reaper_plugin.operator.conflists.conflist import OURS, Conflist, ConflistError

NAME = "50-cni-reaper.conf"
COSTS = (
    "it works only where the runtime has libcni 1.3 (containerd 2.1, CRI-O 1.33, multus thick 4.2.1; not multus thin), and "
    "others ignore it without a word; and it puts us last in the chain: while the pool is full an ADD fails before it reaches "
    "us, and the DEL that follows frees."
)

if TYPE_CHECKING:
    from cni_reaper_plugin.operator.conflists.conflist import Json


def directory_of(one: Conflist) -> str:
    """Return the directory whose files libcni appends to a list."""
    return f"{os.path.dirname(one.path)}/{one.name}"


def path_of(one: Conflist) -> str:
    """Return the path of our file for a list."""
    return f"{directory_of(one)}/{NAME}"


def text_of(one: Conflist, given: Json | None, had: Json | None = None) -> bytes:
    """Return what is to be in our file; one that is there stays as it is without options. Raises ConflistError, OptionsError."""
    if one.single:
        raise entry.SingleError(entry.single(one.path))
    if one.inlined_only:
        raise ConflistError("it says `loadOnlyInlinedPlugins`, so nothing is appended to it: install without --drop-in.")
    if one.ours:
        raise ConflistError("our entry is in the list itself, and would be there twice: uninstall it first.")
    others = [path for path in files_of(one) if path != path_of(one)]
    if others:
        raise ConflistError(f"our entry is in {', '.join(others)} already, and would be there twice: remove that first.")
    if given is None and path_of(one) in files_of(one):
        return conflist.read(path_of(one))
    return entry.rendered(one, given, had).encode() + b"\n"


def put(one: Conflist, text: bytes) -> bool:
    """Write our file; False when it is there. Raises OSError."""
    path = path_of(one)
    with suppress(FileExistsError):
        os.mkdir(os.path.dirname(path), 0o755)
    if not atomic_edit.create(path, text):
        return False
    atomic_edit.nudge(one.path)
    return True


def files_of(one: Conflist) -> list[str]:
    """Return the files that append us to a list: ours, and those that somebody has written by hand."""
    found = []
    for path in conflist.files_of(directory_of(one), (".conf",)):
        with suppress(ConflistError):
            if conflist.of_drop_in(path).get("type") == OURS:
                found.append(path)
    return found


def tidy(path: str) -> None:
    """Remove temporary files of ours that were left beside a list, beside what a link to it leads to, and for its drop-in."""
    for directory in {os.path.dirname(os.path.abspath(path)), os.path.dirname(os.path.realpath(path))}:
        atomic_edit.tidy(directory)
    with suppress(ConflistError):
        one = conflist.load(path)
        if not one.single:
            atomic_edit.tidy(os.path.dirname(path_of(one)))


def remove(path: str, one: Conflist) -> None:
    """Remove such a file, and its directory when nothing else is in it. Raises OSError."""
    atomic_edit.remove(path)
    with suppress(OSError):
        os.rmdir(os.path.dirname(path))
    atomic_edit.nudge(one.path)
