"""What a dead container has published: who says so, what was seen, and in which order it is taken back."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cni_reaper_plugin.attachment import Attachment
from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.host_local.store import Network
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.model import STALE, Call, Evidence, Judged, Netns, Reservation, Surroundings
from cni_reaper_plugin.network_sweep import NetworkSweep
from cni_reaper_plugin.options import Settings
from cni_reaper_plugin.published import entries, tries, withdraw, written
from cni_reaper_plugin.reasons import LEFT_BY_DEL, NETNS_GONE, PORT_PUBLISHED, REBOOTED
from cni_reaper_plugin.system import boot, conntrack, programs
from cni_reaper_plugin.system.clock import Budget
from cni_reaper_plugin.system.programs import Ended
from tests.support.programs import ROOT
from tests.support.waiting import until

DEAD, OTHER = "d" * 64, "e" * 64
PORTS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}


def entry(ports: Any = PORTS, plugins: Any = (PORTMAP,), **more: Any) -> dict[str, Any]:
    """Return a cache entry as libcni writes it; a value of None leaves a key out."""
    conflist = json.dumps({"cniVersion": "1.0.0", "name": "net", "plugins": plugins}).encode()
    whole = {
        "kind": "cniCacheV1",
        "containerId": DEAD,
        "config": base64.b64encode(conflist).decode(),
        "ifName": "eth0",
        "networkName": "net",
        "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAME", "p"]],
        "capabilityArgs": {"portMappings": ports} if ports is not None else None,
        "result": {"cniVersion": "1.0.0", "ips": []},
        **more,
    }
    return {key: value for key, value in whole.items() if value is not None}


class TestEntries:
    """What an entry of libcni's cache says."""

    @pytest.fixture
    def cache(self, tmp_path: Path) -> Path:
        """Return a directory of results."""
        (tmp_path / "results").mkdir()
        return tmp_path

    def read(self, cache: Path, content: bytes) -> entries.Entry | None:
        """Write the entry of DEAD, and read it."""
        (cache / "results" / f"net-{DEAD}-eth0").write_bytes(content)
        return entries.read(["/nowhere", str(cache)], "net", DEAD, "eth0")

    def test_entry_gives_the_configuration_of_portmap(self, cache: Path) -> None:
        """The configuration is what libcni would give to portmap."""
        found = self.read(cache, json.dumps(entry()).encode())
        assert found is not None
        assert found.has_ports
        config = {**PORTMAP, "name": "net", "cniVersion": "1.0.0", "runtimeConfig": {"portMappings": PORTS}}
        assert found.configs == [{**config, "prevResult": {"cniVersion": "1.0.0", "ips": []}}]
        assert found.args == "IgnoreUnknown=1;K8S_POD_NAME=p"

    @pytest.mark.parametrize("ports", [None, [], {}], ids=str)
    def test_entry_without_ports_says_none(self, cache: Path, ports: Any) -> None:
        """It is known that there are none."""
        found = self.read(cache, json.dumps(entry(ports)).encode())
        assert found is not None
        assert not found.has_ports

    def test_ports_without_portmap_are_another_plugins(self, cache: Path) -> None:
        """Ports that no portmap was given are another plugin's."""
        found = self.read(cache, json.dumps(entry(plugins=[{"type": "cilium-cni"}])).encode())
        assert found is not None
        assert not found.has_ports

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[]", b"null", b'{"cniVersion":"0.2.0"}', json.dumps(entry(containerId=OTHER)).encode(), b"\xff" * 10]
        + [json.dumps(entry(config=config)).encode() for config in (None, 1, "?", "e30", base64.b64encode(b"[]").decode())[:4]],
        ids=range(11),
    )
    def test_what_is_not_whole_says_nothing(self, cache: Path, content: bytes) -> None:
        """Nor does another container's; then what portmap has written is looked at."""
        found = self.read(cache, content)
        assert found is None or not found.mappings or not found.configs
        if content[:20] != json.dumps(entry(config="e30")).encode()[:20]:
            assert found is None

    def test_one_with_ports_wins(self, cache: Path, tmp_path: Path) -> None:
        """Wherever it lies."""
        other = tmp_path / "other"
        (other / "results").mkdir(parents=True)
        (other / "results" / f"net-{DEAD}-eth0").write_bytes(json.dumps(entry()).encode())
        (cache / "results" / f"net-{DEAD}-eth0").write_bytes(json.dumps(entry(None)).encode())
        for order in ([str(cache), str(other)], [str(other), str(cache)]):
            found = entries.read(order, "net", DEAD, "eth0")
            assert found is not None
            assert found.has_ports

    def test_another_plugin_gets_what_it_takes_only(self, cache: Path) -> None:
        """It gets of what the runtime gave what it takes, and nothing else."""
        plugins: list[dict[str, Any]] = [
            {"type": "bandwidth", "capabilities": {"bandwidth": True}},
            PORTMAP,
            {"type": "bandwidth", "egressRate": 1},
        ]
        content = entry(plugins=plugins, capabilityArgs={"bandwidth": {"ingressRate": 1}, "portMappings": PORTS})
        self.read(cache, json.dumps(content).encode())
        given: dict[str, Any] = {"runtimeConfig": {"bandwidth": {"ingressRate": 1}}}
        common = {"name": "net", "cniVersion": "1.0.0", "prevResult": {"cniVersion": "1.0.0", "ips": []}}
        expected = [{**plugin, **common, **more} for plugin, more in ((plugins[0], given), (plugins[2], {}))]
        told = entries.chained([str(cache)], "net", DEAD, "eth0", "bandwidth")
        assert told == (expected, "IgnoreUnknown=1;K8S_POD_NAME=p")
        assert entries.chained([str(cache)], "net", OTHER, "eth0", "bandwidth") == ([], "")
        self.read(cache, json.dumps({**content, "config": "?"}).encode())
        assert entries.chained([str(cache)], "net", DEAD, "eth0", "bandwidth") == ([], "")


