"""The Debian package on a real Debian with a real systemd: in, upgraded, disabled, out."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtimes.systemd import FILE, NET_D, Systemd, comes_back, has_us, rests, write
from tests.support.cni_calls import BIN
from tests.support.install import TRAILER
from tests.support.node import Node
from tests.support.programs import ROOT, MissingProgramError, Programs
from tests.support.waiting import until

sys.path.insert(0, str(ROOT / "packaging"))
import deb
import tarball

UNITS = [f"cni-reaper-install.{kind}" for kind in ("path", "timer", "service")]
INSTALLED = f"{BIN}/cni-reaper"
COMMAND = "/usr/sbin/cni-reaper"
OLD_HOME = "usr/lib/cni-reaper"


@pytest.fixture(scope="session")
def packages(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The package of the executable under test, and that of a later version: the same program, but another file."""
    made = tmp_path_factory.mktemp("packages")
    ours = tarball.stage(programs.reaper, programs.reaper, made)
    later = made / f"{ours.name}+1"
    shutil.copytree(ours, later)
    raw = programs.reaper.read_bytes()[: -len(TRAILER % (b"0" * 64))] + b"another"
    (later / "cni-reaper").write_bytes(raw + TRAILER % hashlib.sha256(raw).hexdigest().encode())
    one, two = (deb.package(tarball.pack(staged, made), made) for staged in (ours, later))
    return one, two


@pytest.fixture
def system(node: Node, packages: tuple[Path, Path], tmp_path: Path) -> Iterator[Systemd]:
    """A system that has had pods, with a conflist, the package as /root/one.deb and that of a later version as /root/two.deb."""
    made = Systemd(node, tmp_path / "root")
    for package, name in zip(packages, ("one", "two"), strict=True):
        shutil.copy(package, made.path(f"/root/{name}.deb"))
    made.path(NET_D).mkdir(parents=True)
    made.path("/var/lib/cni/networks").mkdir(parents=True)
    made.path(BIN).mkdir(parents=True)
    write(made)
    with made:
        yield made


def content(system: Systemd, path: str) -> bytes:
    """Return the content of a file of the system."""
    return system.path(path).read_bytes()


def test_package_installs_upgrades_and_removes(system: Systemd) -> None:
    """Installed it is in the conflist and stays there; an upgrade brings its executable; removed, everything is as it was."""
    original = content(system, FILE)
    system("dpkg", "--install", "/root/one.deb").check()
    assert has_us(system)
    rests(system)
    assert system("dpkg", "--verify", "cni-reaper").check().text == ""
    write(system)
    comes_back(system, "a rewrite")
    rests(system)
    before = content(system, INSTALLED)
    assert before == content(system, COMMAND)
    system("dpkg", "--install", "/root/two.deb").check()
    assert has_us(system)
    rests(system)
    assert content(system, INSTALLED) == content(system, COMMAND) != before
    assert system("cni-reaper", "version").check().text != ""
    system("dpkg", "--remove", "cni-reaper").check()
    assert content(system, FILE) == original
    assert not system.path(INSTALLED).exists()
    assert not system.path(COMMAND).exists()
    system("dpkg", "--purge", "cni-reaper").check()
    assert list(system.path("/etc/systemd/system").glob("**/cni-reaper*")) == []


def make_old(package: Path, work: Path) -> None:
    """Make of a package one of version 0.1.0: a bundle below /usr/lib, which a link on PATH and the units lead to."""
    bundle = os.environ.get("CNI_REAPER_OLD_BUNDLE")
    if not bundle:
        raise MissingProgramError("CNI_REAPER_OLD_BUNDLE names no bundle of version 0.1.0: `./build.sh e2e` provides it")
    subprocess.run(["dpkg-deb", "--raw-extract", package, work], check=True)
    shutil.copytree(bundle, work / OLD_HOME, symlinks=True)
    command = work / COMMAND.lstrip("/")
    command.unlink()
    command.symlink_to(f"../../{OLD_HOME}/cni-reaper")
    (work / "usr/lib/systemd/system/cni-reaper-mend.service").unlink()
    for name in ("DEBIAN/prerm", "usr/lib/systemd/system/cni-reaper-install.service"):
        (work / name).write_text((work / name).read_text().replace(COMMAND, f"/{OLD_HOME}/cni-reaper"))
    control = (work / "DEBIAN/control").read_text()
    (work / "DEBIAN/control").write_text(re.sub(r"^Version: .*$", "Version: 0.1.0~", control, flags=re.MULTILINE))
    (work / "DEBIAN/md5sums").unlink()
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", work, package], check=True, stdout=subprocess.DEVNULL)


