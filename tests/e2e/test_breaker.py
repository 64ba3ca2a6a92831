"""What the breaker found: each of these failed when it was written."""

import struct
import sys

import pytest

from tests.e2e import holders
from tests.e2e.pair import NETWORK, Pair, container_id, until
from tests.e2e.test_gate import GATE, RUN_DIR, hold_gate, let_go, wait_at_gate
from tests.node import STATE_DIR, Node

CHROOTS = """
import os, sys
home = os.open("/", os.O_RDONLY)
places = ["run/jail/%d" % number for number in range(200)]
for place in places:
    os.makedirs("/" + place, exist_ok=True)
open("/run/chroots", "w").close()
while True:
    for place in places:
        os.fchdir(home)
        os.chroot(place)
"""


@pytest.fixture
def pair(node: Node) -> Pair:
    """A network of cni-reaper and host-local."""
    return Pair(node)


@pytest.mark.parametrize("numbers", [(0, 1), (1, 2**63), (2**64 - 1, 0), (2**64 - 1, 2**64 - 1)])
def test_a_gate_whose_numbers_make_no_sense(pair: Pair, numbers: tuple[int, int]) -> None:
    """/run was full when a scan began, and no longer when it ended: (0, 1). ADD reaps all the same, for ever."""
    node = pair.node
    node.path(RUN_DIR).mkdir(mode=0o700, exist_ok=True)
    node.path(GATE).write_bytes(struct.pack("<QQ", *numbers))
    for _ in range(3):
        pair.leak()
        pair.reap()
        assert pair.held() == set(), node.log()


def test_a_scan_that_only_tells_is_none_for_who_waits(pair: Pair) -> None:
    """A call with dryRun judges all while an ADD without waits: the ADD frees the leak itself."""
    node = pair.node
    pair.leak()
    holder = hold_gate(node)
    waits = wait_at_gate(pair)
    node.run(["kill", "-STOP", str(waits)]).check()
    let_go(node, holder)
    pair.reap(dryRun=True)
    node.run(["kill", "-CONT", str(waits)]).check()
    assert node.wait(waits) == 0
    assert pair.held() == set(), node.log()


def test_a_scan_with_other_records_is_none_for_who_waits(pair: Pair) -> None:
    """A call with another stateDir, which knows of no record, judges all while an ADD waits: the ADD frees the leak itself."""
    node = pair.node
    node.pod("nobodys")
    pair.leak()
    holder = hold_gate(node)
    waits = wait_at_gate(pair)
    node.run(["kill", "-STOP", str(waits)]).check()
    let_go(node, holder)
    pair.reap(stateDir="/var/lib/cni/other")
    node.run(["kill", "-CONT", str(waits)]).check()
    assert node.wait(waits) == 0
    assert pair.held() == set(), node.log()


def test_a_del_that_keeps_its_own_is_no_scan_for_who_waits(pair: Pair) -> None:
    """A DEL keeps what its chain is about to release, and another that somebody holds, while an ADD waits."""
    node = pair.node
    held = node.pod("held")
    kept = pair.add(held)
    holders.by_descriptor(held)
    holders.unpin(held)
    own = node.pod("own")
    pair.take(own, container_id("own"))
    own.delete()
    holder = hold_gate(node)
    waits = wait_at_gate(pair)
    node.run(["kill", "-STOP", str(waits)]).check()
    let_go(node, holder)
    pair.reap(verb="ADD", reapOn=[])
    node.run(["rm", "-f", f"{RUN_DIR}/{NETWORK}.json"]).check()
    node.plugin("DEL", pair.head, netns=own.path, container_id=container_id("own")).check()
    node.run(["kill", "-CONT", str(waits)]).check()
    assert node.wait(waits) == 0
    assert pair.held() == {kept}, node.log()


def test_gc_waits_once_for_the_records_lock(pair: Pair) -> None:
    """An ADD that is stopped holds the lock of the records; GC that would mark 15 of them is bounded all the same."""
    node = pair.node
    for _ in range(15):
        pair.add(node.pod())
    node.start(["flock", "-s", f"{STATE_DIR}/{NETWORK}/.lock", "sh", "-c", "touch /run/locked; exec sleep infinity"])
    until(node.path("/run/locked").exists, "the lock is held")
    ran = node.plugin("GC", {**pair.head, "cniVersion": "1.1.0", "cni.dev/valid-attachments": []}, timeout=60).check()
    assert ran.seconds < 25, ran


@pytest.mark.parametrize(
    "ahead",
    [
        ["unshare", "-m", "setpriv", "--bounding-set", "-sys_admin"],
        ["setpriv", "--bounding-set", "-sys_admin"],
    ],
)
def test_a_pod_that_changes_its_root_all_the_time(pair: Pair, ahead: list[str]) -> None:
    """Any container of root may by default (CAP_SYS_CHROOT), and any user in a user namespace. It stops no reaping."""
    node = pair.node
    for _ in range(8):  # on a machine with few processors one of them alone does not always run beside the look
        node.start([*ahead, sys.executable, "-I", "-c", CHROOTS])
    until(node.path("/run/chroots").exists, "they change their roots")
    for _ in range(20):
        pair.leak()
        pair.reap()
        assert pair.held() == set(), node.log()
