"""A node with an outside: pods that publish ports with portmap, servers that say whose they are, a client behind another link.

with the chain cni-reaper, bridge, portmap in network `net` (one address of each family for pods, unless told otherwise):

town = Town(node)
shop = town.open("shop", 8080)       a pod that publishes port 8080 of the node as its port 80, TCP and UDP
town.ask(8080)                       "shop"
watch = town.client.watch(8080)      asks all the time
watch.now()                          {"shop"}
shop.close()                         its netns ends without a DEL
watch.now(), watch.ever()            {""}, {"", "shop"}
"""

import json
from collections.abc import Sequence
from typing import Any

from tests.support.cni_calls import BIN, NET_D, Pod, bridge, host_local, reaper
from tests.support.commands import Ran
from tests.support.node import Node
from tests.support.node_files import Conf
from tests.support.waiting import until

NETWORK = "net"
FOUR, SIX = "10.77.0.0/24", "fd77::/64"
NODE_FOUR, NODE_SIX = "192.0.2.1", "2001:db8:7::1"
DROP_IN = -1
"""The place behind the list, in libcni's directory."""
NOBODY = ""
"""What a client hears where nobody answers."""

SERVER = """
import selectors, socket, sys
name, ready = sys.argv[1].encode(), sys.argv[2]
ears = selectors.DefaultSelector()
for family in (socket.AF_INET, socket.AF_INET6):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        ear = socket.socket(family, kind)
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        ear.bind(("", 80))
        if kind == socket.SOCK_STREAM:
            ear.listen()
        ears.register(ear, selectors.EVENT_READ)
open(ready, "w").close()
while True:
    for key, _ in ears.select():
        if key.fileobj.type == socket.SOCK_STREAM:
            with key.fileobj.accept()[0] as caller:
                caller.sendall(name)
        else:
            _, caller = key.fileobj.recvfrom(100)
            key.fileobj.sendto(name, caller)
"""
CLIENT = """
import socket, sys
host, port, kind, source, wait = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, getattr(socket, kind)) as line:
    line.settimeout(wait)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if source:
        line.bind(("", source))
    try:
        line.connect((host, port))
        if kind == "SOCK_DGRAM":
            line.send(b"?")
        print(line.recv(100).decode(), end="")
    except OSError as e:
        print(repr(e), file=sys.stderr)
"""
WATCHER = """
import json, os, socket, sys, threading, time
port, hosts, told = int(sys.argv[1]), sys.argv[2].split(","), sys.argv[3]
lock, asked, last, ever = threading.Lock(), {}, {}, set()
def tell(who, text):
    with lock:
        asked[who], last[who] = asked.get(who, 0) + 1, text
        ever.add(text)
        with open(told + ".new", "w") as file:
            json.dump({"asked": asked, "last": last, "ever": sorted(ever)}, file)
        os.rename(told + ".new", told)
def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET
def ask(host, kind, wait):
    while True:
        text = ""
        with socket.socket(family(host), kind) as line:
            line.settimeout(wait)
            try:
                line.connect((host, port))
                if kind == socket.SOCK_DGRAM:
                    line.send(b"?")
                text = line.recv(100).decode()
            except OSError:
                pass
        tell(host + kind.name, text)
        time.sleep(0.01)
def go_on(host):
    with socket.socket(family(host), socket.SOCK_DGRAM) as line:
        line.settimeout(0.05)
        while True:
            try:
                line.connect((host, port))
                line.send(b"?")
                text = line.recv(100).decode()
            except OSError:
                continue
            with lock:
                ever.add(text)
            time.sleep(0.01)
for host in hosts:
    threading.Thread(target=ask, args=(host, socket.SOCK_STREAM, 1)).start()
    threading.Thread(target=ask, args=(host, socket.SOCK_DGRAM, 0.3)).start()
    threading.Thread(target=go_on, args=(host,)).start()
"""
"""Asks without a pause, new questions by TCP and UDP, and one flow of datagrams that goes on for ever."""
ANSWER_S = 60.0
"""How long an answer is waited for where one is to come; where none is, the kernel refuses at once."""

BACKENDS = (("1.9.1", "iptables"), ("1.9.1", "nftables"), ("1.1.1", ""))


def forget_neighbours(node: Node) -> None:
    """Let a node forget which MAC address an address had, as it does within half a minute.

    Until then it sends what is for a pod to the one that had its address before, and a client hears nobody.
    """
    node.run(["ip", "neighbour", "flush", "all"]).check()


