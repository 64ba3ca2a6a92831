"""Putting the executable into a directory of plugins, with scripts in its place: what is refused, and what the sentence says."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cni_reaper_plugin.operator.executable import frozen, legacy_bundle, plugin_dir
from cni_reaper_plugin.operator.executable.plugin_dir import ExecutableError

ANSWERS = """#!/bin/sh
echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.1.0"]}'
exit 0
"""
FOREIGN = b"\x7fELF\2\1\1" + b"\0" * 9 + b"\2\0\x16\0\1\0\0\0" + b"\0" * 40  # s390x
Run = Callable[[str], None]


def whole(content: str) -> bytes:
    """Return a script that ends with its sum, as the executable does."""
    raw = content.encode()
    return raw + b"\ncni-reaper sha256 %s\n" % hashlib.sha256(raw).hexdigest().encode()


def written(path: Path, content: bytes, mode: int = 0o755) -> str:
    """Write a file with a mode, and return its path."""
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


@pytest.fixture
def run_as(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Make a script the executable that runs."""

    def run(content: str) -> None:
        path = written(tmp_path / "running", whole(content))
        monkeypatch.setattr(frozen, "open_running", lambda: os.open(path, os.O_RDONLY))

    return run


@pytest.fixture
def bin_dir(tmp_path: Path, run_as: Run) -> Path:
    """A directory of plugins that is not there yet, for the executable that runs."""
    run_as(ANSWERS)
    return tmp_path / "lib" / "cni"


def test_it_is_put_there_once(bin_dir: Path) -> None:
    """Whole, with the mode of a plugin, and nothing beside it; a second time changes nothing, a wrong mode is put right."""
    assert not plugin_dir.is_placed(str(bin_dir))
    assert plugin_dir.place(str(bin_dir))
    path = bin_dir / "cni-reaper"
    before = path.stat()
    assert (path.read_bytes(), before.st_mode & 0o777, os.listdir(bin_dir)) == (whole(ANSWERS), 0o755, ["cni-reaper"])
    assert not plugin_dir.place(str(bin_dir))
    assert plugin_dir.is_placed(str(bin_dir))
    assert path.stat().st_ino == before.st_ino
    path.chmod(0o644)
    assert plugin_dir.place(str(bin_dir))
    assert path.stat().st_mode & 0o777 == 0o755


def test_the_umask_does_not_matter(bin_dir: Path) -> None:
    """Everybody may run a plugin."""
    before = os.umask(0o077)
    try:
        plugin_dir.place(str(bin_dir))
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (bin_dir, bin_dir / "cni-reaper")] == [0o755, 0o755]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("#!/bin/sh\necho FATAL: kernel too old >&2\nexit 127\n", f"this kernel, {os.uname().release}, is too old"),
        ("#!/bin/sh\nkill -SEGV $$\n", "SIGSEGV killed it"),
        ("#!/bin/sh\necho broken\necho words >&2\nexit 3\n", "exit code 3, words"),
        ("#!/bin/sh\necho '[]'\nexit 0\n", "exit code 0, [];"),
        ("#!/bin/sh\nexit 0\n", "without a word"),
        ("#!/nowhere/sh\n", "No such file"),
    ],
)
def test_what_does_not_run_is_not_put_there(bin_dir: Path, run_as: Run, script: str, says: str) -> None:
    """What was there stays, and nothing is left beside it; one sentence says why, and what to do."""
    plugin_dir.place(str(bin_dir))
    run_as(script)
    with pytest.raises(ExecutableError) as failed:
        plugin_dir.place(str(bin_dir))
    assert says in str(failed.value)
    assert str(failed.value).startswith(f"{bin_dir}/cni-reaper does not run: "), "a watcher says it once"
    assert "; " in str(failed.value)
    assert str(failed.value).endswith(".")
    assert {path.name: path.read_bytes() for path in bin_dir.iterdir()} == {"cni-reaper": whole(ANSWERS)}


def test_it_is_run_where_it_lies(bin_dir: Path, run_as: Run) -> None:
    """Also when the same bytes are there: what has become of the node meanwhile is noticed."""
    flag = bin_dir.parent.parent / "flag"
    run_as(f"#!/bin/sh\n[ -e {flag} ] && exit 1\n{ANSWERS[10:]}")
    plugin_dir.place(str(bin_dir))
    flag.touch()
    with pytest.raises(ExecutableError, match=f"{bin_dir}/cni-reaper does not run"):
        plugin_dir.place(str(bin_dir))


