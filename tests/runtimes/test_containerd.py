"""Leaks under containerd that never heal by themselves, and ours: each is shown to be for good without us, and gone with us.

The chain is bridge with masquerade, host-local and portmap, its pool a /29 with room for five; a control pod lives through it.
"""

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc  # type: ignore[import-untyped]  # it ships no types
import pytest

from tests.runtimes.chain import EXHAUSTED, MISSING, NETWORK, ROOM, Control, chain, held, in_front_of, owners
from tests.runtimes.containerd import LOG, NEW, OLD, ROOT_DIR, Containerd, Sandbox
from tests.support.cni_calls import BIN, NET_D
from tests.support.network import Network
from tests.support.node import Node
from tests.support.waiting import until

METRICS = "/var/lib/cni/reaper.prom"

only_new = pytest.mark.parametrize("containerd", [NEW], indirect=True)


def control_of(containerd: Containerd, network: str = NETWORK) -> Control:
    """Start the control pod."""
    sandbox = containerd.run("control")
    return Control(containerd.node, sandbox.id, sandbox.address, network)


def rewrite(containerd: Containerd, *, us: bool, version: str = "1.0.0") -> None:
    """Repair the conflist, and wait until containerd has read it."""
    chain(containerd.node, us, version=version)
    until(lambda: MISSING["type"] not in containerd.conflists(), "containerd has read the conflist", 30)


def assert_exhausted_for_good(containerd: Containerd, control: Control) -> None:
    """Whatever is tried, no pod starts: neither again, nor after all that containerd knows of is removed but the control."""
    before = held(containerd.node)
    assert len(before) == ROOM
    assert EXHAUSTED in containerd.fails()
    for sandbox in containerd.listed():
        if sandbox != control.owner:
            containerd.remove(sandbox)
    assert EXHAUSTED in containerd.fails()
    assert held(containerd.node) == before
    control.check()


def assert_next_pod_starts(containerd: Containerd, control: Control) -> Sandbox:
    """The next pod starts at its first try, and whoever has an address is alive."""
    sandbox = containerd.run()
    assert owners(containerd.node) == {control.owner, sandbox.id}, containerd.node.log()
    control.check()
    return sandbox


def test_lost_root_directory_heals(containerd: Containerd, us: bool) -> None:
    """A node is provisioned anew: containerd has lost its root directory, /var/lib/cni has stayed."""
    node = containerd.node
    chain(node, us)
    containerd.start()
    for _ in range(ROOM - 1):
        containerd.run()
    node.reboot()
    node.run(["sh", "-c", f"rm -rf {ROOT_DIR}/*"]).check()
    containerd.start()
    assert containerd.listed() == []
    control = control_of(containerd)
    if us:
        assert_next_pod_starts(containerd, control)
    else:
        assert_exhausted_for_good(containerd, control)


@pytest.mark.parametrize("networks", [["*"], [NETWORK]], ids=str)
def test_renamed_conflist_heals(containerd: Containerd, us: bool, networks: list[str]) -> None:
    """The conflist is renamed while pods run: their DEL goes to the new network, and the old one's addresses stay."""
    node = containerd.node
    chain(node, us)
    containerd.start()
    control = control_of(containerd)
    gone = [containerd.run() for _ in range(ROOM - 1)]
    chain(node, us, network="another", pool="10.89.0.0/29", device="cni1", options={"networks": networks})
    node.path(f"{NET_D}/{NETWORK}.conflist").unlink()
    until(lambda: '"another"' in containerd.conflists(), "containerd has read the conflist", 30)
    for sandbox in gone:
        containerd.remove(sandbox.id)
    assert us or len(held(node)) == ROOM, "containerd has given DEL to the old network"
    containerd.run()
    assert owners(node) == ({control.owner} if us else {control.owner, *(one.id for one in gone)}), node.log()
    control.check()


@only_new
def test_missing_later_plugin_heals(containerd: Containerd, us: bool) -> None:
    """A later plugin is missing: containerd 2 forgets a sandbox whose ADD and DEL both failed, and each try leaks an address."""
    node = containerd.node
    chain(node, us)
    containerd.start()
    control = control_of(containerd)
    chain(node, us, MISSING)
    until(lambda: MISSING["type"] in containerd.conflists(), "containerd has read the conflist", 30)
    for _ in range(ROOM - 1):
        assert "not-installed" in containerd.fails()
    assert len(held(node)) == (2 if us else ROOM)
    rewrite(containerd, us=us)
    assert containerd.listed() == [control.owner]
    if us:
        assert_next_pod_starts(containerd, control)
    else:
        assert_exhausted_for_good(containerd, control)


