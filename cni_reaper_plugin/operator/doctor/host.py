"""The doctor on the node itself: can we write what we must, is somebody told, and do we see what the runtime sees?"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from cni_reaper_plugin import other_nodes
from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.host_local import store
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.model import ALL, NEEDS_NO_POD
from cni_reaper_plugin.notices import store_elsewhere
from cni_reaper_plugin.operator.doctor import catalogue
from cni_reaper_plugin.system import boot, files, mountinfo, network_file_system

NODE = "node"
RUNTIMES = ("containerd", "crio", "multus-daemon")
_IN_MEMORY = ("tmpfs", "ramfs")
_SYS_PTRACE = 1 << 19
_MOST_RECORDS = 256  # of a network, to find one of this boot
_WHOLE = ["0", "0", "4294967295"]  # the uid_map of a user namespace that is the initial one, or as good

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_reaper_plugin.model import Mapping
    from cni_reaper_plugin.operator.doctor.catalogue import Finding
    from cni_reaper_plugin.options import Settings


def check(entries: list[tuple[str, Settings]]) -> Iterator[Finding]:
    """Yield what is to be said of the node; entries: (conflist, settings) of each entry of ours, or the defaults."""
    if os.geteuid() != 0:
        yield catalogue.NOT_ROOT.at(NODE)
    for state_dir in dict.fromkeys(settings.state_dir for _, settings in entries):
        yield _writable(state_dir, "the records of attachments (stateDir)")
    yield _writable(proven_views.RUN_DIR, "what is remembered from call to call")
    for data_dir in dict.fromkeys(settings.data_dir for _, settings in entries):
        yield from _store(data_dir)
    yield from _records_of_others(entries)
    yield from _elsewhere(entries)
    yield from _told(entries)
    yield from _view(entries)
    yield from _processes()


def _writable(directory: str, purpose: str) -> Finding:
    """Look whether a directory can be written to, or be made."""
    there = directory
    while there and not os.access(there, os.F_OK):
        there = there.rpartition("/")[0]
    if os.access((there or "") + "/.", os.W_OK | os.X_OK):
        return catalogue.WRITABLE.at(NODE, directory=directory, purpose=purpose)
    return catalogue.NOT_WRITABLE.at(NODE, directory=directory, purpose=purpose, parent=there or "/")


def _store(data_dir: str) -> Iterator[Finding]:
    try:
        store.usable(data_dir)
    except OSError as e:
        yield catalogue.STORE_UNREADABLE.at(NODE, data_dir=data_dir, trouble=e.strerror)
        return
    yield from _shared(data_dir)
    kind = file_system(data_dir)
    if kind in _IN_MEMORY:
        yield catalogue.STORE_IN_MEMORY.at(NODE, data_dir=data_dir, file_system=kind)


def _shared(data_dir: str) -> Iterator[Finding]:
    """Look whether the store, or a network of it, is on a file system that other nodes can have mounted as well."""
    try:
        places = [data_dir, *(f"{data_dir}/{name}" for name in store.networks(data_dir))]
    except OSError:
        return  # it is not there yet
    for place in places:
        try:
            kind = network_file_system.name(place)
        except OSError:
            continue
        if kind:
            yield catalogue.STORE_SHARED.at(NODE, path=place, kind=kind)
            return


def file_system(path: str) -> str:
    """Return the type of the file system that a path is on, or would be; "" when that cannot be told. Source: proc(5)."""
    try:
        line = mountinfo.line_of(path, mountinfo.read())
    except OSError:
        return ""
    return line.partition(" - ")[2].split(" ")[0]


def _told(entries: list[tuple[str, Settings]]) -> Iterator[Finding]:
    """Look whether what we do is told to anybody: to syslog, or to a file."""
    if has_syslog("/dev/log"):
        yield catalogue.SYSLOG.at(NODE)
    elif all(settings.log_file for _, settings in entries):
        yield catalogue.NO_SYSLOG.at(NODE)
    else:
        yield catalogue.NOBODY_TOLD.at(NODE)
    for metrics_file in dict.fromkeys(settings.metrics_file for _, settings in entries if settings.metrics_file):
        directory = metrics_file.rpartition("/")[0] or "/"
        if not os.access(directory + "/.", os.W_OK):
            yield catalogue.METRICS_FILE.at(NODE, file=metrics_file, directory=directory)
    for log_file in dict.fromkeys(settings.log_file for _, settings in entries if settings.log_file):
        directory = log_file.rpartition("/")[0] or "/"
        if not os.access(log_file if os.access(log_file, os.F_OK) else directory, os.W_OK):
            yield catalogue.LOG_FILE.at(NODE, file=log_file, directory=directory)


def has_syslog(path: str) -> bool:
    """Tell whether a socket of syslog stands at a path."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _view(entries: list[tuple[str, Settings]]) -> Iterator[Finding]:
    """Say whether an ADD of this boot has seen its own pod from where we are."""
    try:
        boot_id, view = boot.boot_id(), proven_views.own_view()
        allowed, known = proven_views.allowance(boot_id, view), proven_views.proven(boot_id)
    except (OSError, ValueError, IndexError) as e:
        yield catalogue.VIEW_UNREADABLE.at(NODE, trouble=e)
        return
    if allowed is ALL:
        yield catalogue.VIEW_PROVEN.at(NODE)
    elif known:
        yield catalogue.VIEW_OTHER.at(NODE)
    elif _has_record_of(boot_id, entries):
        yield catalogue.BLIND.at(NODE)
    elif allowed is NEEDS_NO_POD:
        yield catalogue.VIEW_NOT_YET.at(NODE)
    else:
        yield catalogue.VIEW_UNPROVEN.at(NODE)


