"""What `cni-reaper mend` frees before the first ADD of a boot, where every process of the node is seen, and what it never frees.

That is so in the machine's initial PID namespace alone, and a private node has another one. So here the module runs from source,
and takes the PID namespace of the node for the initial one.
"""

import json
import sys
from typing import Any

import pytest

from tests.support.cni_calls import bridge, host_local, reaper
from tests.support.network import container_id
from tests.support.node import Node
from tests.support.node_files import DATA_DIR
from tests.support.programs import ROOT

MEND = f"""
import ctypes, posix, sys
sys.path.insert(0, {str(ROOT)!r})
if not hasattr(posix, "setns"):  # before Python 3.12
    posix.setns = lambda fd, kind: ctypes.CDLL(None).setns(fd, kind) and sys.exit("setns")
from cni_reaper_plugin.memory import proven_views
proven_views._INITIAL_PID_NAMESPACE = posix.stat("/proc/self/ns/pid").st_ino
from cni_reaper_plugin.operator.mend import mend
sys.exit(mend.run([], dry_run="--dry-run" in sys.argv, wait=False, as_json=True))
"""
DEAD, EMPTY_ONE, UNKNOWN_ONE = "10.66.0.12", "10.66.0.13", "10.66.0.14"


def freed(node: Node, *arguments: str, within: tuple[str, ...] = ()) -> dict[str, str]:
    """Run it, and return the reason for each address that was freed."""
    told: Any = node.run([*within, sys.executable, "-c", MEND, *arguments]).check().json()
    return {one["address"]: one["reason"] for one in told["freed"]}


def held(node: Node) -> set[str]:
    """Return the addresses that are reserved."""
    return {path.name for path in node.path(f"{DATA_DIR}/net").iterdir() if path.name[0].isdigit()}


def add(node: Node, netns: Any, owner: str, address: str) -> None:
    """Record an attachment with cni-reaper, and reserve an address for it as host-local does."""
    node.plugin("ADD", {**reaper(), "name": "net", "cniVersion": "1.0.0"}, netns=netns, container_id=owner).check()
    node.reserve("net", address, owner)


@pytest.fixture
def booted(node: Node) -> Node:
    """A node after a power cut, before its first ADD.

    One reservation is of a container of the last boot, one is an empty file, and one is of a container that has no record.
    """
    node.conflist("net", [reaper(), bridge(host_local("10.66.0.0/24"))])
    add(node, node.pod("dead"), container_id("dead"), DEAD)
    node.reboot()
    node.path(f"{DATA_DIR}/net/{EMPTY_ONE}").write_bytes(b"")
    node.reserve("net", UNKNOWN_ONE, container_id("unknown"))
    return node


def test_an_empty_reservation_whose_address_is_in_use_stays(booted: Node) -> None:
    """The power cut has emptied nothing there: some namespace has the address."""
    pod = booted.pod()
    booted.add_address("lo", f"{EMPTY_ONE}/32", pod.path)
    assert EMPTY_ONE not in freed(booted)
    assert EMPTY_ONE in held(booted)


def test_a_container_that_still_has_its_namespace_stays(booted: Node) -> None:
    """/run and the namespace have outlived the change of the boot ID, as in a container that is stopped and moved."""
    path = booted.path("/run/netns/stays")
    pod = booted.pod("stays")
    add(booted, pod, container_id("stays"), "10.66.0.15")
    assert path.exists()
    boot_id = booted.path("/proc/sys/kernel/random/boot_id")
    assert boot_id.exists()
    for record in booted.path("/var/lib/cni/reaper/net").glob("*:eth0"):
        told = json.loads(record.read_bytes())
        record.write_text(json.dumps({**told, "bootID": "00000000-0000-4000-8000-000000000000"}))
    booted.path("/run/cni-reaper/views").unlink()
    assert "10.66.0.15" not in freed(booted)
    assert "10.66.0.15" in held(booted)


BLIND = {
    "another mount namespace": ("unshare", "--mount"),
    "no capability to enter a namespace": ("setpriv", "--bounding-set=-sys_admin"),
    "no capability to look into processes": ("setpriv", "--bounding-set=-sys_ptrace"),
}


@pytest.mark.parametrize("view", BLIND)
def test_frees_nothing_where_not_all_is_seen(booted: Node, view: str) -> None:
    """Each of these could overlook a pod; the plain process beside it frees."""
    before = held(booted)
    assert freed(booted, within=BLIND[view]) == {}
    assert held(booted) == before
    assert EMPTY_ONE in freed(booted)


def test_frees_nothing_once_an_add_has_come(booted: Node) -> None:
    """From then on each ADD frees, and knows more."""
    pod = booted.pod()
    add(booted, pod, container_id("new"), "10.66.0.20")
    booted.path(f"{DATA_DIR}/net/{EMPTY_ONE}").write_bytes(b"")
    assert freed(booted) == {}
    assert EMPTY_ONE in held(booted)


def test_a_network_without_our_entry_is_left_alone(booted: Node) -> None:
    """What another program keeps in the same store is its own."""
    booted.path(f"{DATA_DIR}/vms").mkdir()
    other = booted.path(f"{DATA_DIR}/vms/10.77.0.2")
    other.write_bytes(b"")
    assert EMPTY_ONE in freed(booted)
    assert other.exists()


def test_dry_run_frees_nothing(booted: Node) -> None:
    """By the option, and by the entry's own."""
    before = held(booted)
    assert {DEAD, EMPTY_ONE} <= {*freed(booted, "--dry-run")}
    booted.conflist("net", [reaper(dryRun=True), bridge(host_local("10.66.0.0/24"))])
    assert {DEAD, EMPTY_ONE} <= {*freed(booted)}
    assert held(booted) == before


def test_frees_what_needs_no_pod(booted: Node) -> None:
    """The reservation of the last boot's container and the empty one, without any ADD; whom nobody knows has to wait for one."""
    assert freed(booted) == {DEAD: "rebooted", EMPTY_ONE: "empty"}
    assert held(booted) == {UNKNOWN_ONE}
    assert {one["address"] for one in booted.log("reaped")} == {DEAD, EMPTY_ONE}
    assert booted.log("kept") == [], "it would be said each minute"
    assert freed(booted) == {}


def test_who_is_kept_is_said_by_a_later_call(node: Node) -> None:
    """The command says it at debug, where nobody reads it; so the boot's first ADD, which is another process, has to say it."""
    node.conflist("net", [reaper(), bridge(host_local("10.66.0.0/24"))])
    node.path(f"{DATA_DIR}/net").mkdir(parents=True)
    node.path(f"{DATA_DIR}/net/10.66.0.9").write_text("reserved by hand\n")
    assert freed(node) == {}
    add(node, node.pod(), container_id("first"), "10.66.0.16")
    add(node, node.pod(), container_id("second"), "10.66.0.17")
    (told,) = node.log("kept")
    assert (told["level"], told["address"]) == ("info", "10.66.0.9")