def test_missing_later_plugin_heals_when_installed_afterwards(node: Node) -> None:
    """As above, and only when the pool is full an operator puts us into the conflist: the next pod starts."""
    containerd = Containerd(node)
    chain(node, False)
    containerd.start()
    control = control_of(containerd)
    chain(node, False, MISSING)
    until(lambda: MISSING["type"] in containerd.conflists(), "containerd has read the conflist", 30)
    for _ in range(ROOM - 1):
        containerd.fails()
    rewrite(containerd, us=False)
    assert_exhausted_for_good(containerd, control)
    chain(node, True)
    until(lambda: '"cni-reaper"' in containerd.conflists(), "containerd has read the conflist", 30)
    assert_next_pod_starts(containerd, control)


def test_killed_ctr_run_is_freed(containerd: Containerd, us: bool) -> None:
    """`ctr run --cni` never sends a DEL for a container that was killed; its netns is a process's path."""
    node = containerd.node
    chain(node, us)
    containerd.start()
    control = control_of(containerd)
    containerd.ctr("images", "import", "/run/pause.tar")
    for number in range(ROOM - 1):
        containerd.ctr("run", "-d", "--cni", "localhost/pause:1", f"t{number}")
        containerd.ctr("task", "rm", "--force", f"t{number}")
        containerd.ctr("container", "rm", f"t{number}")
    if us:
        assert owners(node) == {control.owner, f"default-t{ROOM - 2}"}, node.log()
        assert_next_pod_starts(containerd, control)
    else:
        assert_exhausted_for_good(containerd, control)


FLANNEL = '''#!{python} -I
"""Plays flannel: delegates to bridge, and keeps what it gave it in a scratch file, which is gone after the first DEL."""
import json, os, subprocess, sys
conf = json.load(sys.stdin)
scratch = "/var/lib/cni/flannel/" + os.environ["CNI_CONTAINERID"]
os.makedirs("/var/lib/cni/flannel", exist_ok=True)
if os.environ["CNI_COMMAND"] == "ADD":
    delegate = {{**conf["delegate"], "name": conf["name"], "cniVersion": conf["cniVersion"], "type": "bridge",
                "ipam": {{"type": "host-local", "ranges": [[{{"subnet": conf["pool"]}}]]}}}}
    with open(scratch, "w") as file:
        json.dump(delegate, file)
elif os.environ["CNI_COMMAND"] == "DEL":
    try:
        with open(scratch) as file:
            delegate = json.load(file)
    except FileNotFoundError:
        sys.exit(0)
    os.unlink(scratch)
    if os.path.exists("/run/del-fails"):
        print(json.dumps({{"cniVersion": conf["cniVersion"], "code": 11, "msg": "the delegate's DEL has failed"}}))
        sys.exit(1)
else:
    sys.exit(0)
sys.exit(subprocess.run(["{bridge}"], input=json.dumps(delegate).encode()).returncode)
'''


def test_flannels_del_that_failed_once_is_freed(containerd: Containerd, us: bool) -> None:
    """The interface plugin's DEL fails once, and answers success when it is sent again: nothing is released."""
    node = containerd.node
    flannel = node.path(f"{BIN}/flannel")
    flannel.write_text(FLANNEL.format(python=sys.executable, bridge=f"{BIN}/bridge"))
    flannel.chmod(0o755)
    plugin = {"type": "flannel", "pool": "10.88.0.0/29", "delegate": {"isGateway": True, "ipMasq": True}}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    reaper = {"type": "cni-reaper", "logFile": "/var/log/cni-reaper.log"}
    node.conflist(NETWORK, [reaper, plugin, portmap] if us else [plugin, portmap])
    containerd.start()
    control = control_of(containerd)
    gone = [containerd.run() for _ in range(ROOM - 1)]
    node.write("/run/del-fails", "")
    for sandbox in gone:
        with pytest.raises(grpc.RpcError, match="the delegate's DEL has failed"):
            containerd.remove(sandbox.id)
    node.path("/run/del-fails").unlink()
    for sandbox in gone:
        containerd.remove(sandbox.id)
    assert containerd.listed() == [control.owner]
    if us:
        assert_next_pod_starts(containerd, control)
    else:
        assert_exhausted_for_good(containerd, control)


SLOW = 'if [ "$CNI_COMMAND" = ADD ] && [ -e /run/slow ]; then echo in >/run/slow.here; read line </run/slow; fi; exec "$REAL"'
"""A tail plugin that waits in mid-ADD, when host-local has given the address already."""


@contextlib.contextmanager
def in_mid_add(containerd: Containerd) -> Iterator[None]:
    """Have a pod's ADD stand still behind host-local, until containerd is no more."""
    node = containerd.node
    in_front_of(node, "portmap", SLOW)
    node.run(["mkfifo", "/run/slow"]).check()
    with ThreadPoolExecutor(1) as caller:
        asked = caller.submit(containerd.run, "half")
        until(node.path("/run/slow.here").exists, "the ADD has come to portmap", 30)
        yield
        with pytest.raises(grpc.RpcError):
            asked.result()


