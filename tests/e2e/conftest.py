"""Fixtures of the tests of the frozen executable on private nodes."""

import pytest

from tests.support.install import has_us, start_watch, until
from tests.support.network import Network
from tests.support.node import Node


@pytest.fixture
def network(node: Node) -> Network:
    """A network of cni-reaper and host-local."""
    return Network(node)


@pytest.fixture
def live_pod(network: Network) -> None:
    """A live pod, whose ADD proves the view of this boot."""
    network.add(network.node.pod("web"))


@pytest.fixture
def watched(bare: Node) -> Node:
    """The node with a watcher that has put the entry in."""
    start_watch(bare)
    assert until(lambda: has_us(bare))
    return bare
