"""A `.conf` of one plugin becomes a `.conflist` of ours and that one, and back. Never without being asked.

X.conf moves to X.conf.before-cni-reaper, which no runtime loads, and stays there as it was. While both files are there the .conf
counts, which sorts before the .conflist: whoever is killed in between leaves a node that works as before.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cni_reaper_plugin.operator.conflists import atomic_edit, conflist, entry
from cni_reaper_plugin.operator.conflists.conflist import ConflistError
from cni_reaper_plugin.operator.conflists.conflist_text import TextError

BEFORE = ".before-cni-reaper"

if TYPE_CHECKING:
    from cni_reaper_plugin.operator.conflists.conflist import Json


def target_of(path: str) -> str:
    """Return the path of the list that is made of a `.conf`."""
    return path.rpartition(".")[0] + ".conflist"


def text_of(path: str, given: Json | None, had: Json | None = None) -> bytes:
    """Return the list that would be made of a `.conf`, with our entry (entry.put). Raises ConflistError, OptionsError."""
    raw = conflist.read(path)
    made = _list_of(path, raw)
    return entry.put(target_of(path), made, given, had)


def convert(path: str, given: Json | None, had: Json | None = None) -> bool:
    """Put the list in the place of a `.conf`; False when it is there. Raises ConflistError, OptionsError, OSError."""
    text, target = text_of(path, given, had), target_of(path)
    if os.path.lexists(target) and conflist.read(target) != text and not _is_of(target, path, path + BEFORE):
        raise ConflistError(f"{target} is there already, with another content: remove one of them.")
    atomic_edit.create(target, text, like=path)
    atomic_edit.move(path, path + BEFORE)
    return True


def revert(path: str) -> bool:
    """Put a `.conf` back that was set aside as `path`; False when the list is no more what was made of it.

    One that the platform has written anew since stays as it is, and what was set aside for it goes. Raises OSError,
    ConflistError.
    """
    original = path.removesuffix(BEFORE)
    target = target_of(original)
    if not _is_of(target, original, path):
        return False
    if os.path.lexists(original):
        atomic_edit.remove(path)
    else:
        atomic_edit.move(path, original)
    atomic_edit.remove(target)
    return True


def _is_of(target: str, original: str, aside: str) -> bool:
    """Tell whether a list is, but for our entry, what was made of a file that was set aside. Raises ConflistError."""
    if not os.path.lexists(aside):
        return False
    try:
        return entry.take(conflist.read(target)) == _list_of(original, conflist.read(aside))
    except TextError:
        return False


def is_left_over(path: str) -> bool:
    """Tell whether a list is what would be made of the `.conf` beside it, but for our entry: somebody was killed in between."""
    original = path.removesuffix("list")
    try:
        return entry.take(conflist.read(path)) == _list_of(original, conflist.read(original))
    except (ConflistError, TextError):
        return False


def _list_of(path: str, raw: bytes) -> bytes:
    """Return a list of the one plugin, whose text stays as it is within. Name and version stay: the store goes by the name."""
    one = conflist.of_bytes(path, raw)
    if not one.single or not path.endswith(".conf"):
        raise ConflistError("it is no .conf of one plugin: only such a one can be converted.")
    head: Json = {"cniVersion": one.version, "name": one.name}
    return entry.spaced(head).encode()[:-1] + b', "plugins": [' + raw.strip() + b"]}\n"
