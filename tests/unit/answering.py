"""A process inside a private node that answers calls of the plugin, one after the other, without being started for each.

`serve` takes `Example`s from a socket and sends `Answer`s. Only the node's own file systems
can be written (`seal`), whatever path an example may name: the options have their real defaults, the executable's code is all
there, and file descriptors 0 and 1 are what a runtime would have given.
"""

import ctypes
import os
import shutil
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Listener
from pathlib import Path

from cni_reaper_plugin.plugin import call
from tests.support import kernel_calls

DATA_DIR, STATE_DIR, RUN_DIR = Path("/var/lib/cni/networks"), Path("/var/lib/cni/reaper"), Path("/run/cni-reaper")
LOG = Path("/var/log/cni-reaper.log")
OWN_MOUNTS = ("/run", "/var/lib", "/var/log", "/proc")
MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096


@dataclass(frozen=True)
class Example:
    """One call, and the node's files before it. reservations, records: by path below dataDir and stateDir;
    views: the file of proven views, b"" for none."""

    environment: dict[bytes, bytes]
    stdin: bytes
    reservations: dict[str, bytes] = field(default_factory=dict)
    records: dict[str, bytes] = field(default_factory=dict)
    views: bytes = b""


@dataclass(frozen=True)
class Answer:
    """What came of it. code: the exit code, None when it raised; raised: the traceback then; left: the reservations after it;
    descriptors: how many more are open than before; moved: the process is in another netns than before."""

    code: int | None
    out: bytes
    raised: str
    log: str
    left: dict[str, bytes]
    descriptors: int
    moved: bool


def seal() -> None:
    """Make every file system read-only but the node's own, in this mount namespace only."""
    libc = ctypes.CDLL(None, use_errno=True)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = line.split()[4]
        if not any(target == own or target.startswith(own + "/") for own in OWN_MOUNTS):
            flags = ctypes.c_ulong(MS_REMOUNT | MS_BIND | MS_RDONLY)
            if libc.mount(b"none", target.encode(), None, flags, None) != 0 and os.access(target, os.W_OK):
                raise OSError(ctypes.get_errno(), f"{target} stays writable")


def furnish(example: Example) -> None:
    """Make the node's files those of the example."""
    for directory in (DATA_DIR, STATE_DIR, RUN_DIR):
        shutil.rmtree(directory, ignore_errors=True)
    LOG.unlink(missing_ok=True)
    for root, files in ((DATA_DIR, example.reservations), (STATE_DIR, example.records)):
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    if example.views:
        RUN_DIR.mkdir()
        (RUN_DIR / "views").write_bytes(example.views)


def files_below(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the path below root and the content of each file but locks."""
    for path in root.rglob("*") if root.exists() else ():
        if path.is_file() and path.name != "lock":
            yield str(path.relative_to(root)), path.read_bytes()


def answer(example: Example) -> Answer:
    """Run one call with its own stdin and stdout."""
    furnish(example)
    netns, open_before = os.stat("/proc/self/ns/net").st_ino, len(os.listdir("/proc/self/fd"))
    stdin, stdout = os.memfd_create("stdin"), os.memfd_create("stdout")
    os.write(stdin, example.stdin)
    os.lseek(stdin, 0, os.SEEK_SET)
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    code, raised = None, ""
    try:
        code = call.run(example.environment)
    except BaseException:  # noqa: BLE001  the test wants to see whatever it is
        raised = traceback.format_exc()
    out = os.pread(stdout, 1 << 24, 0)
    os.close(stdin)
    os.close(stdout)
    return Answer(
        code,
        out,
        raised,
        LOG.read_text(errors="replace") if LOG.is_file() else "",
        dict(files_below(DATA_DIR)),
        len(os.listdir("/proc/self/fd")) - open_before,
        os.stat("/proc/self/ns/net").st_ino != netns,
    )


def serve(address: str) -> None:
    """Answer whoever connects first, until they close."""
    seal()
    kernel_calls.stand_in()
    with Listener(address, "AF_UNIX") as listener, listener.accept() as connection:
        while True:
            try:
                example = connection.recv()
            except EOFError:
                return
            connection.send(answer(example))
