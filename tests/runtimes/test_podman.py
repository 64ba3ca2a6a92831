"""Podman with the CNI backend: it has no CNI of its own at boot, so whoever ran at a reboot has leaked."""

import pytest

from tests.runtimes.chain import NETWORK, ROOM, Control, chain, held, owners
from tests.runtimes.podman import Podman
from tests.support.node import Node

VERSION = "0.4.0"


@pytest.fixture
def podman(node: Node, us: bool) -> Podman:
    """Podman on a node whose conflist has us at the head, or not."""
    chain(node, us, version=VERSION)
    return Podman(node)


def rebooted_with_containers(podman: Podman) -> tuple[list[str], Control]:
    """Have all but one address taken by containers that run at a reboot; start the control container afterwards."""
    ids = [podman.run(f"c{number}", NETWORK) for number in range(ROOM - 1)]
    podman.node.reboot()
    assert owners(podman.node) == set(ids)
    control = podman.run("control", NETWORK)
    (address,) = [one for one, (owner, _) in podman.node.reservations(NETWORK).items() if owner == control]
    return ids, Control(podman.node, control, address)


def test_start_after_a_reboot_works_at_first_try(podman: Podman, us: bool) -> None:
    """`podman start` of a container that ran at the reboot: refused as a duplicate without us, works at the first try with us."""
    _, control = rebooted_with_containers(podman)
    started = podman("start", "c0")
    assert (started.rc == 0) == us, str(started)
    assert us or "duplicate allocation is not allowed" in started.text
    control.check()


def test_removed_after_a_reboot_is_freed(podman: Podman, us: bool) -> None:
    """`podman rm` of containers that ran at the reboot leaves their addresses for good, with us nothing after the next start."""
    ids, control = rebooted_with_containers(podman)
    for number in range(ROOM - 1):
        podman("rm", "-f", f"c{number}").check()
    if us:
        new = podman.run("new", NETWORK)
        assert owners(podman.node) == {control.owner, new}
    else:
        assert owners(podman.node) == {control.owner, *ids}
        assert "no IP addresses available" in podman("run", "-d", "--network", NETWORK, "localhost/pause:1").text
    control.check()


@pytest.mark.parametrize("us", [True], indirect=True)
def test_stop_start_and_remove_leave_nothing(podman: Podman) -> None:
    """A container's whole life: stopped and started again, by the same ID, and removed; nothing is left, nothing is reaped."""
    podman.run("control", NETWORK)
    container = podman.run("c", NETWORK)
    for _ in range(3):
        podman("stop", "-t", "1", "c").check()
        assert len(held(podman.node)) == 1
        podman("start", "c").check()
        assert container in owners(podman.node)
    podman("rm", "-f", "c").check()
    assert len(held(podman.node)) == 1
    assert podman.node.log("reaped") == []
