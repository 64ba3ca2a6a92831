"""Reboots and clocks: the boot ID changes, /run is wiped or kept, the disk stays, and no clock can be trusted.

In every test a leak stands beside those who live, and is gone in the end. Who lives has its address reserved and not configured
unless a test says so: then nothing but its netns saves it.
"""

import json
import shlex
import sys
import uuid

import pytest

from tests import inside
from tests.e2e import wall_clock
from tests.e2e.pair import NETWORK, Pair, container_id
from tests.node import BIN, STATE_DIR, Command, Node, Pod, Ran

RUN = "/run/cni-reaper"
MEMORY = f"{RUN}/{NETWORK}.json"
BOOT_ID_FILE = f"{inside.NODE_OWN}/boot_id"
LONG_UPTIME_S = 1_000_000


@pytest.fixture
def pair(node: Node) -> Pair:
    """A network of cni-reaper and host-local."""
    return Pair(node)


def reboot(node: Node, *, run_is_kept: bool) -> None:
    """Reboot a node; run_is_kept: /run/cni-reaper is on a disk."""
    kept = {file.name: file.read_bytes() for file in node.path(RUN).iterdir()} if run_is_kept else {}
    node.reboot()
    for name, content in kept.items():
        path = node.path(f"{RUN}/{name}")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def call(pair: Pair, verb: str, netns: Pod | str, owner: str, ahead: int = 0) -> Ran:
    """Run our plugin for a container, with clocks that are ahead."""
    return pair.node.plugin(verb, pair.head, netns=netns, container_id=owner, ahead=ahead).check()


def forget(node: Node, owner: str) -> None:
    """Lose our record of a container."""
    node.path(f"{STATE_DIR}/{NETWORK}/{owner}:eth0").unlink()


@pytest.mark.parametrize("run_is_kept", [False, True], ids=["run wiped", "run kept"])
@pytest.mark.parametrize("same_ids", [True, False], ids=["same IDs", "new IDs"])
def test_containers_start_again_on_a_full_node(node: Node, same_ids: bool, run_is_kept: bool) -> None:
    """Podman under the same IDs and kubelet under new ones: the first ADD finds room, and whoever is back keeps its address.

    The boot before had lasted for long: its clocks were far ahead of those of the new one.
    """
    pair = Pair(node, first="10.66.0.2", last="10.66.0.5")
    for number in range(4):
        pod = node.pod(f"c{number}")
        call(pair, "ADD", pod, container_id(pod.name), ahead=LONG_UPTIME_S)
        pair.take(pod, container_id(pod.name))
    full = pair.held()
    reboot(node, run_is_kept=run_is_kept)
    back: dict[str, str] = {}
    for number in range(4):
        pod = node.pod(f"c{number}" if same_ids else f"new{number}")
        back[pod.name] = pair.add(pod)
        assert set(back.values()) <= pair.held()
    assert set(back.values()) == full
    pair.reap()
    assert pair.held() == full
    name, address = back.popitem()
    Pod(node, name, f"/run/netns/{name}").delete()
    pair.reap()
    assert pair.held() == full - {address}


@pytest.mark.parametrize("run_is_kept", [False, True], ids=["run wiped", "run kept"])
def test_a_container_that_came_back_while_we_were_not_in_the_chain(pair: Pair, run_is_kept: bool) -> None:
    """Its record is of the last boot and its address is in use: kept; the dead one beside it is freed."""
    node = pair.node
    owner = container_id("podman")
    pair.add(node.pod("podman"), owner)
    pair.leak("dead")
    reboot(node, run_is_kept=run_is_kept)
    again = node.pod("podman")
    node.plugin("DEL", pair.ipam, binary="host-local", netns="", container_id=owner).check()
    address = pair.take(again, owner)
    node.add_address("lo", f"{address}/32", again.path)
    pair.reap()
    assert pair.held() == {address}, node.log()
    again.delete()
    pair.reap()
    assert pair.held() == set()


@pytest.mark.parametrize("path", ["none", "its own", "now another's"])
def test_the_del_of_an_old_sandbox_comes_after_the_reboot(node: Node, path: str) -> None:
    """The address is another pod's by then: the late DEL, with or without a netns path, leaves it alone."""
    pair = Pair(node, first="10.66.0.2", last="10.66.0.3")
    old, dead = node.pod("old"), node.pod("dead")
    freed = {pair.add(old), pair.add(dead)}
    node.reboot()
    new = node.pod("old" if path == "now another's" else "new")
    owner = container_id("the new sandbox")
    address = pair.add(new, owner)
    assert address in freed
    for late in ("old", "dead"):
        netns = "" if path == "none" else f"/run/netns/{late}"
        for plugin, conf in (("host-local", pair.ipam), ("cni-reaper", pair.head)):
            node.plugin("DEL", conf, binary=plugin, netns=netns, container_id=container_id(late)).check()
        assert node.reservations(NETWORK) == {address: (owner, "eth0")}


def test_a_del_believes_no_view_of_the_last_boot(pair: Pair) -> None:
    """The note of proven views has outlived the boot: DEL frees nothing on the strength of it, the first ADD does."""
    node = pair.node
    stale = pair.leak("dead")
    reboot(node, run_is_kept=True)
    call(pair, "DEL", "", container_id("other"))
    assert pair.held() == {stale}
    assert "cannot be sure to see" in node.log("sweep-skipped")[-1]["reason"]
    assert "before a pod has started in this boot" in node.log("sweep-skipped")[-1]["reason"]
    pair.reap()
    assert pair.held() == set()


