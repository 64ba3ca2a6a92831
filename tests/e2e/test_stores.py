"""Stores as they really are: owners of every runtime, links, two of one name, shared ones. The frozen executable, as root.

In every test that keeps something a leak is freed beside it, unless the test says why not.
"""

import json
import os
from pathlib import Path

import pytest

from tests.conftest import MakeNode
from tests.support import agent, shared_store
from tests.support.calls import GRACE_S, call_reaper, dead_without_record, gc_with_list
from tests.support.cni_calls import BIN, bridge, host_local, reaper
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, Conf
from tests.support.waiting import until

ON_PATH = {"PATH": f"{BIN}:/usr/bin:/bin"}

OWNERS = {
    "ctr": "default-web",
    "buildkit": "o1zy5hs6dxkpr0cqmjgw7uv4n",
    "buildah": "buildah-buildah3178290",
    "faasd": "nodeinfo-4194303",
    "a script": "web_1",
}
"""IDs that have fewer than 12 hex digits in a row, as these give them (sources in docs/evidence.md)."""


def put(network: Network, address: str, content: bytes) -> str:
    """Write a file into the network's directory as it is; return the address."""
    network.node.reserve(NETWORK, address, "")
    network.node.path(f"{DATA_DIR}/{NETWORK}/{address}").write_bytes(content)
    return address


def test_notes_of_people_stay(network: Network) -> None:
    """B17: a file without an ifname is a person's, and so is one of two lines that an editor has ended with a newline."""
    notes = {
        put(network, "10.66.0.90", b"web_1"),
        put(network, "10.66.0.91", b"reserved\r\n"),
        put(network, "10.66.0.92", b"printer\r\nlab2\r\n"),
        put(network, "10.66.0.93", b"printer\r\nlab2\n"),
    }
    leak = network.leak()
    network.reap()
    later = network.node.pod()
    network.node.plugin("ADD", network.head, netns=later, container_id=container_id("later"), waited=100_000).check()
    assert leak not in network.held()
    assert network.held() == notes, network.node.log()


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
def test_an_owner_that_lives_keeps_its_address_whatever_its_id(network: Network, owner: str) -> None:
    """B17: its netns is there, and nothing maps it: known by its address, and in the middle of its ADD waited for."""
    pod, begun = network.node.pod(), network.node.pod()
    address = network.take(pod, owner)
    network.node.add_address("lo", f"{address}/32", pod.path)
    in_flight = network.take(begun, f"{owner}x")
    leak = network.leak()
    network.reap()
    assert leak not in network.held()
    assert network.held() == {address, in_flight}, network.node.log()


def test_a_task_that_hides_its_address_keeps_it(network: Network) -> None:
    """B17: containerd has a task of ctr's, faasd a function and its process; their netns shows nothing and no source maps it."""
    node = network.node
    tasks = "/run/containerd/io.containerd.runtime.v2.task"
    node.path(f"{tasks}/default/web").mkdir(parents=True)
    node.path(f"{tasks}/openfaas-fn/nodeinfo").mkdir(parents=True)
    pid = node.start(["sleep", "infinity"])
    for owner in ("default-web", f"nodeinfo-{pid}"):
        network.take(node.pod("hidden"), owner)
        node.delete_netns("/run/netns/hidden")
    named = network.held()
    for owner in ("other-web", "nodeinfo-4194303", f"figlet-{pid}"):
        network.take(node.pod("gone"), owner)
        node.delete_netns("/run/netns/gone")
    network.reap()
    assert network.held() == named, node.log()


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
def test_an_owner_of_any_id_that_is_dead_is_freed(network: Network, owner: str) -> None:
    """B17: a leak from before the installation, by an ID that has few hex digits in a row, is an attachment's."""
    live = network.add(network.node.pod())
    pod = network.node.pod()
    network.take(pod, owner)
    pod.delete()
    network.reap()
    assert network.held() == {live}, network.node.log()


