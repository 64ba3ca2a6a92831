"""Pods that cannot be ended: broken files of libcni's cache and of flannel's, as a power cut leaves them, and who removes them.

cnitool with libcni 1.1.2 (containerd 1.6 and 1.7, CRI-O to 1.30, Podman 4) and flannel's plugin 0.9.1 fail at such a file, which
is the control of each story. A file's ctime cannot be set, so a call that has to
find it old has another wall clock (wall_clock.py).
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support import wall_clock
from tests.support.cni_calls import BIN, NET_D, Pod, bridge, host_local, reaper
from tests.support.commands import Command, Ran, command
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, Conf
from tests.support.programs import ROOT, strict_readers
from tests.support.stopped_call import stop_at
from tests.support.waiting import until

NETWORK = "cbr0"
RESULTS, FLANNEL = "/var/lib/cni/results", "/var/lib/cni/flannel"
MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096
NOTED, DUE = "/run/cni-reaper/mend.json", "/run/cni-reaper/mend.due"
LATER_S = 40
"""More than the 30 s that a broken file has to wait."""
BROKEN = {"empty": b"", "blank": b"\n", "NUL bytes": b"\0" * 512, "no JSON": b'{"kind":"cniCacheV1","containerId":"'}
LIVING = "e" * 64


def later(one: Command, step_s: int = LATER_S) -> Command:
    """Give a command a wall clock by which each file is old."""
    return {**one, "argv": [sys.executable, "-I", wall_clock.__file__, str(step_s), *one["argv"]]}


def entry(pod: Pod) -> str:
    """Return the path of libcni's cache entry of a pod."""
    return f"{RESULTS}/{NETWORK}-{pod.container_id}-eth0"


class Chain:
    """A network of a node, its runtime with libcni 1.1.2."""

    def __init__(self, node: Node, *plugins: Conf, cni_version: str = "1.0.0", **options: Any) -> None:
        self.node = node
        self.head: Conf = {"cniVersion": cni_version, "name": NETWORK, **reaper(logLevel="debug", **options)}
        node.conflist(NETWORK, [reaper(logLevel="debug", **options), *plugins], cni_version=cni_version)
        self.cnitool, self.flannel = strict_readers()

    def tool(self, verb: str, pod: Pod) -> Command:
        """Describe a call of the runtime."""
        return command([str(self.cnitool), verb, NETWORK, pod.path], env={"NETCONFPATH": NET_D, "CNI_PATH": BIN})

    def run(self, verb: str, pod: Pod) -> Ran:
        """Make a call of the runtime."""
        return self.node.together([self.tool(verb, pod)])[0]

    def entry(self, verb: str, step_s: int = LATER_S, **options: Any) -> Ran:
        """Call cni-reaper alone, later."""
        more: dict[str, Any] = {"netns": self.node.pod()} if verb == "ADD" else {"container_id": "f" * 64, "netns": ""}
        if verb in ("GC", "STATUS"):
            more = {"ifname": None}
        conf = {**self.head, **options, **({"prevResult": {"cniVersion": "1.0.0"}} if verb == "DEL" else {})}
        one = self.node.plugin_command(verb, conf, **more)
        return self.node.together([later(one, step_s) if step_s else one])[0].check()

    def put(self, data: bytes = b"", path: str = f"{RESULTS}/{NETWORK}-{LIVING}-eth0") -> str:
        """Write a file as a power cut leaves it."""
        self.node.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.node.path(path).write_bytes(data)
        return path

    def look(self, *, step_s: int = 0) -> list[str | int]:
        """Have a DEL look; return where the next look begins, ["", 0] where this one was whole."""
        self.node.path(DUE).unlink(missing_ok=True)
        self.entry("DEL", step_s)
        begins: list[str | int] = json.loads(self.node.read(NOTED))["next"]
        return begins

    def wait(self, seconds: int) -> None:
        """Let time go by for all files that a look has noted: they were seen so much earlier."""
        noted = json.loads(self.node.read(NOTED))
        for seen in noted["files"].values():
            seen[2] -= seconds
        self.node.write(NOTED, json.dumps(noted))

    def exists(self, path: str) -> bool:
        """Tell whether a file of the node is there."""
        return self.node.path(path).exists()


