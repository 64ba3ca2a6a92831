"""Proven views: what an ADD and the DEL of a failed ADD say of a view, and for how long that counts."""

from pathlib import Path

import pytest

from cni_reaper_plugin.attachment import Attachment
from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.model import ALL, NOTHING, Call, Netns, Permission
from cni_reaper_plugin.namespaces import visible
from cni_reaper_plugin.plugin import first_del

OWN, OTHER_MOUNTS, OTHER_PIDS = [11, 21, 1], [11, 22, 1], [12, 21, 9]  # PID namespace, mount namespace, start of its PID 1


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A /run of its own."""
    monkeypatch.setattr(proven_views, "RUN_DIR", str(tmp_path))


def test_what_a_del_has_shown_ends_with_an_add_in_another_pid_namespace() -> None:
    """That ADD's is the runtime's view; whoever has shown another one is a container on the node."""
    proven_views.prove("boot", OWN, "shown")
    assert proven_views.allowance("boot", OWN) == ALL
    proven_views.prove("boot", OTHER_PIDS)
    assert proven_views.allowance("boot", OWN) == NOTHING
    assert not proven_views.may_show("boot", OWN)


def test_what_a_del_has_shown_stays_beside_an_add_in_another_mount_namespace() -> None:
    """A runtime may run its plugins in several."""
    proven_views.prove("boot", OWN, "shown")
    proven_views.prove("boot", OTHER_MOUNTS)
    assert proven_views.allowance("boot", OWN) == ALL
    assert proven_views.may_show("boot", OWN)


def test_each_counts_for_itself() -> None:
    """What is proven of one view says nothing of another; and it needs no DEL to show it."""
    proven_views.prove("boot", OWN)
    assert [proven_views.allowance("boot", one) for one in (OWN, OTHER_MOUNTS, OTHER_PIDS)] == [ALL, NOTHING, NOTHING]
    assert not proven_views.may_show("boot", OWN)
    assert proven_views.may_show("next boot", OWN)


@pytest.mark.parametrize(("is_shown", "may_reap"), [(True, ALL), (False, NOTHING)])
def test_a_del_allows_what_its_netns_shows(monkeypatch: pytest.MonkeyPatch, is_shown: bool, may_reap: Permission) -> None:
    """A netns that is not where a runtime's would be seen proves no view, and accounts for nothing."""
    monkeypatch.setattr(visible, "shows_all", lambda *_: is_shown)
    call = Call("DEL", Attachment("net", "id", "eth0"), "/run/netns/a", Netns(4, 100, 5000))
    call.view = OWN
    first_del.look(call, "boot", Log("error", ""))
    assert (call.may_reap, call.shows) == (may_reap, is_shown)
