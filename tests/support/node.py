"""Private nodes: a whole CNI node in its own namespaces, cheap enough for one per test.

    with Node(find_programs()) as node:
        node.conflist("net", [reaper(), bridge(host_local("10.55.0.0/29"))])
        pod = node.pod()
        node.cnitool("add", "net", pod).check()
        node.reservations("net")        # {"10.55.0.2": ("cnitool-…", "eth0")}

A node has its own mount, network, PID, IPC and UTS namespaces. It sees none of the machine's processes, network
namespaces, links or iptables, and nothing that happens in it touches them:

    /run, /var/lib, /var/log, /etc/cni, /opt/cni, /dev/shm  empty file systems of its own (/run is shared, as on a host)
    /run/netns/<name>                                    the pods' network namespaces
    /etc/cni/net.d/<network>.conflist                    what cnitool reads
    /opt/cni/bin                                         CNI_PATH: symlinks to the reference plugins and to cni-reaper
    /proc/sys/kernel/random/boot_id                      its own, so that `reboot` can change it

Everything else (/usr, /tmp, this tree) is the machine's. The node ends, with all its processes and mounts, when it is
closed or when the test process ends, however it ends. See tests.support.agent for how.
"""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.cni_calls import BIN, CniCalls, Pod
from tests.support.commands import HANG_S, Command, Ran, command
from tests.support.programs import ROOT, Programs

NETNS_DIR = "/run/netns"


class NodeError(Exception):
    """A node could not be made, or its agent failed; holds the agent's traceback."""


class Launcher:
    """The process that forks nodes; one for each test process and user, started when the first node is asked for."""

    _running: "Launcher | None" = None

    def __init__(self) -> None:
        self._door, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.agent"], stdin=theirs.fileno(), cwd=ROOT, start_new_session=True
            )
        atexit.register(self.close)

    @classmethod
    def running(cls) -> "Launcher":
        """Return the launcher of this process."""
        if cls._running is None:
            cls._running = cls()
        return cls._running

    def launch(self, rootless: bool, root: Path | None = None) -> Connection:
        """Order a node, return the socket to it."""
        ours, theirs = socket.socketpair()
        order = f"{'rootless' if rootless else 'root'} {root or ''}"
        with theirs:
            socket.send_fds(self._door, [order.encode()], [theirs.fileno()])
        return Connection(ours.detach())

    def close(self) -> None:
        """End the launcher; nodes end with their own sockets."""
        self._door.close()
        self._process.wait(timeout=HANG_S)


