"""What runs inside a private node: its init, and the agent that does what tests.support.node asks for.

`python -m tests.support.agent` is the launcher: it imports pyroute2 once (a quarter of a second) and then forks one node
for each socket that arrives on its standard input, so that a node costs milliseconds. Processes of one node:

    launcher ─ keeper          outside the node's PID namespace; ends last: the end of its socket is the end of the node
                 └─ init       PID 1: makes the mounts, then only reaps
                     └─ agent  PID 2: serves requests (name, arguments) until the socket closes

Nothing here is trusted to survive the tests: whichever process ends, all the node's processes end with it.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from pyroute2 import IPRoute, config, netns  # type: ignore[import-untyped]  # it ships no types

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
CLONE_NEWCGROUP = 0x02000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC = 2, 4, 8, 4096, 16384
MS_PRIVATE, MS_SHARED = 1 << 18, 1 << 20
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

NODE_OWN = "/run/node"
"""Where the node keeps what it hides of the machine, and its boot ID; not part of what a real node has."""
HIDDEN = ("/var/lib", "/var/log", "/etc/cni", "/etc/containerd", "/opt/cni", "/srv", "/dev/shm")
BOOT_ID = "/proc/sys/kernel/random/boot_id"
CGROUPS = "/sys/fs/cgroup"

libc = ctypes.CDLL(None, use_errno=True)
config.default_communicate_timeout = config.default_create_socket_timeout = (
    600  # pyroute2's own 2 and 10 s fail on a busy machine
)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """Make the system call of that name, with text for bytes."""

    def encoded(text: str | None) -> bytes | None:
        return None if text is None else text.encode()

    _check(
        libc.mount(encoded(source), encoded(target), encoded(kind), ctypes.c_ulong(flags), encoded(data)),
        f"mount {source} on {target}",
    )


def umount(target: str) -> None:
    """Call umount2(2) with MNT_DETACH, as `ip netns delete` does."""
    _check(libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def _enter_namespaces(rootless: bool) -> None:
    flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    user, group = os.geteuid(), os.getegid()
    _check(libc.unshare(flags | (CLONE_NEWUSER if rootless else 0)), "unshare")
    if rootless:
        # One user is all that an unprivileged process may map; setgroups has to be given up for the group map.
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def _hide(directory: str) -> None:
    """Put an empty directory in place of one of the machine's, whether the machine has it or not."""
    if not os.path.isdir(directory) or os.path.islink(directory):
        parent = os.path.dirname(directory)
        while not os.path.isdir(parent):
            parent = os.path.dirname(parent)
        if not os.path.isdir(NODE_OWN + parent):
            _open_up(parent)
        if os.path.islink(directory):
            os.unlink(directory)  # of the node's own by now; from outside of the node it would lead out of it
        os.makedirs(directory)
    mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")


def _open_up(directory: str) -> None:
    """Make a directory of the machine writable for this node only: same entries, by symlinks, on a tmpfs."""
    below = NODE_OWN + directory
    os.makedirs(below)
    mount(directory, below, flags=MS_BIND | MS_REC)
    mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for entry in os.scandir(below):
        target = os.readlink(entry.path) if entry.is_symlink() else os.path.relpath(entry.path, directory)
        os.symlink(
            target, os.path.join(directory, entry.name)
        )  # relative, so that it stays in the node for who looks from outside


def _move_to(root: str) -> None:
    """Make a directory the root of this mount namespace, with a layer above it for writes; nothing of the machine is left."""
    with IPRoute() as route:
        list(route.get_links())  # so that Python has loaded what it needs: its files are gone in a moment
    mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    new, lower, upper, work = (f"/run/{name}" for name in ("new", "lower", "upper", "work"))
    for directory in (new, lower, upper, work):
        os.mkdir(directory)
    mount(root, lower, flags=MS_BIND)
    mount("overlay", new, "overlay", data=f"lowerdir={lower},upperdir={upper},workdir={work}")
    for directory in ("proc", "sys", "run", "tmp", "dev/shm", *HIDDEN):
        os.makedirs(f"{new}/{directory.lstrip('/')}", exist_ok=True)
    for device in DEVICES:
        place = f"{new}/dev/{device}"
        with contextlib.suppress(FileExistsError), open(place, "x"):
            pass
        mount(f"/dev/{device}", place, flags=MS_BIND)
    os.chdir(new)
    # "." twice: pivot_root(2), section "pivot_root(".", ".")"
    _check(libc.syscall(SYS_PIVOT_ROOT, b".", b"."), f"pivot_root to {root}")
    umount(".")
    os.chdir("/")


