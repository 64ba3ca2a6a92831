"""The soak: thousands of pod cycles on a /24, with real host-local and real network namespaces, and a ledger outside.

Three of ten pods lose their DEL, ADDs are killed half-way, and cni-reaper itself is killed at any moment. The ledger knows each
address that was handed out: none may be handed out while a live pod has it, none of a live pod may lose its reservation, and
after one more ADD at the end nothing may be left of the dead.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields

from tests.support.cni_calls import BIN, Pod
from tests.support.commands import Ran
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.programs import find_programs

LIVE_AT_ONCE = 120
POOL = 253
LONGEST_S = 0.03  # a killed process has lived so long at the most, which is about as long as it needs


@dataclass
class Counted:
    """What a soak did; `violations` and `leaks_left` have to be 0."""

    cycles: int = 0
    dels: int = 0
    dels_lost: int = 0
    adds_failed_halfway: int = 0
    reaper_killed: int = 0
    host_local_killed: int = 0
    reaped: int = 0
    most_reserved: int = 0
    violations: int = 0
    leaks_left: int = 0

    def __str__(self) -> str:
        return "\n".join(f"{getattr(self, one.name):8} {one.name.replace('_', ' ')}" for one in fields(self))


class Soak:
    """One soak on one node. choices: where all chance comes from; say: told of each violation as it happens."""

    def __init__(self, node: Node, choices: random.Random, say: Callable[[str], None]) -> None:
        self.node = node
        self.random = choices
        self.say = say
        self.network = Network(node, "10.66.0.0/24")
        self.ledger: dict[str, Pod] = {}
        self.counted = Counted()
        self.pods = 0

    def _plugin(self, verb: str, binary: str, pod: Pod, killed_after_s: float | None) -> Ran:
        """Run one plugin of the chain, and kill it after a while if so told."""
        conf = self.network.head if binary == "cni-reaper" else self.network.ipam
        command = self.node.plugin_command(verb, conf, binary=binary, netns=pod, container_id=container_id(pod.name))
        if killed_after_s is not None:
            command["argv"] = ["timeout", "-s", "KILL", f"{killed_after_s:.4f}", f"{BIN}/{binary}"]
        return self.node.together([command])[0]

    def _moment(self, share: float) -> float | None:
        """Return when a process is to be killed, None for the most of them."""
        return self.random.uniform(0.001, LONGEST_S) if self.random.random() < share else None

    def _violation(self, text: str) -> None:
        self.counted.violations += 1
        self.say(f"cycle {self.counted.cycles}: {text}")

    def cycle(self) -> None:
        """Start one pod, and end as many as are too many."""
        self.counted.cycles += 1
        self.pods += 1
        pod = self.node.pod(f"pod-{self.pods}")
        if not self._add(pod):
            if self.random.random() < 0.5:
                self._delete(pod)
            pod.delete()
        while len(self.ledger) > LIVE_AT_ONCE:
            self._end(self.random.choice(list(self.ledger)))
        if self.counted.cycles % 25 == 0:
            self.check()

    def _add(self, pod: Pod) -> bool:
        """Run the chain's ADD; tell whether it has succeeded and the pod lives."""
        at = self._moment(0.06)
        ran = self._plugin("ADD", "cni-reaper", pod, at)
        self.counted.reaper_killed += ran.rc not in (0, 1)
        if ran.rc == 1 or (at is None and ran.rc != 0):
            self._violation(f"our ADD failed: {ran}")
        if ran.rc:
            return False
        at = self._moment(0.06)
        ran = self._plugin("ADD", "host-local", pod, at)
        self.counted.host_local_killed += ran.rc not in (0, 1)
        if ran.rc == 1:
            self._violation(f"host-local has no address: {ran}")
        if ran.rc or self.random.random() < 0.05:  # killed, or a later plugin fails
            self.counted.adds_failed_halfway += 1
            return False
        address = ran.json()["ips"][0]["address"].partition("/")[0]
        if address in self.ledger:
            self._violation(f"{address} of the live {self.ledger[address].name} was given to {pod.name}")
        self.ledger[address] = pod
        return True

    def _end(self, address: str) -> None:
        """End a pod; three of ten lose their DEL."""
        pod = self.ledger.pop(address)
        if self.random.random() < 0.3:
            self.counted.dels_lost += 1
        else:
            self._delete(pod)
        pod.delete()

    def _delete(self, pod: Pod) -> None:
        self.counted.dels += 1
        self._plugin("DEL", "host-local", pod, self._moment(0.03))
        ran = self._plugin("DEL", "cni-reaper", pod, self._moment(0.06))
        self.counted.reaper_killed += ran.rc not in (0, 1)
        if ran.rc == 1:
            self._violation(f"our DEL failed: {ran}")

    def check(self) -> None:
        """See that every live pod has its reservation, and nobody else's is on it."""
        held = self.node.reservations(NETWORK)
        self.counted.most_reserved = max(self.counted.most_reserved, len(held))
        for address, pod in self.ledger.items():
            owner = held.get(address)
            if owner != (container_id(pod.name), "eth0"):
                self._violation(f"{address} of the live {pod.name} is reserved for {owner}")

    def finish(self) -> Counted:
        """End some more without DEL, run one more ADD, and count what is left of the dead."""
        for address in list(self.ledger)[::3]:
            self.ledger.pop(address).delete()
        self.network.reap()
        self.check()
        self.counted.leaks_left = len(set(self.node.reservations(NETWORK)) - set(self.ledger))
        self.counted.reaped = len(self.node.log("reaped"))
        return self.counted


def run(node: Node, cycles: int, number: int, say: Callable[[str], None] = print) -> Counted:
    """Run a soak of so many cycles from a seed and return what was counted."""
    soak = Soak(node, random.Random(number), say)
    for _ in range(cycles):
        soak.cycle()
    return soak.finish()


def main() -> int:
    """Run a soak as the arguments say and print what was counted; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="tests.prove.soak", description="Run pod cycles against the frozen executable.")
    parser.add_argument("--cycles", type=int, default=10_000, help="pods to start (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="where chance begins (default: the time)")
    arguments = parser.parse_args()
    begun = time.monotonic()
    with Node(find_programs()) as node:
        counted = run(node, arguments.cycles, arguments.seed)
    took = time.monotonic() - begun
    print(f"soak: seed {arguments.seed}, {took:.0f} s, {arguments.cycles / took:.1f} cycles a second\n{counted}")
    return 1 if counted.violations or counted.leaks_left else 0


if __name__ == "__main__":
    sys.exit(main())
