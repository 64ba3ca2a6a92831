"""Calls of CNI plugins that run on this node, by the environment that a runtime gives them (SPEC, section "Parameters")."""

import os
import time

from cni_reaper_plugin.system import files

_SAMPLES = 5
_POLL_S = 0.1
_LIMIT = 1 << 20


def containers() -> set[str]:
    """Return the container IDs for which a plugin runs now, as far as processes can be seen from here."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                variables = dict(
                    one.partition(b"=")[::2] for one in files.read(f"/proc/{name}/environ", limit=_LIMIT).split(b"\0")
                )
            except OSError:
                continue  # it has ended
            if variables.get(b"CNI_COMMAND") and b"CNI_CONTAINERID" in variables:
                found.add(variables[b"CNI_CONTAINERID"].decode("utf-8", "backslashreplace"))
    return found


def wait_for(longest_s: float) -> set[str]:
    """Wait for the end of the calls that are running now; return the container IDs of those that have not ended in time.

    Between two plugins of one call no process runs for a moment. So a call counts as ended when none of it is seen for a while.
    """
    running: set[str] = set()
    for _ in range(_SAMPLES):
        running |= containers()
        time.sleep(_POLL_S)
    quiet, end = 0, time.monotonic() + longest_s
    while running and quiet < _SAMPLES:
        seen = containers() & running
        quiet = 0 if seen else quiet + 1
        if seen and time.monotonic() > end:
            return seen
        time.sleep(_POLL_S)
    return set()
