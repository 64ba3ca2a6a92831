"""A kubelet in a private node, standalone: its pods are the files of a directory, and it asks containerd for them."""

import json
import signal
import sys
from typing import Any

from tests.runtimes import image, programs
from tests.runtimes.chain import MISSING, chain
from tests.runtimes.containerd import LOG as CONTAINERD_LOG
from tests.runtimes.containerd import SOCKET, Containerd
from tests.support import agent
from tests.support.node import Node
from tests.support.node_files import Conf
from tests.support.waiting import until

HOME = "/var/lib/kubelet"
MANIFESTS = f"{HOME}/manifests"
LOG = "/var/log/kubelet.log"
_CONFIG_FILE = f"{HOME}/config.json"
_READ_ONLY_PORT = 10255
_START_S = 60

_CONFIG = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "address": "127.0.0.1",
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "cgroupDriver": "cgroupfs",
    "containerRuntimeEndpoint": f"unix://{SOCKET}",
    "enforceNodeAllocatable": [],
    "failCgroupV1": False,
    "failSwapOn": False,
    "fileCheckFrequency": "1s",
    "localStorageCapacityIsolation": False,
    "makeIPTablesUtilChains": False,
    "podLogsDir": "/var/log/pods",
    "readOnlyPort": _READ_ONLY_PORT,
    "staticPodPath": MANIFESTS,
    "syncFrequency": "5s",
}
_SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
"""What a kubelet sets unless it is so already. These are the whole machine's, so the node is shown that they are."""
_ASK = (
    f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{_READ_ONLY_PORT}/pods', timeout=10).read().decode())"
)


def pod_spec(**container: Any) -> Conf:
    """Return the PodSpec of our pause program. container: more of its container: args, ports."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "pause", "image": image.NAME, "imagePullPolicy": "Never", **container}],
    }


class Kubelet:
    """One kubelet of a node, and the containerd below it."""

    def __init__(self, node: Node, containerd: Containerd) -> None:
        self.node = node
        self.containerd = containerd
        self._failed_before = 0
        self._process = 0
        node.write(_CONFIG_FILE, json.dumps(_CONFIG))
        node.path(MANIFESTS).mkdir()
        for name, value in _SYSCTLS.items():
            shown = f"/opt/cni/sys/{name}"
            node.write(shown, f"{value}\n")
            node.mount(shown, f"/proc/sys/{name}", flags=agent.MS_BIND)

    def begin(self) -> None:
        """Start containerd and the kubelet, as after a boot."""
        self.containerd.start()
        self.start()

    def start(self) -> None:
        """Start it, and return when it answers; containerd runs already."""
        program = programs.place("CNI_REAPER_KUBELET")
        options = f"--config {_CONFIG_FILE} --root-dir {HOME} --cert-dir {HOME}/pki --hostname-override node"
        self._process = self.node.start(["sh", "-c", f"exec {program} {options} >>{LOG} 2>&1"])
        try:
            until(lambda: self._pods() is not None, "the kubelet answers", _START_S)
        except AssertionError as e:
            message = f"{e}\n{self.node.read(LOG)[-3000:]}"
            raise AssertionError(message) from None

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it; its pods go on."""
        self.node.stop(self._process, number)

    def place(self, name: str, spec: Conf | None = None) -> None:
        """Give it a static pod: one that does nothing, or of a PodSpec."""
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec or pod_spec()}
        new = f"{HOME}/{name}.json"
        self.node.write(new, json.dumps(pod))
        self.node.path(new).rename(self.node.path(f"{MANIFESTS}/{name}.json"))

    def take(self, name: str) -> None:
        """Take a static pod away."""
        self.node.path(f"{MANIFESTS}/{name}.json").unlink()

    def break_chain(self, *, us: bool) -> None:
        """Let a later plugin be missing."""
        chain(self.node, us, MISSING)
        until(lambda: MISSING["type"] in self.containerd.conflists(), "containerd has read the conflist", 30)

    def repair_chain(self, *, us: bool) -> None:
        """Write the conflist as it should be; from here on `failures` are counted."""
        chain(self.node, us)
        until(
            lambda: MISSING["type"] not in self.containerd.conflists() and ('"cni-reaper"' in self.containerd.conflists()) == us,
            "containerd has read the conflist",
            30,
        )
        self._failed_before = len(self._failed())

    def failures(self, why: str) -> int:
        """Return how many sandboxes have failed for a reason since the chain was repaired."""
        return sum(why in line for line in self._failed()[self._failed_before :])

    def _failed(self) -> list[str]:
        """Return containerd's lines about sandboxes that have failed."""
        return [line for line in self.node.read(CONTAINERD_LOG).splitlines() if "RunPodSandbox for" in line and "failed" in line]

    def ready(self) -> dict[str, str]:
        """Return the addresses of the pods that are Ready, by the name in their manifest; "" for one in the node's own netns."""
        return {
            pod["metadata"]["name"].removesuffix("-node"): pod["status"].get("podIP", "")
            for pod in self._pods() or ()
            if any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))
        }

    def listed(self) -> set[str]:
        """Return the names of the pods that it knows, in their manifests."""
        return {pod["metadata"]["name"].removesuffix("-node") for pod in self._pods() or ()}

    def wait_ready(self, name: str, limit_s: float = 120) -> str:
        """Wait until a pod is Ready; return its address."""
        try:
            address: str = until(lambda: self.ready().get(name), f"pod {name} is Ready", limit_s)
        except AssertionError as e:
            message = f"{e}\n{self.node.read(LOG)[-3000:]}"
            raise AssertionError(message) from None
        return address

    def _pods(self) -> list[dict[str, Any]] | None:
        ran = self.node.run([sys.executable, "-I", "-S", "-c", _ASK])
        if ran.rc != 0:
            return None
        pods: list[dict[str, Any]] = ran.json()["items"] or []
        return pods
