"""Files, locks and a kernel in memory, under the product's own code, one system call after the other: for `small_world`.

A state is a value: nothing in it is changed, only replaced, so that to keep one costs nothing. A call is a process that was
stopped before one of its system calls. It is kept as the answers that it has had so far: these alone decide what it asks
next. What that is, is looked up where a call has had the same answers before (`Machine.table`); where none has, its plugin is
run anew from its begin, is given the same answers, and asks. Whatever the plugin asks of the outside has to come through
`Machine.ask` for that; what is no file is in `kernel.SEAMS`.
"""

import errno
import fcntl
import importlib
import pickle
import pkgutil
import posix
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn

import cni_reaper_plugin
from cni_reaper_plugin.model import Netns
from cni_reaper_plugin.namespaces.visible import Sighting, Sightings
from tests.prove import kernel as kernels
from tests.prove.kernel import DEVICE, FIXED, HOST_INO, NAMED, PRODUCT, Kernel

DATA, STATE, CACHE, RUN = "/data", "/state", "/cache", "/run/cni-reaper"
NETWORK = "alpha"
STORE = f"{DATA}/{NETWORK}"
FILE_DEVICE = 7
KERNEL = "the kernel"  # in a footprint: which netns there are, who holds them, what is configured in them

Answers = list[Any]
Footprint = tuple[tuple[str, ...], tuple[str, ...]]  # what a step reads, and what it writes
PRIVATE: Footprint = ((), ())
WITHOUT_END = 1e9  # seconds that host-local waits for its lock


class Fault(NamedTuple):
    """An answer that is an OSError."""

    number: int
    path: str


class Node(NamedTuple):
    """One inode. changed: its ctime, given only to host-local's files, of which alone the product asks it."""

    is_directory: bool
    content: bytes = b""
    changed: int = 0
    mtime: float = 0.0


class Call(NamedTuple):
    """A chain of plugins on its way, stopped before a system call.

    name: unique among those on their way; stages: what is to be run; stage: which of them runs; answers, taken: what it was
    told, the first `taken` of a list that others share; digest: of those; descriptors: its open files; alone: nobody has come in
    between since its begin; following: the footprint of its next system call, None where that is not known yet.
    """

    name: str
    stages: tuple[tuple[Any, ...], ...]
    stage: int = 0
    answers: Answers = []
    taken: int = 0
    digest: int = 0
    descriptors: dict[int, tuple[str, int, int]] = {}
    alone: bool = True
    following: Footprint | None = None

    def digested(self) -> int:
        """Return a number for all that tells it from another call at another place."""
        held = tuple(self.descriptors.items())  # no answer says which inode an open file is
        return hash((self.name, self.stages, self.stage, self.digest, held, self.alone))


class Halt(BaseException):
    """A call is stopped here; no handler of the product may take it for an error."""


class Blocked(Halt):
    """A lock is held by another call. forever: the call does not give up waiting."""

    def __init__(self, forever: bool) -> None:
        super().__init__(forever)
        self.forever = forever


class Broken(Halt):
    """A promise was broken; no handler of the product may take it for an error of its own."""


class SmallKernel(Kernel):
    """The kernel of a small world. A value: who changes it takes a copy first, by `copied`."""

    known: int | None = None

    def digested(self) -> int:
        """Return a number for all that can be told of it."""
        if self.known is None:
            self.known = self._digested()
        return self.known

    def _digested(self) -> int:

        def told(one: kernels.Netns) -> tuple[Any, ...]:
            held = (tuple(sorted(one.processes)), tuple(sorted(one.threads)), tuple(sorted(one.descriptors)), one.hidden_mount)
            return one.ino, one.ctime, one.ns_id, held, one.socket, one.veth, one.lookable, tuple(sorted(one.addresses))

        mounts = tuple(sorted((path, tuple(one.ns_id for one in stack)) for path, stack in self.mounts.items()))
        netns = tuple(told(self.netns[ino]) for ino in sorted(self.netns))
        return hash(
            (self.boots, self.wall, self.monotonic_s, self.next_id, self.next_pid, tuple(sorted(self.named)), mounts, netns)
        )


