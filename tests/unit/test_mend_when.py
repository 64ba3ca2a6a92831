"""When the next call of the runtime looks for broken files."""

from pathlib import Path

import pytest

from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.mend import when
from cni_reaper_plugin.mend.broken import EMPTY, Broken
from cni_reaper_plugin.mend.look import Result
from cni_reaper_plugin.mend.places import FLANNEL
from cni_reaper_plugin.model import Call
from cni_reaper_plugin.notices import said_once
from cni_reaper_plugin.options import Settings
from cni_reaper_plugin.system import clock

NOW = 1000


def due_in_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *waits_s: float, is_whole: bool = True) -> float:
    """Let a look end so, and return in how many seconds the next one is due."""
    result = Result()
    result.is_whole = is_whole
    for wait_s in waits_s:
        one = Broken("/var/lib/cni/flannel/1", FLANNEL, ("", "1", ""), 0, EMPTY)
        one.wait_s = wait_s
        result.waiting.append(one)
    monkeypatch.setattr(proven_views, "RUN_DIR", str(tmp_path))
    monkeypatch.setattr(clock, "ticks", lambda: NOW)
    monkeypatch.setattr(when, "look", lambda *_, **__: result)
    when.after(Call("DEL"), Settings(), Log("error", ""), "due", 20.0)
    due = said_once.read("due")
    assert isinstance(due, int)
    return (due - NOW) / clock.TICKS_A_SECOND


def test_next_look_is_a_minute_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All was looked at, and nothing has to wait."""
    assert due_in_s(monkeypatch, tmp_path) == when.EVERY_S


def test_next_look_is_when_a_file_is_old_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first of those that wait."""
    assert due_in_s(monkeypatch, tmp_path, 20, 7) == 7


def test_next_look_is_soon_after_a_cut_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What it has not seen keeps pods from ending, however long the seen ones wait."""
    assert due_in_s(monkeypatch, tmp_path, is_whole=False) == when.GO_ON_S
    assert due_in_s(monkeypatch, tmp_path, 20, is_whole=False) == when.GO_ON_S
    assert due_in_s(monkeypatch, tmp_path, 2, is_whole=False) == 2
