"""Reboots and clocks: the boot ID changes, /run is wiped or kept, the disk stays, and no clock can be trusted.

In every test a leak stands beside those who live, and is gone in the end. Who lives has its address reserved and not configured
unless a test says so: then nothing but its netns saves it.
"""

import json
import shlex
import sys
import uuid

import pytest

from tests.support import agent, netns_holders, wall_clock
from tests.support.calls import reaped_reasons
from tests.support.cni_calls import BIN, Pod
from tests.support.commands import Command, Ran
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import STATE_DIR
from tests.support.views import OWN_VIEW, SAME_BOOT

RUN = "/run/cni-reaper"
MEMORY = f"{RUN}/{NETWORK}.json"
BOOT_ID_FILE = f"{agent.NODE_OWN}/boot_id"
RECORDS = f"{STATE_DIR}/{NETWORK}"
BROKEN = {"empty": b"", "NUL bytes": bytes(300), "cut off": b'{"v":1,"netns":"/run/netns/dead","de'}
LONG_UPTIME_S = 1_000_000


def reboot(node: Node, *, run_is_kept: bool) -> None:
    """Reboot a node; run_is_kept: /run/cni-reaper is on a disk."""
    kept = {file.name: file.read_bytes() for file in node.path(RUN).iterdir()} if run_is_kept else {}
    node.reboot()
    for name, content in kept.items():
        path = node.path(f"{RUN}/{name}")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def call(network: Network, verb: str, netns: Pod | str, owner: str, ahead: int = 0) -> Ran:
    """Run our plugin for a container, with clocks that are ahead."""
    return network.node.plugin(verb, network.head, netns=netns, container_id=owner, ahead=ahead).check()


def forget(node: Node, owner: str) -> None:
    """Lose our record of a container."""
    node.path(f"{STATE_DIR}/{NETWORK}/{owner}:eth0").unlink()


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_records_that_a_power_cut_has_broken_go(network: Network, content: bytes) -> None:
    """Nobody writes them any more, and no DEL removes them. Records of who lives stay, and those of a newer version."""
    node = network.node
    for name in ("dead", "newer"):
        network.leak(name)
    node.reboot()
    of = {name: f"{container_id(name)}:eth0" for name in ("dead", "newer", "living", "ended")}
    node.path(f"{RECORDS}/{of['dead']}").write_bytes(content)
    newer = {**json.loads(node.read(f"{RECORDS}/{of['newer']}")), "v": 2}
    node.write(f"{RECORDS}/{of['newer']}", json.dumps(newer))
    living = network.add(node.pod("living"))
    ended = node.pod("ended")
    network.add(ended)
    network.give_back(ended)
    assert network.held() == {living}, node.log()
    left = {path.name for path in node.path(RECORDS).iterdir()}
    assert of["dead"] not in left
    assert {of["living"], of["newer"]} <= left


@pytest.mark.parametrize("run_is_kept", [False, True], ids=["run wiped", "run kept"])
@pytest.mark.parametrize("same_ids", [True, False], ids=["same IDs", "new IDs"])
def test_containers_back_after_reboot_keep_addresses_on_a_full_node(node: Node, same_ids: bool, run_is_kept: bool) -> None:
    """Podman under the same IDs and kubelet under new ones: the first ADD finds room, and whoever is back keeps its address.

    The boot before had lasted for long: its clocks were far ahead of those of the new one.
    """
    network = Network(node, first="10.66.0.2", last="10.66.0.5")
    for number in range(4):
        pod = node.pod(f"c{number}")
        call(network, "ADD", pod, container_id(pod.name), ahead=LONG_UPTIME_S)
        network.take(pod, container_id(pod.name))
    full = network.held()
    reboot(node, run_is_kept=run_is_kept)
    back: dict[str, str] = {}
    for number in range(4):
        pod = node.pod(f"c{number}" if same_ids else f"new{number}")
        back[pod.name] = network.add(pod)
        assert set(back.values()) <= network.held()
    assert set(back.values()) == full
    network.reap()
    assert network.held() == full
    name, address = back.popitem()
    Pod(node, name, f"/run/netns/{name}").delete()
    network.reap()
    assert network.held() == full - {address}


