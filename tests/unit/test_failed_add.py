"""The netns of the DEL of a failed ADD: it is that container's where nothing else can have it, and nothing is known of it."""

from types import SimpleNamespace
from typing import Any

import pytest

from cni_reaper_plugin.attachment import Attachment
from cni_reaper_plugin.evidence.full_evidence import Look
from cni_reaper_plugin.model import Call, Netns, Surroundings
from cni_reaper_plugin.namespaces.visible import Sighting
from cni_reaper_plugin.scan_model import VisibleNetns

GIVEN_ONCE, GIVEN_AGAIN = "/run/netns/cni-5d2a7c1e-9d47-4a6b-8e05-0123456789ab", "/run/netns/blue"
ITS, SINCE = Netns(4, 4026533000, 5000), Netns(4, 4026533000, 6000)


def names(path: str = GIVEN_ONCE, **changes: Any) -> set[str]:
    """Return for whom the netns is named, of a DEL that has proven the view; `changes`: what else is so."""
    call = Call("DEL", Attachment("net", "owner", "eth0"), path, ITS)
    call.shows = changes.get("shows", True)
    seen = VisibleNetns(changes.get("seen", ITS), path)
    seen.names = set(changes.get("others", ()))
    sighting = Sighting(ITS.ino)
    sighting.mounts = [changes.get("mount", path)]
    look = Look.__new__(Look)
    look.surroundings = Surroundings("boot")
    look.surroundings.netns = {ITS.ino: seen}
    look._sweep, look._sightings = SimpleNamespace(call=call), {ITS.ino: sighting}  # type: ignore[assignment]
    kin: Any = SimpleNamespace(knows=lambda owner: owner in changes.get("known", ()))
    look._account_del(kin)
    return seen.names


def test_it_is_the_containers() -> None:
    """Under a name that no runtime gives twice; /var/run is /run."""
    assert names() == {"owner"}
    assert names("/var" + GIVEN_ONCE, mount=GIVEN_ONCE) == {"owner"}


@pytest.mark.parametrize(
    "changes",
    [
        {"path": GIVEN_AGAIN},
        {"known": {"owner"}},
        {"shows": False},
        {"seen": SINCE},
        {"mount": "/run/netns/elsewhere"},
    ],
    ids=["another may have the name", "its record or entry", "no view is proven", "another netns by now", "mounted elsewhere"],
)
def test_it_is_nobodys(changes: dict[str, Any]) -> None:
    """Where it can be another container's by now, or the container can have another netns."""
    assert names(**changes) == set()


def test_assigned_netns_stays_the_others() -> None:
    """It is the other's alone."""
    assert names(others={"another"}) == {"another"}
