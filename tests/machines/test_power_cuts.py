"""The power of a real kernel goes while pods start and end, and with it what its file system had not written yet.

The node's plugins, conflist and store are on a disk, which outlives the machine. Each boot checks what the cuts before it have
left, and lives until the next one. The list is flannel's, and an old libcni calls it: each wants a file of its own for a DEL.
"""

import dataclasses
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.machines import found
from tests.machines.found import Pod
from tests.machines.machine import Console, Cut, Disk, Machine
from tests.machines.node_on_disk import BROKEN_JSON, FILE, ORIGINAL, POWER, PUT_IN, REAPER, brought, reports, with_ours
from tests.prove import world
from tests.support.cni_calls import NET_D
from tests.support.node_files import LOG_FILE

CUTS = int(os.environ.get("CNI_REAPER_MACHINES_CUTS", "10"))
SEED = int(os.environ.get("CNI_REAPER_MACHINES_SEED") or random.SystemRandom().randrange(1_000_000))
ORDER = ("ext4", "xfs", "ext4", "btrfs")
"""Whose cut is the n-th. Each file system has a machine of its own, so its cuts are the same without the others'."""
LIFE, FIRST, BOOT, INSTALL, UNINSTALL = "while pods start", "in the first ADD", "after the mount", "in install", "in uninstall"
KINDS = (LIFE, LIFE, LIFE, LIFE, LIFE, FIRST, FIRST, BOOT, INSTALL, UNINSTALL)
"""How often each moment comes in ten cuts. In the first ADD or after the mount is the second one in a row."""
PODS = range(5, 30)
"""How many pods have started when the power goes."""
CHANGES = range(1, 3)
WITHIN_S = {LIFE: 2.0, FIRST: 1.5, BOOT: 0.5, INSTALL: 2.5, UNINSTALL: 1.5}
"""The power goes at most so many seconds after the line."""
LATER, AT_ONCE, BACK = "a while later", "at once", "with its clock set back"
CLOCKS = (LATER, LATER, LATER, AT_ONCE, LATER, BACK)
"""When the machine boots again. Broken files are removed when they are 30 s old; by a clock that was set back, 30 s later."""
OFF = timedelta(minutes=2)
SET_BACK = "2001-01-01T00:00:00"
BEFORE, AFTER, NEVER = "before the first ADD", "after it", "never"
DELS = (BEFORE, AFTER, NEVER)
"""When the runtime sends the DELs of the last life's pods."""
LEFT_KIB = (64, 256, 1024)
"""How much of a disk that is nearly full is free; a pod takes 16 KiB on ext4."""
TELLING = ("full", "first", "ten", "settled")
"""The steps whose pods are told in what they have written."""
ADDRESSES = 27
"""The pool's prefix. Twenty-nine addresses, so that a life that was long needs those of the last one."""
NO_SPACE = "no space left on device"


@dataclass(frozen=True)
class Plan:
    """One cut, and how the machine goes on after it. kind: see KINDS; left_kib: free space, 0 where it is not nearly full."""

    number: int
    file_system: str
    kind: str
    cut: Cut
    clock: str
    dels: str
    left_kib: int

    def __str__(self) -> str:
        """Say all of it in a line."""
        full = f", {self.left_kib} KiB free" if self.left_kib else ""
        return (
            f"cut {self.number}, {self.file_system}: {self.kind}, {self.cut.after_s:.3f} s after {self.cut.line}{full}; "
            f"boots {self.clock}, DELs {self.dels}"
        )


def _deck(chance: random.Random, cards: tuple[Any, ...]) -> Iterator[Any]:
    """Yield each card as often as the others of its deck, in a new order each time."""
    while True:
        yield from chance.sample(cards, len(cards))


