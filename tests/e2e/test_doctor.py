"""`cni-reaper doctor`, the frozen executable on real nodes: each finding is found where it is so, and not where it is not."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeNode
from tests.support import agent
from tests.support.cni_calls import BIN, NET_D, bridge, host_local, ptp, reaper
from tests.support.network import container_id
from tests.support.node import Node
from tests.support.node_files import Conf
from tests.support.operator_reports import EXECUTABLE, doctor, findings_of
from tests.support.views import HIDE_RUN, MS_REMOUNT, OWN_VIEW, RUN_CNI_REAPER, SAME_BOOT
from tests.support.waiting import until

NETWORK = "net"
FILE = f"{NET_D}/{NETWORK}.conflist"
POOL = host_local("10.55.0.0/29")
MS_RDONLY = 1


def wrong(findings: dict[str, list[dict[str, str]]]) -> set[str]:
    """Return the keys of what is more than a note."""
    return {key for key, ones in findings.items() if ones[0]["level"] in ("warning", "error")}


def chain(node: Node, *plugins: Conf, **more: Any) -> None:
    """Write the conflist of the node."""
    node.conflist(NETWORK, plugins, **more)


@pytest.fixture
def healthy(node: Node) -> Node:
    """A node with us at the head, which has started a pod."""
    chain(node, reaper(), bridge(POOL), {"type": "portmap", "capabilities": {"portMappings": True}})
    node.cnitool("add", NETWORK, node.pod()).check()
    return node


def test_healthy_node_exits_0(healthy: Node) -> None:
    """Nothing to do, exit code 0, and what is right is said."""
    findings = findings_of(healthy)
    assert wrong(findings) == set()
    assert {"in-place", "same-store", "executable", "executable-intact", "writable", "view-proven"} <= set(findings)
    assert {"store-in-memory", "link-leaves"} <= set(findings), "of this node: a tmpfs, and a link to dist/"
    assert findings["in-place"][0]["subject"] == FILE


def test_changes_nothing(healthy: Node) -> None:
    """It reads, and that is all."""
    places = ("/etc/cni", "/var/lib/cni", "/run/cni-reaper", "/var/log")

    def state() -> dict[str, tuple[int, int]]:
        files = [file for place in places for file in healthy.path(place).rglob("*")]
        return {str(file): (file.lstat().st_ino, file.lstat().st_mtime_ns) for file in files}

    before = state()
    doctor(healthy)
    assert state() == before


def test_text_output_has_subjects_findings_and_advice(healthy: Node) -> None:
    """Subjects, below them a line each, and below that what to do; no colour in a pipe, and no control character of others."""
    chain(healthy, bridge(POOL), reaper())
    healthy.path(f"{NET_D}/\x1b[31mx.conflist").write_text("{")
    ran = doctor(healthy)
    lines = ran.out.decode().splitlines()
    assert FILE in lines
    at = next(number for number, line in enumerate(lines) if "[not-first]" in line)
    assert lines[at].startswith("  warning ")
    assert lines[at + 1].strip() == '-> Run `cni-reaper install`, which moves {"type": "cni-reaper"} to the head of `plugins`.'
    assert b"\x1b" not in ran.out
    assert lines[-1].endswith(" ok")


CHAINS: dict[str, tuple[list[Conf], str, tuple[str, ...]]] = {
    "not in it": ([bridge(POOL)], "not-in-chain", ("cni-reaper",)),
    "at the tail": ([bridge(POOL), reaper()], "not-first", ("number 2 of 2",)),
    "twice": ([reaper(), bridge(POOL), reaper()], "twice", ("2 times",)),
    "before an ipvlan without master": ([reaper(), {"type": "ipvlan", "ipam": POOL}], "must-be-second", ("ipvlan",)),
    "another dataDir": (
        [reaper(), bridge({**POOL, "dataDir": "/run/x"})],
        "data-dir-differs",
        ("/run/x", "/var/lib/cni/networks"),
    ),
    "another dataDir of ours": ([reaper(dataDir="/run/y"), ptp(POOL)], "data-dir-differs", ("/run/y",)),
    "a dataDir that a delegate has": (
        [reaper(), {"type": "flannel", "delegate": {"ipam": {"dataDir": "/run/x"}}}],
        "data-dir-differs",
        ("/run/x",),
    ),
    "other networks": ([reaper(networks=["another"]), bridge(POOL)], "network-left-out", ("another", NETWORK)),
    "options": (
        [reaper(budgetMs=0, dryrun=True, reapOn="ADD"), bridge(POOL)],
        "bad-options",
        ("budgetMs must be", "reapOn must be", "dryrun is spelled dryRun"),
    ),
    "whereabouts": ([bridge({"type": "whereabouts"})], "not-host-local", ("whereabouts",)),
    "us, and no ipam": ([reaper(), {"type": "loopback"}], "not-host-local", ("no ipam",)),
    "dryRun": ([reaper(dryRun=True), bridge(POOL)], "dry-run", ("frees nothing",)),
    "kindnet's": ([reaper(), {"type": "calico", "ipam": POOL}], "rewritten", ("canal's", "calico's")),
    "cilium": ([{"type": "cilium-cni"}], "cilium", ("renames",)),
    "a plugin that is not there": ([reaper(), {**bridge(POOL), "type": "nowhere"}], "plugin-missing", ("nowhere", BIN)),
    "an IPAM that is not there": ([reaper(), bridge({**POOL, "type": "host-locl"})], "plugin-missing", ("host-locl", BIN)),
    "a plugin that is a path": ([reaper(), {**bridge(POOL), "type": "../bin/bridge"}], "plugin-missing", ("../bin/bridge",)),
}


@pytest.mark.parametrize(("plugins", "key", "says"), CHAINS.values(), ids=CHAINS.keys())
def test_each_fault_of_a_chain_is_found(node: Node, plugins: list[Conf], key: str, says: tuple[str, ...]) -> None:
    """What is wrong with a list is said of its file, or of the directory where a plugin is missing; and not of a right one."""
    chain(node, reaper(), bridge(POOL))
    assert key not in findings_of(node)
    chain(node, *plugins)
    findings = findings_of(node)
    (one,) = findings[key]
    assert one["subject"] in (FILE, BIN)
    texts = [one["finding"] + one["advice"]]
    assert [text for text in says if text in texts[0]], texts


def test_all_wrong_options_are_listed(node: Node) -> None:
    """All at once, each with what it must be."""
    chain(node, reaper(budgetMs=0, dryrun=True, reapOn="ADD", stateDir="x"), bridge(POOL))
    (one,) = findings_of(node)["bad-options"]
    for text in ("stateDir must be an absolute path", "reapOn must be", "budgetMs must be", "dryrun is spelled dryRun"):
        assert text in one["finding"]


@pytest.mark.parametrize(
    ("version", "key"), [("7.0.0", "version-unknown"), ("0.2.0", "version-old"), ("0.3.1", ""), ("1.1.0", "")]
)
def test_unsupported_and_old_versions_are_found(node: Node, version: str, key: str) -> None:
    """One that we do not speak stops every pod; one before lists were is old."""
    chain(node, reaper(), bridge(POOL), cni_version=version)
    assert {one for one in findings_of(node) if one.startswith("version")} == ({key} if key else set())


def test_missing_conflist_is_an_error(node: Node) -> None:
    """No pod gets a network; and what else there is, is looked at all the same."""
    findings = findings_of(node)
    assert findings["no-conflist"][0]["subject"] == NET_D
    assert "executable" in findings


def test_unreadable_conflist_is_an_error_only_when_first(healthy: Node) -> None:
    """Sorted first it stops the node; behind another one it waits to."""
    healthy.write(f"{NET_D}/zz.conflist", "{")
    findings = findings_of(healthy)
    assert findings["unreadable-unused"][0]["subject"] == f"{NET_D}/zz.conflist"
    assert "unreadable" not in findings
    healthy.write(f"{NET_D}/00.conflist", "[]")
    assert findings_of(healthy)["unreadable"][0]["subject"] == f"{NET_D}/00.conflist"
    healthy.write(f"{NET_D}/00.conflist", "")
    healthy.path(f"{NET_D}/00.conflist").unlink()
    healthy.run(["mkfifo", f"{NET_D}/00.conflist"]).check()
    assert "no regular file" in findings_of(healthy)["unreadable"][0]["advice"]


def test_only_the_first_conflist_counts(healthy: Node) -> None:
    """The first by name is used: ours in another one is of no use; another one without us is no more than a note."""
    healthy.conflist("other", [bridge(POOL)])
    findings = findings_of(healthy)
    assert findings["not-in-unused"][0]["subject"] == f"{NET_D}/other.conflist"
    assert wrong(findings) == set()
    healthy.conflist("aa", [bridge(POOL)])
    findings = findings_of(healthy)
    assert findings["only-in-unused"][0]["subject"] == f"{NET_D}/aa.conflist"
    assert FILE in findings["only-in-unused"][0]["finding"]


def test_a_conf_is_no_chain(node: Node) -> None:
    """One plugin in a .conf: there is no chain to be in."""
    node.write(f"{NET_D}/10-net.conf", json.dumps({"cniVersion": "1.0.0", "name": NETWORK, **bridge(POOL)}))
    findings = findings_of(node)
    assert findings["single-plugin"][0]["subject"] == f"{NET_D}/10-net.conf"
    assert "not-in-chain" not in findings


def test_appended_plugins_are_named(node: Node) -> None:
    """What libcni 1.3 would append is named; an entry of ours that is only there is no good place."""
    chain(node, bridge(POOL))
    node.write(f"{NET_D}/{NETWORK}/10-reaper.conf", json.dumps({"type": "cni-reaper"}))
    findings = findings_of(node)
    assert {"drop-in", "drop-in-ours"} <= set(findings)
    assert "not-in-chain" not in findings
    chain(node, bridge(POOL), loadOnlyInlinedPlugins=True)
    findings = findings_of(node)
    assert not {"drop-in", "drop-in-ours"} & set(findings)
    assert "not-in-chain" in findings


def multus(node: Node, master: list[Conf], copy: list[Conf], **more: Any) -> None:
    """Let there be multus, thin: a master conflist, and its own file with a copy."""
    chain(node, *master)
    inlined = {"cniVersion": "0.3.1", "name": NETWORK, "plugins": copy}
    own = {"cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus", "delegates": [inlined], **more}
    node.write(f"{NET_D}/00-multus.conf", json.dumps(own))


@pytest.mark.parametrize(
    ("master", "copy", "keys"),
    [
        ([reaper(), bridge(POOL)], [reaper(), bridge(POOL)], {"multus-copy", "in-place"}),
        ([reaper(), bridge(POOL)], [bridge(POOL)], {"multus-copy", "multus-behind", "in-place"}),
        ([bridge(POOL)], [reaper(), bridge(POOL)], {"multus-copy", "multus-edited", "not-in-chain"}),
        ([bridge(POOL)], [bridge(POOL)], {"multus-copy", "not-in-chain"}),
    ],
)
def test_multus_thin_copy_is_compared_with_its_master(node: Node, master: list[Conf], copy: list[Conf], keys: set[str]) -> None:
    """Its file is a copy: the master is to be edited, and whether the copy has followed is said."""
    multus(node, master, copy)
    findings = findings_of(node)
    told = {"multus-copy", "multus-behind", "multus-edited", "in-place", "not-in-chain"} & set(findings)
    assert told == keys
    assert f"Edit {FILE}" in findings["multus-copy"][0]["advice"]
    assert "single-plugin" not in findings
    assert ["multus" in one["finding"] for one in findings["plugin-missing"]] == [True]


def test_multus_thin_copy_without_master_is_checked(node: Node) -> None:
    """Where the copy alone is there, that is what is looked at."""
    multus(node, [], [reaper(dataDir="/run/y"), bridge(POOL)])
    node.path(FILE).unlink()
    assert "data-dir-differs" in findings_of(node)


def test_multus_thick_is_checked_by_what_its_daemon_sees(node: Node) -> None:
    """What its daemon sees is what counts; the conflist it names by path is looked at wherever it is."""
    shim = {"cniVersion": "0.3.1", "name": "m", "type": "multus-shim", "clusterNetwork": "/run/x/10.conflist"}
    node.write(f"{NET_D}/00-multus.conf", json.dumps(shim))
    findings = findings_of(node)
    assert {"multus-thick", "multus-master"} <= set(findings)
    node.write("/run/x/10.conflist", json.dumps({"cniVersion": "1.0.0", "name": "x", "plugins": [bridge(POOL)]}))
    findings = findings_of(node)
    assert findings["not-in-chain"][0]["subject"] == "/run/x/10.conflist"
    assert "multus-master" not in findings


def test_conflist_renamed_by_cilium_is_found(healthy: Node) -> None:
    """What it has renamed is still there."""
    healthy.write(f"{NET_D}/10-old.conflist.cilium_bak", "{}")
    assert "cilium-renames" in findings_of(healthy)


def test_k3s_directories_are_found(node: Node) -> None:
    """Without options the directories of the runtimes that are there count, and what their configuration says of them."""
    home = "/var/lib/rancher/k3s"
    node.path(f"{home}/agent/etc/cni/net.d").mkdir(parents=True)
    node.path(f"{home}/data/cni").mkdir(parents=True)
    conf = {"cniVersion": "1.0.0", "name": "cbr0", "plugins": [reaper(), {"type": "flannel"}]}
    node.write(f"{home}/agent/etc/cni/net.d/10-flannel.conflist", json.dumps(conf))
    told = json.loads(node.run([EXECUTABLE, "doctor", "--json"]).out)["findings"]
    by_key = {one["key"]: one for one in told}
    assert by_key["in-place"]["subject"] == f"{home}/agent/etc/cni/net.d/10-flannel.conflist"
    assert by_key["executable-missing"]["subject"] == f"{home}/data/cni"
    node.write(
        f"{home}/agent/etc/containerd/config.toml", f'[plugins."io.containerd.cri.v1.runtime".cni]\nbin_dirs = ["{BIN}"]\n'
    )
    told = json.loads(node.run([EXECUTABLE, "doctor", "--json"]).out)["findings"]
    assert EXECUTABLE in {one["subject"] for one in told if one["key"] == "executable"}
    node.conflist("podman", [bridge(POOL)])  # of which nobody has said that the runtime of pods uses it
    told = json.loads(node.run([EXECUTABLE, "doctor", "--json"]).out)["findings"]
    assert {"in-place", "not-in-unused"} <= {one["key"] for one in told}
    node.path(f"{home}/agent/etc/containerd/config.toml").unlink()
    told = json.loads(node.run([EXECUTABLE, "doctor", "--json"]).out)["findings"]
    assert {"in-place", "not-in-chain"} <= {one["key"] for one in told}
    node.write(f"{home}/agent/etc/containerd/config.toml", "[")
    told = json.loads(node.run([EXECUTABLE, "doctor", "--json"]).out)["findings"]
    assert [one["subject"] for one in told if one["key"] == "config-unreadable"] == [f"{home}/agent/etc/containerd/config.toml"]


class TestExecutable:
    """Ours, where the runtime looks for it: here in a directory of its own, while the one in /opt/cni/bin is asked."""

    PLACE = "/run/bin"

    @pytest.fixture
    def installed(self, healthy: Node) -> Path:
        """A copy of the executable in that directory; return its path from outside."""
        healthy.path(self.PLACE).mkdir()
        path = healthy.path(f"{self.PLACE}/cni-reaper")
        shutil.copy(healthy.programs.reaper, path)
        return path

    def keys(self, node: Node) -> set[str]:
        """Return what is found of the executable."""
        ours = {"not-executable", "noexec", "link-leaves", "other-architecture"}
        return {key for key in findings_of(node, "--bin-dir", self.PLACE) if key in ours or key.startswith("executable")}

    def test_intact_executable_is_ok(self, healthy: Node, installed: Path) -> None:
        """A file of its own, for this architecture, with the sum that it was built with."""
        assert installed.exists()
        assert self.keys(healthy) == {"executable", "executable-intact"}
        told = findings_of(healthy, "--bin-dir", self.PLACE)["executable"][0]["finding"]
        assert told == f"The runtime finds it, for {os.uname().machine}."

    def test_missing_executable_is_an_error(self, healthy: Node) -> None:
        """Nothing there, or a link to nothing, or a directory of that name."""
        assert self.keys(healthy) == {"executable-missing"}
        healthy.path(self.PLACE).mkdir()
        healthy.path(f"{self.PLACE}/cni-reaper").symlink_to(".cni-reaper/0/cni-reaper")
        assert "a link to .cni-reaper/0" in findings_of(healthy, "--bin-dir", self.PLACE)["executable-missing"][0]["finding"]
        healthy.path(f"{self.PLACE}/cni-reaper").unlink()
        healthy.path(f"{self.PLACE}/cni-reaper").mkdir()
        assert self.keys(healthy) == {"executable-missing"}

    def test_mode_without_x_is_an_error(self, healthy: Node, installed: Path) -> None:
        """Its mode has no x."""
        installed.chmod(0o644)
        assert self.keys(healthy) == {"not-executable", "executable-intact"}

    def test_noexec_file_system_is_an_error(self, healthy: Node, installed: Path) -> None:
        """Its file system is mounted noexec."""
        assert installed.exists()
        healthy.mount(self.PLACE, self.PLACE, flags=agent.MS_BIND)
        healthy.mount("none", self.PLACE, flags=agent.MS_BIND | MS_REMOUNT | agent.MS_NOEXEC)
        assert self.keys(healthy) == {"noexec", "executable-intact"}

    def test_another_architecture_is_an_error(self, healthy: Node, installed: Path) -> None:
        """Both are named, and no runtime is said to run it."""
        raw = installed.read_bytes()
        installed.write_bytes(raw[:18] + b"\x16\0" + raw[20:])
        assert self.keys(healthy) == {"other-architecture", "executable-damaged"}
        told = findings_of(healthy, "--bin-dir", self.PLACE)["other-architecture"][0]["finding"]
        assert told == f"It is built for s390x, and this kernel runs {os.uname().machine}."

    @pytest.mark.parametrize("place", [0.5, 0.9, 0.999])
    def test_damaged_executable_is_an_error(self, healthy: Node, installed: Path, place: float) -> None:
        """One byte is another, wherever it is, and whenever it would be read."""
        raw = bytearray(installed.read_bytes())
        raw[int(len(raw) * place)] ^= 1
        installed.write_bytes(raw)
        assert self.keys(healthy) == {"executable", "executable-damaged"}

    def test_executable_without_sum_is_found(self, healthy: Node, installed: Path) -> None:
        """Cut off, or an executable of 0.1.0, or another program: nothing can be said of its content."""
        for content in (installed.read_bytes()[:-1], b"#!/bin/sh\n", b""):
            installed.write_bytes(content)
            assert self.keys(healthy) == {"executable", "executable-no-sum"}


def test_unwritable_directories_are_found(healthy: Node) -> None:
    """Our own two; of one that is not there yet the nearest that is."""
    healthy.mount("tmpfs", "/run/cni-reaper", "tmpfs", MS_RDONLY)
    assert ["/run/cni-reaper" in one["finding"] for one in findings_of(healthy)["not-writable"]] == [True]
    healthy.path("/run/ro").mkdir()
    healthy.mount("tmpfs", "/run/ro", "tmpfs", MS_RDONLY)
    chain(healthy, reaper(stateDir="/run/ro/a/b"), bridge(POOL))
    assert len(findings_of(healthy)["not-writable"]) == 2


def test_file_in_place_of_store_is_found(healthy: Node) -> None:
    """A file at dataDir."""
    healthy.write("/run/store", "")
    chain(healthy, reaper(dataDir="/run/store"), bridge({**POOL, "dataDir": "/run/store"}))
    assert wrong(findings_of(healthy)) == {"store-unreadable"}


def test_missing_log_is_found(healthy: Node) -> None:
    """Without syslog and without logFile; with either it is fine; a logFile that cannot be written is named."""
    if healthy.path("/dev/log").exists():  # of the machine; what stands there in a node is no socket
        assert not healthy.path("/dev/log").is_socket()
    assert {"no-syslog"} == {"no-syslog", "nobody-told", "syslog"} & set(findings_of(healthy))
    chain(healthy, {"type": "cni-reaper"}, bridge(POOL))
    assert wrong(findings_of(healthy)) == {"nobody-told"}
    chain(healthy, reaper(logFile="/var/log/none/x.log"), bridge(POOL))
    assert wrong(findings_of(healthy)) == {"log-file"}


def test_syslog_is_enough(healthy: Node) -> None:
    """With a socket at /dev/log no logFile is asked for; the node is given a /dev of its own for it."""
    listen = "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind('/dev/log')"
    chain(healthy, {"type": "cni-reaper"}, bridge(POOL))
    asked = f"exec {EXECUTABLE} doctor --json --conf-dir {NET_D} --bin-dir {BIN}"
    script = f'mount -t tmpfs tmpfs /dev && python3 -c "{listen}" && {asked}'
    told = json.loads(healthy.run(["unshare", "--mount", "sh", "-c", script]).out)["findings"]
    keys = {one["key"] for one in told}
    assert "syslog" in keys
    assert "nobody-told" not in keys


class TestView:
    """Whether we see what the runtime sees."""

    def keys(self, node: Node, *within: str) -> set[str]:
        """Return what is found of the view."""
        ours = {"blind", "runtime-elsewhere", "rootless", "hidepid", "not-root", "strict-snap"}
        return {key for key in findings_of(node, within=within) if key in ours or key.startswith("view")}

    def test_proven_by_an_add_only(self, node: Node) -> None:
        """Before the first ADD it is not proven; after it, it is, but not in another mount namespace, nor after a reboot."""
        chain(node, reaper(), bridge(POOL))
        assert self.keys(node) == {"view-unproven"}
        node.cnitool("add", NETWORK, node.pod()).check()
        assert self.keys(node) == {"view-proven"}
        assert self.keys(node, "unshare", "--mount") == {"view-other"}
        node.reboot()
        assert self.keys(node) == {"view-unproven"}

    def test_view_without_pods_is_found(self, node: Node) -> None:
        """The ADDs of this boot run where no pod's netns is seen."""
        chain(node, reaper(), bridge(POOL))
        pod = node.pod()
        conf = {"cniVersion": "1.0.0", "name": NETWORK, **reaper()}
        one = node.plugin_command("ADD", conf, netns=pod, container_id=container_id(pod.name))
        one["argv"] = [*OWN_VIEW, f"{SAME_BOOT} && {HIDE_RUN} && {RUN_CNI_REAPER}"]
        node.together([one])[0].check()
        assert node.records(NETWORK)
        assert self.keys(node) == {"blind"}

    def test_runtime_in_another_mount_namespace_is_found(self, healthy: Node) -> None:
        """It may see other files and other pods."""
        shutil.copy("/bin/sleep", healthy.path("/run/containerd"))
        for within, keys in (([], {"view-proven"}), (["unshare", "--mount"], {"view-proven", "runtime-elsewhere"})):
            pid = healthy.start([*within, "/run/containerd", "1000"])
            until(lambda pid=pid: healthy.read(f"/proc/{pid}/comm") == "containerd\n", "it runs")  # type: ignore[misc]
            assert self.keys(healthy) == keys
            healthy.stop(pid)

    def test_hidepid_is_found_only_without_trace(self, healthy: Node) -> None:
        """With all capabilities it hides nothing; without CAP_SYS_PTRACE it does."""
        healthy.mount("proc", "/proc", "proc", MS_REMOUNT, "hidepid=2")
        assert self.keys(healthy) == {"view-proven"}
        assert "hidepid" in self.keys(healthy, "setpriv", "--bounding-set", "-sys_ptrace")
        healthy.mount("proc", "/proc", "proc", MS_REMOUNT, "hidepid=0")

    def test_rootless_node_is_no_fault(self, make_node: MakeNode) -> None:
        """A user namespace sees its own alone; that is no fault."""
        node = make_node(rootless=True)
        chain(node, reaper(), ptp(POOL))
        assert "rootless" in self.keys(node)

    def test_unreadable_is_not_called_right(self, healthy: Node) -> None:
        """What cannot be read must not pass for right."""
        findings = findings_of(healthy, within=("setpriv", "--reuid", "1000", "--clear-groups"))
        assert {"not-root", "view-unreadable"} <= set(findings)


