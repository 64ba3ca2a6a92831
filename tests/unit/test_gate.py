"""The gate: who learns of whose scan. Each Gate here is another process's."""

import fcntl
from pathlib import Path

import pytest

from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.memory.waiting_owners import LOOK_AGAIN_S, Memory
from cni_reaper_plugin.model import Reservation
from cni_reaper_plugin.reaper.gate import Gate

VIEW = [4026531836, 4026531841, 1]
WAITING = Reservation("net", "10.0.0.2", b"id\r\neth0", 1, 1)


def scan(run_dir: Path, *, whole: bool = True, terms: bytes = b"") -> None:
    """Scan from the beginning to the end, as another process."""
    gate = Gate(str(run_dir), "net", terms)
    assert gate.take(0)
    gate.begin()
    if whole:
        gate.complete()
    gate.close()


def test_a_scan_that_began_before_counts_for_nothing(tmp_path: Path) -> None:
    """It may have read the reservations before ours was stale."""
    scan(tmp_path)
    gate = Gate(str(tmp_path), "net")
    assert gate.take(0)
    assert not gate.was_passed()
    gate.close()


def test_a_scan_that_was_running_counts_for_nothing(tmp_path: Path) -> None:
    """It ended while we waited, but had begun when we came."""
    running = Gate(str(tmp_path), "net")
    assert running.take(0)
    running.begin()
    late = Gate(str(tmp_path), "net")
    running.complete()
    running.close()
    assert late.take(0)
    assert not late.was_passed()
    late.close()


@pytest.mark.parametrize("whole", [True, False])
def test_scan_that_began_while_waiting_counts_unless_cut(tmp_path: Path, whole: bool) -> None:
    """It has judged what we would; unless it was cut off."""
    waiting = Gate(str(tmp_path), "net")
    scan(tmp_path, whole=whole)
    assert waiting.take(0)
    assert waiting.was_passed() == whole
    waiting.close()


@pytest.mark.parametrize("theirs", [b"", b"dry", b"wet"])
def test_a_scan_on_other_terms_counts_for_nothing(tmp_path: Path, theirs: bytes) -> None:
    """With dryRun, say, it has freed nothing."""
    waiting = Gate(str(tmp_path), "net", b"wet")
    scan(tmp_path, terms=theirs)
    assert waiting.take(0)
    assert waiting.was_passed() == (theirs == b"wet")
    waiting.close()


def test_a_scan_that_ended_and_has_not_begun_counts_for_nothing(tmp_path: Path) -> None:
    """/run was full when it began, and no longer when it ended."""
    (tmp_path / "net.sweep").write_bytes(b"\0" * 8 + b"\1" + b"\0" * 7)
    gate = Gate(str(tmp_path), "net")
    assert gate.take(0)
    assert not gate.was_passed()
    gate.close()


def test_any_numbers_in_the_file_stop_no_scan(tmp_path: Path) -> None:
    """What somebody has written into the file keeps no scan from being made."""
    (tmp_path / "net.sweep").write_bytes(b"\xff" * 40)
    scan(tmp_path)
    waiting = Gate(str(tmp_path), "net")
    scan(tmp_path)
    assert waiting.take(0)
    assert waiting.was_passed()
    waiting.close()


def test_an_old_whole_scan_does_not_stand_for_a_new_one_that_was_cut_off(tmp_path: Path) -> None:
    """The two numbers are of different scans then."""
    scan(tmp_path)
    waiting = Gate(str(tmp_path), "net")
    scan(tmp_path, whole=False)
    assert waiting.take(0)
    assert not waiting.was_passed()
    waiting.close()


def test_one_at_a_time(tmp_path: Path) -> None:
    """The gate is flock(2): whoever has not got it says so."""
    held, other = Gate(str(tmp_path), "net"), Gate(str(tmp_path), "net")
    assert held.take(0)
    assert not other.take(0)
    held.close()
    assert other.take(0)
    other.close()


def test_where_there_is_no_place_for_a_gate_everybody_passes(tmp_path: Path) -> None:
    """The directory's name is a file's."""
    (tmp_path / "run").touch()
    gate = Gate(str(tmp_path / "run"), "net")
    assert not gate.is_there
    assert gate.take(0)
    gate.begin()
    gate.complete()
    assert not gate.was_passed()
    gate.close()


def test_a_gate_that_cannot_be_written_is_one(tmp_path: Path) -> None:
    """What nobody can write into is locked all the same."""
    with (tmp_path / "net.sweep").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        gate = Gate(str(tmp_path), "net")
        assert not gate.take(0)
        gate.close()


def kept(run_dir: Path, place: Path | None, now: pytest.MonkeyPatch, later_s: float = 0.0) -> Memory:
    """Remember that WAITING stays by what is at a place, and return the memory of a process so much later."""
    clock = [1000.0]
    now.setattr(Memory, "_clock_s", lambda _: clock[0])
    memory = Memory(str(run_dir), "net", "boot", VIEW)
    about = place.stat() if place is not None else None
    memory.keep(WAITING, b"{}", (str(place), about.st_dev, about.st_ino, about.st_ctime_ns) if about is not None else None)
    memory.save(Log("error", ""), closely=True)
    clock[0] += later_s
    return Memory(str(run_dir), "net", "boot", VIEW)


def test_what_stays_is_remembered_while_its_proof_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very file, the very record, and what stands at the place as it stood."""
    place = tmp_path / "netns"
    place.touch()
    memory = kept(tmp_path, place, monkeypatch)
    assert memory.keeps(WAITING, b"{}", dry_run=False)
    assert not memory.keeps(WAITING, b'{"v": 1}', dry_run=False)
    assert not memory.keeps(Reservation("net", "10.0.0.2", b"id\r\neth0", 1, 2), b"{}", dry_run=False)
    assert not memory.keeps(Reservation("net", "10.0.0.2", b"id\r\neth0", 2, 1), b"{}", dry_run=False)
    place.unlink()
    assert not memory.keeps(WAITING, b"{}", dry_run=False)


def test_what_stays_is_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A netns that stands can have lost the address that it showed."""
    place = tmp_path / "netns"
    place.touch()
    assert not kept(tmp_path, place, monkeypatch, LOOK_AGAIN_S + 0.1).keeps(WAITING, b"{}", dry_run=False)


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_dry_run_keeps_is_remembered_under_dry_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    """Without it the next call frees."""
    assert kept(tmp_path, None, monkeypatch).keeps(WAITING, b"{}", dry_run=dry_run) == dry_run
