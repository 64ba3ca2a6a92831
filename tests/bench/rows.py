"""What is timed, and the store it is timed on. Runs inside a private node: `python -m tests.bench.rows GROUP`, see `run`."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.stopwatch import Command, Row, in_turn
from tests.node import BIN, DATA_DIR, NET_D, STATE_DIR, bridge, host_local, reaper

Conf = dict[str, Any]

LIVE = (0, 110, 254)
REAPED = (1, 50, 254)
BESIDE = 110  # live ones, beside those that are reaped
NOTHING_TO_REAP = f"ADD, {BESIDE} live, nothing to reap"
METRICS_FILE = "/var/lib/cni/cni-reaper.prom"
COUNTED = f"{NOTHING_TO_REAP}, metricsFile"
BARE = "python3.11 -I -S -c pass"
HUGE = 65_534  # addresses of a /16 that host-local gives
PARALLEL = 110
READ_ALL = """
import os, sys
directory = os.open(sys.argv[1], os.O_RDONLY)
for name in os.listdir(directory):
    file = os.open(name, os.O_RDONLY, dir_fd=directory)
    os.read(file, 512)
    os.close(file)
"""


def container_id(name: str) -> str:
    """Return an ID such as a runtime gives."""
    return hashlib.sha256(name.encode()).hexdigest()


def call(verb: str, conf: Conf, owner: str = "", netns: str = "", binary: str = "cni-reaper") -> Command:
    """Describe a direct call of a plugin."""
    env = {"CNI_COMMAND": verb, "CNI_PATH": BIN}
    if owner:
        env |= {"CNI_CONTAINERID": owner, "CNI_IFNAME": "eth0", "CNI_NETNS": netns}
    return Command([f"{BIN}/{binary}"], env, json.dumps(conf).encode())


def do(command: Command) -> None:
    """Run a command untimed; it must succeed."""
    subprocess.run(command.argv, env=command.env, input=command.stdin, stdout=subprocess.DEVNULL, check=True)


class Store:
    """One network: its live owners have a netns each and a record, as after an ADD through the chain.

    data, state: directories; subnet: the first two numbers of its addresses.
    """

    def __init__(self, network: str, subnet: str, data: str = DATA_DIR, state: str = STATE_DIR) -> None:
        self.network = network
        self.subnet = subnet
        self.reserved = Path(data) / network
        self.records = Path(state) / network
        options = reaper(logLevel="warning", dataDir=data, stateDir=state)
        self.conf: Conf = {"cniVersion": "1.0.0", "name": network, **options}
        self.ipam: Conf = {
            "cniVersion": "1.0.0",
            "name": network,
            "ipam": {"type": "host-local", "dataDir": data, "ranges": [[{"subnet": f"{subnet}.0.0/16"}]]},
        }
        self.reserved.mkdir(parents=True)
        (self.reserved / "lock").touch(0o600)

    def address(self, number: int) -> str:
        """Return the address with a number, from 0."""
        return f"{self.subnet}.{(number + 2) // 256}.{(number + 2) % 256}"

    def attach(self, number: int, netns: str) -> None:
        """Let a container start, in the order of the chain: our ADD, host-local's file."""
        owner = container_id(f"{self.network}-{number}")
        do(call("ADD", {**self.conf, "reapOn": []}, owner, netns))
        self.reserve(number)

    def reserve(self, number: int) -> None:
        """Write a reservation as host-local does."""
        owner = container_id(f"{self.network}-{number}")
        (self.reserved / self.address(number)).write_bytes(f"{owner}\r\neth0".encode())

    def record(self, number: int, like: Conf, netns: str) -> None:
        """Write a record like one that cni-reaper wrote, with another path."""
        owner = container_id(f"{self.network}-{number}")
        (self.records / f"{owner}:eth0").write_text(json.dumps({**like, "netns": netns}))

    def read_record(self, number: int) -> Conf:
        """Return the record of a live one."""
        record: Conf = json.loads((self.records / f"{container_id(f'{self.network}-{number}')}:eth0").read_bytes())
        return record

    def forget(self, owner: str) -> None:
        """Remove a record."""
        (self.records / f"{owner}:eth0").unlink(missing_ok=True)

    def add(self, name: str, netns: str, **options: str) -> Row:
        """ADD for a new container each time; options: more of them."""
        return Row(
            name,
            lambda turn: [call("ADD", {**self.conf, **options}, container_id(f"own-{turn}"), netns)],
            after=lambda turn: self.forget(container_id(f"own-{turn}")),
        )