def test_unwritable_metrics_file_is_found(healthy: Node) -> None:
    """Nothing else says that nothing is counted; once the directory is there, nothing is wrong."""
    chain(healthy, reaper(metricsFile="/var/lib/textfiles/x.prom"), bridge(POOL))
    assert wrong(findings_of(healthy)) == {"metrics-file"}
    healthy.path("/var/lib/textfiles").mkdir()
    assert wrong(findings_of(healthy)) == set()


def test_lifeless_netns_are_counted_and_named(healthy: Node) -> None:
    """How many addresses they hold, the first of them, and what to do; not of a pod with a process."""
    (before,) = findings_of(healthy)["lifeless"]  # the pod that is there has no process either
    assert "hold addresses: 1, the first is 10.55.0.2" in before["finding"]
    pods = [healthy.pod("lifeless"), healthy.pod("lived-in")]
    process = pods[1].live()
    until(lambda: healthy.path(f"/proc/{process}/exe").readlink().name == "sleep", "the process lives in the netns")
    for pod in pods:
        healthy.cnitool("add", NETWORK, pod).check()
    (finding,) = findings_of(healthy)["lifeless"]
    assert finding["subject"] == f"network {NETWORK}"
    assert "hold addresses: 2, the first is 10.55.0.2" in finding["finding"]
    assert "ip netns" in finding["advice"]
