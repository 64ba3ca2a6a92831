"""Private nodes: a whole CNI node in its own namespaces, cheap enough for one per test.

    with Node(neighbours.find()) as node:
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
closed or when the test process ends, however it ends. See tests.inside for how.
"""

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.neighbours import ROOT, Neighbours

Conf = dict[str, Any]

NET_D = "/etc/cni/net.d"
BIN = "/opt/cni/bin"
NETNS_DIR = "/run/netns"
DATA_DIR = "/var/lib/cni/networks"
STATE_DIR = "/var/lib/cni/reaper"
LOG_FILE = "/var/log/cni-reaper.log"
HANG_S = 600.0
"""Seconds after which something counts as hung. No test depends on how fast anything is, so that a busy machine fails none."""
BASE_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "LANG": "C.UTF-8"}


class NodeError(Exception):
    """A node could not be made, or its agent failed; holds the agent's traceback."""


@dataclass(frozen=True)
class Ran:
    """What a command did. `rc` is None when it ran into its timeout and was killed."""

    argv: Sequence[str]
    rc: int | None
    out: bytes
    err: bytes
    seconds: float

    def __str__(self) -> str:
        text = f"{' '.join(self.argv)}\n  exit code {self.rc} after {self.seconds:.3f} s"
        for name, stream in (("stdout", self.out), ("stderr", self.err)):
            if stream:
                text += f"\n  {name}: {stream.decode(errors='replace').strip()}"
        return text

    def check(self) -> Self:
        """Fail the test, showing everything, unless the exit code is 0; return self."""
        assert self.rc == 0, str(self)
        return self

    def json(self) -> Any:
        """Parse stdout as JSON."""
        return json.loads(self.out)

    @property
    def text(self) -> str:
        """Stdout and stderr as text, for a look at messages."""
        return (self.out + self.err).decode(errors="replace")


@dataclass(frozen=True)
class Pod:
    """A named network namespace of a node, and the container ID that goes with it."""

    node: "Node"
    name: str
    path: str

    @property
    def container_id(self) -> str:
        """The ID that cnitool gives: "cnitool-" and the first 10 bytes of the SHA-512 of the path, in hex."""
        return "cnitool-" + hashlib.sha512(self.path.encode()).digest()[:10].hex()

    def addresses(self, ifname: str = "eth0") -> list[str]:
        """Addresses ("10.1.0.2/24") on an interface, without IPv6 link-local ones; [] when there is no interface."""
        return self.node.addresses(self.path).get(ifname, [])

    def links(self) -> dict[str, dict[str, Any]]:
        """Links in the namespace, see Node.links."""
        return self.node.links(self.path)

    def delete(self) -> None:
        """Delete the namespace as `ip netns delete` does: without a CNI DEL this is how addresses leak."""
        self.node.delete_netns(self.path)

    def live(self) -> int:
        """Start a process that lives in the namespace and does nothing; return its PID in the node."""
        return self.node.start(["sleep", "infinity"], netns=self)


def reaper(**options: Any) -> Conf:
    """Return our conflist entry, with a log file."""
    return {"type": "cni-reaper", "logFile": LOG_FILE, **options}


def host_local(*subnets: str, **options: Any) -> Conf:
    """Return an ipam section; several subnets give several addresses (dual stack)."""
    return {"type": "host-local", "ranges": [[{"subnet": subnet}] for subnet in subnets], **options}


def bridge(ipam: Conf, name: str = "cni0", **options: Any) -> Conf:
    """Return an entry of the bridge plugin that is the pods' gateway."""
    return {"type": "bridge", "bridge": name, "isGateway": True, "ipam": ipam, **options}


def ptp(ipam: Conf, **options: Any) -> Conf:
    """Return an entry of the ptp plugin."""
    return {"type": "ptp", "ipam": ipam, **options}


class Nursery:
    """The process that forks nodes; one for each test process and user, started when the first node is asked for."""

    _running: "Nursery | None" = None

    def __init__(self) -> None:
        self._door, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.inside"], stdin=theirs.fileno(), cwd=ROOT, start_new_session=True
            )
        atexit.register(self.close)

    @classmethod
    def running(cls) -> "Nursery":
        """Return the nursery of this process."""
        if cls._running is None:
            cls._running = cls()
        return cls._running

    def bear(self, rootless: bool, root: Path | None = None) -> Connection:
        """Order a node, return the socket to it."""
        ours, theirs = socket.socketpair()
        order = f"{'rootless' if rootless else 'root'} {root or ''}"
        with theirs:
            socket.send_fds(self._door, [order.encode()], [theirs.fileno()])
        return Connection(ours.detach())

    def close(self) -> None:
        """End the nursery; nodes end with their own sockets."""
        self._door.close()
        self._process.wait(timeout=HANG_S)


