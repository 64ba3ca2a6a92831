"""packaging/install.sh with the tarball of a release, on private nodes."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.cni_calls import BIN, NET_D
from tests.support.commands import Ran
from tests.support.install import FILE, LINK, OURS, plugins, tree
from tests.support.node import Node
from tests.support.programs import ROOT, Programs

sys.path.insert(0, str(ROOT / "packaging"))
import tarball as tarballs

HERE = "/run/the release"


@pytest.fixture(scope="module")
def staged(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a tarball unpacks to."""
    return tarballs.stage(programs.reaper, programs.reaper, tmp_path_factory.mktemp("release"))


@pytest.fixture
def unpacked(bare: Node, staged: Path) -> Node:
    """A node with a conflist, and the script beside a tarball."""
    there = bare.path(HERE)
    tarballs.pack(staged, there)
    shutil.copy(ROOT / "packaging" / "install.sh", there)
    bare.path("/run/tmp").mkdir()
    return bare


def script(node: Node, *arguments: str, tmp: str = "/run/tmp", **env: str) -> Ran:
    """Run the script as a person does."""
    return node.run(["sh", f"{HERE}/install.sh", *arguments], env={"TMPDIR": tmp, **env})


def tarball(node: Node) -> Path:
    """Return the path of the tarball."""
    (found,) = node.path(HERE).glob("*.tgz")
    return found


def test_installs_what_lies_beside_it(unpacked: Node) -> None:
    """Options go to install; nothing is left of the unpacking."""
    before = tree(unpacked, BIN), tree(unpacked, NET_D)
    assert "would put" in script(unpacked, "--dry-run").check().text
    assert (tree(unpacked, BIN), tree(unpacked, NET_D)) == before
    script(unpacked).check()
    assert plugins(unpacked)[0] == OURS
    unpacked.run([LINK, "version"]).check()
    assert os.listdir(unpacked.path("/run/tmp")) == []


def test_installs_the_named_tarball(unpacked: Node) -> None:
    """A tarball elsewhere, with options behind it."""
    for file in [tarball(unpacked), tarball(unpacked).with_name(tarball(unpacked).name + ".sha256")]:
        file.rename(unpacked.path(f"/run/{file.name}"))
    (elsewhere,) = unpacked.path("/run").glob("*.tgz")
    assert "there is no" in script(unpacked).text
    script(unpacked, f"/run/{elsewhere.name}", "--options", '{"logLevel": "debug"}').check()
    assert plugins(unpacked)[0] == {**OURS, "logLevel": "debug"}


def refuses(node: Node, words: str, *arguments: str, **env: str) -> None:
    """See that the script refuses with a sentence, and has touched nothing."""
    before = tree(node, BIN), node.path(FILE).read_bytes()
    ran = script(node, *arguments, **env)
    assert ran.rc == 1
    assert words in ran.text
    assert (tree(node, BIN), node.path(FILE).read_bytes()) == before
    assert os.listdir(node.path("/run/tmp")) == []


def test_installs_from_an_unpacked_release(unpacked: Node, staged: Path) -> None:
    """The script beside the executable installs that; where nothing may run, it says so."""
    shutil.copytree(staged, unpacked.path("/run/unpacked"))
    unpacked.run(["sh", "/run/unpacked/install.sh", "--options", '{"logLevel": "debug"}']).check()
    assert plugins(unpacked)[0] == {**OURS, "logLevel": "debug"}
    before = tree(unpacked, BIN), unpacked.path(FILE).read_bytes()
    unpacked.mount("tmpfs", "/run/unpacked", "tmpfs", flags=8)  # MS_NOEXEC
    shutil.copytree(staged, unpacked.path("/run/unpacked"), dirs_exist_ok=True)
    ran = unpacked.run(["sh", "/run/unpacked/install.sh"])
    assert ran.rc == 1
    assert "noexec" in ran.text
    assert (tree(unpacked, BIN), unpacked.path(FILE).read_bytes()) == before


def test_damaged_tarball_is_refused(unpacked: Node) -> None:
    """One byte is another one, or its sum is not there."""
    file = tarball(unpacked)
    raw = bytearray(file.read_bytes())
    raw[-20] ^= 1
    file.write_bytes(raw)
    refuses(unpacked, hashlib.sha256(raw).hexdigest())
    file.with_name(f"{file.name}.sha256").unlink()
    refuses(unpacked, ".sha256")


def test_another_architecture_is_refused(unpacked: Node) -> None:
    """Whether it lies there, or is named."""
    file = tarball(unpacked)
    other = file.with_name(file.name.replace("amd64", "arm64") if "amd64" in file.name else file.name.replace("arm64", "amd64"))
    file.rename(other)
    file.with_name(f"{file.name}.sha256").rename(other.with_name(f"{other.name}.sha256"))
    refuses(unpacked, "there is no")
    refuses(unpacked, "take that one", f"{HERE}/{other.name}")


def test_several_releases_are_refused(unpacked: Node) -> None:
    """It does not choose."""
    file = tarball(unpacked)
    shutil.copy(file, file.with_name(file.name.replace("-v", "-v1")))
    refuses(unpacked, "name the one")


def test_noexec_directory_is_told(unpacked: Node) -> None:
    """Where it is unpacked nothing may run: said, with what to do."""
    unpacked.path("/run/noexec").mkdir()
    unpacked.mount("tmpfs", "/run/noexec", "tmpfs", flags=8)  # MS_NOEXEC
    refuses(unpacked, "TMPDIR", tmp="/run/noexec")
