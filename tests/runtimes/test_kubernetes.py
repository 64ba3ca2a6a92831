"""packaging/kubernetes: what kustomize makes of it is what a cluster takes, and what a real kubelet then runs on a node."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cni_reaper_plugin import __version__
from tests.runtimes import programs
from tests.runtimes.chain import NETWORK, Control, chain, owners
from tests.runtimes.containerd import Containerd
from tests.runtimes.kubelet import Kubelet
from tests.runtimes.kubernetes import pod, rendered
from tests.support.cni_calls import BIN, NET_D
from tests.support.node import Node
from tests.support.waiting import until

PLATFORMS = ("kubeadm", "rke2", "k3s")
DIRECTORIES = {
    "kubeadm": ("/opt/cni/bin", "/etc/cni/net.d"),
    "rke2": ("/opt/cni/bin", "/etc/cni/net.d"),
    "k3s": ("/var/lib/rancher/k3s/data/cni", "/var/lib/rancher/k3s/agent/etc/cni/net.d"),
}
FILE = f"{NET_D}/{NETWORK}.conflist"
CNI_DIR = "/var/lib/cni"


def containers(overlay: str) -> list[dict[str, Any]]:
    """Return all containers of the pod."""
    return [*pod(overlay)["initContainers"], *pod(overlay)["containers"]]


@pytest.mark.parametrize("overlay", [*PLATFORMS, *(f"{platform}-uninstall" for platform in PLATFORMS)])
def test_manifests_fit_the_published_schemas(overlay: str, tmp_path: Path) -> None:
    """The API server's own schemas take it, of the oldest version that the tool has and of the newest."""
    manifest = tmp_path / "daemonset.yaml"
    manifest.write_text(rendered(overlay))
    assert yaml.safe_load(rendered(overlay))["kind"] == "DaemonSet"
    for version in ("1.23", "1.30"):
        ran = validated(manifest, version)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    manifest.write_text(rendered(overlay).replace("hostNetwork: true", "hostNetwork: sometimes"))
    assert validated(manifest, "1.30").returncode != 0


def validated(manifest: Path, version: str) -> subprocess.CompletedProcess[str]:
    """Have a manifest looked at by the schemas of a version of Kubernetes."""
    argv: list[str | Path] = [programs.place("CNI_REAPER_KUBECTL_VALIDATE"), "--version", version, manifest]
    return subprocess.run(argv, capture_output=True, check=False, text=True, env={"HOME": str(manifest.parent)})


@pytest.mark.parametrize("platform", PLATFORMS)
def test_daemonset_may_do_no_more_than_it_needs(platform: str) -> None:
    """Four directories of the node, at their own paths, and nothing else: no token, no writable root, three capabilities."""
    spec = pod(platform)
    every = [*DIRECTORIES[platform], CNI_DIR, "/run/cni-reaper"]
    assert [volume["hostPath"]["path"] for volume in spec["volumes"]] == every
    assert spec["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in spec
    assert [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]] == every
    assert [mount["mountPath"] for mount in spec["initContainers"][0]["volumeMounts"]] == [every[0], CNI_DIR]
    for one in containers(platform):
        confined = one["securityContext"]
        assert confined["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"]}
        assert confined["readOnlyRootFilesystem"] is True
        assert confined["allowPrivilegeEscalation"] is False
        assert one["image"] == f"localhost/cni-reaper:{__version__}"
        mounted = {mount["mountPath"] for mount in one["volumeMounts"]}
        assert {argument for argument in one["args"] if argument.startswith("/")} <= mounted


@pytest.mark.parametrize("platform", PLATFORMS)
def test_uninstall_mounts_the_same_directories(platform: str) -> None:
    """The same directories, each at its own path."""
    spec = pod(f"{platform}-uninstall")
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in spec["volumes"]}
    assert list(paths.values()) == [*DIRECTORIES[platform], CNI_DIR, "/run/cni-reaper"]
    for one in containers(f"{platform}-uninstall"):
        assert all(mount["mountPath"] == paths[mount["name"]] for mount in one["volumeMounts"])


@pytest.fixture
def bare(node: Node) -> Node:
    """A node with a conflist and without us."""
    chain(node, False)
    node.path(f"{BIN}/cni-reaper").unlink()
    return node


@pytest.fixture
def kubelet(bare: Node) -> Kubelet:
    """A kubelet that runs, and has the image."""
    made = Kubelet(bare, Containerd(bare))
    made.begin()
    bare.path("/run/image.tar").write_bytes(programs.place("CNI_REAPER_IMAGE").read_bytes())
    made.containerd.ctr("-n", "k8s.io", "images", "import", "/run/image.tar")
    return made


def has_us(node: Node) -> bool:
    """Tell whether our entry is in the conflist."""
    return '"cni-reaper"' in node.read(FILE)


def test_static_pod_installs_answers_and_leaves(bare: Node, kubelet: Kubelet) -> None:
    """The DaemonSet's pod, by a real kubelet: it installs, pods start through us, a rewrite is answered, its end changes nothing.

    With the uninstall overlay its end takes us out, and the pods that we have let start live on.
    """
    original = bare.path(FILE).read_bytes()
    broken = bare.path(f"{CNI_DIR}/results/{NETWORK}-{'d' * 64}-eth0")
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_bytes(b"")
    kubelet.place("cni-reaper", pod("kubeadm"))
    until(lambda: has_us(bare), "the entry is in the conflist", 60)
    until(lambda: not broken.exists(), "the watcher has removed what keeps a pod from ending", 150)
    until(lambda: '"cni-reaper"' in kubelet.containerd.conflists(), "containerd has read it")
    kubelet.place("a")
    control = Control(bare, *_owner(bare, kubelet.wait_ready("a")))
    assert len(bare.records(NETWORK)) == 1
    for _ in range(3):
        chain(bare, False)
        until(lambda: has_us(bare), "the entry is back")
    kubelet.take("cni-reaper")
    until(lambda: "cni-reaper" not in kubelet.listed(), "the pod is gone", 60)
    assert has_us(bare)
    kubelet.place("cni-reaper", pod("kubeadm-uninstall"))
    until(lambda: "cni-reaper" in kubelet.ready(), "it runs", 60)
    kubelet.take("cni-reaper")
    until(lambda: not has_us(bare), "the entry is out", 60)
    until(lambda: "cni-reaper" not in kubelet.listed(), "the pod is gone", 60)
    assert bare.path(FILE).read_bytes() == original
    assert bare.path(f"{BIN}/cni-reaper").exists(), "a runtime may still call it for the pod's DEL"
    until(lambda: '"cni-reaper"' not in kubelet.containerd.conflists(), "containerd has read it")
    control.check()
    kubelet.place("b")
    kubelet.wait_ready("b")
    kubelet.take("a")
    until(lambda: owners(bare) == {_owner(bare, kubelet.ready()["b"])[0]}, "a's address is free", 60)


def _owner(node: Node, address: str) -> tuple[str, str]:
    return node.reservations(NETWORK)[address][0], address
