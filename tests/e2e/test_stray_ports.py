"""Published ports that lead to a dead container: `doctor`, `audit` and `explain` name them, with what to do, and that helps."""

import json

import jsonschema
import pytest

from tests.conftest import MakeNode
from tests.support.cni_calls import BIN
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, Conf
from tests.support.operator_reports import AUDIT_SCHEMA, findings_of
from tests.support.publishing import BACKENDS, NOBODY, Shop, Town

EXECUTABLE = f"{BIN}/cni-reaper"
FOUR, SIX = "10.77.0.10", "fd77::10"
ASTRAY = ("published-to-another", "published-to-none")


def lose(town: Town, shop: Shop) -> None:
    """End a pod without a DEL, and free its addresses by hand, as scripts do."""
    addresses = shop.addresses()
    shop.close()
    for address in addresses:
        town.node.path(f"{DATA_DIR}/net/{address}").unlink()


def audited(node: Node, rc: int) -> Conf:
    """Run audit with --json, see that the schema holds, and return the report."""
    ran = node.run([EXECUTABLE, "audit", "--json"])
    assert ran.rc == rc, str(ran)
    report: Conf = json.loads(ran.out)
    jsonschema.validate(report, AUDIT_SCHEMA)
    return report


def keys(town: Town) -> set[str]:
    """Return which findings about published ports the doctor has."""
    return {key for key in findings_of(town.node) if key.startswith("published")}


@pytest.mark.parametrize(("plugins", "backend"), BACKENDS)
def test_port_to_another_pod_is_an_error(make_node: MakeNode, plugins: str, backend: str) -> None:
    """An error for each family, with both protocols; what it advises ends that, and takes nothing from those that live."""
    node = make_node(plugins)
    town = Town(node, backend)
    lost = town.open("shop", 8080)
    lose(town, lost)
    stranger = town.open("stranger", 9090)
    assert set(stranger.addresses()) == {FOUR, SIX}
    assert town.ask_all(8080) == {"stranger"}

    findings = findings_of(node)["published-to-another"]
    assert [(one["level"], one["subject"]) for one in findings] == [("error", "node")] * 2
    for one, address in zip(findings, (FOUR, SIX), strict=True):
        leads = f"Ports 8080/tcp, 8080/udp of this node lead to {address}, which is another pod's now: "
        assert one["finding"].startswith(leads + f"container {stranger.pod.container_id} (default/{stranger.pod.name}); ")
        assert one["finding"].endswith(f"(portmap, {backend or 'iptables'}) are of container {lost.pod.container_id}.")

    told = audited(node, rc=2)["published"]
    assert [(one["address"], one["holder"], one["container"]) for one in told] == [
        (address, stranger.pod.container_id, lost.pod.container_id) for address in (FOUR, SIX)
    ]
    assert {(each["protocol"], each["hostPort"], each["port"]) for one in told for each in one["ports"]} == {
        ("tcp", 8080, 80),
        ("udp", 8080, 80),
    }
    assert f"of this node lead to {FOUR}, which is another pod's now" in node.run([EXECUTABLE, "audit"]).text
    for what in (FOUR, lost.pod.container_id[:13]):
        ran = node.run([EXECUTABLE, "explain", what])
        assert (ran.rc, "which is another pod's now" in ran.text) == (0 if what == FOUR else 1, True), str(ran)
    assert "port 9090/tcp" not in node.run([EXECUTABLE, "explain", SIX]).text.partition("astray")[2]

    node.run(["sh", "-c", findings[0]["advice"].partition("remove its rules: ")[2]]).check()
    assert keys(town) == set()
    assert audited(node, rc=0)["published"] == []
    assert town.ask_all(8080) == {NOBODY}
    assert town.ask_all(9090) == {"stranger"}


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_port_to_nobody_is_a_warning(node: Node, backend: str) -> None:
    """A warning, as the next pod may get the address; and it is explained without a reservation."""
    town = Town(node, backend, addresses=2)
    lost = town.build("shop", 8080)
    lost.add().check()
    town.build("living", 9090).add().check()
    lose(town, lost)
    findings = findings_of(node)["published-to-none"]
    assert [one["level"] for one in findings] == ["warning"] * 2
    assert "of this node lead to 10.77.0.10, which no pod has now" in findings[0]["finding"]
    assert [one["holder"] for one in audited(node, rc=2)["published"]] == ["", ""]
    ran = node.run([EXECUTABLE, "explain", FOUR])
    assert ran.rc == 1
    assert f"no reservation of {FOUR}" in ran.text
    assert "which no pod has now" in ran.text
    node.run(["sh", "-c", findings[0]["advice"].partition("remove its rules: ")[2]]).check()
    assert keys(town) == set()
    assert ":8080" not in town.rules().replace("dport 8080", ":8080").replace("dports 8080", ":8080")


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_port_of_live_pod_or_leak_is_no_finding(node: Node, backend: str) -> None:
    """A pod that lives, and a leak whose ports the next ADD takes back: no finding, and explain says what becomes of them."""
    town = Town(node, backend, addresses=2)
    town.build("living", 9090).add().check()
    leak = town.build("shop", 8080)
    leak.add().check()
    assert "ports 9090/tcp, 9090/udp of this node lead to 10.77.0.10" in node.run([EXECUTABLE, "explain", FOUR]).text
    leak.pod.delete()
    assert keys(town) == set()
    assert audited(node, rc=1)["published"] == []
    text = node.run([EXECUTABLE, "explain", "10.77.0.11"]).check().text
    assert "ports 8080/tcp, 8080/udp of this node lead to 10.77.0.11; taken back before the address is freed" in text
    assert "astray" not in text


def test_unreadable_rules_are_told_once(node: Node) -> None:
    """A program that fails is said once, and is no trouble of the store; where there is none, nothing is published."""
    town = Town(node, "iptables", addresses=2)
    town.build("living", 9090).add().check()
    node.write("/run/broken/iptables-save", "#!/bin/sh\necho no >&2\nexit 4\n")
    node.path("/run/broken/iptables-save").chmod(0o755)
    env = {"PATH": "/run/broken:/usr/sbin:/usr/bin:/sbin:/bin"}
    ran = node.run([EXECUTABLE, "doctor", "--json", "--conf-dir", "/etc/cni/net.d", "--bin-dir", BIN], env=env).check()
    (one,) = (one for one in json.loads(ran.out)["findings"] if one["key"] == "published-unseen")
    assert (one["level"], "iptables: exit code 4: no" in one["finding"]) == ("note", True)
    for command in (["audit"], ["explain", FOUR]):
        ran = node.run([EXECUTABLE, *command], env=env).check()
        assert ran.err.decode().count("which ports are published cannot be seen") == 1
    ran = node.run([EXECUTABLE, "audit", "--json"], env=env).check()
    assert "exit code 4" in json.loads(ran.out)["publishedUnseen"]
    assert "published-unseen" not in findings_of(node)
    assert ASTRAY[0] not in findings_of(node)
