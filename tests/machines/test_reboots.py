"""A node restarts with thirty pods: at once, in good order, with /run on its disk, with a clock that is wrong or is set then.

No DEL comes before. Afterwards the runtime sends some, as containerd and CRI-O do before their first ADD: the path of the network
namespace is gone, or none is given. Others come late, and some never.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.machines import found
from tests.machines.machine import Console, Disk, Machine
from tests.machines.node_on_disk import BROKEN_JSON, FILE, POWER, PUT_IN, REAPER, brought, reports
from tests.support.cni_calls import NET_D
from tests.support.node_files import LOG_FILE

PODS, NEW = 30, 10
ADDRESSES = 26
"""The pool's prefix: sixty-one addresses, so that those of the dead and new ones' are there at the same time."""
TELLING = ("first", "new", "ended", "settled")
GONE, EMPTY, LATE, NEVER = "gone", "empty", "late", "never"
ENDS = {GONE: range(1, 11), EMPTY: range(11, 21), LATE: range(21, 26), NEVER: range(26, PODS + 1)}
"""How the runtime ends the last boot's pods, by their numbers: before the first ADD with a path that is gone, or with none."""
RESET, ORDERLY = "echo @end; reboot -f", "sync; umount /etc/cni/net.d /opt/cni/bin /var/lib/cni; umount /disk"
LATER = timedelta(minutes=2)
EPOCH, YEAR = "1970-01-01T00:00:10", timedelta(days=365)


@dataclass(frozen=True)
class Restart:
    """How a boot ends, and the next one begins.

    end: the last thing that the machine does. run_is_kept: /run is on the disk. clock: of the next boot, or how far it is ahead.
    is_stepped: it goes back and forth while pods start.
    """

    name: str
    end: str = RESET
    run_is_kept: bool = False
    clock: str | timedelta = LATER
    is_stepped: bool = False

    def __str__(self) -> str:
        """Return its name."""
        return self.name


RESTARTS = (
    Restart("reboot -f"),
    Restart("orderly", ORDERLY),
    Restart("run kept", f"sync; {RESET}", run_is_kept=True),
    Restart("1970", clock=EPOCH),
    Restart("a year ahead", clock=YEAR),
    Restart("stepped", clock=timedelta(), is_stepped=True),
)


@dataclass(frozen=True)
class Boot:
    """A boot after a restart. number: its own, in the names of its pods; those of the dead have the one before."""

    restart: Restart
    number: int
    console: Console

    def lines(self, step: str) -> list[str]:
        """Return the lines that a step has written."""
        return self.console[step].check().out.decode().splitlines()

    def disk(self, step: str) -> found.Disk:
        """Return the files of the disk at a step."""
        return found.Disk.read(self.console[step])


def scenario(number: int, before: Restart | None, then: Restart | None) -> str:
    """Return what a boot does. before: how it came, None for the first one; then: how it ends."""
    lines = [f". {POWER}", "attach ext4"]
    if any(one and one.run_is_kept for one in (before, then)):
        lines += ["keep_run"]
    if before is None:
        lines += [f"cp /power/original {FILE}", f"step install {PUT_IN}"]
    else:
        lines += _check(number, before)
    if then:
        steps = [f"{POWER} steps &"] if then.is_stepped else []
        lines += [*steps, f"{POWER} begin pod{number}- {PODS}", then.end]
    return "\n".join(lines) + "\n"


def _check(number: int, before: Restart) -> list[str]:
    lines = [f"step met {POWER} files"]
    for how, numbers in ENDS.items():
        lines += [f"for number in {' '.join(map(str, numbers))}; do echo pod{number - 1}-$number; done >/power/{how}"]
    if before.is_stepped:
        lines += [f"{POWER} steps &", "stepping=$!"]
    return [
        *lines,
        f"step gone {POWER} refused {NET_D} /power/{GONE}",
        f"step empty {POWER} forgotten /power/{EMPTY}",
        f"step first {POWER} start first{number}",
        f"step new {POWER} begin new{number}- {NEW}",
        *(["kill $stepping", "wait $stepping"] if before.is_stepped else []),
        f"step gc {POWER} gc",
        f"step reap {REAPER} reap",
        f"step doctor {REAPER} doctor --json",
        f"step living {POWER} files",
        f"step late {POWER} refused {NET_D} /power/{LATE}",
        f"step ended {POWER} finish new{number}- {NEW}",
        f"step settled {POWER} settle settle{number}-",
        f"cat /power/{GONE} /power/{LATE} >/power/all",
        f"step again {POWER} refused {NET_D} /power/all",
        f"step audit {REAPER} audit --json",
        f"step left {POWER} files",
        f"step log cat {LOG_FILE}",
    ]


def _names(number: int) -> list[str]:
    """Return the pods that live when a boot has come to its checks."""
    return [f"first{number}", *(f"new{number}-{one}" for one in range(1, NEW + 1))]