class Node(CniCalls):
    """A private node; a context manager. `plugins` says which reference plugins are in its CNI_PATH."""

    def __init__(
        self, programs: Programs, plugins: str = "1.9.1", *, rootless: bool | None = None, root: Path | None = None
    ) -> None:
        """Make the node.

        Args:
            programs: what runs in it.
            plugins: version of the reference plugins, "1.9.1" or "1.1.1".
            rootless: in a user namespace of its own; by default when this process may not make nodes otherwise.
            root: a directory with another system, which becomes the node's root; it is not written to. The programs are copied
                into the node, and nothing of the machine is in it.

        Raises:
            NodeError: the kernel does not grant the namespaces.
        """
        self.programs = programs
        self._pods = 0
        self._root = root
        self.cnitool_path = "/usr/local/bin/cnitool" if root else str(programs.cnitool)
        self._connection = Launcher.running().launch(not _privileged() if rootless is None else rootless, root)
        self._init = 0
        for _ in ("init", "ready"):
            what, value = self._receive()
            if what == "init":
                self._init = value
        if root:
            self._put(programs.cnitool, self.cnitool_path)
        self.use_plugins(plugins)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the node, and return when its last process has ended."""
        if self._connection.closed:
            return
        handle = os.dup(self._connection.fileno())
        self._connection.close()
        with socket.socket(fileno=handle) as door:
            door.shutdown(socket.SHUT_WR)
            door.settimeout(HANG_S)
            while door.recv(65536):
                pass

    def use_plugins(self, version: str) -> None:
        """Fill /opt/cni/bin with the reference plugins of a version and cni-reaper; in a root of its own they are copies."""
        for entry in self.path(BIN).iterdir():
            entry.unlink()
        for binary in self.programs.version(version).iterdir():
            self._put(binary, f"{BIN}/{binary.name}")
        self._put(self.programs.reaper, f"{BIN}/cni-reaper")

    def _put(self, program: Path, inside: str) -> None:
        place = self.path(inside)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        if self._root:
            shutil.copy(program, place)
        else:
            place.symlink_to(program)

    # Files

    def path(self, inside: str) -> Path:
        """Return the path by which this process reaches a file of the node.

        An absolute symlink on the way leads to the machine's file, not to the node's: use /run, not /var/run.
        """
        return Path(f"/proc/{self._init}/root{inside}")

    # Processes

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        timeout: float = HANG_S,
        cwd: str = "/",
        netns: "Pod | str | None" = None,
    ) -> Ran:
        """Run a command in the node.

        Args:
            argv: the command.
            env: added to a small base environment (PATH, HOME, LANG); nothing of this process' environment is passed.
            stdin: bytes for standard input, else /dev/null.
            timeout: seconds after which its process group is killed and `rc` is None.
            cwd: working directory.
            netns: run it in this network namespace (a Pod or a path).
        """
        return self.together([command(argv, env=env, stdin=stdin, timeout=timeout, cwd=cwd, netns=netns)])[0]

    def together(self, commands: Sequence[Command]) -> list[Ran]:
        """Start several commands at once (see `command`, `plugin_command`, `cnitool_command`) and wait for all."""
        results = self._ask("run", commands=commands)
        return [Ran(one["argv"], *result) for one, result in zip(commands, results, strict=True)]

    def start(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, netns: "Pod | str | None" = None) -> int:
        """Start a background process, return its PID in the node; it ends with the node at the latest."""
        pid: int = self._ask("start", command=command(argv, env=env, netns=netns))
        return pid

    def stop(self, pid: int, number: int = signal.SIGKILL) -> int:
        """Send a signal to a process of `start` and wait for its end; return its exit code."""
        rc: int = self._ask("stop", pid=pid, number=int(number))
        return rc

    def wait(self, pid: int) -> int:
        """Wait for the end of a process of `start`; return its exit code."""
        return self.stop(pid, 0)

    # Network

    def pod(self, name: str | None = None) -> Pod:
        """Create a network namespace in /run/netns, with a name that no runtime gives twice unless one is given."""
        self._pods += 1
        name = name or f"cni-3f2b8c1e-9d47-4a6b-8e05-{self._pods:012x}"
        return Pod(self, name, self.create_netns(f"{NETNS_DIR}/{name}"))

    def create_netns(self, path: str) -> str:
        """Create a network namespace at a path, as `ip netns add` does; return the path. IPv6 DAD is off in it."""
        self._ask("create_netns", path=path)
        return path

    def delete_netns(self, path: str) -> None:
        """Detach and unlink a network namespace."""
        self._ask("delete_netns", path=path)

    def links(self, netns: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the links of the node, or of a namespace by path: name -> {mac, up, mtu, kind, master}."""
        links: dict[str, dict[str, Any]] = self._ask("links", path=netns)
        return links

    def addresses(self, netns: str | None = None) -> dict[str, list[str]]:
        """Return the addresses by interface ("10.1.0.2/24"), without IPv6 link-local ones."""
        found: dict[str, list[str]] = self._ask("addresses", path=netns)
        return {name: [one for one in ours if not one.startswith("fe80:")] for name, ours in found.items()}

    def add_address(self, ifname: str, address: str, netns: str | None = None) -> None:
        """Configure an address ("10.1.0.2/24") on an interface."""
        self._ask("change_address", path=netns, verb="add", ifname=ifname, address=address)

    def delete_address(self, ifname: str, address: str, netns: str | None = None) -> None:
        """Take an address off an interface."""
        self._ask("change_address", path=netns, verb="del", ifname=ifname, address=address)

    def add_link(self, ifname: str, kind: str, netns: str | None = None, **options: Any) -> None:
        """Create a link and set it up; a veth pair takes its other end's name as peer="…"."""
        self._ask("add_link", path=netns, ifname=ifname, kind=kind, options=options)

    def change_link(self, ifname: str, netns: str | None = None, **options: Any) -> None:
        """Set attributes of a link (state="down", mtu=…)."""
        self._ask("change_link", path=netns, ifname=ifname, options=options)

    def delete_link(self, ifname: str, netns: str | None = None) -> None:
        """Delete a link."""
        self._ask("delete_link", path=netns, ifname=ifname)

    def answers(self, address: str, netns: str | None = None) -> bool:
        """Tell whether an address answers over the network, from the node or from a namespace."""
        answers: bool = self._ask("answers", address=address.partition("/")[0], path=netns)
        return answers

    def iptables(self) -> str:
        """Return the rules and chains of iptables and ip6tables, without counters and comments, as text."""
        lines: list[str] = []
        for program in ("iptables-save", "ip6tables-save"):
            saved = self.run([program]).check().out.decode()
            rules = (line.partition(" [")[0] for line in saved.splitlines() if not line.startswith("#"))
            lines += [f"{program.removesuffix('-save')}: {rule}" for rule in rules]
        return "\n".join(lines)

    # Mounts and boots

    def mount(self, source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
        """Make the system call of that name in the node; the flags are tests.support.agent.MS_…."""
        self._ask("mount", source=source, target=target, kind=kind, flags=flags, data=data)

    def umount(self, target: str) -> None:
        """Detach a mount in the node (umount2 with MNT_DETACH)."""
        self._ask("umount", target=target)

    @property
    def number(self) -> int:
        """The PID of its init, outside: no other node that runs has it."""
        return self._init

    def own_cgroups(self, below: str) -> None:
        """Give what is started from now on cgroups of its own, `below` those of the machine; whoever asks removes them."""
        self._ask("own_cgroups", below=below)

    def reboot(self) -> None:
        """Lose what a reboot loses: processes, namespaces, links, iptables rules, /run and the boot ID; the disk stays.

        The clocks go on; see `ahead` of `plugin` for other clocks.
        """
        self._ask("reboot")

    # State

    def _ask(self, name: str, **arguments: Any) -> Any:
        self._connection.send((name, arguments))
        return self._receive()[1]

    def _receive(self) -> tuple[str, Any]:
        try:
            what, value = self._connection.recv()
        except EOFError as end:
            message = "the node ended before its answer"
            raise NodeError(message) from end
        if what == "error":
            raise NodeError(value)
        return what, value


def _privileged() -> bool:
    """Tell whether this process has CAP_SYS_ADMIN; root in a container often has not."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return bool(effective & 1 << 21)
