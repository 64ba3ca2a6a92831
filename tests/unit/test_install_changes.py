"""The changes of an installation: what each shows is what it does, again it does nothing, and undone it leaves no trace."""

import json
from pathlib import Path

import pytest

from cni_reaper_plugin.operator.conflists.conflist import ConflistError
from cni_reaper_plugin.operator.install import installation, plan, presence, register, snapshot, targets
from cni_reaper_plugin.operator.install.changes import Change
from cni_reaper_plugin.operator.install.snapshot import Given

LIST = b'{ "cniVersion": "1.0.0", "name": "net",\n "plugins": [ {"type": "bridge", "ipam": {"type": "host-local"}} ] }'
OPTIONS: dict[str, object] = {"dryRun": True}


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    """A directory of conflists with one list, one of plugins, and a register of its own."""
    state = tmp_path / "reaper"
    monkeypatch.setattr(register, "DIRECTORY", str(state))
    monkeypatch.setattr(register, "PATH", str(state / "installation.json"))
    monkeypatch.setattr(installation, "LOCK", str(state / "installation.lock"))
    for name in ("net.d", "bin"):
        (tmp_path / name).mkdir()
    (tmp_path / "net.d" / "10-net.conflist").write_bytes(LIST)
    (tmp_path / "bin" / "bridge").touch(0o755)
    return Given([str(tmp_path / "net.d")], [str(tmp_path / "bin")], [])


def planned(given: Given, *, in_drop_in: bool) -> Change:
    """Return the one change that puts our entry in. The register's directory has to be there."""
    node = snapshot.take(given)
    (change,) = plan.entries(node, targets.find(node).found, given.bin_dirs, OPTIONS, in_drop_in=in_drop_in)
    return change


def tree(given: Given) -> dict[str, bytes]:
    """Return the files of the directory of conflists."""
    top = Path(given.conf_dirs[0])
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


@pytest.mark.parametrize("in_drop_in", [False, True])
def test_apply_and_undo(given: Given, in_drop_in: bool) -> None:
    """In the list and beside it."""
    before = tree(given)
    with installation.locked():
        change = planned(given, in_drop_in=in_drop_in)
        shown = change.show()
        assert tree(given) == before, "to show is to write nothing"
        assert [line for line in shown if line.startswith("+") and "dryRun" in line]
        assert len(change.apply()) == 1
    after = tree(given)
    with installation.locked() as noted:
        again = planned(given, in_drop_in=in_drop_in)
        assert (again.show(), again.apply(), tree(given)) == ([], [], after)
        (path,) = noted.noted()
        assert noted.options_of(path) == OPTIONS
    node = snapshot.take_all(given)
    (removal,) = plan.without_entries(node, presence.look(node))
    assert removal.show_undo()
    assert tree(given) == after, "to show is to write nothing"
    assert len(removal.undo()) == 1
    assert tree(given) == before


def test_what_is_there_counts_not_what_was_read(given: Given) -> None:
    """A platform writes between the snapshot and the rename: its plugins stay."""
    change = planned(given, in_drop_in=False)
    path = Path(given.conf_dirs[0]) / "10-net.conflist"
    path.write_bytes(LIST.replace(b"bridge", b"macvlan"))
    with installation.locked():
        change.apply()
    assert [one["type"] for one in json.loads(path.read_bytes())["plugins"]] == ["cni-reaper", "macvlan"]


def test_what_cannot_be_noted_is_not_put_in(given: Given) -> None:
    """The file is as it was."""
    Path(register.PATH).mkdir(parents=True)
    before = tree(given)
    change = planned(given, in_drop_in=False)
    with pytest.raises(register.InstallationError):
        change.apply()
    assert tree(given) == before


def test_no_entry_where_a_drop_in_has_it(given: Given) -> None:
    """It would be in the chain twice."""
    with installation.locked():
        planned(given, in_drop_in=True).apply()
        change = planned(given, in_drop_in=False)
    for act in (change.show, change.apply):
        with pytest.raises(ConflistError, match="twice"):
            act()


def test_a_snapshot_is_read_again(given: Given) -> None:
    """What others have written since is in the new one, and the old one stays as it was."""
    node = snapshot.take(given)
    (Path(given.conf_dirs[0]) / "05-other.conflist").write_bytes(LIST)
    assert [len(one.directories[given.conf_dirs[0]].files) for one in (node, node.again())] == [1, 2]
