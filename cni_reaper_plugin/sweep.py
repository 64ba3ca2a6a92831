"""One sweep: which networks, one after the other, and what happens when one cannot be swept.

A first look, which every ADD takes, finds whether there is anything to reap; `reap` does it, and is not even loaded before.
"""

from cni_reaper_plugin import expiry, first_look, store
from cni_reaper_plugin.clock import Budget, ticks
from cni_reaper_plugin.events import DEFECT, Log
from cni_reaper_plugin.evidence import boot, views
from cni_reaper_plugin.facts import ALL, NOTHING, ONLY_REBOOTED, Call, Settings, SkippedError, StrandedError

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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_reaper_plugin.facts import Reservation
    from cni_reaper_plugin.metrics import PoolSize, Tally

    Allow = Callable[[], None]


def run(call: Call, settings: Settings, log: Log, allow: "Allow", wall_s: float = WALL_LIMIT_S) -> None:
    """Sweep every network of the settings. Raises nothing: trouble is logged, and everything in doubt stays.

    allow: fills in call.may_reap, what this call's view allows, see facts.Call; asked before anything is called stale;
    wall_s: for the whole call.
    """
    tally = _tally(log) if settings.metrics_file else None
    log = tally or log
    budget = Budget(wall_s, settings.budget_ms)
    for number, network in enumerate(_networks(call, settings, log)):
        if number and not budget.wall_left_s():
            log.info(
                "sweep-cut", network=network, reason="this call has taken all its time; the next one begins at another network"
            )
            break
        budget.next_sweep()
        if tally is not None:
            tally.begin()
        listed = None
        try:
            listed = _sweep(network, call, settings, budget, log, allow)
        except (SkippedError, OSError) as e:
            log.warning("sweep-skipped", network=network, reason=str(e))
        except StrandedError as e:
            log.error("sweep-skipped", network=network, reason=str(e))
            break
        except Exception as e:  # noqa: BLE001  the reaper is never the cause of a failed pod
            log.error("sweep-skipped", network=network, reason=DEFECT % e)
        finally:
            if tally is not None:
                tally.end(network, listed, judged=call.may_reap != ONLY_REBOOTED)
    if tally is not None:
        tally.save(settings.metrics_file, _pool_size(call, settings))


def _tally(log: Log) -> "Tally | None":
    """Return a log that counts for metricsFile; None where a damaged executable has lost it, which is no reason not to reap."""
    try:
        from cni_reaper_plugin import metrics

        return metrics.Tally(log)
    except Exception as e:  # noqa: BLE001  a module that is not what it was
        log.debug("not-counted", reason=DEFECT % e)
        return None


def _pool_size(call: Call, settings: Settings) -> "PoolSize | None":
    """Return how to learn the size of this call's network; only a DEL finds its own entry in libcni's cache."""
    attachment = call.attachment
    if call.verb != "DEL" or attachment is None:
        return None

    def learn() -> int | None:
        """Return how many addresses it has, None when nothing tells."""
        from cni_reaper_plugin import capacity

        return capacity.of_network(settings.cache_dirs, attachment)

    return attachment.network, learn


def _networks(call: Call, settings: Settings, log: Log) -> list[str]:
    """Return the networks to sweep: this call's own, and the others from another one on in each call."""
    if "*" not in settings.networks:
        return settings.networks
    try:
        found = store.networks(settings.data_dir)
    except OSError as e:
        log.warning("sweep-skipped", network="*", reason=str(e))
        return []
    own = call.attachment.network if call.attachment is not None else ""
    turn = ticks() % len(found) if found else 0
    return sorted(found[turn:] + found[:turn], key=lambda name: name != own)


def _sweep(network: str, call: Call, settings: Settings, budget: Budget, log: Log, allow: "Allow") -> int:
    """Sweep one network; return how many reservations it had.

    Raises OSError and SkippedError; then nothing, or not all, was reaped.
    """
    try:
        directory = store.Network(settings.data_dir, network)
    except FileNotFoundError:
        from cni_reaper_plugin import absent, elsewhere, store_key

        absent.tell(network, settings.data_dir, log)
        elsewhere.note(network, store_key.key(settings.data_dir, network), settings, log)
        return 0
    with directory:
        candidate, reservations = first_look.candidate(directory, call, settings, budget, log)
        if candidate is None and call.verb == "ADD":
            return directory.listed  # what else there is to do can wait for a call that nobody waits for
        allow()
        if candidate is not None:
            if call.may_reap == NOTHING:
                raise SkippedError(UNSEEN if call.verb == "ADD" or views.proven(boot.boot_id()) else UNSTARTED)
            from cni_reaper_plugin.judging import is_put_off

            if is_put_off(call):
                raise SkippedError(PUT_OFF)
            reservations = _reap_alone(directory, candidate, call, settings, budget, log)
        elif call.add_failed and call.may_reap == ALL and reservations:
            from cni_reaper_plugin import counting

            counting.count(directory, reservations, call, settings, budget, log)
    if reservations is not None and call.may_reap == ALL and not settings.dry_run and call.verb != PERSON:
        expiry.drop_records(network, reservations, settings)
    return directory.listed


def _reap_alone(
    directory: store.Network, candidate: str, call: Call, settings: Settings, budget: Budget, log: Log
) -> "list[Reservation] | None":
    """Reap while no other process reaps this network; return the snapshot, None where there is none of the whole network.

    Waiting, never skipping: whoever skips finds a full pool. Who waited while another judged all has nothing left to do, unless
    this very call tells something of its own. Raises OSError and SkippedError.
    """
    from cni_reaper_plugin.gate import Gate
    from cni_reaper_plugin.reap import reap

    gate = Gate(views.RUN_DIR, directory.key, _terms(settings))
    try:
        if not gate.is_there:
            log.debug("no-gate", network=directory.name, reason="%s cannot be written: several may scan at once" % views.RUN_DIR)
        if not gate.take(budget.wall_left_s()):
            msg = "other sweeps of this network took all the time there was"
            raise SkippedError(msg)
        if gate.was_passed() and not call.tells_of_its_own:
            log.debug("sweep-shared", network=directory.name, reason="another sweep has judged all while this one waited")
            return None
        gate.begin()
        reservations, is_whole = reap(directory, candidate, call, settings, budget, log, gate.is_waited_for)
        if is_whole and not _keeps_for_itself(call, reservations):
            gate.complete()
    finally:
        gate.close()
    return reservations


def _terms(settings: Settings) -> bytes:
    """Return the settings on which a scan's answer depends: one with dryRun, say, frees nothing for who waits."""
    return repr((settings.dry_run, settings.state_dir, settings.cache_dirs, settings.grace_s)).encode("utf-8", "surrogateescape")


def _keeps_for_itself(call: Call, reservations: "list[Reservation] | None") -> bool:
    """Tell whether a call's scan may have kept what another call's would free: what GC lists, and what a late DEL is about."""
    if call.valid is not None:
        return True
    own = call.attachment
    if call.verb != "DEL" or own is None or call.netns is not None:
        return False
    return any(one.container_id == own.container_id for one in reservations or ())