class Node:
    """A private node; a context manager. `plugins` says which reference plugins are in its CNI_PATH."""

    def __init__(
        self, neighbours: Neighbours, plugins: str = "1.9.1", *, rootless: bool | None = None, root: Path | None = None
    ) -> None:
        """Make the node.

        Args:
            neighbours: the programs.
            plugins: version of the reference plugins, "1.9.1" or "1.1.1".
            rootless: in a user namespace of its own; by default when this process may not make nodes otherwise.
            root: a directory with another system, which becomes the node's root; it is not written to. The programs are copied
                into the node, and nothing of the machine is in it.

        Raises:
            NodeError: the kernel does not grant the namespaces.
        """
        self.neighbours = neighbours
        self._pods = 0
        self._root = root
        self._cnitool = "/usr/local/bin/cnitool" if root else str(neighbours.cnitool)
        self._connection = Nursery.running().bear(not _privileged() if rootless is None else rootless, root)
        self._init = 0
        for _ in ("born", "ready"):
            what, value = self._receive()
            if what == "born":
                self._init = value
        if root:
            self._put(neighbours.cnitool, self._cnitool)
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
        for binary in self.neighbours.version(version).iterdir():
            self._put(binary, f"{BIN}/{binary.name}")
        self._put(self.neighbours.reaper, f"{BIN}/cni-reaper")

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

    def read(self, inside: str) -> str:
        """Return the text of a file of the node."""
        return self.path(inside).read_text()

    def write(self, inside: str, text: str) -> None:
        """Write a file of the node, and the directories above it."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

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

    def together(self, commands: Sequence["Command"]) -> list[Ran]:
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
        """Make the system call of that name in the node; the flags are tests.inside.MS_…."""
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

    # CNI

    def conflist(self, name: str, plugins: Iterable[Conf], cni_version: str = "1.0.0", **more: Any) -> Conf:
        """Write /etc/cni/net.d/<name>.conflist and return its content; an older one of that name is replaced."""
        conf = {"cniVersion": cni_version, "name": name, "plugins": list(plugins), **more}
        self.write(f"{NET_D}/{name}.conflist", json.dumps(conf, indent=2))
        return conf

    def cnitool(
        self,
        verb: str,
        network: str,
        pod: "Pod | str",
        *,
        env: Mapping[str, str] | None = None,
        capabilities: Conf | None = None,
        ifname: str = "eth0",
        timeout: float = HANG_S,
        ahead: int = 0,
        waited: int = 0,
    ) -> Ran:
        """Run cnitool for a pod (or a netns path); see `cnitool_command`."""
        return self.together(
            [
                self.cnitool_command(
                    verb,
                    network,
                    pod,
                    env=env,
                    capabilities=capabilities,
                    ifname=ifname,
                    timeout=timeout,
                    ahead=ahead,
                    waited=waited,
                )
            ]
        )[0]

    def cnitool_command(
        self,
        verb: str,
        network: str,
        pod: "Pod | str",
        *,
        env: Mapping[str, str] | None = None,
        capabilities: Conf | None = None,
        ifname: str = "eth0",
        timeout: float = HANG_S,
        ahead: int = 0,
        waited: int = 0,
    ) -> "Command":
        """Describe a run of cnitool for `together`.

        Args:
            verb: add, check, del, gc or status.
            network: name of the conflist.
            pod: a Pod, or the path of a network namespace.
            env: more variables, CNI_ARGS for instance.
            capabilities: CAP_ARGS, {"portMappings": […]} for instance.
            ifname: name of the interface.
            timeout: in seconds.
            ahead: seconds by which the clocks CLOCK_MONOTONIC and CLOCK_BOOTTIME are ahead. The kernel shows the start of
                PID 1 in that time as well, so to our plugin it is another view.
            waited: seconds by which CLOCK_MONOTONIC alone is ahead, with which owners without a netns are waited for.
        """
        variables = {"NETCONFPATH": NET_D, "CNI_PATH": BIN, "CNI_IFNAME": ifname, **(env or {})}
        if capabilities:
            variables["CAP_ARGS"] = json.dumps(capabilities)
        path = pod if isinstance(pod, str) else pod.path
        argv = [self._cnitool, verb, network, path]
        return command(_in_time(argv, ahead, waited), env=variables, timeout=timeout)

    def plugin(
        self,
        verb: str | None,
        conf: Conf | bytes | None,
        *,
        container_id: str | None = None,
        netns: "Pod | str | None" = None,
        ifname: str | None = "eth0",
        args: str | None = None,
        binary: str = "cni-reaper",
        env: Mapping[str, str | None] | None = None,
        timeout: float = HANG_S,
        ahead: int = 0,
        waited: int = 0,
    ) -> Ran:
        """Run one plugin binary directly, as libcni would; see `plugin_command`."""
        return self.together(
            [
                self.plugin_command(
                    verb,
                    conf,
                    container_id=container_id,
                    netns=netns,
                    ifname=ifname,
                    args=args,
                    binary=binary,
                    env=env,
                    timeout=timeout,
                    ahead=ahead,
                    waited=waited,
                )
            ]
        )[0]

    def plugin_command(
        self,
        verb: str | None,
        conf: Conf | bytes | None,
        *,
        container_id: str | None = None,
        netns: "Pod | str | None" = None,
        ifname: str | None = "eth0",
        args: str | None = None,
        binary: str = "cni-reaper",
        env: Mapping[str, str | None] | None = None,
        timeout: float = HANG_S,
        ahead: int = 0,
        waited: int = 0,
    ) -> "Command":
        """Describe a direct run of a plugin binary for `together`.

        Args:
            verb: CNI_COMMAND; None leaves it out.
            conf: network configuration for stdin: an object, or the very bytes; None is /dev/null.
            container_id: CNI_CONTAINERID; by default that of the Pod in `netns`, if it is one.
            netns: CNI_NETNS: a Pod, or the very text.
            ifname: CNI_IFNAME; None leaves it out.
            args: CNI_ARGS.
            binary: name in /opt/cni/bin, or a path.
            env: further variables; one that is None is left out, whatever it was.
            timeout: in seconds.
            ahead: seconds by which the clocks CLOCK_MONOTONIC and CLOCK_BOOTTIME are ahead. The kernel shows the start of
                PID 1 in that time as well, so to our plugin it is another view.
            waited: seconds by which CLOCK_MONOTONIC alone is ahead, with which owners without a netns are waited for.
        """
        if isinstance(netns, Pod):
            container_id = netns.container_id if container_id is None else container_id
            netns = netns.path
        variables: dict[str, str | None] = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": netns,
            "CNI_IFNAME": ifname,
            "CNI_ARGS": args,
            "CNI_PATH": BIN,
            **(env or {}),
        }
        stdin = conf if isinstance(conf, bytes) or conf is None else json.dumps(conf).encode()
        argv = [binary if "/" in binary else f"{BIN}/{binary}"]
        given = {name: value for name, value in variables.items() if value is not None}
        return command(_in_time(argv, ahead, waited), env=given, stdin=stdin, timeout=timeout)

    # State

    def reservations(self, network: str, data_dir: str = DATA_DIR) -> dict[str, tuple[str, str]]:
        """Return host-local's reservations of a network: address -> (container ID, ifname), "" where there is none."""
        found = {}
        directory = self.path(f"{data_dir}/{network}")
        for name, content in _files_of(directory, lambda name: name != "lock" and not name.startswith("last_reserved_ip")):
            owner, _, ifname = content.decode().strip().partition("\r\n")
            found[name] = (owner, ifname)
        return found

    def reserve(self, network: str, address: str, container_id: str, ifname: str = "eth0") -> None:
        """Write a reservation as host-local would have, without running it."""
        path = self.path(f"{DATA_DIR}/{network}/{address}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{container_id}\r\n{ifname}".encode())

    def records(self, network: str, state_dir: str = STATE_DIR) -> dict[str, Conf]:
        """Return our records of a network: "<container ID>:<ifname>" -> content."""
        directory = self.path(f"{state_dir}/{network}")
        return {name: json.loads(content) for name, content in _files_of(directory, lambda name: ":" in name)}

    def log(self, event: str | None = None, file: str = LOG_FILE) -> list[dict[str, str]]:
        """Return the lines of our log as dictionaries, all or those of one event; the time is in "time"."""
        path = self.path(file)
        lines = [parse_line(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if event in (None, line.get("event"))]

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


Command = dict[str, Any]
"""What `command` returns and `Node.together` takes."""


def _files_of(directory: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files that are wanted: what goes while the directory is read was never there."""
    for file in directory.iterdir() if directory.exists() else ():
        with contextlib.suppress(FileNotFoundError):
            if is_wanted(file.name):
                yield file.name, file.read_bytes()


def command(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    timeout: float = HANG_S,
    cwd: str = "/",
    netns: "Pod | str | None" = None,
) -> Command:
    """Describe a command for `Node.together`; the arguments are those of `Node.run`."""
    if netns is not None:
        argv = ["nsenter", f"--net={netns if isinstance(netns, str) else netns.path}", *argv]
    return {"argv": list(argv), "env": {**BASE_ENV, **(env or {})}, "stdin": stdin, "timeout": timeout, "cwd": cwd}


def _privileged() -> bool:
    """Tell whether this process has CAP_SYS_ADMIN; root in a container often has not."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return bool(effective & 1 << 21)


def _in_time(argv: Sequence[str], ahead: int, waited: int) -> list[str]:
    if not ahead and not waited:
        return list(argv)
    return ["unshare", "--time", "--fork", "--monotonic", str(ahead + waited), "--boottime", str(ahead), *argv]


def parse_line(line: str) -> dict[str, str]:
    """Parse one log line: a time, then key=value, where a value with blanks stands in double quotes."""
    fields: dict[str, str] = {}
    when, _, rest = line.partition(" ")
    fields["time"] = when
    while rest := rest.strip():
        key, _, rest = rest.partition("=")
        if rest.startswith('"'):
            end = 1
            while end < len(rest) and rest[end] != '"':
                end += 2 if rest[end] == "\\" else 1
            fields[key] = rest[1:end].replace('\\"', '"').replace("\\\\", "\\")
            rest = rest[end + 1 :]
        else:
            fields[key], _, rest = rest.partition(" ")
    return fields
