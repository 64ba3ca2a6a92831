"""Stores as they really are: owners of every runtime, links, two of one name, shared ones. The frozen executable, as root.

In every test that keeps something a leak is freed beside it, unless the test says why not.
"""

import os

import pytest

from tests import inside
from tests.e2e.pair import NETWORK, Pair, container_id, until
from tests.node import BIN, DATA_DIR, Node

ON_PATH = {"PATH": f"{BIN}:/usr/bin:/bin"}

OWNERS = {
    "ctr": "default-web",
    "buildkit": "o1zy5hs6dxkpr0cqmjgw7uv4n",
    "buildah": "buildah-buildah3178290",
    "faasd": "nodeinfo-4194303",
    "a script": "web_1",
}
"""IDs that have fewer than 12 hex digits in a row, as these give them (sources in docs/evidence.md)."""


@pytest.fixture
def pair(node: Node) -> Pair:
    """A network of cni-reaper and host-local."""
    return Pair(node)


def put(pair: Pair, address: str, content: bytes) -> str:
    """Write a file into the network's directory as it is; return the address."""
    pair.node.reserve(NETWORK, address, "")
    pair.node.path(f"{DATA_DIR}/{NETWORK}/{address}").write_bytes(content)
    return address


def test_notes_of_people_stay(pair: Pair) -> None:
    """B17: a file without an ifname is a person's, and so is one of two lines that an editor has ended with a newline."""
    notes = {
        put(pair, "10.66.0.90", b"web_1"),
        put(pair, "10.66.0.91", b"reserved\r\n"),
        put(pair, "10.66.0.92", b"printer\r\nlab2\r\n"),
        put(pair, "10.66.0.93", b"printer\r\nlab2\n"),
    }
    leak = pair.leak()
    pair.reap()
    later = pair.node.pod()
    pair.node.plugin("ADD", pair.head, netns=later, container_id=container_id("later"), waited=100_000).check()
    assert leak not in pair.held()
    assert pair.held() == notes, pair.node.log()


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
def test_an_owner_that_lives_keeps_its_address_whatever_its_id(pair: Pair, owner: str) -> None:
    """B17: its netns is there, and nothing maps it: known by its address, and in the middle of its ADD waited for."""
    pod, begun = pair.node.pod(), pair.node.pod()
    address = pair.take(pod, owner)
    pair.node.add_address("lo", f"{address}/32", pod.path)
    in_flight = pair.take(begun, f"{owner}x")
    leak = pair.leak()
    pair.reap()
    assert leak not in pair.held()
    assert pair.held() == {address, in_flight}, pair.node.log()


def test_a_task_that_hides_its_address_keeps_it(pair: Pair) -> None:
    """B17: containerd has a task of ctr's, faasd a function and its process; their netns shows nothing and no source maps it."""
    node = pair.node
    tasks = "/run/containerd/io.containerd.runtime.v2.task"
    node.path(f"{tasks}/default/web").mkdir(parents=True)
    node.path(f"{tasks}/openfaas-fn/nodeinfo").mkdir(parents=True)
    pid = node.start(["sleep", "infinity"])
    for owner in ("default-web", f"nodeinfo-{pid}"):
        pair.take(node.pod("hidden"), owner)
        node.delete_netns("/run/netns/hidden")
    named = pair.held()
    for owner in ("other-web", "nodeinfo-4194303", f"figlet-{pid}"):
        pair.take(node.pod("gone"), owner)
        node.delete_netns("/run/netns/gone")
    pair.reap()
    assert pair.held() == named, node.log()


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
def test_an_owner_of_any_id_that_is_dead_is_freed(pair: Pair, owner: str) -> None:
    """B17: a leak from before the installation, by an ID that has few hex digits in a row, is an attachment's."""
    live = pair.add(pair.node.pod())
    pod = pair.node.pod()
    pair.take(pod, owner)
    pod.delete()
    pair.reap()
    assert pair.held() == {live}, pair.node.log()


def test_an_owner_of_any_id_is_waited_for(pair: Pair) -> None:
    """B17: beside a netns of nobody it is freed once graceSeconds have passed, as any other owner is."""
    pair.node.pod("blue")
    pod = pair.node.pod()
    address = pair.take(pod, "default-web")
    pod.delete()
    pair.reap()
    assert pair.held() == {address}
    own = pair.node.pod("later")
    pair.node.plugin("ADD", pair.head, netns=own, container_id=container_id("later"), waited=1600).check()
    assert pair.held() == set(), pair.node.log()


STORE = f"{DATA_DIR}/{NETWORK}"


def moved(node: Node, how: str) -> None:
    """Have the network's directory lie elsewhere, as people do to have it in memory."""
    elsewhere = "/run/elsewhere"
    node.path(elsewhere).mkdir()
    node.path(DATA_DIR).mkdir(parents=True, exist_ok=True)
    if how != "a link":
        node.path(STORE).mkdir()
    if how == "a link":
        node.path(STORE).symlink_to("../../../../run/elsewhere")  # relative, so that the tests can follow it
    elif how == "a bind mount":
        node.mount(elsewhere, STORE, flags=inside.MS_BIND)
    else:
        node.mount("tmpfs", STORE, "tmpfs")


def listed(node: Node) -> set[str]:
    """Return the names in the network's directory, but for what host-local keeps there; no link is followed."""
    return {name for name in os.listdir(node.path(STORE)) if name != "lock" and not name.startswith("last_reserved")}


