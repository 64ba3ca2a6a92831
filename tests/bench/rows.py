"""What is timed, and the store it is timed on. Runs inside a private node: `python -m tests.bench.rows GROUP`, see `run`."""

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench.programs import BESIDE, OURS, Programs, copy_anew
from tests.bench.stopwatch import WARM, Command, Row, claim_cpu, in_turn
from tests.support.cni_calls import BIN, NET_D, bridge, host_local, reaper
from tests.support.node_files import DATA_DIR, STATE_DIR

Conf = dict[str, Any]

POD_COUNTS = (0, 110, 254)
PODS = 110  # what a kubelet takes: the ordinary node
REAPED = (1, 50, 254)
LEAKED_FROM = 30_000  # the number of the first address that leaks
HUGE = 65_534  # addresses of a /16 that host-local gives
METRICS_FILE = "/var/lib/cni/cni-reaper.prom"

BARE = "bare Python"
BARE_COPIED = "bare Python, copied anew"
NOTHING = "C program that does nothing"
LOOPBACK = "Go loopback VERSION"
VERSION = "VERSION"
ADD = f"ADD, {PODS} live, nothing to reap"
COUNTED = f"{ADD}, metricsFile"
REAPS_MOST = f"ADD that reaps {REAPED[-1]}"
DELETES = f"{REAPED[-1]} x host-local DEL"
SWEEP = f"ADD, {HUGE} reservations, 1 % stale"
READ = f"read {HUGE} reservations"
COLD = ", cold page cache"
CHAIN = "the whole chain with cni-reaper"
CHAIN_WITHOUT = "the whole chain without"
PARALLEL = f"{PODS} ADDs in parallel with cni-reaper"
PARALLEL_WITHOUT = f"{PODS} ADDs in parallel without"
HEALTHY = "healthy node"
STAYS = ("leak with a held descriptor", "leak with its address elsewhere", "UNKNOWN owner", "leak under dryRun")
"""What an ADD keeps for a reason that only a full scan finds."""
STAY_BESIDE = (30, PODS)
AT_ONCE = 30

REFERENCE = {
    "starts": BARE,
    "reaps": DELETES,
    "huge": READ,
    "chain": CHAIN_WITHOUT,
    "parallel": PARALLEL_WITHOUT,
    "stays": HEALTHY,
    "at-once": HEALTHY,
}
"""The row of each group to which the others are compared, round by round; HEALTHY: see `reference_of`."""

UNPINNED = ("parallel", "at-once")  # on one CPU nothing would be parallel
NOTED = 8  # ADDs after which the list of standing owners is written again (memory/live_cache.py): a whole turn of its costs

RUN_DIR = "/run/cni-reaper"

READ_ALL = """
import os, sys
directory = os.open(sys.argv[1], os.O_RDONLY)
for name in os.listdir(directory):
    file = os.open(name, os.O_RDONLY, dir_fd=directory)
    os.read(file, 512)
    os.close(file)
"""


def staying(pods: int, what: str, times: int = 1) -> str:
    """Return the name of the row of an ADD, or so many at once, on a node with so many pods and something that stays."""
    return f"{'ADD' if times == 1 else f'{times} ADDs at once'}, {pods} live, {what}"


def reference_of(group: str, row: str) -> str:
    """Return the name of the row to which a row of a group is compared."""
    reference = REFERENCE[group]
    return reference if reference != HEALTHY else f"{row.rpartition(', ')[0]}, {HEALTHY}"


def of_build(row: str, build: str) -> str:
    """Return the name of a row for a build (its name in CNI_PATH)."""
    return row if build == OURS else f"{row} (beside)"


def container_id(name: str) -> str:
    """Return an ID such as a runtime gives."""
    return hashlib.sha256(name.encode()).hexdigest()


def call(verb: str, conf: Conf, owner: str = "", netns: str = "", binary: str = OURS) -> Command:
    """Describe a direct call of a plugin."""
    env = {"CNI_COMMAND": verb, "CNI_PATH": BIN}
    if owner:
        env |= {"CNI_CONTAINERID": owner, "CNI_IFNAME": "eth0", "CNI_NETNS": netns}
    return Command([f"{BIN}/{binary}"], env, json.dumps(conf).encode())