def make_netns(count: int, prefix: str) -> list[str]:
    """Make network namespaces as `ip netns` does; return their paths."""
    batch = "".join(f"netns add {prefix}-{number}\n" for number in range(count))
    subprocess.run(["ip", "-batch", "-"], input=batch.encode(), check=True)
    return [f"/run/netns/{prefix}-{number}" for number in range(count)]


def dead_record(store: Store) -> Conf:
    """Return the record of a container whose netns is gone."""
    (netns,) = make_netns(1, "dead")
    store.attach(60_000, netns)
    record = store.read_record(60_000)
    subprocess.run(["ip", "netns", "del", "dead-0"], check=True)
    store.forget(container_id(f"{store.network}-60000"))
    (store.reserved / store.address(60_000)).unlink()
    return record


def starts(programs: Conf) -> list[Row]:
    """Every verb when there is nothing to reap, and what stands beside it."""
    netns = make_netns(max(LIVE) + 1, "live")
    stores = {}
    for turn, count in enumerate(LIVE):
        store = stores[count] = Store(f"live-{count}", f"10.{100 + turn}")
        for number in range(count):
            store.attach(number, netns[number])
    some = stores[BESIDE]
    own = netns[-1]
    do(call("ADD", some.conf, container_id("own"), own))
    checked = {**some.conf, "prevResult": {"cniVersion": "1.0.0", "ips": [], "interfaces": []}}
    given = container_id("given")
    version = Command(["/bin/true"], {"CNI_COMMAND": "VERSION"}, b'{"cniVersion":"1.1.0"}')

    def of(path: str) -> list[Command]:
        return [Command([path], version.env, version.stdin)]

    return [
        Row("true", lambda _: [version]),
        Row(BARE, lambda _: [Command([programs["python"], "-I", "-S", "-c", "pass"])]),
        Row("Go loopback VERSION", lambda _: of(f"{BIN}/loopback")),
        Row("VERSION", lambda _: of(f"{BIN}/cni-reaper")),
        Row("VERSION, PyInstaller's default onedir", lambda _: of(programs["onedir"])),
        Row("VERSION, PyInstaller's default onefile", lambda _: of(programs["onefile"])),
        Row("STATUS", lambda _: [call("STATUS", {**some.conf, "cniVersion": "1.1.0"})]),
        Row("CHECK", lambda _: [call("CHECK", checked, container_id("own"), own)]),
        Row(
            "DEL",
            lambda _: [call("DEL", some.conf, given, own)],
            before=lambda _: do(call("ADD", {**some.conf, "reapOn": []}, given, own)),
            after=lambda _: some.forget(given),
        ),
        Row(
            "host-local ADD",
            lambda _: [call("ADD", some.ipam, given, own, "host-local")],
            after=lambda _: do(call("DEL", some.ipam, given, own, "host-local")),
        ),
        *(stores[count].add(f"ADD, {count} live, nothing to reap", own) for count in LIVE),
        some.add(COUNTED, own, metricsFile=METRICS_FILE),
    ]


def reaps(_: Conf) -> list[Row]:
    """ADD that reaps, beside host-local's own DEL of as many."""
    netns = make_netns(BESIDE + 1, "live")
    rows = []
    for turn, count in enumerate(REAPED):
        store = Store(f"reap-{count}", f"10.{120 + turn}")
        for number in range(BESIDE):
            store.attach(number, netns[number])
        rows.append(_reaping(store, count, dead_record(store), netns[-1]))
    released = Store("released", "10.130")
    owners = [container_id(f"released-{number}") for number in range(max(REAPED))]

    def reserve_all(_: int) -> None:
        for number in range(max(REAPED)):
            released.reserve(number)

    rows.append(
        Row(
            f"{max(REAPED)} x host-local DEL",
            lambda _: [call("DEL", released.ipam, owner, "", "host-local") for owner in owners],
            before=reserve_all,
        )
    )
    return rows


