"""What all tests of single functions have: a /run/cni-reaper of their own, so that none writes into this machine's."""

import pytest

from cni_reaper_plugin.memory import proven_views


@pytest.fixture(autouse=True)
def own_run_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somewhere else than where a node has it."""
    monkeypatch.setattr(proven_views, "RUN_DIR", str(tmp_path_factory.mktemp("run") / "cni-reaper"))
