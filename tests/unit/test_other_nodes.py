"""Records of other nodes are those nodes' evidence: GC does not mark them, and no sweep drops them while the node may live."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from cni_reaper_plugin.attachment import Attachment
from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.evidence import full_evidence, records
from cni_reaper_plugin.host_local import store
from cni_reaper_plugin.memory.waiting_owners import Memory
from cni_reaper_plugin.model import Call, Netns, Surroundings
from cni_reaper_plugin.network_sweep import NetworkSweep
from cni_reaper_plugin.options import Settings
from cni_reaper_plugin.plugin import attachment_records
from cni_reaper_plugin.reaper import full_scan, record_expiry
from cni_reaper_plugin.system import boot, network_file_system
from cni_reaper_plugin.system.clock import Budget

OURS, THEIRS = ("a" * 32, "one"), ("b" * 32, "two")
OLD_S, NOW_S = 10.0, 90_000.0


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A node of this kernel, long after its boot."""
    monkeypatch.setattr(boot, "node", lambda: OURS)
    monkeypatch.setattr(boot, "boot_id", lambda: "boot")
    monkeypatch.setattr(boot, "boottime_s", lambda: NOW_S)
    found = Settings()
    found.state_dir = str(tmp_path / "state")
    return found


def recorded(settings: Settings, node: tuple[str, str], boot_id: str = "boot") -> None:
    """Let a record stand whose netns is gone."""
    raw = records.encode("/run/netns/gone", Netns(4, 100, 5000), boot_id, OLD_S, True, {}, node)
    with records.Directory(settings.state_dir, "net", make=True) as directory:
        directory.write(Attachment("net", "id", "eth0"), raw)


def record(settings: Settings) -> records.Record | None:
    """Return the record as it stands."""
    with records.Directory(settings.state_dir, "net") as directory:
        return directory.read("id", "eth0")


@pytest.mark.parametrize(("node", "is_marked"), [(THEIRS, False), (OURS, True)])
def test_gc_marks_what_its_list_lacks(settings: Settings, node: tuple[str, str], is_marked: bool) -> None:
    """The list is of this node's attachments."""
    recorded(settings, node)
    attachment_records.mark_unlisted("net", set(), settings, Log("error", ""))
    found = record(settings)
    assert found is not None
    assert found.mapping.deleted is is_marked


@pytest.mark.parametrize(("node", "is_left"), [(THEIRS, True), (OURS, False)])
def test_over_record_of_this_node_only_is_dropped(settings: Settings, node: tuple[str, str], is_left: bool) -> None:
    """That its netns is not seen here says nothing of another container node's of this kernel."""
    recorded(settings, node)
    record_expiry.drop_records("net", [], settings)
    assert (record(settings) is not None) is is_left


@pytest.mark.parametrize(("file_system", "is_left"), [("nfs", True), ("", False)])
def test_record_of_another_boot_is_dropped_on_a_disk_only(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, file_system: str, is_left: bool
) -> None:
    """On a network file system it is of a node that runs; on a disk, of the node that had this disk before."""
    monkeypatch.setattr(network_file_system, "name", lambda _: file_system)
    recorded(settings, THEIRS, "another boot")
    record_expiry.drop_records("net", [], settings)
    assert (record(settings) is not None) is is_left


@pytest.mark.parametrize("file_system", ["nfs", ""])
def test_a_full_scan_asks_whether_the_store_is_shared(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_system: str
) -> None:
    """For itself: the quick scan's answer is of a candidate, and the scan judges everybody."""
    monkeypatch.setattr(network_file_system, "name", lambda path: file_system if path == f"{tmp_path}/net" else "another")
    monkeypatch.setattr(full_evidence, "Look", lambda *_: SimpleNamespace(surroundings=Surroundings("boot")))
    settings.data_dir = str(tmp_path)
    (tmp_path / "net").mkdir()
    memory = Memory(str(tmp_path), "net", "boot", [1, 2, 3])
    with store.Network(str(tmp_path), "net") as directory:
        look = NetworkSweep(directory, Call(full_scan.AUDIT), settings, Budget(5, 500), Log("error", ""))
        judged = full_scan.Judging(look, [], [], memory)
    assert judged.surroundings.shared == file_system