def plans() -> list[Plan]:
    """Return the cuts of a seed."""
    chance = random.Random(SEED)
    kinds, clocks, dels = _deck(chance, KINDS), _deck(chance, CLOCKS), _deck(chance, DELS)
    full = _deck(chance, (True, False, False))
    found = []
    seen: Counter[str] = Counter()
    for number in range(1, CUTS + 1):
        file_system, kind = ORDER[(number - 1) % len(ORDER)], next(kinds)
        if not seen[file_system]:
            kind = LIFE  # else there is nothing to be cut in
        seen[file_system] += 1
        line = {
            LIFE: f"@up {chance.choice(PODS)}",
            FIRST: "@first",
            BOOT: "@mounted",
            INSTALL: f"@install {chance.choice(CHANGES)}",
            UNINSTALL: f"@uninstall {chance.choice(CHANGES)}",
        }[kind]
        cut = Cut(line, chance.uniform(0, WITHIN_S[kind]))
        left_kib = chance.choice(LEFT_KIB) if kind in (LIFE, INSTALL, UNINSTALL) and next(full) else 0
        found.append(Plan(number, file_system, kind, cut, next(clocks), next(dels), left_kib))
    return found


def scenario(number: int, file_system: str, before: Plan | None, then: Plan | None) -> str:
    """Return what a boot does, until its cut.

    number: its own, in the names of its pods. before: the cut that it comes after, None for the first boot. then: the cut in this
    boot, None for the last one.
    """
    lines = [*_begin(file_system, before), *_first(number, before), *_check(number, before), *_live(number, then)]
    return "\n".join(lines) + "\n"


def _begin(file_system: str, before: Plan | None) -> list[str]:
    """Return the steps that look at the disk as it is."""
    return [
        f". {POWER}",
        f"attach {file_system}",
        "echo @mounted",
        f"step found {POWER} files",
        f"step executable {POWER} executable",
        *([] if before else [f"cp /power/original {FILE}", "sync"]),
        f"step list cat {FILE}",
        "cp /power/names /power/hanging",
    ]


def _first(number: int, before: Plan | None) -> list[str]:
    """Return the steps up to the first ADD, with the `install` that a platform's unit runs at boot."""
    lines = []
    if before and before.dels == BEFORE:
        lines += [f"step hang {POWER} refused /power/without /power/names", "cut -d : -f 1 /tmp/out >/power/hanging"]
    lines += ["echo @first"]
    lines += [
        "if [ -e /disk/fill ]; then",  # of the last life, or of one before, when this boot is not the first after it
        f"step install-full {PUT_IN}",
        f"step full {POWER} start full{number}",
        f"step audit-full {REAPER} audit --json",
        f"step doctor-full {REAPER} doctor --json",
        "rm -rf /disk/fill",
        "fi",
    ]
    lines += [f"grep -q cni-reaper {FILE} && [ -e /opt/cni/bin/cni-reaper ] || step install {PUT_IN}"]
    return [*lines, f"step installed cat {FILE}", f"step first {POWER} start first{number}"]


def _check(number: int, before: Plan | None) -> list[str]:
    """Return the steps that ask whether all is well after the first ADD."""
    settle = before and before.clock != LATER
    lines = [f"step mend {REAPER} mend --json", f"step doctor {REAPER} doctor --json"]
    return [
        f"step gc {POWER} gc",
        f"step ten {POWER} ten ten{number}-",
        *([f"step settled {POWER} settle settle{number}-"] if settle else []),
        *([f"step still-hang {POWER} refused {NET_D} /power/hanging"] if before and before.dels != NEVER else []),
        *(lines if before and before.number % 3 == 1 else []),
        f"step audit {REAPER} audit --json",
        f"step left {POWER} files",
        f"step log cat {LOG_FILE}",
    ]


def _live(number: int, then: Plan | None) -> list[str]:
    """Return how a boot goes on until it is cut."""
    if then is None:
        return []
    fill = [f"{POWER} fill {then.left_kib}"] if then.left_kib else []
    return [*fill, "echo @life", f"{POWER} {'change' if then.kind in (INSTALL, UNINSTALL) else 'live'} life{number}-"]


@dataclass(frozen=True)
class Boot:
    """A boot that came after cuts. plan: of the last of them; pods: of all lives since the last boot that came to its checks."""

    plan: Plan
    number: int
    console: Console
    pods: dict[str, Pod]

    @property
    def is_whole(self) -> bool:
        """Whether it came to the end of its checks, before the next cut."""
        return "log" in self.console.steps

    @property
    def met(self) -> found.Disk:
        """What was on the disk."""
        return found.Disk.read(self.console["found"])

    @property
    def left(self) -> found.Disk:
        """What was on it after the checks."""
        return found.Disk.read(self.console["left"])

    def lines(self, step: str) -> list[str]:
        """Return the lines that a step has written."""
        return self.console[step].out.decode().splitlines()

    def __str__(self) -> str:
        """Say after which cut it came."""
        return f"after {self.plan}"