@pytest.fixture
def chain(node: Node) -> Chain:
    """A network whose pods have an address and no interface, and a node on which an ADD of this boot has come."""
    found = Chain(node)
    found.node.path(f"{DATA_DIR}/{NETWORK}").mkdir(parents=True)
    found.entry("ADD", 0)
    return found


@pytest.mark.parametrize("cause", BROKEN)
def test_a_pod_whose_cache_entry_is_broken_can_be_ended_after_the_next_add(node: Node, cause: str) -> None:
    """A power cut: DEL fails for ever, in libcni, before any plugin is called; with the boot's first ADD it works."""
    chain = Chain(node, bridge(host_local("10.77.0.0/24")))
    pod = node.pod()
    chain.run("add", pod).check()
    node.reboot()
    node.path(entry(pod)).write_bytes(BROKEN[cause])
    for _ in range(2):
        failed = chain.run("del", pod)
        assert failed.rc == 1
        assert "decoding version from network config" in failed.text
    chain.entry("ADD")
    assert not chain.exists(entry(pod))
    (told,) = node.log("cache-removed")
    wanted = {"file": entry(pod), "network": NETWORK, "container": pod.container_id, "ifname": "eth0", "cause": cause}
    assert told == {**told, **wanted, "level": "info", "size": str(len(BROKEN[cause]))}
    assert node.reservations(NETWORK) == {}
    chain.run("del", pod).check()


@pytest.mark.parametrize("cause", BROKEN)
def test_a_pod_whose_flannel_file_is_broken_can_be_ended_after_the_next_add(node: Node, cause: str) -> None:
    """The same in flannel's plugin, whatever libcni: of a list of 0.4.0 with flannel's own delegate."""
    delegate = {"isDefaultGateway": True, "hairpinMode": True}
    chain = Chain(node, {"type": "flannel", "delegate": delegate}, cni_version="0.4.0")
    node._put(chain.flannel, f"{BIN}/flannel")
    node.write(
        "/run/flannel/subnet.env",
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n",
    )
    pod = node.pod()
    chain.run("add", pod).check()
    scratch = f"{FLANNEL}/{pod.container_id}"
    assert json.loads(node.read(scratch))["ipam"]["type"] == "host-local"
    node.path(scratch).write_bytes(BROKEN[cause])
    pod.delete()
    for verb in ("del", "del"):
        failed = chain.run(verb, pod)
        assert failed.rc == 1
        assert "failed to parse netconf" in failed.text
    chain.entry("ADD")
    assert node.reservations(NETWORK) == {}
    assert not chain.exists(scratch), node.log()
    chain.run("del", pod).check()


# When


def test_the_first_add_of_a_boot_looks_and_a_healthy_one_does_not(chain: Chain) -> None:
    """Nothing has leaked: only who proves this boot's view has anything to do with the cache."""
    path = chain.put()
    chain.entry("ADD")
    assert chain.exists(path)
    chain.node.reboot()
    chain.entry("ADD")
    assert not chain.exists(path)


def test_a_young_file_waits(chain: Chain) -> None:
    """By the clock that stamps it, it is not 30 s old: it may be half written."""
    path = chain.put()
    for step_s in (0, 25):
        chain.node.reboot()
        chain.entry("ADD", step_s)
        assert chain.exists(path)
    assert [told["reason"] for told in chain.node.log("cache-waits")] == ["it was written less than 30 s ago"] * 2


def test_an_add_that_has_freed_something_looks(chain: Chain) -> None:
    """A sweep that reaps is the sign of a cut."""
    path = chain.put()
    chain.node.reserve(NETWORK, "10.77.0.9", "d" * 64)
    chain.entry("ADD")
    assert chain.node.log("reaped")
    assert not chain.exists(path)


