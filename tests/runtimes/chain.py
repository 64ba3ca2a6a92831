"""The chain of a node under test, and the pod that has to live through everything."""

from collections.abc import Mapping

from tests.support.cni_calls import BIN, bridge, host_local, reaper
from tests.support.node import Node
from tests.support.node_files import Conf

NETWORK = "podnet"
POOL = "10.88.0.0/29"
ROOM = 5  # addresses that host-local gives of it: the network, the gateway and the broadcast address are nobody's
EXHAUSTED = "no IP addresses available in range set"

MISSING: Conf = {"type": "not-installed"}
"""A plugin that is not there, as after an upgrade that forgot it: ADD fails when its turn comes, and DEL before host-local's."""


def chain(
    node: Node,
    us: bool,
    *tail: Conf,
    network: str = NETWORK,
    pool: str = POOL,
    device: str = "cni0",
    version: str = "1.0.0",
    options: Mapping[str, object] | None = None,
) -> None:
    """Write the conflist: bridge with masquerade and portmap, and us at the head or not at all."""
    plugins = [bridge(host_local(pool), device, ipMasq=True), {"type": "portmap", "capabilities": {"portMappings": True}}, *tail]
    node.conflist(network, [reaper(**(options or {})), *plugins] if us else plugins, version)


def in_front_of(node: Node, plugin: str, script: str) -> None:
    """Put a shell script in place of a plugin; it finds the plugin itself as "$REAL"."""
    path = node.path(f"{BIN}/{plugin}")
    real = path.readlink()
    path.unlink()
    path.write_text(f"#!/bin/sh\nREAL={real}\n{script}\n")
    path.chmod(0o755)


class Control:
    """A live pod, and what must be true of it all the time: one reservation of its address, and it answers."""

    def __init__(self, node: Node, owner: str, address: str, network: str = NETWORK) -> None:
        self.node = node
        self.owner = owner
        self.address = address
        self.network = network
        self.check()

    def check(self) -> None:
        """See that it is as it was."""
        held = self.node.reservations(self.network)
        assert [address for address, (owner, _) in held.items() if owner == self.owner] == [self.address], self.node.log()
        assert self.node.answers(self.address)


def held(node: Node, network: str = NETWORK) -> set[str]:
    """Return the reserved addresses."""
    return set(node.reservations(network))


def owners(node: Node, network: str = NETWORK) -> set[str]:
    """Return the IDs of the containers that have a reservation."""
    return {owner for owner, _ in node.reservations(network).values()}
