"""The main job, shown: `./build.sh demo`.

In a private node (tests.support.node: nothing of the machine is touched, nothing is left) with the real bridge, host-local
and portmap plugins, driven by cnitool with conflist-examples/bridge.conflist: the pool is filled with leaks, the next
ADD fails without cni-reaper and succeeds with it, and the pod that is alive keeps its address. Ends with an exit code
other than 0 as soon as anything is not so.
"""

import ipaddress
import json
import os
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.support.cni_calls import NET_D, Pod
from tests.support.node import Node, NodeError
from tests.support.node_files import LOG_FILE, parse_line
from tests.support.programs import ROOT, MissingProgramError, find_programs

EXAMPLE = ROOT / "conflist-examples" / "bridge.conflist"
EXHAUSTED = "no IP addresses available"
WIDTH = 100


class SurpriseError(Exception):
    """The demo saw something else than it promises; the message says what."""


@dataclass(frozen=True)
class Page:
    """Prints the story; in colour on a terminal, unless NO_COLOR is set."""

    colour: bool

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def title(self, text: str, below: str) -> None:
        """Print the head of the page."""
        print(f"{self._paint('1', text)}\n{self._paint('2', below)}")

    def step(self, number: int, text: str) -> None:
        """Print the head of a numbered step."""
        print(f"\n{self._paint('1', f'{number}  {text}')}", flush=True)

    def did(self, what: str, outcome: str, *, good: bool = True) -> None:
        """Print what was done and, in a second column, what came of it."""
        mark = self._paint("32", "ok   ") if good else self._paint("31", "fails")
        print(f"   {mark}  {what:<38} {outcome}", flush=True)

    def quote(self, pieces: Iterable[str]) -> None:
        """Print somebody else's words, broken to the width of the page, but not within a piece."""
        line = ""
        for piece in pieces:
            if line and len(line) + len(piece) > WIDTH - 10:
                print(f"          {self._paint('2', line.rstrip())}")
                line = "  "
            line = f"{line}{piece} "
        print(f"          {self._paint('2', line.rstrip())}", flush=True)


def expect(so: bool, otherwise: str) -> None:
    """Go on if it is so.

    Raises:
        SurpriseError: it is not.
    """
    if not so:
        raise SurpriseError(otherwise)


def add(node: Node, network: str, pod: Pod) -> str:
    """Run an ADD that has to succeed, return the pod's address."""
    ran = node.cnitool("add", network, pod)
    expect(ran.rc == 0, f"ADD of {pod.name} should have succeeded:\n{ran}")
    address: str = ran.json()["ips"][0]["address"].partition("/")[0]
    return address


