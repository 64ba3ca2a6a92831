"""A `.conf` of one plugin that version 0.1.0 has made a `.conflist` of, and back: `install --convert` is no longer there.

X.conf moved to X.conf.before-cni-reaper, which no runtime loads, and stayed there as it was. While both files are there the .conf
counts, which sorts before the .conflist: whoever was killed in between has left a node that works as before.
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


def list_of(path: str) -> str:
    """Return the path of the list that was made of a `.conf`."""
    return path.rpartition(".")[0] + ".conflist"


def revert(path: str) -> bool:
    """Put a `.conf` back that was set aside as `path`; False when the list is no longer what was made of it.

    One that the platform has written anew since stays as it is, and what was set aside for it goes. Raises OSError,
    ConflistError.
    """
    original = path.removesuffix(BEFORE)
    made = list_of(original)
    if not _is_of(made, original, path):
        return False
    if os.path.lexists(original):
        atomic_edit.remove(path)
    else:
        atomic_edit.move(path, original)
    atomic_edit.remove(made)
    return True


def _is_of(made: str, original: str, aside: str) -> bool:
    """Tell whether a list is, but for our entry, what was made of a file that was set aside. Raises ConflistError."""
    if not os.path.lexists(aside):
        return False
    try:
        return entry.take(conflist.read(made)) == _text(original, conflist.read(aside))
    except TextError:
        return False


def is_left_over(path: str) -> bool:
    """Tell whether a list is what was made of the `.conf` beside it, but for our entry: somebody was killed in between."""
    original = path.removesuffix("list")
    if not os.path.lexists(original):
        return False
    try:
        return entry.take(conflist.read(path)) == _text(original, conflist.read(original))
    except (ConflistError, TextError):
        return False


def _text(path: str, raw: bytes) -> bytes:
    """Return the list that 0.1.0 made of a plugin, whose text stayed as it was within, without our entry.

    Raises ConflistError where the text is no `.conf` of one plugin.
    """
    one = conflist.of_bytes(path, raw)
    if not one.single or not path.endswith(".conf"):
        raise ConflistError("it is no .conf of one plugin.")
    head: Json = {"cniVersion": one.version, "name": one.name}
    return entry.spaced(head).encode()[:-1] + b', "plugins": [' + raw.strip() + b"]}\n"