class Shop:
    """A pod with a server on port 80."""

    def __init__(self, town: "Town", name: str, pod: Pod, ports: list[Conf]) -> None:
        self.town, self.name, self.pod, self.ports = town, name, pod, ports
        self.server = 0

    def add(self) -> Ran:
        """Run the chain's ADD."""
        return self.town.cnitool("add", self.pod, self.ports)

    def serve(self) -> None:
        """Start the server, and return when it listens."""
        ready = f"/run/ready-{self.pod.name}-{self.name.replace(chr(32), chr(45))}"
        self.server = self.town.node.start(["python3", "-c", SERVER, self.name, ready], netns=self.pod)
        until(self.town.node.path(ready).exists, f"{self.name} listens")

    def addresses(self) -> list[str]:
        """Return its addresses without prefix lengths."""
        return [one.partition("/")[0] for one in self.pod.addresses()]

    def close(self) -> None:
        """End it without a DEL."""
        if self.server:
            self.town.node.stop(self.server)
        self.pod.delete()

    def delete(self) -> Ran:
        """Run the chain's DEL."""
        return self.town.cnitool("del", self.pod, self.ports)

    def end(self) -> None:
        """End it as a runtime does."""
        self.delete().check()
        self.close()


class Client:
    """A client in a netns of its own, /run/netns/outside, behind another link of the node, which is its gateway.

    outside: else it is a process of the node itself, and there is no netns that belongs to no pod. netns: its path, if any.
    """

    def __init__(self, node: Node, outside: bool = True) -> None:
        self.node = node
        self.netns: str | None = None
        self._watches = 0
        node.add_link("out0", "veth", peer="out1")
        for address in (f"{NODE_FOUR}/24", f"{NODE_SIX}/64"):
            node.run(["ip", "address", "add", address, "dev", "out0", *(["nodad"] if ":" in address else [])]).check()
        if not outside:
            return
        self.netns = node.create_netns("/run/netns/outside")
        node.run(["ip", "link", "set", "out1", "netns", "outside"]).check()
        for words in (
            "address add 192.0.2.2/24 dev out1",
            "address add 2001:db8:7::2/64 dev out1 nodad",
            "link set out1 up",
            f"route add default via {NODE_FOUR}",
            f"-6 route add default via {NODE_SIX}",
        ):
            node.run(["ip", *words.split()], netns=self.netns).check()

    def ask(self, port: int, protocol: str = "tcp", host: str = NODE_FOUR, source: int = 0, wait_s: float = ANSWER_S) -> str:
        """Ask who answers on a port of the node; NOBODY where nobody does."""
        kind = {"tcp": "SOCK_STREAM", "udp": "SOCK_DGRAM"}[protocol]
        argv = ["python3", "-c", CLIENT, host, str(port), kind, str(source), str(wait_s)]
        return self.node.run(argv, netns=self.netns).check().out.decode()

    def watch(self, port: int, hosts: Sequence[str] = (NODE_FOUR, NODE_SIX)) -> "Watch":
        """Begin to ask a port all the time, at these addresses of the node."""
        self._watches += 1
        return Watch(self, port, hosts, f"/run/watch-{self._watches}")


