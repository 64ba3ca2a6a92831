"""The mounts that this process sees. Source: proc(5), /proc/pid/mountinfo."""

from cni_reaper_plugin.system import files


def read() -> str:
    """Return them as the kernel tells them, a line each; what is not UTF-8 becomes surrogates. Raises OSError."""
    return files.read("/proc/self/mountinfo").decode("utf-8", "surrogateescape")


def point(line: str) -> str:
    """Return the mount point that a line is of."""
    return line.split(" ")[4]


def line_of(path: str, text: str) -> str:
    """Return the line of the mount that a path without links is on, "" when there is none.

    It is the one of the longest mount point, and of several there the last, which covers the others.
    """
    found, longest = "", -1
    for line in text.splitlines():
        begin = point(line)
        if (path + "/").startswith(begin.rstrip("/") + "/") and len(begin) >= longest:
            found, longest = line, len(begin)
    return found
