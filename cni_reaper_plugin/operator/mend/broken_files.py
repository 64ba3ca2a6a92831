"""What `doctor` and `audit` say of broken files: how many, since when, which DELs they stop, and what happens next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin.mend.places import FLANNEL, LIBCNI
from cni_reaper_plugin.operator import terminal
from cni_reaper_plugin.operator.mend import cache_census, cache_places, mend
from cni_reaper_plugin.operator.mend.cache_census import Census, Seen
from cni_reaper_plugin.operator.mend.cache_places import Told

STOPS = {
    LIBCNI: "the DEL of libcni up to 1.1 (containerd 1.6 and 1.7, CRI-O up to 1.30, Podman 4)",
    FLANNEL: "each DEL of flannel's plugin",
}
"""Kind -> which calls fail while such a file is broken."""
STOPS_OLDER = "the DEL of older versions of multus"
NEXT = (
    "The next ADD that frees something removes it, and so does the boot's first ADD. The systemd unit and the DaemonSet do it "
    "within a minute. To do it now: cni-reaper mend."
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


def by_directory(found: Census) -> dict[str, list[Seen]]:
    """Return the broken files of each directory."""
    in_each: dict[str, list[Seen]] = {}
    for one in found.broken:
        in_each.setdefault(one.file.path.rpartition("/")[0], []).append(one)
    return in_each


def in_words(files: list[Seen]) -> str:
    """Return how many broken files one directory has, since when, the first of them, and which calls they stop."""
    oldest = max(one.age_s for one in files)
    causes = sorted({one.file.cause for one in files})
    stopped = STOPS.get(files[0].file.kind, STOPS_OLDER)
    ids = sorted({one.file.container_id for one in files})
    return "%d (%s), the oldest for %s. Each stops %s for its container: %d container%s, the first is %s (%s)." % (
        len(files),
        ", ".join(causes),
        terminal.age(oldest),
        stopped,
        len(ids),
        "" if len(ids) == 1 else "s",
        ids[0],
        files[0].file.path.rpartition("/")[2],
    )


def why_they_stay(told: Told) -> str:
    """Return why nothing is removed on this node, and what to do; "" where it is."""
    if told.problems:
        return f"Wrong options keep it ({'; '.join(told.problems)}): correct them."
    if told.switched_off:
        return f'"cache": false in {told.switched_off} keeps it: take that out, or remove the file by hand.'
    return f"dryRun in {told.dry_run} keeps it: take that out, or remove the file by hand." if told.dry_run else ""


def census(conf_dirs: list[str], living: Collection[str] | None) -> Census:
    """Return what an audit counts.

    conf_dirs: see cache_places.told; living: IDs of containers with a reservation that is not STALE, None to count nothing but
    broken files.
    """
    told = cache_places.told(conf_dirs)
    found_places = mend.found_places(told)
    found = cache_census.broken(found_places, told.networks)
    if living is not None:
        cache_census.count_left(found, found_places, told.networks, living)
    return found


def as_json(found: Census) -> dict[str, object]:
    """Return a census as docs/audit.schema.json describes it."""
    return {"broken": [{**one.file.fields(), "ageSeconds": one.age_s} for one in found.broken], "left": found.left}


def lines(found: Census) -> Iterator[str]:
    """Yield what an audit says of it, a line each; nothing where there is nothing to say."""
    for directory, files in by_directory(found).items():
        yield f"{directory}: broken files: {in_words(files)} {NEXT}"
    for directory, count in found.left.items():
        yield "%s: %d valid files belong to no living container; they stay, since a late DEL uses them" % (directory, count)
