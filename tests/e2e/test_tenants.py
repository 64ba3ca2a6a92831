"""Processes that are not a runtime's: what they do to their namespaces frees no live address, and stops no reaping.

Rows B1, B5 and B8 of the facts about other nodes; docs/evidence.md has the rules.
"""

import signal
import sys

import pytest

from tests.e2e.halt import halted
from tests.e2e.pair import Pair, container_id, until
from tests.node import Node

MOVES = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result:
        raise OSError(ctypes.get_errno(), "system call")
def unshare():
    check(libc.unshare(0x00020000))  # CLONE_NEWNS
    check(libc.mount(b"none", b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
unshare()
if os.fork() == 0:
    signal.pause()
open("/run/apart", "w").close()
signal.sigwait([signal.SIGUSR1])
unshare()
for path in ("/run/netns", sys.argv[1]):  # a mount in the one is a mount below it, too
    while not libc.umount2(path.encode(), 2):  # MNT_DETACH
        pass
open("/run/moved", "w").close()
signal.pause()
"""
"""A process and its child are in a mount namespace of their own; at a signal the first goes on to another one."""


@pytest.fixture
def pair(node: Node) -> Pair:
    """A network of cni-reaper and host-local."""
    return Pair(node)


def test_a_process_that_changes_its_mount_namespace_keeps_the_pod_in_its_old_one(pair: Pair) -> None:
    """B8: between the looks at its mount namespace and at its mounts a process moves to another, without the pod's netns.

    The pod's netns is mounted in the first one only, in which another process stays.
    """
    node = pair.node
    pod, own = node.pod("live"), node.pod()
    address = pair.add(pod)
    leak = pair.leak()
    mover = node.start([sys.executable, "-I", "-c", MOVES, pod.path])
    until(node.path("/run/apart").exists, "the process has mounts of its own")
    node.umount(pod.path)
    call = node.plugin_command("ADD", pair.head, netns=own, container_id=container_id(own.name))
    stopped = halted(node, call, "/readlink", f"/proc/{mover}/root")
    node.run(["kill", f"-{signal.SIGUSR1}", str(mover)]).check()
    until(node.path("/run/moved").exists, "the process has moved")
    stopped.go_on()
    assert address in pair.held(), node.log()
    assert leak not in pair.held(), node.log()
