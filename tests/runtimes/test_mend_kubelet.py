"""After a power cut no pod comes back: its old sandbox cannot be ended. What brings the pods back, each alone.

See tests.runtimes.power_cut for the cut. In each test the pods are first seen to hang.
"""

import pytest

from tests.runtimes import programs
from tests.runtimes.containerd import NEW, NEW_1_7, OLD, Containerd
from tests.runtimes.kubelet import Kubelet
from tests.runtimes.kubernetes import pod
from tests.runtimes.power_cut import PowerCut, flannel_chain
from tests.support.cni_calls import BIN
from tests.support.node import Node
from tests.support.programs import strict_readers
from tests.support.waiting import until

DAEMON = "cni-reaper"


@pytest.fixture(params=[OLD, NEW_1_7, NEW])
def kubelet(node: Node, request: pytest.FixtureRequest) -> Kubelet:
    """A kubelet above a containerd, not started, with flannel's plugin installed."""
    node.path(f"{BIN}/flannel").symlink_to(strict_readers()[1])
    return Kubelet(node, Containerd(node, request.param))


def has_read(kubelet: Kubelet) -> bool:
    """Tell whether containerd has read a conflist with our entry."""
    return '"cni-reaper"' in kubelet.containerd.conflists()


def test_next_pod_brings_the_others_back(kubelet: Kubelet) -> None:
    """Without us they hang, whatever else starts. Then we are put at the head, and the next pod's ADD brings all back."""
    node = kubelet.node
    flannel_chain(node, us=False)
    cut = PowerCut(kubelet)
    cut.happen()
    kubelet.place("other")
    kubelet.wait_ready("other")
    cut.assert_hangs("other")
    flannel_chain(node, us=True)
    until(lambda: has_read(kubelet), "containerd has read the conflist", 30)
    cut.wait_until_old()
    broken = cut.left
    kubelet.place("next")
    kubelet.wait_ready("next")
    assert sorted(line["file"] for line in node.log("cache-removed")) == sorted(broken)
    cut.assert_back("other", "next")


def test_units_command_brings_all_pods_back(kubelet: Kubelet) -> None:
    """No pod starts, so no ADD comes: what the systemd unit runs brings all back."""
    node = kubelet.node
    flannel_chain(node, us=True)
    cut = PowerCut(kubelet)
    cut.happen()
    cut.assert_hangs()
    cut.wait_until_old()
    broken = cut.left
    said = node.run([f"{BIN}/cni-reaper", "mend"]).check().text
    assert all(file in said for file in broken), said
    cut.assert_back()


def test_daemonsets_pod_brings_the_others_back(kubelet: Kubelet) -> None:
    """No other pod starts: that of the DaemonSet does, since it uses the host's network, and brings all back."""
    node = kubelet.node
    flannel_chain(node, us=False)
    node.path(f"{BIN}/cni-reaper").unlink()
    cut = PowerCut(kubelet)
    node.path("/run/image.tar").write_bytes(programs.place("CNI_REAPER_IMAGE").read_bytes())
    kubelet.containerd.ctr("-n", "k8s.io", "images", "import", "/run/image.tar")
    kubelet.place(DAEMON, pod("kubeadm"))
    until(lambda: has_read(kubelet), "it is installed", 60)
    kubelet.take(DAEMON)
    until(lambda: DAEMON not in kubelet.listed(), "its pod is gone", 60)
    cut.happen()
    cut.assert_hangs()
    cut.wait_until_old()
    kubelet.place(DAEMON, pod("kubeadm"))
    cut.assert_back(DAEMON)
