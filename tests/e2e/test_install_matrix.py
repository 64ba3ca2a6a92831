"""Every conflist of conflist-examples/ and many odd ones, through install, again, a rewrite, an upgrade and uninstall.

What libcni loads is asked of libcni: cnitool runs programs in the plugins' places that write down what they are given.
"""

import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.support import odd_conflists
from tests.support.commands import Ran, command
from tests.support.install import another_build, executable
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, Conf
from tests.support.odd_conflists import Case

FAKES = "/run/fakes"
LONG_AGO = 1_700_000_000
ODD = {**odd_conflists.taken(), **odd_conflists.refused()}
TYPES = (
    *("bandwidth", "bridge", "calico", "cilium-cni", "cni-reaper", "firewall", "flannel", "gone", "ipvlan", "loopback"),
    *("macvlan", "multus", "portmap", "ptp", "tuning"),
)
FAKE = r"""#!/bin/sh
conf=$(cat)
[ "$CNI_COMMAND" = ADD ] || exit 0
printf '%s %s\n' "${0##*/}" "$conf" >>"$CNI_NETNS"
printf '%s' "$conf" | sed 's/.*"cniVersion":"\([^"]*\)".*/{"cniVersion":"\1"}/'
"""
Loaded = list[tuple[str, Conf]]
State = dict[str, tuple[Any, ...]]


@dataclass
class Place:
    """A case in a node: its directory; before: what lay there."""

    node: Node
    name: str
    case: Case
    inside: str
    before: State

    @property
    def conf_dir(self) -> str:
        """The directory of conflists, in the node."""
        return f"{self.inside}/net.d"

    @property
    def path(self) -> Path:
        """The file that counts, from outside."""
        return self.node.path(f"{self.conf_dir}/{self.case.file}")

    def command(self, verb: str, source: str) -> dict[str, Any]:
        """Describe install or uninstall, for what is in this directory only."""
        where = ["--conf-dir", self.conf_dir, "--bin-dir", f"{self.inside}/bin"]
        return command([source, verb, *where])

    def cnitool(self, verb: str) -> dict[str, Any]:
        """Describe a call through libcni, of programs in the plugins' places."""
        one = self.node.cnitool_command(verb, self.case.network, f"{self.inside}/loaded")
        one["env"] |= {"NETCONFPATH": self.conf_dir, "CNI_PATH": FAKES}
        return one

    def plugins(self) -> list[str]:
        """Return what is of us in its directory of plugins."""
        return [name for name in os.listdir(self.node.path(f"{self.inside}/bin")) if "cni-reaper" in name]

    def installed(self) -> bytes:
        """Return the executable that is installed there."""
        return self.node.path(f"{self.inside}/bin/cni-reaper").read_bytes()

    def state(self) -> State:
        """Return what lies in it but for the plugins: each path's kind, mode, owner, labels, content and target."""
        top = self.node.path(self.inside)
        found: State = {}
        for path in sorted(top.rglob("*")):
            name = str(path.relative_to(top))
            if name.partition("/")[0] in ("bin", "loaded"):
                continue
            stat = path.lstat()
            content: bytes | str = path.read_bytes() if path.is_file() and not path.is_symlink() else ""
            content = os.readlink(path) if path.is_symlink() else content
            labels = [(one, os.getxattr(path, one, follow_symlinks=False)) for one in os.listxattr(path, follow_symlinks=False)]
            found[name] = (oct(stat.st_mode), stat.st_uid, stat.st_gid, labels, content)
        return found

    def times(self) -> dict[str, tuple[int, int]]:
        """Return which files they are, and when they were written."""
        return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in self.node.path(self.conf_dir).rglob("*")}


def made(node: Node, number: int, name: str, case: Case) -> Place:
    """Make the directory of a case."""
    place = Place(node, name, case, f"/run/cases/{number}", {})
    directory = node.path(place.conf_dir)
    directory.mkdir(parents=True)
    node.path(f"{place.inside}/platform").mkdir()
    node.path(f"{place.inside}/bin").mkdir()
    for plugin in set(os.listdir(node.path(FAKES))) - {"cni-reaper"}:
        node.path(f"{place.inside}/bin/{plugin}").symlink_to(f"{FAKES}/{plugin}")
    for file, content in case.files.items():
        path = directory / file
        path.write_bytes(content)
        os.utime(path, (LONG_AGO, LONG_AGO))
    if case.prepare:
        case.prepare(node, directory)
    place.before = place.state()
    return place


def loads(places: list[Place]) -> list[Loaded | str]:
    """Ask libcni what it loads in each: (type, what it is given), or its error."""
    node = places[0].node
    added, _ = (node.together([place.cnitool(verb) for place in places]) for verb in ("add", "del"))
    found: list[Loaded | str] = []
    for place, ran in zip(places, added, strict=True):
        log = node.path(f"{place.inside}/loaded")
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        told = [(line.partition(" ")[0], json.loads(line.partition(" ")[2])) for line in lines]
        for _, conf in told:
            conf.pop("prevResult", None)
        found.append(told if ran.rc == 0 else ran.text)
    return found