def test_an_owner_of_any_id_is_waited_for(network: Network) -> None:
    """B17: beside a netns of nobody it is freed once graceSeconds have passed, as any other owner is."""
    network.node.pod("blue")
    pod = network.node.pod()
    address = network.take(pod, "default-web")
    pod.delete()
    network.reap()
    assert network.held() == {address}
    own = network.node.pod("later")
    network.node.plugin("ADD", network.head, netns=own, container_id=container_id("later"), waited=1600).check()
    assert network.held() == set(), network.node.log()


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
        node.mount(elsewhere, STORE, flags=agent.MS_BIND)
    else:
        node.mount("tmpfs", STORE, "tmpfs")


def listed(node: Node) -> set[str]:
    """Return the names in the network's directory, but for what host-local keeps there; no link is followed."""
    return {name for name in os.listdir(node.path(STORE)) if name != "lock" and not name.startswith("last_reserved")}


@pytest.mark.parametrize("how", ["a link", "a bind mount", "a tmpfs"])
def test_linked_network_works_and_its_other_files_stay(network: Network, how: str) -> None:
    """B10: host-local goes on working, so does every verb and command; what a link in it leads to is not touched."""
    node = network.node
    moved(node, how)
    live = node.pod()
    kept = network.add(live)
    node.write("/run/bait", f"{container_id('bait')}\r\neth0")
    node.path(f"{STORE}/10.66.0.99").symlink_to("/run/bait")
    leak = network.leak()
    assert node.run(["cni-reaper", "audit"], env=ON_PATH).rc == 1
    assert f"{STORE}/{leak}" in node.run(["cni-reaper", "explain", leak], env=ON_PATH).text
    network.reap("ADD", networks=["*"])
    assert listed(node) == {kept, "10.66.0.99"}, node.log()
    network.leak()
    node.run(["cni-reaper", "reap"], env=ON_PATH).check()
    assert listed(node) == {kept, "10.66.0.99"}, node.log()
    assert node.log("sweep-skipped") == []
    answer = {"cniVersion": "1.0.0", "ips": [{"address": f"{kept}/24"}]}
    for owner, rc in ((container_id(live.name), 0), (container_id("other"), 1)):
        assert node.plugin("CHECK", {**network.head, "prevResult": answer}, netns=live, container_id=owner).rc == rc
    assert node.read("/run/bait")


def test_link_to_another_network_keeps_its_pods(network: Network) -> None:
    """B10: two names for one directory. The pods of one are not unknown to the other: their records are, and prove life."""
    node = network.node
    node.path(DATA_DIR).mkdir(parents=True)
    node.path(f"{DATA_DIR}/alias").symlink_to(NETWORK)
    live = network.add(node.pod())
    begun = node.pod()
    in_flight = network.add(begun)
    leak = network.leak()
    alias = Network(node, name="alias")
    other = alias.add(node.pod())
    assert leak not in network.held()
    alias.reap()
    network.reap("ADD", networks=["*"])
    assert network.held() == {live, in_flight, other}, node.log()


OTHER = "/run/other%store"


@pytest.fixture
def second(network: Network) -> Network:
    """A network of the same name in another store."""
    second = Network(network.node, dataDir=OTHER)
    second.ipam["ipam"]["dataDir"] = OTHER
    return second


def later(network: Network, waited: int) -> None:
    """Run an ADD of our plugin for a container of its own, some seconds later."""
    own = network.node.pod()
    network.node.plugin("ADD", network.head, netns=own, container_id=container_id(own.name), waited=waited).check()


def test_two_stores_of_one_name_keep_what_lives(network: Network, second: Network) -> None:
    """B11: in both a pod has the first address, and is waited for; what is known of one says nothing of the other."""
    node = network.node
    address = network.take(node.pod(), container_id("one"))
    assert second.take(node.pod(), container_id("two")) == address
    for waited in (0, 600, 1200):
        later(network, waited)
        later(second, waited)
    assert network.held() == set(node.reservations(NETWORK, OTHER)) == {address}, node.log()
    node.run(["sh", "-c", "rm /run/cni-reaper/*%2F*"]).check()
    later(second, 1600)
    assert set(node.reservations(NETWORK, OTHER)) == {address}, "its own time begins anew"


