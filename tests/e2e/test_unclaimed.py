"""The first start on an old node: reservations from before cni-reaper, whose owners nobody maps (docs/evidence.md).

Which of them the first ADD frees, which are freed once a netns is gone or `graceSeconds` are over, and which stay.
"""

import json

import pytest

from tests.e2e.pair import NETWORK, Pair, container_id
from tests.node import BIN, Node

GRACE_S = 1500
MEMORY = f"/run/cni-reaper/{NETWORK}.json"


@pytest.fixture
def pair(node: Node) -> Pair:
    """A network of cni-reaper and host-local."""
    return Pair(node)


def old_leak(pair: Pair, address: str = "10.66.0.200", name: str = "old") -> str:
    """Leave a reservation of a container that nobody knows."""
    pair.node.reserve(NETWORK, address, container_id(name))
    return address


def reap(pair: Pair, waited: int = 0, **options: object) -> None:
    """Run one ADD for a container of its own, `waited` seconds later than now."""
    own = pair.node.pod()
    pair.node.plugin("ADD", {**pair.head, **options}, netns=own, container_id=container_id(own.name), waited=waited).check()
    own.delete()


def test_an_old_live_pod_is_kept_however_long_it_takes(pair: Pair) -> None:
    """Its address is in its netns: LIVE, long after graceSeconds, and from then on it is waited for anew."""
    node = pair.node
    pod = node.pod("old")
    address = pair.take(pod, container_id("unrelated to its path"))
    node.add_address("lo", address + "/24", netns=pod.path)
    for waited in (0, GRACE_S - 1, GRACE_S, 10 * GRACE_S):
        reap(pair, waited)
        assert pair.held() == {address}, node.log()
    node.delete_address("lo", address + "/24", netns=pod.path)
    reap(pair, 11 * GRACE_S - 20)
    assert pair.held() == {address}
    pod.delete()
    reap(pair, 11 * GRACE_S - 10)
    assert pair.held() == set()


def test_freed_by_the_first_add_where_every_netns_is_somebodys(pair: Pair) -> None:
    """No netns is left that could be theirs: 20 old leaks go with the first ADD, one with a dead cache entry among them."""
    node = pair.node
    for number in range(20):
        old_leak(pair, f"10.66.0.{100 + number}", f"old {number}")
    entry = json.dumps({"kind": "cniCacheV1", "netns": "/run/netns/gone", "result": {}})
    node.write(f"/var/lib/cni/results/{NETWORK}-{container_id('old 0')}-eth0", entry)
    kept = pair.add(node.pod("web"))
    assert pair.held() == {kept}
    assert {line["reason"] for line in node.log("reaped")} == {"no-netns-left"}


def test_kept_beside_a_netns_of_nobody_until_that_is_gone(pair: Pair) -> None:
    """A netns that nobody names may be the owner's; the next ADD after its end frees, and one that came later does not matter."""
    node = pair.node
    stranger = node.pod("stranger")
    address = old_leak(pair)
    reap(pair)
    assert pair.held() == {address}
    node.pod("later")
    reap(pair, 60)
    assert pair.held() == {address}
    stranger.delete()
    reap(pair, 61)
    assert pair.held() == set()
    assert [line["reason"] for line in node.log("reaped")] == ["unclaimed"]


def test_freed_after_grace_seconds(pair: Pair) -> None:
    """A netns of nobody that stays: the reservation is waited for `graceSeconds`, and not one second less."""
    pair.node.pod("stranger")
    address = old_leak(pair)
    reap(pair)
    reap(pair, GRACE_S - 5)
    assert pair.held() == {address}
    reap(pair, GRACE_S)
    assert pair.held() == set()
    assert [line["reason"] for line in pair.node.log("reaped")] == ["unclaimed"]


@pytest.mark.parametrize("loss", ["the memory is lost", "another boot's memory", "a broken memory", "the file is another"])
def test_the_wait_begins_again(pair: Pair, loss: str) -> None:
    """Without what was remembered, or for another file of the same name and content, the time starts over."""
    node = pair.node
    node.pod("stranger")
    address = old_leak(pair)
    reap(pair)
    memory = node.path(MEMORY)
    if loss == "the memory is lost":
        memory.unlink()
    elif loss == "another boot's memory":
        memory.write_text(json.dumps({**json.loads(memory.read_text()), "bootID": "another"}))
    elif loss == "a broken memory":
        memory.write_text(memory.read_text()[:-20])
    else:
        node.path(f"/var/lib/cni/networks/{NETWORK}/{address}").unlink()
        old_leak(pair)
    reap(pair, GRACE_S)
    assert pair.held() == {address}
    reap(pair, 2 * GRACE_S)
    assert pair.held() == set()


