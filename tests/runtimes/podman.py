"""Podman with its CNI backend in a private node."""

import json

from tests.runtimes import image, programs
from tests.support.cni_calls import BIN, NET_D
from tests.support.commands import Ran
from tests.support.node import Node

CONF = f"""
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]
[network]
network_backend = "cni"
cni_plugin_dirs = ["{BIN}"]
network_config_dir = "{NET_D}"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
"""
"""ulimits: a machine without CAP_SYS_RESOURCE may not raise them."""
_FILE = "/etc/cni/containers.conf"


class Podman:
    """One Podman of a node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        node.write(_FILE, CONF)
        node.write("/etc/cni/policy.json", json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        node.path("/opt/cni/pause.tar").write_bytes(image.archive(programs.place("CNI_REAPER_PAUSE")))
        self("load", "-i", "/opt/cni/pause.tar").check()

    def __call__(self, *arguments: str) -> Ran:
        """Run a command of podman."""
        policy = ("--signature-policy", "/etc/cni/policy.json") if arguments[0] == "load" else ()
        return self.node.run(
            ["podman", "--log-level", "warn", arguments[0], *policy, *arguments[1:]], env={"CONTAINERS_CONF": _FILE}, timeout=120
        )

    def run(self, name: str, network: str, *options: str, serves: str = "") -> str:
        """Start a container; return its ID. options: of podman run; serves: a text with which it answers on port 80."""
        argv = ["run", "-d", "--name", name, "--network", network, *options, image.NAME, *([serves] if serves else [])]
        return self(*argv).check().out.decode().strip()
