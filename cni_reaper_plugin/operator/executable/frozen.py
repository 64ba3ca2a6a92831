"""The executable that this process runs from: its file, the sum at its end, and the files that are packed into it.

A call of the runtime reads its modules from this file as well (packaging/bootstrap.py); this module is for operators' commands.
"""

import os
import sys

from cni_reaper_plugin.operator.executable import packed

_SELF = "/proc/self/exe"
_MARK = b"\ncni-reaper sha256 "
_TRAILER_BYTES = len(_MARK) + 64 + 1
_CHUNK = 1 << 20


class NotFrozenError(Exception):
    """This process runs from source and has no executable of its own."""


def open_running() -> int:
    """Return a descriptor of the executable that runs, also when another file has its path or none (proc(5), /proc/pid/exe).

    Raises:
        NotFrozenError: the process runs from source.
        OSError: the file cannot be opened.
    """
    if not getattr(sys, "frozen", False):
        raise NotFrozenError("only the frozen executable can do this: ./build.sh makes dist/cni-reaper, or take a release.")
    try:
        return os.open(_SELF, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # there is no /proc
        return os.open(sys.executable, os.O_RDONLY | os.O_CLOEXEC)


def packed_file(name: str) -> bytes:
    """Return a file that is packed into the executable.

    Raises:
        NotFrozenError: the process runs from source.
        KeyError: there is no such file.
    """
    if not packed.FILES:
        raise NotFrozenError("only the frozen executable has it: ./build.sh makes dist/cni-reaper, or take a release.")
    return packed.FILES[name]


def told_sum(fd: int) -> str | None:
    """Return the SHA-256 that an executable has at its end, in hex; None where it has none. Raises OSError."""
    size = os.fstat(fd).st_size - _TRAILER_BYTES
    trailer = os.pread(fd, _TRAILER_BYTES, size) if size > 0 else b""
    is_whole = trailer.startswith(_MARK) and trailer.endswith(b"\n")
    return trailer[len(_MARK) : -1].decode("ascii", "replace") if is_whole else None


def sums(fd: int) -> tuple[str, str] | None:
    """Return the SHA-256 that an executable has at its end, and that of all bytes before, in hex; None where it has none.

    The build writes it behind the last section, on a line of its own: a truncated file lacks it, a changed one differs.
    Raises OSError.
    """
    import hashlib

    told = told_sum(fd)
    if told is None:
        return None
    size = os.fstat(fd).st_size - _TRAILER_BYTES
    made, place = hashlib.sha256(), 0
    while place < size and (chunk := os.pread(fd, min(_CHUNK, size - place), place)):
        made.update(chunk)
        place += len(chunk)
    return told, made.hexdigest()
