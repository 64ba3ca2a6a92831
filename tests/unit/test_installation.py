"""What an installation remembers: nothing that is there is lost, and nothing is taken for what it is not."""

import json
from pathlib import Path

import pytest

from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.namespaces import netns
from cni_reaper_plugin.operator.executable import legacy_bundle
from cni_reaper_plugin.operator.install import installation, register
from cni_reaper_plugin.operator.install.register import InstallationError, Noted

LIST = "/etc/cni/net.d/10-net.conflist"
BIN = "/opt/cni/bin"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, in a directory that is not there yet."""
    path = tmp_path / "cni" / "reaper" / "installation.json"
    monkeypatch.setattr(register, "DIRECTORY", str(path.parent))
    monkeypatch.setattr(register, "PATH", str(path))
    monkeypatch.setattr(installation, "LOCK", str(path.with_suffix(".lock")))
    return path


def note(path: str, options: dict[str, object], *bin_dirs: str) -> None:
    """Note an entry, under the lock."""
    with installation.locked() as noted:
        noted.note(path, options, list(bin_dirs))


def test_an_entry_comes_back_as_it_was_noted(state: Path) -> None:
    """With options and directories; those of before stay, since an executable of ours may be there."""
    assert register.read().noted() == {}
    note(LIST, {"dryRun": True}, BIN)
    note(LIST, {"dryRun": False}, "/srv/bin")
    note("/srv/\udcff.conflist", {}, BIN)
    assert register.read().noted()[LIST] == Noted({"dryRun": False}, [BIN, "/srv/bin"])
    assert register.read().options_of("/srv/\udcff.conflist") == {}
    assert register.read().options_of("/srv/other") is None
    assert json.loads(state.read_bytes())["entries"][LIST] == {"options": {"dryRun": False}, "binDirs": [BIN, "/srv/bin"]}
    assert [state.stat().st_mode & 0o777, state.parent.stat().st_mode & 0o777] == [0o600, 0o700]


def test_nothing_is_written_twice(state: Path) -> None:
    """What is noted already leaves the file as it is."""
    note(LIST, {"dryRun": True}, BIN)
    before = state.stat()
    note(LIST, {"dryRun": True}, BIN)
    after = state.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_nothing_is_left_when_all_is_forgotten(state: Path) -> None:
    """File, lock and directory go; not while an entry is noted, and no record goes with them."""
    note(LIST, {}, BIN)
    with installation.locked():
        installation.remove()
    assert state.exists()
    assert Path(installation.LOCK).exists()
    (state.parent / "net").mkdir()
    with installation.locked() as noted:
        noted.forget([LIST])
        installation.remove()
    assert [path.name for path in state.parent.iterdir()] == ["net"]
    (state.parent / "net").rmdir()
    with installation.locked():
        installation.remove()
    assert not state.parent.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\0" * 40, b"\xff", b'{"entries": 7}', b'{"entries": {"%s": 7}}' % LIST.encode(), b"[" * 100_000],
)
def test_what_is_not_valid_is_set_aside(state: Path, content: bytes) -> None:
    """It counts as nothing, and is kept beside the new file."""
    state.parent.mkdir(parents=True)
    state.write_bytes(content)
    assert register.read().noted() == {}
    note(LIST, {"dryRun": True}, BIN)
    assert register.read().options_of(LIST) == {"dryRun": True}
    (aside,) = state.parent.glob("installation.json.damaged-*")
    assert aside.read_bytes() == content
    note(LIST, {"dryRun": False}, BIN)
    assert len(list(state.parent.glob("installation.json.damaged-*"))) == 1


def test_what_a_later_version_has_written_stays(state: Path) -> None:
    """Keys that are not known here, of the file and of an entry; and one bad entry takes no other with it."""
    state.parent.mkdir(parents=True)
    other = {"options": {"x": 1}, "binDirs": [BIN], "since": 7}
    state.write_text(json.dumps({"version": 2, "entries": {"/a": other, "/b": [], "c": other}}))
    note("/a", {"x": 2}, "/srv/bin")
    told = json.loads(state.read_bytes())
    assert told == {"version": 2, "entries": {"/a": {**other, "options": {"x": 2}, "binDirs": [BIN, "/srv/bin"]}}}
    assert len(list(state.parent.glob("installation.json.damaged-*"))) == 1
    with installation.locked() as noted:
        noted.forget(["/a"])
    assert json.loads(state.read_bytes()) == {"version": 2, "entries": {}}


def test_what_cannot_be_read_is_an_error(state: Path) -> None:
    """It is not written over: a directory here, an error of the disk on a node."""
    state.mkdir(parents=True)
    with pytest.raises(InstallationError, match="is a directory"):
        register.read().noted()
    with pytest.raises(InstallationError, match="is a directory"):
        note(LIST, {}, BIN)


def test_records_are_not_disturbed(state: Path) -> None:
    """The file, its lock and what was set aside are no networks of the default stateDir."""
    state.parent.mkdir(parents=True)
    state.write_bytes(b"{")
    note(LIST, {}, BIN)
    (state.parent / "net").mkdir()
    assert len(list(state.parent.iterdir())) == 4
    assert records.networks(str(state.parent)) == ["net"]


def test_notes_of_0_1_0_are_taken_over(state: Path, tmp_path: Path) -> None:
    """They are newer than what is noted here, since taking them over removes them; what is no such file counts as nothing."""
    bins = [str(tmp_path / name) for name in ("bin", "other")]
    for one, noted in zip(bins, [{LIST: {"dryRun": True}, "/b": 7, "c": {}}, {LIST: {"x": 1}, "/d": {}}], strict=True):
        Path(legacy_bundle.root_of(one)).mkdir(parents=True)
        (Path(legacy_bundle.root_of(one)) / "entries.json").write_text(json.dumps(noted))
    note(LIST, {"dryRun": False}, BIN)
    both = {LIST: Noted({"dryRun": True}, [BIN, bins[1], bins[0]]), "/d": Noted({}, [bins[1]])}
    assert register.read().noted(bins) == both
    with installation.locked() as read:
        read.take_over(bins)
        assert read.noted(bins) == both
    assert register.read().noted() == both
    assert not list(tmp_path.rglob("entries.json"))
    assert state.exists()


def test_the_lock_is_found_again_when_its_file_was_removed(state: Path) -> None:
    """Who waits for it while uninstall removes it must not hold a file that nobody else finds."""
    with installation.locked():
        installation.remove()
        assert not state.parent.exists()
    with installation.locked():
        assert Path(installation.LOCK).exists()


def test_uncreatable_directory_is_named(state: Path) -> None:
    """The sentence names it, and what to do."""
    state.parent.parent.write_text("no directory")
    with pytest.raises(InstallationError, match="cni"), installation.locked():
        pass


MOUNTS = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:1 /opt/cni/bin /opt/cni/bin rw - ext4 /dev/sda1 rw\n"
STATE_MOUNT = "3 1 8:1 /x /var/lib/cni/reaper rw - ext4 /dev/sda1 rw\n"


@pytest.mark.parametrize(
    ("mounts", "pid_namespace", "is_lost"),
    [
        pytest.param(MOUNTS, 4026532000, True, id="a container with the node's plugins alone"),
        pytest.param(MOUNTS + STATE_MOUNT, 4026532000, False, id="a container with the node's state, too"),
        pytest.param(MOUNTS, netns.INITIAL_PID_NAMESPACE, False, id="a node whose plugins are on a file system of their own"),
        pytest.param(MOUNTS.splitlines()[0], 4026532000, False, id="a node that is a container (kind)"),
    ],
)
def test_state_lost_with_a_container_is_refused(mounts: str, pid_namespace: int, is_lost: bool) -> None:
    """Nothing is installed where the options of an entry would be forgotten."""
    assert installation.is_of_container(["/opt/cni/bin"], mounts, pid_namespace) is is_lost
