"""A node from install to uninstall, with containerd and the kubelet at work: no pod fails, no address leaks."""

import signal
from pathlib import Path

from tests.runtimes.chain import EXHAUSTED, NETWORK, Control, chain, held, owners
from tests.runtimes.containerd import LOG as CONTAINERD_LOG
from tests.runtimes.containerd import Containerd
from tests.runtimes.kubelet import Kubelet
from tests.support.cni_calls import BIN, NET_D
from tests.support.install import another_build, executable
from tests.support.node import Node
from tests.support.waiting import until

FILE = f"{NET_D}/{NETWORK}.conflist"
POOL = "10.88.0.0/28"
UPGRADES = 6


def rewrite(node: Node, original: bytes) -> None:
    """Write the conflist as a platform does that renames."""
    new = node.path(f"{NET_D}/.platform")
    new.write_bytes(original)
    new.rename(node.path(FILE))


def has_us(node: Node) -> bool:
    """Tell whether our entry is in the conflist."""
    return '"cni-reaper"' in node.read(FILE)


def test_install_upgrade_rewrite_uninstall_fail_no_pod(node: Node, tmp_path: Path) -> None:
    """Pods start and end while the executable is changed for another build, again and again, and while the platform rewrites."""
    chain(node, False, pool=POOL)
    original = node.path(FILE).read_bytes()
    node.path(f"{BIN}/cni-reaper").unlink()
    kubelet = Kubelet(node, Containerd(node))
    kubelet.begin()
    kubelet.place("before")
    before = kubelet.wait_ready("before")
    builds = [executable(node), another_build(node, tmp_path / "another")]
    node.run([builds[0], "install"]).check()
    until(lambda: '"cni-reaper"' in kubelet.containerd.conflists(), "containerd has read it")
    kubelet.place("control")
    address = kubelet.wait_ready("control")
    control = Control(node, node.reservations(NETWORK)[address][0], address)
    for number in range(9, 12):
        node.reserve(NETWORK, f"10.88.0.{number}", f"{number:x}" * 64)  # leaks
    installed = set()
    for number in range(1, UPGRADES + 1):
        kubelet.place(f"pod-{number}")
        node.run([builds[number % 2], "install"]).check()
        installed.add(node.path(f"{BIN}/cni-reaper").read_bytes())
        if number > 2:
            kubelet.take(f"pod-{number - 2}")
        kubelet.wait_ready(f"pod-{number}")
    assert len(installed) == 2
    watcher = node.start([f"{BIN}/cni-reaper", "install", "--watch"])
    for number in range(1, 4):
        kubelet.place(f"rewritten-{number}")
        rewrite(node, original)
        until(lambda: has_us(node), "our entry is back")
        kubelet.wait_ready(f"rewritten-{number}")
    assert node.stop(watcher, signal.SIGTERM) == 0
    node.run([f"{BIN}/cni-reaper", "uninstall"]).check()
    assert node.path(FILE).read_bytes() == original
    kubelet.place("after")
    after = kubelet.wait_ready("after")
    for name in ("pod-5", "pod-6", "rewritten-1", "rewritten-2", "rewritten-3"):
        kubelet.take(name)
    until(lambda: held(node) == {before, address, after}, "the others' addresses are free", 60)
    assert control.owner in owners(node)
    control.check()
    assert kubelet.failures("") == 0
    assert EXHAUSTED not in node.read(CONTAINERD_LOG)
    node.run([builds[1], "uninstall", "--purge"]).check()
    assert not node.path(f"{BIN}/cni-reaper").exists()
