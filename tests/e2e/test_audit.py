"""`cni-reaper audit` on real nodes: what it shows, what it exits with, and that it changes nothing."""

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support import agent, netns_holders
from tests.support.cni_calls import BIN, bridge, host_local, reaper
from tests.support.commands import Ran
from tests.support.network import Network, container_id
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, STATE_DIR
from tests.support.operator_reports import AUDIT_SCHEMA
from tests.support.stopped_call import stop_at
from tests.support.waiting import until

EXECUTABLE = f"{BIN}/cni-reaper"

DEAD = "d" * 64
ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")


def audit(node: Node, *arguments: str, **environment: str) -> Ran:
    """Run the command."""
    return node.run([EXECUTABLE, "audit", *arguments], env=environment)


def found(node: Node, *arguments: str, rc: int) -> Any:
    """Run it with --json, see that the schema holds, and return its one network."""
    ran = audit(node, "--json", *arguments)
    assert ran.rc == rc, str(ran)
    report = ran.json()
    jsonschema.validate(report, AUDIT_SCHEMA)
    assert bool(report["problems"]) <= (rc == 2)
    (network,) = report["networks"]
    return network


def verdicts(network: Any) -> dict[str, tuple[str, str]]:
    """Return address -> (verdict, reason)."""
    return {one["address"]: (one["verdict"], one["reason"]) for one in network["reservations"]}


@pytest.fixture
def network(node: Node) -> Network:
    """A network whose view was proven by a live pod's ADD: 10.66.0.2."""
    network = Network(node)
    living = node.pod()
    assert network.add(living) == "10.66.0.2"
    return network


def files(node: Node, *places: str) -> dict[str, tuple[int, int, bytes]]:
    """Return (inode, mtime, content) of every file below some places."""
    return {
        str(file): (file.stat().st_ino, file.stat().st_mtime_ns, file.read_bytes())
        for place in places
        for file in node.path(place).rglob("*")
        if file.is_file()
    }


def test_healthy_node_exits_0(network: Network) -> None:
    """Everybody lives: exit code 0, a row for the pod with its reason."""
    assert verdicts(found(network.node, rc=0)) == {"10.66.0.2": ("LIVE", "netns-there")}
    table = audit(network.node).check().out.decode().splitlines()
    assert table[0].split() == ["ADDRESS", "VERDICT", "REASON", "POD", "CONTAINER", "IFNAME", "AGE"]
    assert table[1].split()[:4] == ["10.66.0.2", "LIVE", "netns", "there"]
    assert "net: 1 reservations: 1 LIVE, 0 STALE, 0 UNKNOWN" in [line.strip() for line in table]


def test_leak_is_stale_and_note_is_unknown(network: Network) -> None:
    """A leak is STALE and makes the exit code 1; a person's note is UNKNOWN and does not; nothing is written anywhere."""
    node = network.node
    node.reserve("net", "10.66.0.9", "reserved", ifname="")
    assert found(node, rc=0)["unknown"] == 1
    node.reserve("net", "10.66.0.7", DEAD)
    gone = node.pod()
    address = network.add(gone)
    gone.delete()
    node.reserve("net", "10.66.0.7", DEAD)  # the ADD has freed it
    before = files(node, "/var/lib/cni", "/run/cni-reaper", "/var/log")
    found_network = found(node, rc=1)
    assert verdicts(found_network) == {
        "10.66.0.2": ("LIVE", "netns-there"),
        address: ("STALE", "netns-gone"),
        "10.66.0.7": ("STALE", "no-netns-left"),
        "10.66.0.9": ("UNKNOWN", "no-runtime-id"),
    }
    assert (found_network["live"], found_network["stale"], found_network["unknown"]) == (1, 2, 1)
    assert audit(node, "--map").rc == 1
    assert files(node, "/var/lib/cni", "/run/cni-reaper", "/var/log") == before


def test_unproven_view_calls_nothing_stale(node: Node) -> None:
    """Before any ADD of this boot a leak is not called stale; the exit code is 2, and stderr says why."""
    node.reserve("net", "10.66.0.7", DEAD)
    assert verdicts(found(node, rc=2)) == {"10.66.0.7": ("UNKNOWN", "no-netns-left")}
    assert b"no ADD of this boot" in audit(node).err


