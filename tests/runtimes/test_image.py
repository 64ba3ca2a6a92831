"""The container image, run by Podman as the DaemonSet has it run, on a private node's two directories."""

import hashlib
import io
import json
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from cni_reaper_plugin import __version__
from tests.e2e.pair import until
from tests.node import BIN, NET_D, Node, Ran
from tests.runtimes import programs
from tests.runtimes.chain import NETWORK, chain, owners
from tests.runtimes.podman import Podman

IMAGE_PY = Path(__file__).parents[2] / "packaging" / "image.py"
NAME = f"localhost/cni-reaper:{__version__}"
FILE = f"{NET_D}/{NETWORK}.conflist"
CONFINED = (
    "--read-only",
    "--cap-drop=ALL",
    "--cap-add=CHOWN,DAC_OVERRIDE,FOWNER",
    "--security-opt=no-new-privileges",
    "--network=host",
)
MOUNTS = (f"--volume={BIN}:{BIN}", f"--volume={NET_D}:{NET_D}")
DIRECTORIES = ("--bin-dir", BIN, "--conf-dir", NET_D)
BACK_S = 2.0


def test_the_same_bundle_makes_the_same_image(node: Node, tmp_path: Path) -> None:
    """Byte by byte; and in it are the bundle and glibc, no shell and no host's files."""
    archive = programs.place("CNI_REAPER_IMAGE")
    subprocess.run([sys.executable, IMAGE_PY, node.neighbours.reaper.parent, tmp_path], check=True)
    again = tmp_path / archive.name
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(archive.read_bytes()).digest()
    with tarfile.open(archive) as whole:
        (manifest,) = json.loads(_member(whole, "index.json"))["manifests"]
        (layer,) = json.loads(_blob(whole, manifest["digest"]))["layers"]
        with tarfile.open(fileobj=io.BytesIO(_blob(whole, layer["digest"]))) as content:
            names = {one.name for one in content if one.isfile()}
    outside = {name for name in names if not name.startswith("cni-reaper/")}
    assert "cni-reaper/cni-reaper" in names
    assert len(outside) < 8
    assert all("ld-linux" in name or "/lib" in name or name.endswith("/copyright") for name in outside)


def _blob(whole: tarfile.TarFile, digest: str) -> bytes:
    return _member(whole, f"blobs/{digest.replace(':', '/')}")


def _member(whole: tarfile.TarFile, name: str) -> bytes:
    file = whole.extractfile(name)
    assert file, name
    return file.read()


@pytest.fixture
def podman(node: Node) -> Podman:
    """Podman with the image, on a node with a conflist and without us."""
    chain(node, False)
    node.path(f"{BIN}/cni-reaper").unlink()
    made = Podman(node)
    node.path("/opt/cni/image.tar").write_bytes(programs.place("CNI_REAPER_IMAGE").read_bytes())
    made("load", "-i", "/opt/cni/image.tar").check()
    return made


def run(podman: Podman, *arguments: str, more: tuple[str, ...] = ()) -> Ran:
    """Run the image to its end."""
    return podman("run", "--rm", *CONFINED, *MOUNTS, *more, NAME, *arguments)


def has_us(node: Node) -> bool:
    """Tell whether our entry is in the conflist."""
    return '"cni-reaper"' in node.read(FILE)


def test_install_works_and_goes(podman: Podman) -> None:
    """What the container has installed is what the node's own chain runs."""
    node = podman.node
    original = node.path(FILE).read_bytes()
    run(podman, "install", "--no-conflist", "--bin-dir", BIN).check()
    assert not has_us(node)
    run(podman, "install", *DIRECTORIES).check()
    assert has_us(node)
    lost, live = node.pod(), node.pod()
    node.cnitool("add", NETWORK, lost).check()
    lost.delete()
    node.cnitool("add", NETWORK, live).check()
    assert owners(node) == {live.container_id}
    node.cnitool("del", NETWORK, live).check()
    said = run(podman, "uninstall", *DIRECTORIES).check()
    assert "not to be seen from here" in said.text
    assert node.path(FILE).read_bytes() == original
    state = ("--volume=/var/lib/cni:/var/lib/cni", "--volume=/run/cni-reaper:/run/cni-reaper")
    said = run(podman, "uninstall", *DIRECTORIES, more=state).check()
    assert "1 attachment" in said.text, "the lost pod, which nobody has deleted"
    run(podman, "uninstall", "--purge", *DIRECTORIES, more=state).check()
    assert not node.path(f"{BIN}/cni-reaper").is_symlink()
    assert not node.path(f"{BIN}/.cni-reaper").exists()
    assert not node.path("/var/lib/cni/reaper").exists()


def test_watch(podman: Podman) -> None:
    """It answers a rewrite in place and one by rename; SIGTERM leaves everything; started again it answers again."""
    node = podman.node
    podman("run", "-d", "--name=watch", *CONFINED, *MOUNTS, NAME, "install", "--watch", *DIRECTORIES).check()
    for _ in range(2):
        until(lambda: has_us(node), "the entry is in the conflist")
        chain(node, False)
        until(lambda: has_us(node), "back after a rewrite in place", BACK_S)
        chain(node, False)
        original = node.path(FILE).read_bytes()
        node.path(f"{FILE}.tmp").write_bytes(original)
        node.path(f"{FILE}.tmp").rename(node.path(FILE))
        until(lambda: has_us(node), "back after a rename", BACK_S)
        podman("stop", "--time=20", "watch").check()
        assert podman("inspect", "--format={{.State.ExitCode}}", "watch").check().text.strip() == "0"
        assert has_us(node)
        chain(node, False)
        podman("start", "watch").check()
    podman("kill", f"--signal={signal.SIGKILL.value}", "watch").check()


def test_watch_on_a_directory_that_was_replaced(podman: Podman) -> None:
    """A container sees the one that was mounted, whatever lies there now: it ends, and started anew it sees the new one."""
    node = podman.node
    podman("run", "-d", "--name=watch", *CONFINED, *MOUNTS, NAME, "install", "--watch", *DIRECTORIES).check()
    until(lambda: has_us(node), "the entry is in the conflist")
    node.path(NET_D).rename(node.path(f"{NET_D}.old"))
    chain(node, False)
    assert podman("wait", "watch").check().text.strip() == "1"
    podman("start", "watch").check()
    until(lambda: has_us(node), "the entry is in the conflist of the new directory")
