"""`cni-reaper mend`, and what doctor, audit, reap, the metrics and `install --watch` make of broken files, on private nodes.

A file's ctime cannot be set, so a file is old for a program whose wall clock is ahead: see wall_clock.
"""

import json
import os
import signal
import sys
from typing import Any

import jsonschema
import pytest

from tests.support import wall_clock
from tests.support.cni_calls import BIN, NET_D, bridge, host_local, reaper
from tests.support.commands import Ran
from tests.support.metrics import exported
from tests.support.network import container_id
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, STATE_DIR, Conf
from tests.support.programs import ROOT
from tests.support.waiting import until

EXECUTABLE = f"{BIN}/cni-reaper"
AHEAD_S = 40
"""More than the 30 s for which nothing may have been written to a broken file."""
RESULTS = "/var/lib/cni/results"
FLANNEL = "/var/lib/cni/flannel"
MULTUS = "/var/lib/cni/multus"
METRICS = "/var/lib/cni-reaper.prom"
SCHEMA = json.loads((ROOT / "docs" / "audit.schema.json").read_bytes())
BROKEN = {"empty": b"", "blank": b" \n", "NUL bytes": bytes(40), "no JSON": b'{"kind":"cniCacheV1","cont'}


def with_clock(argv: list[str], ahead_s: int = AHEAD_S) -> list[str]:
    """Return a command whose wall clock is ahead, so that a file which is written now is old for it."""
    return [sys.executable, "-I", wall_clock.__file__, str(ahead_s), *argv]


def mend(node: Node, *arguments: str, verb: str = "mend") -> Ran:
    """Run the command, at a time at which everything here is old."""
    return node.run(with_clock([EXECUTABLE, verb, *arguments]))


