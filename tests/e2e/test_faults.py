"""A fault at every system call of ADD and DEL: the answer is right, the live pods are kept, and the next ADD mends the rest.

strace makes the n-th call of a name fail with an errno, or kills the process there, once for each call of a clean run and each
fault. Here a part of them, the same in each run; all with CNI_REAPER_FAULTS=all in the environment.
"""

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Callable

import pytest

from tests.support import strace
from tests.support.cni_calls import Pod
from tests.support.commands import Ran
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, LOG_FILE, STATE_DIR
from tests.support.strace import FAULTS, SystemCall
from tests.support.waiting import until

ALL = os.environ.get("CNI_REAPER_FAULTS") == "all"
TRACE = "/run/trace"
RUN = "/run/cni-reaper"
STORE = f"{DATA_DIR}/{NETWORK}"
RECORDS = f"{STATE_DIR}/{NETWORK}"
STATES = (STORE, RECORDS, RUN)
TEMPORARY = ".new-"


class Scene:
    """A node before a call, to which it is brought back after every run.

    verb: of the call; pod: its netns; mends: addresses of leaks that a clean ADD frees; kept: those that must stand after every
    run whatever happened.
    """

    def __init__(self, node: Node) -> None:
        self.network = Network(node)
        self.node = node
        self.verb = "ADD"
        self.pod = node.pod("new")
        self.live = node.pod("live")
        self.kept = {self.network.add(self.live)}  # reserved and not yet configured: its netns is all that saves it
        self.mends: set[str] = set()
        self._files: dict[str, bytes] = {}
        self._directories: set[str] = set()

    def leak(self, name: str) -> None:
        """Add a leak with a record."""
        self.mends.add(self.network.leak(name))

    def settle(self, *, first_of_boot: bool = False) -> None:
        """Take the node as it is for the state to come back to; first_of_boot: without what earlier ADDs left in /run."""
        if first_of_boot:
            shutil.rmtree(self.node.path(RUN))
        for state in STATES:
            directory = self.node.path(state)
            if directory.exists():
                self._directories.add(state)
                for file in directory.iterdir():
                    self._files[f"{state}/{file.name}"] = file.read_bytes()

    def restore(self) -> None:
        """Bring back the files: reservations, records, and what is in /run.

        The records are written each time, since one that is much older than its reservation is of an earlier life.
        """
        for state in STATES:
            directory = self.node.path(state)
            if state not in self._directories:
                shutil.rmtree(directory, ignore_errors=True)
                continue
            for file in directory.iterdir():
                if f"{state}/{file.name}" not in self._files:
                    file.unlink()
        for name, content in self._files.items():
            path = self.node.path(name)
            if name.startswith(RECORDS) or not path.exists() or path.read_bytes() != content:
                path.unlink(missing_ok=True)
                path.write_bytes(content)
        self.node.path(LOG_FILE).unlink(missing_ok=True)

    def call(self, prefix: list[str] | None = None, verb: str = "") -> Ran:
        """Run the call, behind a command prefix."""
        command = self.node.plugin_command(verb or self.verb, self.network.head, netns=self.pod, container_id=container_id("new"))
        command["argv"] = [*(prefix or []), *command["argv"]]
        return self.node.together([command])[0]

    def calls(self) -> list[SystemCall]:
        """Return the system calls of a clean run."""
        assert_answered(self.call(strace.listing(TRACE)), self.verb)
        found = strace.calls(self.node.read(TRACE))
        self.restore()
        return found

    def assert_kept(self) -> None:
        """Whoever lives has its reservation, word for word; and nothing is in the store that was not there."""
        for address in self.kept:
            name = f"{STORE}/{address}"
            assert self.node.path(name).read_bytes() == self._files[name], self.node.log()
        ours = {name.rpartition("/")[2] for name in self._files if name.startswith(STORE)}
        assert set(os.listdir(self.node.path(STORE))) <= ours

    def assert_mended(self, *, after_kill: bool) -> None:
        """After a clean ADD (and DEL, which a runtime repeats) the leaks are gone, and every file is whole.

        after_kill: temporary files of the dead process may lie about, in the state directory until the next DEL, and below /run
        until the next boot.
        """
        if self.verb == "DEL":
            assert_answered(self.call(), "DEL")
        assert_answered(self.call(verb="ADD"), "ADD")
        self.assert_kept()
        assert not self.network.held() & self.mends, self.node.log()
        assert f"{container_id('new')}:eth0" in os.listdir(self.node.path(RECORDS))
        if after_kill:
            assert_answered(self.call(verb="DEL"), "DEL")
        for directory in (RECORDS, RUN):
            for name in os.listdir(self.node.path(directory)):
                if name.startswith(TEMPORARY):
                    assert after_kill, name
                    assert directory == RUN, name
                elif not name.endswith((".lock", ".sweep")):
                    assert json.loads(self.node.read(f"{directory}/{name}")), name


def nothing_to_reap(scene: Scene) -> None:
    """A healthy node: only live pods."""
    scene.settle()


def a_leak(scene: Scene) -> None:
    """A leak with a record, at the first ADD of a boot: no directory under /run yet."""
    scene.leak("dead")
    scene.settle(first_of_boot=True)


def an_unmapped_leak(scene: Scene) -> None:
    """A leak from before cni-reaper was there: whose netns it had is for the full scan."""
    dead = scene.node.pod("dead")
    scene.mends.add(scene.network.take(dead, container_id("dead")))
    dead.delete()
    scene.settle()


