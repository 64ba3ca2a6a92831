"""Faults at system calls: strace lists the calls of a clean run, then makes a run in which one of them fails or kills.

A filter of seccomp stops the process at the calls in question only: a run costs a few milliseconds more than without.
"""

import dataclasses
import re

FAULTS = ("EIO", "ENOSPC", "EACCES", "EINTR", "ENOMEM", "EMFILE", "KILL")
CONFIG_IS_READ = "read(0,"
"""How our own code begins: up to here the loader and the interpreter are at work."""
_NEVER_REFUSED = ("brk", "exit_group")
"""brk has no errno: it answers with the old break, and libc takes an errno for an address."""
_STRACE = ("strace", "--follow-forks", "--quiet=all", "--string-limit=300", "--output")
_CHANGING = ("write", "flock", "mkdir", "mkdirat", "rename", "renameat", "unlink", "unlinkat", "setns")
_LOOKING = ("openat", "read", "readlink", "readlinkat", "newfstatat", "getdents64", "ioctl", "recvfrom")
_ARCHIVE = 'openat(AT_FDCWD, "/proc/self/exe", O_RDONLY|O_CLOEXEC)'
"""How the first module that is not in the executable's core is asked for; the descriptor stays open to the end."""
_CALL = re.compile(r"^(\d+) +((\w+)\(.*)")


@dataclasses.dataclass(frozen=True)
class SystemCall:
    """One system call of a run. number: the how-manieth of its name; own: made by our own code; text: as strace shows it;
    archive: it reads our code, from the executable."""

    name: str
    number: int
    own: bool
    text: str
    archive: bool = False

    @property
    def changes(self) -> bool:
        """Whether the call writes, locks, or makes or removes something."""
        return self.name in _CHANGING or "O_CREAT" in self.text

    @property
    def looks(self) -> bool:
        """Whether the call looks at a file or asks the kernel; not for our own code."""
        return self.name in _LOOKING and not self.archive

    @property
    def on_config_or_answer(self) -> bool:
        """Whether the call reads stdin or writes stdout: without it there is no right answer."""
        return self.text.startswith((CONFIG_IS_READ, "write(1,"))


def listing(trace: str) -> list[str]:
    """Return a command prefix that writes all system calls of a command to a file."""
    return [*_STRACE, trace]


def calls(trace: str, begins: str = CONFIG_IS_READ) -> list[SystemCall]:
    """Return the calls of a run by what `listing` has written; of the process itself, not of its children.

    begins: what the first call of our own code begins with. strace injects by a count of each process, so what is made to fail
    may be a child's call, too.
    """
    found: list[SystemCall] = []
    counts: dict[str, int] = {}
    own, first, archive = False, "", ""
    for line in trace.splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        pid, text, name = match.groups()
        first = first or pid
        if pid != first:
            continue
        own = own or text.startswith(begins)
        counts[name] = counts.get(name, 0) + 1
        if name != "execve":  # by which strace starts the run
            opens = not archive and text.startswith(_ARCHIVE) and " = " in text
            archive = archive or (f"pread64({text.rpartition(' = ')[2]}," if opens else "")
            found.append(SystemCall(name, counts[name], own, text, opens or bool(archive and text.startswith(archive))))
    return found


def failing(call: SystemCall, fault: str, trace: str) -> list[str]:
    """Return a command prefix under which a call meets a fault (an errno, or KILL); the calls of its name go to a file."""
    kill = fault == "KILL"
    injected = f"inject={call.name}:{'signal=KILL' if kill else 'error=' + fault}:when={call.number}"
    quick = [] if kill else ["--seccomp-bpf"]  # under which strace sends no signals
    return [*_STRACE, trace, *quick, "-e", f"trace={call.name}", "-e", injected]


def sleeping(trace: str) -> list[str]:
    """Return a command prefix that writes the calls by which a command waits to a file, and nothing else; see `sleeps_s`."""
    return [*_STRACE, trace, "--seccomp-bpf", "-e", "trace=clock_nanosleep,nanosleep,setitimer"]


def sleeps_s(trace: str) -> list[float]:
    """Return for how long at most a command has waited each time, in seconds, by what `sleeping` has written.

    A lock is waited for until a timer's signal comes.
    """
    calls = [line for line in trace.splitlines() if "nanosleep(" in line or "it_value={" in line]
    waits = [re.findall(r"tv_(?:u|n)?sec=(\d+)", line.partition("it_value=")[2] or line)[:2] for line in calls]
    return [
        int(s) + int(part) / (1e6 if "setitimer" in line else 1e9)
        for line, (s, part) in zip(calls, waits, strict=True)
        if s + part != "00"
    ]


def slow(names: str, delay_us: int) -> list[str]:
    """Return a command prefix under which every call of some names takes longer."""
    return [*_STRACE, "/dev/null", "--seccomp-bpf", "-e", f"trace={names}", "-e", f"inject={names}:delay_enter={delay_us}"]


def applies(fault: str, call: SystemCall) -> bool:
    """Tell whether a call can meet a fault at all."""
    return fault == "KILL" or call.name not in _NEVER_REFUSED
