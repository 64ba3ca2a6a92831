"""What an installation has to remember: `/var/lib/cni/reaper/installation.json`, the register.

    {"entries": {"/etc/cni/net.d/10-net.conflist": {"options": {"dryRun": true}, "binDirs": ["/opt/cni/bin"]}}}

An entry that a platform's rewrite took out comes back with the options it had, a dry run as a dry run; and uninstall finds a
conflist in a directory that no runtime's configuration names. The directory is the same whatever `stateDir` an entry has: records
are directories in it, and disturb nothing. Keys that this version does not know are kept. A file that is not valid is set aside.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cni_reaper_plugin.operator import advice
from cni_reaper_plugin.operator.conflists import atomic_edit, conflist
from cni_reaper_plugin.operator.executable import legacy_bundle
from cni_reaper_plugin.options import Settings
from cni_reaper_plugin.system import files

DIRECTORY = Settings().state_dir
PATH = DIRECTORY + "/installation.json"
DAMAGED = ".damaged-"
_LIMIT = 1 << 24
_ENTRIES, _OPTIONS, _BIN_DIRS = "entries", "options", "binDirs"

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Any

    from cni_reaper_plugin.operator.conflists.conflist import Json

    Document = dict[str, Any]


class InstallationError(Exception):
    """It cannot be read, written or locked; one sentence that says what to do."""


@dataclass
class Noted:
    """What is known of an entry. options: those it had; bin_dirs: where its runtimes find the executable."""

    options: Json
    bin_dirs: list[str] = field(default_factory=list)


def key(path: str) -> str:
    """Return the name under which a conflist is noted, whatever links lead to its directory; the file itself may be one."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


class Register:
    """What is noted of this node's installation, as it was when it was read. What changes in it is written at once.

    trouble: why it cannot be read; whoever asks for something in it is told then.
    """

    def __init__(self, document: Document, is_valid: bool, trouble: InstallationError | None = None) -> None:
        self._document, self._is_valid, self._trouble = document, is_valid, trouble
        self._legacy: dict[str, dict[str, Json]] = {}

    def noted(self, bin_dirs: Iterable[str] = ()) -> dict[str, Noted]:
        """Return what is known of each entry, by the absolute path of the conflist or drop-in.

        bin_dirs: where version 0.1.0 may have left its notes. These are removed when they are taken over, so they are newer than
        what is noted here. Raises InstallationError.
        """
        if self._trouble:
            raise self._trouble
        found = {path: _understood(one) for path, one in _entries(self._document).items()}
        for bin_dir in reversed(list(bin_dirs)):
            for path, options in self._of_0_1_0(bin_dir).items():
                known = found[path].bin_dirs if path in found else []
                found[path] = Noted(options, list(dict.fromkeys([*known, bin_dir])))
        return found

    def options_of(self, path: str, bin_dirs: Iterable[str] = ()) -> Json | None:
        """Return the options that an entry had when it was last noted, None when it never was. Raises InstallationError."""
        one = self.noted(bin_dirs).get(key(path))
        return one.options if one else None

    def note(self, path: str, options: Json, bin_dirs: list[str]) -> None:
        """Note the entry in a conflist or drop-in. Nothing is written where it is noted already. `locked` is held.

        Raises InstallationError.
        """
        self._change({key(path): Noted(options, bin_dirs)}, ())

    def forget(self, paths: Collection[str]) -> None:
        """Forget entries. `locked` is held. Raises InstallationError."""
        self._change({}, paths)

    def take_over(self, bin_dirs: list[str]) -> None:
        """Note what version 0.1.0 has noted in directories of plugins, and remove it there. `locked` is held.

        Raises InstallationError, OSError.
        """
        if any(self._of_0_1_0(one) for one in bin_dirs):
            self._change(self.noted(bin_dirs), ())
            for bin_dir in bin_dirs:
                legacy_bundle.forget_entries(bin_dir)
                self._legacy[bin_dir] = {}

    def _of_0_1_0(self, bin_dir: str) -> dict[str, Json]:
        if bin_dir not in self._legacy:
            self._legacy[bin_dir] = legacy_bundle.entries(bin_dir)
        return self._legacy[bin_dir]

    def _change(self, put: dict[str, Noted], out: Collection[str]) -> None:
        """Write the file with some entries noted and some forgotten; nothing where that is so already.

        Raises InstallationError.
        """
        if self._trouble:
            raise self._trouble
        entries = dict(_entries(self._document))
        for path, one in put.items():
            before = entries.get(path, {})
            known = [*_understood(before).bin_dirs, *one.bin_dirs]
            entries[path] = {**before, _OPTIONS: one.options, _BIN_DIRS: list(dict.fromkeys(known))}
        for path in out:
            entries.pop(path, None)
        made = {**self._document, _ENTRIES: entries}
        try:
            if not self._is_valid:
                os.link(PATH, PATH + DAMAGED + os.urandom(4).hex())
            if entries or len(made) > 1:
                atomic_edit.create(PATH, json.dumps(made, indent=2).encode() + b"\n")  # names that are not UTF-8, too
            else:
                atomic_edit.remove(PATH)
        except (OSError, ValueError, RecursionError) as e:
            why, what = (e.strerror or e, advice.on(e)) if isinstance(e, OSError) else (e, "make the options simpler")
            raise InstallationError(f"the entry cannot be noted in {PATH} ({why}): {what}.") from None
        self._document, self._is_valid = made, True


def read() -> Register:
    """Read what is noted."""
    try:
        return Register(*_read())
    except InstallationError as e:
        return Register({}, True, e)


def _read() -> tuple[Document, bool]:
    """Return what is in the file, and whether it is valid, as it is where there is none. Raises InstallationError."""
    try:
        raw = files.read(PATH, limit=_LIMIT)
    except FileNotFoundError:
        return {}, True
    except files.TooLargeError:
        return {}, False
    except OSError as e:
        raise InstallationError(f"{PATH} cannot be read ({e.strerror or e}): {advice.on(e)}.") from None
    try:
        told = json.loads(raw.decode(), parse_constant=conflist.no_constant)
    except (ValueError, RecursionError):
        return {}, False
    if not isinstance(told, dict) or not isinstance(told.get(_ENTRIES, {}), dict):
        return {}, False
    return told, len(_entries(told)) == len(told.get(_ENTRIES, {}))


def _entries(document: Document) -> dict[str, Document]:
    """Return the entries of the file that are valid."""
    return {path: one for path, one in document.get(_ENTRIES, {}).items() if _is_path(path) and _is_valid(one)}


def _is_valid(one: object) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get(_OPTIONS), dict):
        return False
    bin_dirs = one.get(_BIN_DIRS, [])
    return isinstance(bin_dirs, list) and all(map(_is_path, bin_dirs))


def _is_path(told: object) -> bool:
    return isinstance(told, str) and told.startswith("/") and "\0" not in told


def _understood(one: Document) -> Noted:
    return Noted(one.get(_OPTIONS, {}), list(one.get(_BIN_DIRS, [])))
