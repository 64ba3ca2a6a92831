"""Records: what is written is read again, and nothing else is taken for one."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cni_reaper_plugin import other_nodes
from cni_reaper_plugin.attachment import Attachment
from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.model import Netns
from cni_reaper_plugin.system import boot, files

ATTACHMENT = Attachment("net", "id", "eth0")
POD = {"namespace": "default", "name": "web-1", "uid": "u"}


def encoded(**changes: Any) -> bytes:
    """Return a record's bytes with changed members; `...` leaves one out."""
    fields = json.loads(records.encode("/run/netns/a", Netns(4, 100, 5000, 7), "boot", 12.5, True, POD))
    return json.dumps({key: value for key, value in {**fields, **changes}.items() if value is not ...}).encode()


@pytest.fixture
def directory(tmp_path: Path) -> records.Directory:
    """The records of a network."""
    return records.Directory(str(tmp_path / "state"), "net", make=True)


def test_what_is_written_is_read_again(directory: records.Directory) -> None:
    """A record keeps path, identity, boot, pod and place."""
    directory.write(ATTACHMENT, records.encode("/run/netns/a", Netns(4, 100, 5000, 7), "boot", 12.5, True, POD))
    record = directory.read("id", "eth0")
    assert record is not None
    mapping = record.mapping
    recorded = mapping.recorded
    assert recorded is not None
    assert (recorded.dev, recorded.ino, recorded.ctime, recorded.ns_id) == (4, 100, 5000, 7)
    assert (mapping.source, mapping.path, mapping.boot_id, mapping.pod) == ("record", "/run/netns/a", "boot", POD)
    assert (mapping.head, record.mapping.deleted, record.boottime_s) == (True, False, 12.5)
    assert directory.names() == [("id", "eth0")]


def test_del_mark_changes_nothing_else(directory: records.Directory) -> None:
    """Marking a record as deleted changes nothing else in it, also nothing that a newer version has put there."""
    directory.write(ATTACHMENT, encoded(later=[1]))
    before = directory.read("id", "eth0")
    assert before is not None
    directory.write(ATTACHMENT, records.encode_deleted(before))
    after = directory.read("id", "eth0")
    assert after is not None
    assert after.mapping.deleted
    assert json.loads(after.raw) == {**json.loads(before.raw), "deleted": True}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\0" * 300,
        b"\xff",
        encoded(v=2),
        encoded(v=...),
        encoded(netns=7),
        encoded(netns="relative"),
        encoded(netns="/a\0b"),
        encoded(bootID=None),
        encoded(boottime="1"),
        encoded(boottime=...),
        b"x" * 20_000,
    ],
)
def test_what_we_did_not_write_is_no_record(directory: records.Directory, tmp_path: Path, raw: bytes) -> None:
    """A record that is empty, cut, of another version or of a wrong type means unmapped, never an error."""
    (tmp_path / "state" / "net" / "id:eth0").write_bytes(raw)
    assert directory.read("id", "eth0") is None


@pytest.mark.parametrize("member", ["dev", "ino", "ctime"])
@pytest.mark.parametrize("value", [..., None, "4", 4.0])
def test_a_part_of_an_identity_is_none(directory: records.Directory, member: str, value: Any) -> None:
    """Without device, inode and ctime there is no identity, while the path still counts."""
    directory.write(ATTACHMENT, encoded(**{member: value}))
    record = directory.read("id", "eth0")
    assert record is not None
    assert record.mapping.recorded is None
    assert record.mapping.path == "/run/netns/a"


def test_nothing_but_a_regular_file_is_a_record(directory: records.Directory, tmp_path: Path) -> None:
    """A symlink is not followed, a directory and a FIFO are no records, and none of them blocks."""
    state = tmp_path / "state" / "net"
    (tmp_path / "elsewhere").write_bytes(encoded())
    (state / "id:eth0").symlink_to(tmp_path / "elsewhere")
    (state / "id:eth1").mkdir()
    os.mkfifo(state / "id:eth2")
    assert [directory.read("id", f"eth{number}") for number in range(4)] == [None] * 4


