"""Lists of the kernel that change while they are read, from a kernel that is made up."""

import errno
import posix
import struct
from collections.abc import Iterator

import pytest

from cni_reaper_plugin.model import Netns
from cni_reaper_plugin.namespaces import peer_addresses
from cni_reaper_plugin.scan_model import VisibleNetns
from cni_reaper_plugin.system import files
from cni_reaper_plugin.system.rtnetlink import Rtnetlink, UnsteadyError

NEWADDR, DONE, INTERRUPTED = 20, 3, 0x10
OWN, ENDING = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))


def message(kind: int, flags: int, body: bytes = b"") -> bytes:
    """Return one message of an answer."""
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body


def answer(address: bytes, *, whole: bool) -> bytes:
    """Return a list with one address, and whether it is one."""
    body = bytes(8) + struct.pack("=HH", 8, 2) + address
    return message(NEWADDR, 0 if whole else INTERRUPTED, body) + message(DONE, 0)


class Socket:
    """Answers one list after the other."""

    def __init__(self, answers: Iterator[bytes]) -> None:
        self._answers = answers
        self.asked = 0

    def setsockopt(self, *_: int) -> None:
        """Refuse what Linux before 4.20 refuses."""
        raise OSError(errno.ENOPROTOOPT, "not known")

    def send(self, _: bytes) -> None:
        """Take a question."""
        self.asked += 1

    def recv(self, _: int) -> bytes:
        """Answer it."""
        return next(self._answers)


def listening(*answers: bytes) -> tuple[Rtnetlink, Socket]:
    """Return what asks, and the socket that answers it."""
    netlink, socket = Rtnetlink.__new__(Rtnetlink), Socket(iter(answers))
    vars(netlink)["_socket"] = socket
    return netlink, socket


def test_a_list_that_changed_is_read_again() -> None:
    """And only the whole one counts."""
    netlink, socket = listening(answer(ENDING, whole=False), answer(OWN, whole=True))
    assert netlink.addresses() == {OWN}
    assert socket.asked == 2


def test_a_kernel_that_cannot_list_other_netns() -> None:
    """Before Linux 4.20 there is no strict rtnetlink: nothing is asked, and no netns is known by a link's far end."""
    netlink, socket = listening()
    assert netlink.nsids() == set()
    assert socket.asked == 0


def test_list_that_always_changes_is_told_as_incomplete() -> None:
    """It is read three times; what it showed is told, and that it may not be all."""
    netlink, socket = listening(*(answer(address, whole=False) for address in (OWN, OWN, ENDING)))
    with pytest.raises(UnsteadyError) as raised:
        netlink.addresses()
    assert raised.value.found == {OWN, ENDING}
    assert socket.asked == 3


STEADY, UNSTEADY, FOREIGN = b"\1\0\0\0", b"\2\0\0\0", b"\3\0\0\0"


class FarEnds:
    """Netns at the far ends of links. of: the nsid of each place that leads to one."""

    of: dict[str, bytes]
    fds: dict[int, bytes]

    def __enter__(self) -> "FarEnds":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def nsids(self) -> set[bytes]:
        """Return them all."""
        return {STEADY, UNSTEADY, FOREIGN}

    def nsid_of(self, fd: int) -> bytes:
        """Return that of an open one."""
        return self.fds.pop(fd)

    def addresses_of(self, nsid: bytes) -> set[bytes]:
        """Return what is configured there."""
        if nsid == UNSTEADY:
            raise UnsteadyError({ENDING})
        return {OWN} if nsid == STEADY else {b"other"}


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> type[FarEnds]:
    """The far ends that the product asks for; files stand for netns."""

    def opened(path: str, _: int) -> int:
        fd = posix.open("/dev/null", posix.O_RDONLY)
        FarEnds.fds[fd] = FarEnds.of[path]
        return fd

    FarEnds.of, FarEnds.fds = {}, {}
    monkeypatch.setattr(peer_addresses, "Rtnetlink", FarEnds)
    monkeypatch.setattr(files, "open_on_device", opened)
    return FarEnds


def seen(far: type[FarEnds], nsid: bytes, *, foreign: bool = False) -> VisibleNetns:
    """Return a visible netns with an nsid."""
    place = f"/proc/{nsid[0]}/ns/net"
    far.of[place] = nsid
    found = VisibleNetns(Netns(1, posix.stat("/dev/null").st_ino, 1), place)
    found.foreign = foreign
    return found


def test_changing_far_end_not_seen_shows_no_address(far: type[FarEnds]) -> None:
    """Only by its addresses is it known, and these are not."""
    with pytest.raises(OSError, match="far end") as raised:
        peer_addresses.addresses([seen(far, STEADY), seen(far, FOREIGN, foreign=True)])
    assert raised.value.errno == errno.EAGAIN


def test_changing_far_end_seen_cannot_be_looked_into(far: type[FarEnds]) -> None:
    """It counts as a netns that cannot be looked into, and what it showed is in use."""
    assert peer_addresses.addresses([seen(far, UNSTEADY)]) == {OWN, ENDING, b"other"}


def test_far_end_of_another_user_does_not_count(far: type[FarEnds]) -> None:
    """What it shows does not count."""
    assert peer_addresses.addresses([seen(far, UNSTEADY), seen(far, FOREIGN, foreign=True)]) == {OWN, ENDING}