@pytest.mark.parametrize("run_is_kept", [False, True], ids=["run wiped", "run kept"])
def test_container_back_without_a_record_keeps_its_address(network: Network, run_is_kept: bool) -> None:
    """Its record is of the last boot and its address is in use: kept; the dead one beside it is freed."""
    node = network.node
    owner = container_id("podman")
    network.add(node.pod("podman"), owner)
    network.leak("dead")
    reboot(node, run_is_kept=run_is_kept)
    again = node.pod("podman")
    node.plugin("DEL", network.ipam, binary="host-local", netns="", container_id=owner).check()
    address = network.take(again, owner)
    node.add_address("lo", f"{address}/32", again.path)
    network.reap()
    assert network.held() == {address}, node.log()
    again.delete()
    network.reap()
    assert network.held() == set()


def test_a_del_believes_no_view_of_the_last_boot(network: Network) -> None:
    """The note of proven views has outlived the boot: DEL frees nothing on the strength of it, the first ADD does."""
    node = network.node
    stale = network.leak("dead")
    reboot(node, run_is_kept=True)
    call(network, "DEL", "", container_id("other"))
    assert network.held() == {stale}
    assert "cannot be sure to see" in node.log("sweep-skipped")[-1]["reason"]
    assert "before a pod has started in this boot" in node.log("sweep-skipped")[-1]["reason"]
    network.reap()
    assert network.held() == set()


@pytest.mark.parametrize("boot", ["this", "another"])
def test_what_is_remembered_counts_in_its_own_boot(network: Network, boot: str) -> None:
    """An unmapped pod, first seen ages ago: in the boot in which that was noted its time is up, in any other it begins anew."""
    node = network.node
    address = network.take(node.pod("stranger"), container_id("stranger"))
    network.reap()
    noted = json.loads(node.read(MEMORY))
    assert address in noted["seen"]
    for look in noted["looks"]:
        look[0] -= LONG_UPTIME_S
    noted["looked"] -= LONG_UPTIME_S
    if boot == "another":
        noted["bootID"] = str(uuid.uuid4())
    node.write(MEMORY, json.dumps(noted))
    network.leak("dead")
    network.reap()
    assert network.held() == ({address} if boot == "another" else set()), node.log()


@pytest.mark.parametrize("other", [str(uuid.uuid4()), ""], ids=["another", "masked"])
def test_second_boot_id_frees_nobody(network: Network, other: str) -> None:
    """Nspawn and LXC mount a boot ID of their own over the kernel's: who sees one frees nobody that the other has recorded."""
    node = network.node
    node.write("/run/other-boot", other and f"{other}\n")
    script = f"mount --bind /run/other-boot {agent.BOOT_ID}; exec {BIN}/cni-reaper"
    wrapped = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script]

    def add(pod: Pod, *, inner: bool) -> str:
        command = node.plugin_command("ADD", network.head, netns=pod, container_id=container_id(pod.name))
        command["argv"] = wrapped if inner else command["argv"]
        node.together([command])[0].check()
        return network.take(pod, container_id(pod.name))

    live: set[str] = set()
    for number in range(6):
        dead = node.pod(f"dead{number}")
        add(dead, inner=number % 2 == 1)
        dead.delete()
        live.add(add(node.pod(f"live{number}"), inner=number % 2 == 0))
        assert network.held() == live, node.log()
    for name in ("live0", "live1"):
        Pod(node, name, f"/run/netns/{name}").delete()
    add(node.pod("last"), inner=True)
    assert len(network.held()) == len(live) - 2 + 1
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