def version_of(executable: str) -> Command:
    """Describe the call that asks for the versions of the specification."""
    return Command([executable], {"CNI_COMMAND": "VERSION"}, b'{"cniVersion":"1.1.0"}')


def bare(programs: Programs, *arguments: str) -> Command:
    """Describe a run of the bare interpreter: nothing imported that it does not import itself."""
    env = {"LD_LIBRARY_PATH": os.path.dirname(programs.libpython)} if programs.libpython else {}
    return Command([programs.python, "-I", "-S", "-c", *(arguments or ["pass"])], env)


def do(command: Command) -> None:
    """Run a command untimed; it must succeed."""
    subprocess.run(command.argv, env=command.env, input=command.stdin, stdout=subprocess.DEVNULL, check=True)


class Store:
    """One network of a node that has been running: each live pod has a netns, a record and a reservation.

    Every ADD that is timed is of a pod of its own, which then lives, while the oldest pod ends: so the number of live ones stays,
    and what an ADD leaves for the next one is used up and made again as on a node whose pods come and go.
    """

    def __init__(self, network: str, subnet: str, netns: list[str], binary: str = OURS, home: str = "") -> None:
        """Let a pod start in each netns but the last one, which is the next pod's.

        Args:
            network: its name.
            subnet: the first two numbers of its addresses.
            netns: paths.
            binary: the build that is called, by its name in CNI_PATH.
            home: a directory for reservations and records, by default those of a node.
        """
        self.binary = binary
        self.network = network
        self.subnet = subnet
        data, state = (f"{home}/networks", f"{home}/reaper") if home else (DATA_DIR, STATE_DIR)
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
        self.pods = 0  # that have started
        self._live: deque[tuple[int, str]] = deque()
        *taken, self.free_netns = netns
        for path in taken:
            do(self.next_add(path))
            self.reserve(self.pods)
            self._live.append((self.pods, path))
            self.pods += 1

    def owner(self, number: int) -> str:
        """Return the container ID of a pod."""
        return container_id(f"{self.network}-{number}")

    def address(self, number: int) -> Path:
        """Return the path of the reservation with a number, from 0."""
        return self.reserved / f"{self.subnet}.{(number + 2) // 256}.{(number + 2) % 256}"

    def reserve(self, number: int) -> None:
        """Write a reservation as host-local does."""
        self.address(number).write_bytes(f"{self.owner(number)}\r\neth0".encode())

    def record_path(self, number: int) -> Path:
        """Return the path of a pod's record."""
        return self.records / f"{self.owner(number)}:eth0"

    def next_add(self, netns: str = "", **options: str) -> Command:
        """Describe the ADD of the next pod; options: more of them."""
        return call("ADD", {**self.conf, **options}, self.owner(self.pods), netns or self.free_netns, self.binary)

    def end_add(self) -> None:
        """Do what follows an ADD: host-local reserves an address, and the oldest pod ends, whose netns is the next one's."""
        self.reserve(self.pods)
        self._live.append((self.pods, self.free_netns))
        self.pods += 1
        ended, self.free_netns = self._live.popleft()
        self.address(ended).unlink()
        self.record_path(ended).unlink()

    def add(self, name: str, **options: str) -> Row:
        """Return the row of an ADD; options: more of them."""
        return Row(of_build(name, self.binary), lambda _: [self.next_add(**options)], after=lambda _: self.end_add())

    def leak(self, numbers: range, like: Conf) -> None:
        """Write reservations and records of pods whose netns is gone; like: the record of such a one."""
        for number in numbers:
            self.record_path(number).write_text(json.dumps({**like, "netns": f"/run/netns/gone-{number}"}))
            self.reserve(number)

    def dead_record(self) -> Conf:
        """Return the record of a pod whose netns is gone."""
        (netns,) = make_netns(1, "dead")
        do(self.next_add(netns))
        path = self.record_path(self.pods)
        record: Conf = json.loads(path.read_bytes())
        path.unlink()
        self.pods += 1
        subprocess.run(["ip", "netns", "del", "dead-0"], check=True)
        return record

    def scans(self) -> int:
        """Return how many full scans of the network have begun: the gate counts them."""
        try:
            return int.from_bytes((Path(RUN_DIR) / f"{self.network}.sweep").read_bytes()[:8], "little")
        except FileNotFoundError:
            return 0

    def has_scanned(self) -> Callable[[], bool]:
        """Return a question: has a full scan begun since it was asked last?"""
        before = self.scans()

        def asked() -> bool:
            nonlocal before
            earlier, before = before, self.scans()
            return earlier != before

        return asked


