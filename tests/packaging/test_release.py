"""The tarball, the image and the Debian package of the executable under test; tests/release has those of a release."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.packaging.released import Image, bill, told
from tests.support.programs import ROOT, Programs

sys.path.insert(0, str(ROOT / "packaging"))
import artifact
import build_root
import release

MADE_S = 1_700_000_000
UNITS = [*(f"cni-reaper-install.{kind}" for kind in ("path", "service", "timer")), "cni-reaper-mend.service"]


def make(script: str, out: Path, *given: Path, umask: int = 0o022) -> Path:
    """Run a script of packaging/, and return the one file that it says it has made."""
    command = [sys.executable, str(ROOT / "packaging" / script), str(out), *map(str, given)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(MADE_S)}
    done = subprocess.run(command, env=environment, umask=umask, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def out(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tarball, an image and a package."""
    made = tmp_path_factory.mktemp("release")
    make("image.py", made, programs.reaper)
    make("deb.py", made, make("tarball.py", made, programs.reaper))
    return made


@pytest.fixture(scope="module")
def tarball(out: Path) -> Path:
    """The tarball."""
    (found,) = out.glob("*.tgz")
    return found


@pytest.fixture(scope="module")
def unpacked(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the tarball unpacks to, alone in its directory."""
    into = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["tar", "-xzf", tarball, "-C", into], check=True)
    (top,) = into.iterdir()
    return top


def test_another_build_of_the_same_files_is_equal(programs: Programs, tmp_path: Path) -> None:
    """Elsewhere, with another umask, home, language and time zone, linked again: the same executable, byte by byte."""
    tree = tmp_path / "another tree"
    for name in ("cni_reaper_plugin", "packaging", "requirements"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    epoch = subprocess.run(["git", "show", "-s", "--format=%ct"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    with release.another_cache(build_root.build_root()) as cache:
        environment = {
            **os.environ,
            "CNI_REAPER_COMMIT": told(programs.reaper)["commit"],
            "SOURCE_DATE_EPOCH": epoch.strip(),
            "CNI_REAPER_CACHE": str(cache),
            "HOME": str(tmp_path),
            "LC_ALL": "C",
            "TZ": "Asia/Kathmandu",
        }
        subprocess.run([sys.executable, tree / "packaging/freeze.py", tree / "dist"], check=True, env=environment, umask=0o077)
    assert (tree / "dist/cni-reaper").read_bytes() == programs.reaper.read_bytes()


def test_the_same_executable_makes_the_same_files(out: Path, tarball: Path, programs: Programs, tmp_path: Path) -> None:
    """Tarball, image and package again, with another umask."""
    again = make("tarball.py", tmp_path, programs.reaper, umask=0o077)
    others = make("image.py", tmp_path, programs.reaper, umask=0o077), make("deb.py", tmp_path, again, umask=0o077)
    assert again.read_bytes() == tarball.read_bytes()
    for made in others:
        assert made.read_bytes() == (out / made.name).read_bytes()


def test_tarball_holds_one_directory_of_root(tarball: Path, unpacked: Path, programs: Programs) -> None:
    """One directory of its own name, root's; the executable under test; no other file that can be run but install.sh."""
    assert unpacked.name == tarball.name.removesuffix(".tgz")
    assert sorted(one.name for one in unpacked.iterdir()) == sorted(
        ("README.md", "cni-reaper", "completions", "docs", "install.sh", "licences", "man", "sbom.cdx.json", "systemd")
    )
    assert (unpacked / "cni-reaper").read_bytes() == programs.reaper.read_bytes()
    with tarfile.open(tarball) as tar:
        entries = tar.getmembers()
    assert all(entry.isdir() or entry.isfile() for entry in entries)
    assert {(entry.uid, entry.gid, entry.uname, entry.mtime) for entry in entries} == {(0, 0, "root", MADE_S)}
    modes = {entry.name.partition("/")[2]: entry.mode for entry in entries if entry.isfile()}
    assert {name for name, mode in modes.items() if mode == 0o755} == {"cni-reaper", "install.sh"}
    assert set(modes.values()) == {0o755, 0o644}


def test_sums_match_the_tarball(tarball: Path) -> None:
    """What is downloaded can be checked by sha256sum(1) and sha512sum(1)."""
    for kind in ("sha256", "sha512"):
        subprocess.run([f"{kind}sum", "-c", "--quiet", f"{tarball.name}.{kind}"], cwd=tarball.parent, check=True)


def test_what_the_executable_prints_lies_beside_it(unpacked: Path) -> None:
    """The completions, the man page and the units, whole."""

    def printed(*arguments: str) -> str:
        return subprocess.run([unpacked / "cni-reaper", *arguments], capture_output=True, check=True, text=True).stdout

    assert (unpacked / "man/cni-reaper.8").read_text() == printed("man")
    for shell, name in (("bash", "cni-reaper.bash"), ("zsh", "_cni-reaper"), ("fish", "cni-reaper.fish")):
        assert (unpacked / "completions" / name).read_text() == printed("completion", shell)
    assert {one.name for one in (unpacked / "systemd").iterdir()} >= set(UNITS)
    for unit in UNITS:
        assert (unpacked / "systemd" / unit).read_bytes() == (ROOT / "packaging/systemd" / unit).read_bytes()


def test_bill_of_materials_is_valid_and_complete(unpacked: Path) -> None:
    """It is valid CycloneDX; what the executable says of its build stands in it; each part has a source."""
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str((unpacked / "sbom.cdx.json").read_text()) is None
    parts, says = bill(unpacked), told(unpacked / "cni-reaper")
    assert set(parts) >= {
        "cpython",
        "hacl-star",
        "glibc",
        "libgcc",
        "orjson",
        "pyo3-ffi",
        "libc",
        "rust-std",
        "pyinstaller",
        "zlib",
    }
    for name, told_name in (("cpython", "libpython"), ("glibc", "glibc"), ("rust-std", "rust")):
        assert parts[name]["version"] == says[told_name]
    for name in ("orjson", "pyinstaller", "rich"):
        assert parts[name]["version"] == says[name]
    assert all(one["purl"] for one in parts.values())
    whole = json.loads((unpacked / "sbom.cdx.json").read_bytes())
    assert says["commit"] in json.dumps(whole["metadata"]["component"])


def test_each_part_has_its_licence(unpacked: Path) -> None:
    """As a text; and how to get the sources and to link the executable with another glibc (LGPL 2.1, section 6)."""
    sources = (unpacked / "licences/SOURCES.md").read_text()
    for name, part in {**bill(unpacked), "cni-reaper": {"version": told(unpacked / "cni-reaper")["commit"]}}.items():
        texts = list((unpacked / "licences" / name).iterdir())
        assert texts
        assert min(len(text.read_bytes()) for text in texts) > 100
        assert f"| {name} | " in sources
        assert part["version"] in sources
    assert "GNU LESSER GENERAL PUBLIC LICENSE" in (unpacked / "licences/glibc/LGPL-2.1").read_text()
    assert "GNU GENERAL PUBLIC LICENSE" in (unpacked / "licences/libgcc/GPL-3").read_text()
    assert "GCC RUNTIME LIBRARY EXCEPTION" in (unpacked / "licences/libgcc/copyright").read_text()
    assert "Bootloader Exception" in (unpacked / "licences/pyinstaller/COPYING.txt").read_text()
    for file in re.findall(r"`(?:python3 )?(packaging/\S+?)`", sources):
        assert (ROOT / file).exists()


def test_the_image_is_one_file(out: Path, programs: Programs) -> None:
    """The executable, from scratch; under the name that the DaemonSet has."""
    (archive,) = out.glob("*.tar")
    image = Image(archive)
    ((config, files),) = image.images()
    assert files == {"cni-reaper": programs.reaper.read_bytes()}
    assert config["architecture"] == artifact.arch_of(programs.reaper) == build_root.architecture()
    assert config["config"]["Entrypoint"] == ["/cni-reaper"]
    kustomization = (ROOT / "packaging/kubernetes/base/kustomization.yaml").read_text()
    name, tag = re.findall(r"name: (\S+)\n +newTag: (\S+)", kustomization)[0]
    assert image.named["annotations"]["io.containerd.image.name"] == f"{name}:{tag}"


def test_the_package_has_one_executable_and_needs_nothing(out: Path, programs: Programs, tmp_path: Path) -> None:
    """One file that can be run, root's; no dependency; the units run it; sums of all files; the licences."""
    (package,) = out.glob("*.deb")
    subprocess.run(["dpkg-deb", "--raw-extract", package, tmp_path], check=True)
    fields = dict(re.findall(r"^(\S+): (.*)$", (tmp_path / "DEBIAN/control").read_text(), re.MULTILINE))
    assert {"Depends", "Pre-Depends", "Recommends"}.isdisjoint(fields)
    assert fields["Architecture"] == artifact.arch_of(programs.reaper)
    files = [one for one in tmp_path.rglob("*") if one.is_file() and "DEBIAN" not in one.parts]
    assert [one for one in files if one.stat().st_mode & 0o111] == [tmp_path / "usr/sbin/cni-reaper"]
    assert not any(one.is_symlink() for one in tmp_path.rglob("*"))
    assert (tmp_path / "usr/sbin/cni-reaper").read_bytes() == programs.reaper.read_bytes()
    listed = subprocess.run(["md5sum", "-c", "--quiet", "DEBIAN/md5sums"], cwd=tmp_path, capture_output=True, text=True)
    assert (listed.returncode, listed.stdout) == (0, "")
    assert len((tmp_path / "DEBIAN/md5sums").read_text().splitlines()) == len(files)
    for unit, command in (("install", "install --settle"), ("mend", "mend")):
        service = (tmp_path / f"usr/lib/systemd/system/cni-reaper-{unit}.service").read_text()
        assert re.findall(r"^ExecStart=(.*)$", service, re.MULTILINE) == [f"/usr/sbin/cni-reaper {command}"]
    doc = tmp_path / "usr/share/doc/cni-reaper"
    assert {one.name for one in doc.iterdir()} == {"copyright", "licences", "sbom.cdx.json", "changelog.gz"}


def test_another_file_is_refused(tmp_path: Path) -> None:
    """What is not an executable of a known architecture, or not a tarball, is named in one sentence."""
    (tmp_path / "script").write_text("#!/bin/sh\n")
    for script, word in (("tarball.py", "not an executable"), ("image.py", "not an executable"), ("deb.py", "not a release")):
        command = [sys.executable, str(ROOT / "packaging" / script), str(tmp_path), str(tmp_path / "script")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1
        assert word in done.stderr
        assert "Traceback" not in done.stderr
