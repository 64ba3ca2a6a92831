r"""Our own records: one file an attachment, `<stateDir>/<network>/<id>:<ifname>`.

A record is JSON: {v: 1, netns: str, dev: int, ino: int, ctime: ns, nsID: int, bootID: str, boottime: s, machine: str,
node: str, head: bool, pod: {namespace, name, uid}, deleted: bool}; dev to nsID are missing when the netns could not be
identified; machine and node (see system.boot.node) in those of version 0.1.0; pidNS: int is there when the path is a
process's, whose number means something in one PID namespace only. Directories are 0700, files 0600, written by temporary file
and rename. DEL adds {added: ns}, the ctime of the file that ADD wrote. A record that is missing, empty or not what we write
means "unmapped", never an error; one that cannot be read raises, and nothing is stale on it.

`<stateDir>/<network>/.lock`: an ADD that writes holds flock LOCK_SH, a DEL or GC that marks a record LOCK_EX, a sweep that drops
records LOCK_EX|LOCK_NB.
"""

from __future__ import annotations

import fcntl
import posix
from typing import TYPE_CHECKING

import orjson

from cni_reaper_plugin.attachment import Attachment, valid_ifname, valid_name
from cni_reaper_plugin.model import Mapping, Netns
from cni_reaper_plugin.system import files, flock

VERSION = 1
LOCK = ".lock"
LOCK_WAIT_S = 2.0
_LIMIT = 1 << 13  # bytes; a record has a few hundred


class Record:
    """One record as it was read.

    Attributes:
        raw: its bytes.
        mapping: what it says of the netns; `state` and `now` are not looked up.
        boottime_s: when it was written.
    """

    __slots__ = ("boottime_s", "mapping", "raw")

    def __init__(self, raw: bytes, mapping: Mapping, boottime_s: float) -> None:
        self.raw = raw
        self.mapping = mapping
        self.boottime_s = boottime_s


class Directory:
    """The records of one network. Holds a directory descriptor; a context manager."""

    __slots__ = ("_fd",)

    def __init__(self, state_dir: str, network: str, make: bool = False) -> None:
        """Open the directory, made (0700, as state_dir is) if `make`. Raises OSError, FileNotFoundError among them."""
        path = state_dir + "/" + network
        try:
            self._fd = posix.open(path, files.DIRECTORY | posix.O_NOFOLLOW)
        except FileNotFoundError:
            if not make:
                raise
            files.make_directory(state_dir, 0o700)  # before it: a parent is made for everybody to read
            files.make_directory(path, 0o700)
            self._fd = posix.open(path, files.DIRECTORY | posix.O_NOFOLLOW)

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: object) -> None:
        posix.close(self._fd)

    def names(self) -> list[tuple[str, str]]:
        """Return (container ID, ifname) of every record. Raises OSError."""
        found = []
        for name in posix.listdir(self._fd):
            container_id, colon, ifname = name.partition(":")
            if colon and valid_name(container_id) and valid_ifname(ifname):
                found.append((container_id, ifname))
        return found

    def has_temporary(self) -> bool:
        """Tell whether a process that is writing, or that was killed in it, has a temporary file here. Raises OSError."""
        return any(name.startswith(files.TEMPORARY) for name in posix.listdir(self._fd))

    def read(self, container_id: str, ifname: str) -> Record | None:
        """Return an attachment's record, None when there is none that we wrote. Raises OSError when it cannot be read."""
        raw = self._raw(container_id, ifname)
        return _parse(raw) if raw is not None else None

    def is_broken(self, container_id: str, ifname: str) -> bool:
        """Tell whether a record is as a power cut leaves it, empty, NUL bytes or cut off: a regular file that is no JSON.

        It says no more than a missing one, and nobody is writing it: a record gets its name when it is whole. Raises OSError.
        """
        raw = self._raw(container_id, ifname)
        if raw is None:
            return False
        try:
            orjson.loads(raw)
        except orjson.JSONDecodeError:
            about = posix.stat(container_id + ":" + ifname, dir_fd=self._fd, follow_symlinks=False)
            return files.is_regular(about)
        return False

    def is_over(self, container_id: str, ifname: str, is_done: IsDone) -> bool:
        """Tell whether a record can go: `is_done` says so of one that can be read, a broken one always can. Raises OSError."""
        record = self.read(container_id, ifname)
        return is_done(record, container_id, ifname) if record else self.is_broken(container_id, ifname)

    def _raw(self, container_id: str, ifname: str) -> bytes | None:
        """Return the bytes of a record, None when there is none, or what we never write. Raises OSError."""
        try:
            return files.read_small(container_id + ":" + ifname, self._fd, _LIMIT)
        except FileNotFoundError:
            return None
        except files.TooLargeError:
            return None
        except OSError as e:
            import errno

            if e.errno in (errno.ELOOP, errno.EISDIR, errno.ENAMETOOLONG):
                return None  # nothing that we wrote
            raise

    def mark_deleted(self, attachment: Attachment, record: Record) -> None:
        """Write a record again after its DEL, with the time of its ADD. The caller holds the lock. Raises OSError."""
        try:
            added_ns = self.added_ns(attachment.container_id, attachment.ifname, record)
        except OSError:
            added_ns = 0  # then the record seems younger than it is, and only that
        self.write(attachment, encode_deleted(record, added_ns))

    def added_ns(self, container_id: str, ifname: str, record: Record) -> int:
        """Return when ADD wrote an attachment's record: the ctime of its file, or what a DEL has noted of that; 0 without one.

        Raises OSError.
        """
        added = orjson.loads(record.raw).get("added")
        if type(added) is int:
            return added
        try:
            _, _, ctime = files.identity(container_id + ":" + ifname, self._fd, files.NOFOLLOW)
        except FileNotFoundError:
            return 0
        return int(ctime)

    def write(self, attachment: Attachment, data: bytes) -> None:
        """Write a record. The caller holds the lock. Raises OSError."""
        files.replace(attachment.record_name, data, self._fd)

    def remove(self, attachment: Attachment) -> None:
        """Unlink a record if it is there. Raises OSError."""
        try:
            posix.unlink(attachment.record_name, dir_fd=self._fd)
        except FileNotFoundError:
            return

    def lock_shared(self) -> int:
        """Take the lock for writing a record and return its descriptor, which the caller closes. Raises OSError.

        A sweep holds it exclusively for a moment only; after LOCK_WAIT_S the record is written all the same, since without
        one the attachment would be unmapped.
        """
        fd = flock.open_lock(LOCK, 0o600, self._fd)
        flock.take(fd, fcntl.LOCK_SH, LOCK_WAIT_S)
        return fd

    def lock_alone(self) -> int | None:
        """Take the lock for changing a record that was read, so that nobody writes in between; None when it cannot be had.

        Returns its descriptor, which the caller closes. Raises OSError.
        """
        fd = flock.open_lock(LOCK, 0o600, self._fd)
        if flock.take(fd, fcntl.LOCK_EX, LOCK_WAIT_S):
            return fd
        posix.close(fd)
        return None

    def is_writable(self) -> bool:
        """Tell whether records can be replaced here; where they cannot, one may be of an owner's last life."""
        return posix.access(".", posix.W_OK, dir_fd=self._fd)

    def drop(self, attachments: list[tuple[str, str]], is_done: IsDone) -> int:
        """Drop the records that `is_done` still agrees to under the exclusive lock, and the broken ones; return how many.

        Raises OSError. Writes nothing while another process writes. Temporary files found under this lock are dead processes'.
        """
        fd = flock.open_lock(LOCK, 0o600, self._fd)
        try:
            if not flock.take(fd, fcntl.LOCK_EX, 0):
                return 0
            dropped = 0
            for container_id, ifname in attachments:
                if self.is_over(container_id, ifname, is_done):
                    posix.unlink(container_id + ":" + ifname, dir_fd=self._fd)
                    dropped += 1
            for name in posix.listdir(self._fd):
                if name.startswith(files.TEMPORARY):
                    posix.unlink(name, dir_fd=self._fd)
            return dropped
        finally:
            posix.close(fd)