def make_netns(count: int, prefix: str) -> list[str]:
    """Make network namespaces as `ip netns` does; return their paths."""
    batch = "".join(f"netns add {prefix}-{number}\n" for number in range(count))
    subprocess.run(["ip", "-batch", "-"], input=batch.encode(), check=True)
    return [f"/run/netns/{prefix}-{number}" for number in range(count)]


@dataclass(frozen=True)
class Setting:
    """What a group gets. installed: Python as it was found; rounds: how often; disk: an empty directory on a disk."""

    programs: Programs
    installed: Programs
    rounds: int
    disk: str


def starts(given: Setting) -> list[Row]:
    """Every verb when there is nothing to reap, and what it is compared with."""
    programs = given.programs
    netns = make_netns(max(POD_COUNTS) + 1, "live")
    own = make_netns(1, "own")[0]
    stores = {count: Store(f"live-{count}", f"10.{100 + turn}", netns[: count + 1]) for turn, count in enumerate(POD_COUNTS)}
    some = stores[PODS]
    do(call("ADD", some.conf, container_id("own"), own))
    checked = {**some.conf, "prevResult": {"cniVersion": "1.0.0", "ips": [], "interfaces": []}}

    def given_id(turn: int) -> str:
        return container_id(f"given-{turn}")

    rows = [
        Row(NOTHING, lambda _: [Command([programs.nothing])]),
        Row(BARE, lambda _: [bare(given.installed)]),
        Row(BARE_COPIED, lambda _: [bare(programs)]),
        Row(LOOPBACK, lambda _: [version_of(f"{BIN}/loopback")]),
        Row(VERSION, lambda _: [version_of(f"{BIN}/{OURS}")]),
        Row("STATUS", lambda _: [call("STATUS", {**some.conf, "cniVersion": "1.1.0"})]),
        Row("CHECK", lambda _: [call("CHECK", checked, container_id("own"), own)]),
        Row(
            "DEL",
            lambda turn: [call("DEL", some.conf, given_id(turn), own)],
            before=lambda turn: do(call("ADD", {**some.conf, "reapOn": []}, given_id(turn), own)),
            after=lambda turn: (some.records / f"{given_id(turn)}:eth0").unlink(missing_ok=True),
        ),
        Row(
            "host-local ADD",
            lambda turn: [call("ADD", some.ipam, given_id(turn), own, "host-local")],
            after=lambda turn: do(call("DEL", some.ipam, given_id(turn), own, "host-local")),
        ),
        *(stores[count].add(f"ADD, {count} live, nothing to reap") for count in POD_COUNTS),
        some.add(COUNTED, metricsFile=METRICS_FILE),
    ]
    if programs.beside:
        rows.append(Row(of_build(VERSION, BESIDE), lambda _: [version_of(f"{BIN}/{BESIDE}")]))
        rows.append(Store("beside", "10.110", netns[: PODS + 1], BESIDE).add(ADD))
    return rows


def reaps(_: Setting) -> list[Row]:
    """ADD that reaps, beside host-local's own DEL of as many."""
    netns = make_netns(PODS + 1, "live")
    rows = [_reaping(Store(f"reap-{count}", f"10.{120 + turn}", netns), count) for turn, count in enumerate(REAPED)]
    released = Store("released", "10.130", netns[:1])
    leaked = range(max(REAPED))

    def reserve_all(_: int) -> None:
        for number in leaked:
            released.reserve(number)

    rows.append(
        Row(
            DELETES,
            lambda _: [call("DEL", released.ipam, released.owner(number), "", "host-local") for number in leaked],
            before=reserve_all,
        )
    )
    return rows