@pytest.mark.parametrize("verb", ["DEL", "GC", "STATUS"])
def test_verbs_that_nobody_waits_for_look_once_a_minute(chain: Chain, verb: str) -> None:
    """The second one within the minute does not; a note of another boot's clock counts for nothing."""
    chain.head["cniVersion"] = "1.1.0"
    for due in (None, "99999999999999", "no number"):
        if due is None:
            chain.node.path(DUE).unlink()
        else:
            chain.node.write(DUE, due)
        path = chain.put()
        chain.entry(verb)
        assert not chain.exists(path), due
        chain.put()
        chain.entry(verb)
        assert chain.exists(path)


def test_what_has_to_wait_is_asked_as_soon_as_it_is_old(chain: Chain) -> None:
    """A look that leaves something waiting has the next DEL look then, and not after a minute."""
    chain.put()
    chain.node.path(DUE).unlink()
    chain.entry("DEL", 0)
    due = int(chain.node.read(DUE))
    chain.node.path(f"{RESULTS}/{NETWORK}-{LIVING}-eth0").unlink()
    chain.node.path(DUE).unlink()
    chain.entry("DEL", 0)
    assert int(chain.node.read(DUE)) > due


def test_it_can_be_turned_off_and_only_said(chain: Chain) -> None:
    """`"cache": false` leaves them alone, dryRun tells."""
    path = chain.put()
    for options in ({"cache": False}, {"dryRun": True}, {"cache": "no"}):
        chain.node.path(DUE).unlink(missing_ok=True)
        chain.entry("DEL", **options)
        assert chain.exists(path)
    assert len(chain.node.log("would-remove")) == 1
    assert chain.node.log("bad-options")


def test_reap_on_is_not_asked(chain: Chain) -> None:
    """An entry that reaps on no verb removes broken files all the same."""
    path = chain.put()
    chain.node.path(DUE).unlink()
    chain.entry("DEL", reapOn=[])
    assert not chain.exists(path)


# The clocks


@pytest.mark.parametrize("step_s", [-1_700_000_000, -86_400])
def test_a_clock_that_was_set_back_is_waited_out(chain: Chain, step_s: int) -> None:
    """A board without a clock is in 1970: the file is from the future, and has to stay the same for 30 s of the boot's clock."""
    path = chain.put()
    chain.look(step_s=step_s)
    for waited_s, there in ((28, True), (3, False)):
        chain.wait(waited_s)
        chain.look(step_s=step_s)
        assert chain.exists(path) == there


def test_another_time_namespace_has_waited_for_nothing(chain: Chain) -> None:
    """A process whose CLOCK_BOOTTIME is an hour ahead believes its own notes only."""
    path = chain.put()
    chain.look(step_s=-86_400)
    conf = {**chain.head, "prevResult": {}}
    one = later(chain.node.plugin_command("DEL", conf, container_id="f" * 64, netns=""), -86_400)
    chain.node.path(DUE).unlink()
    ahead = ["unshare", "--time", "--fork", "--monotonic", "3600", "--boottime", "3600"]
    chain.node.together([{**one, "argv": [*ahead, *one["argv"]]}])[0].check()
    assert chain.exists(path)
    assert len(json.loads(chain.node.read(NOTED))["files"]) == 1


# Races


