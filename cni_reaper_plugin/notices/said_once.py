"""What was said once in this boot, and is not to be said again: a file of JSON in /run/cni-reaper for each."""

import posix

import orjson

from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.system import files


def first_time(name: str, boot_id: str) -> bool:
    """Tell whether something is to be said for the first time in this boot, and note that it was. Raises nothing.

    name: of the file. What cannot be noted is said again.
    """
    if read(name) == boot_id:
        return False
    note(name, boot_id)
    return True


def read(name: str) -> object:
    """Return what a small file of /run/cni-reaper holds, None where there is none that we wrote. Raises nothing."""
    try:
        return orjson.loads(files.read("%s/%s" % (proven_views.RUN_DIR, name), limit=128, flags=posix.O_NOFOLLOW))
    except (OSError, ValueError):
        return None


def number(name: str, boot_id: str) -> int | None:
    """Return the number of a file that holds `[boot ID, number]`, None where it has none of this boot. Raises nothing."""
    noted = read(name)
    if not isinstance(noted, list) or len(noted) != 2 or noted[0] != boot_id or not isinstance(noted[1], int):
        return None
    return noted[1]


def note(name: str, data: object) -> None:
    """Write a small file in /run/cni-reaper, or not. Raises nothing."""
    try:
        files.replace_in(proven_views.RUN_DIR, name, orjson.dumps(data))
    except OSError:
        return