def _reaping(store: Store, count: int) -> Row:
    like = store.dead_record()
    leaked = range(LEAKED_FROM, LEAKED_FROM + count)

    def verify(_: int) -> None:
        left = len([name for name in os.listdir(store.reserved) if name[0].isdigit()])
        if left != PODS:
            log = Path("/var/log/cni-reaper.log").read_text()[-2000:]
            message = f"{store.network}: {left} reservations are left, not {PODS}: {log}"
            raise AssertionError(message)
        for number in leaked:
            store.record_path(number).unlink(missing_ok=True)
        store.end_add()

    return replace(store.add(f"ADD that reaps {count}"), before=lambda _: store.leak(leaked, like), after=verify)


def huge(given: Setting) -> list[Row]:
    """A whole /16 on a disk, of which 1 % is stale; warm, and with nothing in the page cache."""
    netns = make_netns(PODS + 1, "live")
    store = Store("huge", "10.200", netns, home=given.disk)
    store.conf["budgetMs"] = 60_000
    like = store.dead_record()
    alive = [json.loads(store.record_path(number).read_bytes()) for number in range(PODS)]
    stale = range(0, HUGE, 100)
    for number in range(HUGE):
        store.record_path(number).write_text(json.dumps(alive[number % PODS]))
        store.reserve(number)
    directories = (str(store.reserved), str(store.records))

    def leak(_: int) -> None:
        store.leak(stale, like)

    def warmed(turn: int) -> None:
        leak(turn)
        for directory in directories:
            do(bare(given.programs, READ_ALL, directory))

    def chilled(turn: int) -> None:
        leak(turn)
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")

    def sweep(name: str, before: Callable[[int], None]) -> Row:
        def owner(turn: int) -> str:
            return container_id(f"{name} {turn}")

        def verify(turn: int) -> None:
            (store.records / f"{owner(turn)}:eth0").unlink()
            LEFT.append(sum(store.address(number).exists() for number in stale))

        return Row(name, lambda turn: [call("ADD", store.conf, owner(turn), netns[-1])], before=before, after=verify)

    small = Store("cold", "10.201", netns, home=given.disk)
    read = Row(READ, lambda _: [bare(given.programs, READ_ALL, directories[0])], before=warmed)
    return [
        sweep(SWEEP, warmed),
        read,
        sweep(f"{SWEEP}{COLD}", chilled),
        replace(read, name=f"{READ}{COLD}", before=chilled),
        replace(small.add(ADD), name=f"{ADD}{COLD}", before=chilled),
    ]


LEFT: list[int] = []
"""How many stale ones each sweep of the huge store has left."""


