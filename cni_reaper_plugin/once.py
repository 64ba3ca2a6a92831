"""What is told once per boot: a file below /run/cni-reaper holds what was told last."""

import posix

from cni_reaper_plugin import files


def was_told(run_dir: str, name: str, now: bytes) -> bool:
    """Tell whether a file says the same as `now`, and write it if not; what cannot be noted is told again. Raises nothing."""
    try:
        files.make_directory(run_dir, 0o700)
        fd = posix.open(run_dir, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC | posix.O_NOFOLLOW)
    except OSError:
        return False
    try:
        if posix.access(name, posix.F_OK, dir_fd=fd) and files.read(name, fd, 1 << 16, posix.O_NOFOLLOW) == now:
            return True
        files.replace(name, now, fd)
    except OSError:
        return False
    finally:
        posix.close(fd)
    return False