def restarted(machine: Machine, file: Path) -> Iterator[Boot]:
    """Let a machine restart in each of the ways, and yield what each boot after that has answered."""
    disk, ahead = Disk.make(file), timedelta()
    for number, (before, then) in enumerate(zip([None, *RESTARTS], [*RESTARTS, None], strict=True)):
        clock = before.clock if before else timedelta()
        ahead += LATER if isinstance(clock, str) else clock
        at = clock if isinstance(clock, str) else f"{datetime.now(UTC) + ahead:%Y-%m-%dT%H:%M:%S}"
        console = machine.run(
            scenario(number, before, then),
            brought(machine.programs.strict, ADDRESSES, [], _names(number)),
            disk=dataclasses.replace(disk, clock=at),
        )
        if before:
            yield Boot(before, number, console)


@pytest.fixture(scope="module")
def boots(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> list[Boot]:
    """A machine that restarts in each of the ways; one boot for each."""
    found_by_each = []
    for boot in restarted(machine, tmp_path_factory.mktemp("machine") / "disk"):
        print(
            f"\n{boot.restart}: {', '.join(f'{name} {ran.seconds:.0f}' for name, ran in boot.console.steps.items())}", flush=True
        )
        found_by_each.append(boot)
    return found_by_each


def test_thirty_pods_had_started(boots: list[Boot]) -> None:
    """Each boot but a reset's finds what they had on the disk, as it was."""
    for boot in boots:
        if boot.restart.end != RESET:
            met = boot.disk("met")
            for files in (met.records(), met.entries(), met.scratch()):
                assert all(files.get(found.owner(f"pod{boot.number - 1}-{number}")) for number in range(1, PODS + 1)), (
                    boot.restart
                )
            assert all(met.reservations().values()), boot.restart


def test_dels_of_the_last_boot_succeed(boots: list[Boot]) -> None:
    """Before the first ADD, whether their path is gone or not given; a file that the reset has broken may stop one for 30 s."""
    for boot in boots:
        for step in ("gone", "empty", "late"):
            refused = boot.lines(step)
            assert boot.restart.end == RESET or not refused, f"{boot.restart}: {refused}"
            assert all(any(why in line for why in BROKEN_JSON) for line in refused), f"{boot.restart}: {refused}"
        assert boot.lines("again") == [], boot.restart


def test_new_pods_start_and_keep_their_addresses(boots: list[Boot]) -> None:
    """The first ADD works, ten more do, no address is given twice, and GC and reap keep each."""
    for boot in boots:
        boot.console["first"].check()
        lines = reports(boot.console, TELLING)
        assert [line for line in lines if line.startswith(("@refused", "@kept"))] == [], boot.restart
        assert found.given_twice(lines) == [], boot.restart
        boot.console["gc"].check()
        boot.console["reap"].check()
        reserved = {content.decode().partition("\r\n")[0] for content in boot.disk("living").reservations().values()}
        assert reserved >= {found.owner(name) for name in _names(boot.number)}, boot.restart


def test_the_dead_have_no_address(boots: list[Boot]) -> None:
    """The first ADD and what came after it have freed all; so have the DELs."""
    for boot in boots:
        reserved = {content.decode().partition("\r\n")[0] for content in boot.disk("living").reservations().values()}
        assert reserved == {found.owner(name) for name in _names(boot.number)}, boot.restart


def test_nothing_is_left_of_the_dead(boots: list[Boot]) -> None:
    """But for libcni's and flannel's files of pods whose DEL never came, which audit counts."""
    for boot in boots:
        left, audit = boot.disk("left"), boot.console["audit"].json()
        first = found.owner(f"first{boot.number}")
        assert [content.decode().partition("\r\n")[0] for content in left.reservations().values()] == [first], boot.restart
        dead = {found.owner(f"pod{boot.number - 1}-{number}") for number in range(1, PODS + 1)}
        assert not dead & set(left.records()), boot.restart
        never = {found.owner(f"pod{boot.number - 1}-{number}") for number in ENDS[NEVER]}
        assert dead & (set(left.entries()) | set(left.scratch())) <= never, boot.restart
        assert audit["problems"] == []
        assert audit["cache"]["broken"] == [], boot.restart
        for directory, files in ((found.CACHE, left.entries()), (found.FLANNEL, left.scratch())):
            assert len(set(files) - {first}) == audit["cache"]["left"].get(f"/{directory}", 0), boot.restart


def test_doctor_finds_no_error(boots: list[Boot]) -> None:
    """Whatever the clock shows, and whatever /run holds of the last boot."""
    for boot in boots:
        findings = boot.console["doctor"].json()["findings"]
        assert [one for one in findings if one["level"] == "error"] == [], boot.restart