if TYPE_CHECKING:
    from collections.abc import Callable

    IsDone = Callable[[Record, str, str], bool]


def raw_record(state_dir: str, network: str, container_id: str, ifname: str) -> bytes:
    """Return the bytes of an attachment's record now, b"" when it has none. Raises OSError."""
    try:
        with Directory(state_dir, network) as directory:
            record = directory.read(container_id, ifname)
    except FileNotFoundError:
        return b""
    return record.raw if record is not None else b""


def networks(state_dir: str) -> list[str]:
    """Return the networks that have a directory of records. Raises OSError; a missing stateDir has none."""
    try:
        with posix.scandir(state_dir) as entries:
            return [entry.name for entry in entries if valid_name(entry.name) and entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def encode(
    netns_path: str,
    netns: Netns | None,
    boot_id: str,
    boottime_s: float,
    head: bool,
    pod: dict[str, str],
    node: tuple[str, str] = ("", ""),
) -> bytes:
    """Return the bytes of a new record.

    node: see system.boot.node. Raises OSError, and TypeError for a path that is not UTF-8.
    """
    record: dict[str, object] = {"v": VERSION, "netns": netns_path}
    if netns_path.startswith("/proc/"):
        record["pidNS"] = posix.stat("/proc/self/ns/pid").st_ino
    if netns is not None:
        record.update(dev=netns.dev, ino=netns.ino, ctime=netns.ctime)
        if netns.ns_id:
            record["nsID"] = netns.ns_id
    record.update(bootID=boot_id, boottime=boottime_s, machine=node[0], node=node[1], head=head, pod=pod, deleted=False)
    return orjson.dumps(record)


def encode_deleted(record: Record, added_ns: int = 0) -> bytes:
    """Return the bytes of the same record after its DEL. added_ns: when ADD wrote it, 0 where that is not known."""
    fields = orjson.loads(record.raw)
    fields["deleted"] = True
    if added_ns:
        fields["added"] = added_ns
    return orjson.dumps(fields)


def _parse(raw: bytes) -> Record | None:
    """Read a record's bytes; None when they are not what `encode` writes."""
    try:
        fields = orjson.loads(raw)
        if fields["v"] != VERSION:
            return None
        path, boot_id, boottime, pod = fields["netns"], fields["bootID"], fields["boottime"], fields["pod"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return None
    if not (type(path) is str and path[:1] == "/" and "\0" not in path):
        return None
    if not (type(boot_id) is str and type(boottime) in (float, int) and type(pod) is dict):
        return None
    mapping = Mapping("record", path)
    mapping.boot_id, mapping.pod = boot_id, pod
    mapping.head, mapping.deleted = fields.get("head") is True, fields.get("deleted") is True
    mapping.node = fields.get("machine"), fields.get("node")
    dev, ino, ctime = fields.get("dev"), fields.get("ino"), fields.get("ctime")
    if type(dev) is int and type(ino) is int and type(ctime) is int:
        ns_id = fields.get("nsID")
        mapping.recorded = Netns(dev, ino, ctime, ns_id if type(ns_id) is int else 0)
    pid_ns = fields.get("pidNS")
    if type(pid_ns) is int:
        mapping.pid_ns = pid_ns
    return Record(raw, mapping, boottime)
