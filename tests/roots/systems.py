"""Directories with other systems, which nodes take for their root (tests.support.node, `root`).

Debian's are made by debootstrap, as root, and kept in CNI_REAPER_CACHE (packaging/build_root.py) under the hash of their recipe.
Remove them there for newer packages. Nothing writes to them afterwards: a node has a layer of its own over its root.
"""

import fcntl
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.programs import ROOT

sys.path.insert(0, str(ROOT / "packaging"))
import build_root

DEBIAN = {"bullseye": (), "bookworm": (), "trixie": ("busybox-static",)}
"""The packages that each has besides those that Debian calls essential, and apt."""
WITHOUT_LIBC = "no libc"
ALL = (WITHOUT_LIBC, *DEBIAN)
COMMANDS = ("cat", "chroot", "cmp", "cp", "find", "ls", "mkdir", "mount", "nsenter", "sh", "sleep", "unshare")
"""What busybox is called in the root without libc; tests use no other command."""
NOT_NEEDED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man")


def system(name: str) -> Path:
    """Return the directory of a system, one of ALL, made when there is none.

    Raises:
        build_root.BuildError: it cannot be made.
    """
    if name == WITHOUT_LIBC:
        busybox = system("trixie") / "usr/bin/busybox"
        return _kept(name, build_root.hashed(busybox, *COMMANDS), lambda new: _without_libc(new, busybox))
    recipe = build_root.hashed(name, *DEBIAN[name], *NOT_NEEDED)
    return _kept(name, recipe, lambda new: _debian(new, name))


def _kept(name: str, recipe: str, make: Callable[[Path], None]) -> Path:
    place = build_root.cache() / f"test-{name.replace(' ', '-')}-{recipe}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # while another process of the tests makes it
        if not place.exists():
            new = place.with_name(f"{place.name}.new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            make(new)
            new.rename(place)
    return place


def _debian(new: Path, suite: str) -> None:
    packages = [f"--include={','.join(DEBIAN[suite])}"] if DEBIAN[suite] else []
    options = ["--variant=minbase", f"--keyring={build_root.KEYRING}", *packages]
    build_root.run("debootstrap", *options, suite, new, build_root.mirror())
    for name in NOT_NEEDED:
        shutil.rmtree(new / name, ignore_errors=True)
    shutil.rmtree(new / "dev")  # no device of this machine
    (new / "dev").mkdir()


def _without_libc(new: Path, busybox: Path) -> None:
    (new / "bin").mkdir()
    shutil.copy(busybox, new / "bin")
    for command in COMMANDS:
        os.symlink("busybox", new / "bin" / command)
