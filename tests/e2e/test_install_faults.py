"""A fault at every system call of install and uninstall: what a runtime loads is whole, and the next run does what this one left.

strace makes the n-th call of a name fail with an errno, or kills the process there. Here a part of the calls, the same in each
run: those that change something, and some of the others. All with CNI_REAPER_FAULTS=all in the environment, but every tenth of
those that read the executable, to copy it and to compare it: they are the same some hundred times.
"""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from cni_reaper_plugin.operator.conflists import atomic_edit
from tests.support import strace
from tests.support.cni_calls import BIN, NET_D, bridge, host_local
from tests.support.commands import Ran, command
from tests.support.install import executable
from tests.support.node import Node
from tests.support.strace import FAULTS, SystemCall

ALL = os.environ.get("CNI_REAPER_FAULTS") == "all"
BEGINS = 'access("/etc/containerd/config.toml"'
ORIGINAL = json.dumps({"cniVersion": "1.0.0", "name": "net", "plugins": [bridge(host_local("10.66.0.0/29"))]}, indent=1).encode()
SINGLE = json.dumps({"cniVersion": "1.0.0", "name": "net", **bridge(host_local("10.66.0.0/29"))}).encode()
MADE_BY_0_1_0 = b'{"cniVersion": "1.0.0", "name": "net", "plugins": [%s]}\n' % SINGLE
AT_ONCE = 16
RECORD = "var/reaper/net/cnitool-x:eth0"
LINK = "bin/cni-reaper"
OLD = "bin/.cni-reaper/0.1.0"
MOUNTED = {"net.d": NET_D, "bin": BIN, "var": "/var/lib/cni"}
ENTER = (
    'cd "$0"; shift 0; for one in net.d:%s bin:%s var:%s; do mount --bind "${one%%%%:*}" "${one#*:}"; done; cd /; exec "$@"'
    % tuple(MOUNTED.values())
)
OLD_ONE = """#!/bin/sh
echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}'
"""
_CHANGING = ("fchmod", "fchown", "fsync", "link", "rmdir", "symlink", "unlink", "vfork")
State = dict[str, bytes | str]


@dataclass(frozen=True)
class Scene:
    """verb: what is run; installed: it has been before; files: of the directory of conflists, before it; old: version 0.1.0 is
    installed."""

    verb: tuple[str, ...]
    installed: bool
    files: dict[str, bytes]
    old: bool = False


class Spot:
    """A directory with all that install and uninstall write to, which they find mounted in its place."""

    def __init__(self, node: Node, number: int) -> None:
        self.node, self.inside = node, f"/run/spots/{number}"
        self.top = node.path(self.inside)

    def prepare(self, template: "Spot | None") -> None:
        """Make it, or make it again, as another one is; with a bridge among the plugins, by which the directory is known."""
        shutil.rmtree(self.top, ignore_errors=True)
        if template:
            shutil.copytree(template.top / "bin", self.top / "bin", symlinks=True, copy_function=os.link)
            for name in ("net.d", "var"):  # what is locked or written in place has to be its own
                shutil.copytree(template.top / name, self.top / name)
            return
        for name, place in MOUNTED.items():
            (self.top / name).mkdir(parents=True)
            self.node.path(place).mkdir(parents=True, exist_ok=True)
        (self.top / "bin" / "bridge").touch(0o755)
        (self.top / "var" / "networks").mkdir()

    def put_old(self) -> None:
        """Lay out an installation of version 0.1.0: a link, a bundle that runs, and what it has noted."""
        (self.top / OLD / "_internal").mkdir(parents=True)
        (self.top / OLD / "_internal" / "build.json").write_text("{}")
        (self.top / OLD / "cni-reaper").write_text(OLD_ONE)
        (self.top / OLD / "cni-reaper").chmod(0o755)
        (self.top / LINK).symlink_to(".cni-reaper/0.1.0/cni-reaper")
        (self.top / "bin/.cni-reaper/lock").touch(0o600)
        (self.top / "bin/.cni-reaper/entries.json").write_text(json.dumps({f"{NET_D}/10-net.conflist": {"dryRun": True}}))

    def command(self, verb: tuple[str, ...], prefix: list[str], executable: str) -> dict[str, Any]:
        """Describe a run in it."""
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", ENTER, self.inside]
        return command([*enter, *prefix, executable, *verb])

    def state(self) -> State:
        """Return each file and link in it."""
        return {
            str(path.relative_to(self.top)): os.readlink(path) if path.is_symlink() else path.read_bytes()
            for path in sorted(self.top.rglob("*"))
            if path.is_symlink() or path.is_file()
        }

    def chain(self) -> tuple[list[str], bool]:
        """Return the types of the plugins that a runtime runs, but us, and whether we are in it."""
        told = json.loads(self.loaded())
        types = [one["type"] for one in told.get("plugins", [told])]
        return [kind for kind in types if kind != "cni-reaper"], "cni-reaper" in types

    def loaded(self) -> bytes:
        """Return what a runtime loads: the first file by name, whatever lies beside it."""
        directory = self.top / "net.d"
        names = sorted(name for name in os.listdir(directory) if name.endswith((".conf", ".conflist", ".json")))
        return (directory / names[0]).read_bytes() if names else b""