class State(NamedTuple):
    """A small world at one moment.

    files: path -> inode number; nodes: inode number -> its content; locks: (inode number, call, descriptor) -> whether shared;
    writes: address -> how often its file was changed; spent: how often each of the things that may happen a few times only did;
    last: the footprint of the last step and who took it, "" for an event; came: that step, and the state's history before it;
    turn: the only call that goes on, "" where calls go on in every order.
    """

    files: dict[str, int]
    nodes: dict[int, Node]
    locks: dict[tuple[int, str, int], bool]
    writes: dict[str, int]
    kernel: SmallKernel
    boxes: dict[str, Any]
    calls: tuple[Call, ...]
    spent: tuple[int, ...]
    digests: tuple[int, int, int]
    last: tuple[Footprint | None, str] = (None, "")
    came: Any = None
    turn: str = ""

    def digested(self) -> int:
        """Return a number that two states have in common only if nothing tells them apart."""
        return hash((self.digests, self.spent, self.turn, *[call.digested() for call in self.calls]))


def digest_files(files: dict[str, int], nodes: dict[int, Node], locks: dict[Any, bool], writes: dict[str, int]) -> int:
    """Return a number for all files."""
    return hash((frozenset(files.items()), frozenset(nodes.items()), frozenset(locks.items()), frozenset(writes.items())))


def digest_boxes(boxes: dict[str, Any]) -> int:
    """Return a number for the ledger."""
    return hash(tuple(boxes.items()))


_NUMBERS: dict[str, int] = {}


def _directory_of(path: str) -> str:
    return path.rpartition("/")[0]


Seen = Callable[[State, str, tuple[Any, ...]], bool]


