"""The Debian package on a real Debian with a real systemd: in, upgraded, disabled, out."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.neighbours import ROOT
from tests.node import Node
from tests.runtimes.systemd import Systemd
from tests.runtimes.test_systemd import FILE, NET_D, comes_back, has_us, rests, write

UNITS = [f"cni-reaper-install.{kind}" for kind in ("path", "timer", "service")]
BIN = "/opt/cni/bin"
LINK = f"{BIN}/cni-reaper"


def package(bundle: Path, into: Path) -> Path:
    """Make the package of a bundle."""
    made = subprocess.run(
        [sys.executable, ROOT / "packaging" / "deb.py", bundle, into], check=True, capture_output=True, text=True
    )
    return Path(made.stdout.strip())


@pytest.fixture
def system(node: Node, tmp_path: Path) -> Iterator[Systemd]:
    """A system with a conflist and the package of this bundle as /root/one.deb, another build's as /root/two.deb."""
    made = Systemd(node, tmp_path / "root")
    ours = node.neighbours.reaper.parent
    other = tmp_path / "other"
    subprocess.run(["cp", "-a", ours, other], check=True)
    told = json.loads((other / "_internal" / "build.json").read_text())
    (other / "_internal" / "build.json").write_text(json.dumps({**told, "version": f"{told['version']}+1"}))
    package(ours, tmp_path).rename(made.path("/root/one.deb"))
    package(other, tmp_path).rename(made.path("/root/two.deb"))
    made.path(NET_D).mkdir(parents=True)
    made.path("/var/lib/cni").mkdir()
    made.path(BIN).mkdir(parents=True)
    write(made)
    with made:
        yield made


def test_in_and_out(system: Systemd) -> None:
    """Installed it is in the conflist and stays there; an upgrade brings its bundle; removed, everything is as it was."""
    original = system.path(FILE).read_bytes()
    system("dpkg", "--install", "/root/one.deb").check()
    assert has_us(system)
    rests(system)
    assert system("dpkg", "--verify", "cni-reaper").check().text == ""
    write(system)
    comes_back(system, "a rewrite")
    rests(system)
    before = system.path(LINK).readlink()
    system("dpkg", "--install", "/root/two.deb").check()
    assert has_us(system)
    rests(system)
    assert system.path(LINK).readlink() != before
    assert system("cni-reaper", "version").check().text != ""
    system("dpkg", "--remove", "cni-reaper").check()
    assert system.path(FILE).read_bytes() == original
    assert not system.path(LINK).is_symlink()
    assert not system.path("/usr/lib/cni-reaper").exists()
    system("dpkg", "--purge", "cni-reaper").check()
    assert list(system.path("/etc/systemd/system").glob("**/cni-reaper*")) == []


def test_what_was_disabled_stays_disabled(system: Systemd) -> None:
    """An upgrade starts nothing that a person has switched off."""
    system("dpkg", "--install", "/root/one.deb").check()
    system("systemctl", "disable", "--now", *UNITS).check()
    write(system)
    system("dpkg", "--install", "/root/two.deb").check()
    assert [system.state(unit, "ActiveState") for unit in UNITS] == ["inactive"] * 3
    assert not has_us(system)


def test_without_a_conflist(system: Systemd) -> None:
    """The package goes in on a node that is not set up yet, and does its work when it is."""
    system.path(FILE).unlink()
    system("dpkg", "--install", "/root/one.deb").check()
    write(system)
    comes_back(system, "the first conflist")


def test_removed_and_installed_again(system: Systemd) -> None:
    """What the removal switched off is on again: dpkg still knows the package, and that is no upgrade."""
    system("dpkg", "--install", "/root/one.deb").check()
    system("dpkg", "--remove", "cni-reaper").check()
    system("dpkg", "--install", "/root/one.deb").check()
    assert has_us(system)
    rests(system)
    assert [system.state(unit, "UnitFileState") for unit in UNITS] == ["enabled"] * 3
    write(system)
    comes_back(system, "a rewrite")


def test_masked_before_the_package_comes(system: Systemd) -> None:
    """Who wants only the executable on this node gets it, and a package in order."""
    system("systemctl", "mask", *UNITS).check()
    system("dpkg", "--install", "/root/one.deb").check()
    assert not has_us(system)
    assert system("dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", "cni-reaper").check().text.strip() == "ii"


def test_into_a_system_that_is_booted_later(system: Systemd) -> None:
    """An image is made so: nothing can be started yet, the package says what that means, and the boot makes up for it."""
    system.halt()
    said = system.node.run(["chroot", str(system.root), "dpkg", "--install", "/root/one.deb"]).check().text
    assert "no systemd runs here" in said
    assert not has_us(system)
    system.boot()
    assert has_us(system)
