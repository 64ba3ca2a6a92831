"""The demo of the project, with a real kubelet: `./build.sh demo-kubelet`. What it says is what it has seen, or it fails."""

import sys
import time
from collections.abc import Callable

from tests.runtimes.cgroups import own_cgroups
from tests.runtimes.chain import EXHAUSTED, NETWORK, POOL, ROOM, Control, chain, held
from tests.runtimes.containerd import Containerd
from tests.runtimes.kubelet import Kubelet
from tests.support.node import Node
from tests.support.programs import find_programs
from tests.support.waiting import until

Say = Callable[[str], object]


def tell(kubelet: Kubelet, say: Say) -> None:
    """Tell of a chain that is broken for half a minute, and of a node that stays broken without us. Raises AssertionError."""
    node = kubelet.node
    chain(node, False)
    kubelet.begin()
    say(f"a node: kubelet, containerd, bridge + host-local {POOL} + portmap, without cni-reaper")
    kubelet.place("control")
    address = kubelet.wait_ready("control")
    control = Control(node, node.reservations(NETWORK)[address][0], address)
    say(f"pod control is Ready, {address}")
    kubelet.break_chain(us=False)
    kubelet.place("web")
    say("the conflist names a plugin that is not installed; pod web is wanted")
    until(lambda: kubelet.failures(EXHAUSTED), "the kubelet's retries fill the pool", 180)
    assert len(held(node)) == ROOM
    say(f"{ROOM} of {ROOM} addresses reserved: one by pod control, the others by the kubelet's failed tries")
    kubelet.repair_chain(us=False)
    say("the conflist is repaired")
    until(lambda: kubelet.failures(EXHAUSTED) >= 2, "the kubelet has tried twice since", 180)
    assert "web" not in kubelet.ready()
    assert len(held(node)) == ROOM
    say(f"and pod web is stuck all the same: {EXHAUSTED}")
    kubelet.repair_chain(us=True)
    say('{"type": "cni-reaper"} stands at the head of the conflist')
    web = kubelet.wait_ready("web")
    assert held(node) == {control.address, web}, node.log()
    control.check()
    for line in node.log("reaped"):
        say(f"reaped {line['address']}: {line['reason']}")
    say(f"pod web is Ready, {web}; pod control has answered all the time")


def main() -> int:
    """Tell it on the terminal, with the seconds since its beginning."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    with Node(find_programs(old=False)) as node, own_cgroups(node):
        try:
            tell(Kubelet(node, Containerd(node)), say)
        except AssertionError as e:
            print(f"demo-kubelet: not as promised: {e}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
