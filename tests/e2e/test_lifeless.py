"""Network namespaces without life: the runtime has leaked them with their addresses. They are counted and named, and kept."""

import json

import pytest

from tests.support.cni_calls import BIN, bridge, host_local, reaper
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.waiting import until

EXECUTABLE = f"{BIN}/cni-reaper"
METRICS = "/var/lib/cni/reaper.prom"
TASKS = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"


@pytest.fixture
def network(node: Node) -> Network:
    """A network with two netns without life, a pod with a process, one that containerd names, and a leak."""
    network = Network(node, metricsFile=METRICS)
    node.conflist(NETWORK, [reaper(metricsFile=METRICS), bridge(host_local("10.66.0.0/24"))])
    for name, is_configured in (("lifeless", True), ("killed-in-its-add", False)):
        pod = node.pod(name)
        address = network.add(pod)
        if is_configured:
            node.add_address("lo", f"{address}/32", pod.path)
    lived_in, named = node.pod("lived-in"), node.pod("named")
    process = lived_in.live()
    until(lambda: node.path(f"/proc/{process}/exe").readlink().name == "sleep", "the process lives in the netns")
    network.add(lived_in)
    network.add(named)
    node.path(f"{TASKS}/{container_id('named')}").mkdir(parents=True)
    network.leak()
    return network


def sampled(node: Node) -> str:
    """Return the metric's value, "" without one."""
    lines = [line for line in node.read(METRICS).splitlines() if line.startswith("cni_reaper_lifeless{")]
    return lines[0].rpartition(" ")[2] if lines else ""


def test_lifeless_netns_are_logged_once_and_always_in_metrics(network: Network) -> None:
    """A full scan counts them: one line per boot with the first and what to do; all of them are kept."""
    node = network.node
    network.reap()
    (line,) = node.log("lifeless")
    assert (line["level"], line["count"], line["address"]) == ("info", "2", "10.66.0.2")
    assert line["netns"] == "/run/netns/lifeless"
    assert "ip netns" in line["reason"]
    assert sampled(node) == "2"
    assert network.held() == {f"10.66.0.{number}" for number in (2, 3, 4, 5)}
    node.delete_netns("/run/netns/lifeless")
    network.reap()
    assert len(node.log("lifeless")) == 1
    assert sampled(node) == "1"
    assert network.held() == {f"10.66.0.{number}" for number in (3, 4, 5)}


def test_audit_names_lifeless_netns(network: Network) -> None:
    """It says how many there are, the first of them and what to do; a pod with a process, or a name, is none of them."""
    node = network.node
    network.reap()
    (found_network,) = json.loads(node.run([EXECUTABLE, "audit", "--json"]).out)["networks"]
    assert [one["address"] for one in found_network["lifeless"]] == ["10.66.0.2", "10.66.0.3"]
    assert found_network["lifeless"][0]["netns"] == "/run/netns/lifeless"
    text = " ".join(node.run([EXECUTABLE, "audit"]).text.split())
    assert "LIVE in network namespaces in which no process runs, and that no runtime names: 2, the first is 10.66.0.2" in text
    assert "ip netns" in text


def test_a_node_full_of_life_says_nothing(node: Node) -> None:
    """Every netns has a process: no line, and 0 in the metrics."""
    network = Network(node, metricsFile=METRICS)
    node.conflist(NETWORK, [reaper(metricsFile=METRICS), bridge(host_local("10.66.0.0/24"))])
    pod = node.pod("pod")
    process = pod.live()
    until(lambda: node.path(f"/proc/{process}/exe").readlink().name == "sleep", "the process lives in the netns")
    network.add(pod)
    network.leak()
    network.reap()
    assert node.log("reaped")
    assert node.log("lifeless") == []
    assert sampled(node) == "0"
    assert "no process runs" not in node.run([EXECUTABLE, "audit"]).text


def test_failed_add_counts_lifeless_netns(node: Node) -> None:
    """The pool is full of them, so nothing is stale and no ADD takes a full scan: the DEL of one that failed does, once."""
    network = Network(node, "10.66.0.0/29", metricsFile=METRICS, logLevel="debug")
    addresses = {network.add(node.pod(f"lifeless-{number}")) for number in range(5)}
    fails(network, "first", {"cniVersion": "1.0.0", "ips": []})
    assert node.log("lifeless") == []
    fails(network, "second")
    (line,) = node.log("lifeless")
    assert (line["level"], line["count"], line["address"]) == ("info", "5", "10.66.0.2")
    assert sampled(node) == "5"
    fails(network, "third")
    assert len(node.log("lifeless")) == 1, "a full scan is taken once in ten minutes"
    assert sampled(node) == "5"
    assert network.held() == addresses
    assert node.log("reaped") == []


def fails(network: Network, name: str, result: object = None) -> None:
    """Have an ADD fail in a full pool, and give DEL as the runtime does then; result: with this prevResult."""
    node, pod = network.node, network.node.pod(name)
    owner = container_id(name)
    node.plugin("ADD", network.head, netns=pod, container_id=owner).check()
    assert node.plugin("ADD", network.ipam, binary="host-local", netns=pod, container_id=owner).rc != 0
    conf = network.head if result is None else {**network.head, "prevResult": result}
    node.plugin("DEL", conf, netns=pod, container_id=owner).check()


@pytest.mark.parametrize("spoil", ["broken", "a directory"])
def test_failed_count_fails_no_del(node: Node, spoil: str) -> None:
    """What was noted of the last count is broken, or cannot be written: the DEL succeeds."""
    network = Network(node, logLevel="debug")
    network.add(node.pod("lifeless"))
    noted = node.path(f"/run/cni-reaper/{NETWORK}.counted")
    if spoil == "broken":
        noted.write_bytes(b"\xff x")
    else:
        noted.mkdir()
    pod = node.pod("failed")
    for _ in range(2):
        node.plugin("DEL", network.head, netns=pod, container_id=container_id("failed")).check()
    assert len(node.log("lifeless")) == (1 if spoil == "broken" else 0)
    assert [line for line in node.log() if line["level"] in ("warning", "error")] == []
