"""Calls of cni-reaper for a container of its own, and what earlier calls have left: records, cache entries, leaks."""

import json

from tests.support.cni_calls import Pod
from tests.support.commands import Command
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import STATE_DIR, Conf

GRACE_S = 1500
LISTED_AFTER_S = 120
RESULTS = "/var/lib/cni/results"
VALID_ATTACHMENTS = "cni.dev/valid-attachments"
CONTAINERD_TASKS = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"
POD_ARGS = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=6f0c"


def describe_call(network: Network, verb: str, options: Conf | None = None, waited: int = 0) -> Command:
    """Describe a call of our plugin for a container of its own, which has a netns on ADD only."""
    conf = {**network.head, **(options or {})}
    if verb in ("GC", "STATUS"):
        conf["cniVersion"] = "1.1.0"
    netns = network.node.pod() if verb == "ADD" else ""
    owner = container_id(netns.name if isinstance(netns, Pod) else "trigger")
    return network.node.plugin_command(verb, conf, netns=netns, container_id=owner, waited=waited)


def call_reaper(network: Network, verb: str = "ADD", options: Conf | None = None, waited: int = 0) -> None:
    """Run our plugin for a container of its own; after an ADD its netns goes again."""
    one = describe_call(network, verb, options, waited)
    network.node.together([one])[0].check()
    if verb == "ADD":
        network.node.delete_netns(one["env"]["CNI_NETNS"])


def gc_with_list(network: Network, listed: list[str], waited: int = 0) -> None:
    """Run GC with a list of container IDs."""
    call_reaper(network, "GC", {VALID_ATTACHMENTS: [{"containerID": owner, "ifname": "eth0"} for owner in listed]}, waited)


def write_cache_entry(network: Network, owner: str, netns: str) -> None:
    """Write what libcni notes of an attachment after the whole chain's ADD."""
    entry = {"kind": "cniCacheV1", "containerId": owner, "ifName": "eth0", "networkName": network.name, "netns": netns}
    network.node.write(f"{RESULTS}/{network.name}-{owner}-eth0", json.dumps({**entry, "result": {"cniVersion": "1.0.0"}}))


def dead_without_record(network: Network, name: str) -> str:
    """Leave a leak from before cni-reaper was in the chain; return the address."""
    pod = network.node.pod(name)
    address = network.take(pod, container_id(name))
    pod.delete()
    return address


def reaped_reasons(network: Network) -> set[str]:
    """Return why addresses were freed until now."""
    return {line["reason"] for line in network.node.log("reaped")}


def backdate(node: Node, owner: str) -> None:
    """Let a record be older than graceSeconds."""
    path = f"{STATE_DIR}/{NETWORK}/{owner}:eth0"
    record = json.loads(node.read(path))
    node.write(path, json.dumps({**record, "boottime": record["boottime"] - 2 * GRACE_S}))


def forget(node: Node, owner: str, ifname: str = "eth0", network: str = NETWORK) -> None:
    """Lose our record of an attachment."""
    node.path(f"{STATE_DIR}/{network}/{owner}:{ifname}").unlink()