def _reaping(store: Store, count: int, like: Conf, own: str) -> Row:
    row = store.add(f"ADD that reaps {count}", own)
    tidy = row.after

    def leak(_: int) -> None:
        for number in range(BESIDE, BESIDE + count):
            store.record(number, like, f"/run/netns/gone-{number}")
            store.reserve(number)

    def verify(turn: int) -> None:
        tidy(turn)
        left = len([name for name in os.listdir(store.reserved) if name[0].isdigit()])
        if left != BESIDE:
            log = Path("/var/log/cni-reaper.log").read_text()[-2000:]
            message = f"{row.name}: {left} reservations are left, not {BESIDE}: {log}"
            raise AssertionError(message)
        for number in range(BESIDE, BESIDE + count):
            store.forget(container_id(f"{store.network}-{number}"))

    row.before, row.after = leak, verify
    return row


def _warmed(store: Store, prepare: Callable[[int], None], programs: Conf) -> Callable[[int], None]:
    """Return what makes things ready and reads all files of a store, since another row has emptied the page cache."""

    def warm(turn: int) -> None:
        prepare(turn)
        for directory in (store.reserved, store.records):
            do(Command([programs["python"], "-I", "-S", "-c", READ_ALL, str(directory)]))

    return warm


def huge(programs: Conf) -> list[Row]:
    """A whole /16 on a disk, of which 1 % is stale; warm, and with nothing in the page cache."""
    netns = make_netns(BESIDE + 1, "live")
    home = programs["disk"]
    store = Store("huge", "10.200", f"{home}/networks", f"{home}/reaper")
    store.conf["budgetMs"] = 60_000
    like = dead_record(store)
    stale = range(0, HUGE, 100)
    for number in range(BESIDE):
        store.attach(number, netns[number])
    alive = [store.read_record(number) for number in range(BESIDE)]
    for number in range(HUGE):
        store.record(number, alive[number % BESIDE], netns[number % BESIDE])
        store.reserve(number)

    def leak(_: int) -> None:
        for number in stale:
            store.record(number, like, f"/run/netns/gone-{number}")
            store.reserve(number)

    def chilled(row: Row) -> Row:
        prepare = row.before

        def chill(turn: int) -> None:
            prepare(turn)
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3")

        row.before = chill
        row.name += ", cold page cache"
        return row

    def sweep() -> Row:
        row = store.add(f"ADD, {HUGE} reservations, 1 % stale", netns[-1])
        row.before = _warmed(store, leak, programs)
        tidy = row.after

        def verify(turn: int) -> None:
            tidy(turn)
            left = sum(store.address(number) in names for names in [set(os.listdir(store.reserved))] for number in stale)
            LEFT.append(left)

        row.after = verify
        return row

    def read() -> Row:
        argv = [programs["python"], "-I", "-S", "-c", READ_ALL, str(store.reserved)]
        return Row(f"read {HUGE} reservations", lambda _: [Command(argv)])

    small = Store("cold", "10.201", f"{home}/networks", f"{home}/reaper")
    for number in range(BESIDE):
        small.attach(number, netns[number])
    few = small.add(NOTHING_TO_REAP, netns[-1])
    return [sweep(), read(), chilled(sweep()), chilled(read()), chilled(few)]


LEFT: list[int] = []
"""How many stale ones each sweep of the huge store has left."""


