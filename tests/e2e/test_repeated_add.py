"""An ADD that is sent again while the first one still runs frees nothing of the first."""

import pytest

from tests.support.network import NETWORK, Network, container_id
from tests.support.node_files import DATA_DIR
from tests.support.stopped_call import resume, stopped_at


@pytest.mark.parametrize("recorded", [True, False])
def test_add_repeated_while_the_first_runs_keeps_its_address(network: Network, recorded: bool) -> None:
    """The client has timed out and repeats ADD; the first has reserved and not configured: its address goes to nobody else."""
    node = network.node
    leak = network.leak()
    pod, owner = node.pod("nomad"), container_id("nomad")
    address = network.add(pod, owner, reapOn=[]) if recorded else network.take(pod, owner)
    node.plugin("ADD", network.head, netns=pod, container_id=owner).check()
    assert network.held() == {address}, node.log()
    assert network.add(node.pod("other")) not in (address, leak)


def test_reservation_made_during_repeated_add_is_kept(network: Network) -> None:
    """The older record is of another netns, but the reservation is younger than this call: a twin of this ADD made it."""
    node = network.node
    owner = container_id("nomad")
    first = node.pod("first")
    network.add(first, owner)
    network.give_back(first, owner)
    first.delete()
    second = node.pod("nomad")
    strace, child = stopped_at(node, network, f"{DATA_DIR}/{NETWORK}", 2, second)
    address = network.take(second, owner)
    resume(node, strace, child)
    assert network.held() == {address}, node.log()


def test_repeated_add_keeps_address_of_its_own_netns(network: Network) -> None:
    """ADD repeated for the same netns, by an impatient client while the first still runs, frees nothing."""
    pod = network.node.pod()
    address = network.add(pod)
    network.leak()
    network.node.plugin("ADD", network.head, netns=pod, container_id=container_id(pod.name)).check()
    assert network.held() == {address}
