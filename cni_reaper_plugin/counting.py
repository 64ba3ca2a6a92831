"""A full look after an ADD that failed, for the sake of counting the addresses that netns without life hold.

The pool may be full of them. Then all owners are LIVE, and no call finds anything that is worth a full look otherwise.
"""

from cni_reaper_plugin import lifeless, once
from cni_reaper_plugin.clock import Budget
from cni_reaper_plugin.events import Log
from cni_reaper_plugin.evidence import boot, views
from cni_reaper_plugin.evidence.unclaimed import Memory
from cni_reaper_plugin.facts import Call, Reservation, Settings, SkippedError
from cni_reaper_plugin.judging import AUDIT, Judging
from cni_reaper_plugin.store import Network

AGAIN_S = 600


def count(directory: Network, reservations: list[Reservation], call: Call, settings: Settings, budget: Budget, log: Log) -> None:
    """Take a full look for the sake of counting, in AGAIN_S at most one. Frees nothing; trouble is logged at `debug`.

    reservations: the whole snapshot, in which nothing is worth a full look otherwise.
    """
    if not _is_time_to_count(directory.key):
        return
    look = Call(AUDIT)  # of which nothing stays: an ADD is not put off for the time that this has taken
    look.view = call.view
    memory = Memory(views.RUN_DIR, directory.key, boot.boot_id(), look.view)
    try:
        judged = Judging(directory, reservations, [], look, settings, budget, memory).all()
        lifeless.tell(directory, judged, call, log)
    except (OSError, SkippedError) as e:
        log.debug("not-counted", network=directory.name, reason=str(e))


def _is_time_to_count(key: str) -> bool:
    """Tell whether the last count is long ago, and note that there is one now. False where that cannot be noted."""
    name, boot_id, now_s = key + ".counted", boot.boot_id(), int(boot.boottime_s())
    noted = once.read(name)
    is_ours = isinstance(noted, list) and len(noted) == 2 and noted[0] == boot_id and isinstance(noted[1], int)
    if is_ours and isinstance(noted, list) and 0 <= now_s - noted[1] < AGAIN_S:
        return False
    new: list[object] = [boot_id, now_s]
    once.note(name, new)
    return once.read(name) == new
