"""What a reservation's content says, and when two netns are proven to be one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_reaper_plugin.attachment import valid_ifname, valid_name
from cni_reaper_plugin.model import BLANK, ODD, OWNED, Netns, Reservation
from cni_reaper_plugin.scan_model import VisibleNetns


def parsed(content: bytes) -> tuple[str, str, str]:
    """Return what a reservation with this content is taken for."""
    reservation = Reservation("net", "10.0.0.1", content, 1, 2)
    return reservation.kind, reservation.container_id, reservation.ifname


@pytest.mark.parametrize(
    ("content", "owner"),
    [
        (b"id\r\neth0", ("id", "eth0")),
        (b"id", ("id", "")),
        (b"id\n", ("id", "")),
        (b" id \r\n", ("id", "")),
        (b"id\r\neth0\r\n", ("id", "eth0")),
        (b"a.b-c_9\r\na.b", ("a.b-c_9", "a.b")),
    ],
)
def test_id_and_ifname_are_an_owner(content: bytes, owner: tuple[str, str]) -> None:
    """An ID, or ID and ifname, trimmed as host-local trims them, is an owner."""
    assert parsed(content) == (OWNED, *owner)


@pytest.mark.parametrize("content", [b"", b"\0", b"\0" * 512, b" \r\n\t", b"\0 \0\n"])
def test_blank_content_is_blank(content: bytes) -> None:
    """What a crash leaves between creating and writing is blank."""
    assert parsed(content) == (BLANK, "", "")


@pytest.mark.parametrize(
    "content",
    [
        b"id\neth0",
        b"id\reth0",
        b"id eth0",
        b"id\r\neth0\r\nx",
        b"id\r\n\r\neth0",
        b"../x\r\neth0",
        b"id\r\na/b",
        b"id\r\n" + b"a" * 16,
        b"\xff",
        b"id\0",
        b"\0id",
        b"\r\neth0\0",
        b"id\r\neth0\0",
        "\u00e4".encode(),
        b"-rf",
    ],
)
def test_anything_else_is_odd(content: bytes) -> None:
    """Anything else is odd: no owner can be told, and it is not empty."""
    assert parsed(content) == (ODD, "", "")


@given(st.binary(max_size=80))
def test_never_an_owner_with_an_invalid_name(content: bytes) -> None:
    """Whatever bytes a file holds: what comes out as an owner is safe to be part of a path, and nothing raises."""
    kind, container_id, ifname = parsed(content)
    assert kind in (OWNED, BLANK, ODD)
    assert (kind == OWNED) == valid_name(container_id)
    assert not ifname or valid_ifname(ifname)


NETNS = Netns(4, 100, 5000)


@pytest.mark.parametrize(
    ("other", "proven"),
    [
        (Netns(4, 100, 5000), True),
        (Netns(4, 100, 5001), False),
        (Netns(4, 101, 5000), False),
        (Netns(5, 100, 5000), False),
        (Netns(4, 100, 0), False),
        (Netns(4, 100, 5000, 7), True),
    ],
)
def test_an_equal_ctime_proves(other: Netns, proven: bool) -> None:
    """The same number and ctime are one netns; a number alone is not."""
    assert NETNS.is_proven(other) is proven
    assert other.is_proven(NETNS) is proven


def test_an_unknown_ctime_proves_nothing() -> None:
    """Two netns whose ctime could not be had are not taken for one."""
    assert not Netns(4, 100, 0).is_proven(Netns(4, 100, 0))


@pytest.mark.parametrize(
    ("one", "other", "same_boot", "proven"), [(7, 7, True, True), (7, 8, True, False), (7, 7, False, False), (7, 0, True, False)]
)
def test_the_kernels_own_number_decides_within_a_boot(one: int, other: int, same_boot: bool, proven: bool) -> None:
    """NS_GET_ID is never reused, but counts from the start again in the next boot."""
    assert Netns(4, 100, 5000, one).is_proven(Netns(4, 100, 6000, other), same_boot) is proven


def test_the_kernels_own_number_refutes_an_equal_ctime() -> None:
    """Where both know it, NS_GET_ID decides alone."""
    assert not Netns(4, 100, 5000, 7).is_proven(Netns(4, 100, 5000, 8))
    assert Netns(4, 100, 5000, 7).is_proven(Netns(4, 100, 5000, 8), same_boot=False)


def test_netns_is_assigned_by_host_or_another_id() -> None:
    """A netns is somebody else's if it is the host's, or named for another ID than the owner's."""
    assert not VisibleNetns(NETNS).is_accounted("me")
    assert VisibleNetns(NETNS, host=True).is_accounted("me")
    named = VisibleNetns(NETNS)
    named.names.add("me")
    assert not named.is_accounted("me")
    named.names.add("you")
    assert named.is_accounted("me")
