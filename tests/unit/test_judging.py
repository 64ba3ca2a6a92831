"""A look around the node that costs too much CPU time is noted for the next ADDs; one that was merely slow is not."""

from pathlib import Path

import pytest

from cni_reaper_plugin import judging, store
from cni_reaper_plugin.clock import Budget
from cni_reaper_plugin.events import Log
from cni_reaper_plugin.evidence import closer, views
from cni_reaper_plugin.evidence.unclaimed import Memory
from cni_reaper_plugin.facts import Call, Settings
from cni_reaper_plugin.network_sweep import NetworkSweep

VIEW = [4026531836, 4026531841, 1]


@pytest.mark.parametrize(("tolerable_s", "is_noted"), [(-1.0, True), (1e9, False)], ids=["too much", "little"])
@pytest.mark.parametrize("verb", ["ADD", "DEL", judging.AUDIT])
def test_costly_look_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, tolerable_s: float, is_noted: bool
) -> None:
    """Also where it has not come to its end; a look of AUDIT leaves no note."""

    def slow(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(closer, "Look", slow)
    monkeypatch.setattr(views, "RUN_DIR", str(tmp_path))
    monkeypatch.setattr(judging, "TOLERABLE_LOOK_S", tolerable_s)
    (tmp_path / "net").mkdir()
    memory = Memory(str(tmp_path), "net", "boot", VIEW)
    with store.Network(str(tmp_path), "net") as directory:
        look = NetworkSweep(directory, Call(verb), Settings(), Budget(5, 500), Log("error", ""))
        with pytest.raises(TimeoutError):
            judging.Judging(look, [], [], memory)
    assert judging.is_put_off(Call("ADD")) == (is_noted and verb != judging.AUDIT)
    assert not judging.is_put_off(Call("DEL"))
