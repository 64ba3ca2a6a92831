"""Owners that an earlier ADD found LIVE: each costs one look at the path of its netns, not the reading of two files.

`/run/cni-reaper/<network>.live` is JSON {bootID: str, live: {address: [inode of the reservation, path, dev, ino, ctime]}}. While
the netns that stood at the path then stands there now, the owner is LIVE, as by row 3. This can only keep an address: whatever
has changed, or was never noted, is judged as ever.
"""

import posix

import orjson

from cni_reaper_plugin import files
from cni_reaper_plugin.facts import Mapping

MORE = 8  # new owners that are worth writing the file again

TYPE_CHECKING = False
if TYPE_CHECKING:
    Standing = dict[str, list[object]]  # address -> [inode of the reservation, path, dev, ino, ctime]

_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC | posix.O_NOFOLLOW


def still(run_dir: str, network: str, boot_id: str, reservations: dict[str, int]) -> "Standing":
    """Return what is noted of those reservations (address -> inode number) whose netns still stands where it stood."""
    try:
        noted = orjson.loads(files.read("%s/%s.live" % (run_dir, network), limit=1 << 26, flags=posix.O_NOFOLLOW))
        live = noted["live"] if noted["bootID"] == boot_id else {}
        found = {}
        for address, one in live.items():
            if reservations.get(address) == one[0]:
                try:
                    now = posix.stat(one[1])
                except OSError:
                    continue
                if now.st_ino == one[3] and now.st_ctime_ns == one[4] and now.st_dev == one[2]:
                    found[address] = one
    except (OSError, orjson.JSONDecodeError, LookupError, TypeError, AttributeError, ValueError):
        return {}
    return found


def entry(inode: int, mapping: Mapping | None) -> list[object] | None:
    """Return what is to be noted of an owner whose mapped netns stands, None where its path may be another's any time."""
    if mapping is None or mapping.now is None or mapping.of_process:
        return None
    return [inode, mapping.path, mapping.now.dev, mapping.now.ino, mapping.now.ctime]


def note(run_dir: str, network: str, boot_id: str, standing: "Standing") -> None:
    """Write the file anew. Raises OSError, and TypeError for a path that is not UTF-8."""
    data = orjson.dumps({"bootID": boot_id, "live": standing})
    files.make_directory(run_dir, 0o700)
    fd = posix.open(run_dir, _DIRECTORY)
    try:
        files.replace(network + ".live", data, fd)
    finally:
        posix.close(fd)
