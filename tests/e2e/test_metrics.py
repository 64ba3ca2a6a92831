"""The frozen executable keeps its metricsFile: what it frees is counted or said to be missing, and nothing there fails a pod."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cni_reaper_plugin import metrics
from cni_reaper_plugin.network_sweep import OUTCOMES
from cni_reaper_plugin.reasons import EMPTY, NETNS_GONE, NO_NETNS_LEFT
from tests.packaging import archive
from tests.support import strace
from tests.support.cni_calls import bridge, host_local, reaper
from tests.support.metrics import METRICS_DIR, METRICS_FILE, exported
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, LOG_FILE
from tests.support.waiting import until

MANY = 60
SLEPT = "/run/slept"
MS_RDONLY = 1


@pytest.fixture
def network(node: Node) -> Network:
    """A network whose entry has a metricsFile."""
    node.path(METRICS_DIR).mkdir()
    return Network(node, metricsFile=METRICS_FILE, logLevel="debug")


def test_freed_addresses_are_counted_by_reason(network: Network) -> None:
    """Two leaks and an empty file go with one ADD; what lives stays; each process adds to what the last one has left."""
    node = network.node
    live = node.pod("live")
    node.add_address("lo", network.add(live) + "/32", live.path)
    dead = [node.pod(name) for name in ("one", "two")]
    for pod in dead:
        network.add(pod)
    for pod in dead:
        pod.delete()
    node.path(f"{DATA_DIR}/{NETWORK}/10.66.0.77").write_bytes(b"")
    before = exported(node)
    assert (before["sweeps_total clean"], before["reaped_total netns-gone"]) == (3, 0)
    network.reap()
    after = exported(node)
    assert after[f"reaped_total {NETNS_GONE.code}"] == 2
    assert after[f"reaped_total {EMPTY.code}"] == after["sweeps_total reaped"] == 1
    assert [after[f"reservations {one}"] for one in ("live", "stale", "unknown")] == [1, 0, 0]
    assert after["pool_used"] == 1
    assert after["sweeps_total clean"] == 3
    assert after["sweep_duration_seconds_count"] == after["sweep_duration_seconds_bucket +Inf"] == 4
    assert after["sweep_duration_seconds_sum"] > 0
    network.give_back(live)
    assert exported(node)["pool_used"] == 0
    assert node.path(METRICS_FILE).stat().st_mode & 0o777 == 0o644
    assert node.log("not-counted") == []


def test_dry_run_is_counted_apart(network: Network) -> None:
    """Under dryRun a leak is counted with each sweep, and stays stale."""
    network.leak()
    for _ in range(2):
        network.reap(dryRun=True)
    after = exported(network.node)
    assert (after[f"would_reap_total {NETNS_GONE.code}"], after[f"reaped_total {NETNS_GONE.code}"]) == (2, 0)
    assert (after["reservations stale"], after["reservations live"], after["pool_used"]) == (1, 0, 1)


def test_unknown_owner_is_counted_in_each_sweep(network: Network) -> None:
    """A file that a person wrote is unknown in each sweep, of ADD and of DEL, though it is reported once."""
    node = network.node
    path = node.path(f"{DATA_DIR}/{NETWORK}")
    path.mkdir(parents=True)
    (path / "10.66.0.9").write_bytes(b"reserved")
    for verb in ("ADD", "ADD", "DEL"):
        network.reap(verb)
        after = exported(node)
        assert (after["kept_unknown"], after["reservations unknown"], after["reservations live"]) == (1, 1, 0), verb


def test_a_full_pool_is_healed_and_counted(node: Node) -> None:
    """Under cnitool: the ADD that a full pool would have refused counts what it has freed."""
    node.path(METRICS_DIR).mkdir()
    node.conflist(NETWORK, [bridge(host_local("10.66.0.0/29"))])
    dead = [node.pod() for _ in range(5)]
    for pod in dead:
        node.cnitool("add", NETWORK, pod).check()
    for pod in dead:
        pod.delete()
    node.conflist(NETWORK, [reaper(metricsFile=METRICS_FILE), bridge(host_local("10.66.0.0/29"))])
    node.cnitool("add", NETWORK, node.pod()).check()
    after = exported(node)
    assert (after[f"reaped_total {NO_NETNS_LEFT.code}"], after["sweeps_total reaped"], after["pool_used"]) == (5, 1, 0)


def test_parallel_adds_are_counted_or_dropped(network: Network) -> None:
    """Sixty ADDs at once: each sweep is counted once, or its call is said to be missing; and so is each leak."""
    node = network.node
    leaks = [node.pod(f"leak-{number}") for number in range(8)]
    for pod in leaks:
        network.add(pod)
    for pod in leaks:
        pod.delete()
    own = node.pod("own")
    commands = [
        node.plugin_command("ADD", network.head, netns=own, container_id=container_id(f"pod-{number}")) for number in range(MANY)
    ]
    for ran in node.together(commands):
        ran.check()
    network.reap()
    after = exported(node)
    dropped = len(node.log("not-counted"))
    assert after["dropped_total"] == dropped
    sweeps = sum(after[f"sweeps_total {outcome}"] for outcome in OUTCOMES)
    assert sweeps == after["sweep_duration_seconds_count"] == len(leaks) + MANY + 1 - dropped
    assert len(node.log("reaped")) == len(leaks)
    assert after[f"reaped_total {NETNS_GONE.code}"] == len(leaks) or dropped
    assert {one.name for one in node.path(METRICS_DIR).iterdir()} == {Path(METRICS_FILE).name, f"{Path(METRICS_FILE).name}.lock"}


def test_a_lock_that_is_held_delays_nothing(network: Network) -> None:
    """Somebody sits on the lock: an ADD sleeps 20 ms at most, and is not counted, which the next one says."""
    node = network.node
    network.reap()
    holder = node.start(["flock", f"{METRICS_FILE}.lock", "sleep", "infinity"])
    until(lambda: b"sleep" in node.run(["sh", "-c", "cat /proc/[0-9]*/comm"]).out, "the lock is held")
    for _ in range(3):
        assert 0 < sum(slept(network)) <= metrics.WAIT_S + 1e-6
    assert exported(node)["sweeps_total clean"] == 1
    node.run(["pkill", "-P", str(holder)])
    node.stop(holder)
    network.reap()
    after = exported(node)
    assert (after["sweeps_total clean"], after["dropped_total"]) == (2, 3)
    assert [one["reason"] for one in node.log("not-counted")] == [f"others hold the lock of {METRICS_FILE}"] * 3


def slept(network: Network, verb: str = "ADD") -> list[float]:
    """Run a verb for a container of its own; return for how long it has waited each time, in seconds."""
    own = network.node.pod()
    command = network.node.plugin_command(verb, network.head, netns=own, container_id=container_id(own.name))
    command["argv"] = [*strace.sleeping(SLEPT), *command["argv"]]
    network.node.together([command])[0].check()
    return strace.sleeps_s(network.node.read(SLEPT))


def directory_at(path: Path) -> None:
    """Make a directory with something in it."""
    (path / "in").mkdir(parents=True)


def fifo_at(path: Path) -> None:
    """Make a FIFO that nobody opens."""
    os.mkfifo(path)


def loop_at(path: Path) -> None:
    """Make a symlink to itself."""
    path.symlink_to(path.name)


HOSTILE: dict[str, tuple[Callable[[Path], None], str, bool]] = {
    "a directory": (directory_at, "", False),
    "a FIFO": (fifo_at, "", True),
    "a symlink loop": (loop_at, "", True),
    "a symlink to another file": (lambda path: path.symlink_to("/etc/hostname"), "", True),
    "the lock is a symlink loop": (loop_at, ".lock", False),
    "the lock is a directory": (directory_at, ".lock", False),
    "the lock is a FIFO": (fifo_at, ".lock", True),
}


@pytest.mark.parametrize(("make", "suffix", "is_written"), HOSTILE.values(), ids=HOSTILE.keys())
def test_nothing_at_the_path_fails_a_pod(network: Network, make: Callable[[Path], None], suffix: str, is_written: bool) -> None:
    """Whatever stands there, ADD and DEL succeed without waiting and free what is leaked; what it pointed to is as it was."""
    node = network.node
    network.leak()
    for entry in node.path(METRICS_DIR).iterdir():
        entry.unlink()
    before = node.read("/etc/hostname"), node.run(["ls", "/etc"]).out
    make(node.path(METRICS_FILE + suffix))
    assert network.reap().json() == {"cniVersion": "1.0.0"}
    assert [slept(network), slept(network, "DEL")] == [[], []]
    assert network.held() == set()
    assert (node.read("/etc/hostname"), node.run(["ls", "/etc"]).out) == before
    if is_written:
        assert exported(node)["sweeps_total reaped"] == 1
        assert not node.path(METRICS_FILE).is_symlink()
    else:
        assert len(node.log("not-counted")) == 3


@pytest.mark.parametrize("trouble", ["read-only", "full", "missing", "a file", "a symlink loop"])
def test_no_directory_fails_a_pod(network: Network, trouble: str) -> None:
    """The directory cannot be written: the same, and one line at debug for each call."""
    node = network.node
    network.leak()
    directory = node.path(METRICS_DIR)
    for entry in directory.iterdir():
        entry.unlink()
    if trouble in ("read-only", "full"):
        node.mount("tmpfs", METRICS_DIR, "tmpfs", MS_RDONLY if trouble == "read-only" else 0, "size=4k")
        if trouble == "full":
            (directory / "ballast").write_bytes(b"x" * 4096)
    else:
        directory.rmdir()
        if trouble == "a file":
            directory.write_bytes(b"")
        elif trouble == "a symlink loop":
            loop_at(directory)
    network.reap()
    network.reap("DEL")
    assert network.held() == set()
    assert len(node.log("not-counted")) == 2
    if trouble == "full":
        assert {one.name for one in directory.iterdir()} <= {"ballast", "cni-reaper.prom.lock"}


def test_a_wrong_name_is_a_wrong_option(network: Network) -> None:
    """A file of another kind is never written over."""
    node = network.node
    network.leak()
    before = node.read("/etc/hostname")
    network.reap(metricsFile="/etc/hostname")
    assert "metricsFile must be an absolute path that ends in .prom" in node.log("bad-options")[-1]["reason"]
    assert (len(network.held()), node.read("/etc/hostname")) == (1, before)


def test_skipped_and_cut_sweeps_are_counted(network: Network) -> None:
    """What cannot be reaped just now is no clean sweep."""
    node = network.node
    network.leak()
    node.path(f"{DATA_DIR}/{NETWORK}/lock").unlink()
    node.path(f"{DATA_DIR}/{NETWORK}/lock").symlink_to("lock")
    network.reap()
    after = exported(node)
    assert (after["sweeps_total skipped"], after[f"reaped_total {NETNS_GONE.code}"]) == (1, 0)
    assert re.search(r"Too many levels|symbolic", node.log("sweep-skipped")[-1]["reason"])


@pytest.mark.parametrize("damage", [b"\0", b"x"], ids=["zeros", "other bytes"])
def test_without_the_module_that_counts_leaks_are_freed(network: Network, tmp_path: Path, damage: bytes) -> None:
    """It is damaged in the executable: the ADD succeeds, frees the leak, and one line at debug says why nothing was counted."""
    node = network.node
    network.leak()
    executable = tmp_path / "cni-reaper"
    shutil.copy(node.programs.reaper, executable)
    archive.overwrite(executable, metrics.__name__, damage)
    own = node.pod()
    node.plugin("ADD", network.head, netns=own, container_id=container_id(own.name), binary=str(executable)).check()
    assert network.held() == set()
    assert "executable is damaged" in node.log("not-counted")[-1]["reason"]


def test_without_it_nothing_is_written(node: Node) -> None:
    """By default there is no such file anywhere beside the log."""
    network = Network(node)
    network.leak()
    network.reap()
    found = node.run(["find", "/var/lib", "/var/log", "/run", "-xdev", "-name", "*.prom*"]).out
    assert found == b""
    assert node.path(LOG_FILE).exists()


def test_who_is_freed_is_not_counted_as_kept(network: Network) -> None:
    """The quick scan keeps an owner without a netns of its own; the full scan of the same call finds it dead, and frees it."""
    node, unknown = network.node, container_id("unknown")
    everyone = node.pod("everyone")
    for number in range(100, 170):
        node.plugin("ADD", network.head, netns=everyone, container_id=container_id(str(number))).check()
        node.reserve(NETWORK, f"10.66.0.{number}", container_id(str(number)))
    nobodys = node.pod()
    node.reserve(NETWORK, "10.66.0.10", unknown)
    network.reap()
    assert "10.66.0.10" in node.reservations(NETWORK)
    other = {**reaper(), "name": "other", "cniVersion": "1.0.0"}
    node.plugin("ADD", other, netns=nobodys, container_id=container_id("other")).check()
    dead = node.pod("dead")
    node.plugin("ADD", network.head, netns=dead, container_id=container_id("dead")).check()
    node.reserve(NETWORK, "10.66.0.99", container_id("dead"))
    dead.delete()
    node.plugin("DEL", network.head, netns="", container_id="f" * 64).check()
    after = exported(node)
    assert "10.66.0.10" not in node.reservations(NETWORK)
    assert [after[f"reservations {one}"] for one in ("live", "stale", "unknown")] == [70, 0, 0]
    assert after["kept_unknown"] == 0