def test_unreadable_network_is_a_problem(network: Network) -> None:
    """A network that is no directory is a problem that is named, the others are shown all the same."""
    network.node.path(f"{DATA_DIR}/other").symlink_to("/nowhere")
    assert audit(network.node, "--network", "other").rc == 2
    ran = audit(network.node, "--json", "--network", "other", "--network", "net")
    assert ran.rc == 2
    assert [one["name"] for one in ran.json()["networks"]] == ["net"]
    assert "other" in ran.json()["problems"][0]


def test_missing_store_is_clean(node: Node) -> None:
    """A node that host-local has never run on is clean."""
    assert audit(node).check().out.strip() == b"no network has a reservation here"
    assert audit(node, "--network", "net").rc == 2
    assert audit(node, "--data-dir", "/nowhere").rc == 2


def test_pool_use_and_map_are_shown(network: Network) -> None:
    """With the range known: its use, and a picture that has a letter for each address."""
    node = network.node
    node.reserve("net", "10.66.0.7", DEAD)
    node.reserve("net", "10.66.0.9", "reserved", ifname="")
    found_network = found(node, "--subnet", "10.66.0.0/24", rc=1)
    assert found_network["pool"] == [{"size": 253, "used": 3}]
    lines = audit(node, "--map", "--subnet", "10.66.0.0/24").out.decode().splitlines()
    drawn = "".join(line.split()[1] for line in lines[:4])
    assert drawn == "--L....S.?" + "." * 245 + "-"
    assert lines[1].split()[0] == "10.66.0.64"


def test_the_conflists_say_where_and_what(node: Node) -> None:
    """dataDir, stateDir and the range of each network are taken from the conflists that the runtime loads."""
    places = {"dataDir": "/var/lib/cni/elsewhere", "stateDir": "/var/lib/cni/ours"}
    ipam = host_local("10.55.0.0/26", dataDir=places["dataDir"])
    node.conflist("net", [reaper(**places), bridge(ipam)])
    pod = node.pod()
    node.cnitool("add", "net", pod).check()
    node.path(f"{places['dataDir']}/net/10.55.0.9").write_bytes(DEAD.encode())
    network = found(node, rc=1)
    assert verdicts(network) == {"10.55.0.2": ("LIVE", "netns-there"), "10.55.0.9": ("STALE", "no-netns-left")}
    assert network["pool"] == [{"size": 61, "used": 2}]
    assert node.run([EXECUTABLE, "reap"]).check().out.endswith(b"1 freed\n")
    assert "event=reaped" in node.read("/var/log/cni-reaper.log")
    assert node.run([EXECUTABLE, "audit", "--conf-dir", "/nowhere"]).check().out.strip() == b"no network has a reservation here"


def test_wrong_options_are_named(node: Node) -> None:
    """With them no ADD reaps anything, so neither does the command; audit says which they are."""
    node.conflist("net", [reaper(graceSeconds=1, networks="net"), bridge(host_local("10.55.0.0/26"))])
    node.cnitool("add", "net", node.pod()).check()
    node.reserve("net", "10.55.0.9", DEAD)
    ran = audit(node, "--json")
    assert ran.rc == 2
    told = " ".join(ran.json()["problems"])
    assert "graceSeconds must be" in told
    assert "networks must be" in told
    ran = node.run([EXECUTABLE, "reap"])
    assert ran.rc == 1
    assert b"graceSeconds must be" in ran.err
    assert "10.55.0.9" in node.reservations("net")


def test_reservation_outside_the_range_is_a_problem(network: Network) -> None:
    """host-local will never give it, and nobody looks at it: the store is wrong."""
    assert found(network.node, "--subnet", "10.66.0.0/24", rc=0)["outside"] == []
    network.node.reserve("net", "10.67.0.9", container_id("pod-1"))
    assert found(network.node, "--subnet", "10.66.0.0/24", rc=2)["outside"] == ["10.67.0.9"]


@pytest.fixture
def bridged(node: Node) -> Node:
    """A node with a bridge network, so that pods have their address on an interface."""
    node.conflist("net", [reaper(), bridge(host_local("10.55.0.0/26"))])
    return node


def test_live_address_without_reservation_is_found(bridged: Node) -> None:
    """Somebody ran rm in /var/lib/cni: the address can be given twice, and audit names the netns."""
    pod = bridged.pod()
    bridged.cnitool("add", "net", pod).check()
    bridged.cnitool("add", "net", bridged.pod()).check()
    assert found(bridged, "--subnet", "10.55.0.0/26", rc=0)["unreserved"] == []
    bridged.path(f"{DATA_DIR}/net/10.55.0.2").unlink()
    (one,) = found(bridged, "--subnet", "10.55.0.0/26", rc=2)["unreserved"]
    assert (one["address"], one["holders"][0]["netns"]) == ("10.55.0.2", pod.path)
    assert b"10.55.0.2 is in use without a reservation" in audit(bridged, "--subnet", "10.55.0.0/26").out


