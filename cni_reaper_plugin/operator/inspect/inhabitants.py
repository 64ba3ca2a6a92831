"""Who lives in a network namespace, in words: for a person who is to end what keeps an address."""

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

from cni_reaper_plugin.namespaces import netns
from cni_reaper_plugin.scan_model import VisibleNetns

_UNIT = re.compile(r"[^/:\n]+\.(?:service|scope)(?=/|$)", re.MULTILINE)
_NO_PATH = "one without a path"


def told(visible: Iterable[VisibleNetns]) -> list[str]:
    """Return each netns with its path, the first process in it and that one's unit; in the order of the paths."""
    wanted = sorted(visible, key=lambda seen: seen.place or _NO_PATH)
    inside: dict[int, list[int]] = {seen.netns.ino: [] for seen in wanted}
    for process in Path("/proc").iterdir() if wanted else ():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                inside.get(netns.identify_ino(f"{process}/ns/net"), []).append(int(process.name))
    return [f"{seen.place or _NO_PATH} ({_processes(sorted(inside[seen.netns.ino]))})" for seen in wanted]


def _processes(pids: list[int]) -> str:
    if not pids:
        return "no process"
    name = unit = ""
    with contextlib.suppress(OSError):
        name = Path(f"/proc/{pids[0]}/comm").read_text(errors="replace").strip()
        unit = next(iter(_UNIT.findall(Path(f"/proc/{pids[0]}/cgroup").read_text(errors="replace"))[-1:]), "")
    words = " ".join(("process", str(pids[0]), name)).strip()
    more = "%d more" % (len(pids) - 1) if len(pids) > 1 else ""
    return ", ".join(word for word in (words, unit, more) if word)
