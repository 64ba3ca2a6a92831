"""`cni-reaper explain` on real nodes: the evidence as it is, the rule that decided, and what would change the verdict."""

import pytest

from cni_reaper_plugin import reasons
from cni_reaper_plugin.operator.inspect import rule_texts
from tests.support.cni_calls import BIN
from tests.support.network import Network, container_id
from tests.support.node import Node

EXECUTABLE = f"{BIN}/cni-reaper"
DEAD = "d" * 64


def explained(node: Node, what: str, rc: int = 0) -> dict[str, str]:
    """Run the command and return its lines, by what stands first in them."""
    ran = node.run([EXECUTABLE, "explain", what])
    assert ran.rc == rc, str(ran)
    lines = [line for line in ran.out.decode().splitlines() if line.strip()]
    return {line[:13].strip(): line[13:].strip() for line in lines}


@pytest.fixture
def network(node: Node) -> Network:
    """A network with a live pod on 10.66.0.2."""
    network = Network(node)
    network.add(node.pod("living"))
    return network


def test_live_pod_is_row_3_with_its_record(network: Network) -> None:
    """Its record, where its netns stands, row 3."""
    told = explained(network.node, "10.66.0.2")
    assert told["reservation"] == "/var/lib/cni/networks/net/10.66.0.2"
    assert told["owner"] == f"{container_id('living')} eth0"
    assert told["netns"] == "/run/netns/living, says the record of our own"
    assert told["there now"].endswith("what was recorded")
    assert told["verdict"] == "LIVE, netns there"
    assert told["rule"] == "docs/evidence.md, row 3"


def test_gone_netns_is_row_4(network: Network) -> None:
    """Nothing at the path any more: row 4."""
    gone = network.node.pod("gone")
    address = network.add(gone)
    gone.delete()
    told = explained(network.node, address)
    assert told["there now"] == "nothing"
    assert (told["verdict"], told["reason"]) == ("STALE, netns gone", "netns-gone")
    assert "cni-reaper reap" in told["would change"]


def test_prefix_of_an_id_finds_all_its_reservations(network: Network) -> None:
    """As `crictl` shows IDs; all reservations of a container are explained."""
    assert explained(network.node, container_id("living")[:13])["owner"].startswith(container_id("living"))
    assert explained(network.node, "10.66.0.3", rc=1) == {}
    assert explained(network.node, "e" * 13, rc=1) == {}


def test_waited_netns_and_time_are_told(network: Network) -> None:
    """A netns of nobody keeps an unmapped owner; how long it is waited for is told."""
    network.node.pod("stranger")
    network.node.reserve("net", "10.66.0.7", DEAD)
    network.reap()
    told = explained(network.node, "10.66.0.7")
    assert told["verdict"].startswith("UNKNOWN, ")
    assert "are left of graceSeconds, 1500" in told["waited for"]
    assert told["rule"] == "docs/evidence.md, row 9: it is waited for"


def test_reservation_without_owner_is_explained(network: Network) -> None:
    """An empty file, and one with a content that nobody understands."""
    network.node.write("/var/lib/cni/networks/net/10.66.0.8", "")
    assert explained(network.node, "10.66.0.8")["verdict"] == "STALE, empty"
    network.node.write("/var/lib/cni/networks/net/10.66.0.8", "two words")
    told = explained(network.node, "10.66.0.8")
    assert told["verdict"] == "UNKNOWN, content is no owner"
    assert told["owner"] == "none that can be read"


def test_every_reason_of_the_judge_has_its_rule() -> None:
    """Whatever the judge can answer, here is a sentence for it; what a call alone can be told is not for a person."""
    of_a_call = {reasons.ADDED_AGAIN, reasons.LEFT_BY_DEL, reasons.NOT_LISTED, reasons.THIS_CALL, reasons.CONTAINER_OF_THIS_CALL}
    of_a_call |= {reasons.LISTED, reasons.FORCED, reasons.PROVEN_BEFORE, reasons.PORT_PUBLISHED}
    every = {one for one in vars(reasons).values() if isinstance(one, reasons.Reason)}
    assert len(every) > 20
    assert every - of_a_call == rule_texts.REASONS
