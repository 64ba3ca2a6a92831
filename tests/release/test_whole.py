"""A release is whole: for both architectures, checkable, and of the very executables that a build makes."""

import subprocess
import sys
from pathlib import Path

import pytest

from cni_reaper_plugin import __version__
from tests.packaging.released import Image, bill, told
from tests.support.programs import ROOT, Programs

sys.path.insert(0, str(ROOT / "packaging"))
from artifact import arch_of

ARCHITECTURES = ["amd64", "arm64"]


@pytest.fixture(params=ARCHITECTURES)
def arch(request: pytest.FixtureRequest) -> str:
    """An architecture."""
    found: str = request.param
    return found


def unpack(release: Path, arch: str, into: Path) -> Path:
    """Unpack the tarball of an architecture, and return its directory."""
    name = f"cni-reaper-linux-{arch}-v{__version__}"
    subprocess.run(["tar", "-xzf", release / f"{name}.tgz", "-C", into], check=True)
    return into / name


def test_release_has_each_file_with_its_sums(release: Path) -> None:
    """Tarballs, packages and an image of this version, each with its sums, and what installs them."""
    made = [f"cni-reaper-image-v{__version__}.tar"]
    for arch in ARCHITECTURES:
        made += [f"cni-reaper-linux-{arch}-v{__version__}.tgz", f"cni-reaper_{__version__}_{arch}.deb"]
    names = {one.name for one in release.iterdir()}
    assert names >= {*made, "install.sh"}
    for name in made:
        for kind in ("sha256", "sha512"):
            subprocess.run([f"{kind}sum", "-c", "--quiet", f"{name}.{kind}"], cwd=release, check=True)
    assert (release / "install.sh").read_bytes() == (ROOT / "packaging/install.sh").read_bytes()


def test_executable_is_the_same_in_each_file(release: Path, arch: str, programs: Programs, tmp_path: Path) -> None:
    """Of its architecture; the same file in tarball, image and package; where it runs here, it is the one that a build makes."""
    executable = unpack(release, arch, tmp_path) / "cni-reaper"
    raw = executable.read_bytes()
    assert arch_of(executable) == arch
    images = {config["architecture"]: files for config, files in Image(next(release.glob("*.tar"))).images()}
    assert images[arch] == {"cni-reaper": raw}
    package = release / f"cni-reaper_{__version__}_{arch}.deb"
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path / "package"], check=True)
    assert (tmp_path / "package/usr/sbin/cni-reaper").read_bytes() == raw
    if arch == arch_of(programs.reaper):
        of_this, of_the_build = told(executable)["commit"], told(programs.reaper)["commit"]
        assert len(of_this) == len("0" * 40)
        assert (raw == programs.reaper.read_bytes()) == (of_this == of_the_build), "what is not committed makes another build"


def test_the_bill_of_materials_is_of_the_architecture(release: Path, arch: str, tmp_path: Path) -> None:
    """Each is linked with a C library of its own, of which it names the version."""
    unpacked = unpack(release, arch, tmp_path)
    assert f"| glibc | {bill(unpacked)['glibc']['version']} | " in (unpacked / "licences/SOURCES.md").read_text()
    assert f"for {arch}" in (unpacked / "sbom.cdx.json").read_text()
