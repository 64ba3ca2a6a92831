"""Proven views: what an ADD and the DEL of a failed ADD say of a view, and for how long that counts."""

from pathlib import Path

import pytest

from cni_reaper_plugin.attachment import Attachment
from cni_reaper_plugin.chain import first_del
from cni_reaper_plugin.events import Log
from cni_reaper_plugin.evidence import views, visible
from cni_reaper_plugin.facts import ALL, NOTHING, Call, Netns, Permission

OWN, OTHER_MOUNTS, OTHER_PIDS = [11, 21, 1], [11, 22, 1], [12, 21, 9]  # PID namespace, mount namespace, start of its PID 1


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A /run of its own."""
    monkeypatch.setattr(views, "RUN_DIR", str(tmp_path))


def test_what_a_del_has_shown_ends_with_an_add_in_another_pid_namespace() -> None:
    """That ADD's is the runtime's view; whoever has shown another one is a container on the node."""
    views.prove("boot", OWN, "shown")
    assert views.allowance("boot", OWN) == ALL
    views.prove("boot", OTHER_PIDS)
    assert views.allowance("boot", OWN) == NOTHING
    assert not views.may_show("boot", OWN)


def test_what_a_del_has_shown_stays_beside_an_add_in_another_mount_namespace() -> None:
    """A runtime may run its plugins in several."""
    views.prove("boot", OWN, "shown")
    views.prove("boot", OTHER_MOUNTS)
    assert views.allowance("boot", OWN) == ALL
    assert views.may_show("boot", OWN)


def test_each_counts_for_itself() -> None:
    """What is proven of one view says nothing of another; and it needs no DEL to show it."""
    views.prove("boot", OWN)
    assert [views.allowance("boot", one) for one in (OWN, OTHER_MOUNTS, OTHER_PIDS)] == [ALL, NOTHING, NOTHING]
    assert not views.may_show("boot", OWN)
    assert views.may_show("next boot", OWN)


@pytest.mark.parametrize(("is_shown", "may_reap"), [(True, ALL), (False, NOTHING)])
def test_a_del_allows_what_its_netns_shows(monkeypatch: pytest.MonkeyPatch, is_shown: bool, may_reap: Permission) -> None:
    """A netns that is not where a runtime's would be seen proves no view, and accounts for nothing."""
    monkeypatch.setattr(visible, "shows_all", lambda *_: is_shown)
    call = Call("DEL", Attachment("net", "id", "eth0"), "/run/netns/a", Netns(4, 100, 5000))
    call.view = OWN
    first_del.look(call, "boot", Log("error", ""))
    assert (call.may_reap, call.shows) == (may_reap, is_shown)
