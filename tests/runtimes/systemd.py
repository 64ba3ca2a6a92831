"""A real systemd, as PID 1 of a container of Podman's, in a root of its own (debootstrap) that the test sees as a directory."""

import json
from pathlib import Path
from typing import Self

from tests.runtimes import programs
from tests.support.cni_calls import bridge, host_local
from tests.support.commands import Ran
from tests.support.node import Node
from tests.support.node_files import Conf
from tests.support.waiting import until

CONF = """
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
"""
"""ulimits: a machine without CAP_SYS_RESOURCE may not raise them."""
MAY = ("--cap-add=SYS_ADMIN,NET_ADMIN,SYS_PTRACE", "--security-opt=seccomp=unconfined")
"""What a unit's own sandbox needs of the container: mounts, namespaces, a system call filter."""
_FILE = "/etc/cni/containers.conf"
_NAME = "systemd"


class Systemd:
    """The system below `root`; a context manager, in which it is booted."""

    def __init__(self, node: Node, root: Path) -> None:
        self.node = node
        self.root = root
        node.run(["cp", "-a", str(programs.place("CNI_REAPER_SYSTEMD")), str(root)]).check()
        node.write(_FILE, CONF)

    def __enter__(self) -> Self:
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        self.halt()

    def boot(self) -> None:
        """Start the system, and wait until all its jobs are done."""
        what = ("--systemd=always", "--rootfs", str(self.root), "/usr/lib/systemd/systemd")
        self._podman("run", "-d", f"--name={_NAME}", "--network=none", *MAY, *what).check()
        until(lambda: self("systemctl", "is-system-running").text.strip() in ("running", "degraded"), "it is up")

    def halt(self) -> None:
        """Stop it, as a shutdown does; its files stay."""
        self._podman("rm", "--force", "--time=20", _NAME).check()

    def __call__(self, *command: str) -> Ran:
        """Run a command in the system."""
        return self._podman("exec", _NAME, *command)

    def state(self, unit: str, what: str) -> str:
        """Return a property of a unit."""
        return self("systemctl", "show", "--value", f"--property={what}", unit).check().text.strip()

    def path(self, inside: str) -> Path:
        """Return a path that leads to a file of the system."""
        return self.root / inside.lstrip("/")

    def _podman(self, *arguments: str) -> Ran:
        return self.node.run(["podman", "--log-level", "warn", *arguments], env={"CONTAINERS_CONF": _FILE}, timeout=60)


NET_D = "/etc/cni/net.d"
FILE = f"{NET_D}/10-net.conflist"
LIST: Conf = {"cniVersion": "1.0.0", "name": "net", "plugins": [bridge(host_local("10.66.0.0/29"))]}


def write(system: Systemd) -> None:
    """Write the conflist in place, as a platform does."""
    system.path(FILE).write_text(json.dumps(LIST, indent=2))


def has_us(system: Systemd) -> bool:
    """Tell whether our entry is in the conflist."""
    return b'"type": "cni-reaper"' in system.path(FILE).read_bytes()


def comes_back(system: Systemd, how: str) -> None:
    """Wait until our entry is back."""
    until(lambda: has_us(system), f"back after {how}")


def rests(system: Systemd) -> None:
    """Wait until the service has ended, and well."""
    until(lambda: system.state("cni-reaper-install.service", "ActiveState") in ("inactive", "failed"), "it ends")
    assert system.state("cni-reaper-install.service", "Result") == "success"