def test_two_stores_of_one_name_remember(network: Network, second: Network) -> None:
    """B11: calls of the one store do not forget who is waited for in the other."""
    node = network.node
    node.pod("stranger")
    for one, owner in ((network, "one"), (second, "two")):
        for number in range(2):
            one.take(node.pod(f"dead-{owner}-{number}"), container_id(f"{owner}{number}"))
            node.delete_netns(f"/run/netns/dead-{owner}-{number}")
    second.give_back(node.pod("early"), container_id("two0"))  # so that the addresses differ
    for waited in (0, 700, 1400, 2100):
        later(network, waited)
        later(second, waited)
    assert network.held() == set(node.reservations(NETWORK, OTHER)) == set(), node.log()


def test_two_stores_of_one_name_do_not_wait_for_each_other(network: Network, second: Network) -> None:
    """B11: the gate of one is held for good, and a leak of the other is freed."""
    node = network.node
    leaks = network.leak(), second.leak()
    later(network, 0)
    gone = second.leak()
    node.start(["flock", f"/run/cni-reaper/{NETWORK}.sweep", "sh", "-c", "touch /run/held; exec sleep infinity"])
    until(node.path("/run/held").exists, "the gate is held")
    second.reap()
    assert node.reservations(NETWORK, OTHER) == {}, (leaks, gone, node.log())


@pytest.mark.parametrize("data_dir", ["/run/" + "long/" * 60 + "store", "/run/größe"])
def test_store_with_long_or_odd_name_has_its_memory(network: Network, data_dir: str) -> None:
    """B11: its memory has a name all the same."""
    node = network.node
    one = Network(node, dataDir=data_dir)
    one.ipam["ipam"]["dataDir"] = data_dir
    node.pod("stranger")
    pod = node.pod()
    one.take(pod, container_id("gone"))
    pod.delete()
    later(one, 0)
    later(one, 1600)
    assert node.reservations(NETWORK, data_dir) == {}, node.log()
    assert node.log("sweep-skipped") == []


IDS = ("1" * 32, "2" * 32)
ROUNDS = 200


@pytest.fixture
def common(tmp_path: Path) -> Path:
    """A directory of the machine that several nodes can see."""
    tmp_path.chmod(0o755)
    return tmp_path


def rounds(ours: Network, theirs: Network, count: int = ROUNDS) -> None:
    """Let pods come and go on two nodes with one store; on both a pod lives all the time, and one is in its ADD.

    Every third pod of the first node leaks, and is freed by that node's next ADD.
    """
    live = {one.add(one.node.pod(f"{place}-live")) for place, one in (("a", ours), ("b", theirs))}
    leaked = ""
    for number in range(count):
        mine, other = ours.node.pod(f"a-{number}"), theirs.node.pod(f"b-{number}")
        held = {ours.add(mine), theirs.add(other)} | live
        assert len(held) == len(live) + 2
        assert held <= ours.held(), (number, ours.node.log(), theirs.node.log())
        assert leaked not in ours.held() - held, (number, ours.node.log())
        theirs.give_back(other)
        other.delete()
        leaked = "" if number % 3 else next(iter(held - live))
        if number % 3:
            ours.give_back(mine)
        mine.delete()
    assert live <= ours.held()


def networked(make_node: MakeNode, common: Path) -> list[Network]:
    """Return a network on two nodes that have mounted one dataDir from a server."""
    networks = []
    for number, machine_id in enumerate(IDS):
        node = make_node()
        shared_store.name(node, machine_id, f"node-{number}")
        shared_store.mount_client(node, common, DATA_DIR)
        networks.append(Network(node))
    return networks


def test_a_network_file_system_keeps_the_other_nodes_pods(make_node: MakeNode, common: Path) -> None:
    """B2: two nodes have one dataDir and a stateDir each. Only what this node's record proves dead is freed, by its next ADD."""
    ours, theirs = networked(make_node, common)
    rounds(ours, theirs)
    told = ours.node.log("store-shared")
    assert [(line["level"], "fuse" in line["reason"]) for line in told] == [("warning", True)], "once"


