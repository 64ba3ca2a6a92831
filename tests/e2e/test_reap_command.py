"""`cni-reaper reap` on real nodes: a person's sweep frees what an ADD would, and --force never a live one."""

import shlex

import pytest

from tests.e2e.pair import Pair, container_id
from tests.node import BIN, DATA_DIR, Node, Ran

EXECUTABLE = f"{BIN}/cni-reaper"
DEAD = "d" * 64
NOTE = "reserved"  # a person's own: `echo reserved > 10.66.0.9`


def reap(node: Node, *arguments: str) -> Ran:
    """Run the command."""
    return node.run([EXECUTABLE, "reap", *arguments])


def answered(node: Node, arguments: str, answer: str) -> Ran:
    """Run the command on a terminal, and answer its question."""
    return node.run(["script", "-qec", f"{EXECUTABLE} reap {arguments}", "/dev/null"], stdin=f"{answer}\n".encode())


@pytest.fixture
def pair(node: Node) -> Pair:
    """A network with a live pod on 10.66.0.2, a person's note on .9 and a leak on .7."""
    pair = Pair(node)
    assert pair.add(node.pod()) == "10.66.0.2"
    node.reserve("net", "10.66.0.9", NOTE)
    node.reserve("net", "10.66.0.7", DEAD)
    return pair


def left(pair: Pair) -> set[str]:
    """Return the addresses that are reserved."""
    return set(pair.node.reservations("net"))


def test_dry_run_frees_nothing(pair: Pair) -> None:
    """It names what it would free, with --force what nobody knows, too."""
    ran = reap(pair.node, "--dry-run").check()
    assert b"would-reap" in ran.out
    assert b"address=10.66.0.7" in ran.out
    assert b"10.66.0.9" not in ran.out
    assert b"10.66.0.9" in reap(pair.node, "--dry-run", "--force").check().out
    assert left(pair) == {"10.66.0.2", "10.66.0.7", "10.66.0.9"}


def test_frees_what_is_stale_and_says_why(pair: Pair) -> None:
    """The leak goes, the live one and the note stay; a second one has nothing to do."""
    ran = reap(pair.node).check()
    assert b"reaped  network=net  address=10.66.0.7" in ran.out
    assert b"reason=no netns left" in ran.out
    assert b"net: left: 1 LIVE, 0 STALE, 1 UNKNOWN" in ran.out
    assert left(pair) == {"10.66.0.2", "10.66.0.9"}
    assert b"0 freed" in reap(pair.node).check().out


def test_force_asks_before_it_frees(pair: Pair) -> None:
    """No terminal, no answer; `n` frees nothing that is not stale, `y` does. A live one is not even in question."""
    ran = reap(pair.node, "--force")
    assert ran.rc == 2
    assert b"add --yes" in ran.err
    assert left(pair) == {"10.66.0.2", "10.66.0.7", "10.66.0.9"}
    ran = answered(pair.node, "--force", "n")
    assert ran.rc == 2, str(ran)
    assert b"Free these 1?" in ran.out
    assert left(pair) == {"10.66.0.2", "10.66.0.9"}
    ran = answered(pair.node, "--force", "y").check()
    assert b"reason=forced" in ran.out
    assert b"10.66.0.2" not in ran.out
    assert left(pair) == {"10.66.0.2"}


def test_force_never_frees_a_live_one(pair: Pair) -> None:
    """Recorded, unmapped but with its address configured, named by a runtime's task directory: all three stay."""
    node = pair.node
    configured, named = container_id("configured"), container_id("named")
    pod = node.pod()
    node.add_link("eth0", "veth", pod.path, peer="far")
    node.change_link("eth0", pod.path, state="up")
    node.add_address("eth0", "10.66.0.20/24", pod.path)
    node.reserve("net", "10.66.0.20", configured)
    node.reserve("net", "10.66.0.21", named)
    node.path(f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{named}").mkdir(parents=True)
    reap(node, "--force", "--yes").check()
    assert left(pair) == {"10.66.0.2", "10.66.0.20", "10.66.0.21"}


def test_from_a_view_that_nobody_has_proven_nothing_is_freed(node: Node) -> None:
    """Before the first ADD of a boot, not even with --force: the pods may be out of sight."""
    node.reserve("net", "10.66.0.7", DEAD)
    node.reserve("net", "10.66.0.9", NOTE)
    ran = reap(node, "--force", "--yes")
    assert ran.rc == 1
    assert b"no ADD of this boot" in ran.err
    assert set(node.reservations("net")) == {"10.66.0.7", "10.66.0.9"}


def test_a_view_without_the_pods_frees_nothing(pair: Pair) -> None:
    """A mount namespace in which the pods' namespaces are not mounted was never proven, whatever it looks like."""
    hidden = "umount -l /run/netns/* 2>/dev/null; umount -l /run/netns 2>/dev/null; " + shlex.join(
        [EXECUTABLE, "reap", "--force", "--yes"]
    )
    ran = pair.node.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", hidden])
    assert ran.rc == 1, str(ran)
    assert left(pair) == {"10.66.0.2", "10.66.0.7", "10.66.0.9"}


def test_a_reservation_that_changes_hands_while_the_person_thinks(pair: Pair) -> None:
    """What was asked about is a file; another at the same address is another owner's."""
    node = pair.node
    node.write(
        "/run/answer", "rm /var/lib/cni/networks/net/10.66.0.9; printf other >/var/lib/cni/networks/net/10.66.0.9; echo y\n"
    )
    line = (
        f"until grep -q 'Free these' /run/shown; do :; done; . /run/answer) | script -qfec '{EXECUTABLE} reap --force' /run/shown"
    )
    node.write("/run/shown", "")
    node.run(["sh", "-c", f"({line}"], timeout=30)
    assert node.reservations("net")["10.66.0.9"][0] == "other"


def test_a_network_that_is_not_there(pair: Pair) -> None:
    """It is said, and the exit code says so."""
    ran = reap(pair.node, "--network", "nosuch")
    assert ran.rc == 1
    assert b"nosuch" in ran.err
    assert left(pair) == {"10.66.0.2", "10.66.0.7", "10.66.0.9"}


def test_a_large_network_in_one_command(pair: Pair) -> None:
    """A person's sweep is not cut off by the budget of a call: five thousand leaks go at once."""
    for number in range(5000):
        pair.node.reserve("net", f"10.67.{number // 250}.{number % 250}", f"{number:064x}")
    assert b"5001 freed" in reap(pair.node).check().out
    assert left(pair) == {"10.66.0.2", "10.66.0.9"}


def test_files_that_are_no_reservations_stay(pair: Pair) -> None:
    """Not even with --force: host-local's lock and its notes, a directory, a link."""
    directory = pair.node.path(f"{DATA_DIR}/net")
    (directory / "10.66.0.50").mkdir()
    (directory / "10.66.0.51").symlink_to("lock")
    (directory / "README.txt").write_text("mine")
    before = {entry.name for entry in directory.iterdir()}
    reap(pair.node, "--force", "--yes").check()
    assert {entry.name for entry in directory.iterdir()} == before - {"10.66.0.7", "10.66.0.9"}
