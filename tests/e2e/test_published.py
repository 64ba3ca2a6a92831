"""What a pod has published leads nowhere when its address is free: rows of "What leads to an address" of docs/evidence.md."""

import pytest

from tests.conftest import MakeNode
from tests.e2e.publishing import NOBODY, NODE_FOUR, NODE_SIX, Town
from tests.node import Node

BACKENDS = (("1.9.1", "iptables"), ("1.9.1", "nftables"), ("1.1.1", ""))


@pytest.mark.parametrize(("plugins", "backend"), BACKENDS)
def test_a_published_port_leads_to_nobody_else(make_node: MakeNode, plugins: str, backend: str) -> None:
    """A pod that has published nothing gets the address, and nobody outside reaches it; the published pod is reached again."""
    node = make_node(plugins)
    town = Town(node, backend, addresses=2)
    first = town.open("shop", 8080)
    assert town.ask_all(8080) == {"shop"}
    first.close()
    stranger = town.open("stranger")
    assert town.ask_all(8080) == {NOBODY}
    again = town.open("shop", 8080)
    assert town.ask_all(8080) == {"shop"}
    assert len(town.held()) == 4
    assert {line["reason"] for line in node.log("reaped")} == {"netns-gone"}
    again.close()
    stranger.close()


@pytest.mark.parametrize(("plugins", "backend"), BACKENDS)
def test_without_us_it_would(make_node: MakeNode, plugins: str, backend: str) -> None:
    """The control: an address that is freed by hand leads to a stranger's pod, so these tests can see it."""
    node = make_node(plugins)
    town = Town(node, backend, with_us=False)
    first = town.open("shop", 8080)
    addresses = first.addresses()
    first.close()
    for address in town.held():
        node.path(f"/var/lib/cni/networks/net/{address}").unlink()
    stranger = town.open("stranger")
    assert stranger.addresses() == addresses
    assert town.ask_all(8080) == {"stranger"}
