"""Log lines: one a line, whatever a value holds, and only down to the level asked for."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_reaper_plugin import event_log
from tests.support.node_files import parse_line


@pytest.fixture(autouse=True)
def no_syslog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written to the machine's syslog."""
    monkeypatch.setattr(event_log, "_SYSLOG", "/nowhere/log")


@pytest.mark.parametrize("level", event_log.LEVELS)
def test_log_has_its_level_and_graver_ones(tmp_path: Path, level: str) -> None:
    """A log of a level has that level's events and the graver ones."""
    log = event_log.Log(level, str(tmp_path / "log"))
    for one in event_log.LEVELS:
        getattr(log, one)("tried", field=1)
    lines = [parse_line(line)["level"] for line in (tmp_path / "log").read_text().splitlines()]
    assert lines == list(event_log.LEVELS[: event_log.LEVELS.index(level) + 1])


def test_fields_stand_in_order_and_quoted(tmp_path: Path) -> None:
    """Fields stand in their order, quoted where they must be; what is None or empty is left out."""
    log = event_log.Log("info", str(tmp_path / "log"))
    log.info("reaped", address="10.0.0.2", pod=None, empty="", number=0, reason='a "b" c\\', line="x\ny")
    line = (tmp_path / "log").read_text()
    assert line.endswith('Z level=info event=reaped address=10.0.0.2 number=0 reason="a \\"b\\" c\\\\" line="x\\x0ay"\n')
    assert parse_line(line.strip())["reason"] == 'a "b" c\\'


@given(st.text())
def test_a_value_never_makes_a_second_line(value: str) -> None:
    """Newlines, control and other unprintable characters are written as escapes."""
    quoted = event_log._quoted(value)
    assert quoted.isprintable()
    assert quoted[0] != '"' or quoted.replace("\\\\", "").replace('\\"', "").count('"') == 2


@pytest.mark.parametrize("path", ["/nowhere/at/all/log", "/dev/full", "/"])
def test_a_log_that_cannot_be_written_is_no_error(path: str) -> None:
    """An event that nobody takes is lost, and the call goes on."""
    event_log.Log("debug", path).error("lost", reason="x")


def test_lines_are_appended_to_whatever_stands_there(tmp_path: Path) -> None:
    """The file is opened for each line, so one that was rotated away meanwhile is made anew."""
    path = tmp_path / "log"
    log = event_log.Log("info", str(path))
    log.info("first")
    path.rename(tmp_path / "log.1")
    log.info("second")
    log.info("third")
    assert [parse_line(line)["event"] for line in path.read_text().splitlines()] == ["second", "third"]
    assert path.stat().st_mode & 0o777 == 0o640 & ~current_umask()


def current_umask() -> int:
    """Return this process's umask."""
    return int(
        next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Umask:")).split()[1], 8
    )