def boots(machine: Machine, file_system: str, file: Path) -> Iterator[Boot]:
    """Let a machine live with all its cuts, and yield each boot after one, but for those that were cut before they had looked."""
    cuts = [plan for plan in plans() if plan.file_system == file_system]
    disk = Disk.make(file, file_system)
    off = timedelta()
    pods: dict[str, Pod] = {}
    for number, (before, then) in enumerate(zip([None, *cuts], [*cuts, None], strict=True)):
        if then:
            print(then, flush=True)
        clock = before.clock if before else LATER
        off += OFF if clock == LATER else timedelta()
        at = SET_BACK if clock == BACK else f"{datetime.now(UTC) + off:%Y-%m-%dT%H:%M:%S}"
        waiting = [pod.name for pod in pods.values() if not pod.is_ending]  # for their DEL
        console = machine.run(
            scenario(number, file_system, before, then),
            brought(machine.programs.strict, ADDRESSES, waiting, [f"first{number}", f"full{number}"]),
            disk=dataclasses.replace(disk, clock=at),
            cut=then.cut if then else None,
        )
        file.with_name(f"console-{number}").write_text(console.text)
        told = {**_on_its_way(number, console), **found.pods(reports(console, TELLING))}
        boot = Boot(before, number, console, pods) if before and "found" in console.steps else None
        pods = told if boot and boot.is_whole else {**pods, **told}
        if boot:
            yield boot


def _on_its_way(number: int, console: Console) -> dict[str, Pod]:
    """Return the pods whose ADD may have been cut; of them no line tells."""
    started = sum(line.startswith("@up ") for line in console.text.splitlines())
    names = [f"first{number}", f"full{number}", f"life{number}-{started + 1}"]
    return {name: Pod(name, "") for name in names}


