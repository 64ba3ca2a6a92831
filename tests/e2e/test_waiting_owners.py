"""The first start on an old node: reservations from before cni-reaper, whose owners nobody maps (docs/evidence.md).

Which of them the first ADD frees, which are freed once a netns is gone or `graceSeconds` are over, and which stay.
"""

import json

import pytest

from tests.support.calls import GRACE_S, LISTED_AFTER_S, call_reaper, gc_with_list, reaped_reasons
from tests.support.cni_calls import BIN
from tests.support.network import BEHIND, NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import DATA_DIR

MEMORY = f"/run/cni-reaper/{NETWORK}.json"


def old_leak(network: Network, address: str = "10.66.0.200", name: str = "old") -> str:
    """Leave a reservation of a container that nobody knows."""
    network.node.reserve(NETWORK, address, container_id(name))
    return address


def reap(network: Network, waited: int = 0, **options: object) -> None:
    """Run one ADD for a container of its own, `waited` seconds later than now."""
    own = network.node.pod()
    network.node.plugin("ADD", {**network.head, **options}, netns=own, container_id=container_id(own.name), waited=waited).check()
    own.delete()


def test_an_old_live_pod_is_kept_however_long_it_takes(network: Network) -> None:
    """Its address is in its netns: LIVE, long after graceSeconds, and from then on it is waited for anew."""
    node = network.node
    pod = node.pod("old")
    address = network.take(pod, container_id("unrelated to its path"))
    node.add_address("lo", address + "/24", netns=pod.path)
    for waited in (0, GRACE_S - 1, GRACE_S, 10 * GRACE_S):
        reap(network, waited)
        assert network.held() == {address}, node.log()
    node.delete_address("lo", address + "/24", netns=pod.path)
    reap(network, 11 * GRACE_S - 20)
    assert network.held() == {address}
    pod.delete()
    reap(network, 11 * GRACE_S - 10)
    assert network.held() == set()


def test_freed_by_the_first_add_where_every_netns_is_somebodys(network: Network) -> None:
    """No netns is left that could be theirs: 20 old leaks go with the first ADD, one with a dead cache entry among them."""
    node = network.node
    for number in range(20):
        old_leak(network, f"10.66.0.{100 + number}", f"old {number}")
    entry = json.dumps({"kind": "cniCacheV1", "netns": "/run/netns/gone", "result": {}})
    node.write(f"/var/lib/cni/results/{NETWORK}-{container_id('old 0')}-eth0", entry)
    kept = network.add(node.pod("web"))
    assert network.held() == {kept}
    assert {line["reason"] for line in node.log("reaped")} == {"no-netns-left"}


def test_kept_beside_a_netns_of_nobody_until_that_is_gone(network: Network) -> None:
    """A netns that nobody names may be the owner's; the next ADD after its end frees, and one that came later does not matter."""
    node = network.node
    stranger = node.pod("stranger")
    address = old_leak(network)
    reap(network)
    assert network.held() == {address}
    node.pod("later")
    reap(network, 60)
    assert network.held() == {address}
    stranger.delete()
    reap(network, 61)
    assert network.held() == set()
    assert [line["reason"] for line in node.log("reaped")] == ["unclaimed"]


def test_freed_after_grace_seconds(network: Network) -> None:
    """A netns of nobody that stays: the reservation is waited for `graceSeconds`, and not one second less."""
    network.node.pod("stranger")
    address = old_leak(network)
    reap(network)
    reap(network, GRACE_S - 5)
    assert network.held() == {address}
    reap(network, GRACE_S)
    assert network.held() == set()
    assert [line["reason"] for line in network.node.log("reaped")] == ["unclaimed"]


@pytest.mark.parametrize("loss", ["the memory is lost", "another boot's memory", "a broken memory", "the file is another"])
def test_lost_memory_or_new_file_restarts_the_wait(network: Network, loss: str) -> None:
    """Without what was remembered, or for another file of the same name and content, the time starts over."""
    node = network.node
    node.pod("stranger")
    address = old_leak(network)
    reap(network)
    memory = node.path(MEMORY)
    if loss == "the memory is lost":
        memory.unlink()
    elif loss == "another boot's memory":
        memory.write_text(json.dumps({**json.loads(memory.read_text()), "bootID": "another"}))
    elif loss == "a broken memory":
        memory.write_text(memory.read_text()[:-20])
    else:
        node.path(f"/var/lib/cni/networks/{NETWORK}/{address}").unlink()
        old_leak(network)
    reap(network, GRACE_S)
    assert network.held() == {address}
    reap(network, 2 * GRACE_S)
    assert network.held() == set()