def _check_root() -> None:
    """See that nothing of the machine is mounted in this root but devices. Raises RuntimeError."""
    with open("/proc/self/mountinfo") as file:
        mounts = {line.split()[4]: line.partition(" - ")[2].split()[0] for line in file}
    known = {"/": "overlay", "/proc": "proc"} | {f"/dev/{name}": mounts.get(f"/dev/{name}") for name in DEVICES}
    if mounts != known:
        raise RuntimeError(f"this root has mounts of the machine: {mounts}")


def _furnish(root: str) -> None:
    """Make the node's own file systems, in PID 1 of the node; root: of another system, see _move_to."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    if root:
        _move_to(root)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    if root:
        _check_root()
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for directory in ("/run/netns", "/run/lock", NODE_OWN):
        os.mkdir(directory)
    for directory in sorted(HIDDEN, key=os.path.isdir):  # opening up what one is in would cover those that are hidden there
        _hide(directory)
    for directory in ("/var/lib/cni", "/etc/cni/net.d", "/opt/cni/bin"):
        os.mkdir(directory)
    for directory in ("/usr/lib/cni", "/usr/libexec/cni"):  # install looks there, too
        if os.path.isdir(directory):
            _hide(directory)
    if os.path.exists("/dev/log") and not os.path.islink("/dev/log"):
        mount("/dev/null", "/dev/log", flags=MS_BIND)  # the machine's syslog is none of a node's business
    new_boot_id()
    mount("none", "/run", flags=MS_SHARED)  # as on a host with systemd
    libc.sethostname(b"node", 4)


def new_boot_id() -> None:
    """Give the node a boot ID of its own; every call is a new boot as far as that file goes."""
    own = f"{NODE_OWN}/boot_id"
    with open(own, "w") as file:
        file.write(f"{uuid.uuid4()}\n")
    if not os.path.samefile(own, BOOT_ID):
        mount(own, BOOT_ID, flags=MS_BIND)


def _mount_cgroups() -> dict[str, str]:
    """Mount the hierarchies of cgroups that this process is in; return where, by `cpu` and the like, "" for cgroup2."""
    with open("/proc/self/cgroup") as file:
        hierarchies = [line.split(":")[1] for line in file]
    if hierarchies == [""]:
        mount("cgroup2", CGROUPS, "cgroup2")
        return {"": CGROUPS}
    mount("tmpfs", CGROUPS, "tmpfs", data="mode=755")
    places = {}
    for hierarchy in hierarchies:
        place = places[hierarchy] = f"{CGROUPS}/{hierarchy.removeprefix('name=') or 'unified'}"
        os.mkdir(place)
        if hierarchy:
            mount("cgroup", place, "cgroup", data="none," * hierarchy.startswith("name=") + hierarchy)
        else:
            mount("cgroup2", place, "cgroup2")
    return places


def own_cgroups(name: str) -> None:
    """Move this process to cgroups of a name, make them the root of a cgroup namespace, and mount that (cgroup_namespaces(7))."""
    places = _mount_cgroups()
    for place in places.values():
        below = f"{place}/{name}"
        os.mkdir(below)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # cpuset(7): empty at first, and then no process may come
            if os.path.exists(f"{below}/{setting}") and places.get("") != CGROUPS:
                with open(f"{place}/{setting}") as above, open(f"{below}/{setting}", "w") as own:
                    own.write(above.read())
        with open(f"{below}/cgroup.procs", "w") as file:
            file.write("0")
    _check(libc.unshare(CLONE_NEWCGROUP), "unshare")
    for place in (*places.values(), CGROUPS):
        with contextlib.suppress(OSError):  # of cgroup2 alone the place is CGROUPS itself
            umount(place)
    _mount_cgroups()
    if list(places) == [""]:
        os.mkdir(f"{CGROUPS}/agent")  # of cgroup2 no cgroup has both processes and controllers for those below
        with open(f"{CGROUPS}/agent/cgroup.procs", "w") as file:
            file.write("0")
        with open(f"{CGROUPS}/cgroup.controllers") as known, open(f"{CGROUPS}/cgroup.subtree_control", "w") as file:
            file.write(" ".join(f"+{controller}" for controller in known.read().split()))


def remove_cgroups() -> None:
    """Remove the cgroups below those of `own_cgroups`, as a reboot does: a kubelet waits three seconds for each that is left.

    Precondition: their processes have been killed. They may take their time to end.
    """
    end = time.monotonic() + 600  # HANG_S of tests.support.node, which is not imported here
    while left := [place for place in _cgroups() if not _removed(place)]:
        if time.monotonic() > end:
            message = f"cgroups that are not empty: {left}"
            raise TimeoutError(message)
        time.sleep(0.01)  # no event tells when the kernel has let go of them


def _cgroups() -> list[str]:
    """List the cgroups of the node but the roots and the agent's own, the lowest first."""
    found = [place for place, _, _ in os.walk(CGROUPS, topdown=False)]
    return [place for place in found if not os.path.ismount(place) and place != f"{CGROUPS}/agent"]


