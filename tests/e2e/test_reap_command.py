"""`cni-reaper reap` on real nodes: a person's sweep frees what an ADD would, and --force never a live one."""

import json
import os
import shlex
import time

import pytest

from tests.support.cni_calls import BIN, bridge, host_local, reaper
from tests.support.commands import Ran
from tests.support.network import Network, container_id
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, LOG_FILE, STATE_DIR

EXECUTABLE = f"{BIN}/cni-reaper"
DEAD = "d" * 64
NOTE = "reserved"  # a person's own: `echo reserved > 10.66.0.9`


def reap(node: Node, *arguments: str) -> Ran:
    """Run the command."""
    return node.run([EXECUTABLE, "reap", *arguments])


def answered(node: Node, arguments: str, answer: str) -> Ran:
    """Run the command on a terminal, and answer its question."""
    return node.run(["script", "-qec", f"{EXECUTABLE} reap {arguments}", "/dev/null"], stdin=f"{answer}\n".encode())


def reserve(node: Node, address: str, owner: str) -> None:
    """Write a reservation that was not made just now, or a person's note."""
    node.reserve("net", address, owner)
    if owner == NOTE:
        node.path(f"{DATA_DIR}/net/{address}").write_text(f"{NOTE}\n")
    aged(node, address)


def aged(node: Node, address: str) -> None:
    """Let a reservation be an hour old."""
    os.utime(node.path(f"{DATA_DIR}/net/{address}"), (time.time() - 3600,) * 2)


@pytest.fixture
def network(node: Node) -> Network:
    """A network with a live pod on 10.66.0.2, a person's note on .9 and a leak on .7, and a conflist that has us."""
    network = Network(node)
    node.conflist("net", [reaper(), bridge(host_local("10.66.0.0/24"))])
    assert network.add(node.pod()) == "10.66.0.2"
    reserve(node, "10.66.0.9", NOTE)
    reserve(node, "10.66.0.7", DEAD)
    return network


def left(network: Network) -> set[str]:
    """Return the addresses that are reserved."""
    return set(network.node.reservations("net"))


def test_dry_run_frees_nothing(network: Network) -> None:
    """It names what it would free, with --force what nobody knows, too."""
    ran = reap(network.node, "--dry-run").check()
    assert b"would-reap" in ran.out
    assert b"address=10.66.0.7" in ran.out
    assert b"10.66.0.9" not in ran.out
    assert b"10.66.0.9" in reap(network.node, "--dry-run", "--force").check().out
    assert left(network) == {"10.66.0.2", "10.66.0.7", "10.66.0.9"}


def test_frees_what_is_stale_and_says_why(network: Network) -> None:
    """The leak goes, the live one and the note stay; a second one has nothing to do."""
    ran = reap(network.node).check()
    assert b"reaped  network=net  address=10.66.0.7" in ran.out
    assert b"reason=no-netns-left" in ran.out
    assert b"net: left: 1 LIVE, 0 STALE, 1 UNKNOWN; `cni-reaper audit` says why" in ran.out
    assert left(network) == {"10.66.0.2", "10.66.0.9"}
    assert b"0 freed" in reap(network.node).check().out


def test_force_asks_before_it_frees(network: Network) -> None:
    """No terminal, no answer; `n` frees nothing that is not stale, `y` does. A live one is not even in question."""
    ran = reap(network.node, "--force")
    assert ran.rc == 2
    assert b"add --yes" in ran.err
    assert left(network) == {"10.66.0.2", "10.66.0.7", "10.66.0.9"}
    ran = answered(network.node, "--force", "n")
    assert ran.rc == 2, str(ran)
    assert b"Free these 1?" in ran.out
    assert left(network) == {"10.66.0.2", "10.66.0.9"}
    ran = answered(network.node, "--force", "y").check()
    assert b"reason=forced" in ran.out
    assert b"10.66.0.2" not in ran.out
    assert left(network) == {"10.66.0.2"}


