"""Broken files of libcni's cache: what is one, whose names count, when it is old enough, and that a write to it is never lost."""

import errno
import fcntl
import os
import posix
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.mend import broken, look, noted, places, removal
from cni_reaper_plugin.mend.look import Result
from cni_reaper_plugin.mend.places import FLANNEL, LIBCNI, MULTUS, Place
from cni_reaper_plugin.system import boot, flock, network_file_system
from cni_reaper_plugin.system.clock import Budget

ID = "0123456789abcdef" * 4
NAME = f"cbr0-{ID}-eth0"
CNITOOL = "cnitool-" + "0123456789" * 2
HALF = b'{"kind":"cniCacheV1","containerId":"0123'


class Clocks:
    """The wall clock and CLOCK_BOOTTIME of a test. Files are stamped by the machine's clock; the wall clock is ahead of that."""

    def __init__(self) -> None:
        self.ahead_ns = 0
        self.boot_s = 1000.0

    def wait(self, seconds: float) -> None:
        """Let both go on."""
        self.ahead_ns += int(seconds * 1e9)
        self.boot_s += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Clocks of the test's own."""
    found, real = Clocks(), time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + found.ahead_ns)
    monkeypatch.setattr(boot, "boottime_s", lambda: found.boot_s)
    return found


@pytest.fixture(autouse=True)
def run_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A /run/cni-reaper of the test's own."""
    found = tmp_path / "run"
    monkeypatch.setattr(proven_views, "RUN_DIR", str(found))
    monkeypatch.setattr(removal, "PAUSE_S", 0)
    return found


class Events(Log):
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("debug", "")
        self.told: list[tuple[str, str, dict[str, Any]]] = []

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        self.told.append((level, event, fields))


class Cache:
    """A cacheDir with its `results`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.results = directory / "results"
        self.results.mkdir(parents=True)
        self.events = Events()

    def put(self, data: bytes = b"", name: str = NAME) -> Path:
        """Write a file as libcni does."""
        path = self.results / name
        path.write_bytes(data)
        return path

    def look(self, *, dry_run: bool = False, **more: Any) -> Result:
        """Look at this cache."""
        return look.look(places.places([str(self.directory)], ()), self.events, dry_run=dry_run, **more)

    def names(self) -> set[str]:
        """Return what is in it."""
        return set(os.listdir(self.results))


class Spent(Budget):
    """A budget that is used up when it is asked for the how-manieth time."""

    def __init__(self, asked: int) -> None:
        super().__init__(1, 1)
        self.left = asked

    def spent(self, share: float = 1) -> bool:
        """Tell whether it is."""
        del share
        self.left -= 1
        return self.left <= 0


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """A cache without entries."""
    return Cache(tmp_path / "cni")


JSON = [
    *(b"{}", b"[]", b"null", b' {"a": 1}\n', b'"x"', b"1e999", b"9" * 5000, b'{"a":1,"a":2}'),
    *(b'{"a":"\xff\xfe"}', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"', b"-0", b"1E+2", b'"\x7f"'),
    b"[" * 9999 + b"]" * 9999,
]
NO_JSON = [
    *(HALF, b"{", b"NaN", b"[Infinity]", b"-", b"01", b"1.", b".5", b"+1", b"[1,]", b'{"a":1,}', b"{a:1}", b"'x'", b"tru"),
    *(b'"\x01"', b'"\\x41"', b"\xef\xbb\xbf{}", b'{"a":1}\0', b"\0{}", b"{}{}", b"\xff", b'"a', b'{"a":1}\n\0\0', b"\x0b{}"),
]
"""As json.Valid of Go 1.26 answers."""


@pytest.mark.parametrize("data", JSON)
def test_json_is_never_broken(data: bytes) -> None:
    """What Go's encoding/json takes is not touched, also where orjson refuses it."""
    assert broken.cause_of(data) == ""


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", broken.EMPTY),
        (b" \n\t\r", broken.BLANK),
        (b"\0" * 4096, broken.NUL_BYTES),
        (b"\0\n\0", broken.NUL_BYTES),
        *((data, broken.NO_JSON) for data in NO_JSON),
    ],
)
def test_what_is_broken_has_a_cause(data: bytes, cause: str) -> None:
    """Empty, blank, NUL bytes, and what Go's encoding/json refuses."""
    assert broken.cause_of(data) == cause


