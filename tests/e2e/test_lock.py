"""host-local's lock, from both sides: who holds it keeps the other out. The real binaries, stopped while they hold it.

flock(2) and fcntl(2) locks do not see each other: with the wrong kind, every test here fails.
"""

import json
from pathlib import Path

import pytest

from tests.conftest import MakeNode
from tests.support.network import Network, container_id
from tests.support.node import Node
from tests.support.stopped_call import StoppedCall, stop_at
from tests.support.waiting import until


@pytest.fixture(params=["1.9.1", "1.1.1"])
def network(make_node: MakeNode, request: pytest.FixtureRequest) -> Network:
    """A network of cni-reaper and host-local, today's and Debian's old one."""
    return Network(make_node(request.param))


def kinds(node: Node, path: str) -> list[tuple[str, bool]]:
    """Return the locks on a file as the kernel lists them: the kind (FLOCK, POSIX, OFDLCK), and whether it is waited for."""
    inode = node.path(path).stat().st_ino
    found = []
    for line in node.read("/proc/locks").splitlines():
        _, *words = line.split()
        waits = words[0] == "->"
        if int(words[waits + 4].rpartition(":")[2]) == inode:
            found.append((words[waits], waits))
    return found


def ours_holding(network: Network, stale: str) -> StoppedCall:
    """Start an ADD that reaps, and let it stop behind its first unlink: it holds host-local's lock."""
    own = network.node.pod()
    ours = network.node.plugin_command("ADD", network.head, netns=own, container_id=container_id(own.name))
    return stop_at(network.node, ours, "unlinkat", stale)


def host_local_holding(network: Network, name: str) -> StoppedCall:
    """Start an ADD of host-local, and let it stop behind flock(2)."""
    pod = network.node.pod(name)
    theirs = network.node.plugin_command("ADD", network.ipam, binary="host-local", netns=pod, container_id=container_id(name))
    return stop_at(network.node, theirs, "flock")


def test_the_lock_is_host_locals_kind(network: Network) -> None:
    """While we unlink, the kernel lists one lock on host-local's lock file, an flock; while host-local works, the same."""
    stale = network.leak()
    ours = ours_holding(network, stale)
    assert kinds(network.node, network.lock()) == [("FLOCK", False)]
    ours.go_on()
    theirs = host_local_holding(network, "pod")
    assert kinds(network.node, network.lock()) == [("FLOCK", False)]
    theirs.go_on()


def test_host_local_waits_for_us(network: Network) -> None:
    """While we reap, host-local gives no address: it waits, and then gives one that nobody has."""
    node = network.node
    live = network.add(node.pod("live"))
    stale = network.leak()
    ours = ours_holding(network, stale)
    pod = node.pod("next")
    node.write("/run/ipam.json", json.dumps(network.ipam))
    theirs = node.plugin_command("ADD", None, binary="host-local", netns=pod, container_id=container_id("next"))
    process = node.start(["sh", "-c", f"exec {theirs['argv'][0]} < /run/ipam.json > /run/given"], env=theirs["env"])
    until(
        lambda: ("FLOCK", True) in kinds(node, network.lock()) or ended(node.path(f"/proc/{process}")),
        "host-local waits for the lock or ends",
    )
    assert kinds(node, network.lock()) == [("FLOCK", False), ("FLOCK", True)]
    assert node.read("/run/given") == ""
    ours.go_on()
    assert node.wait(process) == 0
    given = json.loads(node.read("/run/given"))["ips"][0]["address"].partition("/")[0]
    assert network.held() == {live, given}
    assert given != live


def ended(process: Path) -> bool:
    """Tell whether a process of the node has ended."""
    try:
        return (process / "stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True


def test_we_wait_for_host_local(network: Network) -> None:
    """While host-local holds its lock, we reap nothing and wait; when it is done, we reap."""
    node = network.node
    live = network.add(node.pod("live"))
    network.leak()
    theirs = host_local_holding(network, "next")
    own = node.pod()
    command = node.plugin_command("ADD", network.head, netns=own, container_id=container_id(own.name))
    ours = stop_at(node, command, "setitimer")  # it waits for the lock from here on
    assert len(network.held()) == 2
    (given,) = theirs.go_on()["ips"]
    ours.go_on()
    assert network.held() == {live, given["address"].partition("/")[0]}, node.log()
    assert [line for line in node.log() if line["level"] == "warning"] == []


def test_we_give_up_a_lock_that_host_local_never_lets_go(network: Network) -> None:
    """A host-local that is stuck with its lock costs a call bounded time and a warning; the leak stays until it goes on."""
    node = network.node
    live, stale = network.add(node.pod("live")), network.leak()
    theirs = host_local_holding(network, "stuck")
    node.plugin("ADD", network.head, netns=node.pod(), container_id=container_id("next")).check()
    assert network.held() == {live, stale}
    assert "host-local's lock" in node.log("sweep-skipped")[-1]["reason"]
    theirs.go_on()
    network.reap()
    assert stale not in network.held()
    assert live in network.held()
