"""What a boot finds on its disk: which state each file of a pod is in after the power went.

A pod has four: host-local's reservation, cni-reaper's record, libcni's cache entry and flannel's scratch file. Nobody who writes
one asks for it to be on the disk (fsync), so each can be in each state, whatever the others are.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Self

from tests.support.commands import Ran

ABSENT, EMPTY, NUL, CUT, WHOLE = "absent", "empty", "NUL", "cut", "whole"
STATES = (ABSENT, EMPTY, NUL, CUT, WHOLE)
"""Not there; of no bytes; NUL bytes alone; the beginning of what was written, or another part; all that was written."""
NETWORK = "cbr0"
STORE, RECORDS = f"var/lib/cni/networks/{NETWORK}", f"var/lib/cni/reaper/{NETWORK}"
CACHE, FLANNEL = "var/lib/cni/results", "var/lib/cni/flannel"
IFNAME = "eth0"


def owner(name: str) -> str:
    """Return the container ID that cnitool gives to the pod with this network namespace."""
    return "cnitool-" + hashlib.sha512(f"/run/netns/{name}".encode()).digest()[:10].hex()


@dataclass(frozen=True)
class Pod:
    """A pod of a console. address: that it was given, "" where its ADD did not come so far; is_ending: its DEL has begun."""

    name: str
    address: str
    is_ending: bool = False


def pods(lines: Sequence[str]) -> dict[str, Pod]:
    """Return the pods that a console tells of, by name, the last to start last."""
    told: dict[str, Pod] = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        name, _, address = rest.partition(" ")
        if word == "@given":
            told[name] = Pod(name, address)
        elif word == "@ending" and name in told:
            told[name] = Pod(name, told[name].address, is_ending=True)
    return told


def given_twice(lines: Sequence[str]) -> list[str]:
    """Return a sentence for each address that was given while another pod had it, and no DEL of that had begun."""
    holders: dict[str, str] = {}
    wrong = []
    for line in lines:
        word, _, rest = line.partition(" ")
        name, _, address = rest.partition(" ")
        if word == "@given":
            if address in holders:
                wrong.append(f"{address} was given to {name} while {holders[address]} had it")
            holders[address] = name
        elif word == "@ending":
            holders = {address: holder for address, holder in holders.items() if holder != name}
    return wrong


@dataclass(frozen=True)
class Disk:
    """The files of a disk, by path without the first slash."""

    files: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def read(cls, ran: Ran) -> Self:
        """Read the archive that a step has answered."""
        with tarfile.open(fileobj=io.BytesIO(ran.check().out)) as archive:
            return cls({one.name: archive.extractfile(one).read() for one in archive if one.isreg()})  # type: ignore[union-attr]

    def below(self, directory: str) -> dict[str, bytes]:
        """Return the files right below a directory, by name."""
        paths = {PurePosixPath(path): content for path, content in self.files.items()}
        return {path.name: content for path, content in paths.items() if str(path.parent) == directory}

    def reservations(self) -> dict[str, bytes]:
        """Return the reservations by address."""
        return {name: content for name, content in self.below(STORE).items() if name[0].isdigit()}

    def records(self) -> dict[str, bytes]:
        """Return the records, broken ones too, by owner; temporary files as they are called."""
        return {name.partition(":")[0]: one for name, one in self.below(RECORDS).items() if name != ".lock"}

    def entries(self) -> dict[str, bytes]:
        """Return libcni's entries by owner."""
        found = self.below(CACHE)
        return {name.removeprefix(f"{NETWORK}-").removesuffix(f"-{IFNAME}"): one for name, one in found.items()}

    def scratch(self) -> dict[str, bytes]:
        """Return flannel's files by owner."""
        return self.below(FLANNEL)

    def states(self, pod: Pod, is_last: bool) -> tuple[str, str, str, str]:
        """Return the states of a pod's reservation, record, cache entry and scratch file.

        is_last: nobody was given its address after it, so that a file without an owner is its.
        """
        whose = owner(pod.name)
        content, store = f"{whose}\r\n{IFNAME}".encode(), self.reservations()
        reserved = WHOLE if content in store.values() else _owned(store.get(pod.address), content)
        if reserved != WHOLE and not is_last:
            reserved = ABSENT
        others = (self.records().get(whose), self.entries().get(whose), self.scratch().get(whose))
        record, entry, scratch = map(_json, others)
        return reserved, record, entry, scratch

    def last_reserved(self) -> str:
        """Return the state of the file in which host-local notes the address that it gave last."""
        noted = self.below(STORE).get("last_reserved_ip.0")
        if noted is None or not noted.strip(b"\0"):
            return _blank(noted)
        return WHOLE if noted.count(b".") == len(b"...") and noted[-1:].isdigit() else CUT


def _blank(content: bytes | None) -> str:
    if content is None:
        return ABSENT
    return NUL if content else EMPTY


def _owned(content: bytes | None, whole: bytes) -> str:
    if content is None or not content.strip(b"\0"):
        return _blank(content)
    if content == whole:
        return WHOLE
    return CUT if whole.startswith(content) else ABSENT  # it is another pod's


def _json(content: bytes | None) -> str:
    if content is None or not content.strip(b"\0"):
        return _blank(content)
    try:
        json.loads(content)
    except ValueError:
        return CUT
    return WHOLE