@pytest.mark.parametrize(
    ("kind", "name", "named"),
    [
        (LIBCNI, NAME, ("cbr0", ID, "eth0")),
        (LIBCNI, f"k8s-pod-network-{ID}-eth0", ("k8s-pod-network", ID, "eth0")),
        (LIBCNI, f"net-{ID}-br-lan", ("net", ID, "br-lan")),
        (LIBCNI, f"my-net-{CNITOOL}-eth0", ("my-net", CNITOOL, "eth0")),
        (LIBCNI, "my-net-web-1-eth0", ("my-net", "web-1", "eth0")),
        (LIBCNI, "other-net-web1-eth0", ("other-net", "web1", "eth0")),
        (LIBCNI, f"net-{ID}-\udcff", ("net", ID, "\udcff")),
        (FLANNEL, ID, ("", ID, "")),
        (MULTUS, CNITOOL, ("", CNITOOL, "")),
    ],
)
def test_names_of_writers_are_taken_apart(kind: str, name: str, named: tuple[str, str, str]) -> None:
    """Each part may hold dashes: an ID that a runtime gives is known by its form, a network by its name."""
    assert Place(kind, "/d").named(name, ["my", "my-net"]) == named


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(
            (LIBCNI, name)
            for name in ("", "eth0", "a-b", "-a-b", "a--b", "a-b-", ".a-b-c", ".new-1-0", f"{NAME}\n", f"n\n-{ID}-eth0")
        ),
        *(
            (LIBCNI, name)
            for name in (f"net-{ID}-" + "x" * 16, f"net-{ID}-a b", f"net-{ID}-a:b", f".cni-reaper.{NAME}", f"-{ID}-eth0")
        ),
        *(
            (FLANNEL, name)
            for name in ("subnet.env", ID[1:], ID + "0", ID.upper(), f"{ID}\n", f".{ID}", "cnitool-", "results", "passwd", NAME)
        ),
        *((MULTUS, name) for name in ("multus.kubeconfig", "results", ID + ".tmp", "cnitool-" + ID, "a" * 63 + "\u0661")),
    ],
)
def test_names_of_another_form_are_nobodys(kind: str, name: str) -> None:
    """A dataDir may be a directory that holds other files: those are never opened."""
    assert Place(kind, "/d").named(name) is None


def test_places_are_asked_once() -> None:
    """Both directories of each cacheDir, then the scratch files; the same directory once for each kind."""
    found = places.places(["/var/lib/cni", "/var/lib/cni/", "/var/lib/cni/cache"])
    assert [(one.kind, one.path) for one in found] == [
        (LIBCNI, "/var/lib/cni/results"),
        (LIBCNI, "/var/lib/cni/cache/results"),
        (LIBCNI, "/var/lib/cni/cache/cache/results"),
        (FLANNEL, "/var/lib/cni/flannel"),
        (MULTUS, "/var/lib/cni/multus"),
    ]


def test_good_files_are_kept(cache: Cache, clocks: Clocks) -> None:
    """However old: JSON is never touched."""
    for number, data in enumerate(JSON):
        cache.put(data, f"net{number}-{ID}-eth0")
    before = cache.names()
    clocks.wait(10**6)
    found = cache.look()
    assert (found.removed, found.waiting, found.kept, found.trouble, found.checked) == ([], [], [], [], len(JSON))
    assert cache.names() == before


