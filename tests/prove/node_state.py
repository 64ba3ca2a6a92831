"""The node of the model: its files and containers, and what was done to them so far."""

import ipaddress
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.prove import kernel as kernels
from tests.prove.kernel import Kernel, Netns

NETWORKS = ("alpha", "beta")
POOL = 7
GRACE_S = 1500
LONG_S = 120

DEPTH = 2  # how deep processes are nested into each other's gaps


class ViolationError(AssertionError):
    """A promise was broken."""


class KilledError(BaseException):
    """A process of the plugin was killed. No `except Exception` holds it up."""


@dataclass
class Box:
    """One life of a container. id: its ID, which Podman gives again to its next life; uid: a pod's; path: CNI_NETNS.

    foreign: no container of this node's runtime; elsewhere: one of another node that has the same store.
    """

    id: str
    uid: str
    netns: Netns
    path: str
    boot: int
    foreign: bool = False
    elsewhere: bool = False
    attachments: list["Attached"] = field(default_factory=list)


@dataclass
class Attached:
    """One attachment of a box.

    place: of our entry in its chain, `head`, `second` or `none`; address: from host-local, "" before; hidden: the kernel never
    shows the address (gVisor); publishes: a port of the node is to lead there; up: configured; mapped: our record stands as
    written; released: DEL has begun; waiting_since: when a dead one was first looked at by an ADD without hindrance, in this
    boot.
    """

    box: Box
    network: str
    ifname: str
    place: str
    hidden: bool = False
    publishes: bool = False
    address: str = ""
    up: bool = False
    mapped: bool = False
    released: bool = False
    recorded_ino: int = 0
    waiting_since: float | None = None


@dataclass
class Statistics:
    """What was done so far: steps and places by name, rows by number, reasons of what was freed."""

    steps: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    reaped: Counter[str] = field(default_factory=Counter)
    between: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Statistics") -> None:
        """Add another process's."""
        for mine, theirs in ((self.steps, other.steps), (self.rows, other.rows), (self.reaped, other.reaped)):
            mine.update(theirs)
        self.between.update(other.between)


STATISTICS = Statistics()


def packed(address: str) -> bytes:
    """Return the bytes of an address."""
    return ipaddress.ip_address(address).packed


class NodeState:
    """What there is on the node: files, containers, ADDs on their way, and who is to have which address.

    choices: where all chance comes from, so that a walk can be walked again.
    """

    def _between(self, place: str) -> None:
        """Whatever may come in between two steps of the plugin."""
        raise NotImplementedError

    def _see_what_is_taken(self, taken: set[tuple[str, str, bytes]]) -> None:
        """Whatever is expected of rules that are taken back."""
        raise NotImplementedError

    def __init__(self, choices: random.Random) -> None:
        self.random = choices
        self.kernel = Kernel(has_ns_id=choices.random() < 0.5)
        shm = "/dev/shm"
        self.home = Path(tempfile.mkdtemp(prefix="cni-reaper-model-", dir=shm if os.path.isdir(shm) else None))
        self.data, self.state = self.home / "networks", self.home / "reaper"
        self.cache, self.run = self.home / "cache", self.home / "run"
        for directory in (self.data, self.cache / "results", self.run):
            directory.mkdir(parents=True)
        self.boxes: list[Box] = []
        self.kernel.backend = choices.choice(("iptables", "nftables"))
        self.kernel.taken = self._see_what_is_taken
        self.publishing: dict[tuple[str, str, str], bool] = {}
        self.places: dict[str, str] = {}
        self.ledger: dict[tuple[str, str], Attached] = {}
        self.flights: list[Generator[None]] = []
        self.landing: list[Attached] = []
        self.deleting: set[str] = set()
        self.depth = 0
        self.disturbed = False
        self.quiet = True
        self.cuts = self.kills = False
        self.dies = 0.03  # how often host-local is killed between creating a file and writing it
        self.holder: int | None = None
        self.taken_off: dict[bytes, float] = {}
        self.backup: Path | None = None
        self.serial = 0
        self.star = choices.random() < 0.3
        self.pool = {name: [f"10.{number}.0.{host}" for host in range(2, 2 + POOL)] for number, name in enumerate(NETWORKS, 7)}
        self.last = dict.fromkeys(NETWORKS, 0)
        self.unwritten: dict[tuple[str, str], Attached] = {}
        self.neighbour = choices.choices(("", "container node", "nfs"), (70, 12, 18))[0]
        self.its_node = ("b" * 32, choices.choice(("one", "two")))
        self.its_boot, self.its_records = "", True
        if self.neighbour == "nfs":
            self._share_by_nfs()
        self.stack = ExitStack()
        self.stack.enter_context(kernels.installed(self.kernel, str(self.run), self._between, self._cut))
        kernels.SAID.clear()

    def close(self) -> None:
        """Give the product back its kernel, and remove the files."""
        self.stack.close()
        self._open_gate()
        shutil.rmtree(self.home, ignore_errors=True)

    def _share_by_nfs(self) -> None:
        """Let the store, and perhaps the records, be another node's as well; its name, or its machine ID, can be ours."""
        self.its_boot, self.its_records = "11111111-0000-0000-0000-000000000000", self.random.random() < 0.5
        self.kernel.shared = {str(self.data), *([str(self.state)] if self.its_records else [])}
        same = self.random.randrange(3)
        if same == 1:
            self.its_node = (self.kernel.node[0], "two")
        elif same == 2:
            self.kernel.node = self.its_node = ("", "localhost")

    def _cut(self) -> bool:
        return self.cuts and self.random.random() < 0.5

    def _open_gate(self) -> None:
        """Let go of the gate that somebody else holds."""
        if self.holder is not None:
            os.close(self.holder)
            self.holder = None

    def _lives(self, attached: Attached) -> bool:
        return bool(attached.address) and not attached.released and self.kernel.alive(attached.box.netns)

    def _stands(self, network: str, address: str, one: Attached) -> bool:
        file = self.data / network / address
        return file.exists() and file.read_bytes() == f"{one.box.id}\r\n{one.ifname}".encode()

    def _has_a_face(self, netns: Netns) -> bool:
        """Tell whether some place shows the netns; one that is overmounted, and nothing more, is known by its number alone."""
        held = netns.processes or netns.threads or netns.descriptors
        return bool(held) or any(self.kernel.at(place) is netns for place in netns.places)

    def _attachments(self) -> list[Attached]:
        return [one for box in self.boxes for one in box.attachments]
