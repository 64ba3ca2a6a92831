"""host-local's lock, from both sides: who holds it keeps the other out. The real binaries, stopped while they hold it.

flock(2) and fcntl(2) locks do not see each other: with the wrong kind, every test here fails.
"""

import json
from pathlib import Path

import pytest

from tests.conftest import MakeNode
from tests.e2e.halt import Halted, halted
from tests.e2e.pair import Pair, container_id, until
from tests.node import Node


@pytest.fixture(params=["1.9.1", "1.1.1"])
def pair(make_node: MakeNode, request: pytest.FixtureRequest) -> Pair:
    """A network of cni-reaper and host-local, today's and Debian's old one."""
    return Pair(make_node(request.param))


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


def ours_holding(pair: Pair, stale: str) -> Halted:
    """Start an ADD that reaps, and let it stop behind its first unlink: it holds host-local's lock."""
    own = pair.node.pod()
    ours = pair.node.plugin_command("ADD", pair.head, netns=own, container_id=container_id(own.name))
    return halted(pair.node, ours, "unlinkat", stale)


def host_local_holding(pair: Pair, name: str) -> Halted:
    """Start an ADD of host-local, and let it stop behind flock(2)."""
    pod = pair.node.pod(name)
    theirs = pair.node.plugin_command("ADD", pair.ipam, binary="host-local", netns=pod, container_id=container_id(name))
    return halted(pair.node, theirs, "flock")


def test_the_lock_is_host_locals_kind(pair: Pair) -> None:
    """While we unlink, the kernel lists one lock on host-local's lock file, an flock; while host-local works, the same."""
    stale = pair.leak()
    ours = ours_holding(pair, stale)
    assert kinds(pair.node, pair.lock()) == [("FLOCK", False)]
    ours.go_on()
    theirs = host_local_holding(pair, "pod")
    assert kinds(pair.node, pair.lock()) == [("FLOCK", False)]
    theirs.go_on()


def test_host_local_waits_for_us(pair: Pair) -> None:
    """While we reap, host-local gives no address: it waits, and then gives one that nobody has."""
    node = pair.node
    live = pair.add(node.pod("live"))
    stale = pair.leak()
    ours = ours_holding(pair, stale)
    pod = node.pod("next")
    node.write("/run/ipam.json", json.dumps(pair.ipam))
    theirs = node.plugin_command("ADD", None, binary="host-local", netns=pod, container_id=container_id("next"))
    process = node.start(["sh", "-c", f"exec {theirs['argv'][0]} < /run/ipam.json > /run/given"], env=theirs["env"])
    until(
        lambda: ("FLOCK", True) in kinds(node, pair.lock()) or ended(node.path(f"/proc/{process}")),
        "host-local waits for the lock or ends",
    )
    assert kinds(node, pair.lock()) == [("FLOCK", False), ("FLOCK", True)]
    assert node.read("/run/given") == ""
    ours.go_on()
    assert node.wait(process) == 0
    given = json.loads(node.read("/run/given"))["ips"][0]["address"].partition("/")[0]
    assert pair.held() == {live, given}
    assert given != live


def ended(process: Path) -> bool:
    """Tell whether a process of the node has ended."""
    try:
        return (process / "stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True


def test_we_wait_for_host_local(pair: Pair) -> None:
    """While host-local holds its lock, we reap nothing and wait; when it is done, we reap."""
    node = pair.node
    live = pair.add(node.pod("live"))
    pair.leak()
    theirs = host_local_holding(pair, "next")
    own = node.pod()
    command = node.plugin_command("ADD", pair.head, netns=own, container_id=container_id(own.name))
    ours = halted(node, command, "setitimer")  # it waits for the lock from here on
    assert len(pair.held()) == 2
    (given,) = theirs.go_on()["ips"]
    ours.go_on()
    assert pair.held() == {live, given["address"].partition("/")[0]}, node.log()
    assert [line for line in node.log() if line["level"] == "warning"] == []


def test_we_give_up_a_lock_that_host_local_never_lets_go(pair: Pair) -> None:
    """A host-local that is stuck with its lock costs a call bounded time and a warning; the leak stays until it goes on."""
    node = pair.node
    live, stale = pair.add(node.pod("live")), pair.leak()
    theirs = host_local_holding(pair, "stuck")
    node.plugin("ADD", pair.head, netns=node.pod(), container_id=container_id("next")).check()
    assert pair.held() == {live, stale}
    assert "host-local's lock" in node.log("sweep-skipped")[-1]["reason"]
    theirs.go_on()
    pair.reap()
    assert stale not in pair.held()
    assert live in pair.held()