def test_a_network_file_system_keeps_what_no_record_proves(make_node: MakeNode, common: Path) -> None:
    """B2: an empty file, an owner without a record and what GC does not name stay, also for a person; doctor says why."""
    ours, _ = networked(make_node, common)
    node = ours.node
    live = ours.add(node.pod())
    kept = {live, put(ours, "10.66.0.80", b""), put(ours, "10.66.0.81", f"{container_id('other')}\r\neth0".encode())}
    leak = ours.leak()
    ours.reap()
    assert ours.held() == kept, node.log()
    for waited in (0, 200, 2000):
        gc = {**ours.head, "cniVersion": "1.1.0", "cni.dev/valid-attachments": []}
        node.plugin("GC", gc, container_id=None, ifname=None, waited=waited).check()
    assert ours.held() == kept, (leak, node.log())
    node.run(["sh", "-c", f"touch -d '1 hour ago' {STORE}/10.66.0.8*"]).check()
    node.run(["cni-reaper", "reap", "--force", "--yes"], env=ON_PATH)
    assert ours.held() == kept, node.log()
    node.conflist("net", [reaper(), bridge(host_local("10.66.0.0/24"))])
    doctor = node.run(["cni-reaper", "doctor", "--json"], env=ON_PATH)
    assert doctor.rc == 2
    assert "store-shared" in {one["key"] for one in doctor.json()["findings"]}


def test_a_network_file_system_keeps_a_record_of_another_node(make_node: MakeNode, common: Path) -> None:
    """B2: all of /var/lib/cni is shared. A record of the other node, or of nobody, proves nothing here; this node's own does."""
    networks = []
    for number, machine_id in enumerate(IDS):
        node = make_node()
        shared_store.name(node, machine_id, f"node-{number}")
        shared_store.mount_client(node, common, "/var/lib/cni")
        networks.append(Network(node))
    ours, theirs = networks
    live = theirs.add(theirs.node.pod("b-first"))
    old = theirs.add(theirs.node.pod("b-old"))
    record = theirs.node.path(f"/var/lib/cni/reaper/{NETWORK}/{container_id('b-old')}:eth0")
    told = json.loads(record.read_bytes())
    record.write_text(json.dumps({key: value for key, value in told.items() if key not in ("machine", "node")}))
    leak = ours.leak("a-gone")
    ours.reap()
    assert ours.held() == {live, old}, (leak, ours.node.log())
    rounds(ours, theirs, 10)


@pytest.fixture
def container_nodes(make_node: MakeNode, common: Path) -> tuple[Network, Network]:
    """A network on two container nodes of one kernel with one /var/lib/cni."""
    networks = []
    for number, machine_id in enumerate(IDS):
        node = make_node()
        shared_store.name(node, machine_id, f"node-{number}")
        shared_store.set_boot_id(node, "9a0f4f2c-8f54-4e5c-9f6b-0d4a6b1c7e11")
        node.path("/var/lib/cni").mkdir(exist_ok=True)
        node.mount(str(common), "/var/lib/cni", flags=agent.MS_BIND)
        networks.append(Network(node))
    return networks[0], networks[1]


def test_container_nodes_with_one_store_keep_each_others_pods(container_nodes: tuple[Network, Network]) -> None:
    """B2: records of another machine ID and this boot ID are of the other node, whose netns are not seen from here."""
    rounds(*container_nodes)


