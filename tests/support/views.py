"""Processes that see the node otherwise than the runtime does: namespaces of their own, and a kernel without NS_GET_ID."""

import os
import shlex

from tests.support import agent
from tests.support.cni_calls import BIN
from tests.support.node import Node

OWN_VIEW = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private", "sh", "-c"]
SAME_BOOT = f"mount --bind {agent.NODE_OWN}/boot_id {agent.BOOT_ID}"
RUN_CNI_REAPER = f"exec {BIN}/cni-reaper"

MS_REMOUNT = 32

HIDE_RUN = "umount -l /run && mount -t tmpfs tmpfs /run && mkdir /run/netns"
"""What a shell in a mount namespace of its own does to see no pod's netns; the boot ID has to be mounted before."""


def without_namespace_ids(node: Node) -> None:
    """Have our plugin run as on Linux before 6.18: the kernel knows no NS_GET_ID."""
    plugin = node.path(f"{BIN}/cni-reaper")
    real = os.readlink(plugin)
    plugin.unlink()
    plugin.write_text(
        f"#!/bin/sh\nexec strace -qq -o /dev/null -e trace=ioctl -e inject=ioctl:error=ENOTTY {shlex.quote(real)}\n"
    )
    plugin.chmod(0o755)