def test_a_kept_reservation_is_reported_once(network: Network) -> None:
    """Once per boot at `info`: a leak that cannot be decided, an operator's note, and a file of nobody's format."""
    node = network.node
    node.pod("stranger")
    old_leak(network)
    reserved = node.path(f"/var/lib/cni/networks/{NETWORK}")
    (reserved / "10.66.0.201").write_text("reserved for the printer")
    (reserved / "10.66.0.202").write_text("printer")
    for _ in range(3):
        reap(network)
    kept = node.log("kept")
    assert sorted((line["address"], line["level"]) for line in kept) == [(f"10.66.0.{n}", "info") for n in (200, 201, 202)]
    assert len(network.held()) == 3


def test_the_notes_alone_are_reported_once(network: Network) -> None:
    """No full scan is taken for them, and yet they are said once."""
    reserved = network.node.path(f"/var/lib/cni/networks/{NETWORK}")
    reserved.mkdir(parents=True)
    (reserved / "10.66.0.202").write_text("printer")
    for waited in (0, 1, 10 * GRACE_S):
        reap(network, waited)
    assert [line["level"] for line in network.node.log("kept")] == ["info"]
    assert network.held() == {"10.66.0.202"}


def test_waited_leak_costs_no_full_scan(network: Network) -> None:
    """While the netns of then stands where it was, no other process is looked at; ten seconds later they are again."""
    node = network.node
    node.pod("stranger")
    old_leak(network)

    def looks(waited: int) -> int:
        own = node.pod()
        traced = ["strace", "-f", "-qq", "-e", "trace=openat", "-o", "/var/log/trace", f"{BIN}/cni-reaper"]
        command = ["unshare", "--time", "--fork", "--monotonic", str(waited), *traced]
        variables = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": container_id(own.name),
            "CNI_NETNS": own.path,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": BIN,
        }
        node.run(command, env=variables, stdin=json.dumps(network.head).encode()).check()
        own.delete()
        return node.read("/var/log/trace").count('"/proc/1/fd"')

    assert [looks(waited) for waited in (0, 1, 2, 15, 16)] == [1, 0, 0, 1, 0]


LIST = "cni.dev/valid-attachments"


def gc(network: Network, valid: list[dict[str, str]], waited: int) -> None:
    """Run GC with a list."""
    network.node.plugin("GC", {**network.head, "cniVersion": "1.1.0", LIST: valid}, waited=waited).check()


def test_gc_frees_what_its_list_does_not_name_after_two_minutes(network: Network) -> None:
    """A list counts for what any sweep has seen 120 s ago; an ADD in flight is in no list yet."""
    network.node.pod("stranger")
    address = old_leak(network)
    reap(network)  # proves the view, and remembers
    gc(network, [], 110)
    assert network.held() == {address}
    gc(network, [{"containerID": container_id("old"), "ifname": "eth0"}], 200)
    gc(network, [], 201)  # it was in the list just now, so its time begins again
    gc(network, [], 315)
    assert network.held() == {address}
    gc(network, [], 330)
    assert network.held() == set()
    assert [line["reason"] for line in network.node.log("reaped")] == ["not-in-gc-list"]


def test_gc_with_a_list_that_lacks_a_live_owner_frees_nothing_by_it(network: Network) -> None:
    """A list that does not name a live container is of another runtime, or broken: LIVE stays, is reported, and UNKNOWN waits."""
    node = network.node
    live = network.add(node.pod("web"))
    node.pod("stranger")
    address = old_leak(network)
    reap(network)
    gc(network, [], 500)
    assert network.held() == {live, address}
    assert {line["address"] for line in node.log("live-unlisted")} == {live}


def odd_files(network: Network, count: int) -> None:
    """Fill the front of the store with files that nobody can judge."""
    reserved = network.node.path(f"/var/lib/cni/networks/{NETWORK}")
    reserved.mkdir(parents=True)
    for number in range(count):
        (reserved / f"10.66.{number // 250}.{number % 250}").write_text("printer")


def test_a_small_budget_goes_on_where_it_stopped(network: Network) -> None:
    """A budget too small for all: whatever stands in front, the leak at the end is reached by one of the next calls."""
    odd_files(network, 300)
    leak = old_leak(network, "99.99.99.99")
    for _ in range(6):
        assert leak in network.held()
        reap(network, budgetMs=1)
        if leak not in network.held():
            break
    assert leak not in network.held()
    assert len(network.held()) == 300


def test_small_budget_frees_all_in_parts(network: Network) -> None:
    """Each call frees a part, none of them fails, and after some calls all are gone."""
    reserved = network.node.path(f"/var/lib/cni/networks/{NETWORK}")
    reserved.mkdir(parents=True)
    for number in range(500):
        (reserved / f"10.66.{number // 250}.{number % 250}").write_text(container_id(str(number)) + "\r\neth0")
    left = [500]
    while left[-1]:
        reap(network, budgetMs=1)
        left.append(len(network.held()))
        assert left[-1] < left[-2]
    assert len(left) <= 10


