"""Another program, run with a deadline: never by a shell, with what it says bounded. Imported only to take ports back.

The one place that starts a program beside the installers' (see tests/unit/test_import_rules.py).
"""

from __future__ import annotations

import fcntl
import posix
import select
import time
from typing import TYPE_CHECKING

from cni_reaper_plugin.system import files

_STEP_S = 0.02  # between two looks at a program, where the kernel does not tell of its end (before Linux 5.3)
_REAP_S = 1.0  # after SIGKILL; one that hangs in the kernel is left to init
_SIGKILL, _SIGCHLD = 9, 17  # signal(7); the module `signal` wants the interpreter's second half
_DEFAULT = (1, 2, 3, 13, 15, _SIGCHLD)  # SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM: a program gets them as a runtime's plugins do
_CHUNK = 1 << 16
_MOST = 1 << 26

if TYPE_CHECKING:
    from collections.abc import Iterable

    Environment = dict[bytes, bytes]


class Ended:
    """What came of a program.

    Attributes:
        code: its exit code, negative where a signal ended it; None where it was killed at its deadline or for what it said.
        out: what it wrote to stdout.
        err: what it wrote to stderr.
        trouble: why `code` is None, "" otherwise.
    """

    __slots__ = ("code", "err", "out", "trouble")

    def __init__(self, code: int | None, out: bytes, err: bytes, trouble: str = "") -> None:
        self.code = code
        self.out = out
        self.err = err
        self.trouble = trouble


def find(name: str, directories: Iterable[str]) -> str | None:
    """Return the path of the first regular file of a name in these directories, None where none has one.

    It need not be executable, as libcni has it: then it cannot be started, which is told.
    Source: containernetworking/cni pkg/invoke/find.go (3f51e88).
    """
    for directory in directories:
        path = "%s/%s" % (directory.rstrip("/"), name)
        try:
            if directory.startswith("/") and files.is_regular(posix.stat(path)):
                return path
        except (OSError, ValueError):
            continue
    return None


def run(argv: list[str], environment: Environment, wait_s: float, document: bytes = b"") -> Ended:
    """Run a program to its end, `wait_s` seconds at most, and return what came of it. Raises OSError when it cannot be started.

    argv: the first is its path; environment: all of it; document: for its stdin. At the deadline its whole process group is
    killed.
    """
    _heed_children()
    ours: list[int] = []
    theirs: list[int] = []
    try:
        for reads in (True, False, False):  # stdin, stdout, stderr of the program
            read, write = posix.pipe2(posix.O_CLOEXEC)
            ours.append(write if reads else read)
            theirs.append(read if reads else write)
        for fd in ours:
            fcntl.fcntl(fd, fcntl.F_SETFL, posix.O_NONBLOCK)
        actions = [(posix.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(theirs)]
        pid = posix.posix_spawn(argv[0], argv, environment, file_actions=actions, setpgroup=0, setsigmask=(), setsigdef=_DEFAULT)
        while theirs:
            posix.close(theirs.pop())
        return _Watch(pid, ours, document).to_its_end(time.monotonic() + wait_s)
    finally:
        for fd in (*ours, *theirs):
            posix.close(fd)


def _heed_children() -> None:
    """See to it that the kernel keeps exit codes: where SIGCHLD is ignored, as inherited, it does not. Raises OSError."""
    ignored = files.read("/proc/self/status").partition(b"\nSigIgn:\t")[2].partition(b"\n")[0]
    if ignored and int(ignored, 16) >> _SIGCHLD - 1 & 1:
        import signal

        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _pidfd(pid: int) -> int:
    """Return a descriptor that tells of a program's end, -1 where the kernel has none."""
    try:
        return posix.pidfd_open(pid)
    except OSError:
        return -1


class _Watch:
    """A program that runs, and our ends of its pipes."""

    def __init__(self, pid: int, ends: list[int], document: bytes) -> None:
        self._pid = pid
        self._in, self._out, self._err = ends
        self._document = document
        self._said: dict[int, bytearray] = {self._out: bytearray(), self._err: bytearray()}
        self._poll = select.poll()
        self._ends = ends
        self._open = {self._out, self._err}
        for fd in self._open:
            self._poll.register(fd, select.POLLIN)
        self._end = _pidfd(pid)
        if self._end >= 0:
            ends.append(self._end)
            self._poll.register(self._end, select.POLLIN)
        if document:
            self._poll.register(self._in, select.POLLOUT)
        else:
            self._end_document()

    def to_its_end(self, end: float) -> Ended:
        """Wait for it, and return what came of it."""
        while True:
            ended, status = posix.waitpid(self._pid, posix.WNOHANG)
            if ended:
                self._read_all()
                return self._ended(posix.waitstatus_to_exitcode(status))
            left = end - time.monotonic()
            if left <= 0:
                return self._kill("it did not end in time")
            if sum(map(len, self._said.values())) > _MOST:
                return self._kill("it said more than %d bytes" % _MOST)
            self._wait(left)

    def _wait(self, left_s: float) -> None:
        """Wait until it says something, takes something or ends, `left_s` seconds at most; read or write it."""
        for fd, _ in self._poll.poll(max(1, int(1000 * (left_s if self._end >= 0 else min(_STEP_S, left_s))))):
            if fd == self._in:
                self._write()
            elif fd != self._end:
                self._read(fd)

    def _write(self) -> None:
        try:
            self._document = self._document[posix.write(self._in, self._document) :]
        except BlockingIOError:
            return
        except OSError:  # it does not read on
            self._document = b""
        if not self._document:
            self._poll.unregister(self._in)
            self._end_document()

    def _end_document(self) -> None:
        posix.close(self._in)
        del self._ends[0]

    def _read(self, fd: int) -> bool:
        """Read once; return whether there may be more now."""
        try:
            data = posix.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._poll.unregister(fd)
            self._open.discard(fd)
        self._said[fd] += data
        return bool(data)

    def _read_all(self) -> None:
        for fd in list(self._open):
            while len(self._said[fd]) <= _MOST and self._read(fd):
                pass

    def _kill(self, why: str) -> Ended:
        try:
            posix.killpg(self._pid, _SIGKILL)
        except OSError:
            why += ", nor could it be killed"
        end = time.monotonic() + _REAP_S
        while not posix.waitpid(self._pid, posix.WNOHANG)[0] and (left := end - time.monotonic()) > 0:
            self._wait(left)
            for said in self._said.values():
                del said[_MOST:]
        return self._ended(None, why)

    def _ended(self, code: int | None, trouble: str = "") -> Ended:
        return Ended(code, bytes(self._said[self._out]), bytes(self._said[self._err]), trouble)
