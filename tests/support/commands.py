"""Commands in a node: how one is described, and what came of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from tests.support.cni_calls import Pod

Command = dict[str, Any]
"""What `command` returns and `Node.together` takes."""

HANG_S = 600.0
"""Seconds after which something counts as hung. No test depends on how fast anything is, so that a busy machine fails none."""
BASE_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Ran:
    """What a command did. `rc` is None when it ran into its timeout and was killed."""

    argv: Sequence[str]
    rc: int | None
    out: bytes
    err: bytes
    seconds: float

    def __str__(self) -> str:
        text = f"{' '.join(self.argv)}\n  exit code {self.rc} after {self.seconds:.3f} s"
        for name, stream in (("stdout", self.out), ("stderr", self.err)):
            if stream:
                text += f"\n  {name}: {stream.decode(errors='replace').strip()}"
        return text

    def check(self) -> Self:
        """Fail the test, showing everything, unless the exit code is 0; return self."""
        assert self.rc == 0, str(self)
        return self

    def json(self) -> Any:
        """Parse stdout as JSON."""
        return json.loads(self.out)

    @property
    def text(self) -> str:
        """Stdout and stderr as text, for a look at messages."""
        return (self.out + self.err).decode(errors="replace")


def command(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    timeout: float = HANG_S,
    cwd: str = "/",
    netns: "Pod | str | None" = None,
) -> Command:
    """Describe a command for `Node.together`; the arguments are those of `Node.run`."""
    if netns is not None:
        argv = ["nsenter", f"--net={netns if isinstance(netns, str) else netns.path}", *argv]
    return {"argv": list(argv), "env": {**BASE_ENV, **(env or {})}, "stdin": stdin, "timeout": timeout, "cwd": cwd}