def test_second_holder_of_an_address_is_found(bridged: Node) -> None:
    """An address that another netns has as well."""
    pod, other = bridged.pod(), bridged.pod()
    bridged.cnitool("add", "net", pod).check()
    assert found(bridged, rc=0)["doubles"] == []
    bridged.add_link("eth0", "veth", other.path, peer="far")
    bridged.add_address("eth0", "10.55.0.2/32", other.path)
    (one,) = found(bridged, rc=2)["doubles"]
    assert {holder["netns"] for holder in one["holders"]} == {pod.path, other.path}
    bridged.delete_address("eth0", "10.55.0.2/26", pod.path)
    (one,) = found(bridged, rc=2)["doubles"]
    assert [holder["netns"] for holder in one["holders"]] == [other.path]


def test_a_moment_is_no_finding(bridged: Node) -> None:
    """A DEL gives the address back before it removes the interface: what is so at one look only is not reported."""
    bridged.cnitool("add", "net", bridged.pod()).check()
    reservation = bridged.path(f"{DATA_DIR}/net/10.55.0.2")
    owner = reservation.read_bytes()
    reservation.unlink()
    look = bridged.plugin_command("ADD", {})
    look["argv"] = [EXECUTABLE, "audit", "--json", "--subnet", "10.55.0.0/26"]
    look["env"] = {name: value for name, value in look["env"].items() if not name.startswith("CNI_")}
    between = stop_at(bridged, look, "clock_nanosleep")  # the quick scan is done, and it waits for the second
    reservation.write_bytes(owner)
    (network,) = between.go_on()["networks"]
    assert network["unreserved"] == []


def test_large_networks_show_what_is_not_live(network: Network) -> None:
    """Above 512 reservations the LIVE ones are left out, and said to be; --all has them and whole IDs."""
    node = network.node
    for number in range(600):
        node.reserve("net", f"10.66.{1 + number // 200}.{number % 200}", f"{number:064x}")
    lines = audit(node).out.decode().splitlines()
    assert not [line for line in lines if " LIVE " in line and line.startswith("10.")]
    assert any("1 LIVE ones are not shown" in line for line in lines)
    assert len([line for line in lines if " STALE " in line and line.startswith("10.")]) == 600
    assert f"{7:064x}" in audit(node, "--all").out.decode()
    folded = audit(node, "--map", "--subnet", "10.66.0.0/16").out.decode()
    assert "each letter: 64 addresses" in folded


def test_dual_stack_is_counted_by_family(node: Node) -> None:
    """A /64 is no number that JSON has to hold, and does not hide a full IPv4 range."""
    node.conflist("net", [reaper(), bridge(host_local("10.55.0.0/29", "fd55::/48"))])
    for _ in range(5):
        node.cnitool("add", "net", node.pod()).check()
    assert found(node, rc=0)["pool"] == [{"size": 5, "used": 5}, {"size": 1 << 53, "used": 5}]
    assert b"5 of 5 and 5 of " in audit(node).check().out


def test_two_networks_with_one_range_are_told_apart(node: Node) -> None:
    """Two bridges of their own may give the same addresses: each pod's reservation is in its own network."""
    for name in ("a", "b"):
        node.conflist(name, [reaper(), bridge(host_local("10.55.0.0/26"), name=f"br-{name}")])
        node.cnitool("add", name, node.pod()).check()
    ran = audit(node, "--json")
    assert ran.rc == 0, str(ran)
    assert all(one["doubles"] == one["unreserved"] == [] for one in ran.json()["networks"])


def test_address_in_use_reserved_for_dead_owner_is_found(bridged: Node) -> None:
    """A store that was restored names the wrong owner: his netns is gone, and another has the address."""
    pod, gone = bridged.pod(), bridged.pod()
    bridged.cnitool("add", "net", pod).check()
    bridged.cnitool("add", "net", gone).check()
    dead = bridged.path(f"{DATA_DIR}/net/10.55.0.3")
    bridged.path(f"{DATA_DIR}/net/10.55.0.2").write_bytes(dead.read_bytes())
    dead.unlink()
    gone.delete()
    until(lambda: len(bridged.links()) == 3, "the kernel has ended it")
    (one,) = found(bridged, rc=2)["doubles"]
    assert (one["address"], one["holders"][0]["netns"]) == ("10.55.0.2", pod.path)