def test_one_that_cannot_be_read_raises(directory: records.Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreadable record is not a missing one."""
    (tmp_path / "state" / "net" / "id:eth0").write_bytes(encoded())

    def refuse(*_: object, **__: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "read_small", refuse)
    with pytest.raises(PermissionError):
        directory.read("id", "eth0")


def test_directories_are_0700_and_records_0600(directory: records.Directory, tmp_path: Path) -> None:
    """Directories are 0700, records 0600, and no temporary file stays."""
    directory.write(ATTACHMENT, encoded())
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "state", *(tmp_path / "state").rglob("*")]}
    assert modes == {"state": 0o700, "net": 0o700, "id:eth0": 0o600}


def test_names_are_those_of_attachments(directory: records.Directory, tmp_path: Path) -> None:
    """Locks, temporary files and whatever else lies there are no attachments."""
    for name in (".lock", ".new-1-0", "noColon", "id:", ":eth0", "id:a b", "ok:eth0", "id:a:b"):
        (tmp_path / "state" / "net" / name).write_bytes(encoded())
    assert directory.names() == [("ok", "eth0")]


def test_drop_asks_again(directory: records.Directory, tmp_path: Path) -> None:
    """Only a record that is still over when the lock is held is dropped, with what dead processes left."""
    for ifname in ("eth0", "eth1"):
        directory.write(Attachment("net", "id", ifname), encoded())
    (tmp_path / "state" / "net" / ".new-7-0").write_bytes(b"")
    owners = [("id", "eth0"), ("id", "eth1"), ("gone", "eth0")]
    assert directory.drop(owners, lambda _, __, ifname: ifname == "eth1") == 1
    assert sorted(path.name for path in (tmp_path / "state" / "net").iterdir()) == [".lock", "id:eth0"]


@pytest.mark.parametrize(
    ("raw", "is_broken"),
    [(b"", True), (b"\0" * 300, True), (encoded()[:40], True), (b"\xff", True), (encoded(), False), (encoded(v=2), False)],
)
def test_drop_takes_what_is_broken(directory: records.Directory, tmp_path: Path, raw: bytes, is_broken: bool) -> None:
    """A power cut's files go without being asked for; a newer version's record stays, and so does what is over only to us."""
    file = tmp_path / "state" / "net" / "id:eth0"
    file.write_bytes(raw)
    assert directory.is_broken("id", "eth0") == is_broken
    assert directory.drop([("id", "eth0")], lambda *_: False) == int(is_broken)
    assert file.exists() != is_broken


def test_drop_leaves_what_is_no_file_of_ours(directory: records.Directory, tmp_path: Path) -> None:
    """A FIFO, a directory, a link and a file that is too large are nobody's record, broken or not."""
    state = tmp_path / "state" / "net"
    os.mkfifo(state / "id:eth0")
    (state / "id:eth1").mkdir()
    (state / "id:eth2").symlink_to(tmp_path / "nowhere")
    (state / "id:eth3").write_bytes(b"x" * 20_000)
    owners = [("id", f"eth{number}") for number in range(4)]
    assert directory.drop(owners, lambda *_: True) == 0
    assert sorted(path.name for path in state.glob("id:*")) == [f"{name}:{ifname}" for name, ifname in owners]


def test_drop_leaves_it_while_an_add_writes(directory: records.Directory) -> None:
    """While anyone holds the lock shared, nothing is dropped and nobody waits."""
    directory.write(ATTACHMENT, encoded())
    lock = directory.lock_shared()
    try:
        assert directory.drop([("id", "eth0")], lambda *_: True) == 0
    finally:
        os.close(lock)
    assert directory.drop([("id", "eth0")], lambda *_: True) == 1


OURS, OTHERS = "1" * 32, "2" * 32


@pytest.mark.parametrize(
    ("node", "machine", "name", "boot_id", "is_ours", "is_anothers"),
    [
        ((OURS, "a"), OURS, "a", "another boot", True, False),
        ((OURS, "a"), OURS, "b", "this boot", False, False),  # renamed, or an image with its machine ID: neither is sure
        ((OURS, "a"), OTHERS, "a", "this boot", False, True),
        ((OURS, "a"), "", "a", "this boot", False, False),
        ((OURS, "a"), "", "b", "this boot", False, True),
        ((OURS, "a"), ..., ..., "this boot", False, False),
        ((OURS, ""), "", "", "this boot", False, False),  # a record without either
        (("", "a"), "", "a", "this boot", True, False),
        (("", "a"), "", "a", "another boot", False, False),
        (("", "a"), "", "b", "this boot", False, True),
        (("", "a"), OTHERS, "a", "this boot", False, False),
        (("", "a"), OTHERS, "b", "this boot", False, True),
    ],
)
def test_node_of_a_record_is_told_by_machine_id_or_name(
    directory: records.Directory,
    node: tuple[str, str],
    machine: Any,
    name: Any,
    boot_id: str,
    is_ours: bool,
    is_anothers: bool,
) -> None:
    """This node's are those with both its machine ID and its name, or its name and boot; another's have another machine ID."""
    directory.write(ATTACHMENT, encoded(machine=machine, node=name, bootID=boot_id))
    record = directory.read("id", "eth0")
    assert record is not None
    assert other_nodes.is_this(record.mapping.node, node, boot_id == "this boot") == is_ours
    assert other_nodes.is_another(record.mapping.node, node) == is_anothers


@pytest.mark.parametrize(
    ("text", "machine_id"),
    [(f"{OURS}\n", OURS), (OURS, OURS), ("", ""), ("uninitialized\n", ""), (f"{OURS}1", ""), ("\0" * 32, ""), ("x" * 100, "")],
)
def test_machine_id_is_32_letters_or_digits(tmp_path: Path, text: str, machine_id: str) -> None:
    """32 letters or digits are one; whatever else stands in the file is none, and so is a file that is not there."""
    (tmp_path / "machine-id").write_text(text)
    assert boot._machine_id(str(tmp_path / "machine-id")) == machine_id
    assert boot._machine_id(str(tmp_path / "missing")) == ""