@pytest.mark.parametrize("data", [b"", b"\n", b"\0" * 700, HALF])
def test_a_broken_file_is_removed_after_30_s(cache: Cache, clocks: Clocks, data: bytes) -> None:
    """Not before; and what is said of it."""
    path = cache.put(data)
    clocks.wait(look.OLD_S - 20)
    found = cache.look()
    assert [one.path for one in found.waiting] == [str(path)]
    assert 0 < found.waiting[0].wait_s <= 20
    assert path.exists()
    clocks.wait(21)
    found = cache.look()
    (gone,) = found.removed
    assert (gone.network, gone.container_id, gone.ifname, gone.size) == ("cbr0", ID, "eth0", len(data))
    assert cache.names() == set()
    (_, event, fields) = cache.events.told[-1]
    assert (event, fields["file"], fields["cause"]) == ("cache-removed", str(path), broken.cause_of(data))


def test_scratch_files_of_flannel_and_multus_are_removed(tmp_path: Path, clocks: Clocks) -> None:
    """By container ID; their neighbours of another name stay, broken or not."""
    for kind in (FLANNEL, MULTUS):
        (tmp_path / kind).mkdir()
        for name in (ID, CNITOOL, "subnet.env", NAME):
            (tmp_path / kind / name).write_bytes(b"FLANNEL_MTU=1450\n")
        (tmp_path / kind / ("a" * 64)).write_bytes(b"{}")
    clocks.wait(31)
    wanted = places.places([], [(kind, str(tmp_path / kind)) for kind in (FLANNEL, MULTUS)])
    found = look.look(wanted, Events(), dry_run=False)
    assert sorted((one.kind, one.container_id) for one in found.removed) == [
        (k, i) for k in (FLANNEL, MULTUS) for i in (ID, CNITOOL)
    ]
    for kind in (FLANNEL, MULTUS):
        assert set(os.listdir(tmp_path / kind)) == {"subnet.env", NAME, "a" * 64}


def test_dry_run_only_says_it(cache: Cache, clocks: Clocks) -> None:
    """Once at `info`, then at `debug`."""
    cache.put()
    clocks.wait(31)
    for level in ("info", "debug"):
        assert len(cache.look(dry_run=True).removed) == 1
        assert cache.events.told[-1][:2] == (level, "would-remove")
    assert cache.names() == {NAME}


# The clocks


@pytest.mark.parametrize("step_s", [-3600, -1_790_000_000, -31])
def test_a_clock_that_was_set_back_is_waited_out_by_another(cache: Cache, clocks: Clocks, step_s: int) -> None:
    """The ctime lies in the future: the file has to stay the same for 30 s of CLOCK_BOOTTIME, over two looks."""
    path = cache.put()
    clocks.ahead_ns += step_s * 10**9
    for _ in range(3):
        assert [one.path for one in cache.look().waiting] == [str(path)]
        clocks.wait(9)
    assert path.exists()
    clocks.wait(4)
    assert [one.path for one in cache.look().removed] == [str(path)]


