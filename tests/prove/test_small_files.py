"""The files of the small world do what a real file system does: the same system calls, by chance, on both."""

import errno
import posix
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.prove.small_files import STORE, Call, Machine, collide, installed
from tests.prove.small_world import ROOTS, Small

NAMES = ("10.7.0.2", "10.7.0.3", ".new-1", "lock")


def machine() -> Machine:
    """Return a call without a plugin on a node whose store is empty."""
    with installed() as seat:
        world = Small(ROOTS[0], seat)
        state = world.begin()
        files = {path: number for path, number in state.files.items() if not path.startswith(STORE + "/")}
        return Machine(world, state._replace(calls=(Call("A", (("nothing",),)),), files=files), 0, lambda *_: True)


class Caller:
    """Makes system calls below a directory. system: `posix`, or what stands for it; choices: where all chance comes from."""

    def __init__(self, system: Any, top: str, choices: random.Random) -> None:
        self.system, self.top, self.random = system, top, choices
        self.held: list[int] = []

    def call(self) -> Any:
        """Make one, or some that belong together; return what can be compared."""
        kind = self.random.choice(
            (self.make, self.write_within, self.read, self.hold, self.read_held, self.let_go, self.unlink, self.rename, self.look)
        )
        name, other = self.random.choices(NAMES, k=2)
        path = f"{self.top}/{name}" if self.random.random() < 0.9 else f"{self.top}/{name}/{other}"
        place = self.random.randrange(100)
        try:
            return kind.__name__, name, kind(path, f"{self.top}/{other}", place)
        except OSError as e:
            return kind.__name__, name, errno.errorcode[e.errno or 0]

    def make(self, path: str, _: str, place: int) -> int:
        """Make a new file."""
        fd = self.system.open(path, posix.O_WRONLY | posix.O_CREAT | (posix.O_EXCL if place % 4 else 0), 0o600)
        try:
            return int(self.system.write(fd, b"x" * place)) if self.system.fstat(fd).st_size == 0 else -1
        finally:
            self.system.close(fd)

    def write_within(self, path: str, _: str, place: int) -> bytes:
        """Write somewhere in a file, or behind its end, and read near it."""
        fd = self.system.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_NOFOLLOW, 0o600)
        try:
            assert self.system.pwrite(fd, b"y" * (1 + place % 9), place % 17) == 1 + place % 9
            return bytes(self.system.pread(fd, 5, place % 11))
        finally:
            self.system.close(fd)

    def read(self, path: str, _: str, __: int) -> bytes:
        """Read a whole file."""
        fd = self.system.open(path, posix.O_RDONLY | posix.O_NOFOLLOW)
        try:
            return bytes(self.system.read(fd, 1000))
        finally:
            self.system.close(fd)

    def hold(self, path: str, _: str, place: int) -> None:
        """Open a file and keep it open."""
        self.held.append(self.system.open(path, posix.O_RDONLY | (posix.O_DIRECTORY if place == 0 else 0)))

    def read_held(self, _: str, __: str, place: int) -> Any:
        """Read on in a file that may have been unlinked since."""
        if self.held:
            fd = self.held[place % len(self.held)]
            return self.system.read(fd, 3), self.system.fstat(fd).st_size
        return None

    def let_go(self, _: str, __: str, place: int) -> None:
        """Close it."""
        if self.held:
            self.system.close(self.held.pop(place % len(self.held)))

    def unlink(self, path: str, _: str, __: int) -> None:
        """Remove a name."""
        self.system.unlink(path)

    def rename(self, path: str, other: str, _: int) -> None:
        """Give a file another name, which may be taken."""
        self.system.rename(path, other)

    def look(self, path: str, _: str, __: int) -> Any:
        """List the directory, and look at one of its names."""
        with self.system.scandir(self.top) as entries:
            scanned = sorted((one.name, one.is_dir(follow_symlinks=False)) for one in entries)
        return (
            sorted(self.system.listdir(self.top)),
            scanned,
            self.system.access(path, posix.F_OK),
            self.system.stat(path).st_size,
        )


@pytest.mark.parametrize("number", range(30))
def test_small_files_answer_as_a_real_file_system(tmp_path: Path, number: int) -> None:
    """Three hundred system calls, each with the same answer or the same error."""
    small, real = Caller(machine(), STORE, random.Random(number)), Caller(posix, str(tmp_path), random.Random(number))
    for turn in range(300):
        expected: Callable[[], Any] | Any = real.call()
        assert small.call() == expected, turn
    for fd in real.held:
        posix.close(fd)


def test_a_file_that_is_made_anew_is_another() -> None:
    """By inode and ctime, as the product tells them apart; one that nobody has changed is the same."""
    small = machine()
    caller = Caller(small, STORE, random.Random(1))
    seen = set()
    for _ in range(3):
        caller.make(f"{STORE}/10.7.0.2", "", 5)
        about = small.stat(f"{STORE}/10.7.0.2")
        assert small.identity(f"{STORE}/10.7.0.2", -100, 0)[1:] == (about.st_ino, about.st_ctime_ns)
        seen.add((about.st_ino, about.st_ctime_ns))
        small.unlink(f"{STORE}/10.7.0.2")
    assert len(seen) == 3


def test_steps_collide_where_one_writes_what_the_other_uses() -> None:
    """Two looks never do; a step that is not known yet does with each."""
    looks, writes = (("a",), ()), ((), ("a",))
    assert not collide(looks, looks)
    assert collide(looks, writes)
    assert collide(writes, looks)
    assert collide(writes, writes)
    assert not collide(writes, (("b",), ("c",)))
    assert collide(None, looks)
