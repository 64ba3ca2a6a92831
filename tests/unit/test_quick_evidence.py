"""Whose record it is: of the container's life that made the reservation, or of an earlier one."""

from pathlib import Path

import pytest

from cni_reaper_plugin.attachment import Attachment
from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.evidence import quick_evidence, records
from cni_reaper_plugin.host_local import store
from cni_reaper_plugin.model import Call, Mapping, Netns, Reservation, Surroundings
from cni_reaper_plugin.network_sweep import NetworkSweep
from cni_reaper_plugin.options import Settings
from cni_reaper_plugin.system.clock import Budget

OWNER = "aa11bb22cc33" * 5
ATTACHMENT = Attachment("net", OWNER, "eth0")
SECOND = 10**9


def mapped(state: Path, ago_s: float, deleted: bool = False, pod: dict[str, str] | None = None) -> Mapping:
    """Return the mapping of a reservation whose record was written so many seconds before it; its netns is gone."""
    raw = records.encode("/run/netns/gone", Netns(4, 100, 5000), "boot", 1.0, True, pod or {})
    with records.Directory(str(state), "net", make=True) as directory:
        directory.write(ATTACHMENT, raw)
        added_ns = (state / "net" / ATTACHMENT.record_name).stat().st_ctime_ns
        if deleted:
            record = directory.read(OWNER, "eth0")
            assert record is not None
            directory.mark_deleted(ATTACHMENT, record)
    settings = Settings()
    settings.state_dir = str(state)
    reservation = Reservation("net", "10.0.0.2", f"{OWNER}\r\neth0".encode(), 7, added_ns + int(ago_s * SECOND))
    surroundings = Surroundings("boot")
    (state.parent / "net").mkdir(exist_ok=True)
    with store.Network(str(state.parent), "net") as network:
        sweep = NetworkSweep(network, Call("ADD"), settings, Budget(5, 500), Log("error", ""))
        (evidence,) = quick_evidence.cheap(sweep, [reservation], surroundings, None)
    assert (surroundings.trouble, evidence.trouble) == ("", "")
    assert evidence.mapping is not None
    return evidence.mapping


@pytest.mark.parametrize(("ago_s", "deleted"), [(121, False), (121, True)])
def test_record_of_an_earlier_life_proves_no_death(tmp_path: Path, ago_s: float, deleted: bool) -> None:
    """More than two minutes younger than its record's ADD, whenever a DEL has marked it: the record proves no death."""
    mapping = mapped(tmp_path, ago_s, deleted)
    assert mapping.outlived
    assert not mapping.can_prove_death


@pytest.mark.parametrize(
    ("ago_s", "deleted"), [(0, False), (0.01, False), (119, False), (-3600, False), (0, True), (-0.01, True)]
)
def test_record_of_the_same_life_proves_death(tmp_path: Path, ago_s: float, deleted: bool) -> None:
    """As old as the record, or older: an ADD that came again, or a DEL that left it behind. The record proves death."""
    mapping = mapped(tmp_path, ago_s, deleted)
    assert not mapping.outlived
    assert mapping.can_prove_death


def test_a_sandbox_has_one_life(tmp_path: Path) -> None:
    """A pod's sandbox never comes back, whatever the clock says."""
    assert mapped(tmp_path, 3600, pod={"uid": "u"}).can_prove_death


def test_without_a_record_nothing_is_older(tmp_path: Path) -> None:
    """A record that has gone meanwhile was written at no time."""
    with records.Directory(str(tmp_path), "net", make=True) as directory:
        directory.write(ATTACHMENT, records.encode("/run/netns/gone", None, "boot", 1.0, True, {}))
        record = directory.read(OWNER, "eth0")
        assert record is not None
        directory.remove(ATTACHMENT)
        assert directory.added_ns(OWNER, "eth0", record) == 0
