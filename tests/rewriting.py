"""A platform that rewrites its conflist all the time, while pods come and go: `./build.sh rewriting [SECONDS]`.

One private node for each way of staying in the conflist, all at once. On each, a writer plays canal's install-cni: every few
seconds it writes its own list, without us and with a new serial number, in place at once, in place in two pieces, or by rename;
and pods get their addresses through cnitool (libcni 1.3), bridge and host-local. Counted: ADDs that ran without us, ADDs that
failed, for how long we were out, what the watcher used, and rewrites of the platform that were lost.

What plays the path unit is a process that hears of a change and runs `install --settle`, and hears nothing meanwhile, as systemd
does; tests/runtimes/test_systemd.py has the real one.
"""

import json
import os
import random
import re
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field

from tests.support.cni_calls import BIN, NET_D, bridge, host_local
from tests.support.commands import HANG_S
from tests.support.node import Node
from tests.support.programs import ROOT, find_programs
from tests.support.waiting import until

NETWORK = "net"
FILE = f"{NET_D}/10-net.conflist"
WAYS = ("nothing", "watch", "path unit", "drop-in")
HOWS = ("at once", "in pieces", "rename")
EVERY_S = (1.0, 5.0)
BETWEEN_PIECES_S = 0.02
_LOOK_S = 0.002
_OURS = b'"cni-reaper"'
_PATH_UNIT = f"""
import select, subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.support import kernel_calls
kernel_calls.stand_in()
from cni_reaper_plugin.operator.watch import inotify
directory, *command = sys.argv[1:]
queue = inotify.Inotify()
queue.add(directory, inotify.CLOSE_WRITE | inotify.MOVED_TO | inotify.CREATE | inotify.DELETE)
while True:
    select.select([queue.fd], [], [])
    queue.read()
    subprocess.run(command)
    queue.read()
"""


@dataclass
class Seen:
    """What came of one way: how many rewrites, ADDs, ADDs without us; and away_s of each rewrite that was answered."""

    rewrites: int = 0
    adds: int = 0
    without: int = 0
    failures: list[str] = field(default_factory=list)
    away_s: list[float] = field(default_factory=list)
    lost: int = 0
    cpu_s: float = 0.0

    @property
    def half_written(self) -> int:
        """How many ADDs failed because libcni found half a file, which the platform was writing."""
        return sum("unexpected end of JSON input" in one or "no net configuration" in one for one in self.failures)