def _removed(cgroup: str) -> bool:
    try:
        os.rmdir(cgroup)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _init(connection: Connection, root: str) -> NoReturn:
    """Be PID 1 of the node: furnish it, start the agent, reap whatever ends, end with the agent."""
    _furnish(root)
    agent = os.fork()
    if agent == 0:
        Agent(connection).serve()
        os._exit(0)
    while os.wait()[0] != agent:
        pass
    os._exit(0)


def _keep(connection: Connection, rootless: bool, root: str) -> NoReturn:
    """Enter new namespaces, start the node's init there and stay until it has ended, with all its processes."""
    try:
        _enter_namespaces(rootless)
        init = os.fork()
        if init == 0:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            _guarded(connection, lambda: _init(connection, root))
        connection.send(("init", init))
        os.waitpid(init, 0)
    except Exception:  # noqa: BLE001  whatever it is, the test is told and not this process
        connection.send(("error", traceback.format_exc()))
    os._exit(0)


def _guarded(connection: Connection, work: Callable[[], NoReturn]) -> NoReturn:
    try:
        work()
    except Exception:  # noqa: BLE001  as in _keep
        with contextlib.suppress(OSError):
            connection.send(("error", traceback.format_exc()))
    os._exit(1)


@contextlib.contextmanager
def _within(path: str | None) -> Iterator[IPRoute]:
    """Open rtnetlink in a network namespace given by path, or in the node's own."""
    if path is None:
        with IPRoute() as route:
            yield route
        return
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        netns.pushns(handle)
        try:
            with IPRoute() as route:
                yield route
        finally:
            netns.popns()
    finally:
        os.close(handle)


def _set_sysctls(*names: str, value: str) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError), open(f"/proc/sys/net/{name}", "w") as file:
            file.write(value)


