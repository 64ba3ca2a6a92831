"""Whose a process is and what it may do, by its status files: a directory in the place of /proc."""

import posix
from pathlib import Path

import pytest

from cni_reaper_plugin.namespaces import user_namespaces
from cni_reaper_plugin.system import files

OTHER_UID = 60001
NOTHING, ALL = "0" * 16, "000001ffffffffff"
ALL_BUT_SYS_ADMIN = f"{int(ALL, 16) & ~(1 << 21):016x}"


def task(process: Path, number: int, uid: int, permitted: str) -> Path:
    """Make a thread of a process, with what is asked of its status file; its user namespace is not ours."""
    made = process / "task" / str(number)
    (made / "ns").mkdir(parents=True)
    (made / "ns" / "user").touch()
    (made / "status").write_text(f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGroups:\t\nCapPrm:\t{permitted}\nSeccomp:\t0\n")
    return made


@pytest.mark.parametrize(
    ("uid", "permitted", "expected"),
    [(0, ALL, False), (0, ALL_BUT_SYS_ADMIN, True), (0, NOTHING, True), (OTHER_UID, NOTHING, True), (OTHER_UID, ALL, True)],
)
def test_process_without_sys_admin_can_mount_nothing(tmp_path: Path, uid: int, permitted: str, expected: bool) -> None:
    """Who lacks CAP_SYS_ADMIN in our user namespace, also who has it in one of their own."""
    task(tmp_path, 1, uid, permitted)
    assert user_namespaces.can_mount_nothing(str(tmp_path)) is expected


def test_a_thread_that_has_ended_says_nothing_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of two threads is gone when it is asked for; the other one can mount, so the process can."""
    task(tmp_path, 2, 0, ALL)
    monkeypatch.setattr(posix, "listdir", lambda _: ["1", "2"])
    assert not user_namespaces.can_mount_nothing(str(tmp_path))


def test_a_process_that_has_ended_mounts_nothing(tmp_path: Path) -> None:
    """It is gone before it is asked, or while its threads are."""
    assert user_namespaces.can_mount_nothing(str(tmp_path / "gone"))
    (tmp_path / "task" / "1").mkdir(parents=True)
    assert user_namespaces.can_mount_nothing(str(tmp_path))


def test_both_questions_have_the_answer_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who a task is and what it may do come from one read of its status."""
    made, asked = task(tmp_path, 1, OTHER_UID, NOTHING), []

    def read(path: str) -> bytes:
        asked.append(path)
        return Path(path).read_bytes()

    monkeypatch.setattr(files, "read", read)
    assert user_namespaces.is_process_powerless(str(made))
    assert user_namespaces.can_mount_nothing(str(tmp_path))
    assert asked == [f"{made}/status"] * 2