def cnitool(programs: Programs, verb: str, network: str, netns: str) -> Command:
    """Describe a call of cnitool, which makes the container ID from the path of the netns."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return Command([programs.cnitool, verb, network, netns], {"NETCONFPATH": NET_D, "CNI_PATH": BIN, "PATH": path})


def networks(programs: Programs, beside: str, without: str) -> dict[str, str]:
    """Write the conflist of the whole chain once without cni-reaper and once for each build; return its name by row.

    beside: name of the row with cni-reaper, without: of the other.
    """
    heads: dict[str, list[Conf]] = {without: []}
    heads |= {of_build(beside, build): [{**reaper(logLevel="warning"), "type": build}] for build in programs.builds()}
    names = {}
    for turn, (row, head) in enumerate(heads.items()):
        names[row] = name = f"chain{turn}"
        plugins = [
            *head,
            bridge(host_local(f"10.{140 + turn}.0.0/16"), name=f"cni{turn}", ipMasq=True),
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
            {"type": "firewall"},
        ]
        (Path(NET_D) / f"{name}.conflist").write_text(json.dumps({"cniVersion": "1.0.0", "name": name, "plugins": plugins}))
    return names


def chain(given: Setting) -> list[Row]:
    """The whole chain through cnitool: bridge with ipMasq, portmap, firewall; beside as many pods as a kubelet takes."""
    return [_pods(given, name, network) for name, network in networks(given.programs, CHAIN, CHAIN_WITHOUT).items()]


def _pods(given: Setting, name: str, network: str) -> Row:
    """Start the pods of a network, and return the row of one more: each in a netns of its own; the oldest one ends after it."""
    paths = make_netns(PODS + WARM + given.rounds, network)
    for path in paths[:PODS]:
        do(cnitool(given.programs, "add", network, path))
    return Row(
        name,
        lambda turn: [cnitool(given.programs, "add", network, paths[PODS + turn])],
        after=lambda turn: do(cnitool(given.programs, "del", network, paths[turn])),
    )


def parallel(given: Setting) -> list[Row]:
    """As many pods as a kubelet takes, all at once, through cnitool: a node that comes back."""
    return [_burst(given, name, network) for name, network in networks(given.programs, PARALLEL, PARALLEL_WITHOUT).items()]


def _burst(given: Setting, name: str, network: str) -> Row:
    paths = make_netns(PODS * (WARM + given.rounds), network)

    def calls(verb: str, turn: int) -> list[Command]:
        return [cnitool(given.programs, verb, network, path) for path in paths[turn * PODS : (turn + 1) * PODS]]

    def end(turn: int) -> None:
        for command in calls("del", turn):
            do(command)

    return Row(name, lambda turn: calls("add", turn), together=True, after=end)


def stays(_: Setting) -> list[Row]:
    """One ADD beside something that stays for a reason, and beside nothing of the kind: what does each ADD pay for it?"""
    netns = make_netns(PODS + 1, "live")
    make_netns(1, "nobodys")  # an owner without a record is UNKNOWN while there is one
    return [_beside(netns, pods, what) for pods in STAY_BESIDE for what in (HEALTHY, *STAYS)]


def _beside(netns: list[str], pods: int, what: str) -> Row:
    store, verify = _with_something(netns[: pods + 1], what)

    def end(_: int) -> None:
        verify()
        store.end_add()

    return replace(store.add(staying(pods, what)), after=end, again=store.has_scanned())


def at_once(_: Setting) -> list[Row]:
    """The same with as many ADDs at once, each of a pod of its own."""
    netns, own = make_netns(PODS + 1, "live"), make_netns(AT_ONCE, "own")
    make_netns(1, "nobodys")
    return [_beside_at_once(netns, own, what) for what in (HEALTHY, *STAYS)]


def _beside_at_once(netns: list[str], own: list[str], what: str) -> Row:
    store, verify = _with_something(netns, what)

    def owners(turn: int) -> list[str]:
        return [container_id(f"{store.network}-{turn}-{path}") for path in own]

    def end(turn: int) -> None:
        verify()
        for owner in owners(turn):
            (store.records / f"{owner}:eth0").unlink()

    return Row(
        staying(PODS, what, AT_ONCE),
        lambda turn: [call("ADD", store.conf, owner, path) for owner, path in zip(owners(turn), own, strict=True)],
        together=True,
        after=end,
        again=store.has_scanned(),
    )


def _with_something(netns: list[str], what: str) -> tuple[Store, Callable[[], None]]:
    """Return a store with something that stays, one of STAYS, or nothing; and a function that fails when it has not stayed."""
    number = (HEALTHY, *STAYS).index(what)
    pods = len(netns) - 1
    network = f"stays-{pods}-{number}"
    store = Store(network, f"10.{160 + 10 * (pods == PODS) + number}", netns)
    kept = store.address(LEAKED_FROM)
    if what == STAYS[0]:
        (path,) = make_netns(1, network)
        store.pods = LEAKED_FROM
        do(store.next_add(path))
        store.reserve(LEAKED_FROM)
        store.pods = pods
        os.open(path, os.O_RDONLY)  # for as long as this process runs
        subprocess.run(["ip", "netns", "del", f"{network}-0"], check=True)
    elif what in (STAYS[1], STAYS[3]):
        store.leak(range(LEAKED_FROM, LEAKED_FROM + 1), store.dead_record())
        if what == STAYS[1]:
            make_netns(1, network)
            subprocess.run(["ip", "-n", f"{network}-0", "address", "add", f"{kept.name}/32", "dev", "lo"], check=True)
        else:
            store.conf["dryRun"] = True
    elif what == STAYS[2]:
        store.reserve(LEAKED_FROM)

    def verify() -> None:
        if what != HEALTHY and not (kept.exists() and store.scans()):
            message = f"{network}: {kept.name} was freed, or never asked for"
            raise AssertionError(message)

    return store, verify


def measured_once(given: Setting) -> Conf:
    """What repeats and needs no rounds: user instructions (callgrind), system calls (strace), peak RSS (time) of a call.

    Of ADD, whose costs differ in a turn of NOTED calls, it is the mean.
    """
    netns = make_netns(PODS + 1, "live")
    found = {BARE: _counted(lambda: bare(given.installed), 1)}
    for turn, build in enumerate(given.programs.builds()):
        found[of_build(VERSION, build)] = _counted(lambda build=build: version_of(f"{BIN}/{build}"), 3)  # type: ignore[misc]  # mypy has no type for the default
        store = Store(f"once-{turn}", f"10.{150 + turn}", netns, build)
        found[of_build(ADD, build)] = _counted(store.next_add, NOTED, store.end_add)
    return {"once": found}


def _counted(command: Callable[[], Command], times: int, end: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Run a command some times under each tool, with what follows it; return the means."""
    found = {}
    for name, tool in (("instructions", _instructions), ("system_calls", _system_calls), ("rss_kb", _rss_kb)):
        values = []
        for _ in range(times):
            values.append(tool(command()))
            end()
        found[name] = statistics.mean(values)
    return found


