"""Which boot this is, and how long it has lasted."""

from cni_reaper_plugin import files


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
