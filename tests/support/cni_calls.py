"""CNI in a node: configurations, pods, and the calls of cnitool and of plugins."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from tests.support.commands import HANG_S, Command, Ran, command
from tests.support.node_files import LOG_FILE, Conf, NodeFiles

if TYPE_CHECKING:
    from tests.support.node import Node

NET_D = "/etc/cni/net.d"
BIN = "/opt/cni/bin"


@dataclass(frozen=True)
class Pod:
    """A named network namespace of a node, and the container ID that goes with it."""

    node: "Node"
    name: str
    path: str

    @property
    def container_id(self) -> str:
        """The ID that cnitool gives: "cnitool-" and the first 10 bytes of the SHA-512 of the path, in hex."""
        return "cnitool-" + hashlib.sha512(self.path.encode()).digest()[:10].hex()

    def addresses(self, ifname: str = "eth0") -> list[str]:
        """Addresses ("10.1.0.2/24") on an interface, without IPv6 link-local ones; [] when there is no interface."""
        return self.node.addresses(self.path).get(ifname, [])

    def links(self) -> dict[str, dict[str, Any]]:
        """Links in the namespace, see Node.links."""
        return self.node.links(self.path)

    def delete(self) -> None:
        """Delete the namespace as `ip netns delete` does: without a CNI DEL this is how addresses leak."""
        self.node.delete_netns(self.path)

    def live(self) -> int:
        """Start a process that lives in the namespace and does nothing; return its PID in the node."""
        return self.node.start(["sleep", "infinity"], netns=self)


def reaper(**options: Any) -> Conf:
    """Return our conflist entry, with a log file."""
    return {"type": "cni-reaper", "logFile": LOG_FILE, **options}


def host_local(*subnets: str, **options: Any) -> Conf:
    """Return an ipam section; several subnets give several addresses (dual stack)."""
    return {"type": "host-local", "ranges": [[{"subnet": subnet}] for subnet in subnets], **options}


def bridge(ipam: Conf, name: str = "cni0", **options: Any) -> Conf:
    """Return an entry of the bridge plugin that is the pods' gateway."""
    return {"type": "bridge", "bridge": name, "isGateway": True, "ipam": ipam, **options}


def ptp(ipam: Conf, **options: Any) -> Conf:
    """Return an entry of the ptp plugin."""
    return {"type": "ptp", "ipam": ipam, **options}


class CnitoolOptions(TypedDict, total=False):
    """The options of `CniCalls.cnitool_command`."""

    env: Mapping[str, str] | None
    capabilities: Conf | None
    ifname: str
    timeout: float
    ahead: int
    waited: int


class PluginOptions(TypedDict, total=False):
    """The options of `CniCalls.plugin_command`."""

    container_id: str | None
    netns: "Pod | str | None"
    ifname: str | None
    args: str | None
    binary: str
    env: Mapping[str, str | None] | None
    timeout: float
    ahead: int
    waited: int


