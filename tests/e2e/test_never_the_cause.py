"""The plugin is never the cause of a failed pod or of a leak: whatever it meets, ADD and DEL end, and succeed.

The frozen executable on a node with a live pod and a leak. Each trouble is real: a mount, a lock, a missing capability; only
/proc/self/mountinfo is made unreadable by strace, since the kernel never refuses it to its own process.
"""

import dataclasses
import os
from collections.abc import Callable

import pytest

from tests.support import strace
from tests.support.cni_calls import Pod, bridge, host_local, reaper
from tests.support.commands import Ran
from tests.support.network import NETWORK, Network, container_id
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, STATE_DIR
from tests.support.waiting import until

MS_RDONLY = 1
SLEPT = "/run/slept"
NO_OVERRIDE = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
RECORDS = f"{STATE_DIR}/{NETWORK}"
STORE = f"{DATA_DIR}/{NETWORK}"


def mountinfo_refused(which: int) -> list[str]:
    """Return a command prefix under which the `which`-th and later opens of our mountinfo fail."""
    return [
        "strace",
        "--quiet=all",
        "-o",
        "/dev/null",
        "-e",
        "trace=openat",
        "-P",
        "/proc/self/mountinfo",
        "-e",
        f"inject=openat:error=EACCES:when={which}+",
    ]


@dataclasses.dataclass(frozen=True)
class Trouble:
    """One thing that goes wrong. make: brings it about; says: part of the log line that tells why nothing was reaped."""

    make: Callable[[Network], None]
    says: str
    prefix: tuple[str, ...] = ()
    del_says: str | None = None


def replace_by_file(path: str) -> Callable[[Network], None]:
    """Return what puts a file in place of a directory."""

    def make(network: Network) -> None:
        network.node.path(path).rename(network.node.path(path + ".away"))
        network.node.write(path, "")

    return make


def replace_by_link(path: str) -> Callable[[Network], None]:
    """Return what moves a directory away and leaves a symlink to it."""

    def make(network: Network) -> None:
        network.node.path(path).rename(network.node.path(path + ".away"))
        network.node.path(path).symlink_to(path + ".away")

    return make


def moved_away(path: str) -> Callable[[Network], None]:
    """Return what renames a directory."""

    def make(network: Network) -> None:
        network.node.path(path).rename(network.node.path(path + ".away"))

    return make


def closed(path: str) -> Callable[[Network], None]:
    """Return what takes all permissions from a file or directory."""
    return lambda network: network.node.path(path).chmod(0)


def mounted(path: str, data: str, flags: int = 0) -> Callable[[Network], None]:
    """Return what mounts a tmpfs."""

    def make(network: Network) -> None:
        network.node.path(path).mkdir(parents=True, exist_ok=True)
        network.node.mount("tmpfs", path, "tmpfs", flags, data)

    return make


def full(path: str) -> Callable[[Network], None]:
    """Return what puts a full file system at a path."""

    def make(network: Network) -> None:
        mounted(path, "size=4k")(network)
        network.node.path(path + "/ballast").write_bytes(b"x" * 4096)

    return make


def nothing(_: Network) -> None:
    """Leave everything as it is: the prefix is the trouble."""


TROUBLES = {
    "dataDir is missing": Trouble(moved_away(DATA_DIR), "no reservations here yet"),
    "dataDir cannot be read": Trouble(closed(DATA_DIR), "Permission denied", tuple(NO_OVERRIDE)),
    "dataDir is a file": Trouble(replace_by_file(DATA_DIR), "Not a directory"),
    "network directory cannot be read": Trouble(closed(STORE), "Permission denied", tuple(NO_OVERRIDE)),
    "lock is a symlink": Trouble(replace_by_link(f"{STORE}/lock"), "symbolic links"),
    "/run/cni-reaper is read-only": Trouble(mounted("/run/cni-reaper", "", MS_RDONLY), "", del_says="cannot be sure to see"),
    "/run/cni-reaper is a file": Trouble(replace_by_file("/run/cni-reaper"), "", del_says="cannot be sure to see"),
    "records cannot be read": Trouble(closed(STATE_DIR), "Permission denied", tuple(NO_OVERRIDE)),
    "records' directory is a file": Trouble(replace_by_file(RECORDS), "evidence cannot be read"),
    "records' directory is a symlink": Trouble(replace_by_link(RECORDS), "evidence cannot be read"),
    "mountinfo cannot be read at all": Trouble(
        nothing, "visible netns cannot be read", tuple(mountinfo_refused(1)), del_says="not everything can be seen"
    ),
    "mountinfo cannot be read later": Trouble(nothing, "not everything can be seen", tuple(mountinfo_refused(2)), del_says=""),
}