def test_gc_list_that_lacks_an_add_in_flight_frees_nothing_of_it(network: Network) -> None:
    """GC's list was made before this ADD began: unmapped and not in the list, and kept for its first two minutes."""
    pod = network.node.pod("in flight")
    network.leak()
    call_reaper(network)
    address = network.take(pod, container_id("in flight"))
    gc_with_list(network, [])
    gc_with_list(network, [], LISTED_AFTER_S - 10)
    assert network.held() == {address}, network.node.log()
    pod.delete()
    gc_with_list(network, [], LISTED_AFTER_S - 5)
    assert network.held() == set()


def test_gc_list_that_lacks_a_live_owner_frees_nobody(network: Network) -> None:
    """Multus skips empty cache entries: a list without somebody who lives is no list, and nobody is freed by it."""
    node = network.node
    live = network.add(node.pod("web"))
    owner = container_id("unknown")
    address = network.take(node.pod("unmapped"), owner)
    call_reaper(network)
    gc_with_list(network, [], 2 * LISTED_AFTER_S)
    assert network.held() == {live, address}, node.log()
    gc_with_list(network, [container_id("web")], 3 * LISTED_AFTER_S)
    assert network.held() == {live}
    assert reaped_reasons(network) == {"not-in-gc-list"}


@pytest.mark.parametrize("what", ["another boot", "the file is another", "graceSeconds too small"])
def test_memory_that_does_not_count_restarts_the_wait(network: Network, what: str) -> None:
    """/run is on disk, the same ID is back at the same address, or nobody would be waited for: kept, the time starts over."""
    node = network.node
    stranger = node.pod("stranger")
    owner = container_id("podman")
    address = network.take(stranger, owner)
    call_reaper(network)
    memory = f"/run/cni-reaper/{NETWORK}.json"
    if what == "another boot":
        kept = node.read(memory)
        node.reboot()
        node.pod("stranger")
        node.write(memory, kept)
        call_reaper(network, waited=2 * GRACE_S)
    elif what == "the file is another":
        node.path(f"{DATA_DIR}/{NETWORK}/{address}").unlink()
        node.reserve(NETWORK, address, owner)
        call_reaper(network, waited=2 * GRACE_S)
    else:
        for grace in (0, 299):
            call_reaper(network, "ADD", {"graceSeconds": grace}, waited=299)
        call_reaper(network, "ADD", {"graceSeconds": 300}, waited=290)
    assert network.held() == {address}, node.log()
    call_reaper(network, waited=4 * GRACE_S)
    assert network.held() == set()


def test_ipv4_address_keeps_hidden_ipv6_address(node: Node) -> None:
    """Dual stack from before cni-reaper, its link down: the kernel shows IPv4 alone, and has forgotten IPv6."""
    network = Network(node)
    network.ipam["ipam"]["ranges"] = [[{"subnet": "10.66.0.0/24"}], [{"subnet": "fd00:66::/64"}]]
    pod = node.pod("old")
    given = (
        node.plugin("ADD", network.ipam, binary="host-local", netns=pod, container_id=container_id("old")).check().json()["ips"]
    )
    node.add_link("eth0", "veth", pod.path, peer="eth0-far")
    for ip in given:
        node.add_address("eth0", ip["address"], pod.path)
    addresses = {ip["address"].partition("/")[0] for ip in given}
    network.reap(**BEHIND)
    node.change_link("eth0", pod.path, state="down")
    for waited in (1, 20, 1600, 3300):
        own = node.pod()
        node.plugin("ADD", {**network.head, **BEHIND}, netns=own, container_id=container_id(own.name), waited=waited).check()
        own.delete()
        assert addresses <= network.held(), node.log("reaped")


DAMAGE = {
    "seen is a list": lambda noted: noted.update(seen=[]),
    "seen is a number": lambda noted: noted.update(seen=1),
    "an address that no path can be": lambda noted: noted.update(
        looked=1e17, netns=[[*one[:4], "/run/\0x"] for one in noted["netns"]]
    ),
    "a number beyond all": lambda noted: noted.update(netns=[[1e300, *one[1:]] for one in noted["netns"]]),
    "no number at all": lambda noted: noted.update(looked="NaN", looks=[["NaN", one[1]] for one in noted["looks"]]),
    "infinite": lambda noted: noted.update(netns=[["inf", *one[1:]] for one in noted["netns"]]),
    "nested": lambda noted: noted.update(looks=[[[1], one[1]] for one in noted["looks"]]),
}


@pytest.mark.usefixtures("live_pod")
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_memory_counts_for_nothing(network: Network, damage: str) -> None:
    """What is remembered is not what we write: it counts for nothing, and leaks with a record go as ever."""
    node = network.node
    node.pod("stranger")
    node.reserve(NETWORK, "10.66.0.200", container_id("old"))
    network.reap()
    noted = json.loads(node.read(MEMORY))
    DAMAGE[damage](noted)
    node.write(MEMORY, json.dumps(noted))
    stale = network.leak()
    network.reap()
    assert stale not in network.held(), node.log()[-3:]
    assert [line for line in node.log() if line["level"] == "error"] == []
