"""A full scan after an ADD that failed, for the sake of counting the addresses that netns without life hold.

The pool may be full of them. Then all owners are LIVE, and no call finds anything that is worth a full scan otherwise.
"""

from cni_reaper_plugin.model import Call, Reservation, SkippedError
from cni_reaper_plugin.network_sweep import NetworkSweep
from cni_reaper_plugin.notices import lifeless, said_once
from cni_reaper_plugin.reaper import quick_scan
from cni_reaper_plugin.reaper.full_scan import AUDIT, Judging
from cni_reaper_plugin.system import boot

AGAIN_S = 600


def count(sweep: NetworkSweep, reservations: list[Reservation]) -> None:
    """Take a full scan for the sake of counting, in AGAIN_S at most one. Frees nothing; trouble is logged at `debug`.

    reservations: the whole snapshot, in which nothing is worth a full scan otherwise.
    """
    if not _is_time_to_count(sweep.network.key):
        return
    call = Call(AUDIT)  # of which nothing stays: an ADD is not put off for the time that this has taken
    call.view = sweep.call.view
    look = NetworkSweep(sweep.network, call, sweep.settings, sweep.budget, sweep.log, sweep.result)
    try:
        judged = Judging(look, reservations, [], quick_scan.memory(look)).all()
        lifeless.tell(sweep, judged)
    except (OSError, SkippedError) as e:
        sweep.log.debug("not-counted", network=sweep.network.name, reason=str(e))


def _is_time_to_count(key: str) -> bool:
    """Tell whether the last count is long ago, and note that there is one now. False where that cannot be noted."""
    name, boot_id, now_s = key + ".counted", boot.boot_id(), int(boot.boottime_s())
    last_s = said_once.number(name, boot_id)
    if last_s is not None and 0 <= now_s - last_s < AGAIN_S:
        return False
    said_once.note(name, [boot_id, now_s])
    return said_once.number(name, boot_id) == now_s
