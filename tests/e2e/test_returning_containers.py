"""Containers that come back, and views that see little: what a review of the first version made it free.

Each of these was seen to fail. The address is reserved but not yet configured, as in the middle of an ADD, so that only the
evidence about the netns can save it.
"""

import json
import time

import pytest

from tests.support import agent
from tests.support.calls import call_reaper, reaped_reasons
from tests.support.cni_calls import Pod
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import STATE_DIR


def second_life(network: Network, owner: str, end: str) -> Pod:
    """Let a container live and end; return the netns of its next life, whose ADD has not begun."""
    node = network.node
    first = node.pod("first")
    network.add(first, owner)
    if end != "nothing":
        network.give_back(first, owner)
    if end == "reboot":
        node.reboot()
    else:
        first.delete()
    return node.pod("second")


@pytest.mark.parametrize("end", ["DEL", "reboot"])
def test_returning_container_is_kept_behind_the_interface_plugin(network: Network, end: str) -> None:
    """Behind the interface plugin the address is reserved while the record is still of the last life: kept."""
    owner = container_id("podman")
    network.head["prevResult"] = {"cniVersion": "1.0.0"}
    second = second_life(network, owner, end)
    address = network.take(second, owner)  # host-local first, then our ADD, which is yet to come
    del network.head["prevResult"]
    network.reap()
    assert network.held() == {address}, network.node.log()


def began_long_ago(node: Node, owner: str, ago_s: int) -> None:
    """Have a record say that its ADD was so many seconds ago; the ctime of a file cannot be set."""
    path = f"{STATE_DIR}/{NETWORK}/{owner}:eth0"
    node.write(path, json.dumps({**json.loads(node.read(path)), "added": time.time_ns() - ago_s * 10**9}))


@pytest.mark.parametrize("end", ["nothing", "DEL", "reboot"])
def test_returning_container_is_kept_after_time_out_of_the_chain(network: Network, end: str) -> None:
    """Its record is of a life that began long ago, and its new address is reserved: kept; once its netns is gone, freed."""
    node = network.node
    owner = container_id("podman")
    first = node.pod("first")
    old = network.add(first, owner)
    began_long_ago(node, owner, 121)
    if end == "DEL":
        network.give_back(first, owner)  # which marks the record, and so writes it again
    else:
        node.plugin("DEL", network.ipam, binary="host-local", netns=first, container_id=owner).check()
    assert old not in network.held()
    if end == "reboot":
        node.reboot()
    else:
        first.delete()
    second = node.pod("second")
    address = network.take(second, owner)
    network.reap()
    assert network.held() == {address}, node.log()
    second.delete()
    network.reap()
    assert network.held() == set(), node.log()


def test_a_leak_is_freed_at_once_whenever_its_record_was_written(network: Network) -> None:
    """A record that is as old as its reservation proves death, beside a netns of nobody; so does one that a DEL has marked."""
    node = network.node
    network.leak("leak")
    marked = node.pod("marked")
    network.add(marked)
    node.plugin("DEL", {**network.head, "reapOn": []}, netns=marked, container_id=container_id("marked")).check()
    marked.delete()
    node.pod("stranger")
    began_long_ago(node, container_id("leak"), 110)
    network.reap()
    assert network.held() == set(), node.log()


def test_a_pod_that_died_is_freed_where_we_are_second(network: Network) -> None:
    """A pod's sandbox never comes back: its record proves death in any place, beside a netns that nobody names."""
    node = network.node
    pod = node.pod("pod")
    args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=6f0c"
    network.take(pod, container_id("pod"))
    behind = {**network.head, "prevResult": {"cniVersion": "1.0.0"}}
    node.plugin("ADD", behind, netns=pod, container_id=container_id("pod"), args=args).check()
    pod.delete()
    node.pod("stranger")
    network.reap()
    assert network.held() == set()
    assert [line["pod"] for line in node.log("reaped")] == ["default/web"]


@pytest.mark.parametrize("trouble", ["state directory read-only", "lock of records is a symlink", "CNI_ARGS is not UTF-8"])
def test_returning_container_is_kept_when_its_record_cannot_be_replaced(network: Network, trouble: str) -> None:
    """At the head the old record goes before anything can fail, or nothing is believed that records say."""
    node = network.node
    owner = container_id("podman")
    second = second_life(network, owner, "DEL")
    args = None
    if trouble.startswith("state"):
        node.mount(STATE_DIR, STATE_DIR, flags=agent.MS_BIND)
        node.mount("none", STATE_DIR, flags=agent.MS_BIND | 32 | 1)  # MS_REMOUNT | MS_RDONLY
    elif trouble.startswith("lock"):
        lock = node.path(f"{STATE_DIR}/{NETWORK}/.lock")
        lock.unlink()
        lock.symlink_to("/nowhere")
    else:
        args = "K8S_POD_NAME=\udcff"
    node.plugin("ADD", network.head, netns=second, container_id=owner, args=args).check()
    address = network.take(second, owner)
    network.reap()
    assert network.held() == {address}, node.log()