def test_stepped_wall_clock_frees_leaks_only(network: Network) -> None:
    """NTP steps the clock by hours, back and forth; a board without a clock is in 1970: leaks go, and nobody else.

    Each step leaves files with the times of its clock behind.
    """
    node = network.node
    kept = {network.add(node.pod("live")), network.take(node.pod("stranger"), container_id("stranger"))}
    for number, step_s in enumerate(STEPS_S):

        def run(verb: str, netns: Pod | str, owner: str, step_s: int = step_s) -> None:
            command = node.plugin_command(verb, network.head, netns=netns, container_id=owner)
            node.together([stepped(command, step_s)])[0].check()

        new = node.pod(f"new{number}")
        run("ADD", new, container_id(new.name))
        kept.add(network.take(new, container_id(new.name)))
        network.leak(f"dead{number}")
        now_s = int(node.run(["date", "+%s"]).check().out)
        stamp_everything(node, f"@{now_s + step_s}")
        trigger = node.pod()
        run("ADD", trigger, container_id(trigger.name))
        assert network.held() == kept, node.log()
        year = str(1970 + (now_s + step_s) // 31_556_952)
        assert node.log("reaped")[-1]["time"].startswith(year)
        run("DEL", "", container_id("other"))
        assert network.held() == kept, node.log()


@pytest.mark.parametrize("stamp", ["@1", "2099-01-01"])
def test_wrong_clock_before_reboot_frees_the_dead_only(network: Network, stamp: str) -> None:
    """No RTC: what the last boot left is from the future or from 1970. The dead are freed, who is back is kept."""
    node = network.node
    for name in ("dead", "podman"):
        network.add(node.pod(name))
    forgotten = network.take(node.pod("unmapped"), container_id("unmapped"))
    reboot(node, run_is_kept=True)
    again = network.add(node.pod("podman"))
    stranger = network.take(node.pod("stranger"), container_id("stranger"))
    stamp_everything(node, stamp)
    network.reap()
    assert network.held() <= {again, stranger, forgotten}
    assert network.held() >= {again, stranger}, node.log()
    Pod(node, "stranger", "/run/netns/stranger").delete()
    network.reap()
    assert network.held() == {again}, node.log()


def test_process_path_of_another_boot_frees_its_leak(node: Node) -> None:
    """A node in a container, as minikube's: its PID namespace is new at each start, and the record says a process's path."""
    network = Network(node)
    told = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=6f0c"

    def live_and_die(name: str) -> None:
        conf, ipam = json.dumps(network.head), json.dumps(network.ipam)
        script = (
            f"{SAME_BOOT}; mkfifo /run/ready; unshare --net sh -c 'echo >/run/ready; exec sleep 1000' & p=$!; "
            "read line </run/ready; rm /run/ready; "
            f"export CNI_COMMAND=ADD CNI_CONTAINERID={container_id(name)} CNI_IFNAME=eth0 CNI_PATH={BIN} "
            "CNI_NETNS=/proc/$p/ns/net "
            f"CNI_ARGS='{told}'; echo '{conf}' | {BIN}/cni-reaper && echo '{ipam}' | {BIN}/host-local; rc=$?; kill $p; exit $rc"
        )
        node.run([*OWN_VIEW, script]).check()

    live_and_die("first")
    (leak,) = network.held()
    node.reboot()
    for _ in range(3):  # so that the number of the PID namespace is another one
        node.start(["unshare", "--pid", "--fork", "sleep", "1000"])
    live_and_die("second")
    live_and_die("third")
    assert leak not in network.held(), node.log()


def test_two_boot_ids_free_no_live_pod(network: Network) -> None:
    """Two views of one boot show two boot IDs, as nspawn and LXC make it: neither takes the other's live pods for rebooted."""
    node = network.node
    node.write(f"{agent.NODE_OWN}/other_boot_id", "c0ffee00-0000-4000-8000-000000000000\n")
    other = f'mount --bind {agent.NODE_OWN}/other_boot_id {agent.BOOT_ID} && exec "$@"'

    def add(name: str, elsewhere: bool) -> str:
        pod = node.pod(name)
        one = node.plugin_command("ADD", network.head, netns=pod, container_id=container_id(name))
        if elsewhere:
            one["argv"] = ["unshare", "--mount", "--propagation", "private", "sh", "-c", other, "sh", *one["argv"]]
        node.together([one])[0].check()
        return network.take(pod, container_id(name))

    kept = {add("here", False), add("there", True)}
    hidden = Pod(node, "there", "/run/netns/there")
    netns_holders.by_process(hidden)
    node.mount("/dev/null", hidden.path, flags=agent.MS_BIND)
    for round_, elsewhere in enumerate([False, True]):
        leaks = {add(f"leak-{round_}-{by}", by) for by in (False, True)}
        for by in (False, True):
            node.delete_netns(f"/run/netns/leak-{round_}-{by}")
        assert network.held() == kept | leaks
        kept.add(add(f"next-{round_}", elsewhere))
        assert network.held() == kept, node.log()
    assert reaped_reasons(network) == {"netns-gone", "rebooted"}
