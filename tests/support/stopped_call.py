"""A plugin that stops itself in the middle, by SIGSTOP at a system call of choice: no test has to hit the moment by chance."""

import itertools
import json
import shlex
from typing import Any

from tests.support.cni_calls import BIN, Pod
from tests.support.commands import Command
from tests.support.network import Network, container_id
from tests.support.node import Node
from tests.support.waiting import until

STDIN = "-"
"""For `stop_at`: the file from which the plugin reads its configuration."""
_NUMBERS = itertools.count()


class StoppedCall:
    """A call of a plugin that has done the system call it was to stop at, and nothing after it."""

    def __init__(self, node: Node, strace: int, child: int, answer: str) -> None:
        self._node, self._strace, self._child, self._answer = node, strace, child, answer

    def go_on(self) -> Any:
        """Let it go on to its end, which must be a good one; return its answer, None where it has none.

        Each thread of a Go program has a first system call of a kind, and stops at it: it is told to go on until it has ended.
        """
        until(self._has_ended, "the plugin ends")
        assert self._node.wait(self._strace) == 0, self._node.read(self._answer)
        answer = self._node.read(self._answer)
        return json.loads(answer) if answer else None

    def _has_ended(self) -> bool:
        return self._node.run(["kill", "-CONT", str(self._child)]).rc != 0

    def kill(self) -> None:
        """End it where it stands, by SIGKILL."""
        self._node.run(["kill", "-KILL", str(self._child)]).check()
        self._node.wait(self._strace)


def stop_at(node: Node, command: Command, call: str, path: str | None = None, when: int = 1) -> StoppedCall:
    """Start a plugin (see Node.plugin_command) and return once it has stopped.

    call: the system call, which is done when it stops; path: only those on this file, as the call names it; when: the how
    manieth.
    """
    number = next(_NUMBERS)
    conf, trace, answer = (f"/run/stopped-{number}.{what}" for what in ("conf", "trace", "answer"))
    node.write(conf, command["stdin"].decode())
    only = f"-P {shlex.quote(conf if path == STDIN else path)}" if path else ""
    inject = f"-f -qq -o {trace} -e trace={call} {only} -e inject={call}:signal=STOP:when={when}"
    script = f"exec strace {inject} {shlex.join(command['argv'])} < {conf} > {answer}"
    strace = node.start(["sh", "-c", script], env=command["env"])
    written = node.path(trace)
    until(lambda: written.exists() and "stopped by SIGSTOP" in written.read_text(), f"the plugin stops at {call}")
    (child,) = map(int, node.path(f"/proc/{strace}/task/{strace}/children").read_text().split())
    return StoppedCall(node, strace, child, answer)


def stopped_at(node: Node, network: Network, path: str, when: int, netns: Pod) -> tuple[int, int]:
    """Start an ADD of our plugin under strace and return its PID once it has stopped itself at an open of a file.

    The kernel stops it by SIGSTOP at the `when`-th openat(2) of the path, which no test has to hit by chance.
    """
    conf = {**network.head}
    node.write("/run/conf.json", json.dumps(conf))
    variables = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": container_id(netns.name),
        "CNI_NETNS": netns.path,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": BIN,
    }
    inject = f"-e trace=openat -P {path} -e inject=openat:signal=STOP:when={when}"
    trace = f"exec strace -qq -o /run/trace {inject} {BIN}/cni-reaper < /run/conf.json > /run/result"
    strace = node.start(["sh", "-c", trace], env=variables)
    written = node.path("/run/trace")
    until(lambda: written.exists() and "stopped by SIGSTOP" in written.read_text(), f"the plugin stops at {path}")
    (child,) = map(int, node.path(f"/proc/{strace}/task/{strace}/children").read_text().split())
    return strace, child


def resume(node: Node, strace: int, child: int) -> None:
    """Let the plugin go on to its end."""
    node.path("/run/trace").unlink()
    node.run(["kill", "-CONT", str(child)]).check()
    until(lambda: not node.path(f"/proc/{child}").exists(), "the plugin ends")
    assert json.loads(node.read("/run/result")) == {"cniVersion": "1.0.0"}
    assert strace