def test_a_dead_containers_cache_entry_does_not_vouch_for_the_netns_at_its_path(network: Network) -> None:
    """The path of a stale entry is another container's by now, which nobody knows yet: that one is kept."""
    node = network.node
    node.write(
        f"/var/lib/cni/results/{NETWORK}-{container_id('dead')}-eth0",
        json.dumps({"kind": "cniCacheV1", "netns": "/run/netns/web", "result": {}}),
    )
    node.reserve(NETWORK, "10.66.0.200", container_id("dead"))
    address = network.take(node.pod("web"), container_id("live"))
    network.reap()
    assert address in network.held()


def test_cache_entry_counts_for_the_attachment_it_names(network: Network) -> None:
    """Network, ID and ifname may all hold dashes: an entry counts for the attachment that it names itself."""
    node = network.node
    live, dead = container_id("x"), container_id("y")
    node.pod("live")
    node.write(
        f"/var/lib/cni/results/{NETWORK}-{dead}-eth0",
        json.dumps(
            {"networkName": NETWORK, "containerId": live, "ifName": "eth0", "netns": "/run/netns/live", "kind": "cniCacheV1"}
        ),
    )
    node.reserve(NETWORK, "10.66.0.200", dead)
    network.reap()
    assert network.held() == {"10.66.0.200"}  # somebody's netns is there, unaccounted for
    Pod(node, "live", "/run/netns/live").delete()
    network.reap()
    assert network.held() == set()


@pytest.mark.parametrize("what", ["a log file", "a symlink", "an odd cache entry"])
def test_things_that_lie_about_stop_no_sweep(network: Network, what: str) -> None:
    """A plain file among the records' directories, or a cache entry of another owner that cannot be read, hides no leak."""
    node = network.node
    live = network.add(node.pod("live"))
    leak = network.take(node.pod("dead"), container_id("dead"))
    Pod(node, "dead", "/run/netns/dead").delete()
    if what == "a log file":
        network.head["logFile"] = f"{STATE_DIR}/reaper.log"
    elif what == "a symlink":
        node.path(f"{STATE_DIR}/other").symlink_to("/run")
    else:
        node.reserve(NETWORK, "10.66.0.99", "router-of-the-lab")
        node.path(f"/var/lib/cni/results/{NETWORK}-router-of-the-lab-eth0").mkdir(parents=True)
    network.reap()
    assert leak not in network.held(), node.log()
    assert live in network.held()


@pytest.mark.parametrize("end", ["reboot", "DEL"])
def test_unwritable_record_does_not_prove_the_new_life_dead(network: Network, end: str) -> None:
    """A container starts again, its ADD cannot write a record (ENOSPC): the old one does not prove the new life dead."""
    node = network.node
    owner = container_id("podman")
    first = node.pod("podman")
    network.add(first, owner)
    if end == "reboot":
        node.reboot()
    else:
        network.give_back(first, owner)
        first.delete()
    second = node.pod("podman")
    add = node.plugin_command("ADD", network.head, netns=second, container_id=owner)
    renames = "renameat,renameat2"
    add["argv"] = ["strace", "-qq", "-o", "/dev/null", "-e", f"inject={renames}:error=ENOSPC", *add["argv"]]
    node.together([add])[0].check()
    assert "No space left" in node.log("not-recorded")[-1]["reason"]
    address = network.take(second, owner)  # not configured yet
    call_reaper(network)
    assert network.held() == {address}, node.log()
    second.delete()
    call_reaper(network)
    assert network.held() == set()


def test_life_without_a_record_keeps_its_configured_address(network: Network) -> None:
    """The record is of the last boot, the container runs again without a new one: its configured address keeps it."""
    node = network.node
    owner = container_id("podman")
    network.add(node.pod("podman"), owner)
    node.reboot()
    leak = network.leak()
    node.plugin("DEL", network.ipam, binary="host-local", netns="", container_id=owner).check()
    again = node.pod("podman")
    address = network.take(again, owner)
    node.add_address("lo", f"{address}/32", again.path)
    call_reaper(network)
    assert network.held() == {address}, (leak, node.log())


@pytest.mark.parametrize("end", ["netns-gone", "rebooted"])
def test_old_record_on_another_network_does_not_prove_death(node: Node, end: str) -> None:
    """The DEL on B is lost, the container starts again, its ADD on A runs: the old record of B does not prove A dead."""
    one, two = Network(node, name="one"), Network(node, subnet="10.67.0.0/24", name="two")
    first, owner = node.pod("first"), container_id("podman")
    two.add(first, owner)
    if end == "rebooted":
        node.reboot()
    else:
        first.delete()
    second = node.pod("second")
    address = one.take(second, owner)
    call_reaper(two, options={"networks": ["*"]})
    assert (one.held(), two.held()) == ({address}, set()), node.log()
    assert reaped_reasons(two) == {end}