def entry(node: Node, name: str, content: bytes = b"", directory: str = RESULTS) -> str:
    """Write a file of a cache or a scratch directory, and return its path."""
    path = node.path(f"{directory}/{name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return f"{directory}/{name}"


def cache_entry(node: Node, owner: str, netns: str) -> str:
    """Write a valid entry of libcni's cache."""
    told = {"kind": "cniCacheV1", "containerId": owner, "networkName": "net", "ifName": "eth0", "netns": netns, "result": {}}
    return entry(node, f"net-{owner}-eth0", json.dumps(told).encode())


def is_there(node: Node, path: str) -> bool:
    """Tell whether a path leads to something, a dangling link too."""
    return os.path.lexists(node.path(path))


def chain(node: Node, *more: Conf, **options: Any) -> None:
    """Write a conflist that has us."""
    node.conflist("net", [reaper(**options), bridge(host_local("10.66.0.0/24")), *more])


@pytest.fixture
def node_with_us(node: Node) -> Node:
    """A node whose conflist has us, and on which no pod has started."""
    chain(node, metricsFile=METRICS)
    return node


def test_valid_files_stay(node_with_us: Node) -> None:
    """JSON of a dead container as well: its DEL wants it. Nor is anything else in these directories touched."""
    node = node_with_us
    kept = [
        cache_entry(node, container_id("dead"), "/run/netns/gone"),
        entry(node, container_id("scratch"), b'{"type": "bridge"}', FLANNEL),
        entry(node, "subnet.env", b"", FLANNEL),
        entry(node, "notes", b"", "/var/lib/cni"),
        entry(node, "last_reserved_ip.0", b"", f"{DATA_DIR}/net"),
    ]
    node.path("/etc/victim").write_bytes(b"")
    link = f"{RESULTS}/net-{container_id('link')}-eth0"
    node.path(link).symlink_to("/etc/victim")
    ran = mend(node).check()
    assert [path for path in (*kept, link, "/etc/victim") if not is_there(node, path)] == []
    assert ran.out.splitlines()[-1] == b"0 removed, 0 waiting, 0 freed"
    assert node.log() == []


def test_a_file_that_was_written_just_now_waits(node_with_us: Node) -> None:
    """Its writer may be at work: nothing is wrong, and it says for what it waits."""
    node = node_with_us
    path = entry(node, f"net-{container_id('young')}-eth0")
    ran = node.run([EXECUTABLE, "mend"]).check()
    assert is_there(node, path)
    assert b"waits" in ran.out
    assert path.encode() in ran.out
    assert ran.out.splitlines()[-2:] == [
        b"to remove these as soon as they may be: cni-reaper mend --wait",
        b"0 removed, 1 waiting, 0 freed",
    ]


def test_wait_stays_until_it_is_removed(node_with_us: Node) -> None:
    """With --wait the same file is removed at the end, by the real clock."""
    node = node_with_us
    path = entry(node, f"net-{container_id('young')}-eth0")
    ran = node.run([EXECUTABLE, "mend", "--wait"]).check()
    assert not is_there(node, path)
    assert b"1 removed, 0 waiting" in ran.out


@pytest.mark.parametrize("cause", BROKEN)
def test_removes_broken_files_of_each_kind(node_with_us: Node, cause: str) -> None:
    """libcni's, in both of its directories, flannel's and multus'; each is told, logged and counted."""
    node = node_with_us
    owner = container_id("dead")
    paths = {
        entry(node, f"net-{owner}-eth0", BROKEN[cause]): "libcni",
        entry(node, f"net-{owner}-net1", BROKEN[cause], "/var/lib/cni/cache/results"): "libcni",
        entry(node, owner, BROKEN[cause], FLANNEL): "flannel",
        entry(node, owner, BROKEN[cause], MULTUS): "multus",
    }
    told = mend(node, "--json").check().json()
    assert {one["file"]: one["kind"] for one in told["removed"]} == paths
    assert {(one["container"], one["cause"], one["size"]) for one in told["removed"]} == {(owner, cause, len(BROKEN[cause]))}
    assert [path for path in paths if is_there(node, path)] == []
    events = node.log("cache-removed")
    assert {one["file"] for one in events} == {*paths}
    assert {one["cause"] for one in events} == {cause}
    counted = exported(node, METRICS)
    assert [counted[f"cache_removed_total {kind}"] for kind in ("libcni", "flannel", "multus")] == [2, 1, 1]
    assert mend(node, "--json").check().json()["removed"] == []
    assert exported(node, METRICS)["cache_removed_total libcni"] == 2


def test_directories_come_from_the_conflists(node: Node) -> None:
    """Flannel's dataDir, multus' cniDir with its cache, and the entry's cacheDirs, beside the defaults; keys in any case."""
    multus: Conf = {"type": "multus", "name": "m", "cniDir": "/srv/multus", "delegates": []}
    node.path(f"{NET_D}/00-multus.conf").write_text(json.dumps({"cniVersion": "0.4.0", **multus}))
    chain(node, {"type": "flannel", "datadir": "/srv/flannel"}, cacheDirs=["/srv/cache"])
    owner = container_id("dead")
    places = ("/srv/flannel", "/srv/multus", FLANNEL, MULTUS)
    paths = [entry(node, owner, b"", place) for place in places]
    paths += [
        entry(node, f"net-{owner}-eth0", b"", f"{place}/results") for place in ("/srv/cache", "/srv/multus", "/var/lib/cni")
    ]
    assert {one["file"] for one in mend(node, "--json").check().json()["removed"]} == {*paths}


WITHHELD: dict[str, tuple[Conf, tuple[str, ...], int, str]] = {
    "--dry-run": ({}, ("--dry-run",), 0, "would be removed"),
    "dryRun": ({"dryRun": True}, (), 0, "dryRun"),
    "cache is off": ({"cache": False}, (), 0, '"cache": false'),
    "wrong options": ({"dryrun": True}, (), 1, "dryrun is spelled dryRun"),
}


@pytest.mark.parametrize("way", WITHHELD)
def test_hindered_removal_is_told_and_done_later(node: Node, way: str) -> None:
    """The file stays, and why is told; once that is over it is removed."""
    options, arguments, rc, words = WITHHELD[way]
    chain(node, **options)
    path = entry(node, f"net-{container_id('dead')}-eth0")
    ran = mend(node, *arguments)
    assert ran.rc == rc, str(ran)
    assert words in ran.text
    assert is_there(node, path)
    chain(node)
    mend(node).check()
    assert not is_there(node, path)


def test_an_entry_that_a_platform_took_out_still_has_its_dry_run(node: Node) -> None:
    """At boot the conflist is the platform's: what `install` has noted counts until the entry is back."""
    node.conflist("net", [bridge(host_local("10.66.0.0/24"))])
    node.run([EXECUTABLE, "install", "--bin-dir", BIN, "--options", '{"dryRun": true}']).check()
    node.conflist("net", [bridge(host_local("10.66.0.0/24"))])
    path = entry(node, f"net-{container_id('dead')}-eth0")
    assert "dryRun" in mend(node).check().text
    assert is_there(node, path)


def test_mend_needs_no_entry_in_a_conflist(node: Node) -> None:
    """A person can mend before the entry is in any conflist, and where there is none."""
    path = entry(node, f"net-{container_id('dead')}-eth0")
    mend(node).check()
    assert not is_there(node, path)


def test_unremovable_file_exits_1(node_with_us: Node) -> None:
    """The file system is read-only: exit code 1, and stderr says why."""
    node = node_with_us
    path = entry(node, f"net-{container_id('dead')}-eth0")
    node.mount(RESULTS, RESULTS, flags=4096)  # MS_BIND
    node.mount("none", RESULTS, flags=4096 | 32 | 1)  # MS_REMOUNT, MS_RDONLY
    ran = mend(node)
    assert ran.rc == 1, str(ran)
    assert b"Read-only file system" in ran.err
    assert is_there(node, path)


def test_frees_nothing_from_another_view(node_with_us: Node) -> None:
    """A private node is a container: its PID namespace is not the machine's. Of no pod can be told here that it is dead.

    Neither the empty reservation nor the one of a container that a reboot has ended is freed: the next ADD does it.
    """
    node = node_with_us
    pod = node.pod()
    node.plugin("ADD", {"type": "cni-reaper", "name": "net", "cniVersion": "1.0.0"}, netns=pod, container_id=container_id("a"))
    node.reserve("net", "10.66.0.2", container_id("a"))
    node.reboot()
    node.path(f"{DATA_DIR}/net/10.66.0.3").write_bytes(b"")
    assert b"0 freed" in mend(node).check().out
    assert {*os.listdir(node.path(f"{DATA_DIR}/net"))} >= {"10.66.0.2", "10.66.0.3"}
    assert mend(node, "--dry-run", "--json").check().json()["freed"] == []
    assert node.records("net")


def test_reap_removes_broken_files_as_well(node_with_us: Node) -> None:
    """After its sweep; with --dry-run it says what it would remove."""
    node = node_with_us
    node.cnitool("add", "net", node.pod()).check()
    path = entry(node, f"net-{container_id('dead')}-eth0")
    assert f"would be removed  {path}" in mend(node, "--dry-run", verb="reap").check().text
    assert is_there(node, path)
    assert f"removed  {path}" in mend(node, verb="reap").check().text
    assert not is_there(node, path)


def findings(node: Node) -> dict[str, dict[str, str]]:
    """Return what the doctor says of files, by key."""
    ran = mend(node, "--json", "--conf-dir", NET_D, "--bin-dir", BIN, verb="doctor")
    return {one["key"]: one for one in ran.json()["findings"] if one["key"].startswith("cache-")}


def test_doctor_tells_of_broken_files(node_with_us: Node) -> None:
    """How many, since when, which DELs they stop, what happens next; and that there are none. It changes nothing."""
    node = node_with_us
    assert {*findings(node)} == {"cache-whole"}
    owner = container_id("dead")
    path = entry(node, f"net-{owner}-eth0")
    other = entry(node, f"net-{container_id('other')}-eth0", bytes(9))
    entry(node, owner, b"{", FLANNEL)
    now = int(node.path(path).stat().st_mtime)
    os.utime(node.path(path), (now - 7200, now - 7200))
    before = node.path(path).stat().st_ino
    ran = mend(node, "--json", "--conf-dir", NET_D, "--bin-dir", BIN, verb="doctor")
    told = {one["subject"]: one for one in ran.json()["findings"] if one["key"] == "cache-broken"}
    assert {*told} == {RESULTS, FLANNEL}
    text = told[RESULTS]["finding"]
    assert all(word in text for word in ("2 (NUL bytes, empty)", "2h00m", "2 containers", "containerd 1.6 and 1.7"))
    assert "flannel's plugin" in told[FLANNEL]["finding"]
    assert "cni-reaper mend" in told[RESULTS]["advice"]
    assert told[RESULTS]["level"] == "warning"
    assert node.path(path).stat().st_ino == before
    assert is_there(node, other)
    assert not is_there(node, "/run/cni-reaper/mend.json")
    assert node.log() == []


def test_doctor_names_unreadable_directory(node_with_us: Node) -> None:
    """A directory that cannot be opened is named; it is not said that all is well."""
    node_with_us.path(FLANNEL).symlink_to("flannel")
    told = findings(node_with_us)
    assert {*told} == {"cache-unreadable"}
    assert FLANNEL in told["cache-unreadable"]["finding"]


@pytest.mark.parametrize(
    ("options", "words"), [({"dryRun": True}, "dryRun in"), ({"cache": False}, '"cache": false in'), ({"dryrun": True}, "Wrong")]
)
def test_doctor_says_why_they_stay(node: Node, options: Conf, words: str) -> None:
    """Where the entry's options keep them, no ADD removes them, and the advice is another."""
    chain(node, **options)
    entry(node, f"net-{container_id('dead')}-eth0")
    told = findings(node)
    assert {*told} == {"cache-broken-stays"}
    assert words in told["cache-broken-stays"]["advice"]


def audited(node: Node, *arguments: str) -> tuple[int | None, Any]:
    """Return the exit code of an audit and what it says of files."""
    ran = node.run([EXECUTABLE, "audit", "--json", *arguments])
    jsonschema.validate(ran.json(), SCHEMA)
    return ran.rc, ran.json()["cache"]


def test_audit_counts_broken_files_and_those_that_are_left(node_with_us: Node) -> None:
    """Broken ones make the exit code 1. Valid ones of dead containers are counted and stay; those of living ones are not."""
    node = node_with_us
    living = node.pod()
    node.cnitool("add", "net", living).check()
    assert audited(node) == (0, {"broken": [], "left": {}})
    owner = container_id("living elsewhere")
    cache_entry(node, owner, node.pod().path)
    entry(node, owner, b"{}", FLANNEL)
    assert audited(node) == (0, {"broken": [], "left": {}})
    cache_entry(node, container_id("dead"), "/run/netns/gone")
    entry(node, container_id("dead"), b"{}", FLANNEL)
    assert audited(node) == (0, {"broken": [], "left": {RESULTS: 1, FLANNEL: 1}})
    path = entry(node, f"net-{container_id('cut')}-eth0")
    entry(node, container_id("cut"), b"{}", FLANNEL)  # whether it lives cannot be told
    rc, told = audited(node)
    assert rc == 1
    assert told["left"] == {RESULTS: 1, FLANNEL: 1}
    (one,) = told["broken"]
    assert (one["file"], one["kind"], one["container"], one["cause"]) == (path, "libcni", container_id("cut"), "empty")
    assert audited(node, "--network", "net")[1]["left"] == {}
    text = node.run([EXECUTABLE, "audit"]).text
    assert "broken files: 1 (empty)" in text
    assert f"{RESULTS}: 1 valid files belong to no living container" in text
    assert len(os.listdir(node.path(RESULTS))) == 4


def test_watch_mends_at_its_start_and_goes_on(node_with_us: Node) -> None:
    """As the DaemonSet runs it, with a clock by which files are old: what was broken before its start is removed.

    It has the conflists' directory alone, and no pod has started. SIGTERM ends it as ever.
    """
    node = node_with_us
    path = entry(node, f"net-{container_id('dead')}-eth0")
    scratch = entry(node, container_id("dead"), b"{", FLANNEL)
    watcher = node.start(with_clock([EXECUTABLE, "install", "--watch", "--bin-dir", BIN, "--conf-dir", NET_D]))
    until(lambda: {one["file"] for one in node.log("cache-removed")} == {path, scratch}, "the watcher has mended")
    assert not is_there(node, path)
    assert not is_there(node, scratch)
    assert node.path(f"{STATE_DIR}/installation.json").exists()
    node.stop(watcher, signal.SIGTERM)


def test_a_long_network_name_does_not_keep_its_file(node: Node) -> None:
    """A file's name may have 255 bytes; the one that it is moved to has to fit as well."""
    path = entry(node, f"{'n' * 184}-{'ab' * 32}-eth0")
    mend(node)
    assert not is_there(node, path)
