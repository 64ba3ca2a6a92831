"""What becomes of a reservation: into the sweep's result, and into the log as one event each, with its likely cause.

Imported when there is something to say.
"""

from cni_reaper_plugin.model import Judged, Reservation
from cni_reaper_plugin.network_sweep import NetworkSweep
from cni_reaper_plugin.reasons import (
    ADDED_AGAIN,
    EMPTY,
    FORCED,
    LEFT_BY_DEL,
    NETNS_GONE,
    NO_NETNS_LEFT,
    NOT_LISTED,
    REBOOTED,
    UNCLAIMED,
)

CAUSES = {
    REBOOTED: "the node rebooted and no DEL came for this container",
    NETNS_GONE: "DEL never came, or failed, and the runtime removed the netns all the same",
    NO_NETNS_LEFT: "DEL never came, or failed, before cni-reaper was in the chain",
    UNCLAIMED: "DEL never came, or failed, before cni-reaper was in the chain",
    NOT_LISTED: "the runtime has forgotten this container without a DEL",
    EMPTY: "host-local was killed, or the disk was full, between creating and writing the file",
    ADDED_AGAIN: "the runtime starts the same container again and never sent its DEL",
    LEFT_BY_DEL: "a plugin of the chain answered DEL with success and released nothing",
    FORCED: "an operator said that the owner is dead",
}


def freed(sweep: NetworkSweep, judged: Judged) -> None:
    """Say that a reservation is freed."""
    sweep.result.freed.append(judged)
    sweep.log.info("reaped", **of_freed(judged))


def would_free(sweep: NetworkSweep, judged: Judged) -> None:
    """Say that a reservation would be freed but for dryRun."""
    sweep.result.would_free[judged.reservation.address] = judged
    sweep.log.info("would-reap", **of_freed(judged))


def refused(sweep: NetworkSweep, reservation: Reservation, error: OSError) -> None:
    """Say that a reservation could not be unlinked."""
    sweep.result.refused.append((reservation, error))
    fields = {"network": reservation.network, "address": reservation.address, "container": reservation.container_id}
    sweep.log.warning("not-reaped", **fields, reason=str(error))


def kept(sweep: NetworkSweep, judged: Judged) -> None:
    """Say that nobody knows the owner: at `info` once per boot, at `debug` from then on, at `warning` if that is for an error."""
    sweep.result.kept[judged.reservation.address] = judged
    log, evidence = sweep.log, judged.evidence
    level = log.warning if evidence.trouble else log.debug if evidence.unclaimed is not None else log.info
    level("kept", **_fields(judged))


def unlisted(sweep: NetworkSweep, judged: Judged) -> None:
    """Say that an owner that GC's list does not name is LIVE."""
    sweep.log.info("live-unlisted", **_fields(judged))


def kept_live(sweep: NetworkSweep, judged: Judged, place: str) -> None:
    """Say that an owner which the quick scan takes for stale is LIVE by a full scan, and where stands what proves it."""
    sweep.log.debug("kept-live", **_fields(judged), place=place)


def published(sweep: NetworkSweep, judged: Judged, is_news: bool) -> None:
    """Say that a STALE reservation stays, since what leads to it could not be taken back: at `warning` where that is news."""
    sweep.result.published[judged.reservation.address] = judged
    (sweep.log.warning if is_news else sweep.log.debug)("kept", **_fields(judged))


def not_freed(sweep: NetworkSweep, judged: Judged) -> None:
    """Say that a STALE reservation was not removed: under host-local's lock it is not what was judged, or time was up."""
    sweep.log.debug("not-freed", **_fields(judged), cause="it has changed since it was judged, or time was up")


def of_freed(judged: Judged) -> dict[str, object]:
    """Return what is said of a reservation that is freed, or would be, by key."""
    return {**_fields(judged), "cause": CAUSES.get(judged.reason)}


def _fields(judged: Judged) -> dict[str, object]:
    import time

    reservation, mapping, reason = judged.reservation, judged.evidence.mapping, judged.reason
    pod = mapping.pod if mapping is not None else {}
    return {
        "network": reservation.network,
        "address": reservation.address,
        "container": reservation.container_id,
        "ifname": reservation.ifname,
        "pod": "%s/%s" % (pod["namespace"], pod["name"]) if pod.get("namespace") and pod.get("name") else "",
        "age_s": max(0, int(time.time() - reservation.mtime_s)) if reservation.ino else None,
        "reason": reason.code,
        "detail": reason.text if reason.says_more else None,
    }
