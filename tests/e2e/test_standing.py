"""What an ADD notes of the owners it found LIVE (/run/cni-reaper/<network>.live): it spares reading, and can only keep."""

import json

import pytest

from tests.e2e.pair import NETWORK, Pair, container_id
from tests.node import BIN, DATA_DIR, Node, Pod

NOTED = f"/run/cni-reaper/{NETWORK}.live"


@pytest.fixture
def pods(node: Node) -> tuple[Pair, dict[str, Pod]]:
    """A network with twelve pods by address, all of them noted."""
    pair = Pair(node)
    found = {}
    for _ in range(12):
        pod = node.pod()
        found[pair.add(pod)] = pod
    pair.reap()
    assert len(json.loads(node.read(NOTED))["live"]) >= 8
    return pair, found


def files_read(pair: Pair) -> set[str]:
    """Run an ADD and return the addresses whose reservations it read."""
    node, own = pair.node, pair.node.pod()
    variables = {"CNI_COMMAND": "ADD", "CNI_NETNS": own.path, "CNI_IFNAME": "eth0", "CNI_PATH": BIN}
    node.run(
        ["strace", "-f", "-qq", "-e", "trace=openat", "-o", "/var/log/trace", f"{BIN}/cni-reaper"],
        env={**variables, "CNI_CONTAINERID": container_id(own.name)},
        stdin=json.dumps(pair.head).encode(),
    ).check()
    trace = node.read("/var/log/trace")
    return {address for address in pair.held() if f'"{address}"' in trace}


def test_a_noted_reservation_is_not_read_again(pods: tuple[Pair, dict[str, Pod]]) -> None:
    """At most a handful, those not noted yet, are read by an ADD on a healthy node."""
    pair, found = pods
    assert len(files_read(pair)) < 8
    assert pair.held() == set(found)


def test_a_noted_owner_that_dies_is_freed_by_the_next_add(pods: tuple[Pair, dict[str, Pod]]) -> None:
    """What is noted counts only while that very netns stands at its path."""
    pair, found = pods
    for address in list(found)[:3]:
        found.pop(address).delete()
        pair.reap()
        assert pair.held() == set(found)


def test_another_netns_at_the_path_does_not_count(pods: tuple[Pair, dict[str, Pod]]) -> None:
    """The path of a dead pod is a live one's by now, with the same inode number or another: the dead one's address goes."""
    pair, found = pods
    address, pod = next(iter(found.items()))
    pod.delete()
    pair.node.create_netns(pod.path)
    pair.reap()
    assert address not in pair.held()
    assert pair.held() == set(found) - {address}


def test_another_reservation_at_the_address_does_not_count(pods: tuple[Pair, dict[str, Pod]]) -> None:
    """The file is another container's by now, a dead one's, while the netns that was noted still stands."""
    pair, found = pods
    address = next(iter(found))
    file = pair.node.path(f"{DATA_DIR}/{NETWORK}/{address}")
    fresh = file.with_name("fresh")
    fresh.write_text(f"{container_id('dead')}\r\neth0")  # beside the old one, so that it has another inode
    fresh.rename(file)
    pair.reap()
    assert pair.held() == set(found) - {address}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"bootID": 1}', '{"bootID": "x", "live": []}', '{"live": {"a": 1}}'])
def test_a_broken_file_changes_nothing(pods: tuple[Pair, dict[str, Pod]], content: str) -> None:
    """It is read as nothing, and written anew."""
    pair, found = pods
    boot = json.loads(pair.node.read(NOTED))["bootID"]
    pair.node.write(NOTED, content.replace('"x"', json.dumps(boot)))
    next_to_go = next(iter(found))
    found.pop(next_to_go).delete()
    pair.reap()
    assert pair.held() == set(found)
    pair.reap()
    assert set(json.loads(pair.node.read(NOTED))["live"]) == set(found)