SCENES = {
    "install": Scene(("install",), installed=False, files={"10-net.conflist": ORIGINAL}),
    "install after a rewrite": Scene(("install",), installed=True, files={"10-net.conflist": ORIGINAL}),
    "install over 0.1.0": Scene(("install",), installed=False, files={"10-net.conflist": ORIGINAL}, old=True),
    "install --drop-in": Scene(("install", "--drop-in"), installed=True, files={"10-net.conflist": ORIGINAL}),
    "uninstall": Scene(("uninstall",), installed=True, files={"10-net.conflist": ORIGINAL}),
    "uninstall of a conversion": Scene(
        ("uninstall",), installed=True, files={"10-net.conf.before-cni-reaper": SINGLE, "10-net.conflist": MADE_BY_0_1_0}
    ),
    "uninstall of a drop-in": Scene(("uninstall",), installed=True, files={"10-net.conflist": ORIGINAL}),
}
INSTALLED_BY = {"uninstall of a drop-in": ("install", "--drop-in")}


class Stage:
    """A scene on a node: before: the spot to begin from; clean: what a run without a fault makes of it; calls: of that run."""

    def __init__(self, node: Node, name: str) -> None:
        self.node, self.scene = node, SCENES[name]
        self.source = executable(node)
        self.before = Spot(node, 0)
        self.before.prepare(None)
        for file, content in self.scene.files.items():
            (self.before.top / "net.d" / file).write_bytes(content)
        if self.scene.old:
            self.before.put_old()
        if self.scene.verb[0] == "uninstall":
            (self.before.top / RECORD).parent.mkdir(parents=True)
            (self.before.top / RECORD).touch()
            self._run(self.before, INSTALLED_BY.get(name, ("install",)))
        elif self.scene.installed:
            self._run(self.before, ("install", "--no-conflist"))
        self.executable = f"{BIN}/cni-reaper" if self.scene.installed else self.source
        clean = Spot(node, 1)
        clean.prepare(self.before)
        trace = f"{clean.inside}.trace"
        self.node.together([clean.command(self.scene.verb, strace.listing(trace), self.executable)])[0].check()
        self.clean = clean.state()
        self.calls = strace.calls(node.read(trace), BEGINS)

    def _run(self, spot: Spot, verb: tuple[str, ...]) -> Ran:
        return self.node.together([spot.command(verb, [], self.source)])[0].check()

    def batches(self, calls: list[SystemCall], fault: str) -> Iterator[list[tuple[SystemCall, Spot, Ran, int]]]:
        """Have each call meet a fault in a spot of its own, some at once; yield (call, its spot, what came, faults injected)."""
        for at in range(0, len(calls), AT_ONCE):
            spots = [(call, Spot(self.node, 2 + number)) for number, call in enumerate(calls[at : at + AT_ONCE])]
            for _, spot in spots:
                spot.prepare(self.before)
            commands = [
                spot.command(self.scene.verb, strace.failing(call, fault, f"{spot.inside}.trace"), self.executable)
                for call, spot in spots
            ]
            ran = self.node.together(commands)
            yield [
                (
                    call,
                    spot,
                    one,
                    one.rc == -signal.SIGKILL if fault == "KILL" else "(INJECTED)" in self.node.read(f"{spot.inside}.trace"),
                )
                for (call, spot), one in zip(spots, ran, strict=True)
            ]

    def assert_whole(self, spot: Spot) -> None:
        """What a runtime loads is what it was or what it was to become, and what that names is there, whole."""
        types, with_us = spot.chain()
        assert types == ["bridge"]
        now = spot.state()
        if with_us or "net.d/net/50-cni-reaper.conf" in now:
            whole = self.before.state() if self.scene.installed else self.clean
            assert now[LINK] == whole[LINK]
        if self.scene.old:
            assert now[LINK] == self.clean[LINK] or now[f"{OLD}/cni-reaper"] == OLD_ONE.encode()

    def assert_told(self, call: SystemCall, spot: Spot, ran: Ran, fault: str) -> None:
        """Exit code 0 means that all is done; else there is a sentence about what is not."""
        assert ran.rc is not None, "it hung"
        if fault == "KILL":
            return
        if ran.rc == 0:
            left = {name for name in spot.state() if name.endswith(atomic_edit.TEMPORARY_END)}  # of the nudge: next time
            assert {name: one for name, one in spot.state().items() if name not in left} == self.clean
        elif call.own and not call.archive and not call.text.startswith("write(1"):
            assert ran.rc == 1
            assert "Traceback" not in ran.text
            assert f"cni-reaper {self.scene.verb[0]}: ".encode() in ran.err