def test_a_clock_a_year_ahead_makes_no_young_file_old(cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock was wrong all the time: files are stamped by it, and are as old as they are."""
    year_s = 365 * 86400
    clocks.wait(year_s)
    age_s = look._age_s
    monkeypatch.setattr(look, "_age_s", lambda about: age_s(about) - year_s)
    path = cache.put()
    assert len(cache.look().waiting) == 1
    clocks.wait(31)
    assert [one.path for one in cache.look().removed] == [str(path)]


def test_a_clock_that_is_stepped_ahead_during_a_write_takes_no_file(cache: Cache, clocks: Clocks) -> None:
    """The file seems old, and its writer has it open still: it stays, and holds what is written at last."""
    path = cache.put()
    with path.open("wb") as writer:
        clocks.ahead_ns += 50 * 365 * 86400 * 10**9
        found = cache.look()
        assert [one.reason for one in found.waiting] == ["a process has it open for writing"]
        writer.write(b"{}")
    assert cache.look().removed == []
    assert path.read_bytes() == b"{}"


def test_a_file_that_changes_begins_to_wait_again(cache: Cache, clocks: Clocks) -> None:
    """Another inode under the name, another ctime, or another size is another file."""
    path = cache.put()
    clocks.ahead_ns -= 10**13
    for change in (lambda: None, lambda: path.write_bytes(b"\n"), lambda: os.utime(path)):
        change()
        assert len(cache.look().waiting) == 1
        clocks.boot_s += 20
    (path.parent / "new").write_bytes(b"\n")
    (path.parent / "new").rename(path)
    assert len(cache.look().waiting) == 1
    clocks.boot_s += 31
    assert len(cache.look().removed) == 1


@pytest.mark.parametrize(
    "change",
    [{"bootID": "another"}, {"clock": 7}, {"files": []}, {"files": {"a": 1}}, None, {"since": 10**9}],
    ids=["another boot", "another clock", "no files", "no file", "no JSON", "the future"],
)
def test_notes_of_another_clock_count_for_nothing(cache: Cache, clocks: Clocks, run_dir: Path, change: Any) -> None:
    """What another boot, time namespace or program has noted: the file begins to wait now."""
    cache.put()
    clocks.ahead_ns -= 10**13
    cache.look()
    notes = run_dir / noted.FILE
    data = orjson.loads(notes.read_bytes())
    if change is None:
        notes.write_bytes(b"{")
    elif "since" in change:
        for one in data["files"].values():
            one[2] = change["since"]
        notes.write_bytes(orjson.dumps(data))
    else:
        notes.write_bytes(orjson.dumps({**data, **change}))
    clocks.boot_s += 31
    assert len(cache.look().waiting) == 1
    clocks.boot_s += 31
    assert len(cache.look().removed) == 1


def test_where_the_kernel_knows_no_writers_the_file_is_seen_twice(
    cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without leases: the wall clock alone is not enough."""
    monkeypatch.setattr(removal, "may_be_written", lambda _: None)
    cache.put()
    clocks.wait(10**6)
    assert len(cache.look().waiting) == 1
    clocks.wait(31)
    assert len(cache.look().removed) == 1


def test_another_nodes_clock_is_not_asked(cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network file system the server stamps ctime, and a lease knows nothing of other nodes."""
    monkeypatch.setattr(network_file_system, "name", lambda _: "nfs")
    cache.put()
    clocks.wait(10**6)
    assert len(cache.look().waiting) == 1
    clocks.wait(31)
    assert len(cache.look().removed) == 1


# Writers


def interrupted(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], object], *, after: bool) -> None:
    """Do something once, just before or after a system call on the file, by its name or aside."""
    real, left = getattr(posix, name), [act]

    def call(path: object, *given: Any, **more: Any) -> Any:
        ours = str(path).endswith(NAME)
        if ours and not after and left:
            left.pop()()
        answer = real(path, *given, **more)
        if ours and after and left:
            left.pop()()
        return answer

    monkeypatch.setattr(posix, name, call)


@pytest.mark.parametrize(("call", "after"), [("stat", False), ("stat", True), ("rename", False)])
def test_a_write_before_the_file_is_moved_is_kept(
    cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch, call: str, after: bool
) -> None:
    """An ADD of the very attachment that runs between any two steps finds its entry in the end."""
    path = cache.put()
    clocks.wait(31)
    interrupted(monkeypatch, call, lambda: path.write_bytes(b'{"good":1}'), after=after)
    assert cache.look().removed == []
    assert path.read_bytes() == b'{"good":1}'
    assert cache.names() == {NAME}


def test_a_file_that_was_written_to_is_away_for_no_time(cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that is seen before the move moves nothing; one that is seen at once is not waited for."""
    path = cache.put()
    clocks.wait(31)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it is away for that long"))
    interrupted(monkeypatch, "stat", lambda: path.write_bytes(b"{}"), after=False)
    with monkeypatch.context() as more:
        interrupted(more, "rename", lambda: pytest.fail("it is moved"), after=False)
        assert cache.look().removed == []
    path.write_bytes(b"")
    clocks.wait(31)
    interrupted(monkeypatch, "rename", lambda: path.write_bytes(b"{}"), after=False)
    assert cache.look().removed == []
    assert path.read_bytes() == b"{}"


@pytest.mark.parametrize("mode", ["wb", "r+b"], ids=["has truncated it", "has changed nothing"])
def test_a_write_that_has_only_begun_is_kept(cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """The writer has the file open when it is asked once more, with size and inode as they were, and writes after all is done."""
    path = cache.put()
    clocks.wait(31)
    writers: list[Any] = []
    interrupted(monkeypatch, "rename", lambda: writers.append(path.open(mode)), after=False)
    assert cache.look().removed == []
    with writers[0] as writer:
        writer.write(b'{"good":1}')
    assert path.read_bytes() == b'{"good":1}'


def test_a_write_after_the_file_was_moved_makes_another(cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is not touched; the broken one is gone."""
    path = cache.put()
    clocks.wait(31)
    interrupted(monkeypatch, "rename", lambda: path.write_bytes(b'{"good":1}'), after=True)
    assert len(cache.look().removed) == 1
    assert path.read_bytes() == b'{"good":1}'
    assert cache.names() == {NAME}


def test_a_newer_file_is_not_replaced_by_the_one_put_back(cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writers, one before the move and one after: the later one's file stays."""
    path = cache.put()
    clocks.wait(31)

    def both() -> None:
        path.write_bytes(b'{"first":1}')
        interrupted(monkeypatch, "stat", lambda: path.write_bytes(b'{"second":1}'), after=False)

    interrupted(monkeypatch, "rename", both, after=False)
    assert cache.look().removed == []
    assert path.read_bytes() == b'{"second":1}'
    assert cache.names() == {NAME}


def test_another_file_under_the_name_is_kept(cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renamed over it between any two steps, with the times of the old one."""
    path = cache.put()
    clocks.wait(31)
    about = path.stat()

    def replaced() -> None:
        other = path.with_name("other")
        other.write_bytes(b"")
        os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))
        other.rename(path)

    interrupted(monkeypatch, "rename", replaced, after=False)
    assert cache.look().removed == []
    assert cache.names() == {NAME}


def test_a_del_that_is_faster_is_no_trouble(cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is gone before it is moved."""
    path = cache.put()
    clocks.wait(31)
    interrupted(monkeypatch, "rename", path.unlink, after=False)
    found = cache.look()
    assert (found.removed, found.kept, found.trouble) == ([], [], [])


def test_a_writer_that_is_inside_its_open_is_waited_for(cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has found the file before the move, and truncates and writes it after: all are asked again when some time has passed."""
    paths = [cache.put(name=f"net{number}-{ID}-eth0") for number in range(3)]
    clocks.wait(31)
    writers: list[Any] = []
    real = posix.rename

    def rename(name: str, aside: str, **more: Any) -> None:
        if name == paths[1].name:
            writers.append(paths[1].open("r+b"))
        real(name, aside, **more)

    def pause(_: float) -> None:
        assert all(not path.exists() for path in paths), "the pause is one for all of them"
        with writers[0] as writer:
            writer.write(b'{"good":1}')

    monkeypatch.setattr(posix, "rename", rename)
    monkeypatch.setattr(time, "sleep", pause)
    assert len(cache.look().removed) == 2
    assert cache.names() == {paths[1].name}
    assert paths[1].read_bytes() == b'{"good":1}'


def test_many_files_are_removed_in_parts(cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not more descriptors are open at once than a process may have."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    for number in range(600):
        cache.put(name=f"net{number}-{ID}-eth0")
    clocks.wait(31)
    assert len(cache.look().removed) == 600
    assert len(pauses) == 3


def test_another_look_in_the_same_directory_is_left_alone(cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with another /run looks: what it has moved aside is not what a killed one has left behind."""
    cache.put()
    clocks.wait(31)
    found: list[Result] = []
    ours = proven_views.RUN_DIR

    def pause(_: float) -> None:
        monkeypatch.setattr(proven_views, "RUN_DIR", ours + "-other")
        found.append(cache.look())
        monkeypatch.setattr(proven_views, "RUN_DIR", ours)

    monkeypatch.setattr(time, "sleep", pause)
    assert len(cache.look().removed) == 1
    assert (found[0].removed, found[0].is_whole) == ([], False)
    assert cache.names() == set()


@pytest.mark.parametrize("good", [True, False])
def test_what_a_killed_look_has_moved_aside_is_put_back(cache: Cache, clocks: Clocks, good: bool) -> None:
    """And judged as any other: a file that was written in the last moment comes back."""
    path = cache.put(b"{}" if good else b"")
    path.rename(path.with_name(removal.ASIDE + NAME))
    clocks.wait(31)
    found = cache.look()
    assert cache.names() == ({NAME} if good else set())
    assert len(found.removed) == (0 if good else 1)


def test_a_file_system_without_hard_links_gets_its_files_back(
    cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT and vboxsf have none: what was moved aside would be lost for its writer."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    path = cache.put(b"{}")
    path.rename(path.with_name(removal.ASIDE + NAME))
    clocks.wait(31)
    monkeypatch.setattr(posix, "link", refuse)
    cache.look()
    assert (cache.names(), path.read_bytes()) == ({NAME}, b"{}")


def test_without_hard_links_a_newer_file_is_not_replaced(cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its writer has made it after the other one was moved aside."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    path = cache.put(b'{"older":1}')
    path.rename(path.with_name(removal.ASIDE + NAME))
    cache.put(b'{"newer":1}')
    clocks.wait(31)
    monkeypatch.setattr(posix, "link", refuse)
    cache.look()
    assert (cache.names(), path.read_bytes()) == ({NAME}, b'{"newer":1}')


def test_a_writer_is_seen_however_old_the_file_is(cache: Cache, clocks: Clocks) -> None:
    """A machine that slept in the middle of a write; readers do not count."""
    path = cache.put()
    clocks.wait(10**6)
    with path.open("ab"):
        for _ in range(2):
            assert len(cache.look().waiting) == 1
            clocks.wait(31)
    with path.open("rb"):
        assert len(cache.look().removed) == 1


def test_a_lease_ends_no_process(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that comes while the lease is held waits until it is given back; its signal does nothing to this process."""
    path = cache.put()
    real, refused = fcntl.fcntl, []

    def disturbed(fd: int, command: int, argument: int) -> int:
        if command == fcntl.F_SETLEASE and argument == fcntl.F_UNLCK:
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            except BlockingIOError:
                refused.append(True)
        return real(fd, command, argument)

    child = os.fork()  # a lease's own signal would end the tests
    if child == 0:
        monkeypatch.setattr(fcntl, "fcntl", disturbed)
        with path.open("rb") as file:
            told = removal.may_be_written(file.fileno())
            held = real(file.fileno(), fcntl.F_GETLEASE)
        os._exit(0 if (told, held, refused) == (False, fcntl.F_UNLCK, [True]) else 1)
    assert os.waitpid(child, 0)[1] == 0
    path.write_bytes(b"{}")


# What else may be there


def test_only_regular_files_are_opened(cache: Cache, clocks: Clocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories, FIFOs, sockets and symlinks of a good name stay, and no time is lost."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"")
    (cache.results / f"a-{ID}-eth0").mkdir()
    os.mkfifo(cache.results / f"b-{ID}-eth0")
    with socket.socket(socket.AF_UNIX) as door:
        monkeypatch.chdir(cache.results)
        door.bind(f"c-{ID}-eth0")
    (cache.results / f"d-{ID}-eth0").symlink_to(outside)
    (cache.results / f"e-{ID}-eth0").symlink_to("/etc/passwd")
    (cache.results / f"f-{ID}-eth0").symlink_to("nowhere")
    (cache.results / f"g-{ID}-eth0").hardlink_to(outside)
    before = cache.names()
    clocks.wait(31)
    found = cache.look()
    assert [one.network for one in found.removed] == ["g"], "a second name goes, and nothing else"
    assert cache.names() == before - {f"g-{ID}-eth0"}
    assert outside.exists()
    assert found.trouble == []


@pytest.mark.parametrize("kind", ["fifo", "symlink", "directory"])
def test_a_file_that_becomes_something_else_is_not_touched(
    cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Between listing and opening."""
    path = cache.put()
    clocks.wait(31)
    real = look._Look._regular

    def then(*given: Any) -> Any:
        answer = real(*given)
        path.unlink()
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "symlink":
            path.symlink_to("/etc/passwd")
        else:
            path.mkdir()
        return answer

    monkeypatch.setattr(look._Look, "_regular", then)
    found = cache.look()
    assert (found.removed, found.kept, found.checked) == ([], [], 0)
    assert cache.names() == {NAME}


def test_a_directory_that_is_a_symlink_is_followed_only_where_it_is_configured(tmp_path: Path, clocks: Clocks) -> None:
    """The cacheDir of libcni and the dataDir of flannel may be symlinks, as their writers follow them; `results` may not."""
    real = Cache(tmp_path / "real")
    real.put()
    clocks.wait(31)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "results").symlink_to(real.results)
    events = Events()
    for _ in range(2):
        found = look.look(places.places([str(tmp_path / "other")], ()), events, dry_run=False)
        assert found.removed == []
        assert len(found.trouble) == 1
    assert [told[0] for told in events.told] == ["warning", "debug"]
    (tmp_path / "link").symlink_to(real.directory)
    assert len(look.look(places.places([str(tmp_path / "link")], ()), events, dry_run=False).removed) == 1


def test_odd_names_stay_and_are_safe_in_the_log(cache: Cache, clocks: Clocks) -> None:
    """Newlines, escapes, bytes that are no UTF-8: only a writer's name counts, and a line of the log stays one line."""
    odd = ["a\nlevel=error event=reaped", "\x1b[31m", "x" * 255, "-rf", "*", f"net-{ID}-a\nb", " ", f"net-{ID}-eth0 "]
    for name in odd:
        cache.put(name=name)
    (Path(os.fsdecode(os.fsencode(cache.results) + b"/net-" + ID.encode() + b"-\xff\xfe"))).write_bytes(b"")
    clocks.wait(31)
    log_file = cache.directory / "log"
    found = look.look(places.places([str(cache.directory)], ()), Log("debug", str(log_file)), dry_run=False)
    assert len(found.removed) == 1
    assert cache.names() == set(odd)
    assert len(log_file.read_text().splitlines()) == 1


def test_a_large_file_is_not_read(cache: Cache, clocks: Clocks) -> None:
    """Above LARGEST it is not judged, whatever it holds."""
    path = cache.put()
    os.truncate(path, look.LARGEST + 1)
    clocks.wait(31)
    found = cache.look()
    assert (found.removed, found.checked) == ([], 0)
    os.truncate(path, look.LARGEST)
    clocks.wait(31)
    assert len(cache.look().removed) == 1


def test_what_cannot_be_removed_is_said_once(cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only file system, say: a warning, then debug."""
    real = posix.rename

    def refuse(name: str, *given: Any, **more: Any) -> None:
        if name == NAME:
            raise OSError(30, "Read-only file system")
        real(name, *given, **more)

    cache.put()
    clocks.wait(31)
    monkeypatch.setattr(posix, "rename", refuse)
    for level in ("warning", "debug"):
        found = cache.look()
        assert [one.reason for one in found.kept] == ["Read-only file system"]
        assert [told[0] for told in cache.events.told if told[1] == "cache-not-removed"][-1] == level


def test_a_process_without_descriptors_moves_nothing_aside(cache: Cache, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be asked once more stays under its name: a file aside is one that its container's DEL does not find."""

    def refuse(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    cache.put()
    clocks.wait(31)
    monkeypatch.setattr(posix, "dup", refuse)
    assert [one.reason for one in cache.look().kept] == ["Too many open files"]
    assert cache.names() == {NAME}


def test_a_missing_directory_is_no_trouble(tmp_path: Path) -> None:
    """Most nodes have no flannel and no multus."""
    events = Events()
    found = look.look(places.places([str(tmp_path / "none")], [(FLANNEL, str(tmp_path / "none"))]), events, dry_run=False)
    assert (found.trouble, events.told, found.is_whole) == ([], [], True)


# Bounds


def test_a_look_that_is_cut_goes_on_where_it_was(cache: Cache, clocks: Clocks) -> None:
    """One file a call at least, and each file in its turn."""
    for number in range(5):
        cache.put(name=f"net{number}-{ID}-eth0")
    clocks.wait(31)

    counts = []
    for _ in range(6):
        found = cache.look(budget=Spent(1))
        counts.append((len(found.removed), found.is_whole))
    assert counts == [(1, False)] * 5 + [(0, True)]


def test_a_huge_directory_leaves_time_for_its_files(cache: Cache, clocks: Clocks) -> None:
    """To list it takes all the CPU time of a call. With one file a call, 200,000 entries would take 140 days."""

    class Listed(Spent):
        def next_sweep(self) -> None:
            self.left = 100

    for number in range(5):
        cache.put(name=f"net{number}-{ID}-eth0")
    clocks.wait(31)
    assert len(cache.look(budget=Listed(1)).removed) == 5


def test_good_files_are_looked_at_in_turn(cache: Cache, clocks: Clocks, tmp_path: Path) -> None:
    """Where a look never gets through, the next one begins behind the last file: no file and no place is left out for ever."""
    for number in range(4):
        cache.put(b"{}", f"net{number}-{ID}-eth0")
    cache.put(b"", f"net9-{ID}-eth0")
    (tmp_path / ID).write_bytes(b"")
    clocks.wait(31)
    wanted = places.places([str(cache.directory)], [(FLANNEL, str(tmp_path))])
    found = [look.look(wanted, cache.events, dry_run=False, budget=Spent(2)) for _ in range(8)]
    assert sorted(one.kind for each in found for one in each.removed) == [FLANNEL, LIBCNI]
    assert not found[0].is_whole


def test_one_look_at_a_time(cache: Cache, clocks: Clocks, run_dir: Path) -> None:
    """Whoever finds another look going on leaves it to that one."""
    cache.put()
    clocks.wait(31)
    cache.look(dry_run=True)
    lock = flock.open_lock(str(run_dir / look.LOCK), 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    found = cache.look()
    assert (found.removed, found.is_whole) == ([], False)
    os.close(lock)
    assert len(cache.look(lock_wait_s=1).removed) == 1


def test_without_run_it_works_all_the_same(cache: Cache, clocks: Clocks, run_dir: Path) -> None:
    """Nothing can be locked or noted: the wall clock decides."""
    run_dir.write_bytes(b"")
    cache.put()
    clocks.wait(31)
    assert len(cache.look().removed) == 1


def test_notes_are_of_what_is_there(cache: Cache, clocks: Clocks, run_dir: Path) -> None:
    """What is gone is forgotten; the file is for root alone."""
    for number in range(3):
        cache.put(name=f"net{number}-{ID}-eth0")
    cache.look()
    notes = run_dir / noted.FILE
    assert len(orjson.loads(notes.read_bytes())["files"]) == 3
    assert stat.S_IMODE(notes.stat().st_mode) == 0o600
    clocks.wait(31)
    cache.look()
    cache.look()
    assert orjson.loads(notes.read_bytes())["files"] == {}