def test_upgrade_from_0_1_0_keeps_entry_and_options(system: Systemd, tmp_path: Path) -> None:
    """The link on PATH and the bundle below /usr/lib become one file; the entry stays, with its options."""
    original = content(system, FILE)
    shutil.copy(system.path("/root/one.deb"), system.path("/root/old.deb"))
    make_old(system.path("/root/old.deb"), tmp_path / "package")
    system("dpkg", "--install", "/root/old.deb").check()
    rests(system)
    assert system.path(INSTALLED).is_symlink()
    system("cni-reaper", "install", "--options", '{"dryRun": true}').check()
    system("dpkg", "--install", "/root/one.deb").check()
    rests(system)
    assert not system.path(f"/{OLD_HOME}").exists()
    assert not system.path(INSTALLED).is_symlink()
    assert content(system, INSTALLED) == content(system, COMMAND)
    assert b'"dryRun": true' in content(system, FILE)
    assert system("dpkg", "--verify", "cni-reaper").check().text == ""
    write(system)
    comes_back(system, "a rewrite")
    assert b'"dryRun": true' in content(system, FILE)
    rests(system)
    system("dpkg", "--remove", "cni-reaper").check()
    assert content(system, FILE) == original
    assert list(system.path(BIN).iterdir()) == []


def test_what_was_disabled_stays_disabled(system: Systemd) -> None:
    """An upgrade starts nothing that a person has switched off."""
    system("dpkg", "--install", "/root/one.deb").check()
    system("systemctl", "disable", "--now", *UNITS).check()
    write(system)
    system("dpkg", "--install", "/root/two.deb").check()
    assert [system.state(unit, "ActiveState") for unit in UNITS] == ["inactive"] * 3
    assert not has_us(system)


def test_package_removes_broken_files(system: Systemd) -> None:
    """Its service runs the package's own executable, started by the first one."""
    system("dpkg", "--install", "/root/one.deb").check()
    until(lambda: system.state("cni-reaper-mend.service", "Result") == "success", "it has run")
    until(lambda: system.state("cni-reaper-mend.service", "ExecMainExitTimestampMonotonic") != "0", "it has ended")
    assert system.state("cni-reaper-mend.service", "ExecMainStatus") == "0"


def test_package_waits_for_a_conflist(system: Systemd) -> None:
    """The package goes in on a node that is not set up yet, and does its work when it is."""
    system.path(FILE).unlink()
    system("dpkg", "--install", "/root/one.deb").check()
    write(system)
    comes_back(system, "the first conflist")


def test_package_installed_again_is_on_again(system: Systemd) -> None:
    """What the removal switched off is on again: dpkg still knows the package, and that is no upgrade."""
    system("dpkg", "--install", "/root/one.deb").check()
    system("dpkg", "--remove", "cni-reaper").check()
    system("dpkg", "--install", "/root/one.deb").check()
    assert has_us(system)
    rests(system)
    assert [system.state(unit, "UnitFileState") for unit in UNITS] == ["enabled"] * 3
    write(system)
    comes_back(system, "a rewrite")


def test_masked_units_stay_off(system: Systemd) -> None:
    """Who wants only the executable on this node gets it, and a package in order."""
    system("systemctl", "mask", *UNITS).check()
    system("dpkg", "--install", "/root/one.deb").check()
    assert not has_us(system)
    assert system("dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", "cni-reaper").check().text.strip() == "ii"


def test_package_in_an_image_works_after_its_boot(system: Systemd) -> None:
    """An image is made so: nothing can be started yet, the package says what that means, and the boot makes up for it."""
    system.halt()
    said = system.node.run(["chroot", str(system.root), "dpkg", "--install", "/root/one.deb"]).check().text
    assert "no systemd runs here" in said
    assert not has_us(system)
    system.boot()
    assert has_us(system)