def test_force_never_frees_a_live_one(network: Network) -> None:
    """Recorded, unmapped but with its address configured, named by a runtime's task directory: all three stay."""
    node = network.node
    configured, named = container_id("configured"), container_id("named")
    pod = node.pod()
    node.add_link("eth0", "veth", pod.path, peer="far")
    node.change_link("eth0", pod.path, state="up")
    node.add_address("eth0", "10.66.0.20/24", pod.path)
    reserve(node, "10.66.0.20", configured)
    reserve(node, "10.66.0.21", named)
    node.path(f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{named}").mkdir(parents=True)
    reap(node, "--force", "--yes").check()
    assert left(network) == {"10.66.0.2", "10.66.0.20", "10.66.0.21"}


def test_a_network_that_is_not_ours_is_swept_only_when_it_is_named(network: Network) -> None:
    """A VM manager's network has no entry of ours and no record: its addresses stay, and that is said."""
    node = network.node
    node.reserve("vms", "10.77.0.2", "3f2b8c1e-9d47-4a6b-8e05-c17a40f9d2b3")
    for arguments in ((), ("--force", "--yes")):
        ran = reap(node, *arguments).check()
        assert set(node.reservations("vms")) == {"10.77.0.2"}
        assert b"left out" in ran.err
        assert b"vms" in ran.err
    assert left(network) == {"10.66.0.2"}
    assert b"left out" not in reap(node, "--network", "vms").check().text.encode()
    assert set(node.reservations("vms")) == set()


def test_a_network_with_records_of_ours_is_swept(network: Network) -> None:
    """The entry is gone from the conflist, and a leak with a record is left."""
    node = network.node
    leak = network.leak()
    node.conflist("net", [bridge(host_local("10.66.0.0/24"))])
    reap(node).check()
    assert leak not in left(network)


def test_from_a_view_that_nobody_has_proven_nothing_is_freed(node: Node) -> None:
    """Before the first ADD of a boot, not even with --force: the pods may be out of sight."""
    reserve(node, "10.66.0.7", DEAD)
    reserve(node, "10.66.0.9", NOTE)
    ran = reap(node, "--force", "--yes", "--network", "net")
    assert ran.rc == 1
    assert b"no ADD of this boot" in ran.err
    assert set(node.reservations("net")) == {"10.66.0.7", "10.66.0.9"}


def test_a_view_without_the_pods_frees_nothing(network: Network) -> None:
    """A mount namespace in which the pods' namespaces are not mounted was never proven, whatever it looks like."""
    hidden = "umount -l /run/netns/* 2>/dev/null; umount -l /run/netns 2>/dev/null; " + shlex.join(
        [EXECUTABLE, "reap", "--force", "--yes"]
    )
    ran = network.node.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", hidden])
    assert ran.rc == 1, str(ran)
    assert left(network) == {"10.66.0.2", "10.66.0.7", "10.66.0.9"}


def test_reservation_that_changes_hands_before_the_answer_is_kept(network: Network) -> None:
    """What was asked about is a file; another at the same address is another owner's."""
    node = network.node
    node.write(
        "/run/answer", "rm /var/lib/cni/networks/net/10.66.0.9; printf other >/var/lib/cni/networks/net/10.66.0.9; echo y\n"
    )
    line = (
        f"until grep -q 'Free these' /run/shown; do :; done; . /run/answer) | script -qfec '{EXECUTABLE} reap --force' /run/shown"
    )
    node.write("/run/shown", "")
    node.run(["sh", "-c", f"({line}"])
    assert node.reservations("net")["10.66.0.9"][0] == "other"


def test_missing_network_is_told(network: Network) -> None:
    """It is said, and the exit code says so."""
    ran = reap(network.node, "--network", "nosuch")
    assert ran.rc == 1
    assert b"nosuch" in ran.err
    assert left(network) == {"10.66.0.2", "10.66.0.7", "10.66.0.9"}


def test_large_network_goes_in_one_command(network: Network) -> None:
    """A person's sweep is not cut off by the budget of a call: five thousand leaks go at once."""
    for number in range(5000):
        network.node.reserve("net", f"10.67.{number // 250}.{number % 250}", f"{number:064x}")
    assert b"5001 freed" in reap(network.node).check().out
    assert left(network) == {"10.66.0.2", "10.66.0.9"}


def test_files_that_are_no_reservations_stay(network: Network) -> None:
    """Not even with --force: host-local's lock and its notes, a directory, a link."""
    directory = network.node.path(f"{DATA_DIR}/net")
    (directory / "10.66.0.50").mkdir()
    (directory / "10.66.0.51").symlink_to("lock")
    (directory / "README.txt").write_text("mine")
    before = {entry.name for entry in directory.iterdir()}
    reap(network.node, "--force", "--yes").check()
    assert {entry.name for entry in directory.iterdir()} == before - {"10.66.0.7", "10.66.0.9"}


def test_force_leaves_what_was_made_just_now(network: Network) -> None:
    """host-local has given the address, and the plugin behind it has not configured it yet: no guard can know."""
    network.node.pod("starting")
    network.node.reserve("net", "10.66.0.30", container_id("starting"))
    ran = reap(network.node, "--force", "--yes").check()
    assert b"net: 1 UNKNOWN stay: --force frees none that was made in the last two minutes" in ran.out
    assert left(network) == {"10.66.0.2", "10.66.0.30"}
    aged(network.node, "10.66.0.30")
    reap(network.node, "--force", "--yes").check()
    assert left(network) == {"10.66.0.2"}


def hidden(network: Network, state_dir: str) -> str:
    """Start a pod whose address nothing shows, as gVisor's, recorded in a stateDir; return its address."""
    pod = network.node.pod("hidden")
    address = network.add(pod, stateDir=state_dir)
    aged(network.node, address)
    return address


@pytest.mark.parametrize(
    "arguments", [("--state-dir", "/var/lib/cni/reapr"), ()], ids=["a wrong stateDir", "a conflist without us"]
)
def test_force_wants_to_know_where_the_records_are(network: Network, arguments: tuple[str, ...]) -> None:
    """Without the record a pod that hides its address is nobody's; so nothing is forced then, and it is said."""
    address = hidden(network, STATE_DIR)
    if not arguments:
        network.node.conflist("net", [bridge(host_local("10.66.0.0/24"))])
    ran = reap(network.node, "--force", "--yes", *arguments)
    assert ran.rc == 1
    assert b"--force wants" in ran.err
    assert address in left(network)


def test_force_finds_the_records_of_a_drop_in(network: Network) -> None:
    """Libcni 1.3 appends what lies in the directory beside the conflist; our entry there has a stateDir of its own."""
    address = hidden(network, "/var/lib/cni/mystate")
    network.node.conflist("net", [bridge(host_local("10.66.0.0/24"))])
    directory = network.node.path("/etc/cni/net.d/net")
    directory.mkdir()
    (directory / "10-reaper.conf").write_text(json.dumps({"type": "cni-reaper", "stateDir": "/var/lib/cni/mystate"}))
    reap(network.node, "--force", "--yes").check()
    assert address in left(network)


def test_a_persons_sweep_drops_no_record(network: Network) -> None:
    """A directory that is left of the same network in another store knows nothing of who lives."""
    node = network.node
    node.conflist("net", [reaper(dataDir="/run/cni-ipam"), bridge(host_local("10.66.0.0/24", dataDir="/run/cni-ipam"))])
    record = node.path(f"{STATE_DIR}/net/{container_id('old')}:eth0")
    (other,) = [path for path in record.parent.iterdir() if ":" in path.name]
    fields = json.loads(other.read_bytes())
    record.write_text(json.dumps({**fields, "netns": "/run/netns/unmounted", "boottime": 1.0}))
    reap(node)
    assert record.exists()


def test_the_entrys_dry_run_holds_for_a_person_too(network: Network) -> None:
    """As an ADD would: it says what it would free."""
    network.node.conflist("net", [reaper(dryRun=True), bridge(host_local("10.66.0.0/24"))])
    ran = reap(network.node, "--force", "--yes").check()
    assert b"would-reap" in ran.out
    assert b"its entry says dryRun" in ran.err
    assert ran.out.endswith(b"0 freed, 2 would be freed\n")
    assert left(network) == {"10.66.0.2", "10.66.0.7", "10.66.0.9"}


@pytest.mark.parametrize("how", ["| true", ">/dev/full", "2>&1 | head -1"])
def test_what_is_freed_is_in_the_log_whoever_reads(network: Network, how: str) -> None:
    """A reader who goes ends nothing in the middle."""
    for number in range(300):
        network.node.reserve("net", f"10.67.{number // 250}.{number % 250}", f"{number:064x}")
    before = len(network.node.log("reaped"))
    network.node.run(["bash", "-c", f"{EXECUTABLE} reap {how}"])
    assert left(network) == {"10.66.0.2", "10.66.0.9"}
    assert len(network.node.log("reaped")) - before == 301


@pytest.mark.parametrize("number", ["INT", "TERM"])
def test_a_signal_ends_it_between_two_networks(network: Network, number: str) -> None:
    """What is removed by then is in the log: as many lines as files are gone."""
    for count in range(3000):
        network.node.reserve("net", f"10.67.{count // 250}.{count % 250}", f"{count:064x}")
    before = len(left(network)) + len(network.node.log("reaped"))
    script = (
        f"{EXECUTABLE} reap >/dev/null & until grep -q event=reaped {LOG_FILE}; do :; done; kill -{number} $!; wait $!; echo $?"
    )
    ran = network.node.run(["bash", "-c", f"set -m; {script}"])
    assert ran.out.strip() == b"130", str(ran)
    assert len(left(network)) + len(network.node.log("reaped")) == before


def test_no_answer_is_a_no(network: Network) -> None:
    """^D at the question."""
    ran = network.node.run(["script", "-qec", f"{EXECUTABLE} reap --force", "/dev/null"], stdin=b"\x04")
    assert ran.rc == 2, str(ran)
    assert b"Traceback" not in ran.out
    assert left(network) == {"10.66.0.2", "10.66.0.9"}