@dataclass
class Story:
    """What happens in the node, a method a step; what one step learns the later ones compare with."""

    node: Node
    page: Page
    conf: dict[str, Any]

    def __post_init__(self) -> None:
        """Read the conflist: its network, the list without us, and how many pods its pool is for."""
        plugins: list[dict[str, Any]] = self.conf["plugins"]
        expect(plugins[0]["type"] == "cni-reaper", f"{EXAMPLE.name} has cni-reaper in another place than the head")
        self.network: str = self.conf["name"]
        self.without = plugins[1:]
        ipam = next(plugin["ipam"] for plugin in self.without if "ipam" in plugin)
        self.subnet = ipaddress.ip_network(ipam["ranges"][0][0]["subnet"])
        self.room = self.subnet.num_addresses - 3  # the network, the gateway and the broadcast address are nobody's
        self.live = self.node.pod()  # named as a runtime does, which never gives a name twice
        self.leaked: dict[str, str] = {}

    def start_a_pod_that_stays(self) -> None:
        """Without us in the list, start the pod that has to survive it all."""
        chain = " + ".join(plugin["type"] for plugin in self.without)
        self.page.step(1, f"A node without cni-reaper: {chain}, pool {self.subnet}")
        self.node.conflist(self.network, self.without, self.conf["cniVersion"])
        self.address = add(self.node, self.network, self.live)
        expect(self.node.answers(self.address), f"the live pod does not answer at {self.address}")
        self.page.did("pod live starts, and stays", f"{self.address}, answers")

    def fill_with_leaks(self) -> None:
        """Lose pods until the pool is full."""
        self.page.step(2, "Pods come, and go without a CNI DEL: their network namespace is gone, their address is not")
        for number in range(1, self.room):
            pod = self.node.pod(f"crashed-{number}")
            address = add(self.node, self.network, pod)
            self.leaked[address] = pod.container_id
            pod.delete()
            self.page.did(f"pod {pod.name} started and lost", address)
        self.full = self.node.reservations(self.network)
        expect(set(self.full) == {self.address, *self.leaked}, f"the store should hold live and leaks, not {self.full}")
        self.page.did("the pool", f"{len(self.full)} of {self.room} reserved, by 1 pod that is alive")

    def fail_without_us(self) -> None:
        """See the next ADD fail."""
        self.page.step(3, "The next pod, without cni-reaper")
        pod = self.node.pod("next")
        ran = self.node.cnitool("add", self.network, pod)
        said = ran.err.decode(errors="replace").strip()
        expect(ran.rc != 0, "ADD should have failed on a full pool")
        expect(EXHAUSTED in said, f"ADD failed for another reason:\n{ran}")
        expect(self.node.reservations(self.network) == self.full, "the failed ADD changed the store")
        self.page.did("cnitool add", f"exit code {ran.rc}", good=False)
        self.page.quote(re.split(r"(?<=:) ", said))
        pod.delete()

    def heal(self) -> None:
        """See the same ADD, same namespace path and same container ID, succeed with us."""
        self.page.step(4, 'The same, with {"type": "cni-reaper"} at the head of the conflist')
        self.node.write(f"{NET_D}/{self.network}.conflist", EXAMPLE.read_text())
        self.next = self.node.pod("next")
        self.got = add(self.node, self.network, self.next)
        expect(self.node.answers(self.got), f"the new pod does not answer at {self.got}")
        self.page.did("cnitool add", f"{self.got}, answers")

    def say_why(self) -> None:
        """Show the log line of each reap; exactly the leaks must have been reaped."""
        self.page.step(5, f"What was freed, and why ({LOG_FILE})")
        reaped = self._show_reaps(past=0)
        expect(reaped == self.leaked, f"reaped {reaped}, leaked {self.leaked}")

    def _show_reaps(self, past: int) -> dict[str, str]:
        """Show the log's lines of reaps, but for the first `past`; return the container IDs by address."""
        reaps = [line for line in self.node.read(LOG_FILE).splitlines() if parse_line(line).get("event") == "reaped"][past:]
        for line in reaps:
            fields = parse_line(line)
            expect(bool(fields.get("reason")), f"a reap without a reason: {line}")
            self.page.did(fields["address"], fields["reason"])
            self.page.quote(re.findall(r'[^ =]+="[^"]*"|[^ ]+', line))
        return {fields["address"]: fields["container"] for fields in map(parse_line, reaps)}

    def look_at_the_live_pod(self) -> None:
        """See that the live pod still has its address, everywhere that counts."""
        self.page.step(6, "And the pod that was alive all the time")
        held = self.node.reservations(self.network)
        expect(held.get(self.address) == self.full[self.address], f"{self.address} was taken from the live pod")
        own = [address.partition("/")[0] for address in self.live.addresses()]
        expect(own == [self.address], f"the live pod has {own}, not {self.address}")
        expect(self.node.answers(self.address), f"the live pod does not answer at {self.address}")
        expect(set(held) == {self.address, self.got}, f"the store should hold the two live pods only, not {held}")
        self.page.did("pod live", f"{self.address}, untouched, answers")
        self.page.did("the pool", f"{len(held)} of {self.room} reserved, by 2 pods that are alive")

    def lose_one_more(self) -> None:
        """From now on a record tells which netns an address is for: a lost pod's address is free at the next ADD."""
        self.page.step(7, "From now on: the new pod is lost too, and another one starts")
        self.next.delete()
        after = add(self.node, self.network, self.node.pod("after"))
        reaped = self._show_reaps(past=len(self.leaked))
        expect(reaped == {self.got: self.next.container_id}, f"reaped {reaped}, lost {self.got}")
        self.page.did("cnitool add", f"{after}, and of {self.room} addresses the 2 of living pods are reserved")
        expect(set(self.node.reservations(self.network)) == {self.address, after}, "the store should hold the two live pods only")

    def tell(self) -> None:
        """Run all steps."""
        self.start_a_pod_that_stays()
        self.fill_with_leaks()
        self.fail_without_us()
        self.heal()
        self.say_why()
        self.look_at_the_live_pod()
        self.lose_one_more()


def main() -> int:
    """Tell the story, return the exit code."""
    page = Page(colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    began = time.monotonic()
    try:
        conf = json.loads(EXAMPLE.read_text())
        page.title(
            "cni-reaper: a full node heals",
            f"in a private node, from conflist-examples/{EXAMPLE.name}; nothing of this machine is touched",
        )
        with Node(find_programs(old=False)) as node:
            Story(node, page, conf).tell()
    except MissingProgramError as missing:
        print(f"demo: {str(missing).replace('build.sh test', 'build.sh demo')}", file=sys.stderr)
        return 1
    except NodeError as error:
        why = str(error).strip().rpartition("\n")[2]
        print(f"demo: no private node (needs root, or a kernel that grants user namespaces): {why}", file=sys.stderr)
        return 1
    except SurpriseError as surprise:
        print(f"\ndemo: this is not as it should be: {surprise}", file=sys.stderr)
        return 1
    print(f"\nAll of it is as it should be ({time.monotonic() - began:.1f} s).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