SAVED = f"""*nat
:CNI-HOSTPORT-DNAT - [0:0]
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"net\\" id: \\"{DEAD}\\"" -m multiport --dports 8080 -j CNI-DN-1
-A POSTROUTING -s 10.9.0.3/32 -m comment --comment "name: \\"net\\" id: \\"{OTHER}\\"" -j CNI-8af6
COMMIT
"""
LISTED = f"""table ip cni_hostport {{
	comment "CNI portmap plugin"
	chain hostports {{
		tcp dport 8080 dnat to 10.9.0.2:80 comment "{DEAD}"
	}}
}}
"""


class Machine:
    """Programs that are not there.

    ends: what each ends with, by the begin of its command line; ran: which were run; works: portmap takes the rules away.
    """

    def __init__(self, **ends: Ended | None) -> None:
        self.ends = {key.replace("_", " "): value for key, value in ends.items()}
        self.ran: list[str] = []
        self.documents: list[dict[str, Any]] = []
        self.works = True

    def find(self, name: str, directories: Any) -> str | None:
        """Answer where one is."""
        del directories
        return f"/bin/{name}" if any(key.startswith(name) for key in self.ends) else None

    def run(self, argv: list[str], environment: Any, wait_s: float = 0, document: bytes = b"") -> Ended | None:
        """Run one."""
        del environment, wait_s
        words = " ".join([argv[0].rpartition("/")[2], *argv[1:]])
        self.ran.append(words)
        if document:
            self.documents.append(json.loads(document))
        end = next(value for key, value in sorted(self.ends.items(), reverse=True) if words.startswith(key.replace("-t nat", "")))
        if end is not None and end.code == 0 and words == "portmap" and self.works:
            self.ends = {key: Ended(0, b"", b"") if value is not None else None for key, value in self.ends.items()}
        return end


def said(text: str = "", code: int | None = 0, trouble: str = "") -> Ended:
    """Return the end of a program that has printed something."""
    return Ended(code, text.encode(), b"no" if code else b"", trouble)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Put other programs in the place of the machine's."""
    here = Machine()
    monkeypatch.setattr(programs, "find", here.find)
    monkeypatch.setattr(programs, "run", here.run)
    return here


