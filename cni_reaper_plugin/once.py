"""What was said once in this boot, and is not to be said again: a file of JSON in /run/cni-reaper for each."""

import posix

import orjson

from cni_reaper_plugin import files
from cni_reaper_plugin.evidence import views


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
        return orjson.loads(files.read("%s/%s" % (views.RUN_DIR, name), limit=128, flags=posix.O_NOFOLLOW))
    except (OSError, ValueError):
        return None


def note(name: str, data: object) -> None:
    """Write a small file in /run/cni-reaper, or not. Raises nothing."""
    try:
        files.make_directory(views.RUN_DIR, 0o700)
        fd = posix.open(views.RUN_DIR, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC | posix.O_NOFOLLOW)
        try:
            files.replace(name, orjson.dumps(data), fd)
        finally:
            posix.close(fd)
    except OSError:
        return
