"""Cgroups of a node's own, for whatever manages cgroups in it."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.support.agent import CGROUPS
from tests.support.node import Node
from tests.support.waiting import until


@contextlib.contextmanager
def own_cgroups(node: Node) -> Iterator[None]:
    """Have a node's processes in cgroups of their own, which are removed in the end, when they have ended."""
    name = f"cni-reaper-{uuid.uuid4().hex}"  # numbers come again, and a node that was killed leaves its own behind
    node.own_cgroups(name)
    try:
        yield
    finally:
        node.close()
        until(lambda: _removed(name), "the cgroups are empty")


def _removed(name: str) -> bool:
    """Remove the cgroups of a name in every hierarchy; False when a process of them has not ended yet."""
    roots = [Path(CGROUPS, name), *(hierarchy / name for hierarchy in Path(CGROUPS).iterdir() if hierarchy.is_dir())]
    for root in roots:
        for directory, _, _ in os.walk(root, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
    return not any(root.exists() for root in roots)