class Machine:
    """One call that runs, in a state that it changes step by step; the fake `posix` of the product.

    ledger: the world: its `stages` say how each kind of a stage is run, its `table` what is asked after which answers, its
    `kept` has the parts of states, its `check` is called after each change, and its tell_… and do_… answer `know` and `change`;

    seen: told of each state before a system call that others can notice, and of that; answers whether the call is to go on;
    """

    def __init__(self, ledger: Any, state: State, place: int, seen: Seen, gives_up: bool = False) -> None:
        self.files, self.nodes, self.locks, self.writes = state.files, state.nodes, state.locks, state.writes
        self.kernel, self.boxes, self.spent = state.kernel, state.boxes, state.spent
        self.digests = state.digests
        self.came = state.came
        self.steps = 0
        self.last, self.turn = state.last, state.turn
        self.others = tuple(one._replace(alone=False) for one in state.calls[:place] + state.calls[place + 1 :])
        self.call = state.calls[place]
        self.answers = self.call.answers[: self.call.taken]
        self.descriptors = self.call.descriptors
        self.digest = self.call.digest
        self.at = 0
        self.resumed = True
        self.silent = ledger.order.between == 0
        self.gives_up = self.gave_up = gives_up
        self.stopped = False
        self.changed = False
        self.ledger, self.stages, self.table = ledger, ledger.stages, ledger.table
        self._seen, self._check = seen, ledger.check

    def state(self, following: Footprint | None) -> State:
        """Return the state as it is now."""
        call = self.call._replace(
            answers=self.answers,
            taken=len(self.answers),
            digest=self.digest,
            descriptors=self.descriptors,
            following=following,
        )
        call = self.ledger.kept.setdefault((call.digested(), following), call)
        return self._whole((*self.others, call))

    def _whole(self, calls: tuple[Call, ...]) -> State:
        if self.changed:
            files, kernel, boxes = self.digests = self._digested_files(), self.kernel.digested(), digest_boxes(self.boxes)
            # Equal parts of two states are one and the same, which is most of them, and all that states cost.
            kept = self.ledger.kept
            whole = self.files, self.nodes, self.locks, self.writes
            self.files, self.nodes, self.locks, self.writes = kept.setdefault(("files", files), whole)
            self.kernel = kept.setdefault(("kernel", kernel), self.kernel)
            self.boxes = kept.setdefault(("boxes", boxes), self.boxes)
            self.changed = False
        if len(calls) == 2 and calls[0].name > calls[1].name:
            calls = calls[1], calls[0]
        return State(
            self.files,
            self.nodes,
            self.locks,
            self.writes,
            self.kernel,
            self.boxes,
            calls,
            self.spent,
            self.digests,
            self.last,
            ((self.call.name, self.steps, self.gave_up), self.came) if self.steps else self.came,
            self.turn,
        )

    def _digested_files(self) -> int:
        return digest_files(self.files, self.nodes, self.locks, self.writes)

    def run(self) -> None:
        """Run the call until it is stopped or at its end. Raises Blocked, Broken, and what `seen` raises."""
        try:
            while True:
                asked = self.table.get(self._local())
                if asked is None:
                    self._run_anew()
                elif asked[0] == "end":
                    if not self._end_stage(asked[1]):
                        return
                elif asked[0] == "broken":
                    raise Broken(asked[1])
                else:
                    self._answer(*asked)
        except (Blocked, Broken):
            raise
        except Halt:
            return
        finally:
            self.stopped = True

    def _local(self) -> int:
        """Return a number for all that decides what the call does next."""
        kernel = self.kernel  # its boot and its clock stand still while a call is on its way
        return hash((self.call.stages[self.call.stage], kernel.boots, kernel.monotonic_s, kernel.has_ns_id, self.digest))

    def _run_anew(self) -> None:
        """Run the stage from its begin, with the answers that it has had; note what it asks from then on."""
        kind, *arguments = self.call.stages[self.call.stage]
        self.at = 0
        goes_on = self.stages[kind](self, *arguments)
        assert self.at == len(self.answers), "it did not ask again what it had asked"
        self.table[self._local()] = ("end", goes_on)

    def break_promise(self, message: str) -> NoReturn:
        """Say that a promise is broken, on the strength of the answers."""
        self.table[self._local()] = ("broken", message)
        raise Broken(message)

    def _end_stage(self, goes_on: bool) -> bool:
        """Go on to the next stage; False at the end of the chain."""
        self.digest, self.answers, self.descriptors = 0, [], {}
        self.locks = {key: how for key, how in self.locks.items() if key[1] != self.call.name}
        self.changed = True
        if goes_on and self.call.stage + 1 < len(self.call.stages):
            self.call = self.call._replace(stage=self.call.stage + 1)
            return True
        self.last = (None, self.call.name)
        self.steps += 1
        if self.turn:
            self.turn = self.others[0].name if self.others else ""
        self._check(self)
        self._seen(self._whole(self.others), "its end", ())
        return False

    # One answer after the other

    def ask(self, name: str, *arguments: Any, private: bool = False) -> Any:
        """Make a system call, or take its answer from what was answered before. Raises OSError, Halt.

        private: nobody else can notice it, nor can anybody change its answer.
        """
        if self.stopped:
            raise Halt
        if self.at < len(self.answers):
            answer = self.answers[self.at]
        else:
            self.table[self._local()] = (name, arguments, private)
            answer = self._answer(name, arguments, private)
        self.at += 1
        if type(answer) is Fault:
            raise OSError(answer.number, "simulated", answer.path)
        return answer

    def _answer(self, name: str, arguments: tuple[Any, ...], private: bool) -> Any:
        """Answer what is asked, in the present state."""
        reads, writes = footprint = PRIVATE if private else footprint_of(name)(self, *arguments)
        if reads or writes:
            if not self.resumed and not self.silent:
                self._stand(footprint, name, arguments)
            self.resumed = False
        try:
            answer = getattr(self, "_" + name)(*arguments)
        except Halt:
            self.stopped = True
            raise
        except OSError as e:
            answer = Fault(e.errno or 0, str(e.filename or ""))
        self.answers.append(answer)
        self.digest = hash((self.digest, answer))
        if reads or writes:
            self.last = (footprint, self.call.name)
            self.steps += 1
        if writes:
            self._changed()
        return answer

    def _stand(self, following: Footprint, name: str, arguments: tuple[Any, ...]) -> None:
        """Stop before a system call for a moment; raises Halt where it is not to go on, and what `seen` raises."""
        goes_on = False
        try:
            goes_on = self._seen(self.state(following), name, arguments)
        finally:
            self.stopped = not goes_on
        if not goes_on:
            raise Halt

    def _changed(self) -> None:
        self.changed = True
        try:
            self._check(self)
        except Halt:
            self.stopped = True
            raise

    def told(self, name: str, arguments: tuple[Any, ...]) -> str:
        """Return a system call in words."""
        shown = [self.descriptors[one][0] if one in self.descriptors else one for one in arguments if type(one) in (int, str)]
        return f"{name} {' '.join(map(str, shown))}"[:100]

    # Files

    def __getattr__(self, name: str) -> Any:
        if name.isupper() or name == "DirEntry":
            return getattr(posix, name)
        message = f"posix.{name} is not in the small world yet"
        raise AttributeError(message)

    def _resolved(self, path: Any, dir_fd: int | None) -> str:
        if self.at < len(self.answers):
            return ""  # answered already, and the descriptor may have been closed since
        if isinstance(path, int):
            return self.descriptors[path][0]
        if dir_fd is not None and dir_fd >= 0 and not path.startswith("/"):
            return f"{self.descriptors[dir_fd][0]}/{path}" if path != "." else self.descriptors[dir_fd][0]
        return str(path)

    def _entry(self, path: str) -> int:
        if path in self.files:
            return self.files[path]
        parent = self.files.get(_directory_of(path))
        raise OSError(errno.ENOTDIR if parent is not None and not self.nodes[parent].is_directory else errno.ENOENT, "", path)

    def _make(self, path: str, node: Node) -> int:
        parent = self._entry(_directory_of(path))
        if not self.nodes[parent].is_directory:
            raise OSError(errno.ENOTDIR, "", path)
        number = _NUMBERS.setdefault(path, 1000 + len(_NUMBERS))
        while number in self.nodes:
            number += 100_000  # an unlinked file of that name is still open somewhere
        self.files = {**self.files, path: number}
        self.nodes = {**self.nodes, number: node}
        self._touch(path, number)
        return number

    def _touch(self, path: str, number: int) -> None:
        if path.startswith(STORE):
            self.writes = {**self.writes, path: self.writes.get(path, 0) + 1}
            mtime = 10**9 + self.kernel.monotonic_s
            self.nodes = {**self.nodes, number: self.nodes[number]._replace(changed=self.writes[path], mtime=mtime)}

    def _drop(self, number: int) -> None:
        held = (one[1] for call in (*self.others, self.call) for one in call.descriptors.values())
        if (
            number not in self.files.values()
            and number not in held
            and all(one[1] != number for one in self.descriptors.values())
        ):
            self.nodes = {one: node for one, node in self.nodes.items() if one != number}
            self.changed = True

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """As posix.open."""
        del mode
        return int(self.ask("open", self._resolved(path, dir_fd), flags))

    def _open(self, path: str, flags: int) -> int:
        if path not in self.files and flags & posix.O_CREAT:
            number = self._make(path, Node(False))
        else:
            number = self._entry(path)
            if flags & posix.O_CREAT and flags & posix.O_EXCL:
                raise OSError(errno.EEXIST, "", path)
        if flags & posix.O_DIRECTORY and not self.nodes[number].is_directory:
            raise OSError(errno.ENOTDIR, "", path)
        fd = 3
        while fd in self.descriptors:
            fd += 1
        self.descriptors = {**self.descriptors, fd: (path, number, 0)}
        return fd

    def close(self, fd: int) -> None:
        """As posix.close; in a call that was stopped nothing."""
        if not self.stopped:
            self.ask("close", fd)

    def _close(self, fd: int) -> None:
        _, number, _ = self.descriptors[fd]
        self.descriptors = {one: value for one, value in self.descriptors.items() if one != fd}
        key = (number, self.call.name, fd)
        if key in self.locks:
            self.locks = {one: how for one, how in self.locks.items() if one != key}
        self._drop(number)

    def read(self, fd: int, size: int) -> bytes:
        """As posix.read."""
        return bytes(self.ask("read", fd, size))

    def _read(self, fd: int, size: int) -> bytes:
        path, number, offset = self.descriptors[fd]
        piece = self.nodes[number].content[offset : offset + size]
        self.descriptors = {**self.descriptors, fd: (path, number, offset + len(piece))}
        return piece

    def write(self, fd: int, data: bytes) -> int:
        """As posix.write."""
        return int(self.ask("write", fd, bytes(data)))

    def _write(self, fd: int, data: bytes) -> int:
        path, number, _ = self.descriptors[fd]
        node = self.nodes[number]
        self.nodes = {**self.nodes, number: node._replace(content=node.content + data)}
        self._touch(path, number)
        self.changed = True
        return len(data)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """As posix.pread."""
        return bytes(self.ask("pread", fd, size, offset))

    def _pread(self, fd: int, size: int, offset: int) -> bytes:
        return self.nodes[self.descriptors[fd][1]].content[offset : offset + size]

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """As posix.pwrite. Only of what is not host-local's."""
        return int(self.ask("pwrite", fd, bytes(data), offset))

    def _pwrite(self, fd: int, data: bytes, offset: int) -> int:
        number = self.descriptors[fd][1]
        content = self.nodes[number].content.ljust(offset, b"\0")
        written = content[:offset] + data + content[offset + len(data) :]
        self.nodes = {**self.nodes, number: self.nodes[number]._replace(content=written)}
        return len(data)

    def fstat(self, fd: int) -> Any:
        """As posix.fstat."""
        return _about(self.ask("fstat", fd))

    def _fstat(self, fd: int) -> tuple[Any, ...]:
        return self._of_node(self.descriptors[fd][1])

    def _of_node(self, number: int) -> tuple[Any, ...]:
        node = self.nodes[number]
        return FILE_DEVICE, number, node.changed, node.mtime, len(node.content), node.is_directory

    def stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> Any:
        """As posix.stat."""
        del follow_symlinks
        return _about(self.ask("stat", self._resolved(path, dir_fd)))

    def _stat(self, path: str) -> tuple[Any, ...]:
        if not _is_of_kernel(path):
            return self._of_node(self._entry(path))
        found = self._at(path)
        return DEVICE, found.ino, found.ctime, 0.0, 0, False

    def _at(self, path: str) -> Netns:
        """Return the identity of what the kernel shows at a path. Raises OSError."""
        if path in FIXED:
            return Netns(DEVICE, FIXED[path], 1)
        if path.startswith(NAMED) and path.removeprefix(NAMED) in self.kernel.named:
            return Netns(DEVICE, int(path[-8:], 16), 1)
        found = self.kernel.at(path)
        if found is None:
            raise OSError(errno.ENOENT, "", path)
        ctime = found.ctime
        if not found.pinned:  # nothing keeps the inode, so each look makes a new one
            ctime = 10**12 + (sum(self.spent) * 1000 + len(self.answers)) * 10 + self.pid() % 10
        return Netns(DEVICE, found.ino, ctime, found.ns_id if self.kernel.has_ns_id else 0)

    def pid(self) -> int:
        """Return the call's process ID: it comes again with the next one of its name."""
        return 1000 + NAMES.index(self.call.name)

    getpid = pid

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        """As posix.unlink."""
        self.ask("unlink", self._resolved(path, dir_fd))

    def _unlink(self, path: str) -> None:
        number = self._entry(path)
        self.files = {one: value for one, value in self.files.items() if one != path}
        self._drop(number)

    def rename(self, source: str, target: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        """As posix.rename."""
        self.ask("rename", self._resolved(source, src_dir_fd), self._resolved(target, dst_dir_fd))

    def _rename(self, source: str, target: str) -> None:
        number, older = self._entry(source), self.files.get(target)
        self.files = {one: value for one, value in self.files.items() if one != source} | {target: number}
        if older is not None:
            self._drop(older)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """As posix.mkdir."""
        del mode
        self.ask("mkdir", path)

    def _mkdir(self, path: str) -> None:
        if path in self.files:
            raise OSError(errno.EEXIST, "", path)
        self._make(path, Node(True))

    def listdir(self, path: Any = ".") -> list[str]:
        """As posix.listdir."""
        return [name for name, _ in self.ask("listdir", self._resolved(path, None))]

    def _listdir(self, path: str) -> tuple[tuple[str, bool], ...]:
        if not self.nodes[self._entry(path)].is_directory:
            raise OSError(errno.ENOTDIR, "", path)
        inside = (one for one in self.files if _directory_of(one) == path)
        return tuple(sorted((one.rpartition("/")[2], self.nodes[self.files[one]].is_directory) for one in inside))

    @contextmanager
    def scandir(self, path: Any = ".") -> Iterator[Iterable[Any]]:
        """As posix.scandir."""

        def entry(name: str, is_directory: bool) -> Any:
            return SimpleNamespace(name=name, is_dir=lambda **_: is_directory, is_file=lambda **_: not is_directory)

        yield [entry(*one) for one in self.ask("listdir", self._resolved(path, None))]

    def access(self, path: str, mode: int, *, dir_fd: int | None = None) -> bool:
        """As posix.access: whatever is there may be used."""
        del mode
        return bool(self.ask("access", self._resolved(path, dir_fd)))

    def _access(self, path: str) -> bool:
        return path in self.files

    def put(self, path: str, content: bytes) -> None:
        """Write a file anew, at once."""
        self.ask("put", path, content)

    def _put(self, path: str, content: bytes) -> None:
        number = self.files.get(path) or self._make(path, Node(False))
        self.nodes = {**self.nodes, number: Node(False, content)}

    def fchmod(self, fd: int, mode: int) -> None:
        """As posix.fchmod."""

    def getpriority(self, which: int, who: int) -> int:
        """As posix.getpriority; nobody is slower for it here."""
        del which, who
        return 0

    def setpriority(self, which: int, who: int, priority: int) -> None:
        """As posix.setpriority."""

    def times(self) -> Any:
        """As posix.times, of a node that is never busy."""
        return SimpleNamespace(user=0.0, system=0.0, elapsed=0.0)

    def uname(self) -> Any:
        """As posix.uname."""
        return SimpleNamespace(sysname="Linux", nodename="node", release="6.12.0" if not self.kernel.has_ns_id else "6.18.0")

    # Locks

    def take(self, fd: int, operation: int, wait_s: float) -> bool:
        """As flock.take: it waits until the lock is free, or gives up."""
        return bool(self.ask("take", fd, operation, wait_s))

    def _take(self, fd: int, operation: int, wait_s: float) -> bool:
        number = self.descriptors[fd][1]
        shared = bool(operation & fcntl.LOCK_SH)
        held = any(
            key[0] == number and key[1:] != (self.call.name, fd) and not (shared and how) for key, how in self.locks.items()
        )
        if held:
            if self.gives_up or not wait_s:
                self.gives_up = False
                return False
            raise Blocked(wait_s == WITHOUT_END)
        self.locks = {**self.locks, (number, self.call.name, fd): shared}
        return True

    # The kernel

    def identity(self, path: str, dir_fd: int, flags: int) -> tuple[int, int, int]:
        """As files.identity."""
        del flags
        found = self.ask("stat", self._resolved(path, dir_fd))
        return found[0], found[1], found[2]

    def identify_fully(self, path: str) -> Netns:
        """As namespaces.netns.identify_fully."""
        return Netns(*self.ask("identified", path))

    def _identified(self, path: str) -> tuple[int, int, int, int]:
        found = self._at(path)
        ns_id = found.ns_id or (1 if found.ino == HOST_INO and self.kernel.has_ns_id else 0)
        return found.dev, found.ino, found.ctime, ns_id

    def everywhere(self, _: float) -> Sightings:
        """As namespaces.visible.everywhere: first what is mounted, then who holds what."""
        seen: Sightings = {}
        for ino, mounts in self.ask("mounted"):
            seen.setdefault(ino, Sighting(ino)).mounts = list(mounts)
        for ino, processes, others in self.ask("lived_in"):
            one = seen.setdefault(ino, Sighting(ino))
            one.processes, one.others = list(processes), list(others)
        return seen

    def _mounted(self) -> tuple[Any, ...]:
        pinned = (one for one in self.kernel.netns.values() if one.pinned)
        return tuple((one.ino, tuple(sorted(path for path in one.places if self.kernel.at(path) is one))) for one in pinned)

    def _lived_in(self) -> tuple[Any, ...]:
        found = []
        for one in (self.kernel.host, *self.kernel.netns.values()):
            if one.processes or one.threads or one.descriptors:
                others = [f"/proc/{pid}/task/{pid}x/ns/net" for pid in sorted(one.threads)]
                others += [f"/proc/{pid}/fd/3" for pid in sorted(one.descriptors)]
                found.append((one.ino, tuple(sorted(one.processes)), tuple(others)))
        return tuple(found)

    def sees(self, path: str, netns: Any) -> bool:
        """As namespaces.visible.sees."""
        return bool(self.ask("sighted", path, netns.ino))

    def _sighted(self, path: str, ino: int) -> bool:
        found = self.kernel.at(path)
        return found is not None and found is not self.kernel.host and found.ino == ino

    def configured(self, ino: int) -> frozenset[bytes] | None:
        """As namespaces.addresses.Look.configured."""
        found: frozenset[bytes] | None = self.ask("configured_in", ino)
        return found

    def _configured_in(self, ino: int) -> frozenset[bytes] | None:
        return self.kernel.configured(ino)

    def peers(self) -> frozenset[bytes]:
        """As namespaces.peer_addresses.addresses."""
        return frozenset(self.ask("peered"))

    def _peered(self) -> frozenset[bytes]:
        return frozenset(one for netns in self.kernel.netns.values() if netns.veth for one in netns.addresses)

    def named(self) -> frozenset[str]:
        """Return whom a runtime names."""
        return frozenset(self.ask("named_now"))

    def _named_now(self) -> frozenset[str]:
        return frozenset(self.kernel.named)

    # What a chain does beside our plugin

    def note(self, key: str, **fields: Any) -> None:
        """Change the ledger together with what was done last."""
        self.ask("noted", key, tuple(fields.items()), private=True)

    def _noted(self, key: str, fields: tuple[tuple[str, Any], ...]) -> None:
        self.boxes = {**self.boxes, key: self.boxes[key]._replace(**dict(fields))}
        self.changed = True

    def know(self, what: str, *arguments: Any) -> Any:
        """Ask the ledger, once."""
        return self.ask("known", what, *arguments, private=True)

    def _known(self, what: str, *arguments: Any) -> Any:
        return getattr(self.ledger, "tell_" + what)(self, *arguments)

    def change(self, what: str, *arguments: Any) -> None:
        """Change the kernel, by what the ledger calls so."""
        self.ask("changed_kernel", what, *arguments)

    def _changed_kernel(self, what: str, *arguments: Any) -> None:
        self.kernel = copied(self.kernel)
        getattr(self.ledger, "do_" + what)(self, *arguments)


def copied(kernel: SmallKernel) -> SmallKernel:
    """Return an equal kernel that may be changed."""
    another: SmallKernel = pickle.loads(pickle.dumps(kernel))
    another.known = None
    return another


def _about(answer: tuple[Any, ...]) -> Any:
    device, number, changed, mtime, size, _ = answer
    return SimpleNamespace(st_dev=device, st_ino=number, st_ctime_ns=changed, st_mtime=mtime, st_size=size)


def _is_of_kernel(path: str) -> bool:
    return path in FIXED or path.startswith(("/run/netns/", "/var/run/netns/", "/proc/", NAMED))


# What a system call reads and writes. What every process has for itself, and what never changes while it runs, is nothing.


def _looks(machine: Machine, *_: Any) -> Footprint:
    del machine
    return (KERNEL,), ()


def _opens(machine: Machine, path: str, flags: int) -> Footprint:
    number = machine.files.get(path)
    if number is None and flags & posix.O_CREAT:
        return (), (path, _directory_of(path))
    if number is not None and machine.nodes[number].is_directory:
        return PRIVATE  # no directory goes away while a call is on its way
    return (path,), ()


def _closes(machine: Machine, fd: int) -> Footprint:
    path, number, _ = machine.descriptors[fd]
    if (number, machine.call.name, fd) in machine.locks:
        return (), (path + " (lock)",)
    return PRIVATE


def _reads(machine: Machine, fd: int, *_: Any) -> Footprint:
    path, offset = machine.descriptors[fd][0], machine.descriptors[fd][2]
    in_place = path.startswith(STORE) and not offset  # all others are written before they have their name
    return ((path,), ()) if in_place else PRIVATE


def _fstats(machine: Machine, fd: int) -> Footprint:
    path = machine.descriptors[fd][0]
    return ((path,), ()) if path.startswith(STORE + "/") else PRIVATE


def _writes(machine: Machine, fd: int, _: bytes) -> Footprint:
    path = machine.descriptors[fd][0]
    return ((), (path,)) if path.startswith(STORE) else PRIVATE


def _stats(machine: Machine, path: str) -> Footprint:
    del machine
    if path in FIXED:
        return PRIVATE
    return ((KERNEL,) if _is_of_kernel(path) else (path,)), ()


def _changes_name(machine: Machine, *paths: str) -> Footprint:
    del machine
    return (), (paths[-1], _directory_of(paths[-1]))


def _makes(machine: Machine, path: str) -> Footprint:
    return PRIVATE if path in machine.files else ((), (path, _directory_of(path)))


def _lists(machine: Machine, path: str) -> Footprint:
    del machine
    return (path,), ()


def _accesses(machine: Machine, path: str) -> Footprint:
    number = machine.files.get(path)
    return PRIVATE if number is not None and machine.nodes[number].is_directory else ((path,), ())


def _takes(machine: Machine, fd: int, *_: Any) -> Footprint:
    return (), (machine.descriptors[fd][0] + " (lock)",)


FOOTPRINTS: dict[str, Callable[..., Footprint]] = {
    "open": _opens,
    "close": _closes,
    "read": _reads,
    "write": _writes,
    "pread": lambda machine, fd, *_: ((machine.descriptors[fd][0],), ()),
    "pwrite": lambda machine, fd, *_: ((), (machine.descriptors[fd][0],)),
    "fstat": _fstats,
    "stat": _stats,
    "unlink": _changes_name,
    "rename": _changes_name,
    "mkdir": _makes,
    "listdir": _lists,
    "access": _accesses,
    "put": lambda _, path, __: ((), (path, _directory_of(path))),
    "take": _takes,
    "changed_kernel": lambda *_: ((), (KERNEL,)),
}


def footprint_of(name: str) -> Callable[..., Footprint]:
    """Return what tells the footprint of a system call; one that is not named here looks at the kernel."""
    return FOOTPRINTS.get(name, _looks)


def collide(one: Footprint | None, other: Footprint | None) -> bool:
    """Tell whether it can matter which of two steps comes first; of a step that is not known yet it can."""
    if one is None or other is None:
        return True
    (reads, writes), (others_reads, others_writes) = one, other
    return any(place in others_writes or place in others_reads for place in writes) or any(
        place in others_writes for place in reads
    )


class Log(kernels.Events):
    """The product's log: an error is a defect."""

    def _say(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if level == "error":
            message = f"{event} {fields}"
            raise Broken(message)


class Seat:
    """Where the call sits that runs now: the product's `posix`."""

    machine: Machine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.machine, name)


class _Names(kernels.Names):
    """The named guard's oracle, which looks once."""

    seat: Seat

    def __init__(self) -> None:
        self._named = self.seat.machine.named()

    def named(self) -> frozenset[str]:
        """Return whom a runtime named then."""
        return self._named


NEUTRAL = (  # of kernel.SEAMS: here they are only ways to come in between, or given by `posix` itself
    "namespaces.assigned.files",
    "namespaces.assigned.posix",
    "evidence.proof.posix",
    "namespaces.netns.posix",
    "namespaces.netns.nsfs_device",
    "namespaces.netns._nsfs_device",
    "evidence.records.posix",
    "memory.proven_views.posix",
    "namespaces.peer_addresses._ASKED_AGAIN_AFTER_S",
    "host_local.store.Network.snapshot",
    "host_local.store.Network.remove",
    "evidence.quick_evidence.cheap",
)

AS_THEY_ARE = (  # of kernel.SEAMS: only the random model says something of its own
    "namespaces.addresses.of_processes",
    "system.boot.node",
    "evidence.kin.Kin._check_time",
    "system.network_file_system.name",
    "system.clock.Budget.wall_left_s",
)

TOLD = {"identify_fully": 1, "everywhere": 1, "sees": 2, "peers": 0}  # so many of its arguments count


@contextmanager
def installed() -> Iterator[Seat]:
    """Put the call that sits in the Seat under the product, in place of the whole operating system."""
    seat = Seat()
    _Names.seat = seat
    for found in pkgutil.walk_packages(cni_reaper_plugin.__path__, PRODUCT + "."):
        if not found.name.endswith(("__main__", ".frozen")) and ".operator" not in found.name:
            importlib.import_module(found.name)

    def of(name: str) -> Callable[..., Any]:
        """Return what a method of the call that sits there answers, whatever else the product tells it."""

        def answer(*arguments: Any) -> Any:
            count = TOLD.get(name)
            return getattr(seat.machine, name)(*(arguments if count is None else arguments[:count]))

        return answer

    as_they_are = {seam: getattr(*kernels.owner_of(seam)) for seam in AS_THEY_ARE}
    replacements: dict[str, Any] = {
        **as_they_are,
        "namespaces.assigned.assign": lambda *_: None,  # no service and no docker here
        "system.boot.boot_id": lambda: seat.machine.kernel.boot_id,
        "system.boot.boottime_s": lambda: seat.machine.kernel.monotonic_s,
        "namespaces.netns.identify_fully": of("identify_fully"),
        "system.files.identity": of("identity"),
        "system.conntrack.end_flows": lambda *_: 0,
        "system.programs.find": lambda *_: None,  # no portmap here, and nothing that could list what it has written
        "system.programs.run": lambda *_: None,
        "namespaces.visible.everywhere": of("everywhere"),
        "namespaces.visible.sees": of("sees"),
        "namespaces.visible.shows_all": of("sees"),
        "namespaces.addresses.Look.configured": lambda _, ino, *__: seat.machine.configured(ino),
        "namespaces.peer_addresses.addresses": of("peers"),
        "evidence.runtime_names.Names": _Names,
        "memory.waiting_owners.Memory._clock_s": lambda _: seat.machine.kernel.monotonic_s,
        "memory.proven_views.own_view": lambda: [kernels.PID_NAMESPACE, kernels.MOUNT_NAMESPACE, 1],
        "memory.proven_views.RUN_DIR": RUN,
        "system.clock.Budget.spent": lambda *_, **__: False,
        "reaper.record_expiry.ticks": lambda: 0,
        "reaper.sweep.ticks": lambda: 0,
        "system.flock.take": of("take"),
        "plugin.verbs.Log": Log,
    }
    unknown = set(kernels.SEAMS) - set(replacements) - set(NEUTRAL)
    assert not unknown, f"the small world has to follow kernel.SEAMS: {sorted(unknown)}"
    with ExitStack() as stack:
        stack.enter_context(kernels.installed(Kernel(has_ns_id=True), RUN, lambda _: None, lambda: False))
        here = [module for name, module in sorted(sys.modules.items()) if name.startswith(PRODUCT) and ".operator" not in name]
        before = [(module, "posix", module.__dict__["posix"]) for module in here if "posix" in module.__dict__]
        owners = {seam: kernels.owner_of(seam) for seam in replacements}
        before += [(owner, name, getattr(owner, name)) for owner, name in owners.values()]  # type: ignore[misc]
        try:
            for module in here:
                if "posix" in module.__dict__:
                    module.posix = seat  # type: ignore[attr-defined]
            for seam, (owner, name) in owners.items():
                setattr(owner, name, replacements[seam])
            yield seat
        finally:
            for owner, name, value in before:
                setattr(owner, name, value)


NAMES = ("A", "B", "GC")  # of the calls that can be on their way: of a pod, or of the runtime