@pytest.mark.parametrize("before", [None, b""], ids=["no file", "a broken file"])
def test_libcni_that_stops_between_truncating_and_writing_keeps_its_entry(chain: Chain, before: bytes | None) -> None:
    """The entry is empty, by each clock old, and its writer has it open: it stays, however long that takes."""
    pod = chain.node.pod()
    if before is not None:
        chain.put(before, entry(pod))
    stopped = stop_at(chain.node, chain.tool("add", pod) | {"stdin": b""}, "openat", entry(pod))
    assert chain.node.path(entry(pod)).read_bytes() == b""
    for step_s in (0, LATER_S, 10**8, -(10**8)):
        chain.node.path(DUE).unlink()
        chain.entry("DEL", step_s)
        assert chain.exists(entry(pod)), step_s
    assert {told["reason"] for told in chain.node.log("cache-waits")} == {"a process has it open for writing"}
    stopped.go_on()
    assert json.loads(chain.node.read(entry(pod)))["containerId"] == pod.container_id
    chain.node.path(DUE).unlink()
    chain.entry("DEL")
    chain.run("del", pod).check()


@pytest.mark.parametrize(
    ("call", "aside"),
    [("openat", False), ("newfstatat", False), ("renameat", False), ("newfstatat", True), ("unlinkat", True)],
)
def test_an_add_while_a_look_stands_still_keeps_its_entry(chain: Chain, call: str, aside: bool) -> None:
    """cni-reaper is stopped behind each step of the removal while the same attachment's ADD runs whole; then it goes on."""
    pod = chain.node.pod()
    path = chain.put(b"", entry(pod))
    chain.look()
    chain.wait(31)
    chain.node.path(DUE).unlink()
    conf = {**chain.head, "prevResult": {}}
    one = chain.node.plugin_command("DEL", conf, container_id="f" * 64, netns="")
    name = Path(path).name
    stopped = stop_at(chain.node, one, call, f".cni-reaper.{name}" if aside else name)
    chain.run("add", pod).check()
    stopped.go_on()
    assert json.loads(chain.node.read(path))["containerId"] == pod.container_id


ROUNDS = int(os.environ.get("CNI_REAPER_MEND_ROUNDS", "200"))
SWEEPER = """
import os, sys, time
sys.path[:0] = {path}
from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.mend.look import look
from cni_reaper_plugin.mend.places import places
real = time.time_ns
time.time_ns = lambda: real() + 40 * 10**9
where, log, looks, removed = places(["/var/lib/cni"]), Log("error", ""), 0, 0
print("begun", flush=True)
while True:
    removed += len(look(where, log, dry_run=False).removed)
    looks += 1
    open("/run/looks.new", "w").write(f"{{looks}} {{removed}}")
    os.replace("/run/looks.new", "/run/looks")
"""
"""Looks all the time, by a clock by which each file is old: nothing but the writer itself keeps it from removing one."""


def test_no_good_file_is_lost_beside_looks_that_never_end(chain: Chain, record_property: Callable[[str, object], None]) -> None:
    """ADD and DEL, every other ADD over a broken file of its name, while a process looks; each entry is there after its ADD."""
    node, pods = chain.node, [chain.node.pod() for _ in range(4)]
    script = SWEEPER.format(path=[str(ROOT), str(Path(orjson.__file__).parent.parent)])
    sweeper = node.start([sys.executable, "-I", "-c", script])
    until(lambda: chain.exists("/run/looks"), "the looks begin")
    away = 0
    for number in range(ROUNDS):
        pod = pods[number % len(pods)]
        if number % 2:
            chain.put(b"", entry(pod))
        chain.run("add", pod).check()
        if not chain.exists(entry(pod)):  # moved aside while it was written: it comes back when the look has asked it once more
            away += 1
            until(lambda pod=pod: chain.exists(entry(pod)), f"the entry of round {number} comes back")  # type: ignore[misc]
        assert json.loads(node.read(entry(pod)))["containerId"] == pod.container_id, number
        chain.run("del", pod).check()
        assert not chain.exists(entry(pod))
    looks, removed = map(int, node.read("/run/looks").split())
    assert looks > 1
    node.stop(sweeper)
    chain.look(step_s=LATER_S)  # what the killed one had moved aside
    assert list(node.path(RESULTS).iterdir()) == []
    record_property("rounds beside looks", ROUNDS)
    record_property("entries that were away for a moment", away)
    record_property("looks", looks)
    record_property("broken files removed by the way", removed)


