"""One call's sweeps: which networks, one after the other, and what happens when one cannot be swept.

A quick scan, which every ADD takes, finds whether there is anything to reap; `reap_network` does it, and is not
even loaded before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin.event_log import DEFECT, Log
from cni_reaper_plugin.host_local import store
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.model import ALL, NEEDS_NO_POD, NOTHING, Call, SkippedError, StrandedError
from cni_reaper_plugin.network_sweep import NetworkSweep, Result
from cni_reaper_plugin.reaper import quick_scan, record_expiry
from cni_reaper_plugin.system import boot
from cni_reaper_plugin.system.clock import Budget, ticks

PERSON = "REAP"  # the verb of a sweep that a person asks for
WALL_LIMIT_S = 20.0  # for all networks of a call and every wait in it; a kubelet gives a sandbox two minutes
UNSEEN = (
    "this process cannot be sure to see the pods' network namespaces: it runs in a daemon's mount namespace, "
    "or could not read them (event=blind)"
)
UNSTARTED = (
    "this process cannot be sure to see the pods' network namespaces before a pod has started in this boot; "
    "the first ADD that reaches cni-reaper frees what has leaked"
)
PUT_OFF = "a look around this node took too long a while ago (open files?): left to the next DEL, and to an ADD in ten minutes"
NO_TIME = "this call has taken all its time; the next one begins at another network"

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from cni_reaper_plugin.model import Reservation
    from cni_reaper_plugin.options import Settings

    Allow = Callable[[], None]


def run(call: Call, settings: Settings, log: Log, allow: Allow, budget: Budget) -> list[Result]:
    """Sweep every network of the settings; return what came of each. Raises nothing: everything in doubt stays.

    allow: fills in call.may_reap, what this call's view allows, see model.Call; asked before anything is called stale;
    budget: of the whole call, begun when that began. Trouble is in the log and in the results.
    """
    metrics = _metrics(log) if settings.metrics_file else None
    results: list[Result] = []
    for network in _networks(call, settings, log, results):
        result = Result(network)
        results.append(result)
        if len(results) > 1 and not budget.wall_left_s():
            result.cut = NO_TIME
            log.info("sweep-cut", network=network, reason=NO_TIME)
            break
        budget.next_sweep()
        began_s = metrics.now_s() if metrics is not None else 0.0
        goes_on = _sweep_safely(result, call, settings, budget, log, allow)
        if metrics is not None:
            result.took_s = metrics.now_s() - began_s
        if not goes_on:
            break
    if metrics is not None:
        metrics.save(settings.metrics_file, results, log)
    return results


def _metrics(log: Log) -> ModuleType | None:
    """Return the module that counts for metricsFile; None where a damaged executable has lost it: no reason not to reap."""
    try:
        from cni_reaper_plugin import metrics
    except Exception as e:  # noqa: BLE001  a module that is not what it was
        log.debug("not-counted", reason=DEFECT % e)
        return None
    return metrics


def _networks(call: Call, settings: Settings, log: Log, results: list[Result]) -> list[str]:
    """Return the networks to sweep: this call's own, and the others from another one on in each call.

    results: gets one of network "*" where they cannot be listed.
    """
    if "*" not in settings.networks:
        return settings.networks
    try:
        found = store.networks(settings.data_dir)
    except OSError as e:
        results.append(Result("*"))
        results[-1].skipped = str(e)
        log.warning("sweep-skipped", network="*", reason=str(e))
        return []
    own = call.attachment.network if call.attachment is not None else ""
    turn = ticks() % len(found) if found else 0
    return sorted(found[turn:] + found[:turn], key=lambda name: name != own)


def _sweep_safely(result: Result, call: Call, settings: Settings, budget: Budget, log: Log, allow: Allow) -> bool:
    """Sweep one network, whatever happens; return whether this process may look at another one."""
    try:
        _sweep(result, call, settings, budget, log, allow)
    except (SkippedError, OSError) as e:
        result.skipped = str(e)
        log.warning("sweep-skipped", network=result.network, reason=str(e))
    except StrandedError as e:
        result.failed = str(e)
        log.error("sweep-skipped", network=result.network, reason=str(e))
        return False
    except Exception as e:  # noqa: BLE001  the reaper is never the cause of a failed pod
        result.failed = DEFECT % e
        log.error("sweep-skipped", network=result.network, reason=result.failed)
    result.judged = call.may_reap is not NEEDS_NO_POD
    return True


def _sweep(result: Result, call: Call, settings: Settings, budget: Budget, log: Log, allow: Allow) -> None:
    """Sweep one network. Raises OSError and SkippedError; then nothing, or not all, was reaped."""
    try:
        network = store.Network(settings.data_dir, result.network)
    except FileNotFoundError:
        from cni_reaper_plugin.host_local import store_key
        from cni_reaper_plugin.notices import no_reservations, store_elsewhere

        no_reservations.tell(result.network, settings.data_dir, log)
        store_elsewhere.note(result.network, store_key.key(settings.data_dir, result.network), settings, log)
        result.listed = 0
        return
    with network:
        sweep = NetworkSweep(network, call, settings, budget, log, result)
        candidate, reservations = quick_scan.candidate(sweep)
        if candidate is None and call.verb == "ADD":
            result.listed = network.listed
            return  # what else there is to do can wait for a call that nobody waits for
        allow()
        if candidate is not None:
            if call.may_reap is NOTHING:
                raise SkippedError(UNSEEN if call.verb == "ADD" or proven_views.proven(boot.boot_id()) else UNSTARTED)
            from cni_reaper_plugin.reaper.full_scan import is_put_off

            if is_put_off(call):
                raise SkippedError(PUT_OFF)
            reservations = _reap_alone(sweep, candidate)
        elif call.add_failed and call.may_reap is ALL and reservations:
            from cni_reaper_plugin.reaper import lifeless_count

            lifeless_count.count(sweep, reservations)
    if reservations is not None and call.may_reap is ALL and not settings.dry_run and call.verb != PERSON:
        record_expiry.drop_records(result.network, reservations, settings)
    result.listed = network.listed


def _reap_alone(sweep: NetworkSweep, candidate: str) -> list[Reservation] | None:
    """Reap while no other process reaps this network; return the snapshot, None where there is none of the whole network.

    Waiting, never skipping: whoever skips finds a full pool. Who waited while another judged all has nothing left to do, unless
    this very call tells something of its own. Raises OSError and SkippedError.
    """
    from cni_reaper_plugin.reaper.gate import Gate
    from cni_reaper_plugin.reaper.reap_network import reap

    name, call, log = sweep.network.name, sweep.call, sweep.log
    gate = Gate(proven_views.RUN_DIR, sweep.network.key, _terms(sweep.settings))
    try:
        if not gate.is_there:
            log.debug("no-gate", network=name, reason="%s cannot be written: several may scan at once" % proven_views.RUN_DIR)
        if not gate.take(sweep.budget.wall_left_s()):
            msg = "other sweeps of this network took all the time there was"
            raise SkippedError(msg)
        if gate.was_passed() and not call.tells_of_its_own:
            log.debug("sweep-shared", network=name, reason="another sweep has judged all while this one waited")
            return None
        gate.begin()
        reservations, is_whole = reap(sweep, candidate, gate.is_waited_for)
        if is_whole and not _keeps_for_itself(call, reservations):
            gate.complete()
    finally:
        gate.close()
    return reservations


def _terms(settings: Settings) -> bytes:
    """Return the settings on which a scan's answer depends: one with dryRun, say, frees nothing for who waits."""
    return repr((settings.dry_run, settings.state_dir, settings.cache_dirs, settings.grace_s)).encode("utf-8", "surrogateescape")


def _keeps_for_itself(call: Call, reservations: list[Reservation] | None) -> bool:
    """Tell whether a call's scan may have kept what another call's would free: what GC lists, and what a late DEL is about."""
    if call.valid is not None:
        return True
    own = call.attachment
    if call.verb != "DEL" or own is None or call.netns is not None:
        return False
    return any(one.container_id == own.container_id for one in reservations or ())
