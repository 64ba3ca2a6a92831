"""containerd in a private node, and CRI as the kubelet speaks it."""

import itertools
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc  # type: ignore[import-untyped]  # it ships no types

from tests.runtimes import image, programs
from tests.support.cni_calls import BIN, NET_D
from tests.support.commands import BASE_ENV
from tests.support.node import Node
from tests.support.waiting import until

ROOT_DIR = "/var/lib/containerd"
SOCKET = "/run/containerd/containerd.sock"
LOG = "/var/log/containerd.log"
NEW, NEW_1_7, OLD = "2.3.4", "1.7.35", "1.6.20"
"""libcni 1.3.0 is in the first, 1.1.2 in the others."""
_START_S, _CALL_S = 30, 60

_PLACES = {NEW: "CNI_REAPER_CONTAINERD", NEW_1_7: "CNI_REAPER_CONTAINERD_1_7", OLD: "CNI_REAPER_CONTAINERD_OLD"}
_CONFIG_1 = f"""
version = 2
root = "{ROOT_DIR}"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image.NAME}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{BIN}"
    conf_dir = "{NET_D}"
"""
_CONFIG = {
    NEW: f"""
version = 3
root = "{ROOT_DIR}"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{image.NAME}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{BIN}"]
    conf_dir = "{NET_D}"
""",
    NEW_1_7: _CONFIG_1,
    OLD: _CONFIG_1,
}
"""restrict_oom_score_adj: a machine without CAP_SYS_RESOURCE may not lower the score."""


@dataclass
class Sandbox:
    """A pod's sandbox. id: 64 hex digits, the CNI_CONTAINERID; address: of eth0."""

    id: str
    name: str
    address: str


class Containerd:
    """One containerd of a node, which can be killed and started again; see `runs`."""

    def __init__(self, node: Node, version: str = NEW) -> None:
        self.node = node
        self.version = version
        self._programs = programs.place(_PLACES[version])
        self._process = 0
        self._numbers = itertools.count(1)
        self._channel: Any = None
        node.write("/etc/cni/containerd.toml", _CONFIG[version])  # /etc is the machine's

    @property
    def env(self) -> dict[str, str]:
        """The environment in which its programs find one another."""
        return {"PATH": f"{self._programs}:{BASE_ENV['PATH']}"}

    def start(self, prefix: Sequence[str] = ()) -> None:
        """Start it, and return when it answers and has read a conflist; the pause image is there then. prefix: of its argv."""
        daemon = f"exec {self._programs}/containerd --config /etc/cni/containerd.toml >>{LOG} 2>&1"
        self._process = self.node.start([*prefix, "sh", "-c", daemon], env=self.env)
        self._channel = grpc.insecure_channel(f"unix:{self.node.path(SOCKET)}")
        try:
            grpc.channel_ready_future(self._channel).result(timeout=_START_S)
        except grpc.FutureTimeoutError:
            message = f"containerd does not answer:\n{self.node.read(LOG)[-3000:]}"
            raise AssertionError(message) from None
        self.node.path("/run/pause.tar").write_bytes(image.archive(programs.place("CNI_REAPER_PAUSE")))
        self.ctr("-n", "k8s.io", "images", "import", "/run/pause.tar")
        until(self.is_ready, "containerd has read the conflist", _START_S)

    def is_ready(self) -> bool:
        """Tell whether it says that its network is ready: it has read a conflist."""
        messages, _ = programs.cri()
        conditions = self.runtime().Status(messages.StatusRequest(), timeout=_CALL_S).status.conditions
        return all(one.status for one in conditions if one.type in ("RuntimeReady", "NetworkReady"))

    def conflists(self) -> str:
        """Return what it has read of the conflist directory, as JSON in JSON."""
        messages, _ = programs.cri()
        found: str = self.runtime().Status(messages.StatusRequest(verbose=True), timeout=_CALL_S).info["cniconfig"]
        return found.replace('\\"', '"')

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the daemon; its shims and their pods go on."""
        self._channel.close()
        self.node.stop(self._process, number)

    def ctr(self, *arguments: str) -> str:
        """Run ctr, which has to succeed; return what it prints."""
        return self.node.run(["ctr", "-a", SOCKET, *arguments], env=self.env).check().text

    def runtime(self) -> Any:
        """Return the stub of CRI's RuntimeService."""
        return programs.cri()[1].RuntimeServiceStub(self._channel)

    def run(self, name: str = "", limit_s: float = _CALL_S) -> Sandbox:
        """Start a pod's sandbox, as the kubelet does first for each pod. Raises grpc.RpcError."""
        messages, _ = programs.cri()
        number = next(self._numbers)
        name = name or f"pod-{number}"
        config = messages.PodSandboxConfig(
            metadata=messages.PodSandboxMetadata(name=name, uid=f"uid-{name}-{number}", namespace="default", attempt=number),
            log_directory="/var/log/pods",
            linux=messages.LinuxPodSandboxConfig(),
        )
        made = self.runtime().RunPodSandbox(messages.RunPodSandboxRequest(config=config), timeout=limit_s).pod_sandbox_id
        status = self.runtime().PodSandboxStatus(messages.PodSandboxStatusRequest(pod_sandbox_id=made), timeout=_CALL_S).status
        return Sandbox(made, name, status.network.ip)

    def together(self, count: int) -> list[Sandbox]:
        """Start so many pods at once."""
        with ThreadPoolExecutor(count) as callers:
            return list(callers.map(lambda _: self.run(), range(count)))

    def fails(self, name: str = "") -> str:
        """Try to start a pod that must fail; return what containerd says."""
        try:
            sandbox = self.run(name)
        except grpc.RpcError as e:
            return str(e.details())
        message = f"a pod that should have failed has {sandbox.address}"
        raise AssertionError(message)

    def remove(self, sandbox: str) -> None:
        """Stop and remove a sandbox, as the kubelet does. Raises grpc.RpcError."""
        messages, _ = programs.cri()
        self.runtime().StopPodSandbox(messages.StopPodSandboxRequest(pod_sandbox_id=sandbox), timeout=_CALL_S)
        self.runtime().RemovePodSandbox(messages.RemovePodSandboxRequest(pod_sandbox_id=sandbox), timeout=_CALL_S)

    def remove_together(self, sandboxes: Sequence[Sandbox]) -> None:
        """Stop and remove so many sandboxes at once."""
        with ThreadPoolExecutor(len(sandboxes)) as callers:
            list(callers.map(lambda one: self.remove(one.id), sandboxes))

    def stops_failed(self, sandbox: str) -> list[str]:
        """Return what it has said each time that it could not stop a sandbox."""
        lines = self.node.read(LOG).replace("\\", "").splitlines()
        return [line for line in lines if f'StopPodSandbox for "{sandbox}" failed' in line]

    def listed(self) -> list[str]:
        """Return the IDs of all sandboxes that it knows, ready or not."""
        messages, _ = programs.cri()
        return [one.id for one in self.runtime().ListPodSandbox(messages.ListPodSandboxRequest(), timeout=_CALL_S).items]
