"""Nodes that share a store: a file system in user space, as the client of a server has it; and the nodes of one kernel."""

import sys
from pathlib import Path

from tests.support import agent
from tests.support.node import Node
from tests.support.waiting import until

CLIENT = r"""
import ctypes, os, stat, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
source, place, told = sys.argv[1:]
device = os.open("/srv/fuse", os.O_RDWR)
data = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % device
if libc.mount(b"fuse", place.encode(), b"fuse", 0, data):
    raise OSError(ctypes.get_errno(), "mount")
paths, numbers = {1: source}, {source: 1}
def attributes(path):
    a = os.lstat(path)
    times = (a.st_atime_ns, a.st_mtime_ns, a.st_ctime_ns)
    return struct.pack("<6Q10I", a.st_ino, a.st_size, a.st_blocks, *(t // 10**9 for t in times), *(t % 10**9 for t in times),
                       a.st_mode, a.st_nlink, a.st_uid, a.st_gid, 0, 4096, 0)
def entry(path):
    about = attributes(path)
    number = numbers.setdefault(path, len(numbers) + 1)
    paths[number] = path
    return struct.pack("<4QII", number, 0, 0, 0, 0, 0) + about
def listing(path, offset):
    out = b""
    for at, one in enumerate(sorted(os.listdir(path))[offset:], offset + 1):
        name = one.encode()
        kind = stat.S_IFMT(os.lstat(f"{path}/{one}").st_mode) >> 12
        out += struct.pack("<QQII", at + 1, at, len(name), kind) + name + bytes(-len(name) % 8)
        if len(out) > 3000:
            break
    return out
def names(raw):
    return [one.decode() for one in raw.split(b"\0")]
def serve(kind, node, raw):
    path = paths.get(node, "")
    if kind == 26:  # INIT
        return struct.pack("<IIIIHHII", 7, 31, 65536, 0, 12, 10, 65536, 1) + bytes(36)
    if kind == 1:  # LOOKUP
        return entry(f"{path}/{names(raw)[0]}")
    if kind == 3:  # GETATTR
        return struct.pack("<QII", 0, 0, 0) + attributes(path)
    if kind == 4:  # SETATTR
        valid, = struct.unpack_from("<I", raw)
        if valid & 8:
            os.truncate(path, struct.unpack_from("<Q", raw, 16)[0])
        if valid & 1:
            os.chmod(path, stat.S_IMODE(struct.unpack_from("<I", raw, 68)[0]))
        return struct.pack("<QII", 0, 0, 0) + attributes(path)
    if kind == 9:  # MKDIR
        made = f"{path}/{names(raw[8:])[0]}"
        os.mkdir(made, struct.unpack_from("<I", raw)[0])
        return entry(made)
    if kind in (10, 11):  # UNLINK, RMDIR
        (os.unlink if kind == 10 else os.rmdir)(f"{path}/{names(raw)[0]}")
        return b""
    if kind in (12, 45):  # RENAME, RENAME2
        old, new = names(raw[8 if kind == 12 else 16:])[:2]
        os.rename(f"{path}/{old}", f"{paths[struct.unpack_from('<Q', raw)[0]]}/{new}")
        return b""
    if kind == 14:  # OPEN
        return struct.pack("<QII", os.open(path, struct.unpack_from("<I", raw)[0] & ~os.O_APPEND | os.O_NOFOLLOW), 1, 0)
    if kind == 35:  # CREATE
        flags, mode = struct.unpack_from("<II", raw)
        made = f"{path}/{names(raw[16:])[0]}"
        opened = os.open(made, flags | os.O_CREAT, stat.S_IMODE(mode))
        return entry(made) + struct.pack("<QII", opened, 1, 0)
    if kind == 15:  # READ
        fd, offset, size = struct.unpack_from("<QQI", raw)
        return os.pread(fd, size, offset)
    if kind == 16:  # WRITE
        fd, offset, size = struct.unpack_from("<QQI", raw)
        return struct.pack("<II", os.pwrite(fd, raw[40:40 + size], offset), 0)
    if kind == 17:  # STATFS
        return struct.pack("<5Q4I", 0, 9**9, 9**9, 9**9, 9**9, 4096, 255, 4096, 0) + bytes(24)
    if kind == 18:  # RELEASE
        os.close(struct.unpack_from("<Q", raw)[0])
        return b""
    if kind in (20, 25, 29, 34):  # FSYNC, FLUSH, RELEASEDIR, ACCESS
        return b""
    if kind == 27:  # OPENDIR
        return struct.pack("<QII", 0, 0, 0)
    if kind == 28:  # READDIR
        return listing(path, struct.unpack_from("<QQI", raw)[1])
    raise OSError(38, "ENOSYS")
def loop():
    while True:
        request = os.read(device, 1 << 20)
        _, kind, unique, node = struct.unpack_from("<IIQQ", request)
        if kind in (2, 36, 42):  # FORGET, INTERRUPT, BATCH_FORGET
            continue
        try:
            answer, error = serve(kind, node, request[40:]), 0
        except OSError as e:
            answer, error = b"", -e.errno
        os.write(device, struct.pack("<IiQ", 16 + len(answer), error, unique) + answer)
threading.Thread(target=loop, daemon=True).start()
os.stat(place)
open(told, "w").close()
time.sleep(3600)
"""
"""A client of a file system: what is in a directory, over FUSE. Nothing is cached, and a lock is the client's own."""


def mount_client(node: Node, source: Path, place: str) -> None:
    """Mount such a file system in a node."""
    node.mount("tmpfs", "/srv", "tmpfs")
    node.run(["mknod", "--mode=666", "/srv/fuse", "c", "10", "229"]).check()  # as on a node, whatever /dev/fuse is here
    node.path(place).mkdir(parents=True, exist_ok=True)
    node.start([sys.executable, "-I", "-c", CLIENT, str(source), place, "/run/mounted"])
    until(node.path("/run/mounted").exists, "the file system answers")


OWN_ID = f"{agent.NODE_OWN}/machine-id"


def name(node: Node, machine_id: str, host: str) -> None:
    """Give a node a machine ID of its own, "" for none, and a host name; to be called once."""
    rename(node, machine_id, host)
    node.mount(OWN_ID, "/etc/machine-id", flags=agent.MS_BIND)


def rename(node: Node, machine_id: str, host: str) -> None:
    """Give a node that has had a name another one."""
    node.write(OWN_ID, f"{machine_id}\n" if machine_id else "")
    node.run(["hostname", host]).check()


def set_boot_id(node: Node, boot_id: str) -> None:
    """Give a node the boot ID of its kernel, as container nodes have it."""
    node.write(f"{agent.NODE_OWN}/boot_id", f"{boot_id}\n")
