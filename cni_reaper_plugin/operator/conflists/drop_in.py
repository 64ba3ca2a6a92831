"""Our entry in a file of its own, `<conf dir>/<network>/50-cni-reaper.conf`, which libcni 1.3 and later appends to a list.

No platform that rewrites its list touches it. Its place is the tail: an ADD does not reach us there while the pool is full, and
only the DEL that follows frees something. Older runtimes ignore the directory without a word. Source: libcni/conf.go (3f51e88).
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from cni_reaper_plugin.operator.conflists import atomic_edit, entry
from cni_reaper_plugin.operator.conflists.conflist import Conflist, ConflistError

NAME = "50-cni-reaper.conf"
COSTS = (
    "it works only where the runtime has libcni 1.3 (containerd 2.1, CRI-O 1.33, multus thick 4.2.1; not multus thin), and "
    "others ignore it without a word; and it puts us last in the chain: while the pool is full an ADD fails before it reaches "
    "us, and the DEL that follows frees."
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_reaper_plugin.operator.conflists.conflist import Json


def directory_of(one: Conflist) -> str:
    """Return the directory whose files libcni appends to a list."""
    return f"{os.path.dirname(one.path)}/{one.name}"


def path_of(one: Conflist) -> str:
    """Return the path of our file for a list."""
    return f"{directory_of(one)}/{NAME}"


def text_of(one: Conflist, there: Mapping[str, bytes], given: Json | None, had: Json | None = None) -> bytes:
    """Return what is to be in our file; one that is there stays as it is without options.

    there: the files beside the list that append us to it, with their bytes. Raises ConflistError, OptionsError.
    """
    if one.single:
        raise ConflistError(entry.as_list(one, given, had))
    if one.inlined_only:
        raise ConflistError("it says `loadOnlyInlinedPlugins`, so nothing is appended to it: install without --drop-in.")
    if one.ours:
        raise ConflistError("our entry is in the list itself, and would be there twice: uninstall it first.")
    others = [path for path in there if path != path_of(one)]
    if others:
        raise ConflistError(f"our entry is in {', '.join(others)} already, and would be there twice: remove that first.")
    if given is None and path_of(one) in there:
        return there[path_of(one)]
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


def remove(path: str, one: Conflist) -> None:
    """Remove such a file, and its directory when nothing else is in it. Raises OSError."""
    atomic_edit.remove(path)
    with suppress(OSError):
        os.rmdir(os.path.dirname(path))
    atomic_edit.nudge(one.path)
