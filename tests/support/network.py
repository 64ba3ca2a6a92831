"""The shortest real chain: cni-reaper at the head and host-local behind it, each run directly as libcni would run them.

No interface is made, so that hundreds of attachments take seconds; where the kernel has to see an address it is added by hand.
"""

import hashlib
from typing import Any
from uuid import UUID

from tests.support.cni_calls import Pod, reaper
from tests.support.commands import Ran
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, Conf

NETWORK = "net"

BEHIND: Conf = {"prevResult": {"cniVersion": "1.0.0"}}

RANDOM_NAME = f"cni-{UUID('3f2b8c1e-9d47-4a6b-8e05-c17a40f9d2b3')}"


def container_id(name: str) -> str:
    """Return an ID such as a runtime gives: 64 hex digits."""
    return hashlib.sha256(name.encode()).hexdigest()


class Network:
    """One network of a node, its plugins called one after the other.

    pool: the subnet; options: of our entry. A range of one address: first and last.
    """

    def __init__(
        self,
        node: Node,
        subnet: str = "10.66.0.0/24",
        name: str = NETWORK,
        first: str | None = None,
        last: str | None = None,
        **options: Any,
    ) -> None:
        self.node = node
        self.name = name
        self.head: Conf = {"cniVersion": "1.0.0", "name": name, **reaper(**options)}
        bounds = {key: value for key, value in (("rangeStart", first), ("rangeEnd", last)) if value}
        self.ipam: Conf = {
            "cniVersion": "1.0.0",
            "name": name,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet, **bounds}]]},
        }

    def reap(self, verb: str = "ADD", **options: Any) -> Ran:
        """Run ADD of our plugin for a container of its own, which reaps, and nothing else."""
        own = self.node.pod()
        return self.node.plugin(verb, {**self.head, **options}, netns=own, container_id=container_id(own.name)).check()

    def add(self, pod: Pod, owner: str | None = None, ifname: str = "eth0", **options: Any) -> str:
        """Run ADD through both plugins; return the address."""
        owner = owner or container_id(pod.name)
        self.node.plugin("ADD", {**self.head, **options}, netns=pod, container_id=owner, ifname=ifname).check()
        return self.take(pod, owner, ifname)

    def take(self, pod: Pod, owner: str, ifname: str = "eth0") -> str:
        """Run ADD of host-local alone, as before cni-reaper was in the chain; return the address."""
        ran = self.node.plugin("ADD", self.ipam, binary="host-local", netns=pod, container_id=owner, ifname=ifname).check()
        address: str = ran.json()["ips"][0]["address"]
        return address.partition("/")[0]

    def give_back(self, pod: Pod, owner: str | None = None, ifname: str = "eth0") -> None:
        """Run DEL backwards through both plugins."""
        owner = owner or container_id(pod.name)
        self.node.plugin("DEL", self.ipam, binary="host-local", netns=pod, container_id=owner, ifname=ifname).check()
        self.node.plugin("DEL", self.head, netns=pod, container_id=owner, ifname=ifname).check()

    def leak(self, name: str | None = None) -> str:
        """Leave a reservation whose container has lost its netns without a DEL; return the address."""
        pod = self.node.pod(name)
        address = self.add(pod)
        pod.delete()
        return address

    def held(self) -> set[str]:
        """Return the reserved addresses."""
        return set(self.node.reservations(self.name))

    def lock(self) -> str:
        """Return the path of host-local's lock."""
        return f"{DATA_DIR}/{self.name}/lock"
