"""The container image, run by Podman as the DaemonSet has it run, on three directories of a private node."""

import signal

import pytest

from cni_reaper_plugin import __version__
from tests.runtimes import programs
from tests.runtimes.chain import NETWORK, chain, owners
from tests.runtimes.podman import Podman
from tests.support.cni_calls import BIN, NET_D
from tests.support.commands import Ran
from tests.support.node import Node
from tests.support.node_files import STATE_DIR
from tests.support.waiting import until

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
STATE = (f"--volume={STATE_DIR}:{STATE_DIR}",)
DIRECTORIES = ("--bin-dir", BIN, "--conf-dir", NET_D)


@pytest.fixture
def podman(node: Node) -> Podman:
    """Podman with the image, on a node with a conflist and without us."""
    chain(node, False)
    node.path(f"{BIN}/cni-reaper").unlink()
    node.path(STATE_DIR).mkdir(parents=True)
    made = Podman(node)
    node.path("/opt/cni/image.tar").write_bytes(programs.place("CNI_REAPER_IMAGE").read_bytes())
    made("load", "-i", "/opt/cni/image.tar").check()
    return made


def run(podman: Podman, *arguments: str, state: tuple[str, ...] = STATE) -> Ran:
    """Run the image to its end. state: the mounts of what is below /var/lib/cni and /run."""
    return podman("run", "--rm", *CONFINED, *MOUNTS, *state, NAME, *arguments)


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
    assert "whether one can still call it is not to be seen" in said.text
    assert node.path(FILE).read_bytes() == original
    state = ("--volume=/var/lib/cni:/var/lib/cni", "--volume=/run/cni-reaper:/run/cni-reaper")
    said = run(podman, "uninstall", *DIRECTORIES, state=state).check()
    assert "1 attachment" in said.text, "the lost pod, which nobody has deleted"
    run(podman, "uninstall", "--purge", *DIRECTORIES, state=state).check()
    assert not node.path(f"{BIN}/cni-reaper").exists()
    assert not node.path(STATE_DIR).exists()


def test_watch_answers_each_rewrite(podman: Podman) -> None:
    """It answers a rewrite in place and one by rename; SIGTERM leaves everything; started again it answers again."""
    node = podman.node
    podman("run", "-d", "--name=watch", *CONFINED, *MOUNTS, *STATE, NAME, "install", "--watch", *DIRECTORIES).check()
    for _ in range(2):
        until(lambda: has_us(node), "the entry is in the conflist")
        chain(node, False)
        until(lambda: has_us(node), "back after a rewrite in place")
        chain(node, False)
        original = node.path(FILE).read_bytes()
        node.path(f"{FILE}.tmp").write_bytes(original)
        node.path(f"{FILE}.tmp").rename(node.path(FILE))
        until(lambda: has_us(node), "back after a rename")
        podman("stop", "--time=20", "watch").check()
        assert podman("inspect", "--format={{.State.ExitCode}}", "watch").check().text.strip() == "0"
        assert has_us(node)
        chain(node, False)
        podman("start", "watch").check()
    podman("kill", f"--signal={signal.SIGKILL.value}", "watch").check()


def test_watch_ends_when_its_directory_is_replaced(podman: Podman) -> None:
    """A container sees the one that was mounted, whatever lies there now: it ends, and started anew it sees the new one."""
    node = podman.node
    podman("run", "-d", "--name=watch", *CONFINED, *MOUNTS, *STATE, NAME, "install", "--watch", *DIRECTORIES).check()
    until(lambda: has_us(node), "the entry is in the conflist")
    node.path(NET_D).rename(node.path(f"{NET_D}.old"))
    chain(node, False)
    assert podman("wait", "watch").check().text.strip() == "1"
    podman("start", "watch").check()
    until(lambda: has_us(node), "the entry is in the conflist of the new directory")