def a_stranger(holder: str) -> Callable[[Scene], None]:
    """Return what adds a live pod without a record, whose netns one thing alone holds; and a leak.

    One stranger a scene: a netns that nobody names would save the others.
    """

    def prepare(scene: Scene) -> None:
        pod = scene.node.pod("stranger")
        scene.kept.add(scene.network.take(pod, container_id("stranger")))
        hold(scene.node, pod, holder)
        scene.leak("dead")
        scene.settle()

    return prepare


def hold(node: Node, pod: Pod, holder: str) -> None:
    """Leave a netns to one holder: its mount, a process in it, or another mount namespace."""
    if holder == "a mount":
        return
    if holder == "a process":
        process = pod.live()
        until(lambda: os.readlink(node.path(f"/proc/{process}/exe")).endswith("sleep"), "the process lives in the netns")
    else:
        process = node.start(["unshare", "--mount", "--propagation", "private", "sleep", "infinity"])
        until(lambda: os.readlink(node.path(f"/proc/{process}/exe")).endswith("sleep"), "it has its own mounts")
    node.umount(pod.path)
    if holder == "a process":
        node.path(pod.path).unlink()


def left_by_del(scene: Scene) -> None:
    """DEL at the head, of a reservation that the chain has left behind; and a leak."""
    scene.verb = "DEL"
    scene.leak("dead")
    scene.mends.add(scene.network.add(scene.pod, reapOn=[]))
    scene.settle()


SCENES: dict[str, Callable[[Scene], None]] = {
    "ADD with nothing to reap": nothing_to_reap,
    "the first ADD of a boot, with a leak": a_leak,
    "ADD with an unmapped leak": an_unmapped_leak,
    "DEL of what was left behind": left_by_del,
    **{f"ADD beside a stranger held by {holder}": a_stranger(holder) for holder in ("a mount", "a process", "other mounts")},
}


@dataclasses.dataclass(frozen=True)
class Part:
    """Which calls of a run are taken: every `startup`-th of loader and interpreter, every `own`-th of our own code.

    And all those of our own code that are `always` taken, "changing" or "looking"; with the one behind a changing call, since
    a kill comes before its call.
    """

    own: int
    startup: int
    always: str = ""

    def of(self, calls: list[SystemCall]) -> list[SystemCall]:
        """Return them."""
        begin = sum(not call.own for call in calls)
        taken = {*range(0, begin, self.startup), *range(begin, len(calls), self.own)}
        for place, call in enumerate(calls):
            if call.own and self.always == "changing" and call.changes:
                taken |= {place, place + 1}
            elif call.own and self.always == "looking" and call.looks:
                taken.add(place)
        return [call for place, call in enumerate(calls) if place in taken]


def part(scene: str, fault: str) -> Part:
    """Return which calls of a scene are taken: beside a stranger every look counts, elsewhere what is changed."""
    if ALL:
        return Part(1, 1)
    if "stranger" in scene:
        return Part(20, 200, "looking") if fault == "EIO" else Part(40, 400)
    return {"EIO": Part(4, 40, "changing"), "KILL": Part(6, 60, "changing")}.get(fault, Part(16, 90, "changing"))


def assert_answered(ran: Ran, verb: str) -> None:
    """The call has succeeded as the protocol wants it, and said nothing elsewhere."""
    ran.check()
    assert (ran.json() == {"cniVersion": "1.0.0"}) if verb == "ADD" else (ran.out == b"")
    assert ran.err == b""


def assert_answered_or_refused(ran: Ran, verb: str, call: SystemCall, fault: str) -> None:
    """Whatever the fault, a runtime can read the answer; reaping trouble is no error of the call's."""
    assert ran.rc is not None, "it hung"
    if fault == "KILL":
        return
    if not call.own:
        assert ran.rc != 0 or (ran.json() == {"cniVersion": "1.0.0"} if verb == "ADD" else ran.out == b"")
    elif ran.rc == 0 or not call.on_config_or_answer or fault == "EINTR":
        assert_answered(ran, verb)
    else:
        assert ran.rc == 1
        assert ran.err == b""
        if call.name == "read":
            error = ran.json()
            assert (error["cniVersion"], error["code"]) == ("1.1.0", 5)
            assert error["msg"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", SCENES)
def test_fault_at_any_system_call_keeps_live_pods(
    node: Node, name: str, fault: str, record_property: Callable[[str, object], None]
) -> None:
    """The answer is right or an error that a runtime can read; who lives is kept; a clean ADD mends the rest."""
    scene = Scene(node)
    SCENES[name](scene)
    calls = [call for call in scene.calls() if strace.applies(fault, call)]
    injected = 0
    wrong = []
    trace = node.path(TRACE)
    for call in part(name, fault).of(calls):
        ran = scene.call(strace.failing(call, fault, TRACE))
        injected += ran.rc == -signal.SIGKILL if fault == "KILL" else "(INJECTED)" in trace.read_text()
        try:
            assert_answered_or_refused(ran, scene.verb, call, fault)
            scene.assert_kept()
            scene.assert_mended(after_kill=fault == "KILL")
        except AssertionError as failed:
            wrong.append(f"{fault} at {call}\n{failed}\n{ran}\n{node.log()}")
        scene.restore()
    record_property("faults injected", injected)
    assert injected
    assert not wrong, "\n\n".join([f"{len(wrong)} of {injected}:", *wrong])