def test_who_is_waited_for_is_named(network: Network) -> None:
    """An operator has to know which namespaces keep UNKNOWN ones, to end them."""
    stranger = network.node.pod("stranger")
    network.node.reserve("net", "10.66.0.7", DEAD)
    assert found(network.node, rc=0)["unaccounted"] == [stranger.path]
    assert f"may be their owner's: {stranger.path} (no process). They are freed when" in audit(network.node).check().out.decode()
    told = network.node.run([EXECUTABLE, "explain", "10.66.0.7"]).check().out.decode()
    assert f"1 of them may be this owner's: {stranger.path} (no process)" in told


def test_who_lives_in_what_is_waited_for_is_named(network: Network) -> None:
    """The process and its unit, as far as they are known; a netns that is a service's is not waited for."""
    node = network.node
    stranger, service = node.pod("stranger"), node.pod("service")
    first, second = netns_holders.by_process(stranger), netns_holders.by_process(service)
    netns_holders.unpin(service)
    for pid, cgroup in ((first, "0::/system.slice/web.service/payload\n"), (second, "0::/system.slice/polkit.service\n")):
        node.write(f"/run/{pid}", cgroup)
        node.mount(f"/run/{pid}", f"/proc/{pid}/cgroup", flags=agent.MS_BIND)
    node.reserve("net", "10.66.0.7", DEAD)
    assert found(node, rc=0)["unaccounted"] == [stranger.path]
    named = f"{stranger.path} (process {first} sleep, web.service)"
    told = audit(node).check().out.decode()
    assert f"may be their owner's: {named}. They are freed when" in told
    assert f"1 of them may be this owner's: {named}" in node.run([EXECUTABLE, "explain", "10.66.0.7"]).check().out.decode()


def test_invalid_texts_show_no_traceback(bridged: Node) -> None:
    """A path that is no UTF-8, a dataDir that is no path, a time that is none: no traceback, and everything else is told."""
    bridged.cnitool("add", "net", bridged.pod()).check()
    bridged.run(["bash", "-c", "ip netns add $'\\xff'"])
    odd = bridged.path("/run/netns").joinpath(os.fsdecode(b"\xff"))
    assert odd.exists()
    bridged.run(
        ["bash", "-c", "ip -n $'\\xff' link add eth0 type veth peer name far && ip -n $'\\xff' address add 10.55.0.9/32 dev eth0"]
    )
    bridged.run(["bash", "-c", "ip -n $'\\xff' link set eth0 up"])
    network = found(bridged, rc=2)
    assert [one["address"] for one in network["unreserved"]] == ["10.55.0.9"]
    bridged.write(
        "/etc/cni/net.d/a.conflist",
        json.dumps({"name": "a", "plugins": [bridge({**host_local("10.1.0.0/24"), "dataDir": "/x\0y"})]}),
    )
    os.utime(bridged.path(f"{DATA_DIR}/net/10.55.0.2"), (2**55, 2**55))
    assert "Traceback" not in audit(bridged).text
    assert "Traceback" not in bridged.run([EXECUTABLE, "explain", "10.55.0.2"]).text


def on_a_terminal(node: Node, command: str, answer: str = "", **environment: str) -> Ran:
    """Run a command under a terminal of its own, a hundred columns wide."""
    line = f"stty cols 100 rows 40; {command}"
    return node.run(["script", "-qec", line, "/dev/null"], env={"TERM": "xterm-256color", **environment}, stdin=answer.encode())


def test_colours_only_on_a_terminal(network: Network) -> None:
    """Colours on a terminal, none with NO_COLOR, none in a pipe."""
    network.node.reserve("net", "10.66.0.7", DEAD)
    assert not ESCAPE.search(audit(network.node, TERM="xterm-256color").out)
    coloured = on_a_terminal(network.node, f"{EXECUTABLE} audit")
    assert b"\x1b[1;31mSTALE" in coloured.out
    plain = on_a_terminal(network.node, f"{EXECUTABLE} audit", NO_COLOR="1")
    assert b"STALE" in plain.out
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9]m", plain.out)


