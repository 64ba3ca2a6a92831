"""`cni-reaper explain` on real nodes: the evidence as it is, the rule that decided, and what would change the verdict."""

import pytest

from cni_reaper_plugin import reasons
from cni_reaper_plugin.operator.inspect import rule_texts
from tests.e2e.pair import Pair, container_id
from tests.node import BIN, Node

EXECUTABLE = f"{BIN}/cni-reaper"
DEAD = "d" * 64


def explained(node: Node, what: str, rc: int = 0) -> dict[str, str]:
    """Run the command and return its lines, by what stands first in them."""
    ran = node.run([EXECUTABLE, "explain", what])
    assert ran.rc == rc, str(ran)
    lines = [line for line in ran.out.decode().splitlines() if line.strip()]
    return {line[:13].strip(): line[13:].strip() for line in lines}


@pytest.fixture
def pair(node: Node) -> Pair:
    """A network with a live pod on 10.66.0.2."""
    pair = Pair(node)
    pair.add(node.pod("living"))
    return pair


def test_a_live_pod(pair: Pair) -> None:
    """Its record, where its netns stands, row 3."""
    told = explained(pair.node, "10.66.0.2")
    assert told["reservation"] == "/var/lib/cni/networks/net/10.66.0.2"
    assert told["owner"] == f"{container_id('living')} eth0"
    assert told["netns"] == "/run/netns/living, says the record of our own"
    assert told["there now"].endswith("what was recorded")
    assert told["verdict"] == "LIVE, netns there"
    assert told["rule"] == "docs/evidence.md, row 3"


def test_a_netns_that_is_gone(pair: Pair) -> None:
    """Nothing at the path any more: row 4."""
    gone = pair.node.pod("gone")
    address = pair.add(gone)
    gone.delete()
    told = explained(pair.node, address)
    assert told["there now"] == "nothing"
    assert (told["verdict"], told["reason"]) == ("STALE, netns gone", "netns-gone")
    assert "cni-reaper reap" in told["would change"]


def test_by_the_beginning_of_an_id(pair: Pair) -> None:
    """As `crictl` shows IDs; all reservations of a container are explained."""
    assert explained(pair.node, container_id("living")[:13])["owner"].startswith(container_id("living"))
    assert explained(pair.node, "10.66.0.3", rc=1) == {}
    assert explained(pair.node, "e" * 13, rc=1) == {}


def test_who_is_waited_for(pair: Pair) -> None:
    """A netns of nobody keeps an unmapped owner; how long it is waited for is told."""
    pair.node.pod("stranger")
    pair.node.reserve("net", "10.66.0.7", DEAD)
    pair.reap()
    told = explained(pair.node, "10.66.0.7")
    assert told["verdict"].startswith("UNKNOWN, ")
    assert "are left of graceSeconds, 1500" in told["waited for"]
    assert told["rule"] == "docs/evidence.md, row 9: it is waited for"


def test_without_an_owner(pair: Pair) -> None:
    """An empty file, and one with a content that nobody understands."""
    pair.node.write("/var/lib/cni/networks/net/10.66.0.8", "")
    assert explained(pair.node, "10.66.0.8")["verdict"] == "STALE, empty"
    pair.node.write("/var/lib/cni/networks/net/10.66.0.8", "two words")
    told = explained(pair.node, "10.66.0.8")
    assert told["verdict"] == "UNKNOWN, content is no owner"
    assert told["owner"] == "none that can be read"


def test_every_reason_of_the_judge_has_its_rule() -> None:
    """Whatever the judge can answer, here is a sentence for it; what a call alone can be told is not for a person."""
    of_a_call = {reasons.ADDED_AGAIN, reasons.LEFT_BY_DEL, reasons.NOT_LISTED, reasons.THIS_CALL, reasons.CONTAINER_OF_THIS_CALL}
    of_a_call |= {reasons.LISTED, reasons.FORCED, reasons.PROVEN_BEFORE, reasons.PORT_PUBLISHED}
    every = {one for one in vars(reasons).values() if isinstance(one, reasons.Reason)}
    assert len(every) > 20
    assert every - of_a_call == rule_texts.REASONS
