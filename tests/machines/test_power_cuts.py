"""The power of a real kernel goes while pods start and end, and with it what ext4 had not written yet: then all can be ended.

The list is flannel's, and an old libcni calls it. Each wants a file of its own for a DEL, and writes it without fsync. A boot
finds what the cut before it has left. Then its own pods start and end until the next cut.
"""

import json
import os
import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.machines.machine import Console, Cut, Disk, Machine
from tests.support.cni_calls import reaper
from tests.support.node_files import DATA_DIR, LOG_FILE

CUTS = int(os.environ.get("CNI_REAPER_MACHINES_CUTS", "3"))
SEED = int(os.environ.get("CNI_REAPER_MACHINES_SEED") or random.SystemRandom().randrange(1_000_000))
PODS = range(10, 25)
"""How many pods have started when the power goes, one or two a second. ext4 commits every five: before that no file is there."""
AFTER_S = 2.0
"""The power goes at most so many seconds later."""
LATER, AT_ONCE, BACK = "a while later", "at once", "with its clock set back"
CLOCKS = (LATER, AT_ONCE, BACK)
"""When the machine boots again. Broken files are removed when they are 30 s old; by a clock that was set back, 30 s later."""
OFF = timedelta(minutes=2)
SET_BACK = "2001-01-01T00:00:00"
NETWORK = "cbr0"
HERE = Path(__file__).parent
SUBNET = b"FLANNEL_NETWORK=10.90.0.0/16\nFLANNEL_SUBNET=10.90.0.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"

BOOT = f"""
mkdir /var/lib/cni
step mount mount -t ext4 /dev/vda /var/lib/cni
cp /root/cni-reaper /power/flannel /opt/cni/bin/
step found /power/pods found
step hang /power/pods refused without /power/names
cut -d : -f 1 /tmp/out >/power/hanging
pod first
step first /power/pods call with add first
step settled /power/pods settle
step "still hang" /power/pods refused with /power/hanging
step left /power/pods found
step held ls {DATA_DIR}/{NETWORK}
step log cat {LOG_FILE}
"""


@dataclass(frozen=True)
class Life:
    """What a boot has found, and which pods there had been."""

    clock: str
    console: Console
    names: list[str]

    def lines(self, step: str) -> list[str]:
        """Return the lines that a step has written."""
        return self.console[step].check().out.decode().splitlines()


def files(names: list[str]) -> dict[str, bytes]:
    """Return what a machine brings along: the lists, with cni-reaper and without, and the names of the last life's pods."""
    tools = Path(os.environ["CNI_REAPER_MACHINES_STRICT"])
    plugins = [
        {"type": "flannel", "subnetFile": "/power/subnet.env", "delegate": {"isDefaultGateway": True}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    lists = {"with": [reaper(), *plugins], "without": plugins}
    found = {
        f"etc/cni/{name}/{NETWORK}.conflist": json.dumps({"cniVersion": "0.4.0", "name": NETWORK, "plugins": one}).encode()
        for name, one in lists.items()
    }
    found |= {f"power/{name}": (tools / name).read_bytes() for name in ("cnitool", "flannel")}
    return found | {
        "power/pods": (HERE / "power.sh").read_bytes(),
        "power/subnet.env": SUBNET,
        "power/names": "".join(f"{name}\n" for name in names).encode(),
    }


@pytest.fixture(scope="module")
def lives(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> list[Life]:
    """A machine whose power goes again and again; what each boot has found that came after a cut."""
    print(f"\n{CUTS} cuts, CNI_REAPER_MACHINES_SEED={SEED}")
    chance = random.Random(SEED)
    file = Disk.make(tmp_path_factory.mktemp("machine") / "disk").file
    found: list[Life] = []
    names: list[str] = []
    off = timedelta()
    for number in range(CUTS + 1):
        clock = CLOCKS[(number - 1) % len(CLOCKS)]
        off += OFF if clock == LATER else timedelta()
        disk = Disk(file, SET_BACK if clock == BACK else f"{datetime.now(UTC) + off:%Y-%m-%dT%H:%M:%S}")
        scenario = BOOT
        cut = Cut(f"@up {chance.choice(PODS)}", chance.uniform(0, AFTER_S)) if number < CUTS else None
        if cut:
            scenario += f"/power/pods live p{number}-\n"
        console = machine.run(scenario, files(names), disk=disk, cut=cut)
        console["mount"].check()
        if number:
            found.append(Life(clock, console, names))
            hang, settled = len(found[-1].lines("hang")), found[-1].lines("settled")[0]
            print(
                f"cut {number}: {len(names)} pods, {hang} hang; boots {clock}, {settled} pods after the first until all is mended"
            )
        if cut:
            print(f"cut {number + 1}: {cut.after_s:.3f} s after {cut.line}")
            started = sum(line.startswith("@up ") for line in console.text.splitlines())
            names = [f"p{number}-{one}" for one in range(1, started + 2)]
    return found


def test_each_first_pod_starts(lives: list[Life]) -> None:
    """Nothing that a cut leaves stops the first ADD of the next boot."""
    for life in lives:
        life.console["first"].check()


def test_cuts_leave_pods_that_hang(lives: list[Life]) -> None:
    """Files of both are empty, and without us the DEL of their pods fails."""
    found = "\n".join(line for life in lives for line in life.lines("found"))
    assert re.search("^0 results/", found, re.MULTILINE)
    assert re.search("^0 flannel/", found, re.MULTILINE)
    hang = [line for life in lives for line in life.lines("hang")]
    assert hang
    assert all("unexpected end of JSON input" in line or "invalid character" in line for line in hang)


def test_all_pods_of_the_last_life_can_be_ended(lives: list[Life]) -> None:
    """Each DEL works, nothing that is broken is left, and no address is held but the first pod's."""
    for life in lives:
        assert life.lines("still hang") == []
        assert [line for line in life.lines("left") if line.startswith("0 ")] == []
        held = [line for line in life.lines("held") if line.startswith("10.")]
        assert len(held) == 1
