"""When a call of the runtime looks for broken files, and for how long.

`/run/cni-reaper/mend.due` holds the tick (clock.ticks) from which on a DEL, GC or STATUS looks; an entry with other cacheDirs
has a file of its own. plugin.verbs reads it, since it is on the path of every DEL.
"""

from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.mend.look import look
from cni_reaper_plugin.mend.places import places
from cni_reaper_plugin.model import Call
from cni_reaper_plugin.notices import said_once
from cni_reaper_plugin.options import Settings
from cni_reaper_plugin.system import clock
from cni_reaper_plugin.system.clock import Budget

EVERY_S = 60
GO_ON_S = 5  # where a look was cut: a node that has just booted is busy, and each file that is left keeps a pod from ending
WALL_S, CPU_MS = 1.0, 200
"""The most that a look takes in a call of the runtime; it is cut then, and the next one goes on from there."""


def after(call: Call, settings: Settings, log: Log, due: str, left_s: float) -> None:
    """Look for broken files at the end of a call, and note when to do it next.

    Args:
        call: for its network's name.
        settings: cache_dirs, dry_run, networks and metrics_file count.
        log: for its events.
        due: the file that says when.
        left_s: of the call's wall time.

    Raises:
        OSError: /proc cannot be read.
    """
    _due_in(due, EVERY_S)  # before: other calls need not come as well
    networks = {one for one in settings.networks if one != "*"}
    if call.attachment is not None:
        networks.add(call.attachment.network)
    budget = Budget(min(WALL_S, left_s), CPU_MS)
    found = look(places(settings.cache_dirs), log, dry_run=settings.dry_run, budget=budget, networks=networks)
    if settings.metrics_file and found.removed and not settings.dry_run:
        from cni_reaper_plugin import metrics

        metrics.save_removed(settings.metrics_file, [one.kind for one in found.removed], log)
    next_s = [one.wait_s for one in found.waiting] + [GO_ON_S] * (not found.is_whole)
    if next_s:
        _due_in(due, min(next_s))


def _due_in(due: str, seconds: float) -> None:
    said_once.note(due, clock.ticks() + int(seconds * clock.TICKS_A_SECOND))
