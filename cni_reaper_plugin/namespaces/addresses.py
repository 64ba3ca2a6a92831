"""Which addresses are configured in a network namespace. Imported only when something is about to be called stale.

A netns that a process lives in is read through /proc/<pid>/net, while its tables are short: they list routes, and there may
be a million. Another is entered with setns(2), which `posix` has from Python 3.12 on, and asked by rtnetlink. Absence
proves nothing (gVisor takes the address off the interface; an IPv6 address hides while its link is down); presence proves
life.
"""

from __future__ import annotations

import posix
from typing import TYPE_CHECKING

from cni_reaper_plugin.model import StrandedError
from cni_reaper_plugin.system import files
from cni_reaper_plugin.system.rtnetlink import Rtnetlink, UnsteadyError

_CLONE_NEWNET = 0x40000000
_TABLE_LIMIT = 1 << 18  # some 2,500 routes
_READS = 4
_PROCESSES_ENTERED = 4  # any of them will do; more than one, since a process may end

if TYPE_CHECKING:
    from collections.abc import Callable


def pack(address: str) -> bytes:
    """Return the 4 or 16 bytes of an address as host-local spells it, b"" for anything else.

    host-local's names are Go's canonical spelling; another spelling of the same address is somebody else's file.
    """
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            packed = _socket.inet_pton(family, address)
        except (OSError, ValueError):
            continue
        return packed if _socket.inet_ntop(family, packed) == address else b""
    return b""


def of_processes(ino: int, processes: list[int]) -> frozenset[bytes] | None:
    """Return the packed addresses of the netns with this inode number, as /proc shows them of the processes that live in it.

    None where it does not, or not as a whole.
    """
    for pid in processes:
        try:
            found = _of_process(ino, pid)
        except _UnsuitableError:
            return None
        if found is not None:
            return found
    return None


class Look:
    """A look into one netns after the other, which ends in our own: a context manager.

    Entering is set up at the first netns that needs it: the way back is tried before the first step is taken.
    """

    def __init__(self) -> None:
        self._home: int | None = None
        self._nsfs = 0
        self._setns: Callable[[int, int], None] | None = None

    def __enter__(self) -> Look:
        return self

    def __exit__(self, *_: object) -> None:
        """Go home. Raises StrandedError when there is no way back."""
        if self._home is None:
            return
        try:
            if self._setns is not None:
                self._setns(self._home, _CLONE_NEWNET)
        except OSError as e:
            raise StrandedError("there is no way back from the netns that was looked into last") from e
        finally:
            posix.close(self._home)

    def configured(self, ino: int, processes: list[int], paths: list[str]) -> frozenset[bytes] | None:
        """Return the packed addresses of the netns with this inode number, None when no place lets us look.

        processes: IDs of processes that were seen in it; paths: others that lead to it.
        """
        found = of_processes(ino, processes)
        if found is not None:
            return found
        for path in [*paths, *("/proc/%d/ns/net" % pid for pid in processes[:_PROCESSES_ENTERED])]:
            try:
                if self._enter(ino, path):
                    with Rtnetlink() as netlink:
                        return frozenset(netlink.addresses())
            except UnsteadyError:
                return None  # from another place it is the same
            except OSError:
                continue
        return None

    def _enter(self, ino: int, path: str) -> bool:
        """Enter the netns at a path, if it has this inode number. Raises OSError."""
        if self._home is None:
            self._open()
        if self._setns is None:
            return False
        there = files.open_on_device(path, self._nsfs)
        try:
            if posix.fstat(there).st_ino != ino:
                return False
            self._setns(there, _CLONE_NEWNET)
            return True
        finally:
            posix.close(there)

    def _open(self) -> None:
        """Open the way back. Raises OSError."""
        self._nsfs = posix.stat("/proc/self/ns/net").st_dev
        self._home = files.open_on_device("/proc/self/ns/net", self._nsfs)
        setns: Callable[[int, int], None] | None = getattr(posix, "setns", None)  # from source, Python may be older
        if setns is not None:
            setns(self._home, _CLONE_NEWNET)  # in a user namespace that does not own our netns there is no way back
            self._setns = setns


class _UnsuitableError(Exception):
    """The tables of /proc are too long, or change too fast, to be read as a whole."""


def _of_process(ino: int, pid: int) -> frozenset[bytes] | None:
    """Return the addresses of a process's netns, None where it is gone or in another one. Raises _UnsuitableError."""
    process = "/proc/%d" % pid
    try:
        found = _read(process + "/net")
        still = posix.stat(process + "/ns/net").st_ino == ino  # the number may have become another process's
    except OSError:
        return None
    return found if still else None


def _read(net: str) -> frozenset[bytes]:
    """Read the local addresses under a /proc/…/net. Raises OSError."""
    found = _ipv4(_consistent(net + "/fib_trie"))
    try:
        inet6 = _consistent(net + "/if_inet6")
    except FileNotFoundError:  # no IPv6 on this kernel
        inet6 = b""
    for line in inet6.split(b"\n"):
        if line:
            found.add(bytes.fromhex(line[:32].decode("ascii")))
    return frozenset(found)


def _consistent(path: str) -> bytes:
    """Read a table of the kernel; one longer than a page comes in several pieces, so until two reads agree.

    Raises OSError and _UnsuitableError.
    """
    data = b""
    for _ in range(_READS):
        try:
            again = files.read(path, limit=_TABLE_LIMIT)
        except files.TooLargeError as e:
            raise _UnsuitableError from e
        if len(again) < 4000 or again == data:
            return again
        data = again
    raise _UnsuitableError


def _ipv4(fib_trie: bytes) -> set[bytes]:
    """Return the addresses of the `host LOCAL` leaves: `|-- 10.0.0.7`, next line `/32 host LOCAL`."""
    found = set()
    leaf = b""
    for line in fib_trie.split(b"\n"):
        if b"|-- " in line:
            leaf = line.rpartition(b" ")[2]
        elif b"/32 host LOCAL" in line:
            found.add(bytes(int(part) for part in leaf.split(b".")))
    return found
