"""When the addresses of netns without life are counted for their own sake."""

from pathlib import Path

import pytest

from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.reaper import lifeless_count
from cni_reaper_plugin.system import boot

BOOT, OTHER_BOOT = "3f2b8c1e-9d47-4a6b-8e05-000000000001", "3f2b8c1e-9d47-4a6b-8e05-000000000002"


@pytest.mark.parametrize(
    ("boot_id", "now_s", "is_time"),
    [(BOOT, 100.0, False), (BOOT, 699.0, False), (BOOT, 700.0, True), (BOOT, 99.0, True), (OTHER_BOOT, 101.0, True)],
)
def test_counted_once_in_ten_minutes_of_a_boot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, boot_id: str, now_s: float, is_time: bool
) -> None:
    """Each network for itself; a time that lies ahead is of another clock."""
    monkeypatch.setattr(proven_views, "RUN_DIR", str(tmp_path))
    monkeypatch.setattr(boot, "boot_id", lambda: BOOT)
    monkeypatch.setattr(boot, "boottime_s", lambda: 100.0)
    assert lifeless_count._is_time_to_count("net")
    assert lifeless_count._is_time_to_count("other")
    monkeypatch.setattr(boot, "boot_id", lambda: boot_id)
    monkeypatch.setattr(boot, "boottime_s", lambda: now_s)
    assert lifeless_count._is_time_to_count("net") == is_time


def test_not_counted_where_nothing_can_be_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each DEL would take a full scan."""
    monkeypatch.setattr(proven_views, "RUN_DIR", "/proc/cni-reaper")
    assert not lifeless_count._is_time_to_count("net")