def _records_of_others(entries: list[tuple[str, Settings]]) -> Iterator[Finding]:
    """Look whether another node of this kernel records its attachments here, too."""
    try:
        boot_id, ours = boot.boot_id(), boot.node()
    except OSError:
        return  # said by _view
    for state_dir in dict.fromkeys(settings.state_dir for _, settings in entries):
        if any(mapping.boot_id == boot_id and other_nodes.is_another(mapping.node, ours) for mapping in _recorded(state_dir)):
            yield catalogue.RECORDS_SHARED.at(NODE, state_dir=state_dir)


def _elsewhere(entries: list[tuple[str, Settings]]) -> Iterator[Finding]:
    """Look for networks whose attachments are recorded, and have no reservation in the store."""
    for data_dir, state_dir in dict.fromkeys((settings.data_dir, settings.state_dir) for _, settings in entries):
        try:
            for network in records.networks(state_dir):
                count = store_elsewhere.recorded(state_dir, network)
                if count and not _has_reservation_of(data_dir, state_dir, network):
                    directory = f"{data_dir}/{network}"
                    yield catalogue.STORE_ELSEWHERE.at(NODE, count=count, network=network, directory=directory)
        except OSError:
            continue  # said by _store


def _has_reservation_of(data_dir: str, state_dir: str, network: str) -> bool:
    """Tell whether a recorded attachment of a network has a reservation. Raises OSError."""
    try:
        directory = store.Network(data_dir, network)
    except FileNotFoundError:
        return False
    with directory, records.Directory(state_dir, network) as known:
        owners = set(known.names())
        return any((one.container_id, one.ifname) in owners for one in directory.snapshot(directory.addresses()))


def _recorded(state_dir: str) -> Iterator[Mapping]:
    """Yield what records say, of each network some; none where they cannot be read."""
    try:
        for network in records.networks(state_dir):
            with records.Directory(state_dir, network) as directory:
                for name in directory.names()[:_MOST_RECORDS]:
                    record = directory.read(*name)
                    if record is not None:
                        yield record.mapping
    except OSError:
        return


def _has_record_of(boot_id: str, entries: list[tuple[str, Settings]]) -> bool:
    """Tell whether an attachment was recorded in this boot."""
    state_dirs = dict.fromkeys(settings.state_dir for _, settings in entries)
    return any(mapping.boot_id == boot_id for state_dir in state_dirs for mapping in _recorded(state_dir))


def _processes() -> Iterator[Finding]:
    """Look from where the runtime sees the node, and what may hide it from us."""
    try:
        if files.read("/proc/self/uid_map").decode().split() != _WHOLE:
            yield catalogue.ROOTLESS.at(NODE)
        if _hides_processes() and not _may_trace():
            yield catalogue.HIDEPID.at(NODE)
        yield from _runtimes()
    except (OSError, ValueError) as e:
        yield catalogue.VIEW_UNREADABLE.at(NODE, trouble=e)


def _hides_processes() -> bool:
    of_proc = [line for line in mountinfo.read().splitlines() if mountinfo.point(line) == "/proc" and " - proc " in line]
    values = [
        part.partition("=")[2] for line in of_proc[-1:] for part in line.rpartition(" ")[2].split(",") if "hidepid=" in part
    ]
    return any(value not in ("0", "off") for value in values)


def _may_trace() -> bool:
    effective = files.read("/proc/self/status").partition(b"CapEff:")[2].split()[0]
    return bool(int(effective, 16) & _SYS_PTRACE)


def _runtimes() -> Iterator[Finding]:
    """Compare our mount namespace with those of the runtimes that share our PID namespace."""
    ours = os.readlink("/proc/self/ns/mnt")
    seen: set[str] = set()
    for pid in (name for name in os.listdir("/proc") if name.isdecimal()):
        try:
            name = files.read(f"/proc/{pid}/comm").decode("utf-8", "replace").strip()
            if name not in RUNTIMES or name in seen or os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid"):
                continue
            theirs, confined = os.readlink(f"/proc/{pid}/ns/mnt"), _confinement(pid)
        except OSError:
            continue
        seen.add(name)
        if confined.startswith("snap.") and "(enforce)" in confined:
            yield catalogue.STRICT_SNAP.at(NODE, name=name, profile=confined)
        if theirs != ours:
            yield catalogue.RUNTIME_ELSEWHERE.at(NODE, name=name, pid=pid)


def _confinement(pid: str) -> str:
    """Return the AppArmor profile of a process, "" where there is none."""
    try:
        return files.read(f"/proc/{pid}/attr/current").decode("utf-8", "replace").strip("\0\n")
    except OSError:
        return ""
