"""The operator's commands on a real kernel, on a node without libc, shell of its own, Python or runtime: install to uninstall."""

import json

import pytest

from cni_reaper_plugin import __version__
from tests.machines.machine import Console, Machine
from tests.machines.nodes import conflist
from tests.support.cni_calls import NET_D, reaper
from tests.support.node_files import DATA_DIR, LOG_FILE

FILE = f"{NET_D}/10-net.conflist"
INSTALLED = "/opt/cni/bin/cni-reaper"
OPTIONS = {"logFile": LOG_FILE}
SCENARIO = f"""
cni_reaper() {{ step "$*" /root/cni-reaper "$@"; }}
cni_reaper version --verbose
cni_reaper completion bash
cni_reaper man
cni_reaper units
cni_reaper install --dry-run
step "after the dry run" cat {FILE}
step "install" /root/cni-reaper install --options '{json.dumps(OPTIONS)}'
step "installed" cat {FILE}
step "the same file" cmp /root/cni-reaper {INSTALLED}
cni_reaper() {{ step "$*" {INSTALLED} "$@"; }}
pod living
step "add living" cnitool add net /run/netns/living
pod lost
step "add lost" cnitool add net /run/netns/lost
end_pod lost
cni_reaper doctor
cni_reaper audit
cni_reaper audit --map
cni_reaper audit --json
cni_reaper explain 10.90.0.3
cni_reaper reap --dry-run
step "still reserved" ls {DATA_DIR}/net
cni_reaper reap --yes
step "freed" ls {DATA_DIR}/net
step "del living" cnitool del net /run/netns/living
step "late del lost" cnitool del net /run/netns/lost
cni_reaper uninstall
step "uninstalled" cat {FILE}
step "left" find /opt/cni /etc/cni /var/lib/cni/reaper /run/cni-reaper
"""


@pytest.fixture(scope="module")
def node(machine: Machine) -> Console:
    """One boot: a bare node, on which cni-reaper is installed, used, and uninstalled."""
    return machine.run(SCENARIO, {FILE.lstrip("/"): conflist()})


def test_version_says_what_it_was_made_of(node: Console) -> None:
    """Version and interpreter."""
    said = node["version --verbose"].check().text
    assert __version__ in said
    assert "python" in said


@pytest.mark.parametrize(
    ("command", "holds"), [("completion bash", "_shtab_cni_reaper"), ("man", ".TH"), ("units", "cni-reaper-install.service")]
)
def test_files_are_printed(node: Console, command: str, holds: str) -> None:
    """What a package puts into /usr comes out of the executable."""
    assert holds in node[command].check().out.decode()


def test_install_dry_run_changes_nothing(node: Console) -> None:
    """It names the conflist, which stays byte for byte."""
    assert FILE in node["install --dry-run"].check().text
    assert node["after the dry run"].out == conflist()


def test_install_copies_the_file_and_puts_the_entry_first(node: Console) -> None:
    """One file, equal to the one that ran; the next pod starts."""
    node["install"].check()
    assert json.loads(node["installed"].check().out) == json.loads(conflist(reaper(**OPTIONS)))
    node["the same file"].check()
    node["add living"].check()
    node["add lost"].check()


def test_doctor_has_nothing_to_complain_about(node: Console) -> None:
    """No error and no warning on a node where a pod has started."""
    said = node["doctor"].check().text
    assert "[in-place]" in said
    assert "[view-proven]" in said


def test_audit_finds_the_leak(node: Console) -> None:
    """As a table, as a map and as JSON: one lives, one leaked; exit code 1."""
    assert node["audit"].rc == node["audit --map"].rc == node["audit --json"].rc == 1
    assert "1 LIVE, 1 STALE, 0 UNKNOWN" in node["audit"].text
    assert "--LS...-" in node["audit --map"].text
    (network,) = node["audit --json"].json()["networks"]
    assert {one["address"]: one["verdict"] for one in network["reservations"]} == {"10.90.0.2": "LIVE", "10.90.0.3": "STALE"}


def test_explain_says_which_rule_decides(node: Console) -> None:
    """The netns of the record is gone."""
    said = node["explain 10.90.0.3"].check().text
    assert "STALE" in said
    assert "docs/evidence.md" in said


def test_reap_frees_the_leak_only(node: Console) -> None:
    """The dry run frees nothing; then the leak is freed, and the living pod's reservation stays."""
    assert "would-reap" in node["reap --dry-run"].check().text
    assert {"10.90.0.2", "10.90.0.3"} <= set(node["still reserved"].check().text.split())
    assert "address=10.90.0.3" in node["reap --yes"].check().text
    left = set(node["freed"].check().text.split())
    assert "10.90.0.2" in left
    assert "10.90.0.3" not in left


def test_uninstall_leaves_nothing(node: Console) -> None:
    """After the last DEL the conflist is what it was, byte for byte; executable and state are gone."""
    node["del living"].check()
    node["late del lost"].check()
    node["uninstall"].check()
    assert node["uninstalled"].out == conflist()
    assert "reaper" not in node["left"].out.decode()
