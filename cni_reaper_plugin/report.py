"""What became of a reservation, as one event each, with its likely cause. Imported when there is something to say."""

from cni_reaper_plugin.events import Log
from cni_reaper_plugin.facts import (
    ADDED_AGAIN,
    EMPTY,
    FORCED,
    LEFT_BY_DEL,
    NETNS_GONE,
    NO_NETNS_LEFT,
    NOT_LISTED,
    REBOOTED,
    UNCLAIMED,
    Evidence,
    Reservation,
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


def reaped(reservation: Reservation, evidence: Evidence, reason: str, log: Log, dry_run: bool = False) -> None:
    """Say that a reservation is freed, or with dryRun that it would be."""
    fields = _fields(reservation, evidence, reason)
    log.info("would-reap" if dry_run else "reaped", **fields, cause=CAUSES.get(reason))


def kept(reservation: Reservation, evidence: Evidence, reason: str, log: Log) -> None:
    """Say that nobody knows the owner: at `info` once per boot, at `debug` from then on, at `warning` if that is for an error."""
    level = log.warning if evidence.trouble else log.debug if evidence.unclaimed is not None else log.info
    level("kept", **_fields(reservation, evidence, reason))


def unlisted(reservation: Reservation, evidence: Evidence, reason: str, log: Log) -> None:
    """Say that an owner that GC's list does not name is LIVE."""
    log.info("live-unlisted", **_fields(reservation, evidence, reason))


def kept_live(reservation: Reservation, evidence: Evidence, reason: str, place: str, log: Log) -> None:
    """Say that an owner which the first look takes for stale is LIVE by a full scan, and where stands what proves it."""
    log.debug("kept-live", **_fields(reservation, evidence, reason), place=place)


def not_freed(reservation: Reservation, evidence: Evidence, reason: str, log: Log) -> None:
    """Say that a STALE reservation was not removed: under host-local's lock it is not what was judged, or time was up."""
    log.debug("not-freed", **_fields(reservation, evidence, reason), cause="it has changed since it was judged, or time was up")


def refused(reservation: Reservation, error: OSError, log: Log) -> None:
    """Say that a reservation could not be unlinked."""
    fields = {"network": reservation.network, "address": reservation.address, "container": reservation.container_id}
    log.warning("not-reaped", **fields, reason=str(error))


def _fields(reservation: Reservation, evidence: Evidence, reason: str) -> dict[str, object]:
    import time

    pod = evidence.mapping.pod if evidence.mapping is not None else {}
    return {
        "network": reservation.network,
        "address": reservation.address,
        "container": reservation.container_id,
        "ifname": reservation.ifname,
        "pod": "%s/%s" % (pod["namespace"], pod["name"]) if pod.get("namespace") and pod.get("name") else "",
        "age_s": max(0, int(time.time() - reservation.mtime_s)) if reservation.ino else None,
        "reason": reason,
    }
