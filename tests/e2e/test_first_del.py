"""A full node on which cni-reaper does not stand at the head, before the first ADD of a boot: the DEL of a failed ADD heals it.

The plugin that asks host-local fails before cni-reaper is called. The runtime then sends DEL with the pod's netns, which still
stands: it shows that the pods' netns are visible from there, as an ADD's does.
"""

import json
import shutil

import pytest

from tests.support.cni_calls import NET_D, Pod, host_local, ptp, reaper
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import Conf
from tests.support.views import HIDE_RUN, OWN_VIEW, SAME_BOOT

POOL = 5
RUN = "/run/cni-reaper"
PLACES = ("second", "tail", "drop-in")


def chain(node: Node, place: str) -> None:
    """Write a conflist of a /29 with cni-reaper at a place; "" for none."""
    plugins: list[Conf] = [ptp(host_local("10.66.0.0/29")), {"type": "tuning"}]
    if place in ("second", "tail"):
        plugins.insert(1 if place == "second" else 2, reaper())
    node.conflist(NETWORK, plugins)
    if place == "drop-in":
        node.write(f"{NET_D}/{NETWORK}/90-cni-reaper.conf", json.dumps({"cniVersion": "1.0.0", "name": NETWORK, **reaper()}))


def full(node: Node, place: str, leaks: str) -> dict[str, tuple[str, str]]:
    """Fill the node with leaks, and one live pod unless it reboots; return the live reservations."""
    chain(node, "" if leaks == "from before" else place)
    pods = [node.pod() for _ in range(POOL)]
    for pod in pods:
        node.cnitool("add", NETWORK, pod).check()
    assert len(node.reservations(NETWORK)) == POOL
    for pod in pods[1:]:
        pod.delete()
    if leaks == "rebooted":
        node.reboot()
        return {}
    chain(node, place)
    shutil.rmtree(node.path(RUN), ignore_errors=True)
    return {address: owner for address, owner in node.reservations(NETWORK).items() if owner[0] == pods[0].container_id}


@pytest.mark.parametrize("leaks", ["from before", "recorded", "rebooted"])
@pytest.mark.parametrize("place", PLACES)
def test_a_full_node_heals_at_the_second_try(node: Node, place: str, leaks: str) -> None:
    """The first ADD fails and its DEL frees all leaks, with records or without; the second one has an address."""
    live = full(node, place, leaks)
    first = node.pod()
    assert node.cnitool("add", NETWORK, first).rc != 0
    node.cnitool("del", NETWORK, first).check()
    assert node.reservations(NETWORK) == live, node.log()
    first.delete()
    second = node.pod()
    node.cnitool("add", NETWORK, second).check()
    assert live.items() < node.reservations(NETWORK).items()
    assert [line for line in node.log() if line["level"] in ("warning", "error")] == []


@pytest.fixture
def network(node: Node) -> Network:
    """A network without any note of an earlier ADD; one pod in the middle of its ADD, and a leak."""
    network = Network(node)
    network.head["prevResult"] = {"cniVersion": "1.0.0"}
    return network


def started(network: Network) -> str:
    """Reserve for a pod that has a netns and nothing in it yet; leave a leak beside it. Return the pod's address."""
    dead = network.node.pod("dead")
    network.take(dead, container_id("dead"))
    dead.delete()
    return network.take(network.node.pod(), container_id("live"))


def delete(network: Network, path: str, script: str = "") -> None:
    """Run DEL for a container of which nothing is known; script: how its view is made, see OWN_VIEW."""
    one = network.node.plugin_command("DEL", network.head, netns=path, container_id=container_id("failed"))
    if script:
        one["argv"] = ["sh", "-c", f'{script} && exec "$@"', "sh", *one["argv"]]
        if "own view" in script:
            one["argv"] = [*OWN_VIEW, *one["argv"][2:]]
    network.node.together([one])[0].check()


OWN_NETNS = "ip netns add own"


@pytest.mark.parametrize(
    "script",
    [
        f": own view; {SAME_BOOT} && {HIDE_RUN} && {OWN_NETNS}",
        f": own view; {SAME_BOOT} && {HIDE_RUN} && mount --make-shared /run/netns 2>/dev/null; {OWN_NETNS}",
        f": own view; {SAME_BOOT} && umount -l /run/netns 2>/dev/null; mount -t tmpfs t /run/netns && {OWN_NETNS}",
    ],
)
def test_a_netns_that_only_a_container_sees_proves_nothing(network: Network, script: str) -> None:
    """In a container with its own processes and mounts a DEL comes for a netns that was made in there: all is kept."""
    started(network)
    before = network.held()
    delete(network, "/run/netns/own", script)
    assert network.held() == before, network.node.log()
    assert network.node.log("sweep-skipped")[-1]["reason"].startswith("this process cannot be sure to see")


@pytest.mark.parametrize("path", ["/proc/1/ns/net", "/proc/self/ns/net", "/run/netns/gone", ""])
def test_what_is_no_pods_netns_proves_nothing(network: Network, path: str) -> None:
    """The host's netns, one that is gone, none at all."""
    started(network)
    before = network.held()
    delete(network, path)
    assert network.held() == before, network.node.log()


def test_a_pod_in_the_middle_of_its_add_is_kept(network: Network) -> None:
    """The DEL of another pod proves the view; what has no netns of its own is kept while a netns of nobody stands."""
    address = started(network)
    failed = network.node.pod()
    delete(network, failed.path)
    assert address in network.held(), network.node.log()


@pytest.mark.parametrize("name", ["blue", "slot-000000000001"])
def test_a_path_that_may_be_used_again_accounts_for_nothing(network: Network, name: str) -> None:
    """What stands at the path of a late DEL is another pod's by now, which is in the middle of its ADD: kept."""
    second = network.node.pod(name)
    address = network.take(second, container_id("live"))
    delete(network, second.path)
    assert address in network.held(), network.node.log()


def test_the_first_add_takes_over(network: Network) -> None:
    """Once an ADD has proven a view, the DEL of another PID namespace proves none."""
    node = network.node
    started(network)
    own = node.pod()
    delete(network, own.path)
    assert json.loads(node.read(f"{RUN}/views"))["shown"]
    node.plugin("ADD", network.head, netns=own, container_id=container_id("first")).check()
    assert json.loads(node.read(f"{RUN}/views"))["views"]
    before = network.held()
    node.write(f"{RUN}/views", json.dumps({**json.loads(node.read(f"{RUN}/views")), "views": [[1, 2, 3]]}))
    Pod(node, "live", own.path).delete()
    delete(network, node.pod().path)
    assert network.held() == before
