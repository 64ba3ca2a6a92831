"""What a fifth look at the product found: a live address freed, dead ones kept for ever, an ADD of a minute and a half."""

import json
import sys

import pytest

from cni_reaper_plugin.reaper import full_scan
from cni_reaper_plugin.system import boot
from tests.e2e import strace
from tests.e2e.pair import NETWORK, Pair, container_id, until
from tests.e2e.test_past_lives import OWN_VIEW, SAME_BOOT
from tests.node import BIN, STATE_DIR, Conf, Node

BEHIND: Conf = {"prevResult": {"cniVersion": "1.0.0"}}


@pytest.fixture
def pair(node: Node) -> Pair:
    """A network with a live pod, so that the view of this boot is proven."""
    pair = Pair(node)
    pair.add(node.pod("web"))
    return pair


@pytest.mark.parametrize("first_place", ["head", "tail"])
def test_a_netns_whose_last_user_had_its_del(pair: Pair, first_place: str) -> None:
    """VM managers keep a netns and give it to one VM after another; the second's ADD is under way, we are behind host-local."""
    slot = pair.node.pod("slot-1")
    pair.add(slot, container_id("first vm"), **(BEHIND if first_place == "tail" else {}))
    pair.give_back(slot, container_id("first vm"))
    address = pair.take(slot, container_id("second vm"))
    pair.reap(**BEHIND)
    assert address in pair.held(), pair.node.log("reaped")


def test_a_process_path_of_another_boot_in_a_pid_namespace(node: Node) -> None:
    """A node in a container, as minikube's: its PID namespace is new at each start, and the record says a process's path."""
    pair = Pair(node)
    told = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=6f0c"

    def live_and_die(name: str) -> None:
        conf, ipam = json.dumps(pair.head), json.dumps(pair.ipam)
        script = (
            f"{SAME_BOOT}; mkfifo /run/ready; unshare --net sh -c 'echo >/run/ready; exec sleep 1000' & p=$!; "
            "read line </run/ready; rm /run/ready; "
            f"export CNI_COMMAND=ADD CNI_CONTAINERID={container_id(name)} CNI_IFNAME=eth0 CNI_PATH={BIN} "
            "CNI_NETNS=/proc/$p/ns/net "
            f"CNI_ARGS='{told}'; echo '{conf}' | {BIN}/cni-reaper && echo '{ipam}' | {BIN}/host-local; rc=$?; kill $p; exit $rc"
        )
        node.run([*OWN_VIEW, script]).check()

    live_and_die("first")
    (leak,) = pair.held()
    node.reboot()
    for _ in range(3):  # so that the number of the PID namespace is another one
        node.start(["unshare", "--pid", "--fork", "sleep", "1000"])
    live_and_die("second")
    live_and_die("third")
    assert leak not in pair.held(), node.log()


def test_many_routes(pair: Pair) -> None:
    """A pod with a long table of routes that changes all the time, and many processes: an ADD that reaps looks into it, too."""
    node = pair.node
    router = node.pod("router")
    routes = "".join(f"route add {1 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.0/24 dev lo\n" for n in range(20_000))
    node.write("/run/routes", "link set lo up\naddress add 10.66.0.99/32 dev lo\n" + routes)
    node.run(["ip", "-batch", "/run/routes"], netns=router).check()
    change = "while :; do ip route add 223.250.0.0/24 dev lo; ip route del 223.250.0.0/24 dev lo; done"
    node.start(["sh", "-c", change], netns=router)
    for _ in range(10):
        node.start(["sleep", "1000"], netns=router)
    node.reserve(NETWORK, "10.66.0.99", container_id("routes"))
    leak = pair.leak()
    own = node.pod()
    add = node.plugin_command("ADD", pair.head, netns=own, container_id=container_id(own.name))
    add["argv"] = [*strace.listing("/run/trace"), *add["argv"]]
    node.together([add])[0].check()
    assert leak not in pair.held(), node.log()
    assert "10.66.0.99" in pair.held(), node.log()
    tables = [call for call in strace.calls(node.read("/run/trace")) if "fib_trie" in call.text]
    processes = sum(name.name.isdecimal() for name in node.path("/proc").iterdir())
    assert len(tables) < processes, "each process of a netns is asked for the same long table"


def test_a_store_so_slow_that_the_time_is_up(pair: Pair) -> None:
    """Reading all of a network takes longer than a call may: what has been read is judged, and the dead of it are freed."""
    node = pair.node
    live = [pair.add(node.pod()) for _ in range(6)]
    own = node.pod()  # before the dead one, whose netns' number it would have
    pair.leak("dead")
    record = node.records(NETWORK)[f"{container_id('dead')}:eth0"]
    for number in range(256, 1056):
        owner = container_id(f"dead {number}")
        node.reserve(NETWORK, f"10.66.{number >> 8}.{number & 255}", owner)
        node.write(f"{STATE_DIR}/{NETWORK}/{owner}:eth0", json.dumps(record))
        entry = {"kind": "cniCacheV1", "containerId": owner, "ifName": "eth0", "networkName": NETWORK}
        node.write(f"/var/lib/cni/results/{NETWORK}-{owner}-eth0", json.dumps(entry))  # nothing published: no program is run
    before = len(pair.held())
    add = node.plugin_command("ADD", pair.head, netns=own, container_id=container_id(own.name))
    add["argv"] = [*strace.slow("read", 10_000), *add["argv"]]
    node.together([add])[0].check()
    assert len(pair.held()) < before, node.log()[-1]["reason"]
    assert set(live) <= pair.held()


OPEN_MANY = """
import os, resource, sys, threading
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
null = os.open("/dev/null", os.O_RDONLY)
for _ in range(min(most - 20, 20_000)):
    os.dup(null)
open(sys.argv[1], "w").close()
threading.Event().wait()
"""


def test_many_descriptors(pair: Pair) -> None:
    """With most of a million open files an ADD succeeds, whether or not it could look at them in the time that it has."""
    node = pair.node
    for number in range(40):
        node.start([sys.executable, "-I", "-c", OPEN_MANY, f"/run/opened-{number}"])
    until(lambda: len([one for one in node.path("/run").iterdir() if one.name.startswith("opened-")]) == 40, "the files are open")
    live = pair.add(node.pod("live"))
    pair.leak()
    pair.reap()
    assert live in pair.held()


@pytest.mark.parametrize(("ago_s", "is_put_off"), [(full_scan.PUT_OFF_S - 60, True), (full_scan.PUT_OFF_S + 1, False)])
def test_a_look_that_took_long_is_left_to_del(pair: Pair, ago_s: int, is_put_off: bool) -> None:
    """A call has noted that looking around the node takes long: for ten minutes an ADD leaves it to DEL, which reaps."""
    node = pair.node
    leak = pair.leak()
    node.write("/run/cni-reaper/put-off", str(int(boot.boottime_s()) - ago_s))
    pair.reap()
    assert (leak in pair.held()) == is_put_off
    assert ("took too long" in str(node.log("sweep-skipped")[-1:])) == is_put_off
    pair.reap("DEL")
    assert leak not in pair.held(), node.log()
