"""Time whole processes, in turn: A B C A B C …, so that whatever else the machine does meets all of them alike."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

WARM = 2  # rounds before the first that counts
ERRORS = "/run/bench.err"


class FailedError(Exception):
    """A command that is timed has failed, and so would say nothing."""


@dataclass(frozen=True)
class Command:
    """One process. stdin: what it reads."""

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    stdin: bytes = b""


@dataclass
class Row:
    """What is timed as one: the commands of a round (numbered from 0), one after the other or all at once.

    before, after: make things ready, and clean up, untimed; they get the round's number.
    """

    name: str
    commands: Callable[[int], list[Command]]
    together: bool = False
    before: Callable[[int], None] = lambda _: None
    after: Callable[[int], None] = lambda _: None


@dataclass
class Samples:
    """Of each round: wall time and user + system time, ms."""

    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def median_ms(self) -> float:
        """Return the median wall time."""
        return statistics.median(self.wall_ms)


def spawn(command: Command, stdin: str) -> int:
    """Start a command that reads a file, prints nothing, and leaves its errors in ERRORS; return its PID."""
    actions = (
        (os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, ERRORS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
    )
    return os.posix_spawn(command.argv[0], command.argv, command.env, file_actions=actions)


def take(row: Row, turn: int, samples: Samples | None) -> None:
    """Run one round of a row. Raises FailedError when a command of it fails."""
    row.before(turn)
    commands = row.commands(turn)
    files = []
    for number, command in enumerate(commands):
        file = Path(f"/run/bench-{number}.in")
        file.write_bytes(command.stdin)
        files.append(str(file))
    used = 0.0
    running: list[int] = []
    begun = time.perf_counter()
    for command, file_name in zip(commands, files, strict=True):
        running.append(spawn(command, file_name))
        if not row.together:
            used += _end(running.pop(), row)
    for pid in running:
        used += _end(pid, row)
    took = time.perf_counter() - begun
    row.after(turn)
    if samples is not None:
        samples.wall_ms.append(took * 1000)
        samples.cpu_ms.append(used * 1000)


def _end(pid: int, row: Row) -> float:
    """Wait for a process; return the seconds of CPU time it took."""
    _, status, usage = os.wait4(pid, 0)
    if status:
        said = Path(ERRORS).read_text(errors="replace")[-2000:]
        message = f"{row.name}: exit status {os.waitstatus_to_exitcode(status)}: {said}"
        raise FailedError(message)
    return usage.ru_utime + usage.ru_stime


def in_turn(rows: Sequence[Row], rounds: int) -> dict[str, Samples]:
    """Run all rows, one after the other, `rounds` times, after a few that do not count; return the samples by name."""
    samples = {row.name: Samples() for row in rows}
    for turn in range(-WARM, rounds):
        for row in rows:
            take(row, turn + WARM, samples[row.name] if turn >= 0 else None)
    return samples