class CniCalls(NodeFiles):
    """Calls of cnitool and of plugins in a node."""

    cnitool_path: str
    """Of cnitool, in the node."""

    def together(self, commands: Sequence[Command]) -> list[Ran]:
        """Start several commands at once and wait for all."""
        raise NotImplementedError

    def conflist(self, name: str, plugins: Iterable[Conf], cni_version: str = "1.0.0", **more: Any) -> Conf:
        """Write /etc/cni/net.d/<name>.conflist and return its content; an older one of that name is replaced."""
        conf = {"cniVersion": cni_version, "name": name, "plugins": list(plugins), **more}
        self.write(f"{NET_D}/{name}.conflist", json.dumps(conf, indent=2))
        return conf

    def cnitool(self, verb: str, network: str, pod: "Pod | str", **options: Unpack[CnitoolOptions]) -> Ran:
        """Run cnitool for a pod (or a netns path); see `cnitool_command`."""
        return self.together([self.cnitool_command(verb, network, pod, **options)])[0]

    def cnitool_command(
        self,
        verb: str,
        network: str,
        pod: "Pod | str",
        *,
        env: Mapping[str, str] | None = None,
        capabilities: Conf | None = None,
        ifname: str = "eth0",
        timeout: float = HANG_S,
        ahead: int = 0,
        waited: int = 0,
    ) -> Command:
        """Describe a run of cnitool for `together`.

        Args:
            verb: add, check, del, gc or status.
            network: name of the conflist.
            pod: a Pod, or the path of a network namespace.
            env: more variables, CNI_ARGS for instance.
            capabilities: CAP_ARGS, {"portMappings": […]} for instance.
            ifname: name of the interface.
            timeout: in seconds.
            ahead: seconds by which the clocks CLOCK_MONOTONIC and CLOCK_BOOTTIME are ahead. The kernel shows the start of
                PID 1 in that time as well, so to our plugin it is another view.
            waited: seconds by which CLOCK_MONOTONIC alone is ahead, with which owners without a netns are waited for.
        """
        variables = {"NETCONFPATH": NET_D, "CNI_PATH": BIN, "CNI_IFNAME": ifname, **(env or {})}
        if capabilities:
            variables["CAP_ARGS"] = json.dumps(capabilities)
        path = pod if isinstance(pod, str) else pod.path
        argv = [self.cnitool_path, verb, network, path]
        return command(in_time(argv, ahead, waited), env=variables, timeout=timeout)

    def plugin(self, verb: str | None, conf: Conf | bytes | None, **options: Unpack[PluginOptions]) -> Ran:
        """Run one plugin binary directly, as libcni would; see `plugin_command`."""
        return self.together([self.plugin_command(verb, conf, **options)])[0]

    def plugin_command(
        self,
        verb: str | None,
        conf: Conf | bytes | None,
        *,
        container_id: str | None = None,
        netns: "Pod | str | None" = None,
        ifname: str | None = "eth0",
        args: str | None = None,
        binary: str = "cni-reaper",
        env: Mapping[str, str | None] | None = None,
        timeout: float = HANG_S,
        ahead: int = 0,
        waited: int = 0,
    ) -> Command:
        """Describe a direct run of a plugin binary for `together`.

        Args:
            verb: CNI_COMMAND; None leaves it out.
            conf: network configuration for stdin: an object, or the very bytes; None is /dev/null.
            container_id: CNI_CONTAINERID; by default that of the Pod in `netns`, if it is one.
            netns: CNI_NETNS: a Pod, or the very text.
            ifname: CNI_IFNAME; None leaves it out.
            args: CNI_ARGS.
            binary: name in /opt/cni/bin, or a path.
            env: further variables; one that is None is left out, whatever it was.
            timeout: in seconds.
            ahead: seconds by which the clocks CLOCK_MONOTONIC and CLOCK_BOOTTIME are ahead. The kernel shows the start of
                PID 1 in that time as well, so to our plugin it is another view.
            waited: seconds by which CLOCK_MONOTONIC alone is ahead, with which owners without a netns are waited for.
        """
        if isinstance(netns, Pod):
            container_id = netns.container_id if container_id is None else container_id
            netns = netns.path
        variables: dict[str, str | None] = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": netns,
            "CNI_IFNAME": ifname,
            "CNI_ARGS": args,
            "CNI_PATH": BIN,
            **(env or {}),
        }
        stdin = conf if isinstance(conf, bytes) or conf is None else json.dumps(conf).encode()
        argv = [binary if "/" in binary else f"{BIN}/{binary}"]
        given = {name: value for name, value in variables.items() if value is not None}
        return command(in_time(argv, ahead, waited), env=given, stdin=stdin, timeout=timeout)


def in_time(argv: Sequence[str], ahead: int, waited: int) -> list[str]:
    """Return a command that runs with clocks that are ahead; see `CniCalls.plugin_command`."""
    if not ahead and not waited:
        return list(argv)
    return ["unshare", "--time", "--fork", "--monotonic", str(ahead + waited), "--boottime", str(ahead), *argv]