def cnitool(programs: Conf, verb: str, network: str, netns: str) -> Command:
    """Describe a call of cnitool."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return Command([programs["cnitool"], verb, network, netns], {"NETCONFPATH": NET_D, "CNI_PATH": BIN, "PATH": path})


def conflists() -> None:
    """Write the whole chain twice, without us and with us."""
    for turn, (name, head) in enumerate((("without", []), ("with", [reaper(logLevel="warning")]))):
        chain = [
            *head,
            bridge(host_local(f"10.{140 + turn}.0.0/16"), name=f"cni{turn}", ipMasq=True),
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
            {"type": "firewall"},
        ]
        (Path(NET_D) / f"{name}.conflist").write_text(json.dumps({"cniVersion": "1.0.0", "name": name, "plugins": chain}))


def chain(programs: Conf) -> list[Row]:
    """The whole chain through cnitool: bridge with ipMasq, portmap, firewall."""
    conflists()
    paths = dict(zip(("without", "with"), make_netns(2, "chain"), strict=True))
    return [
        Row(
            f"the whole chain, {name} us",
            lambda _, name=name: [cnitool(programs, "add", name, paths[name])],  # type: ignore[misc]
            after=lambda _, name=name: do(cnitool(programs, "del", name, paths[name])),  # type: ignore[misc]
        )
        for name in paths
    ]


def parallel(programs: Conf) -> list[Row]:
    """As many pods as a kubelet takes, all at once, through cnitool."""
    conflists()
    paths = {name: make_netns(PARALLEL, name) for name in ("without", "with")}

    def end(name: str) -> None:
        for netns in paths[name]:
            do(cnitool(programs, "del", name, netns))

    return [
        Row(
            f"{PARALLEL} ADDs in parallel, {name} us",
            lambda _, name=name: [cnitool(programs, "add", name, netns) for netns in paths[name]],  # type: ignore[misc]
            together=True,
            after=lambda _, name=name: end(name),  # type: ignore[misc]
        )
        for name in paths
    ]


def measured_once(programs: Conf) -> Conf:
    """User instructions (callgrind) and peak RSS (time) of single calls: these repeat."""
    netns = make_netns(BESIDE + 1, "live")
    store = Store("once", "10.150")
    for number in range(BESIDE):
        store.attach(number, netns[number])
    bare = Command([programs["python"], "-I", "-S", "-c", "pass"])
    version = Command([f"{BIN}/cni-reaper"], {"CNI_COMMAND": "VERSION"}, b'{"cniVersion":"1.1.0"}')
    add = call("ADD", store.conf, container_id("own"), netns[-1])
    for _ in range(3):
        do(add)
        store.forget(container_id("own"))
    found: Conf = {"instructions": {}, "rss_kb": {}}
    for name, command in ((BARE, bare), ("VERSION", version), (NOTHING_TO_REAP, add)):
        found["instructions"][name] = _instructions(command)
        store.forget(container_id("own"))
        found["rss_kb"][name] = _rss_kb(command)
        store.forget(container_id("own"))
    return found


def _instructions(command: Command) -> int:
    argv = ["/usr/bin/valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command.argv]
    ran = subprocess.run(argv, env=command.env, input=command.stdin, capture_output=True, check=True)
    (line,) = [line for line in ran.stderr.decode().splitlines() if "Collected :" in line]
    return int(line.rpartition(":")[2])


def _rss_kb(command: Command) -> int:
    argv = ["/usr/bin/time", "-f", "%M", "-o", "/run/rss", *command.argv]
    subprocess.run(argv, env=command.env, input=command.stdin, stdout=subprocess.DEVNULL, check=True)
    return int(Path("/run/rss").read_text())


GROUPS = {"starts": starts, "reaps": reaps, "huge": huge, "chain": chain, "parallel": parallel}


def run(group: str, programs: Conf) -> Conf:
    """Run one group and return what was measured.

    programs: paths: python, onedir, onefile, cnitool; disk: an empty directory on a disk; rounds: by group.
    """
    if group == "once":
        return measured_once(programs)
    rows = GROUPS[group](programs)
    found: Conf = {name: asdict(samples) for name, samples in in_turn(rows, programs["rounds"][group]).items()}
    return {"samples": found, "left": LEFT}


if __name__ == "__main__":
    for directory in (DATA_DIR, STATE_DIR):
        shutil.rmtree(directory, ignore_errors=True)
    json.dump(run(sys.argv[1], json.loads(sys.argv[2])), sys.stdout)
