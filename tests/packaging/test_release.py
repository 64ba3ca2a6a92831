"""The tarball, as far as this machine's Python can show it; tests/release has the rest, on the release itself."""

import subprocess
import sys
import tarfile
from pathlib import Path

from tests.neighbours import ROOT

sys.path.insert(0, str(ROOT / "packaging"))
import release

MADE_S = 1_700_000_000


def frozen(into: Path) -> Path:
    """Freeze once more, in a directory of its own, and pack it."""
    (into / ".build").mkdir(parents=True)
    for bootloader in (ROOT / ".build").glob("bootloader-*"):
        (into / ".build" / bootloader.name).hardlink_to(bootloader)
    subprocess.run([sys.executable, ROOT / "packaging" / "freeze.py", into / "dist"], check=True)
    release.checksums(into / "dist" / "cni-reaper")
    return release.pack(into / "dist" / "cni-reaper", "1.2.3", into / "release", MADE_S)


def test_two_builds_of_one_commit_are_equal(tmp_path: Path) -> None:
    """Frozen twice, at other times in other directories: the same tarball, byte by byte."""
    one, other = (frozen(tmp_path / name) for name in ("one", "the other"))
    assert one.read_bytes() == other.read_bytes()
    assert one.with_name(one.name + ".sha512").read_text() == other.with_name(other.name + ".sha512").read_text()


def test_it_unpacks_into_a_bin_directory(tmp_path: Path) -> None:
    """A link and a directory that no runtime takes for a plugin; root's, not for others to write, of the commit's time."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "cni-reaper").touch(0o777)
    (bundle / "data").touch(0o600)
    with tarfile.open(release.pack(bundle, "1.2.3", tmp_path, MADE_S)) as tar:
        entries = {entry.name: entry for entry in tar.getmembers()}
    place = ".cni-reaper/1.2.3"
    assert list(entries) == [".cni-reaper", place, f"{place}/cni-reaper", f"{place}/data", "cni-reaper"]
    assert (entries["cni-reaper"].issym(), entries["cni-reaper"].linkname) == (True, f"{place}/cni-reaper")
    assert {oct(entry.mode) for name, entry in entries.items() if entry.isfile()} == {"0o755", "0o644"}
    assert {(entry.uid, entry.gid, entry.mtime) for entry in entries.values()} == {(0, 0, MADE_S)}
