"""Which boot this is, how long it has lasted, and of which node."""

import posix

from cni_reaper_plugin.system import files

_MACHINE_ID = "/etc/machine-id"
_MACHINE_ID_LENGTH = 32  # hex digits; `uninitialized` before the first boot. Source: machine-id(5)


def boot_id() -> str:
    """Return the kernel's boot ID, 36 characters, read once. Raises OSError. Source: random(4).

    A different ID proves nothing on its own: nspawn and LXC mount another one over it.
    """
    global _boot_id
    if not _boot_id:
        _boot_id = files.read("/proc/sys/kernel/random/boot_id").decode("ascii", "replace").strip()
    return _boot_id


_boot_id = ""


def boottime_s() -> float:
    """Return the seconds since boot, suspend included (CLOCK_BOOTTIME). Raises OSError. Source: proc(5), /proc/uptime."""
    return float(files.read("/proc/uptime").split()[0])


def node() -> tuple[str, str]:
    """Return this node's machine ID, "" where it has none, and its host name; read once. See other_nodes.

    The machine ID is that of PID 1: a network plugin that runs in a container of its own, with the host's PID namespace, is
    of the host. Neither is a proof alone: images are copied with their machine ID, and `localhost` is a name of many.
    """
    global _node
    if _node is None:
        name = posix.uname().nodename
        if not name.isprintable():
            name = ascii(name)  # JSON takes no byte that is not UTF-8
        _node = (_machine_id("/proc/1/root" + _MACHINE_ID) or _machine_id(_MACHINE_ID), name)
    return _node


_node: tuple[str, str] | None = None


def _machine_id(path: str) -> str:
    try:
        text = files.read(path, limit=64).decode("ascii", "replace").strip()
    except OSError:
        return ""
    return text if len(text) == _MACHINE_ID_LENGTH and text.isalnum() else ""
