"""Looking at a process whose namespaces change meanwhile, on a /proc that is made up."""

import errno
import posix
import time
from collections.abc import Iterator

import pytest

from cni_reaper_plugin.namespaces import peer_addresses, user_namespaces, visible
from cni_reaper_plugin.system import files

HOST, OLD, NEW = 4026531841, 4026532100, 4026532200
FOREIGN = {4026532300}
MOUNTED = {HOST: 1, OLD: 4026532281, NEW: 4026532361}
PROCESS = "/proc/7"


class Proc:
    """A /proc with one process. views: the mount namespaces that it is in, one for each look at its mounts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, views: Iterator[int]) -> None:
        self._views = views
        self.now = next(views)
        self.roots: set[tuple[int, str]] = set()
        self.seen: visible.Sightings = {}
        monkeypatch.setattr(visible, "_namespace_of", lambda _, kind: self.now if kind == "mnt" else HOST)
        monkeypatch.setattr(visible, "_root_of", lambda _: "/")
        monkeypatch.setattr(visible._Descriptors, "add", lambda *_: None)
        monkeypatch.setattr(user_namespaces, "is_netns_foreign", lambda *_: False)
        self.can_mount = True
        monkeypatch.setattr(user_namespaces, "can_mount_nothing", lambda _: not self.can_mount)
        monkeypatch.setattr(user_namespaces, "are_mounts_foreign", lambda _: self.now in FOREIGN)
        monkeypatch.setattr(visible, "_add_mounts", self._add_mounts)
        monkeypatch.setattr(posix, "listdir", lambda _: ["7"])

    def _add_mounts(self, seen: visible.Sightings, *_: str) -> None:
        self.now = next(self._views)
        number = MOUNTED[self.now]
        seen.setdefault(number, visible.Sighting(number))

    def look(self) -> None:
        """Look at the process."""
        visible._look_at(self.seen, PROCESS, self.roots, visible._Descriptors(self.seen))


def test_process_that_stays_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look at its mounts is enough, and its view counts as read."""
    proc = Proc(monkeypatch, iter([OLD, OLD]))
    proc.look()
    assert proc.roots == {(OLD, "/")}
    assert MOUNTED[OLD] in proc.seen


def test_a_process_that_moves_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its old mount namespace does not count as read: what was read is the new one's."""
    proc = Proc(monkeypatch, iter([OLD, NEW, NEW]))
    proc.look()
    assert proc.roots == {(NEW, "/")}


def moving() -> Iterator[int]:
    """Return the mount namespaces of a process that never stays."""
    while True:
        yield OLD
        yield NEW


def test_restless_process_that_cannot_mount_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """It changes its root alone; what was read of it is enough, and its view does not count as read."""
    proc = Proc(monkeypatch, moving())
    proc.can_mount = False
    proc.look()
    assert proc.roots == set()


