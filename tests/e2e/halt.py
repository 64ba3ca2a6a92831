"""A plugin that stops itself in the middle, by SIGSTOP at a system call of choice: no test has to hit the moment by chance."""

import itertools
import json
import shlex
from typing import Any

from tests.e2e.pair import until
from tests.node import Command, Node

STDIN = "-"
"""For `halted`: the file from which the plugin reads its configuration."""
_NUMBERS = itertools.count()


class Halted:
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


def halted(node: Node, command: Command, call: str, path: str | None = None, when: int = 1) -> Halted:
    """Start a plugin (see Node.plugin_command) and return once it has stopped.

    call: the system call, which is done when it stops; path: only those on this file, as the call names it; when: the how
    manieth.
    """
    number = next(_NUMBERS)
    conf, trace, answer = (f"/run/halt-{number}.{what}" for what in ("conf", "trace", "answer"))
    node.write(conf, command["stdin"].decode())
    only = f"-P {shlex.quote(conf if path == STDIN else path)}" if path else ""
    inject = f"-f -qq -o {trace} -e trace={call} {only} -e inject={call}:signal=STOP:when={when}"
    script = f"exec strace {inject} {shlex.join(command['argv'])} < {conf} > {answer}"
    strace = node.start(["sh", "-c", script], env=command["env"])
    written = node.path(trace)
    until(lambda: written.exists() and "stopped by SIGSTOP" in written.read_text(), f"the plugin stops at {call}")
    (child,) = map(int, node.path(f"/proc/{strace}/task/{strace}/children").read_text().split())
    return Halted(node, strace, child, answer)
