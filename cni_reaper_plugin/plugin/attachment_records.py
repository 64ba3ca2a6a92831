"""Our records as the verbs keep them: written by ADD, marked by DEL and GC. Whatever goes wrong is logged and fails no call."""

from __future__ import annotations

import posix
from typing import TYPE_CHECKING

from cni_reaper_plugin.attachment import Attachment
from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.host_local import store
from cni_reaper_plugin.system import boot

if TYPE_CHECKING:
    from cni_reaper_plugin.event_log import Log
    from cni_reaper_plugin.model import Call
    from cni_reaper_plugin.options import Settings


def record(call: Call, pod: dict[str, str], settings: Settings, log: Log) -> None:
    """Replace the record of an ADD's attachment, and note in `call` what the older one said.

    The old one goes first: should the new one not be written, no lie may stay behind. pod: {namespace, name, uid}.
    """
    attachment = call.attachment
    assert attachment is not None
    try:
        with records.Directory(settings.state_dir, attachment.network, make=True) as directory:
            lock = _lock(directory)
            try:
                older = _read_older(directory, attachment)
                if older is not None:
                    call.older = older.mapping
                    call.standing = _standing(settings, attachment) if call.at_head else set()
                directory.remove(attachment)
                new = records.encode(
                    call.netns_path, call.netns, boot.boot_id(), boot.boottime_s(), call.at_head, pod, boot.node()
                )
                directory.write(attachment, new)
            finally:
                _unlock(lock)
    except (OSError, TypeError) as e:
        _not_recorded(attachment, e, log)


def _lock(directory: records.Directory) -> int:
    """Take the records' lock for writing. -1 when it cannot be had: that is no reason to let an older record stand."""
    try:
        return directory.lock_shared()
    except OSError:
        return -1


def _unlock(fd: int) -> None:
    if fd >= 0:
        posix.close(fd)


def _not_recorded(attachment: Attachment, error: Exception, log: Log) -> None:
    log.warning(
        "not-recorded",
        network=attachment.network,
        container=attachment.container_id,
        ifname=attachment.ifname,
        reason=str(error),
    )


def _read_older(directory: records.Directory, attachment: Attachment) -> records.Record | None:
    try:
        return directory.read(attachment.container_id, attachment.ifname)
    except OSError:
        return None  # it cannot be read; it can perhaps be replaced


def _standing(settings: Settings, attachment: Attachment) -> set[tuple[str, int, int]]:
    """Return the attachment's reservations that stand before its new record is written."""
    try:
        with store.Network(settings.data_dir, attachment.network) as directory:
            return {
                (one.address, one.ino, one.ctime)
                for one in directory.snapshot(directory.addresses())
                if attachment.owns(one.network, one.container_id, one.ifname)
            }
    except OSError:
        return set()


def mark_deleted(call: Call, settings: Settings, log: Log) -> None:
    """Mark the record of a DEL's attachment, and note in `call` whether it says that we were at the head."""
    attachment = call.attachment
    assert attachment is not None
    try:
        with records.Directory(settings.state_dir, attachment.network) as directory:
            record = _marked(directory, attachment, directory.lock_alone())
    except FileNotFoundError:
        return
    except OSError as e:
        _not_recorded(attachment, e, log)
        return
    if record is not None:
        call.at_head = record.mapping.head


def mark_unlisted(network: str, valid: set[tuple[str, str]], settings: Settings, log: Log) -> None:
    """Mark the records of a network that GC's list of (container ID, ifname) does not name, but for those of other nodes."""
    ours = boot.node()
    try:
        with records.Directory(settings.state_dir, network) as directory:
            for container_id, ifname in directory.names():
                if (container_id, ifname) in valid:
                    continue
                record = directory.read(container_id, ifname)
                if record is None or record.mapping.deleted:
                    continue
                if record.mapping.node == ours or not _is_of_another_node(record, ours):
                    lock = directory.lock_alone()
                    if lock is None:
                        return  # who holds it for 2 s holds it on, and there may be a hundred records
                    _marked(directory, Attachment(network, container_id, ifname), lock)
    except FileNotFoundError:
        return
    except OSError as e:
        log.warning("not-recorded", network=network, reason=str(e))


def _is_of_another_node(record: records.Record, ours: tuple[str, str]) -> bool:
    from cni_reaper_plugin import other_nodes

    return other_nodes.is_another(record.mapping.node, ours)


def _marked(directory: records.Directory, attachment: Attachment, lock: int | None) -> records.Record | None:
    """Mark a record as deleted, and return it as it was; one that is not marked only keeps.

    lock: of `lock_alone`, which is closed here; None where it could not be had. Alone: an ADD of the same ID that writes its
    record between our read and our rename would get the old one's back.
    """
    try:
        record = directory.read(attachment.container_id, attachment.ifname)
        if record is not None and not record.mapping.deleted and lock is not None:
            directory.mark_deleted(attachment, record)
    finally:
        if lock is not None:
            _unlock(lock)
    return record
