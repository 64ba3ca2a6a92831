"""Small files read and written whole, by descriptor, with nothing but `posix`."""

import posix

TEMPORARY = ".new-"  # no container ID starts with a dot
GONE_ERRNOS = (2, 3, 20)  # ENOENT, ESRCH, ENOTDIR: only these mean that nothing is there; to import `errno` costs a start 1 %
CHUNK = 1 << 16  # below malloc's mmap threshold
HERE = -100  # AT_FDCWD, include/uapi/linux/fcntl.h
NOFOLLOW = 0x100  # AT_SYMLINK_NOFOLLOW
UNASKED = 0x4000  # AT_STATX_DONT_SYNC: no server is asked, and one that hangs is not waited for
DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
"""open(2) flags of a directory."""
_READ = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK


def _identity(path: str, dir_fd: int, flags: int) -> tuple[int, int, int]:
    """Return (st_dev, st_ino, st_ctime in ns) by fstatat(2). Raises OSError, ValueError.

    dir_fd: may be HERE; flags: NOFOLLOW, UNASKED.
    """
    about = posix.stat(path, dir_fd=None if dir_fd == HERE else dir_fd, follow_symlinks=not flags & NOFOLLOW)
    return about.st_dev, about.st_ino, about.st_ctime_ns


try:
    import _kernel  # type: ignore[import-not-found]  # packaging/bootloader/kernel.c; an ADD asks twice for each live reservation

    identity = _kernel.identity
except ImportError:  # run from source
    identity = _identity


class TooLargeError(OSError):
    """The file is longer than anyone who writes it properly makes it."""


def read(path: str, dir_fd: int | None = None, limit: int = 1 << 26, flags: int = 0) -> bytes:
    """Return the bytes of a file.

    flags: more open(2) flags, such as O_NOFOLLOW. A FIFO does not block. Raises OSError; TooLargeError above `limit` bytes.
    """
    fd = posix.open(path, _READ | flags, dir_fd=dir_fd)
    try:
        return read_open(fd, path, limit)
    finally:
        posix.close(fd)


def read_open(fd: int, path: str, limit: int) -> bytes:
    """Return the bytes of an open file, from where it stands. path: for the error. As `read` otherwise."""
    data = chunk = posix.read(fd, CHUNK)
    if not chunk:
        return data
    parts = [data]
    size = len(data)
    while chunk := posix.read(fd, CHUNK):
        parts.append(chunk)
        size += len(chunk)
        if size > limit:
            raise TooLargeError(path)
    return b"".join(parts)


def is_regular(about: posix.stat_result) -> bool:
    """Tell whether a stat(2) is of a regular file, inode(7)."""
    return about.st_mode & 0o170000 == 0o100000


def read_small(path: str, dir_fd: int | None, limit: int) -> bytes:
    """Return the bytes of a regular file that has a few of them, by one read(2); no symlink is followed.

    Raises OSError; TooLargeError when the file has `limit` bytes or more.
    """
    fd = posix.open(path, _READ | posix.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        data = posix.read(fd, limit)
    finally:
        posix.close(fd)
    if len(data) == limit:
        raise TooLargeError(path)
    return data


def open_on_device(path: str, device: int) -> int:
    """Open a file for reading if it is on a device, and return its descriptor, which the caller closes.

    What the path leads to is looked at before it is opened: it may be a device by now, and opening one can do things, or of a
    file system whose server hangs. Raises OSError.
    """
    pinned = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
    try:
        here = "/proc/self/fd/%d" % pinned  # by its number fstatat(2) asks the server, whatever the flags
        if identity(here, HERE, UNASKED)[0] != device:
            import errno

            raise OSError(errno.EXDEV, "not the file it was", path)
        return posix.open(here, _READ)
    finally:
        posix.close(pinned)


def make_directory(path: str, mode: int) -> None:
    """Make a directory with its parents; these are for everybody to read, as a runtime makes them. Raises OSError."""
    try:
        posix.mkdir(path, mode)
    except FileExistsError:
        return
    except FileNotFoundError:
        parent = path.rstrip("/").rpartition("/")[0]
        if not parent:
            raise
        make_directory(parent, 0o755)
        posix.mkdir(path, mode)


def _new_file(dir_fd: int) -> tuple[int, str]:
    """Create a file under a fresh temporary name, mode 0600; processes of other PID namespaces may have our number."""
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC | posix.O_NOFOLLOW
    for attempt in range(100):
        name = "%s%d-%d" % (TEMPORARY, posix.getpid(), attempt)
        try:
            return posix.open(name, flags, 0o600, dir_fd=dir_fd), name
        except FileExistsError:
            continue
    import errno

    raise FileExistsError(errno.EEXIST, "100 temporary files of dead processes are in the way")


def replace(name: str, data: bytes, dir_fd: int, mode: int = 0o600) -> None:
    """Write a file by temporary file and rename(2), so that a reader sees the old or the new, never a part.

    mode: whatever the umask is. Raises OSError, and leaves no temporary file then.
    """
    fd, temporary = _new_file(dir_fd)
    try:
        try:
            if mode != 0o600:
                posix.fchmod(fd, mode)
            rest = data
            while rest:
                rest = rest[posix.write(fd, rest) :]
        finally:
            posix.close(fd)
        posix.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except OSError:
        posix.unlink(temporary, dir_fd=dir_fd)
        raise


def replace_in(directory: str, name: str, data: bytes) -> None:
    """Write a file of root's in a directory of root's, which is made where it is not there; see `replace`. Raises OSError.

    directory: a path whose last part is no symlink.
    """
    make_directory(directory, 0o700)
    fd = posix.open(directory, DIRECTORY | posix.O_NOFOLLOW)
    try:
        replace(name, data, fd)
    finally:
        posix.close(fd)