@pytest.mark.parametrize("boot", ["this", "another"])
def test_what_is_remembered_counts_in_its_own_boot(pair: Pair, boot: str) -> None:
    """An unmapped pod, first seen ages ago: in the boot in which that was noted its time is up, in any other it begins anew."""
    node = pair.node
    address = pair.take(node.pod("stranger"), container_id("stranger"))
    pair.reap()
    noted = json.loads(node.read(MEMORY))
    assert address in noted["seen"]
    for look in noted["looks"]:
        look[0] -= LONG_UPTIME_S
    noted["looked"] -= LONG_UPTIME_S
    if boot == "another":
        noted["bootID"] = str(uuid.uuid4())
    node.write(MEMORY, json.dumps(noted))
    pair.leak("dead")
    pair.reap()
    assert pair.held() == ({address} if boot == "another" else set()), node.log()


@pytest.mark.parametrize("other", [str(uuid.uuid4()), ""], ids=["another", "masked"])
def test_two_boot_ids_on_one_node(pair: Pair, other: str) -> None:
    """Nspawn and LXC mount a boot ID of their own over the kernel's: who sees one frees nobody that the other has recorded."""
    node = pair.node
    node.write("/run/other-boot", other and f"{other}\n")
    script = f"mount --bind /run/other-boot {inside.BOOT_ID}; exec {BIN}/cni-reaper"
    wrapped = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script]

    def add(pod: Pod, *, inner: bool) -> str:
        command = node.plugin_command("ADD", pair.head, netns=pod, container_id=container_id(pod.name))
        command["argv"] = wrapped if inner else command["argv"]
        node.together([command])[0].check()
        return pair.take(pod, container_id(pod.name))

    live: set[str] = set()
    for number in range(6):
        dead = node.pod(f"dead{number}")
        add(dead, inner=number % 2 == 1)
        dead.delete()
        live.add(add(node.pod(f"live{number}"), inner=number % 2 == 0))
        assert pair.held() == live, node.log()
    for name in ("live0", "live1"):
        Pod(node, name, f"/run/netns/{name}").delete()
    add(node.pod("last"), inner=True)
    assert len(pair.held()) == len(live) - 2 + 1
    recorded = {record["bootID"] for record in node.records(NETWORK).values()}
    assert recorded == {other, node.read(BOOT_ID_FILE).strip()}


def stamp_everything(node: Node, stamp: str) -> None:
    """Give every file that a verdict could go by a time."""
    directories = " ".join(shlex.quote(f"{path}") for path in ("/var/lib/cni", RUN))
    node.run(["sh", "-c", f"find {directories} -exec touch -h -d {shlex.quote(stamp)} {{}} +"]).check()


def stepped(command: Command, step_s: int) -> Command:
    """Give a command a wall clock that is so far ahead, as after `date -s`."""
    return {**command, "argv": [sys.executable, "-I", wall_clock.__file__, str(step_s), *command["argv"]]}


STEPS_S = (-5 * 3600, 7 * 3600, -1_700_000_000, 20 * 365 * 86400, 0)


def test_the_wall_clock_is_stepped_while_pods_run(pair: Pair) -> None:
    """NTP steps the clock by hours, back and forth; a board without a clock is in 1970: leaks go, and nobody else.

    Each step leaves files with the times of its clock behind.
    """
    node = pair.node
    kept = {pair.add(node.pod("live")), pair.take(node.pod("stranger"), container_id("stranger"))}
    for number, step_s in enumerate(STEPS_S):

        def run(verb: str, netns: Pod | str, owner: str, step_s: int = step_s) -> None:
            command = node.plugin_command(verb, pair.head, netns=netns, container_id=owner)
            node.together([stepped(command, step_s)])[0].check()

        new = node.pod(f"new{number}")
        run("ADD", new, container_id(new.name))
        kept.add(pair.take(new, container_id(new.name)))
        pair.leak(f"dead{number}")
        now_s = int(node.run(["date", "+%s"]).check().out)
        stamp_everything(node, f"@{now_s + step_s}")
        trigger = node.pod()
        run("ADD", trigger, container_id(trigger.name))
        assert pair.held() == kept, node.log()
        year = str(1970 + (now_s + step_s) // 31_556_952)
        assert node.log("reaped")[-1]["time"].startswith(year)
        run("DEL", "", container_id("other"))
        assert pair.held() == kept, node.log()


@pytest.mark.parametrize("stamp", ["@1", "2099-01-01"])
def test_files_of_a_wrong_clock_after_a_reboot(pair: Pair, stamp: str) -> None:
    """No RTC: what the last boot left is from the future or from 1970. The dead are freed, who is back is kept."""
    node = pair.node
    for name in ("dead", "podman"):
        pair.add(node.pod(name))
    forgotten = pair.take(node.pod("unmapped"), container_id("unmapped"))
    reboot(node, run_is_kept=True)
    again = pair.add(node.pod("podman"))
    stranger = pair.take(node.pod("stranger"), container_id("stranger"))
    stamp_everything(node, stamp)
    pair.reap()
    assert pair.held() <= {again, stranger, forgotten}
    assert pair.held() >= {again, stranger}, node.log()
    Pod(node, "stranger", "/run/netns/stranger").delete()
    pair.reap()
    assert pair.held() == {again}, node.log()