class TestWritten:
    """What portmap's comments tell."""

    def look(self, machine: Machine, **ends: Ended | None) -> written.Written:
        """Look with these programs."""
        machine.ends = Machine(**{key.replace("save", "-save"): end for key, end in ends.items()}).ends
        return written.look([], {}, machine.run)

    def test_missing_program_has_no_rules(self, machine: Machine) -> None:
        """A backend whose program is missing has written nothing."""
        seen = self.look(machine)
        assert (seen.trouble, seen.backends("net", DEAD), machine.ran) == ("", [], [])

    def test_iptables_rules_are_of_this_network(self, machine: Machine) -> None:
        """Of this network, and not what another plugin's comments name."""
        seen = self.look(machine, iptablessave=said(SAVED), ip6tablessave=said())
        assert seen.trouble == ""
        assert [seen.backends(*one) for one in (("net", DEAD), ("other", DEAD), ("net", OTHER))] == [["iptables"], [], []]

    def test_nftables_rules_are_of_any_network(self, machine: Machine) -> None:
        """Of any network: the comment is the container alone."""
        seen = self.look(machine, nft=said(LISTED), nft_list_tables=said("table inet x\ntable ip cni_hostport\n"))
        assert [seen.backends(*one) for one in (("net", DEAD), ("other", DEAD), ("net", OTHER))] == [
            ["nftables"],
            ["nftables"],
            [],
        ]
        assert machine.ran == ["nft list tables", "nft list table ip cni_hostport"]

    def test_a_long_name_is_cut(self, machine: Machine) -> None:
        """As portmap cuts its comment, at 255 bytes."""
        network = "n" * 200
        cut = f'dnat name: "{network}" id: "{DEAD}"'[:253] + "..."
        line = '--comment "' + cut.replace('"', '\\"') + '" -j X'
        assert self.look(machine, iptablessave=said(line)).backends(network, DEAD) == ["iptables"]

    @pytest.mark.parametrize("end", [said(code=4), said(code=None, trouble="it did not end in time"), None], ids=range(3))
    @pytest.mark.parametrize("name", ["iptablessave", "nft_list_tables"])
    def test_trouble_is_told(self, machine: Machine, name: str, end: Ended | None) -> None:
        """A program that does not say all leaves everything open."""
        assert self.look(machine, **{name: end}).trouble

    def test_kernel_without_ipv6_nat_has_no_rules(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        """A kernel without IPv6's NAT has no rules there; with it, a failure is trouble."""
        monkeypatch.setattr(written, "_has_legacy_nat", lambda: False)
        assert not self.look(machine, iptablessave=said(), ip6tablessave=said(code=1)).trouble
        monkeypatch.setattr(written, "_has_legacy_nat", lambda: True)
        assert self.look(machine, iptablessave=said(), ip6tablessave=said(code=1)).trouble


class TestWithdraw:
    """In which order it is taken back, and what stays."""

    @pytest.fixture(autouse=True)
    def _node(self, tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.machine = tmp_path, machine
        self.ended: list[set[bytes]] = []
        self.flows: OSError | None = None
        self.clock_s = 1000.0

        def end_flows(addresses: set[bytes], _: float) -> int:
            self.ended.append(set(addresses))
            if self.flows is not None:
                raise self.flows
            return 0

        monkeypatch.setattr(proven_views, "RUN_DIR", str(tmp_path / "run"))
        monkeypatch.setattr(boot, "boottime_s", lambda: self.clock_s)
        monkeypatch.setattr(conntrack, "end_flows", end_flows)
        (tmp_path / "results").mkdir()
        (tmp_path / "networks" / "net").mkdir(parents=True)
        self.put(entry())

    def put(self, content: dict[str, Any] | None) -> None:
        """Write DEAD's cache entry; None for none."""
        path = self.root / "results" / f"net-{DEAD}-eth0"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(json.dumps(content))

    def programs(self, **ends: Ended | None) -> None:
        """Say how programs end."""
        self.machine.ends = {key.replace("save", "-save").replace("_", " "): end for key, end in ends.items()}

    def judged(self, container_id: str = DEAD, address: str = "10.9.0.2", reason: Any = NETNS_GONE) -> Judged:
        """Return a STALE reservation."""
        evidence = Evidence(Call("GC"), Surroundings("boot"))
        evidence.packed = bytes(map(int, address.split(".")))
        return Judged(Reservation("net", address, f"{container_id}\r\neth0".encode(), 7, 8), evidence, STALE, reason)

    def take_back(self, *stale: Judged, still: bool = True, wall_s: float = 20.0, call: Call | None = None) -> withdraw.Withdrawn:
        """Take back what these have published."""
        call, settings = call or Call("GC"), Settings()
        call.environment = {b"PATH": b"/bin", b"CNI_PATH": b"/opt"}
        settings.cache_dirs, settings.state_dir = [str(self.root)], str(self.root / "reaper")
        with Network(str(self.root / "networks"), "net") as network:
            sweep = NetworkSweep(network, call, settings, Budget(wall_s, 500), Log("error", str(self.root / "log")))
            return withdraw.take_back(sweep, list(stale), lambda _: still)

    def why(self, withdrawn: withdraw.Withdrawn) -> list[str]:
        """Return the reasons of what stays."""
        assert all(one.reason == PORT_PUBLISHED for one, _ in withdrawn.stays)
        return [one.reason.text for one, _ in withdrawn.stays]

    def test_rules_and_connections_go_first(self) -> None:
        """Look, DEL, look, and the connections; then it is free."""
        self.programs(iptablessave=said(SAVED), portmap=said())
        dead = self.judged()
        assert self.take_back(dead).free == [dead]
        assert self.machine.ran == ["iptables-save -t nat", "portmap", "iptables-save -t nat"]
        assert self.machine.documents[0]["backend"] == "iptables"
        assert self.ended[0] == {bytes((10, 9, 0, 2))}

    def test_entry_without_ports_runs_no_program(self) -> None:
        """Its entry says that it has published nothing."""
        self.put(entry(None))
        self.programs(iptablessave=said(SAVED), portmap=said())
        dead = self.judged()
        assert self.take_back(dead).free == [dead]
        assert self.machine.ran == []
        assert self.ended == [{bytes((10, 9, 0, 2))}]

    @pytest.mark.parametrize("content", [None, {"kind": "?"}])
    def test_without_an_entry_the_rules_tell(self, content: dict[str, Any] | None) -> None:
        """One look for all; the DEL has as little as portmap takes."""
        self.put(content)
        self.programs(iptablessave=said(SAVED), portmap=said())
        both = [self.judged(), self.judged(OTHER, "10.9.0.3")]
        assert self.take_back(*both).free == both
        assert self.machine.ran == ["iptables-save -t nat", "portmap", "iptables-save -t nat"]
        assert self.machine.documents[0]["runtimeConfig"]["portMappings"]

    @pytest.mark.parametrize("reason", [REBOOTED])
    def test_rebooted_owner_runs_no_program(self, reason: Any) -> None:
        """Nothing stands after a reboot."""
        self.programs(iptablessave=said(SAVED), portmap=said())
        dead = self.judged(reason=reason)
        assert self.take_back(dead).free == [dead]
        assert self.machine.ran == []

    def test_owner_left_by_del_is_asked(self) -> None:
        """A runtime may have given that DEL no ports."""
        self.programs(iptablessave=said(SAVED), portmap=said())
        self.take_back(self.judged(reason=LEFT_BY_DEL))
        assert "portmap" in self.machine.ran

    @pytest.mark.parametrize(
        ("ends", "why"),
        [
            ({"iptablessave": said(SAVED)}, "portmap is not in CNI_PATH (/opt)"),
            ({"iptablessave": said(SAVED), "portmap": said(code=1)}, "portmap's DEL failed: no"),
            (
                {"iptablessave": said(SAVED), "portmap": said(code=None, trouble="it did not end")},
                "portmap's DEL: it did not end",
            ),
            ({"iptablessave": said(code=4), "portmap": said()}, "what is published cannot be seen: iptables: exit code 4: no"),
        ],
    )
    def test_failed_removal_keeps_and_says_why(self, ends: dict[str, Ended], why: str) -> None:
        """And why; not tried again for a while, and then it is."""
        self.programs(**ends)
        dead = self.judged()
        withdrawn = self.take_back(dead)
        assert (withdrawn.free, self.why(withdrawn), withdrawn.put_off) == ([], [why], False)
        assert [is_news for _, is_news in withdrawn.stays] == [True]
        once = len(self.machine.ran)
        self.take_back(dead)
        twice = len(self.machine.ran)
        assert twice == once * (1 if "end" in why else 2)  # it may have been a moment's trouble, unless something hangs
        again = self.take_back(dead)
        assert (again.free, self.why(again), len(self.machine.ran)) == ([], [why], twice)
        assert [is_news for _, is_news in again.stays] == [False]
        self.clock_s += 61
        self.programs(iptablessave=said(SAVED), portmap=said())
        assert self.take_back(dead).free == [dead]

    def test_success_is_not_believed(self) -> None:
        """A DEL may answer with success and do nothing; its rules are looked for."""
        self.programs(iptablessave=said(SAVED), portmap=said())
        self.machine.works = False
        assert self.why(self.take_back(self.judged())) == [withdraw.STANDS]

    def test_connections_that_stay_keep_the_address(self) -> None:
        """Where a port led to it they keep the address; else they do not."""
        self.programs(iptablessave=said(SAVED), portmap=said())
        self.flows = OSError(1, "not permitted")
        assert self.why(self.take_back(self.judged())) == ["its connections cannot be ended: [Errno 1] not permitted"]
        other = self.judged(OTHER, "10.9.0.3")
        self.put(entry(None))
        assert self.take_back(other).free == [other]

    def test_no_time_leaves_it_to_the_next_call(self) -> None:
        """What there is no time for waits for the next call, which goes on at once."""
        self.programs(iptablessave=said(SAVED), portmap=said())
        dead = self.judged()
        withdrawn = self.take_back(dead, wall_s=1.0)
        assert (self.why(withdrawn), withdrawn.put_off, self.machine.ran) == ([written.NO_TIME], True, [])
        assert self.take_back(dead).free == [dead]

    def test_what_has_changed_is_left_alone(self) -> None:
        """Nothing is run for an owner that is not what was judged: a new life of it may have published the same."""
        self.programs(iptablessave=said(SAVED), portmap=said())
        assert self.why(self.take_back(self.judged(), still=False)) == [withdraw.CHANGED]
        assert "portmap" not in self.machine.ran

    @pytest.mark.parametrize(("backend", "network", "stays"), [("nftables", "other", True), ("iptables", "other", False)])
    def test_ports_of_a_live_attachment_stay(self, backend: str, network: str, stays: bool) -> None:
        """With nftables portmap's DEL takes all that a container has published, in each network; with iptables in its own."""
        if backend == "iptables":
            self.programs(iptablessave=said(SAVED), portmap=said())
        else:
            self.programs(nft_list_tables=said("table ip cni_hostport\n"), nft_list_table_ip=said(LISTED), portmap=said())
        call = Call("ADD", Attachment(network, DEAD, "eth1"), "/run/netns/x", Netns(4, 5, 6))
        assert self.why(self.take_back(self.judged(), call=call)) == [withdraw.SHARED] * stays
        assert ("portmap" in self.machine.ran) != stays

    def test_one_that_hangs_is_enough(self) -> None:
        """The next ones are not tried by the same call."""
        (self.root / "results" / f"net-{OTHER}-eth0").write_text(json.dumps(entry(containerId=OTHER)))
        self.programs(iptablessave=said(SAVED), portmap=said(code=None, trouble="it did not end"))
        withdrawn = self.take_back(self.judged(), self.judged(OTHER, "10.9.0.3"))
        assert self.why(withdrawn) == ["portmap's DEL: it did not end", withdraw.HANGS]
        assert self.machine.ran.count("portmap") == 1

    def test_one_del_for_both_families(self) -> None:
        """Both addresses of a container are free by one."""
        self.programs(iptablessave=said(SAVED), portmap=said())
        both = [self.judged(), self.judged(address="10.9.1.2")]
        assert self.take_back(*both).free == both
        assert self.machine.ran.count("portmap") == 1


class TestTries:
    """What was tried a moment ago."""

    def test_tries_count_in_this_boot_for_this_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another boot's, another file's, and what nobody wrote say nothing."""
        monkeypatch.setattr(proven_views, "RUN_DIR", str(tmp_path))
        one = Reservation("net", "10.9.0.2", b"x\r\neth0", 7, 8)
        tries.Tried("net").note([(one, "why", 10.0)], [])
        assert tries.Tried("net").waits(one) == ""
        tries.Tried("net").note([(one, "why", 10.0)], [])
        assert tries.Tried("net").waits(one) == "why"
        assert tries.Tried("net").waits(Reservation("net", "10.9.0.2", b"x\r\neth0", 7, 9)) == ""
        assert tries.Tried("other").waits(one) == ""
        monkeypatch.setattr(boot, "boot_id", lambda: "another")
        assert tries.Tried("net").waits(one) == ""
        monkeypatch.undo()
        monkeypatch.setattr(proven_views, "RUN_DIR", str(tmp_path))
        tries.Tried("net").note([], [one])
        assert tries.Tried("net").waits(one) == ""
        for content in (b"", b"[]", b'{"bootID":1}', b"\xff"):
            (tmp_path / "net.published").write_bytes(content)
            assert tries.Tried("net").waits(one) == ""


class TestPrograms:
    """Programs with a deadline."""

    def run(self, script: str, wait_s: float = 600.0, document: bytes = b"") -> Ended:
        """Run a script."""
        return programs.run(["/bin/sh", "-c", script], {b"PATH": b"/usr/bin:/bin", b"SAID": b"yes"}, wait_s, document)

    def test_program_gives_code_output_and_environment(self) -> None:
        """Exit code, output and the environment are its own."""
        ended = self.run("echo $SAID; echo no >&2; exit 3")
        assert (ended.code, ended.out, ended.err, ended.trouble) == (3, b"yes\n", b"no\n", "")

    def test_long_document_may_be_left_unread(self) -> None:
        """It is written while the answer is read, and may be left unread."""
        document = bytes(1 << 20)
        assert self.run("cat", document=document).out == document
        assert self.run("exit 0", document=document).code == 0

    def test_signal_gives_a_negative_code(self) -> None:
        """A program that a signal has ended has a negative code."""
        assert self.run("kill -9 $$").code == -9

    def test_its_group_ends_at_the_deadline(self, tmp_path: Path) -> None:
        """With all that it has started."""
        ended = self.run(f"sleep 10000 & echo $! > {tmp_path}/child; sleep 10000", wait_s=0.3)
        assert (ended.code, ended.trouble) == (None, "it did not end in time")
        child = (tmp_path / "child").read_text().strip() if (tmp_path / "child").exists() else ""
        stat = Path(f"/proc/{child}/stat")

        def has_ended() -> bool:
            return not child or not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"

        until(has_ended, "its child ends")

    def test_child_that_holds_output_delays_nothing(self) -> None:
        """The end is the program's own, not that of whom it leaves behind."""
        ended = self.run("sleep 20 & echo done")
        assert (ended.code, ended.out) == (0, b"done\n")

    def test_too_much_is_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What it says is bounded."""
        monkeypatch.setattr(programs, "_MOST", 1 << 16)
        assert self.run("exec yes").trouble == "it said more than 65536 bytes"

    def test_ignored_sigchld_loses_no_exit_code(self) -> None:
        """A runtime may ignore SIGCHLD, which is inherited."""
        script = "from cni_reaper_plugin.system import programs; print(programs.run(['/bin/sh', '-c', 'exit 3'], {}, 600).code)"
        argv = ["sh", "-c", 'trap "" CHLD; exec "$@"', "sh", sys.executable, "-c", script]
        assert subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "3\n"

    @pytest.mark.parametrize("path", ["/nowhere/portmap", "/etc/passwd", "/"])
    def test_program_that_cannot_be_started_is_told(self, path: str) -> None:
        """Missing, not executable, a directory."""
        with pytest.raises(OSError, match=path):
            programs.run([path], {}, 1.0)

    def test_first_regular_file_on_path_is_found(self, tmp_path: Path) -> None:
        """The first regular file, by absolute directories alone."""
        for name in ("a", "b", "c"):
            (tmp_path / name).mkdir()
        (tmp_path / "a" / "portmap").mkdir()
        (tmp_path / "b" / "portmap").symlink_to("/etc/passwd")
        (tmp_path / "c" / "portmap").touch()
        places = [str(tmp_path / name) for name in "abc"]
        assert programs.find("portmap", ["", "relative", *places]) == f"{tmp_path}/b/portmap"
        assert programs.find("other", places) is None
