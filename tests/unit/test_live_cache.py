"""Owners noted as LIVE: one that is still to be seen by a single look is found, and nobody else."""

import os
from pathlib import Path

import pytest

from cni_reaper_plugin.memory import live_cache
from cni_reaper_plugin.model import Mapping, Netns, Reservation

RESERVED = Reservation("net", "10.0.0.2", b"id\r\neth0", 11, 22)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A file that stands in for a netns, noted as RESERVED's owner's in the boot `boot`."""
    place = tmp_path / "netns"
    place.touch()
    there = place.stat()
    mapping = Mapping("record", str(place))
    mapping.now = Netns(there.st_dev, there.st_ino, there.st_ctime_ns)
    noted = live_cache.entry(RESERVED, mapping)
    assert noted is not None
    live_cache.note(str(tmp_path), "net", "boot", {RESERVED.address: noted})
    return place


def found(place: Path, boot_id: str = "boot", identity: tuple[int, int] = (11, 22)) -> set[str]:
    """Return the addresses whose owners still stand."""
    return set(live_cache.still(str(place.parent), "net", boot_id, lambda _: identity))


def test_owner_whose_netns_stands_is_found(place: Path) -> None:
    """The reservation's file and the netns are those that were noted."""
    assert found(place) == {RESERVED.address}


def test_another_netns_at_the_path_does_not_count(place: Path) -> None:
    """What stands at the path now is another one, or nothing."""
    other = place.with_name("other")
    other.touch()
    os.replace(other, place)
    assert found(place) == set()
    place.unlink()
    assert found(place) == set()


def test_another_reservation_of_the_address_does_not_count(place: Path) -> None:
    """Somebody else has been given the address since."""
    assert found(place, identity=(11, 23)) == set()


def test_another_boot_does_not_count(place: Path) -> None:
    """What an earlier boot noted says nothing."""
    assert found(place, boot_id="another") == set()


def test_a_process_is_not_noted(place: Path) -> None:
    """Its PID may be another's any time."""
    mapping = Mapping("record", "/proc/1/ns/net")
    mapping.now = Netns(1, 2, 3)
    assert live_cache.entry(RESERVED, mapping) is None
    assert found(place)
