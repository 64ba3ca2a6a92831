"""The files of a node: host-local's reservations, cni-reaper's records and its log."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Conf = dict[str, Any]

DATA_DIR = "/var/lib/cni/networks"
STATE_DIR = "/var/lib/cni/reaper"
LOG_FILE = "/var/log/cni-reaper.log"


class NodeFiles:
    """The files of a node: any of them, host-local's reservations, cni-reaper's records and its log."""

    def path(self, inside: str) -> Path:
        """Return the path by which this process reaches a file of the node."""
        raise NotImplementedError

    def read(self, inside: str) -> str:
        """Return the text of a file of the node."""
        return self.path(inside).read_text()

    def write(self, inside: str, text: str) -> None:
        """Write a file of the node, and the directories above it."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def reservations(self, network: str, data_dir: str = DATA_DIR) -> dict[str, tuple[str, str]]:
        """Return host-local's reservations of a network: address -> (container ID, ifname), "" where there is none."""
        found = {}
        directory = self.path(f"{data_dir}/{network}")
        for name, content in files_of(directory, lambda name: name != "lock" and not name.startswith("last_reserved_ip")):
            owner, _, ifname = content.decode().strip().partition("\r\n")
            found[name] = (owner, ifname)
        return found

    def reserve(self, network: str, address: str, container_id: str, ifname: str = "eth0") -> None:
        """Write a reservation as host-local would have, without running it."""
        path = self.path(f"{DATA_DIR}/{network}/{address}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{container_id}\r\n{ifname}".encode())

    def records(self, network: str, state_dir: str = STATE_DIR) -> dict[str, Conf]:
        """Return our records of a network: "<container ID>:<ifname>" -> content."""
        directory = self.path(f"{state_dir}/{network}")
        return {name: json.loads(content) for name, content in files_of(directory, lambda name: ":" in name)}

    def log(self, event: str | None = None, file: str = LOG_FILE) -> list[dict[str, str]]:
        """Return the lines of our log as dictionaries, all or those of one event; the time is in "time"."""
        path = self.path(file)
        lines = [parse_line(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if event in (None, line.get("event"))]


def files_of(directory: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files that are wanted: what goes while the directory is read was never there."""
    for file in directory.iterdir() if directory.exists() else ():
        with contextlib.suppress(FileNotFoundError):
            if is_wanted(file.name):
                yield file.name, file.read_bytes()


def parse_line(line: str) -> dict[str, str]:
    """Parse one log line: a time, then key=value, where a value with blanks stands in double quotes."""
    fields: dict[str, str] = {}
    when, _, rest = line.partition(" ")
    fields["time"] = when
    while rest := rest.strip():
        key, _, rest = rest.partition("=")
        if rest.startswith('"'):
            end = 1
            while end < len(rest) and rest[end] != '"':
                end += 2 if rest[end] == "\\" else 1
            fields[key] = rest[1:end].replace('\\"', '"').replace("\\\\", "\\")
            rest = rest[end + 1 :]
        else:
            fields[key], _, rest = rest.partition(" ")
    return fields