def test_another_architecture_is_refused(bin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are named. What is no executable of any kind is not called foreign."""
    bin_dir.mkdir(parents=True)
    for content, says in ((FOREIGN, f"built for s390x, and this kernel runs {os.uname().machine}"), (b"\0" * 64, "format")):
        raw = content + b"\ncni-reaper sha256 %s\n" % hashlib.sha256(content).hexdigest().encode()
        path = written(bin_dir.parent / "foreign", raw)
        monkeypatch.setattr(frozen, "open_running", lambda path=path: os.open(path, os.O_RDONLY))
        with pytest.raises(ExecutableError, match=says):
            plugin_dir.place(str(bin_dir))
        assert os.listdir(bin_dir) == []


def test_hanging_executable_is_given_up(bin_dir: Path, run_as: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is bounded."""
    monkeypatch.setattr(plugin_dir, "_START_WAIT_S", 0.05)
    run_as("#!/bin/sh\nexec sleep 1000\n")
    with pytest.raises(ExecutableError, match="does not answer"):
        plugin_dir.place(str(bin_dir))
    assert os.listdir(bin_dir) == []


def test_damaged_executable_is_refused(bin_dir: Path, tmp_path: Path) -> None:
    """Its sum is another one, or is not there: refused before anything is written."""
    for damaged, says in ((whole(ANSWERS).replace(b"exit 0", b"exit 1"), "SHA-256"), (whole(ANSWERS)[:-1], "missing")):
        (tmp_path / "running").write_bytes(damaged)
        with pytest.raises(ExecutableError, match=says):
            plugin_dir.place(str(bin_dir))
        assert not bin_dir.exists()


def test_working_executable_is_not_run_again(bin_dir: Path, tmp_path: Path) -> None:
    """One that has answered is not run again until it is another file; one that is being written is nobody's to replace."""
    assert not plugin_dir.works(str(bin_dir))
    bin_dir.mkdir(parents=True)
    runs = tmp_path / "runs"
    script = f"#!/bin/sh\necho >>{runs}\n{ANSWERS[10:]}".encode()
    path = Path(written(bin_dir / "cni-reaper", script))
    for _ in range(3):
        assert plugin_dir.works(str(bin_dir))
    assert runs.read_text() == "\n"
    os.replace(written(bin_dir / "new", script), path)
    assert plugin_dir.works(str(bin_dir))
    assert runs.read_text() == "\n\n"
    for content, mode in ((FOREIGN, 0o755), (script, 0o644)):
        os.replace(written(bin_dir / "new", content, mode), path)
        assert not plugin_dir.works(str(bin_dir))
    os.replace(written(bin_dir / "new", script), path)
    with path.open("ab"), pytest.raises(ExecutableError, match="another program is writing it"):
        plugin_dir.works(str(bin_dir))


def test_only_files_with_a_sum_of_ours_are_removed(bin_dir: Path) -> None:
    """A file that ends with a sum of ours, of any version and damaged as it may be; no link, and nothing else."""
    plugin_dir.place(str(bin_dir))
    path = bin_dir / "cni-reaper"
    path.write_bytes(path.read_bytes().replace(b"exit 0", b"exit 1"))
    assert plugin_dir.remove(str(bin_dir))
    assert not plugin_dir.remove(str(bin_dir))
    path.write_bytes(b"somebody's own")
    assert not plugin_dir.remove(str(bin_dir))
    path.unlink()
    path.symlink_to("/bin/true")
    assert not plugin_dir.remove(str(bin_dir))
    assert path.is_symlink()


def test_install_from_source_is_refused() -> None:
    """There is no executable to install, and the sentence says where to get one."""
    with pytest.raises(ExecutableError, match="only the frozen executable"):
        plugin_dir.is_placed("/opt/cni/bin")


class TestOld:
    """What version 0.1.0 has left."""

    @pytest.fixture
    def old(self, bin_dir: Path) -> Path:
        """An installation of 0.1.0; return the directory of its bundle."""
        bundle = bin_dir / ".cni-reaper" / "0.1.0"
        (bundle / "_internal").mkdir(parents=True)
        written(bundle / "cni-reaper", ANSWERS.encode())
        (bin_dir / "cni-reaper").symlink_to(".cni-reaper/0.1.0/cni-reaper")
        (bin_dir / ".cni-reaper/lock").touch()
        os.utime(bundle, (0, 0))
        return bundle

    def test_it_stays_while_a_call_may_use_it(self, bin_dir: Path, old: Path) -> None:
        """The link's leaving counts, not the bundle's age; then all of it goes, and nothing is said any more."""
        plugin_dir.place(str(bin_dir))
        assert not (bin_dir / "cni-reaper").is_symlink()
        assert "10 minutes" in legacy_bundle.tidy(str(bin_dir))
        assert old.exists()
        os.utime(old, (0, 0))
        assert legacy_bundle.tidy(str(bin_dir)) == ""
        assert os.listdir(bin_dir) == ["cni-reaper"]

    def test_it_stays_while_the_link_leads_to_it(self, bin_dir: Path, old: Path) -> None:
        """Somebody has gone back to 0.1.0: that is no reason to say anything."""
        assert legacy_bundle.tidy(str(bin_dir)) == ""
        assert old.exists()

    def test_what_else_is_there_stays(self, bin_dir: Path, old: Path) -> None:
        """And what was left of a removal or an installation that was cut off goes."""
        root = old.parent
        (root / "mine").mkdir()
        (root / "mine/precious").touch()
        (root / ".new-0.1.0-2").mkdir()
        (root / ".new-link").symlink_to("nowhere")
        os.utime(old, (0, 0))
        plugin_dir.place(str(bin_dir))
        os.utime(old, (0, 0))
        assert legacy_bundle.tidy(str(bin_dir)) == ""
        assert sorted(path.name for path in root.iterdir()) == ["lock", "mine"]

    def test_uninstall_removes_link_and_bundle(self, bin_dir: Path, old: Path) -> None:
        """Uninstall removes the link and the bundle, however lately it was used."""
        assert old.exists()
        assert legacy_bundle.withdraw(str(bin_dir))
        assert os.listdir(bin_dir) == []
        assert not legacy_bundle.withdraw(str(bin_dir))

    def test_behind_a_link_nothing_is_touched(self, bin_dir: Path, old: Path, tmp_path: Path) -> None:
        """Where 0.1.0 refuses to install, there is nothing of it."""
        old.parent.rename(tmp_path / "data")
        old.parent.symlink_to(tmp_path / "data")
        assert legacy_bundle.tidy(str(bin_dir)) == ""
        legacy_bundle.withdraw(str(bin_dir))
        assert (tmp_path / "data/0.1.0/cni-reaper").exists()