class Watch:
    """A client that asks all the time; see WATCHER."""

    def __init__(self, client: Client, port: int, hosts: Sequence[str], told: str) -> None:
        self._file = client.node.path(told)
        self._askers = 2 * len(hosts)
        argv = ["python3", "-c", WATCHER, str(port), ",".join(hosts), told]
        client.node.start(argv, netns=client.netns)
        self.now()

    def _told(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {"asked": {}, "ever": []}
        return told

    def now(self) -> set[str]:
        """Return what was answered last, where each protocol and address was asked anew since this call."""
        before = self._told()["asked"]

        def anew() -> bool:
            """Tell whether a question that was begun since has ended: the second one that ends, since one is on its way."""
            asked = self._told()["asked"]
            return len(asked) == self._askers and all(asked[who] >= before.get(who, 0) + 2 for who in asked)

        until(anew, "all were asked anew")
        return set(self._told()["last"].values())

    def wait_for(self, name: str) -> None:
        """Wait until one answers to new questions, by each protocol and address; fail when another does."""

        def is_heard() -> bool:
            """Tell whether it alone is heard."""
            now = self.now()
            assert now <= {NOBODY, name}
            return now == {name}

        until(is_heard, f"{name} answers")

    def ever(self) -> set[str]:
        """Return all that was ever answered."""
        return set(self._told()["ever"])


class Town:
    """A node, its chain and a client outside of it.

    backend: of portmap; addresses: how many pods have room; place: of cni-reaper in the chain, DROP_IN for the directory beside
    the list, None for a chain without it; with_args: with CNI_ARGS, as a kubelet's.
    """

    def __init__(
        self, node: Node, backend: str = "", addresses: int = 1, place: int | None = 0, with_args: bool = True, **options: Any
    ) -> None:
        self.node = node
        self.portmap: Conf = {"type": "portmap", "capabilities": {"portMappings": True}}
        if backend:
            self.portmap["backend"] = backend
        ipam = host_local()
        ipam["ranges"] = [
            [{"subnet": FOUR, "rangeStart": "10.77.0.10", "rangeEnd": f"10.77.0.{9 + addresses}"}],
            [{"subnet": SIX, "rangeStart": "fd77::10", "rangeEnd": f"fd77::{0xF + addresses:x}"}],
        ]
        ipam["routes"] = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
        self.bridge = bridge(ipam)
        self.options = options
        self.path = ""
        self.with_args = with_args
        self.write(place)
        self.client = Client(node)
        self.outside = self.client.netns

    def write(self, place: int | None) -> None:
        """Write the conflist, with cni-reaper at a place or without it."""
        plugins = [self.bridge, self.portmap]
        if place == DROP_IN:
            self.node.write(f"{NET_D}/{NETWORK}/50-cni-reaper.conf", json.dumps(self.head()))
        elif place is not None:
            plugins.insert(place, reaper(**self.options))
        self.node.conflist(NETWORK, plugins)

    def head(self) -> Conf:
        """Return our own configuration, as libcni would give it to us."""
        return {"cniVersion": "1.0.0", "name": NETWORK, **reaper(**{"logLevel": "debug", **self.options})}

    def cnitool(self, verb: str, pod: Pod, ports: list[Conf]) -> Ran:
        """Run cnitool with published ports."""
        env = {"PATH": self.path} if self.path else {}
        if self.with_args:
            uid = f"00000000-0000-0000-0000-{pod.name[-12:]}"
            env["CNI_ARGS"] = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod.name};K8S_POD_UID={uid}"
        return self.node.cnitool(verb, NETWORK, pod, env=env, capabilities={"portMappings": ports} if ports else None)

    def open(self, name: str, *ports: int, protocols: tuple[str, ...] = ("tcp", "udp")) -> Shop:
        """Start a pod with a server that says its name, and publish ports of the node for it."""
        shop = self.build(name, *ports, protocols=protocols)
        shop.add().check()
        shop.serve()
        forget_neighbours(self.node)
        return shop

    def build(self, name: str, *ports: int, protocols: tuple[str, ...] = ("tcp", "udp")) -> Shop:
        """Make the netns of a pod, without an ADD."""
        mappings = [{"hostPort": port, "containerPort": 80, "protocol": protocol} for port in ports for protocol in protocols]
        return Shop(self, name, self.node.pod(), mappings)

    def ask(self, port: int, protocol: str = "tcp", host: str = NODE_FOUR, source: int = 0, wait_s: float = ANSWER_S) -> str:
        """Ask from outside who answers on a port of the node; NOBODY where nobody does."""
        return self.client.ask(port, protocol, host, source, wait_s)

    def ask_all(self, port: int) -> set[str]:
        """Ask by both protocols and both families."""
        return {self.ask(port, protocol, host) for protocol in ("tcp", "udp") for host in (NODE_FOUR, NODE_SIX)}

    def held(self) -> set[str]:
        """Return the reserved addresses."""
        return set(self.node.reservations(NETWORK))

    def rules(self) -> str:
        """Return all rules that name a port of the node, of both backends, as text."""
        tables = [
            self.node.run([program, "-t", "nat"], env={"PATH": self.path} if self.path else None).check().out
            for program in ("iptables-save", "ip6tables-save")
        ]
        tables.append(self.node.run(["nft", "list", "ruleset"]).check().out)
        return b"\n".join(tables).decode()

    def kept(self) -> list[dict[str, str]]:
        """Return what the log says of addresses that stay for a published port."""
        return [line for line in self.node.log("kept") if line["reason"] == "port-published"]

    def try_again(self) -> None:
        """Let what was tried a moment ago be tried by the next call."""
        self.node.path("/run/cni-reaper/net.published").unlink(missing_ok=True)

    def replace_portmap(self, script: str) -> None:
        """Put a shell script in portmap's place; the real one is in $REAL."""
        place = self.node.path(f"{BIN}/portmap")
        real = place.readlink()
        place.unlink()
        place.write_text(f"#!/bin/sh\nREAL={real}\n{script}\n")
        place.chmod(0o755)
