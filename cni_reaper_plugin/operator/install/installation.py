"""What an installation has to remember: `/var/lib/cni/reaper/installation.json`, and the lock of install and uninstall beside it.

    {"entries": {"/etc/cni/net.d/10-net.conflist": {"options": {"dryRun": true}, "binDirs": ["/opt/cni/bin"]}}}

An entry that a platform's rewrite took out comes back with the options it had, a dry run as a dry run; and uninstall finds a
conflist in a directory that no runtime's configuration names. The directory is the same whatever `stateDir` an entry has: records
are directories in it, and disturb nothing. Keys that this version does not know are kept. A file that is not valid is set aside.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cni_reaper_plugin.namespaces import netns
from cni_reaper_plugin.operator import advice, lock_file
from cni_reaper_plugin.operator.conflists import atomic_edit, conflist
from cni_reaper_plugin.operator.executable import legacy_bundle
from cni_reaper_plugin.options import Settings
from cni_reaper_plugin.system import files, mountinfo

DIRECTORY = Settings().state_dir
PATH = DIRECTORY + "/installation.json"
LOCK = DIRECTORY + "/installation.lock"
DAMAGED = ".damaged-"
_LOCK_WAIT_S = 60.0
_LIMIT = 1 << 24
_ENTRIES, _OPTIONS, _BIN_DIRS = "entries", "options", "binDirs"

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    from cni_reaper_plugin.operator.conflists.conflist import Json

    Document = dict[str, Any]


def is_of_container(bin_dirs: list[str], mounts: str, pid_namespace: int) -> bool:
    """Tell whether what is noted would be lost with a container, while a directory of plugins is the node's.

    So it is in a PID namespace of its own, where that directory is a mount and DIRECTORY is on the root file system.

    Args:
        bin_dirs: directories of plugins.
        mounts: of this process, as `mountinfo` reads them.
        pid_namespace: the inode number of its PID namespace.
    """

    def is_mounted(path: str) -> bool:
        line = mountinfo.line_of(os.path.realpath(path), mounts)
        return line != "" and mountinfo.point(line) != "/"

    if pid_namespace == netns.INITIAL_PID_NAMESPACE or is_mounted(DIRECTORY):
        return False
    return any(map(is_mounted, bin_dirs))


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


def noted(bin_dirs: list[str]) -> dict[str, Noted]:
    """Return what is known of each entry, by the absolute path of the conflist or drop-in.

    bin_dirs: where version 0.1.0 may have left its notes. These are removed when they are taken over, so they are newer than
    what is noted here. Raises InstallationError.
    """
    found = {path: _understood(one) for path, one in _entries(_read()[0]).items()}
    for bin_dir in reversed(bin_dirs):
        for path, options in legacy_bundle.entries(bin_dir).items():
            known = found[path].bin_dirs if path in found else []
            found[path] = Noted(options, list(dict.fromkeys([*known, bin_dir])))
    return found


def options_of(path: str, bin_dirs: list[str]) -> Json | None:
    """Return the options that an entry had when it was last noted, None when it never was. Raises InstallationError."""
    one = noted(bin_dirs).get(key(path))
    return one.options if one else None


def note(path: str, options: Json, bin_dirs: list[str]) -> None:
    """Note the entry in a conflist or drop-in. Nothing is written where it is noted already. `locked` is held.

    Raises InstallationError.
    """
    _change({key(path): Noted(options, bin_dirs)}, ())


def forget(paths: Collection[str]) -> None:
    """Forget entries. `locked` is held. Raises InstallationError."""
    _change({}, paths)


def take_over(bin_dirs: list[str]) -> None:
    """Note what version 0.1.0 has noted in directories of plugins, and remove it there. `locked` is held.

    Raises InstallationError, OSError.
    """
    if any(legacy_bundle.entries(one) for one in bin_dirs):
        _change(noted(bin_dirs), ())
        for bin_dir in bin_dirs:
            legacy_bundle.forget_entries(bin_dir)


def remove() -> None:
    """Remove the lock, all that was set aside, and the directory when nothing else is in it; nothing while an entry is noted.

    `locked` is held. Raises OSError.
    """
    if os.path.lexists(PATH):
        return
    for name in os.listdir(DIRECTORY):
        if name.startswith(os.path.basename(PATH) + DAMAGED):
            os.unlink(f"{DIRECTORY}/{name}")
    os.unlink(LOCK)
    with suppress(OSError):  # records, or a link in its place
        os.rmdir(DIRECTORY)


@contextmanager
def locked() -> Iterator[None]:
    """Hold the installation of this node: flock(2) on a file that only root can open.

    Install holds it from before the executable is there until the entry is, and uninstall from before the last look for an
    entry until the executable is removed: else an entry could lose its executable between the two. Raises InstallationError.
    """
    try:
        fd = _locked()
    except OSError as e:
        raise InstallationError(f"{e.filename or LOCK} cannot be locked ({e.strerror or e}): {advice.on(e)}.") from None
    try:
        atomic_edit.tidy(DIRECTORY)
        yield
    finally:
        os.close(fd)


def _locked() -> int:
    """Take the lock, in a directory that its last holder may have removed, and return its descriptor.

    Raises OSError, InstallationError.
    """
    end = time.monotonic() + _LOCK_WAIT_S
    while True:
        files.make_directory(DIRECTORY, 0o700)
        if not os.path.islink(DIRECTORY) and os.stat(DIRECTORY).st_mode & 0o777 != 0o700:
            os.chmod(DIRECTORY, 0o700)  # a kubelet makes it for everybody, and who can read it can lock it
        try:
            fd = lock_file.take(LOCK, end)
        except FileNotFoundError:
            if time.monotonic() > end or os.path.islink(DIRECTORY):
                raise
            continue  # its last holder has removed it with the directory
        if fd < 0:
            raise InstallationError(f"another cni-reaper install or uninstall holds {LOCK}: wait for it, and try again.")
        return fd


def _change(put: dict[str, Noted], out: Collection[str]) -> None:
    """Write the file with some entries noted and some forgotten; nothing where that is so already. Raises InstallationError."""
    document, is_valid = _read()
    entries = dict(_entries(document))
    for path, one in put.items():
        before = entries.get(path, {})
        known = [*_understood(before).bin_dirs, *one.bin_dirs]
        entries[path] = {**before, _OPTIONS: one.options, _BIN_DIRS: list(dict.fromkeys(known))}
    for path in out:
        entries.pop(path, None)
    try:
        if not is_valid:
            os.link(PATH, PATH + DAMAGED + os.urandom(4).hex())
        made = {**document, _ENTRIES: entries}
        if entries or len(made) > 1:
            atomic_edit.create(PATH, json.dumps(made, indent=2).encode() + b"\n")  # names that are not UTF-8, too
        else:
            atomic_edit.remove(PATH)
    except (OSError, ValueError, RecursionError) as e:
        why, what = (e.strerror or e, advice.on(e)) if isinstance(e, OSError) else (e, "make the options simpler")
        raise InstallationError(f"the entry cannot be noted in {PATH} ({why}): {what}.") from None


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