@pytest.fixture
def network(node: Node) -> Network:
    """A network with a live pod and a leak."""
    network = Network(node)
    live = node.pod("live")
    node.add_address("lo", network.add(live) + "/32", live.path)
    network.leak("dead")
    return network


def call(network: Network, verb: str, pod: Pod, prefix: tuple[str, ...] = ()) -> Ran:
    """Run our plugin for a pod, behind a command prefix."""
    command = network.node.plugin_command(verb, network.head, container_id=container_id(pod.name), netns=pod)
    command["argv"] = [*prefix, *command["argv"]]
    return network.node.together([command])[0]


def assert_good(ran: Ran, verb: str) -> None:
    """The call has ended, succeeded as the protocol wants it, and said nothing elsewhere."""
    ran.check()
    assert (ran.json() == {"cniVersion": "1.0.0"}) if verb == "ADD" else (ran.out == b"")
    assert ran.err == b""


def assert_at_once(network: Network, verb: str, pod: Pod | str, prefix: tuple[str, ...] = ()) -> None:
    """The call succeeds without sleeping at all; pod: or a container's ID alone."""
    node = network.node
    owner, netns = (pod, None) if isinstance(pod, str) else (container_id(pod.name), pod)
    command = node.plugin_command(verb, network.head, container_id=owner, netns=netns)
    is_traced = prefix[:1] == ("strace",)  # a process has one tracer
    command["argv"] = [*([] if is_traced else strace.sleeping(SLEPT)), *prefix, *command["argv"]]
    assert_good(node.together([command])[0], verb)
    assert is_traced or strace.sleeps_s(node.read(SLEPT)) == []


def leaked(network: Network) -> bool:
    """Tell whether the leak still stands, wherever its directory has gone."""
    return any(
        (network.node.path(DATA_DIR + away) / (NETWORK + gone) / "10.66.0.3").exists()
        for away in ("", ".away")
        for gone in ("", ".away")
    )


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
def test_trouble_fails_no_call(network: Network, trouble: Trouble, verb: str) -> None:
    """ADD and DEL succeed at once, nothing is reaped, and the log says why."""
    pod = network.node.pod("new")
    trouble.make(network)
    assert_at_once(network, verb, pod, trouble.prefix)
    says = trouble.del_says if verb == "DEL" and trouble.del_says is not None else trouble.says
    reasons = [line.get("reason", "") for line in network.node.log() if line["event"] in ("sweep-skipped", "blind")]
    if says:
        assert leaked(network)
        assert any(says in reason for reason in reasons), network.node.log()


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_held_host_local_lock_fails_no_call(network: Network, verb: str) -> None:
    """Somebody sits on host-local's lock for as long as the call lasts: it waits a while, reaps nothing, says so and succeeds."""
    node = network.node
    holder = node.start(["flock", network.lock(), "sh", "-c", "touch /run/held; exec sleep infinity"])
    until(node.path("/run/held").exists, "the lock is held")
    assert_good(call(network, verb, node.pod("new")), verb)
    assert leaked(network)
    assert "host-local's lock" in node.log("sweep-skipped")[-1]["reason"]
    node.run(["pkill", "-P", str(holder)])
    node.stop(holder)
    assert_at_once(network, verb, node.pod())
    assert not leaked(network)


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_endless_sweep_of_another_fails_no_call(network: Network, verb: str) -> None:
    """Somebody sits on the lock of sweeps: the call waits for as long as a sweep may last, and succeeds."""
    node = network.node
    holder = node.start(["flock", f"/run/cni-reaper/{NETWORK}.sweep", "sh", "-c", "touch /run/held; exec sleep infinity"])
    until(node.path("/run/held").exists, "the lock is held")
    assert_good(call(network, verb, node.pod("new")), verb)
    assert leaked(network)
    assert "other sweeps" in node.log("sweep-skipped")[-1]["reason"]
    node.run(["pkill", "-P", str(holder)])
    node.stop(holder)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\x00" * 300, b'{"v":2}', b'{"v":1,"netns":7}', b"x" * 100_000],
    ids=["empty", "cut", "list", "null", "NUL", "newer", "wrong type", "huge"],
)
def test_a_corrupt_record_is_no_record(network: Network, content: bytes) -> None:
    """What we did not write maps nobody: the live pod is kept for its address; once its netns is gone, freed."""
    node = network.node
    live = Pod(node, "live", "/run/netns/live")
    node.path(f"{RECORDS}/{container_id('live')}:eth0").write_bytes(content)
    assert_at_once(network, "ADD", node.pod())
    assert network.held() == {"10.66.0.2"}
    live.delete()
    assert_at_once(network, "ADD", node.pod())
    assert network.held() == set()


