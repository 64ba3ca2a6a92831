"""Kernel calls that the frozen executable has and an older Python lacks, by ctypes: for tests that run the plugin from source."""

import ctypes
import os
import posix
import sys
import types
from typing import Any

from cni_reaper_plugin.system import files, flock

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def setns(fd: int, nstype: int) -> None:
    """Make the system call of that name."""
    _checked(_libc.setns(fd, nstype))


def inotify_init(flags: int) -> int:
    """Make the system call inotify_init1."""
    return _checked(_libc.inotify_init1(flags))


def inotify_add_watch(fd: int, path: bytes, mask: int) -> int:
    """Make the system call of that name."""
    return _checked(_libc.inotify_add_watch(fd, path, ctypes.c_uint32(mask)))


def stand_in() -> None:
    """Give this process what the frozen executable has: `posix.setns` and the module `_kernel`."""
    if not hasattr(posix, "setns"):
        posix.setns = setns  # type: ignore[attr-defined]  # which is why it is put there
    made: Any = types.ModuleType("_kernel")
    made.inotify_init, made.inotify_add_watch, made.identity, made.flock = (
        inotify_init,
        inotify_add_watch,
        files.identity,
        flock.polled,
    )
    sys.modules.setdefault("_kernel", made)