def part(calls: list[SystemCall], fault: str) -> list[SystemCall]:
    """Return which calls meet a fault: what changes something, and some of the others."""
    often = fault in ("EIO", "KILL")
    places: dict[str, list[int]] = {}
    for place, call in enumerate(calls):
        if call.own and (call.changes or call.name in _CHANGING):
            places.setdefault(call.name, []).append(place)
    taken: set[int] = set(range(0, len(calls), 400 if often else 2000))
    for of_name in places.values():
        taken |= {*of_name[:5], *of_name[-2:], *of_name[::50]} if often else {of_name[0], of_name[-1]}
    if ALL:
        taken = {
            place for place, call in enumerate(calls) if place % 10 == 0 or not (call.archive or call.text.startswith("pread64"))
        }
    return [calls[place] for place in sorted(taken)]


CASES = [
    (name, fault) for name in SCENES for fault in FAULTS if ALL or fault in ("EIO", "KILL") or name in ("install", "uninstall")
]


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_fault_at_any_system_call_leaves_whole_files(
    node: Node, name: str, fault: str, record_property: Callable[[str, object], None]
) -> None:
    """A runtime always finds a whole file and what it names; what is told is true; and the next run leaves nothing to do."""
    stage = Stage(node, name)
    wrong, injected = [], 0
    for batch in stage.batches(part([call for call in stage.calls if strace.applies(fault, call)], fault), fault):
        told = {}
        for call, spot, ran, count in batch:
            injected += count
            try:
                stage.assert_whole(spot)
                stage.assert_told(call, spot, ran, fault)
            except AssertionError as failed:
                told[spot.inside] = f"{failed}"
        again = stage.node.together([spot.command(stage.scene.verb, [], stage.source) for _, spot, _, _ in batch])
        for (call, spot, ran, _), healed in zip(batch, again, strict=True):
            if healed.rc != 0 or spot.state() != stage.clean:
                different = spot.state().items() ^ stage.clean.items()
                told[spot.inside] = f"{told.get(spot.inside, '')}\nnot healed: {healed} {sorted(one for one, _ in different)[:9]}"
            if spot.inside in told:
                wrong.append(f"{fault} at {call}\n{told[spot.inside]}\n{ran}")
    record_property("faults injected into install", injected)
    assert injected
    assert not wrong, "\n\n".join([f"{len(wrong)} of {injected}:", *wrong])