@pytest.mark.parametrize(
    ("make", "says"),
    [(full(RECORDS), "No space left"), (mounted(RECORDS, "", MS_RDONLY), "Read-only file system")],
    ids=["full", "read-only"],
)
def test_unwritable_records_free_nothing_that_lives(network: Network, make: Callable[[Network], None], says: str) -> None:
    """On a full or read-only file system no record is written, which is said; nothing that lives is freed for it."""
    node = network.node
    make(network)
    pod = node.pod("new")
    assert_at_once(network, "ADD", pod)
    assert_at_once(network, "DEL", pod)
    assert any(says in line["reason"] for line in node.log("not-recorded")), node.log()
    assert "10.66.0.2" in network.held()
    assert node.records(NETWORK) == {}


@pytest.mark.parametrize("stamp", ["1970-01-01 00:00:01", "2099-01-01 00:00:00"])
def test_stepped_clock_is_no_evidence(network: Network, stamp: str) -> None:
    """Files from before the boot or from the future, as a clock that was stepped leaves them: no evidence of anything."""
    node = network.node
    stamped = [f"{STORE}/{address}" for address in network.held()] + [f"{RECORDS}/{name}" for name in node.records(NETWORK)]
    node.run(["touch", "-d", stamp, *stamped]).check()
    assert_at_once(network, "ADD", node.pod())
    assert network.held() == {"10.66.0.2"}


@pytest.mark.parametrize("owner", ["live", "dead", "unknown"])
def test_del_with_little_evidence_succeeds(network: Network, owner: str) -> None:
    """DEL without netns and prevResult, of a container we know or not, succeeds twice."""
    for _ in range(2):
        assert_at_once(network, "DEL", container_id(owner))
    assert "10.66.0.2" in network.held()


WRONG = {
    "dataDir": 7,
    "networks": "net",
    "stateDir": "relative/path",
    "cacheDirs": {"a": 1},
    "reapOn": ["CHECK"],
    "dryRun": "yes",
    "graceSeconds": 299,
    "budgetMs": 0,
    "logLevel": "loud",
}


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK", "STATUS"])
def test_wrong_options_stop_no_node(network: Network, verb: str) -> None:
    """With every option wrong the call does its work, reaps nothing, and one line lists all the problems."""
    node = network.node
    pod = node.pod("new")
    conf = {**network.head, **WRONG, "cniVersion": "1.1.0"}
    if verb == "CHECK":
        conf["prevResult"] = {"cniVersion": "1.1.0", "ips": [{"address": "10.66.0.2/24"}]}
        pod = Pod(node, "live", "/run/netns/live")
    ran = node.plugin(verb, conf, netns=pod, container_id=container_id(pod.name)).check()
    assert ran.err == b""
    assert (ran.json() == {"cniVersion": "1.1.0"}) if verb == "ADD" else (ran.out == b"")
    assert leaked(network)
    (line,) = node.log("bad-options")
    assert all(f"{key} must be" in line["reason"] for key in WRONG), line
    assert (f"{container_id('new')}:eth0" in node.records(NETWORK)) == (verb == "ADD")


def test_storm_after_a_reboot_gives_every_pod_an_address(node: Node) -> None:
    """A /24 full of leaks, and 110 pods start at once: every one gets an address of its own."""
    network = Network(node, subnet="10.66.0.0/24", name="storm")
    pods = [node.pod() for _ in range(253)]
    for start in range(0, 253, 23):
        some = pods[start : start + 23]
        for plugin, conf in (("cni-reaper", {**network.head, "reapOn": []}), ("host-local", network.ipam)):
            for ran in node.together(
                [node.plugin_command("ADD", conf, binary=plugin, netns=pod, container_id=container_id(pod.name)) for pod in some]
            ):
                ran.check()
    assert len(network.held()) == 253
    node.reboot()
    node.conflist("storm", [reaper(), bridge(host_local("10.66.0.0/24"))])
    storm = [node.pod(f"storm-{number}") for number in range(110)]
    for ran in node.together([node.cnitool_command("add", "storm", pod) for pod in storm]):
        ran.check()
    addresses = {address.partition("/")[0] for pod in storm for address in pod.addresses()}
    assert len(addresses) == 110
    assert network.held() == addresses
    assert len(node.log("reaped")) == 253


def test_unwritable_log_fails_no_call(network: Network) -> None:
    """LogFile in a directory that is not there, or a FIFO nobody reads: the call succeeds, and reaps."""
    node = network.node
    os.mkfifo(node.path("/run/log-fifo"))
    network.head["logFile"] = "/nowhere/log"
    assert_at_once(network, "ADD", node.pod())
    assert not leaked(network)
    network.leak("again")
    network.head["logFile"] = "/run/log-fifo"
    assert_at_once(network, "ADD", node.pod())
    assert network.held() == {"10.66.0.2"}