def let_go(containerd: Containerd) -> None:
    """End what stood still."""
    containerd.node.path("/run/slow").unlink()
    containerd.node.run(["pkill", "-KILL", "-f", f"{BIN}/portmap"])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "restarted"])
def test_containerd_ended_in_mid_add_keeps_pod_while_its_netns_stands(containerd: Containerd, how: signal.Signals) -> None:
    """The runtime ends while an ADD runs: the half-made pod is kept as long as its netns is there, and freed once afterwards."""
    node = containerd.node
    chain(node, True)
    containerd.start()
    control = control_of(containerd)
    with in_mid_add(containerd):
        half = (owners(node) - {control.owner}).pop()
        containerd.stop(how)
        let_go(containerd)
    containerd.start()
    between = containerd.run()
    assert owners(node) in ({control.owner, half, between.id}, {control.owner, between.id}), node.log()
    if len(list(node.path("/run/netns").iterdir())) == 3:
        assert half not in {line["container"] for line in node.log("reaped")}, "freed while its netns is there, and not by a DEL"
    for sandbox in containerd.listed():
        if sandbox not in (control.owner, between.id):
            containerd.remove(sandbox)
    last = containerd.run()
    assert owners(node) == {control.owner, between.id, last.id}, node.log()
    control.check()


def test_thirty_pods_at_once_get_unique_addresses(containerd: Containerd) -> None:
    """Thirty pods start at once and are removed at once while there are leaks: addresses are unique, the leaks are gone."""
    node = containerd.node
    chain(node, True, pool="10.88.0.0/26")
    containerd.start()
    control = control_of(containerd)
    leaks = Network(node, "10.88.0.0/26", NETWORK)
    for number in range(31):
        gone = node.pod(f"dead-{number}")
        leaks.add(gone, reapOn=[])  # recorded, and not freed by the next one
        gone.delete()
    assert len(owners(node)) == 32, "31 leaks and 30 pods do not fit into 61 addresses beside the control"
    sandboxes = containerd.together(30)
    assert len({one.address for one in sandboxes}) == 30
    assert owners(node) == {control.owner, *(one.id for one in sandboxes)}, node.log()
    assert all(node.answers(one.address) for one in sandboxes)
    containerd.remove_together(sandboxes)
    assert owners(node) == {control.owner}
    control.check()


@pytest.mark.parametrize("how", ["missing", "not executable"])
def test_missing_executable_leaks_nothing(containerd: Containerd, how: str) -> None:
    """At the head a missing executable fails each ADD before any address is given: nothing leaks, and later it works."""
    node = containerd.node
    chain(node, True)
    containerd.start()
    control = control_of(containerd)
    ours = node.path(f"{BIN}/cni-reaper")
    real = ours.readlink()
    ours.unlink()
    if how == "not executable":
        ours.write_text("#!/bin/sh\n")
        ours.chmod(0o644)
    for _ in range(ROOM + 1):
        assert "cni-reaper" in containerd.fails()
    assert owners(node) == {control.owner}
    ours.unlink(missing_ok=True)
    ours.symlink_to(real)
    assert_next_pod_starts(containerd, control)


def test_add_killed_by_the_callers_timeout_heals_later(containerd: Containerd) -> None:
    """An ADD that takes longer than its caller waits: it is ended wherever it is, and the next one works."""
    node = containerd.node
    chain(node, True)
    containerd.start()
    control = control_of(containerd)
    in_front_of(node, "cni-reaper", 'if [ "$CNI_COMMAND" = ADD ] && [ -e /run/hang ]; then sleep 600; fi; exec "$REAL"')
    node.write("/run/hang", "")
    with pytest.raises(grpc.RpcError) as ended:
        containerd.run("late", limit_s=2)
    # the caller's own clock or that of containerd, which resets the stream: whichever is first
    assert ended.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
    node.path("/run/hang").unlink()
    assert_next_pod_starts(containerd, control)


@only_new
def test_containerd_asks_status_and_never_check(containerd: Containerd) -> None:
    """At cniVersion 1.1.0 containerd asks for STATUS before it says that the network is ready; it never asks for CHECK or GC."""
    node = containerd.node
    chain(node, True, version="1.1.0")
    in_front_of(node, "cni-reaper", 'echo "$CNI_COMMAND" >>/var/log/calls; exec "$REAL"')
    containerd.start()
    control = control_of(containerd)
    containerd.remove(containerd.run().id)
    calls = node.read("/var/log/calls").split()
    assert set(calls) == {"STATUS", "ADD", "DEL"}
    assert calls.count("ADD") == 2
    control.check()


