"""The watcher mends at its start and each minute, whatever else wakes it, and says what stays once."""

import time

import pytest

from cni_reaper_plugin.mend.broken import Broken
from cni_reaper_plugin.operator.mend import mend
from cni_reaper_plugin.operator.mend.each_minute import Mender
from cni_reaper_plugin.operator.mend.mend import Outcome


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock; its one element is the time."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_at_its_start_and_each_minute(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    """A rewrite in between does not bring it forward; the watcher waits no longer than until the next time."""
    calls: list[list[str]] = []

    def once(conf_dirs: list[str]) -> Outcome:
        calls.append(conf_dirs)
        return Outcome()

    monkeypatch.setattr(mend, "once", once)
    mender = Mender(["/etc/cni/net.d"], lambda _: None)
    assert (mender.once(), calls) == (60.0, [["/etc/cni/net.d"]])
    clock[0] += 59
    assert (mender.once(), len(calls)) == (1.0, 1)
    clock[0] += 1
    assert (mender.once(), len(calls)) == (60.0, 2)


def test_what_stays_is_said_once(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    """A removal is said each time, a file that waits and a problem once, and again when they were away."""
    said: list[str] = []
    one = Broken("/var/lib/cni/results/x", "libcni", ("net", "a" * 64, "eth0"), 0, "empty")
    one.reason = "young\n"
    outcomes = [
        Outcome(waiting=[one], problems=["it is read-only"]),
        Outcome(waiting=[one], problems=["it is read-only"]),
        Outcome(removed=[one]),
        Outcome(removed=[one]),
        Outcome(problems=["it is read-only"]),
    ]
    monkeypatch.setattr(mend, "once", lambda _: outcomes.pop(0))
    mender = Mender([], said.append)
    for count in (2, 2, 3, 4, 5):
        mender.once()
        clock[0] += 60
        assert len(said) == count
    assert "\n" not in "".join(said)
    assert said[2].startswith("removed  /var/lib/cni/results/x (empty, 0 bytes)")


@pytest.mark.parametrize(("wait_s", "next_s"), [(12.0, 12.0 + mend.AGAIN_S), (0.5, 5.0), (600.0, 60.0)])
def test_a_file_that_waits_is_not_left_for_a_minute(
    monkeypatch: pytest.MonkeyPatch, clock: list[float], wait_s: float, next_s: float
) -> None:
    """After a boot the files are often just too young; a file that a process holds open is not asked for each second."""
    one = Broken("/var/lib/cni/results/x", "libcni", ("net", "a" * 64, "eth0"), 0, "empty")
    one.reason, one.wait_s = "young", wait_s
    monkeypatch.setattr(mend, "once", lambda _: Outcome(waiting=[one]))
    assert Mender([], lambda _: None).once() == pytest.approx(next_s)
    assert clock == [100.0]
