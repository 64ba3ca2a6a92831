"""What is remembered of owners without a netns: which netns of then still stands."""

import os
import time
from pathlib import Path

import pytest

from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.memory.waiting_owners import Memory
from cni_reaper_plugin.model import Netns, Reservation
from cni_reaper_plugin.scan_model import VisibleNetns

VIEW = [4026531836, 4026531841, 1]


def remembered(run_dir: Path, place: Path, ctime: int) -> VisibleNetns:
    """Remember a netns at a place with an ID and a ctime, and return what the next process is told of it."""
    found = place.stat()
    memory = Memory(str(run_dir), "net", "boot", VIEW)
    waiting = Reservation("net", "10.0.0.2", b"id\r\neth0", 1, 1)
    memory.remember([waiting], [VisibleNetns(Netns(found.st_dev, found.st_ino, ctime, ns_id=77), str(place))])
    memory.looked({waiting.address})
    memory.save(Log("error", ""), closely=True)
    (told,) = (Memory(str(run_dir), "net", "boot", VIEW).standing() or {}).values()
    return told


def test_an_equal_ctime_keeps_the_id(tmp_path: Path) -> None:
    """The same inode at its place is the same netns: the number that the kernel gave it is still its own."""
    place = tmp_path / "netns"
    place.touch()
    assert remembered(tmp_path, place, place.stat().st_ctime_ns).netns.ns_id == 77


def test_another_ctime_loses_the_id(tmp_path: Path) -> None:
    """Another netns may have the number by now."""
    place = tmp_path / "netns"
    place.touch()
    before = place.stat().st_ctime_ns
    while place.stat().st_ctime_ns == before:  # the kernel's clock of files ticks every few milliseconds
        os.utime(place)
    told = remembered(tmp_path, place, before)
    assert told.netns.ns_id == 0
    assert told.netns.ino == place.stat().st_ino


def test_nothing_is_told_once_it_is_time_to_look_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds after a full scan the next call takes another one."""
    place = tmp_path / "netns"
    place.touch()
    remembered(tmp_path, place, place.stat().st_ctime_ns)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 11)
    assert Memory(str(tmp_path), "net", "boot", VIEW).standing() is None


def test_another_boot_remembers_nothing(tmp_path: Path) -> None:
    """What was seen before a reboot is no evidence after it: numbers are given anew."""
    place = tmp_path / "netns"
    place.touch()
    remembered(tmp_path, place, place.stat().st_ctime_ns)
    waiting = Reservation("net", "10.0.0.2", b"id\r\neth0", 1, 1)
    assert Memory(str(tmp_path), "net", "boot", VIEW).of(waiting) is not None
    assert Memory(str(tmp_path), "net", "another", VIEW).of(waiting) is None
