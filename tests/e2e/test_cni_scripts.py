"""The containernetworking scripts exec-plugins.sh and priv-net-run.sh drive the chain, with us at the head and last.

They are run from Go's module cache, where cnitool's build has put them. They swallow exit codes and run DEL forwards
and without prevResult, so what counts is the state afterwards: addresses in the namespace, reservations in the store.
"""

import json
from pathlib import Path

import pytest

from tests.conftest import MakeNode
from tests.support.cni_calls import BIN, NET_D, bridge, host_local, ptp, reaper
from tests.support.node import Node
from tests.support.node_files import Conf
from tests.support.programs import MissingProgramError, Programs

SUBNETS = {"blue": "10.61.0.0/29", "green": "10.62.0.0/29", "red": "10.63.0.0/29"}
CHAINS: dict[str, list[Conf]] = {
    "blue": [
        bridge(host_local(SUBNETS["blue"]), name="cni-blue"),
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
    "green": [ptp(host_local(SUBNETS["green"]))],
    "red": [bridge(host_local(SUBNETS["red"]), name="cni-red", ipMasq=True), {"type": "tuning", "mtu": 1400}],
}
STALE = {f"{number:064x}" for number in range(3)}
SHOP = "/run/scripts"
"""Working directory in the node: priv-net-run.sh runs ./exec-plugins.sh, not executable in the module cache."""


@pytest.fixture
def scripts(programs: Programs) -> Path:
    """The directory of the scripts."""
    if programs.scripts is None or not (programs.scripts / "exec-plugins.sh").exists():
        message = f"no exec-plugins.sh in CNI_REAPER_CNI_SCRIPTS ({programs.scripts}): `./build.sh test` sets it"
        raise MissingProgramError(message)
    return programs.scripts


@pytest.fixture(params=["1.9.1", "1.1.1"])
def node(make_node: MakeNode, scripts: Path, request: pytest.FixtureRequest) -> Node:
    """A node that can run the scripts, with three stale reservations in each network."""
    node = make_node(request.param)
    node.write(f"{SHOP}/exec-plugins.sh", f'#!/bin/sh\nexec bash {scripts}/exec-plugins.sh "$@"\n')
    node.path(f"{SHOP}/exec-plugins.sh").chmod(0o755)
    for name, subnet in SUBNETS.items():
        conf: Conf = {"cniVersion": "1.0.0", "name": name, "ipam": host_local(subnet)}
        for owner in sorted(STALE):
            node.plugin("ADD", conf, container_id=owner, netns="/run/netns/lost", binary="host-local").check()
    return node


def install(node: Node, place: str) -> None:
    """Write the networks as the scripts read them: lists in files named *.conf, with us at a place."""
    for number, (name, chain) in enumerate(CHAINS.items()):
        plugins = [reaper(), *chain] if place == "head" else [*chain, reaper()]
        conf = {"cniVersion": "1.0.0", "name": name, "plugins": plugins}
        node.write(f"{NET_D}/{number}0-{name}.conf", json.dumps(conf))


def assert_added(node: Node, netns: str, container_id: str) -> None:
    """Assert that a container has an address in each network, configured and reserved, and no stale one is left."""
    addresses = node.addresses(netns)
    for number, name in enumerate(CHAINS):
        ifname = f"eth{number}"
        (address,) = addresses[ifname]
        assert node.answers(address)
        assert node.reservations(name) == {address.partition("/")[0]: (container_id, ifname)}
    assert {line["container"] for line in node.log("reaped")} == STALE
    assert len(node.log("reaped")) == len(STALE) * len(CHAINS)


def assert_deleted(node: Node, container_id: str) -> None:
    """Assert that DEL has left no reservation, and of our records only marked ones."""
    for number, name in enumerate(CHAINS):
        assert node.reservations(name) == {}
        marked = {owner: record["deleted"] for owner, record in node.records(name).items()}
        assert marked == {f"{container_id}:eth{number}": True}


ENV = {"CNI_PATH": BIN, "NETCONFPATH": NET_D}


@pytest.mark.parametrize("place", ["head", "last"])
def test_exec_plugins_adds_and_deletes(node: Node, place: str) -> None:
    """exec-plugins.sh add gives an address in each of three networks and frees the stale ones; del releases them."""
    install(node, place)
    pod = node.pod()
    container_id = "c0ffee" * 10

    def exec_plugins(verb: str) -> None:
        ran = node.run([f"{SHOP}/exec-plugins.sh", verb, container_id, pod.path], env=ENV, cwd=SHOP).check()
        assert ": error executing" not in ran.text, str(ran)

    exec_plugins("add")
    assert_added(node, pod.path, container_id)
    exec_plugins("del")
    assert_deleted(node, container_id)
    assert set(pod.links()) == {"lo"}


@pytest.mark.parametrize("place", ["head", "last"])
def test_priv_net_run_runs_a_command_in_the_networks(node: Node, scripts: Path, place: str) -> None:
    """priv-net-run.sh runs a command with an address in each of three networks; when it ends, they are released."""
    install(node, place)
    node.run(["mkfifo", f"{SHOP}/up", f"{SHOP}/down"]).check()
    # The command says that it is up, and ends when it is told to.
    inner = f"echo up >{SHOP}/up; cat {SHOP}/down"
    outer = f"exec bash {scripts}/priv-net-run.sh sh -c '{inner}' >{SHOP}/out 2>&1"
    running = node.start(["sh", "-c", f"cd {SHOP}; {outer}"], env=ENV)
    up = node.run(["cat", f"{SHOP}/up"])
    assert up.out == b"up\n", node.read(f"{SHOP}/out")

    (container_id,) = (entry.name for entry in node.path("/run/netns").iterdir())
    assert_added(node, f"/run/netns/{container_id}", container_id)

    node.run(["sh", "-c", f"echo done >{SHOP}/down"]).check()
    assert node.wait(running) == 0
    assert ": error executing" not in node.read(f"{SHOP}/out")
    assert node.read(f"{SHOP}/out") == "done\n"
    assert_deleted(node, container_id)
    assert list(node.path("/run/netns").iterdir()) == []


@pytest.mark.parametrize("place", ["head", "last"])
def test_next_run_frees_what_a_killed_run_left(node: Node, place: str) -> None:
    """Without a del a container's addresses stay reserved until the next add of another finds its namespace gone."""
    install(node, place)
    killed, pod = node.pod(), node.pod()
    for container_id, where in (("badc0de1" * 8, killed), ("c0ffee" * 10, pod)):
        ran = node.run([f"{SHOP}/exec-plugins.sh", "add", container_id, where.path], env=ENV, cwd=SHOP).check()
        assert ": error executing" not in ran.text, str(ran)
        if where is killed:
            killed.delete()
    for number, name in enumerate(CHAINS):
        assert list(node.reservations(name).values()) == [("c0ffee" * 10, f"eth{number}")]
    reasons = [line["reason"] for line in node.log("reaped") if line["container"] == "badc0de1" * 8]
    # Behind the others our record may be of a past life, so it takes more: every netns is known to be somebody else's.
    assert reasons == ["netns-gone" if place == "head" else "no-netns-left"] * len(CHAINS)
