"""Odd ways to keep a network namespace alive, and one that shows no address: what pods, runtimes and virtual machines do.

Each function starts one process in the node and returns its PID once the netns is held; `Node.stop` ends it. The path in
/run/netns can then be taken away with `unpin`.
"""

import contextlib
import os
import platform
import sys
from collections.abc import Callable

from tests.support.cni_calls import Pod
from tests.support.node import Node
from tests.support.waiting import until

Hold = Callable[[Pod], int]

EXIT = {"x86_64": 60, "aarch64": 93}[platform.machine()]
"""The number of exit(2), which ends one thread; the C library's exit ends them all."""

_SETNS = """
import ctypes, os, socket, sys, threading
libc = ctypes.CDLL(None)
def enter(path):
    with open(path) as file:
        assert libc.setns(file.fileno(), 0x40000000) == 0
def ready():
    open(sys.argv[1], "w").close()
def stay():
    threading.Event().wait()
"""
_THREAD = """
def live():
    enter(sys.argv[2])
    ready()
    stay()
threading.Thread(target=live).start()
stay()
"""
_NO_LEADER = """
def live():
    ready()
    stay()
threading.Thread(target=live).start()
libc.syscall(int(sys.argv[3]))
"""
_SOCKET = """
home = os.open("/proc/self/ns/net", os.O_RDONLY)
enter(sys.argv[2])
held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
assert libc.setns(home, 0x40000000) == 0
os.close(home)
ready()
stay()
"""


def _python(pod: Pod, program: str, *, inside: bool = False) -> int:
    node = pod.node
    told = f"/run/held-{pod.name}"
    argv = [sys.executable, "-I", "-c", _SETNS + program, told, pod.path, str(EXIT)]
    process = node.start(argv, netns=pod if inside else None)
    until(node.path(told).exists, f"{pod.name} is held")
    return process


def by_process(pod: Pod) -> int:
    """Hold a netns by a process that lives in it."""
    process = pod.live()
    until(lambda: _runs(pod.node, process, "sleep"), "the process lives in the netns")
    return process


def by_descriptor(pod: Pod) -> int:
    """Hold a netns by an open file descriptor, as containerd's shim or systemd do; its process lives elsewhere."""
    process = pod.node.start(["sh", "-c", f"exec sleep infinity 9<{pod.path}"])
    until(lambda: _runs(pod.node, process, "sleep"), "the descriptor is open")
    return process


def by_thread(pod: Pod) -> int:
    """Hold a netns by a thread that has entered it, while its process lives elsewhere."""
    return _python(pod, _THREAD)


def by_a_process_whose_leader_has_exited(pod: Pod) -> int:
    """Hold a netns by a process whose first thread has exited, so that /proc/<pid>/ns/net is not there."""
    process = _python(pod, _NO_LEADER, inside=True)

    def exited() -> bool:
        try:
            os.readlink(pod.node.path(f"/proc/{process}/ns/net"))
        except FileNotFoundError:
            return True
        return False

    until(exited, "the leader thread has exited")
    return process


def by_socket(pod: Pod) -> int:
    """Hold a netns by a socket that was opened in it: neither a mount nor any process leads to it any more."""
    return _python(pod, _SOCKET)


def _runs(node: Node, process: int, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(node.path(f"/proc/{process}/exe")).endswith(name)
    return False


def unpin(pod: Pod) -> None:
    """Lose the path of a netns: a lazy umount, and the file that it leaves is removed."""
    pod.node.umount(pod.path)
    pod.node.path(pod.path).unlink()