@pytest.mark.parametrize("without", [0, 1, 2], ids=["both have one", "one has none", "none has one"])
def test_container_nodes_are_known_by_machine_id_or_name(container_nodes: tuple[Network, Network], without: int) -> None:
    """B2: where a node has no machine ID its host name tells; also for what has no record, and for a pod in its ADD."""
    ours, theirs = container_nodes
    for number, one in enumerate((ours, theirs)[:without]):
        shared_store.rename(one.node, "" if number else "uninitialized", f"node-{number}")
    live, old = theirs.add(theirs.node.pod("b-live")), theirs.node.pod("b-old")
    unmapped = theirs.take(old, container_id("b-old"))
    leak = ours.leak("a-gone")
    ours.reap()
    assert leak not in ours.held()
    assert ours.held() == {live, unmapped}, ours.node.log()
    assert "other-node" in {line["reason"] for line in ours.node.log("kept")}
    doctor = ours.node.run(["cni-reaper", "doctor", "--json"], env=ON_PATH)
    assert "records-shared" in {one["key"] for one in doctor.json()["findings"]}
    for one, other in ((ours, theirs), (theirs, ours)):
        one.reap("GC", cniVersion="1.1.0", **{"cni.dev/valid-attachments": []})
        assert one.held() == {live, unmapped}, other.node.log()


@pytest.mark.parametrize("machine_id", [*IDS, ""])
def test_a_node_that_was_made_anew_heals(network: Network, machine_id: str) -> None:
    """B2: another machine ID and host name, /var/lib/cni kept, rebooted: all leaks of the past go with the first ADD."""
    node = network.node
    shared_store.name(node, IDS[0], "before")
    for _ in range(3):
        network.add(node.pod())
    node.reboot()
    shared_store.rename(node, machine_id, "after")
    network.reap()
    assert network.held() == set(), node.log()


def test_late_machine_id_keeps_the_nodes_records_its_own(network: Network) -> None:
    """B2: systemd makes the machine ID after the first pods were recorded: they are this node's, and are freed when dead."""
    node = network.node
    shared_store.name(node, "", "same")
    kept = network.add(node.pod())
    leak = network.leak()
    shared_store.rename(node, IDS[0], "same")
    network.reap()
    assert network.held() == {kept}, (leak, node.log())


OTHER_DIR = "/run/elsewhere/store"
NEITHER = "/run/neither"
IPAM = {"type": "host-local", "dataDir": OTHER_DIR, "subnet": "10.66.0.0/24"}
IN_ANY_CASE: dict[str, Conf] = {
    "all": {"Type": "bridge", "IPAM": {"TYPE": "host-local", "DATADIR": OTHER_DIR, "SubNet": "10.66.0.0/24"}},
    "type of the plugin": {"TYPE": "bridge", "ipam": IPAM},
    "ipam": {"type": "bridge", "Ipam": IPAM},
    "type of ipam": {"type": "bridge", "ipam": {"Type": "host-local", "dataDir": OTHER_DIR, "subnet": "10.66.0.0/24"}},
    "dataDir": {"type": "bridge", "ipam": {"type": "host-local", "datadir": OTHER_DIR, "subnet": "10.66.0.0/24"}},
    "two of one key, in order": {"type": "bridge", "ipam": {"DATADIR": NEITHER, **IPAM}},
    "two of one key, out of order": {"type": "bridge", "ipam": {**IPAM, "DATADIR": NEITHER}},
    "a later one in another case": {"type": "bridge", "ipam": {**IPAM, "dataDir": NEITHER, "datadir": OTHER_DIR}},
    "two objects": {"type": "bridge", "IPAM": {"dataDir": OTHER_DIR}, "ipam": {"type": "host-local", "subnet": "10.66.0.0/24"}},
    "the first object overridden": {"type": "bridge", "IPAM": {**IPAM, "dataDir": NEITHER}, "ipam": {"dataDir": OTHER_DIR}},
}