class Agent:
    """Serves requests; every public method is one, called with the arguments that came over the socket."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._background: dict[int, subprocess.Popen[bytes]] = {}
        self._has_cgroups = False

    def serve(self) -> None:
        """Answer requests, one at a time, until the other side closes the socket."""
        with _within(None) as route:
            route.link("set", index=1, state="up")
        _set_sysctls("ipv4/ip_forward", "ipv6/conf/all/forwarding", value="1")
        _set_sysctls("ipv6/conf/all/accept_dad", "ipv6/conf/default/accept_dad", value="0")
        self._connection.send(("ready", None))
        while True:
            try:
                name, arguments = self._connection.recv()
            except (EOFError, ConnectionError):
                return
            try:
                answer = ("answer", getattr(self, name)(**arguments))
            except Exception:  # noqa: BLE001  as in _keep
                answer = ("error", traceback.format_exc())
            self._connection.send(answer)

    def run(self, commands: Sequence[Mapping[str, Any]]) -> list[tuple[int | None, bytes, bytes, float]]:
        """Start all commands at once and wait for each: exit code (None: timed out), stdout, stderr, wall seconds."""
        for process in self._background.values():
            process.poll()
        results: list[tuple[int | None, bytes, bytes, float]] = [(None, b"", b"", 0.0)] * len(commands)

        def one(place: int, process: subprocess.Popen[bytes], began: float) -> None:
            returncode: int | None
            try:
                out, err = process.communicate(commands[place]["stdin"], timeout=commands[place]["timeout"])
                returncode = process.returncode
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                out, err = process.communicate()
                returncode = None
            results[place] = (returncode, out, err, time.monotonic() - began)

        threads = []
        for place, command in enumerate(commands):
            began = time.monotonic()
            process = self._popen(command, subprocess.PIPE)
            if len(commands) == 1:
                one(place, process, began)
                break
            threads.append(threading.Thread(target=one, args=(place, process, began)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        return results

    def start(self, command: Mapping[str, Any]) -> int:
        """Start a background process, return its PID in the node."""
        process = self._popen(command, subprocess.DEVNULL)
        self._background[process.pid] = process
        return process.pid

    def stop(self, pid: int, number: int) -> int:
        """Send a signal to a process that `start` started and wait for its end; return its exit code."""
        process = self._background.pop(pid)
        process.send_signal(number)
        return process.wait(timeout=600)  # HANG_S of tests.support.node, which is not imported here

    def create_netns(self, path: str) -> None:
        """Create a named network namespace as `ip netns add` does; without the second that IPv6 DAD takes."""
        netns.create(path)
        with _within(path):
            _set_sysctls("ipv6/conf/all/accept_dad", "ipv6/conf/default/accept_dad", value="0")

    def delete_netns(self, path: str) -> None:
        """Detach and unlink a named network namespace, as `ip netns delete` does."""
        netns.remove(path)

    def links(self, path: str | None) -> dict[str, dict[str, Any]]:
        """Read the links of a namespace: name -> mac, up, mtu, kind, master."""
        with _within(path) as route:
            found = list(route.get_links())
        names = {link["index"]: link.get("ifname") for link in found}
        return {
            link.get("ifname"): {
                "mac": link.get("address"),
                "up": bool(link["flags"] & 1),
                "mtu": link.get("mtu"),
                "kind": (link.get("linkinfo") or {}).get("kind"),
                "master": names.get(link.get("master")),
            }
            for link in found
        }

    def addresses(self, path: str | None) -> dict[str, list[str]]:
        """Read the addresses of a namespace: interface name -> ["10.1.0.2/24", …]."""
        with _within(path) as route:
            names = {link["index"]: link.get("ifname") for link in route.get_links()}
            found: dict[str, list[str]] = {}
            for address in route.get_addr():
                # IFA_LOCAL is the own end of a point-to-point pair; IPv6 has IFA_ADDRESS only.
                own = address.get("local") or address.get("address")
                found.setdefault(names[address["index"]], []).append(f"{own}/{address['prefixlen']}")
        return found

    def change_address(self, path: str | None, verb: str, ifname: str, address: str) -> None:
        """Add an address ("10.1.0.2/24") to an interface, or delete it ("add", "del")."""
        host, _, length = address.partition("/")
        with _within(path) as route:
            options = {"nodad": True} if ":" in host and verb == "add" else {}
            flags = {"flags": 0x02} if options else {}  # IFA_F_NODAD: usable at once, not after a second
            route.addr(verb, index=route.link_lookup(ifname=ifname)[0], address=host, prefixlen=int(length), **flags)

    def add_link(self, path: str | None, ifname: str, kind: str, options: dict[str, Any]) -> None:
        """Create a link and set it up; a veth takes peer=NAME, and both ends are set up."""
        with _within(path) as route:
            route.link("add", ifname=ifname, kind=kind, **options)
            for name in filter(None, (ifname, options.get("peer"))):
                route.link("set", index=route.link_lookup(ifname=name)[0], state="up")

    def change_link(self, path: str | None, ifname: str, options: dict[str, Any]) -> None:
        """Set attributes of a link (state="up", net_ns_pid=…, mtu=…)."""
        with _within(path) as route:
            route.link("set", index=route.link_lookup(ifname=ifname)[0], **options)

    def delete_link(self, path: str | None, ifname: str) -> None:
        """Delete a link."""
        with _within(path) as route:
            route.link("del", index=route.link_lookup(ifname=ifname)[0])

    def answers(self, address: str, path: str | None) -> bool:
        """Tell whether the kernel that holds an address answers: a refused connection is an answer, too."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with _within(path), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(2)
            try:
                probe.connect((address, 9))
            except ConnectionRefusedError:
                return True
            except OSError:
                return False
            return True

    def mount(self, source: str, target: str, kind: str | None, flags: int, data: str | None) -> None:
        """Make the system call of that name in the node."""
        mount(source, target, kind, flags, data)

    def umount(self, target: str) -> None:
        """Detach a mount in the node."""
        umount(target)

    def own_cgroups(self, below: str) -> None:
        """Give the processes started from now on cgroups of their own, as if they were all: `below` in the machine's root."""
        own_cgroups(below)
        self._has_cgroups = True

    def reboot(self) -> None:
        """Lose what a reboot loses: processes, netns, links, iptables, /run, /dev/shm, the boot ID; keep the disk."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # all in this PID namespace but init and the agent itself
        for process in self._background.values():
            process.wait()
        self._background.clear()
        if self._has_cgroups:
            remove_cgroups()
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split()[4] for line in file]
        own = (NODE_OWN, NODE_OWN + "/")
        for target in reversed(mounts):
            if target.startswith(("/run/", "/var/lib/")) and not target.startswith(own):
                with contextlib.suppress(OSError):  # its twin in the shared /run took it along
                    umount(target)
        for entry in (*os.scandir("/run"), *os.scandir("/dev/shm")):
            if entry.path != NODE_OWN:
                subprocess.run(["rm", "-rf", entry.path], check=True)
        for directory in ("/run/netns", "/run/lock"):
            os.mkdir(directory)
        with _within(None) as route:
            for name in [link.get("ifname") for link in route.get_links()]:
                if name != "lo" and (index := route.link_lookup(ifname=name)):
                    with contextlib.suppress(Exception):  # the fallback devices of a namespace cannot be deleted
                        route.link("del", index=index[0])
        empty = "".join(f"*{table}\nCOMMIT\n" for table in ("raw", "mangle", "nat", "filter")).encode()
        for program in ("iptables-restore", "ip6tables-restore"):
            subprocess.run([program], input=empty, check=True)
        new_boot_id()

    @staticmethod
    def _popen(command: Mapping[str, Any], stream: int) -> subprocess.Popen[bytes]:
        stdin = subprocess.PIPE if command.get("stdin") is not None else subprocess.DEVNULL
        return subprocess.Popen(
            command["argv"],
            env=command["env"],
            cwd=command.get("cwd", "/"),
            stdin=stdin,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )


def main() -> None:
    """Be the launcher: fork a node for each socket that arrives, with "root" or "rootless" and the path of its root."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are not waited for
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as door:
        while True:
            order, handles, _, _ = socket.recv_fds(door, 4096, 1)
            if not order:
                return
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                door.close()
                os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
                os.set_inheritable(handles[0], False)
                user, _, root = order.decode().partition(" ")
                _keep(Connection(handles[0]), user == "rootless", root)
            os.close(handles[0])


if __name__ == "__main__":
    main()