def _under(tool: list[str], command: Command) -> str:
    """Run a command under a tool; return what the tool and the command print as errors."""
    ran = subprocess.run([*tool, *command.argv], env=command.env, input=command.stdin, capture_output=True, check=True)
    return ran.stderr.decode(errors="replace")


def _instructions(command: Command) -> int:
    said = _under(["/usr/bin/valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"], command)
    (line,) = [line for line in said.splitlines() if "Collected :" in line]
    return int(line.rpartition(":")[2])


def _system_calls(command: Command) -> int:
    _under(["/usr/bin/strace", "-f", "-qq", "-e", "signal=none", "-o", "/run/strace"], command)
    return len(Path("/run/strace").read_text(errors="replace").splitlines())


def _rss_kb(command: Command) -> int:
    _under(["/usr/bin/time", "-f", "%M", "-o", "/run/rss"], command)
    return int(Path("/run/rss").read_text())


GROUPS = {
    "starts": starts,
    "reaps": reaps,
    "huge": huge,
    "chain": chain,
    "parallel": parallel,
    "stays": stays,
    "at-once": at_once,
}


def run(group: str, installed: Programs, rounds: int, seed: int, disk: str) -> Conf:
    """Run one group and return what was measured.

    Args:
        group: one of GROUPS, or "once".
        installed: the programs; they are copied anew.
        rounds: how often.
        seed: of the order of the rows.
        disk: an empty directory on a disk.
    """
    given = Setting(copy_anew(installed, disk), replace(installed, libpython=""), rounds, disk)
    if group not in GROUPS:
        return measured_once(given)
    rows = GROUPS[group](given)
    scheduling = "on all CPUs, at ordinary priority" if group in UNPINNED else claim_cpu()
    samples = {name: asdict(samples) for name, samples in in_turn(rows, rounds, seed).items()}
    return {"samples": samples, "scheduling": scheduling, "left": LEFT}


if __name__ == "__main__":
    for directory in (DATA_DIR, STATE_DIR):
        shutil.rmtree(directory, ignore_errors=True)
    order = json.loads(sys.argv[1])
    json.dump(run(**{**order, "installed": Programs(**order["installed"])}), sys.stdout)