@pytest.mark.parametrize("plugin", IN_ANY_CASE.values(), ids=IN_ANY_CASE)
def test_keys_in_any_case_lead_to_the_store(node: Node, plugin: Conf) -> None:
    """B18: the store is where the real host-local writes; install, doctor, audit and the next ADD go there."""
    text = json.dumps({"cniVersion": "1.0.0", "name": NETWORK, "plugins": [plugin]})
    node.write("/etc/cni/net.d/10-net.conflist", text)
    node.run(["cni-reaper", "install", "--bin-dir", BIN], env=ON_PATH).check()
    pod, gone = node.pod(), node.pod()
    node.cnitool("add", NETWORK, pod).check()
    node.cnitool("add", NETWORK, gone).check()
    gone.delete()
    assert len(node.reservations(NETWORK, OTHER_DIR)) == 2
    assert not node.path(NEITHER).exists()
    audit = node.run(["cni-reaper", "audit", "--json"], env=ON_PATH)
    assert [one["stale"] for one in audit.json()["networks"]] == [1], audit
    assert audit.json()["networks"][0]["pool"], "its range is read as well"
    doctor = node.run(["cni-reaper", "doctor", "--json"], env=ON_PATH)
    keys = {one["key"]: one["finding"] for one in doctor.json()["findings"]}
    assert OTHER_DIR in keys["same-store"], doctor
    assert "in-place" in keys
    later = node.pod()
    node.cnitool("add", NETWORK, later).check()
    held = {address.partition("/")[0] for one in (pod, later) for address in one.addresses()}
    assert set(node.reservations(NETWORK, OTHER_DIR)) == held, node.log()
    node.run(["cni-reaper", "uninstall"], env=ON_PATH)
    assert node.read("/etc/cni/net.d/10-net.conflist") == text


def test_a_store_that_is_elsewhere_is_told(network: Network, second: Network) -> None:
    """B18: recorded pods live, and the store that cni-reaper looks into has no reservation of theirs: said once."""
    node = network.node
    pod, own = node.pod(), node.pod()
    node.plugin("ADD", network.head, netns=pod, container_id=container_id(pod.name)).check()
    second.take(pod, container_id(pod.name))
    for times in range(5):
        command = node.plugin_command("ADD", network.head, netns=own, container_id=container_id(own.name), ahead=1000)
        node.together([command])[0].check()
        assert len(node.log("store-elsewhere")) == (times >= 2)
    (line,) = node.log("store-elsewhere")
    assert (line["level"], "1 attachments" in line["reason"]) == ("warning", True)
    record = node.path(f"/var/lib/cni/reaper/{NETWORK}/{container_id(pod.name)}:eth0")
    told = json.loads(record.read_bytes())
    record.write_text(json.dumps({**told, "boottime": told["boottime"] - 1000}))
    node.conflist("net", [reaper(), bridge(host_local("10.66.0.0/24"))])
    assert "store-elsewhere" in {
        one["key"] for one in node.run(["cni-reaper", "doctor", "--json"], env=ON_PATH).json()["findings"]
    }
    network.take(pod, container_id(pod.name))
    assert "store-elsewhere" not in {
        one["key"] for one in node.run(["cni-reaper", "doctor", "--json"], env=ON_PATH).json()["findings"]
    }


def test_pods_that_have_just_begun_are_not_missed(network: Network) -> None:
    """B18: many first ADDs at once, each recorded and none reserved yet, are no store elsewhere; nor is a pod that is gone."""
    node = network.node
    for _ in range(6):
        pod = node.pod()
        node.plugin("ADD", network.head, netns=pod, container_id=container_id(pod.name)).check()
    assert node.log("store-elsewhere") == []


def test_operators_notes_are_kept_for_ever(network: Network) -> None:
    """`echo reserved > 10.66.0.9` is a legal container ID: kept for ever. An empty file is host-local's own, unless in use."""
    node = network.node
    leaks = {network.leak(), dead_without_record(network, "old")}
    store = node.path(f"{DATA_DIR}/{NETWORK}")
    notes = {"10.66.0.90": b"reserved\n", "10.66.0.91": b"router-of-the-lab", "10.66.0.92": b"gw 2\n", "10.66.0.93": b"cafe-01\n"}
    for address, text in notes.items():
        (store / address).write_bytes(text)
    (store / "10.66.0.94").touch()
    (store / "10.66.0.95").touch()
    node.add_address("lo", "10.66.0.95/32")
    call_reaper(network)
    assert network.held() == {*notes, "10.66.0.95"}, (leaks, node.log())
    call_reaper(network, waited=2 * GRACE_S)
    gc_with_list(network, [], 2 * GRACE_S)
    assert network.held() == {*notes, "10.66.0.95"}
    assert {line["address"] for line in node.log("kept")} == set(notes)
