"""A look around the node that costs too much CPU time is noted for the next ADDs; one that was merely slow is not."""

from pathlib import Path

import pytest

from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.evidence import full_evidence
from cni_reaper_plugin.host_local import store
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.memory.waiting_owners import Memory
from cni_reaper_plugin.model import Call
from cni_reaper_plugin.network_sweep import NetworkSweep
from cni_reaper_plugin.options import Settings
from cni_reaper_plugin.reaper import full_scan
from cni_reaper_plugin.system.clock import Budget

VIEW = [4026531836, 4026531841, 1]


@pytest.mark.parametrize(("tolerable_s", "is_noted"), [(-1.0, True), (1e9, False)], ids=["too much", "little"])
@pytest.mark.parametrize("verb", ["ADD", "DEL", full_scan.AUDIT])
def test_costly_look_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, tolerable_s: float, is_noted: bool
) -> None:
    """Also where it has not come to its end; a look of AUDIT leaves no note."""

    def slow(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(full_evidence, "Look", slow)
    monkeypatch.setattr(proven_views, "RUN_DIR", str(tmp_path))
    monkeypatch.setattr(full_scan, "TOLERABLE_LOOK_S", tolerable_s)
    (tmp_path / "net").mkdir()
    memory = Memory(str(tmp_path), "net", "boot", VIEW)
    with store.Network(str(tmp_path), "net") as directory:
        look = NetworkSweep(directory, Call(verb), Settings(), Budget(5, 500), Log("error", ""))
        with pytest.raises(TimeoutError):
            full_scan.Judging(look, [], [], memory)
    assert full_scan.is_put_off(Call("ADD")) == (is_noted and verb != full_scan.AUDIT)
    assert not full_scan.is_put_off(Call("DEL"))
