"""A power cut as the disk of a node shows it afterwards: the files that were written last cannot be read.

libcni's cache and flannel's scratch files are written without fsync. ext4 leaves them empty, and other file systems leave NUL
bytes or the first part.
"""

import time
from collections.abc import Callable

from tests.runtimes.containerd import NEW
from tests.runtimes.kubelet import Kubelet
from tests.support.cni_calls import reaper
from tests.support.node import Node
from tests.support.waiting import until

NETWORK = "cbr0"
CACHE = "/var/lib/cni/results"
SCRATCH = "/var/lib/cni/flannel"
OLD_ENOUGH_S = 30
"""A broken file that is younger may be one that is just being written."""
_WHY = ("unexpected end of JSON input", "invalid character 'x00'")  # without the log's backslashes
_SUBNET = "/etc/cni/subnet.env"
_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda data: data[: len(data) // 2],
    "nul": lambda data: bytes(len(data)),
}


def flannel_chain(node: Node, *, us: bool) -> None:
    """Write flannel's conflist, with the plugin's newest version that takes it, and us at the head or not at all."""
    node.write(_SUBNET, "FLANNEL_NETWORK=10.88.0.0/16\nFLANNEL_SUBNET=10.88.0.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n")
    flannel = {"type": "flannel", "subnetFile": _SUBNET, "delegate": {"hairpinMode": True, "isDefaultGateway": True}}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    node.conflist(NETWORK, [reaper(), flannel, portmap] if us else [flannel, portmap], "0.4.0")


class PowerCut:
    """A node with pods, one for each kind of damage, which loses its power and boots again.

    sandboxes: of the pods before the cut, by the pods' names. broken: the paths of the files that the cut has broken.
    """

    def __init__(self, kubelet: Kubelet) -> None:
        """Start the node and its pods; there is a conflist."""
        self.kubelet = kubelet
        self.node = kubelet.node
        # an entry of its cache does not stop libcni 1.2 and newer: there each pod gets both, so that none comes back by itself
        together = kubelet.containerd.version == NEW
        places = {"both": (CACHE, SCRATCH)} if together else {"cache": (CACHE,), "scratch": (SCRATCH,)}
        self._pods = {f"{place}-{how}": (places[place], how) for place in places for how in _DAMAGES}
        self.sandboxes: dict[str, str] = {}
        self.broken: list[str] = []
        kubelet.begin()
        for name in self._pods:
            kubelet.place(name)
        for name in self._pods:
            kubelet.wait_ready(name)

    def happen(self) -> None:
        """Let all pods' files be broken, and boot; return when the kubelet answers again."""
        held = self.node.reservations(NETWORK)
        self.sandboxes = {name: held[address][0] for name, address in self.kubelet.ready().items() if name in self._pods}
        assert self.sandboxes.keys() == self._pods.keys()
        self.node.reboot()
        self.broken = []
        for name, sandbox in self.sandboxes.items():
            directories, how = self._pods[name]
            for directory in directories:
                file = f"{CACHE}/{NETWORK}-{sandbox}-eth0" if directory == CACHE else f"{SCRATCH}/{sandbox}"
                self.node.path(file).write_bytes(_DAMAGES[how](self.node.path(file).read_bytes()))
                self.broken.append(file)
        self.kubelet.begin()

    def assert_hangs(self, *running: str) -> None:
        """No pod comes back, since no old sandbox can be stopped: each is tried twice from here on. Only `running` run."""
        before = self._failures()
        until(lambda: all(now >= before[sandbox] + 2 for sandbox, now in self._failures().items()), "none can be stopped", 120)
        assert self.kubelet.ready().keys() == set(running)

    def _failures(self) -> dict[str, int]:
        """Return how often each old sandbox could not be stopped, since a file of it cannot be read."""
        stops_failed = self.kubelet.containerd.stops_failed
        return {one: sum(any(why in line for why in _WHY) for line in stops_failed(one)) for one in self.sandboxes.values()}

    @property
    def left(self) -> list[str]:
        """The broken files that are still there."""
        return [file for file in self.broken if self.node.path(file).exists()]

    def wait_until_old(self) -> None:
        """Wait until nobody can be writing the broken files any more."""
        newest = max(self.node.path(file).stat().st_ctime for file in self.left)
        until(lambda: time.time() > newest + OLD_ENOUGH_S, "the files are old")

    def assert_back(self, *running: str) -> None:
        """All pods run again, in new sandboxes, and so do `running`; of the old sandboxes nothing is left.

        No old sandbox fails twice more from here on, so the mending was complete.
        """
        before = self._failures()
        until(lambda: self.kubelet.ready().keys() == {*self._pods, *running}, "all pods are back", 120)
        old = set(self.sandboxes.values())
        until(lambda: not old & {owner for owner, _ in self.node.reservations(NETWORK).values()}, "no old reservation", 120)
        assert not self.left
        assert all(now <= before[sandbox] + 1 for sandbox, now in self._failures().items())