class Way:
    """One node, its platform and its pods."""

    def __init__(self, node: Node, way: str, hows: tuple[str, ...]) -> None:
        self.node, self.way, self.hows = node, way, hows
        self.seen = Seen()
        self._serial = 0
        self._adds_before = 0
        self._end = threading.Event()
        self._random = random.Random(way)
        node.path(f"{BIN}/cni-reaper").unlink()
        self._file = node.path(FILE)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_bytes(self._next())
        reaper = str(node.programs.reaper)
        node.run([reaper, "install", *(["--drop-in"] if way == "drop-in" else [])]).check()
        if way == "watch":
            self._stays = node.start([f"{BIN}/cni-reaper", "install", "--watch"])
        elif way == "path unit":
            self._stays = node.start([sys.executable, "-c", _PATH_UNIT, NET_D, f"{BIN}/cni-reaper", "install", "--settle"])

    def _next(self) -> bytes:
        self._serial += 1
        plugins = [bridge(host_local("10.66.0.0/24")), {"type": "tuning"}]
        return json.dumps({"cniVersion": "1.0.0", "name": NETWORK, "serial": self._serial, "plugins": plugins}, indent=2).encode()

    @property
    def comes_back(self) -> bool:
        """Whether somebody puts our entry back into the file."""
        return self.way in ("watch", "path unit")

    def rewrite(self) -> None:
        """The platform's part: write now and then, and look when we are back, until the end."""
        while not self._end.wait(self._random.uniform(*EVERY_S)):
            text, how = self._next(), self._random.choice(self.hows)
            if how == "rename":
                new = self._file.with_name(".platform")
                new.write_bytes(text)
                new.rename(self._file)
            else:
                with self._file.open("wb", buffering=0) as file:
                    file.write(text[:100] if how == "in pieces" else text)
                    if how == "in pieces":
                        time.sleep(BETWEEN_PIECES_S)
                        file.write(text[100:])
            written = time.monotonic()
            self.seen.rewrites += 1
            self._adds_before = self._adds_before or self.seen.adds + 1
            while self.comes_back and time.monotonic() - written < HANG_S:
                now = self._file.read_bytes()
                if _OURS in now:
                    self.seen.away_s.append(time.monotonic() - written)
                    self.seen.lost += b'"serial": %d,' % self._serial not in now
                    break
                time.sleep(_LOOK_S)

    def start_pods(self) -> None:
        """The runtime's part: one pod after the other, until the end."""
        while not self._end.is_set():
            pod = self.node.pod()
            added = self.node.cnitool("add", NETWORK, pod)
            self.seen.adds += 1
            if added.rc == 0:
                self.seen.without += not self.node.records(NETWORK)
            else:
                self.seen.failures.append(added.text)
            self.node.cnitool("del", NETWORK, pod)
            pod.delete()
            if added.rc == 0 and self.node.reservations(NETWORK):  # the DEL fell on half a file: the next ADD would do it
                for address in self.node.reservations(NETWORK):
                    self.node.path(f"/var/lib/cni/networks/{NETWORK}/{address}").unlink()
            for record in self.node.records(NETWORK):
                self.node.path(f"/var/lib/cni/reaper/{NETWORK}/{record}").unlink()

    def has_both(self) -> bool:
        """Tell whether there was a rewrite, and an ADD that began after it."""
        return 0 < self._adds_before < self.seen.adds

    def end(self) -> None:
        """Have both end."""
        self._end.set()

    def settle(self) -> None:
        """See how it stands after the last rewrite, and what staying has cost."""
        now = json.loads(self._file.read_bytes())
        self.seen.lost += now["serial"] != self._serial
        if self.comes_back:
            assert now["plugins"][0]["type"] == "cni-reaper", f"{self.way}: we are out for good"
            ticks = self.node.read(f"/proc/{self._stays}/stat").rpartition(")")[2].split()
            self.seen.cpu_s = sum(int(one) for one in ticks[11:15]) / os.sysconf("SC_CLK_TCK")  # proc(5): utime … cstime


def run(nodes: dict[str, Node], length_s: float, hows: tuple[str, ...] = HOWS) -> dict[str, Seen]:
    """Let all ways run at once on nodes of their own for so long; return what was seen, by way."""
    ways = [Way(node, way, hows) for way, node in nodes.items()]
    threads = [threading.Thread(target=job) for way in ways for job in (way.rewrite, way.start_pods)]
    for thread in threads:
        thread.start()
    threads[0].join(length_s)
    until(lambda: all(way.has_both() for way in ways), "every way has a rewrite and an ADD")
    for way in ways:
        way.end()
    for thread in threads:
        thread.join()
    for way in ways:
        way.settle()
    return {way.way: way.seen for way in ways}


def _row(way: str, seen: Seen) -> str:
    away = sorted(one * 1000 for one in seen.away_s)
    times = f"{statistics.median(away):.0f} / {away[int(len(away) * 0.99)]:.0f} / {away[-1]:.0f} ms" if away else "—"
    others = len(seen.failures) - seen.half_written
    return (
        f"| {way} | {seen.rewrites} | {seen.adds} | {seen.without} ({100 * seen.without / max(1, seen.adds):.1f} %) | {times} "
        f"| {seen.half_written} | {others} | {seen.lost} | {seen.cpu_s:.1f} s |"
    )


def main() -> int:
    """Run it for so many seconds (600), and print the table of docs/rewriting.md."""
    length_s = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    programs = find_programs()
    with Node(programs) as a, Node(programs) as b, Node(programs) as c, Node(programs) as d:
        seen = run(dict(zip(WAYS, (a, b, c, d), strict=True)), length_s)
    heads = (
        "what stays",
        "rewrites",
        "ADDs",
        "without us",
        "out for (median / p99 / max)",
        "failed: half a file",
        "failed: else",
    )
    print("|", " | ".join((*heads, "lost", "CPU")), "|")
    print("|" + "---|" * (len(heads) + 2))
    for way, one in seen.items():
        print(_row(way, one))
    for line in sorted({re.sub(r"\s+", " ", text)[:300] for one in seen.values() for text in one.failures}):
        print(f"\n    {line}")
    return int(any(one.lost for one in seen.values()))


if __name__ == "__main__":
    sys.exit(main())