def test_restless_process_stops_reaping(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of looks is bounded, and then nothing may be called stale."""
    proc = Proc(monkeypatch, moving())
    with pytest.raises(OSError, match="faster than it can be read") as raised:
        proc.look()
    assert raised.value.errno == errno.EAGAIN
    assert proc.roots == set()


def test_mounts_of_another_user_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not read, and do not count as read: a process of root in there still shows them."""
    proc = Proc(monkeypatch, iter([4026532300]))
    proc.look()
    assert proc.roots == set()
    assert list(proc.seen) == [HOST]


ABOUT = {
    "a number of 64 bits": "pos:\t0\nflags:\t02100000\nmnt_id:\t9\nino:\t8321503796\n",
    "the number of a file": "pos:\t0\nflags:\t02100000\nmnt_id:\t9\nino:\t128\n",
    "a directory": f"pos:\t0\nflags:\t{posix.O_DIRECTORY:o}\nmnt_id:\t9\nino:\t4026532281\n",
    "a directory on a kernel that tells no number": f"pos:\t0\nflags:\t{posix.O_DIRECTORY:o}\nmnt_id:\t9\n",
}
NO_NUMBER = "pos:\t0\nflags:\t02100000\nmnt_id:\t9\n"
"""What a kernel before Linux 5.14 tells."""


@pytest.mark.parametrize("of_a_user", [False, True])
@pytest.mark.parametrize("about", ABOUT.values(), ids=ABOUT.keys())
def test_a_descriptor_that_is_no_netns_is_not_opened(monkeypatch: pytest.MonkeyPatch, about: str, of_a_user: bool) -> None:
    """The kernel's own word about it is enough, whoever has it."""
    assert opened(monkeypatch, about, of_a_user) == []


@pytest.mark.parametrize("of_a_user", [False, True])
def test_a_descriptor_of_which_the_kernel_tells_no_number(monkeypatch: pytest.MonkeyPatch, of_a_user: bool) -> None:
    """A runtime's may be the only one that holds a pod's netns, so it is opened. A user's may be of a file system that hangs."""
    assert opened(monkeypatch, NO_NUMBER, of_a_user) == ([] if of_a_user else ["/proc/7/fd/3"])


def opened(monkeypatch: pytest.MonkeyPatch, about: str, of_a_user: bool) -> list[str]:
    """Have a descriptor looked at that shows as `/`, and return what was opened for it; about: what the kernel tells of it."""
    asked: list[str] = []

    def open_on_device(path: str, _: int) -> int:
        asked.append(path)
        raise OSError(errno.EXDEV, "no netns")

    def is_process_powerless(task: str) -> bool:
        assert task == "/proc/7"
        return of_a_user

    monkeypatch.setattr(files, "read", lambda _: about.encode())
    monkeypatch.setattr(files, "open_on_device", open_on_device)
    monkeypatch.setattr(user_namespaces, "is_process_powerless", is_process_powerless)
    assert visible._unmounted("/proc/7/fd/3") == 0
    return asked


def test_what_a_file_is_on_is_found_without_asking_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """AT_STATX_DONT_SYNC, on a path: on a descriptor alone the kernel forgets the flag."""
    asked = []

    def identity(path: str, _: int, flags: int) -> tuple[int, int, int]:
        asked.append((path.rpartition("/")[0], flags))
        return 4, 1, 1

    monkeypatch.setattr(files, "identity", identity)
    posix.close(files.open_on_device("/dev/null", 4))
    assert asked == [("/proc/self/fd", 0x4000)]


@pytest.mark.parametrize(("ends", "asked"), [(1, 1), (2, 2), (3, 3), (9, 3)])
def test_address_seen_at_a_far_end_only_is_asked_again(monkeypatch: pytest.MonkeyPatch, ends: int, asked: int) -> None:
    """It is asked for again, and believed when it is still there after all; what is not doubtful is kept in any case."""
    answers: list[frozenset[bytes]] = []

    def addresses(_: object) -> frozenset[bytes]:
        answers.append(frozenset([b"other", b"ending"] if len(answers) + 1 < ends else [b"other"]))
        return answers[-1]

    slept: list[float] = []
    monkeypatch.setattr(peer_addresses, "addresses", addresses)
    monkeypatch.setattr(time, "sleep", slept.append)
    lasting = peer_addresses.lasting(frozenset([b"own", b"other", b"ending"]), frozenset([b"ending"]), [])
    assert lasting == ({b"own", b"other", b"ending"} if ends > 3 else {b"own", b"other"})
    assert len(answers) == len(slept) == asked
    assert ends <= 3 or sum(slept) == pytest.approx(0.15)


@pytest.mark.parametrize("counted", [True, False], ids=["a kernel that counts them", "one that does not"])
@pytest.mark.parametrize(("powerless", "number", "looked_at"), [(True, 1000, 16_000), (True, 50, 20_000), (False, 1000, 20_000)])
def test_descriptors_of_another_user_are_bounded(
    monkeypatch: pytest.MonkeyPatch, powerless: bool, number: int, looked_at: int, counted: bool
) -> None:
    """They are looked at up to a number in all, whole processes; of those that have few, and of root's, all are."""
    looks: list[str] = []
    monkeypatch.setattr(posix, "open", lambda *_, **__: 99)
    monkeypatch.setattr(posix, "close", lambda _: None)
    monkeypatch.setattr(posix, "fstat", lambda _: type("Stat", (), {"st_size": number if counted else 0}))
    monkeypatch.setattr(posix, "listdir", lambda _: [str(one) for one in range(number)])

    def look(name: str, **_: object) -> str:
        looks.append(name)
        return "socket:[1]"

    monkeypatch.setattr(posix, "readlink", look)
    monkeypatch.setattr(user_namespaces, "is_process_powerless", lambda _: powerless)
    descriptors = visible._Descriptors({})
    for process in range(20_000 // number):
        descriptors.add(f"/proc/{process}")
    assert len(looks) == looked_at


@pytest.mark.parametrize(
    ("by_another", "mounts", "foreign"), [(True, [], True), (True, ["/run/netns/a"], False), (None, [], False)]
)
def test_netns_of_another_user_counts_where_root_mounted_it(by_another: bool | None, mounts: list[str], foreign: bool) -> None:
    """Where root has mounted it, or its owner could not be asked, it may be a pod's."""
    sighting = visible.Sighting(OLD)
    sighting.owned_by_other, sighting.mounts = by_another, mounts
    assert sighting.foreign is foreign


def test_the_owner_of_a_netns_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And again as long as nobody has known: a process may end in between."""
    answers = iter([None, True])
    monkeypatch.setattr(user_namespaces, "is_netns_foreign", lambda *_: next(answers))
    seen: visible.Sightings = {}
    for _ in range(3):
        visible._sighting(seen, OLD, PROCESS)
    assert seen[OLD].foreign