@pytest.mark.parametrize("how", ["a link", "a bind mount", "a tmpfs"])
def test_a_network_that_lies_elsewhere(pair: Pair, how: str) -> None:
    """B10: host-local goes on working, so does every verb and command; what a link in it leads to is not touched."""
    node = pair.node
    moved(node, how)
    live = node.pod()
    kept = pair.add(live)
    node.write("/run/bait", f"{container_id('bait')}\r\neth0")
    node.path(f"{STORE}/10.66.0.99").symlink_to("/run/bait")
    leak = pair.leak()
    assert node.run(["cni-reaper", "audit"], env=ON_PATH).rc == 1
    assert f"{STORE}/{leak}" in node.run(["cni-reaper", "explain", leak], env=ON_PATH).text
    pair.reap("ADD", networks=["*"])
    assert listed(node) == {kept, "10.66.0.99"}, node.log()
    pair.leak()
    node.run(["cni-reaper", "reap"], env=ON_PATH).check()
    assert listed(node) == {kept, "10.66.0.99"}, node.log()
    assert node.log("sweep-skipped") == []
    answer = {"cniVersion": "1.0.0", "ips": [{"address": f"{kept}/24"}]}
    for owner, rc in ((container_id(live.name), 0), (container_id("other"), 1)):
        assert node.plugin("CHECK", {**pair.head, "prevResult": answer}, netns=live, container_id=owner).rc == rc
    assert node.read("/run/bait")


def test_a_link_to_another_network_of_the_store(pair: Pair) -> None:
    """B10: two names for one directory. The pods of one are not unknown to the other: their records are, and prove life."""
    node = pair.node
    node.path(DATA_DIR).mkdir(parents=True)
    node.path(f"{DATA_DIR}/alias").symlink_to(NETWORK)
    live = pair.add(node.pod())
    begun = node.pod()
    in_flight = pair.add(begun)
    leak = pair.leak()
    alias = Pair(node, network="alias")
    other = alias.add(node.pod())
    assert leak not in pair.held()
    alias.reap()
    pair.reap("ADD", networks=["*"])
    assert pair.held() == {live, in_flight, other}, node.log()


OTHER = "/run/other%store"


@pytest.fixture
def second(pair: Pair) -> Pair:
    """A network of the same name in another store."""
    second = Pair(pair.node, dataDir=OTHER)
    second.ipam["ipam"]["dataDir"] = OTHER
    return second


def later(pair: Pair, waited: int) -> None:
    """Run an ADD of our plugin for a container of its own, some seconds later."""
    own = pair.node.pod()
    pair.node.plugin("ADD", pair.head, netns=own, container_id=container_id(own.name), waited=waited).check()


def test_two_stores_of_one_name_keep_what_lives(pair: Pair, second: Pair) -> None:
    """B11: in both a pod has the first address, and is waited for; what is known of one says nothing of the other."""
    node = pair.node
    address = pair.take(node.pod(), container_id("one"))
    assert second.take(node.pod(), container_id("two")) == address
    for waited in (0, 600, 1200):
        later(pair, waited)
        later(second, waited)
    assert pair.held() == set(node.reservations(NETWORK, OTHER)) == {address}, node.log()
    node.run(["sh", "-c", "rm /run/cni-reaper/*%2F*"]).check()
    later(second, 1600)
    assert set(node.reservations(NETWORK, OTHER)) == {address}, "its own time begins anew"


def test_two_stores_of_one_name_remember(pair: Pair, second: Pair) -> None:
    """B11: calls of the one store do not forget who is waited for in the other."""
    node = pair.node
    node.pod("stranger")
    for one, owner in ((pair, "one"), (second, "two")):
        for number in range(2):
            one.take(node.pod(f"dead-{owner}-{number}"), container_id(f"{owner}{number}"))
            node.delete_netns(f"/run/netns/dead-{owner}-{number}")
    second.give_back(node.pod("early"), container_id("two0"))  # so that the addresses differ
    for waited in (0, 700, 1400, 2100):
        later(pair, waited)
        later(second, waited)
    assert pair.held() == set(node.reservations(NETWORK, OTHER)) == set(), node.log()


def test_two_stores_of_one_name_do_not_wait_for_each_other(pair: Pair, second: Pair) -> None:
    """B11: the gate of one is held for good, and a leak of the other is freed."""
    node = pair.node
    leaks = pair.leak(), second.leak()
    later(pair, 0)
    gone = second.leak()
    node.start(["flock", f"/run/cni-reaper/{NETWORK}.sweep", "sh", "-c", "touch /run/held; exec sleep infinity"])
    until(node.path("/run/held").exists, "the gate is held")
    second.reap()
    assert node.reservations(NETWORK, OTHER) == {}, (leaks, gone, node.log())


@pytest.mark.parametrize("data_dir", ["/run/" + "long/" * 60 + "store", "/run/größe"])
def test_a_store_with_a_long_or_odd_name(pair: Pair, data_dir: str) -> None:
    """B11: its memory has a name all the same."""
    node = pair.node
    one = Pair(node, dataDir=data_dir)
    one.ipam["ipam"]["dataDir"] = data_dir
    node.pod("stranger")
    pod = node.pod()
    one.take(pod, container_id("gone"))
    pod.delete()
    later(one, 0)
    later(one, 1600)
    assert node.reservations(NETWORK, data_dir) == {}, node.log()
    assert node.log("sweep-skipped") == []