def test_what_others_have_written_moves_no_cursor(network: Network) -> None:
    """A pod's name is whatever CNI_ARGS said."""
    node = network.node
    pod = node.pod()
    args = "K8S_POD_NAMESPACE=n;K8S_POD_NAME=\x1b[2Jx"
    node.plugin("ADD", network.head, netns=pod, container_id=container_id("evil"), args=args).check()
    network.take(pod, container_id("evil"))
    assert list(node.path(f"{STATE_DIR}/net").glob(container_id("evil") + "*"))
    ran = audit(node).check()
    assert b"\x1b" not in ran.out
    assert b"n/\\x1b[2Jx" in ran.out


def test_the_pod_of_an_owner_without_a_record_is_in_libcnis_cache(network: Network) -> None:
    """On the day of the installation nobody has a record: the names come from libcni's own notes."""
    node = network.node
    node.reserve("net", "10.66.0.7", DEAD)
    node.path("/var/lib/cni/results").mkdir(parents=True, exist_ok=True)
    entry = {
        "kind": "cniCacheV1",
        "containerId": DEAD,
        "ifName": "eth0",
        "networkName": "net",
        "netns": "/run/netns/gone",
        "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", "cart-0"]],
        "result": {},
    }
    node.write(f"/var/lib/cni/results/net-{DEAD}-eth0", json.dumps(entry))
    (row,) = [one for one in found(node, rc=1)["reservations"] if one["address"] == "10.66.0.7"]
    assert row["pod"] == "shop/cart-0"


def test_watch_prints_json_lines_until_sigint(network: Network) -> None:
    """It looks again and again, a JSON document a line, until SIGINT; then it exits with what it saw last."""
    network.node.reserve("net", "10.66.0.7", DEAD)
    argv = ["timeout", "--preserve-status", "-s", "INT", "3", EXECUTABLE, "audit", "--json", "--watch", "0.2"]
    ran = network.node.run(argv)
    reports = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.rc == 1
    assert len(reports) > 2
    for report in reports:
        jsonschema.validate(report, AUDIT_SCHEMA)
    shown = on_a_terminal(network.node, f"timeout -s INT 2 {EXECUTABLE} audit --watch 0.2")
    assert shown.out.count(b"10.66.0.7") > 2
    assert b"Traceback" not in shown.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--network", "a/b"), "is no name of a network"),
        (("--data-dir", "relative"), "is no absolute path"),
        (("--watch", "0"), "is no number of seconds"),
        (("--subnet", "usePodCidr"), "a range cannot be read"),
    ],
)
def test_wrong_arguments_exit_2_without_traceback(node: Node, arguments: tuple[str, ...], says: str) -> None:
    """One sentence, exit code 2, no traceback."""
    ran = audit(node, *arguments)
    assert ran.rc == 2
    assert says in ran.err.decode()
    assert "Traceback" not in ran.text


def test_closed_pipe_shows_no_traceback(network: Network) -> None:
    """`audit | head` ends without a traceback."""
    for number in range(100):
        network.node.reserve("net", f"10.66.1.{number}", f"{number:064x}")
    ran = network.node.run(["bash", "-c", f"{EXECUTABLE} audit --all | head -1"]).check()
    assert ran.err == b""


def test_user_without_privileges_calls_nothing_stale(network: Network, tmp_path: Path) -> None:
    """Who may not look into the pods' namespaces is told so, and nothing is called stale."""
    network.node.reserve("net", "10.66.0.7", DEAD)
    os.chmod(tmp_path, 0o755)
    ran = network.node.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", EXECUTABLE, "audit", "--json"])
    assert ran.rc == 2, str(ran)
    assert all(one["stale"] == 0 for one in ran.json()["networks"])
    assert ran.json()["problems"]


@pytest.mark.parametrize("command", ["audit", "explain 10.66.0.2", "reap", "doctor", "reap --force"])
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&- <&-", ">/dev/full"])
def test_closed_streams_show_no_traceback(network: Network, command: str, closed: str) -> None:
    """A daemon without stdin, a pipe whose reader has gone: what is said is lost, and nothing else happens."""
    network.node.path("/etc/cni/net.d/net.conflist").write_text("{}")
    ran = network.node.run(["bash", "-c", f"{EXECUTABLE} {command} {closed}; echo code $? >/run/code"]).check()
    assert "Traceback" not in ran.text
    assert int(network.node.read("/run/code").split()[1]) in (0, 1, 2)
    assert set(network.node.reservations("net")) == {"10.66.0.2"}