def test_runtime_in_its_own_mount_namespace_keeps_live_pods(node: Node) -> None:
    """The runtime is in a mount namespace of its own: the pods' netns are mounted there alone, and there our plugin runs.

    An ADD from outside, for all networks, sees them by PID 1's and every process's mount namespace, and frees no live one.
    """
    containerd = Containerd(node)
    chain(node, True)
    containerd.start(prefix=["unshare", "--mount", "--propagation", "slave"])
    control = control_of(containerd)
    chain(node, True, MISSING)
    until(lambda: MISSING["type"] in containerd.conflists(), "containerd has read the conflist", 30)
    containerd.fails()
    (inside,) = owners(node) - {control.owner}
    containerd.fails()
    assert inside in {line["container"] for line in node.log("reaped")}, "an ADD from inside frees it"
    rewrite(containerd, us=True)
    (leak,) = owners(node) - {control.owner}
    chain(node, True, network="second", pool="10.90.0.0/29", device="cni2", options={"networks": ["*"]})
    outside = node.cnitool("add", "second", node.pod()).check()
    assert outside.json()["ips"]
    assert control.owner in owners(node)
    assert leak in {line["container"] for line in node.log("reaped")}, "an ADD from outside sees enough to free it"
    assert node.log("blind") == []
    assert_next_pod_starts(containerd, control)


def test_control_logs_nothing_wrong(containerd: Containerd) -> None:
    """A pod's whole life beside another: no trouble in our log, and nothing left of it."""
    node = containerd.node
    chain(node, True)
    containerd.start()
    control = control_of(containerd)
    containerd.remove(containerd.run().id)
    assert owners(node) == {control.owner}
    assert node.path("/run/cni-reaper/views").exists(), "our plugin has run, and seen its pod"
    assert [line for line in node.log() if line["level"] in ("warning", "error") or line["event"] == "reaped"] == []
    assert EXHAUSTED not in node.read(LOG)


HALF = (
    'if [ "$CNI_COMMAND" = ADD ] && [ -p /run/slow ]; then touch /run/in/$CNI_CONTAINERID; read line </run/slow; fi; exec "$REAL"'
)
"""As SLOW, for many ADDs at once; each leaves its ID in /run/in."""


@pytest.mark.parametrize("containerd", [OLD], indirect=True)
def test_lifeless_netns_are_named_by_each_command(containerd: Containerd) -> None:
    """Containerd 1.6 is killed in mid-ADD until the pool is full: each way to look says how many, which first, what to do."""
    node = containerd.node
    chain(node, True, options={"metricsFile": METRICS})
    in_front_of(node, "portmap", HALF)
    node.path("/run/in").mkdir()
    containerd.start()
    control = control_of(containerd)
    while len(held(node)) < ROOM:
        kill_in_mid_add(containerd, min(2, ROOM - len(held(node))))
        containerd.start()
    leaked = owners(node) - {control.owner}
    assert len(leaked) == ROOM - 1
    assert EXHAUSTED in containerd.fails()
    first, place = assert_told_in_the_log(node)
    assert f'cni_reaper_lifeless{{network="{NETWORK}"}} {ROOM - 1}' in node.read(METRICS).splitlines()
    (network,) = json.loads(node.run([f"{BIN}/cni-reaper", "audit", "--json"]).out)["networks"]
    assert {one["address"] for one in network["lifeless"]} == held(node) - {control.address}
    for command in ("audit", "doctor"):
        text = " ".join(node.run([f"{BIN}/cni-reaper", command]).text.split())
        assert f": {ROOM - 1}, the first is {first}, in {place}" in text
        assert "ip netns delete NAME" in text
    assert node.log("reaped") == []
    control.check()
    node.delete_netns(place)
    assert containerd.run().address == first
    control.check()


def kill_in_mid_add(containerd: Containerd, count: int) -> None:
    """Kill containerd while so many ADDs stand still behind host-local and bridge."""
    node = containerd.node
    node.run(["mkfifo", "/run/slow"]).check()
    here = node.path("/run/in")
    before = len(list(here.iterdir()))
    with ThreadPoolExecutor(count) as callers:
        asked = [callers.submit(containerd.run) for _ in range(count)]
        until(lambda: len(list(here.iterdir())) == before + count, "the ADDs have come to portmap", 30)
        containerd.stop(signal.SIGKILL)
        for one in asked:
            with pytest.raises(grpc.RpcError):
                one.result()
    let_go(containerd)


def assert_told_in_the_log(node: Node) -> tuple[str, str]:
    """One line at info says how many there are and what to do; return the first of them, and its netns."""
    (line,) = (line for line in node.log("lifeless") if line["level"] == "info")
    assert line["count"] == str(ROOM - 1)
    assert "restart the container runtime, or remove the netns" in line["reason"]
    assert line["netns"] in {f"/run/netns/{path.name}" for path in node.path("/run/netns").iterdir()}
    return line["address"], line["netns"]