# What else may be there


def test_a_hostile_directory_is_left_alone(chain: Chain) -> None:
    """Names with newlines, directories, FIFOs, sockets, symlinks; each of a writer's form where it can be."""
    node = chain.node
    names = {f"{NETWORK}-{number:064x}-eth0" for number in range(8)}
    for name in names:
        chain.put(b"", f"{RESULTS}/{name}")
    script = f"""
        cd {RESULTS}
        mkdir a-{LIVING}-eth0 'n
l-{LIVING}-eth0'
        mkfifo b-{LIVING}-eth0
        ln -s /etc/passwd c-{LIVING}-eth0
        ln -s /nowhere d-{LIVING}-eth0
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("e-{LIVING}-eth0")'
        : > 'net
level=error event=reaped-{LIVING}-eth0'
        : > "$(printf 'net-{LIVING}-\\377\\376')"
        : > README
        rm -rf /var/lib/cni/flannel && ln -s /etc /var/lib/cni/flannel
        mkdir -p /var/lib/cni/cache && ln -s /etc /var/lib/cni/cache/results
    """
    node.run(["bash", "-c", script]).check()
    before = node.run(["ls", "-la", "/etc"]).check().out
    for _ in range(2):
        node.path(DUE).unlink()
        chain.entry("DEL")
    left = {entry.name for entry in node.path(RESULTS).iterdir()}
    assert len(left) == 8
    assert not left & names
    assert len(node.log("cache-removed")) == 9
    assert node.run(["ls", "-la", "/etc"]).check().out == before
    (said,) = (told for told in node.log("cache-not-read") if told["level"] == "warning")
    assert "/var/lib/cni/cache/results is a symlink" in said["reason"]
    assert all(set(told) >= {"time", "level", "event"} for told in node.log())


def test_100_000_entries_are_looked_at_in_turn(chain: Chain) -> None:
    """Each call is cut in time, and the next one goes on: in the end all broken files are gone, and no good one."""
    node, everything = chain.node, 100_000
    script = f"""
import os
os.makedirs("{RESULTS}", exist_ok=True)
for number in range({everything}):
    with open(f"{RESULTS}/{NETWORK}-{{number:064x}}-eth0", "wb") as file:
        if number % 1000:
            file.write(b'{{"kind":"cniCacheV1"}}')
"""
    node.run([sys.executable, "-I", "-c", script], timeout=120).check()
    assert chain.look() != ["", 0], "one call has looked at all of them"
    until(lambda: bool(chain.look()) and len(json.loads(node.read(NOTED))["files"]) == 100, "all were looked at")
    chain.wait(31)
    until(lambda: bool(chain.look()) and len(node.log("cache-removed")) == 100, "all broken ones are gone")
    assert sum(1 for _ in node.path(RESULTS).iterdir()) == everything - 100


def test_a_cache_that_cannot_be_written_costs_nobody_his_pod(chain: Chain) -> None:
    """A read-only /var/lib/cni: said once, and each verb answers as ever."""
    node = chain.node
    path = chain.put()
    node.mount(RESULTS, RESULTS, flags=MS_BIND)
    node.mount(RESULTS, RESULTS, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)
    for _ in range(2):
        chain.look(step_s=LATER_S)
    assert chain.exists(path)
    assert [told["level"] for told in node.log("cache-not-removed")] == ["warning", "debug"]


def test_no_network_takes_the_turn_of_another(chain: Chain) -> None:
    """Each looks into the caches of its own entry: one whose DELs are frequent is the first after each minute."""
    other = "/var/lib/other"
    chain.node.path(f"{DATA_DIR}/rare").mkdir(parents=True)
    path = chain.put(b"", f"{other}/results/rare-{LIVING}-eth0")
    for _ in range(3):
        chain.look(step_s=LATER_S)
        chain.entry("DEL", LATER_S, name="rare", cacheDirs=[other])
    assert not chain.exists(path)