def test_a_kept_reservation_is_reported_once(pair: Pair) -> None:
    """Once per boot at `info`: a leak that cannot be decided, an operator's note, and a file of nobody's format."""
    node = pair.node
    node.pod("stranger")
    old_leak(pair)
    reserved = node.path(f"/var/lib/cni/networks/{NETWORK}")
    (reserved / "10.66.0.201").write_text("reserved for the printer")
    (reserved / "10.66.0.202").write_text("printer")
    for _ in range(3):
        reap(pair)
    kept = node.log("kept")
    assert sorted((line["address"], line["level"]) for line in kept) == [(f"10.66.0.{n}", "info") for n in (200, 201, 202)]
    assert len(pair.held()) == 3


def test_the_notes_alone_are_reported_once(pair: Pair) -> None:
    """No full scan is taken for them, and yet they are said once."""
    reserved = pair.node.path(f"/var/lib/cni/networks/{NETWORK}")
    reserved.mkdir(parents=True)
    (reserved / "10.66.0.202").write_text("printer")
    for waited in (0, 1, 10 * GRACE_S):
        reap(pair, waited)
    assert [line["level"] for line in pair.node.log("kept")] == ["info"]
    assert pair.held() == {"10.66.0.202"}


def test_a_leak_that_is_waited_for_costs_no_closer_look(pair: Pair) -> None:
    """While the netns of then stands where it was, no other process is looked at; ten seconds later they are again."""
    node = pair.node
    node.pod("stranger")
    old_leak(pair)

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
        node.run(command, env=variables, stdin=json.dumps(pair.head).encode()).check()
        own.delete()
        return node.read("/var/log/trace").count('"/proc/1/fd"')

    assert [looks(waited) for waited in (0, 1, 2, 15, 16)] == [1, 0, 0, 1, 0]


LIST = "cni.dev/valid-attachments"


def gc(pair: Pair, valid: list[dict[str, str]], waited: int) -> None:
    """Run GC with a list."""
    pair.node.plugin("GC", {**pair.head, "cniVersion": "1.1.0", LIST: valid}, waited=waited).check()


def test_gc_frees_what_its_list_does_not_name_after_two_minutes(pair: Pair) -> None:
    """A list counts for what any sweep has seen 120 s ago; an ADD in flight is in no list yet."""
    pair.node.pod("stranger")
    address = old_leak(pair)
    reap(pair)  # proves the view, and remembers
    gc(pair, [], 110)
    assert pair.held() == {address}
    gc(pair, [{"containerID": container_id("old"), "ifname": "eth0"}], 200)
    gc(pair, [], 201)  # it was in the list just now, so its time begins again
    gc(pair, [], 315)
    assert pair.held() == {address}
    gc(pair, [], 330)
    assert pair.held() == set()
    assert [line["reason"] for line in pair.node.log("reaped")] == ["not-in-gc-list"]


def test_gc_with_a_list_that_lacks_a_live_owner_frees_nothing_by_it(pair: Pair) -> None:
    """A list that does not name a live container is of another runtime, or broken: LIVE stays, is reported, and UNKNOWN waits."""
    node = pair.node
    live = pair.add(node.pod("web"))
    node.pod("stranger")
    address = old_leak(pair)
    reap(pair)
    gc(pair, [], 500)
    assert pair.held() == {live, address}
    assert {line["address"] for line in node.log("live-unlisted")} == {live}


def odd_files(pair: Pair, count: int) -> None:
    """Fill the front of the store with files that nobody can judge."""
    reserved = pair.node.path(f"/var/lib/cni/networks/{NETWORK}")
    reserved.mkdir(parents=True)
    for number in range(count):
        (reserved / f"10.66.{number // 250}.{number % 250}").write_text("printer")


def test_a_small_budget_goes_on_where_it_stopped(pair: Pair) -> None:
    """A budget too small for all: whatever stands in front, the leak at the end is reached by one of the next calls."""
    odd_files(pair, 300)
    leak = old_leak(pair, "99.99.99.99")
    for _ in range(6):
        assert leak in pair.held()
        reap(pair, budgetMs=1)
        if leak not in pair.held():
            break
    assert leak not in pair.held()
    assert len(pair.held()) == 300


def test_many_leaks_and_a_small_budget(pair: Pair) -> None:
    """Each call frees a part, none of them fails, and after some calls all are gone."""
    reserved = pair.node.path(f"/var/lib/cni/networks/{NETWORK}")
    reserved.mkdir(parents=True)
    for number in range(500):
        (reserved / f"10.66.{number // 250}.{number % 250}").write_text(container_id(str(number)) + "\r\neth0")
    left = [500]
    while left[-1]:
        reap(pair, budgetMs=1)
        left.append(len(pair.held()))
        assert left[-1] < left[-2]
    assert len(left) <= 10