class Wrong:
    """What was not as it should be, of all cases."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def unless(self, right: bool, place: Place, what: object) -> None:
        """Note what is wrong with a case, unless something is so."""
        if not right:
            self.lines.append(f"{place.name}: {str(what)[:600]}")


def said_why(ran: Ran, says: str) -> bool:
    """Tell whether a refusal is exit code 1 and one line with those words; behind it there may be JSON to write, and no more."""
    line, _, rest = ran.err.decode().rstrip("\n").partition("\n")
    is_refused = ran.rc == 1 and line.startswith("cni-reaper install: ") and says in line and line[-1] == "."
    return is_refused and (not rest or isinstance(json.loads(rest), dict))


class Walk:
    """Places whose conflist our entry goes into, from install to uninstall, all at once; wrong: what was not as it should be."""

    def __init__(self, places: list[Place], wrong: Wrong) -> None:
        self.places, self.wrong = places, wrong
        self.node = places[0].node
        self.before = loads(places)
        self.entries: list[State] = []
        for place, loaded in zip(places, self.before, strict=True):
            wrong.unless(isinstance(loaded, list), place, f"libcni does not load it: {loaded}")

    def _all(self, verb: str, source: str) -> Iterator[tuple[Place, Ran]]:
        for place, ran in zip(
            self.places, self.node.together([place.command(verb, source) for place in self.places]), strict=True
        ):
            self.wrong.unless(ran.rc == 0, place, ran)
            yield place, ran

    def install(self, source: str) -> None:
        """The chain that libcni then runs is the one of before, with us in our place."""
        ran = list(self._all("install", source))
        for (place, _), now, then in zip(ran, loads(self.places), self.before, strict=True):
            self.wrong.unless(isinstance(now, list), place, f"with us, libcni says {now}")
            if isinstance(now, list) and isinstance(then, list):
                at = [number for number, (kind, _) in enumerate(now) if kind == "cni-reaper"]
                self.wrong.unless(at == [place.case.at], place, f"we are at {at}")
                chains = [[one for one in chain if one[0] != "cni-reaper"] for chain in (now, then)]
                self.wrong.unless(chains[0] == chains[1], place, f"libcni runs {chains[0]}, and not {chains[1]}")
        self.entries = [place.state() for place in self.places]

    def again(self, source: str) -> None:
        """Nothing is written."""
        times = [place.times() for place in self.places]
        for (place, ran), then in zip(self._all("install", source), times, strict=True):
            self.wrong.unless(b"already" in ran.out, place, ran)
            self.wrong.unless(place.times() == then, place, "install again has written something")

    def rewrite(self, source: str) -> None:
        """The platform writes its own in place, and install brings back what it has made of it before."""
        for place in self.places:
            place.path.write_bytes(place.case.files.get(place.case.file) or next(iter(place.case.files.values())))
        for (place, _), then in zip(self._all("install", source), self.entries, strict=True):
            self.wrong.unless(place.state() == then, place, f"{place.state()}, and not {then}")

    def upgrade(self, source: str) -> None:
        """Another build is there, and the conflist is as it was."""
        build = Path(source).read_bytes()
        for (place, _), then in zip(self._all("install", source), self.entries, strict=True):
            self.wrong.unless(place.installed() == build, place, "the upgrade has not come")
            self.wrong.unless(place.state() == then, place, "the upgrade has changed the conflist")

    def uninstall(self, source: str) -> None:
        """Everything is as it was, but for an entry of ours that was there before."""
        for place, _ in self._all("uninstall", source):
            now = place.state()
            for name, (*rest, content) in place.before.items():
                back = (*rest, place.case.back.get(name.removeprefix("net.d/"), content))
                self.wrong.unless(now.get(name) == back, place, f"{name}: {now.get(name)}, and not {back}")
            self.wrong.unless(now.keys() == place.before.keys(), place, f"left: {now.keys()}")
            self.wrong.unless(place.plugins() == [], place, "the executable is still there")


@pytest.fixture
def fakes(node: Node) -> Node:
    """A node with programs in the plugins' places."""
    node.path(DATA_DIR).mkdir()
    node.path(FAKES).mkdir()
    for kind in TYPES:
        path = node.path(f"{FAKES}/{kind}")
        path.write_text(FAKE)
        path.chmod(0o755)
    return node


def batches(cases: dict[str, Case], size: int) -> list[dict[str, Case]]:
    """Return the cases in heaps of so many, which are gone through at once."""
    items = iter(cases.items())
    return list(iter(lambda: dict(islice(items, size)), {}))


GOES_IN = {**odd_conflists.examples(), **odd_conflists.taken()}


@pytest.mark.parametrize("cases", batches(GOES_IN, 15), ids=lambda cases: shlex.quote(next(iter(cases))))
def test_chain_is_the_same_from_install_to_uninstall(fakes: Node, tmp_path: Path, cases: dict[str, Case]) -> None:
    """The chain that libcni runs is the same, and we are in it, after a rewrite, too; and in the end all is as it was."""
    wrong = Wrong()
    another = another_build(fakes, tmp_path / "another")
    walk = Walk([made(fakes, number, name, case) for number, (name, case) in enumerate(cases.items())], wrong)
    walk.install(executable(fakes))
    walk.again(executable(fakes))
    walk.rewrite(executable(fakes))
    walk.upgrade(another)
    walk.uninstall(another)
    assert not wrong.lines, "\n".join(wrong.lines)


def test_refused_conflist_is_not_touched(fakes: Node) -> None:
    """One sentence, exit code 1, and neither install nor uninstall has touched a thing; the executable goes in and out."""
    wrong = Wrong()
    places = [made(fakes, number, name, case) for number, (name, case) in enumerate(odd_conflists.refused().items())]
    before = [place.times() for place in places]
    for place, ran in zip(places, fakes.together([one.command("install", executable(fakes)) for one in places]), strict=True):
        wrong.unless(said_why(ran, place.case.says), place, ran)
    fakes.together([one.command("uninstall", executable(fakes)) for one in places])
    for place, then in zip(places, before, strict=True):
        wrong.unless(place.state() == place.before and place.times() == then, place, f"{place.state()}, and not {place.before}")
        left = bool(place.plugins())
        wrong.unless(left == place.case.stays, place, "the executable is still there" if left else "the executable is gone")
    assert not wrong.lines, "\n".join(wrong.lines)
