"""Time whole processes in turn, in a new order each round, so that other work of the machine affects all rows alike."""

import contextlib
import os
import random
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import FileIO

WARM = 1  # rounds before the first that counts
PRIORITY = 20
AGAIN = 3  # times that a round is taken again at most; a build that does each time what is left out has it counted


class FailedError(Exception):
    """A command that is timed has failed, so its time says nothing."""


@dataclass(frozen=True)
class Command:
    """One process. stdin: what it reads."""

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    stdin: bytes = b""


@dataclass
class Row:
    """The commands that are timed as one: those of a round (numbered from 0), one after the other or all at once.

    before, after: make things ready, and clean up, untimed; they get the round's number. again: asked after the commands, tells
    whether they did what is left out of this row, so that the round is taken again.
    """

    name: str
    commands: Callable[[int], list[Command]]
    together: bool = False
    before: Callable[[int], None] = lambda _: None
    after: Callable[[int], None] = lambda _: None
    again: Callable[[], bool] = lambda: False


@dataclass
class Samples:
    """What each round took: wall time and user + system time in ms, and page faults that read no disk."""

    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)


def claim_cpu() -> str:
    """Move this process, and so all that it starts, to one CPU and to real-time priority; return in words what it got."""
    cpu = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as error:
        return f"on CPU {cpu}, WITHOUT real-time priority ({error.strerror}): other processes disturb the times"
    return f"on CPU {cpu}, with real-time priority"


def spawn(command: Command, stdin: int, errors: int) -> int:
    """Start a command that reads a file, prints nothing, and appends its errors to another file; return its PID."""
    actions = (
        (os.POSIX_SPAWN_DUP2, stdin, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, errors, 2),
    )
    return os.posix_spawn(command.argv[0], command.argv, command.env, file_actions=actions)


def take(row: Row, turn: int, samples: Samples | None) -> None:
    """Run one round of a row, again where `again` says so. Raises FailedError when a command of it fails."""
    for tried in range(AGAIN + 1):
        if _take(row, turn, samples, must_count=tried == AGAIN):
            return


def _take(row: Row, turn: int, samples: Samples | None, *, must_count: bool) -> bool:
    """Run one round of a row; return False, and note nothing, if it does not count."""
    row.before(turn)
    commands = row.commands(turn)
    with contextlib.ExitStack() as files:
        errors = files.enter_context(_memory_file(b""))
        inputs = [files.enter_context(_memory_file(command.stdin)) for command in commands]
        ended: list[resource.struct_rusage] = []
        running: list[int] = []
        begun = time.perf_counter()
        for command, stdin in zip(commands, inputs, strict=True):
            running.append(spawn(command, stdin.fileno(), errors.fileno()))
            if not row.together:
                ended.append(_end(running.pop(), row, errors))
        ended += [_end(pid, row, errors) for pid in running]
        took = time.perf_counter() - begun
    counts = not row.again() or must_count
    row.after(turn)
    if samples is not None and counts:
        samples.wall_ms.append(took * 1000)
        samples.cpu_ms.append(sum(usage.ru_utime + usage.ru_stime for usage in ended) * 1000)
        samples.faults.append(sum(usage.ru_minflt for usage in ended))
    return counts


def _memory_file(data: bytes) -> FileIO:
    """Return a file in memory that is read from its beginning."""
    file = FileIO(os.memfd_create("bench"), "r+")
    file.write(data)
    file.seek(0)
    return file


def _end(pid: int, row: Row, errors: FileIO) -> resource.struct_rusage:
    """Wait for a process; return what it and its children have used."""
    _, status, usage = os.wait4(pid, 0)
    if status:
        errors.seek(0)
        said = errors.read().decode(errors="replace")[-2000:]
        message = f"{row.name}: exit status {os.waitstatus_to_exitcode(status)}: {said}"
        raise FailedError(message)
    return usage


def in_turn(rows: Sequence[Row], rounds: int, seed: int) -> dict[str, Samples]:
    """Run all rows, one after the other, `rounds` times, after a few rounds that do not count.

    Args:
        rows: what is timed.
        rounds: how many samples each row gets; those with the same place in their lists are of the same round.
        seed: of the order of the rows, which is another one in each round.
    """
    samples = {row.name: Samples() for row in rows}
    order = random.Random(seed)
    for turn in range(-WARM, rounds):
        for row in order.sample(rows, len(rows)):
            take(row, turn + WARM, samples[row.name] if turn >= 0 else None)
    return samples