@pytest.fixture(scope="module", params=dict.fromkeys(ORDER))
def cut(request: pytest.FixtureRequest, machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> list[Boot]:
    """A machine whose power goes again and again; what each boot has found."""
    file_system: str = request.param
    print(f"\n{CUTS} cuts, CNI_REAPER_MACHINES_SEED={SEED}")
    live = []
    for boot in boots(machine, file_system, tmp_path_factory.mktemp("machine") / "disk"):
        live.append(boot)
        print(_summary(boot), flush=True)
    if not live:
        pytest.skip(f"{CUTS} cuts, none of them on {file_system}")
    return live


def _rows(counted: Counter[tuple[str, ...]]) -> list[str]:
    return [f"{number:4} {' '.join(row)}" for row, number in sorted(counted.items())]


def _summary(boot: Boot) -> str:
    rows = _rows(states(boot))
    hang = f", {len(boot.lines('hang'))} hang" if "hang" in boot.console.steps else ""
    took = ", ".join(f"{name} {ran.seconds:.0f}" for name, ran in boot.console.steps.items() if ran.seconds > 1)
    told = f"{boot}: {len(boot.pods)} pods{hang}, last_reserved_ip {boot.met.last_reserved()}; seconds: {took}"
    return "\n".join([told, *rows])


def states(boot: Boot) -> Counter[tuple[str, ...]]:
    """Count the pods of the last lives by the states of their files, see found.Disk.states; whose DEL had begun apart."""
    disk = boot.met
    last = {pod.address: pod.name for pod in boot.pods.values()}
    return Counter(
        ("ending" if pod.is_ending else "living", *disk.states(pod, last[pod.address] == pod.name)) for pod in boot.pods.values()
    )


def _whole(boots: list[Boot]) -> list[Boot]:
    return [boot for boot in boots if boot.is_whole]


def test_each_first_pod_starts(cut: list[Boot]) -> None:
    """Nothing that a cut leaves stops the first ADD of the next boot; a disk without space may, by another plugin's file."""
    for boot in _whole(cut):
        boot.console["first"].check()
        full = boot.console.steps.get("full")
        assert not full or full.rc == 0 or NO_SPACE in full.text, f"{boot}: {full}"


def test_no_address_is_given_twice(cut: list[Boot]) -> None:
    """No pod gets an address that another one has, in any life."""
    for boot in cut:
        assert found.given_twice(reports(boot.console, TELLING)) == [], str(boot)


def test_nothing_stops_a_call(cut: list[Boot]) -> None:
    """Neither an ADD, a DEL, GC, nor the operator's commands."""
    for boot in _whole(cut):
        boot.console["gc"].check()
        if "mend" in boot.console.steps:
            boot.console["mend"].check()
        ten = boot.lines("ten")
        assert sum(line.startswith("@given ") for line in ten) == 10, boot.console["ten"]
        assert [line for line in ten if line.startswith(("@kept ", "@refused "))] == [], str(boot)
        for step in ("audit", "audit-full"):
            if step in boot.console.steps:
                assert boot.console[step].json()["problems"] == [], boot.console[step]
                assert boot.console[step].rc in (0, 1), boot.console[step]
        for step in ("doctor", "doctor-full"):
            if step in boot.console.steps:
                findings = boot.console[step].json()["findings"]
                assert [one for one in findings if one["level"] == "error"] == [], str(boot)


def test_the_list_is_whole(cut: list[Boot]) -> None:
    """It is as it was before an install or after it, and has no entry without the executable."""
    (installed,) = {boot.console["installed"].check().out for boot in _whole(cut)}
    assert json.loads(installed) == with_ours()
    for boot in (one for one in cut if "list" in one.console.steps):
        content = boot.console["list"].check().out
        assert content in (ORIGINAL, installed), f"{boot}: {content!r}"
        if content == installed:
            assert "whole" in boot.lines("executable"), boot.console["executable"]
    for boot in _whole(cut):
        if "install" in boot.console.steps:
            boot.console["install"].check()
        assert list(boot.left.below("etc/cni/net.d")) == [Path(FILE).name]


def test_all_pods_can_be_ended(cut: list[Boot]) -> None:
    """Each DEL of the last lives works once the files that were broken are gone."""
    for boot in _whole(cut):
        if boot.plan.dels != NEVER:
            assert boot.lines("still-hang") == [], str(boot)
        if boot.plan.dels == BEFORE:
            assert all(any(why in line for why in BROKEN_JSON) for line in boot.lines("hang")), boot.console["hang"]


def test_nothing_is_left_of_the_dead(cut: list[Boot]) -> None:
    """No reservation, no record, no broken file; the entries and scratch files that are left are whole, and audit names them."""
    for boot in _whole(cut):
        full = boot.console.steps.get("full")
        names = ("first", "full") if full and full.rc == 0 else ("first",)
        living = {found.owner(f"{name}{boot.number}") for name in names}
        left, audit = boot.left, boot.console["audit"].json()
        owners = {content.decode(errors="replace").partition("\r\n")[0] for content in left.reservations().values()}
        assert owners == living, f"{boot}: {left.reservations()}"
        told = {found.owner(name) for name in found.pods(reports(boot.console, TELLING))}
        old = {owner: record for owner, record in left.records().items() if owner not in told}  # others wait for graceSeconds
        assert old == {}, f"{boot}: {old}"
        assert audit["cache"]["broken"] == []
        for directory, files in ((found.CACHE, left.entries()), (found.FLANNEL, left.scratch())):
            assert len(set(files) - living) == audit["cache"]["left"].get(f"/{directory}", 0), str(boot)
            sent = {found.owner(pod.name) for pod in boot.pods.values() if not pod.is_ending and boot.plan.dels != NEVER}
            assert not sent & set(files), f"{boot}: {sent & set(files)}"


def test_each_state_is_in_the_model(cut: list[Boot]) -> None:
    """What the cuts have left of files is among what a power cut of tests/prove/world.py leaves; prints how often it came."""
    counted = sum((states(boot) for boot in cut), Counter[tuple[str, ...]]())
    notes = Counter(boot.met.last_reserved() for boot in cut)
    print(
        "\nDEL, reservation, record, libcni's entry, flannel's file:",
        *_rows(counted),
        f"last_reserved_ip: {dict(notes)}",
        sep="\n",
    )
    assert {state for row in counted for state in row[1:]} | set(notes) <= set(world.STATES)
