"""Which conflists have our entry, and with which options: `<bin>/.cni-reaper/entries.json`, an object {conflist: options}.

An entry that a platform's rewrite took out comes back with the options it had, a dry run as a dry run; and uninstall finds a
conflist in a directory that no runtime's configuration names. It lies beside the bundles because every installer can write there,
the one in a container, too. What cannot be read counts as nothing, and is written anew.
"""

import json
import os

from cni_reaper_plugin import files
from cni_reaper_plugin.operator import advice, bundle, replacement

_LIMIT = 1 << 24

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_reaper_plugin.operator.conflist import Json


class RegisterError(Exception):
    """It cannot be written; one sentence that says what to do."""


def read(bin_dir: str) -> "dict[str, Json]":
    """Return the options of our entries whose executable is in a directory of plugins, by the absolute path of the conflist."""
    try:
        told = json.loads(files.read(_path(bin_dir), limit=_LIMIT).decode())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    return {path: one for path, one in told.items() if path.startswith("/") and "\0" not in path and isinstance(one, dict)}


def key(path: str) -> str:
    """Return the name under which a conflist is noted, whatever links lead to its directory; the file itself may be one."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def options_of(path: str, bin_dirs: list[str]) -> "Json | None":
    """Return the options that our entry had when it was last put there, None when it never was. The first directory counts."""
    return next((noted[key(path)] for noted in map(read, bin_dirs) if key(path) in noted), None)


def note(path: str, options: "Json | None", bin_dirs: list[str]) -> None:
    """Note the options of the entry in a conflist or a drop-in, or with None that there is none any more.

    bundle.locked is held of each of these directories of plugins. Nothing is written where it is noted already. Raises
    RegisterError.
    """
    for bin_dir in bin_dirs:
        known = read(bin_dir)
        if known.get(key(path)) == options:
            continue
        known.pop(key(path), None)
        if options is not None:
            known[key(path)] = options
        try:
            _write(bin_dir, known)
        except (OSError, ValueError, RecursionError) as e:
            why, what = (e.strerror or e, advice.on(e)) if isinstance(e, OSError) else (e, "make its options simpler")
            raise RegisterError("our entry in it cannot be noted in %s (%s): %s." % (_path(bin_dir), why, what)) from None


def _write(bin_dir: str, known: "dict[str, Json]") -> None:
    if known:
        replacement.create(_path(bin_dir), json.dumps(known, indent=2).encode() + b"\n")  # names that are no UTF-8, too
    else:
        replacement.remove(_path(bin_dir))


def _path(bin_dir: str) -> str:
    return "%s/%s" % (bundle.root_of(bin_dir), bundle.ENTRIES)
