"""What a verb hands to its sweep."""

from types import SimpleNamespace

import orjson
import pytest

from cni_reaper_plugin.plugin import attachment_records, verbs
from cni_reaper_plugin.plugin.request import Request
from cni_reaper_plugin.reaper import sweep
from cni_reaper_plugin.system import clock

ENVIRONMENT = {
    b"CNI_COMMAND": b"",
    b"CNI_CONTAINERID": b"c1",
    b"CNI_IFNAME": b"eth0",
    b"CNI_NETNS": b"/run/netns/none",
    b"CNI_PATH": b"/opt/cni/bin",
}
WAITED_S = 2.0


@pytest.mark.parametrize("verb", ["ADD", "DEL", "GC"])
def test_the_wait_for_the_records_is_a_part_of_the_call(monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Whoever waited for their lock has so much less for the sweep: a call ends after 20 s, not after 22."""
    now_s = [100.0]
    left_s = []

    def waits(*_: object) -> None:
        now_s[0] += WAITED_S

    def swept(*arguments: object) -> None:
        (budget,) = (one for one in arguments if isinstance(one, clock.Budget))
        left_s.append(budget.wall_left_s())

    monkeypatch.setattr(clock, "posix", SimpleNamespace(times=lambda: SimpleNamespace(elapsed=now_s[0], user=0.0, system=0.0)))
    for name in ("record", "mark_deleted", "mark_unlisted"):
        monkeypatch.setattr(attachment_records, name, waits)
    monkeypatch.setattr(sweep, "run", swept)
    environment = {**ENVIRONMENT, b"CNI_COMMAND": verb.encode()}
    request = Request(verb, environment)
    config = {"cniVersion": "1.1.0", "name": "net", "type": "cni-reaper", "cni.dev/valid-attachments": []}
    request.configure(orjson.dumps(config))
    verbs.VERBS[verb](request, environment)
    assert left_s == [sweep.WALL_LIMIT_S - WAITED_S]
