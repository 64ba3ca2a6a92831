"""`cni-reaper install` and `uninstall` on private nodes: the executable goes in, works, stays, and goes without a trace."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.cni_calls import BIN, NET_D, bridge, host_local
from tests.support.install import (
    FILE,
    LINK,
    LOCK,
    NOTES,
    OURS,
    another_build,
    converted_by_0_1_0,
    has_us,
    install,
    is_there,
    plugins,
    runs,
    tree,
    uninstall,
    until,
    write,
)
from tests.support.network import Network
from tests.support.node import Node
from tests.support.node_files import STATE_DIR


def test_node_is_as_it_was_after_uninstall(bare: Node) -> None:
    """The chain runs with us, a leak goes with the next ADD, and afterwards the node is as it was."""
    before, conflist = tree(bare, BIN), bare.path(FILE).read_bytes()
    said = install(bare).check().text
    assert LINK in said
    assert FILE in said
    assert plugins(bare)[0] == OURS
    assert is_there(bare)
    network = Network(bare)
    lost, live = bare.pod(), bare.pod()
    assert network.add(lost) == "10.66.0.2"
    lost.delete()
    assert network.add(live) == "10.66.0.3"
    assert set(bare.reservations("net")) == {"10.66.0.3"}
    bare.cnitool("del", "net", live).check()
    uninstall(bare).check()
    assert bare.path(FILE).read_bytes() == conflist
    assert tree(bare, BIN) == before
    assert not bare.path(STATE_DIR).exists()
    assert not bare.path("/run/cni-reaper").exists()


def test_again_changes_nothing(bare: Node) -> None:
    """Not a byte, not a time: whoever watches the directory has nothing to do."""
    install(bare).check()
    before = [(path, bare.path(path).stat()) for path in (FILE, NET_D, BIN, LINK, STATE_DIR, NOTES, LOCK)]
    said = install(bare).check().text
    assert "already" in said
    assert [(path, bare.path(path).stat()[:6] + bare.path(path).stat()[8:]) for path, _ in before] == [
        (path, old[:6] + old[8:]) for path, old in before
    ]
    times = [(one.st_mtime_ns, one.st_ctime_ns) for one in (bare.path(path).stat() for path, _ in before)]
    assert times == [(old.st_mtime_ns, old.st_ctime_ns) for _, old in before]


def test_the_installed_copy_installs(bare: Node) -> None:
    """What a unit at boot runs: the executable in its place, which has nothing to copy."""
    original = bare.path(FILE).read_bytes()
    install(bare).check()
    bare.path(FILE).write_bytes(original)
    before = sorted(os.listdir(bare.path(BIN)))
    bare.run([LINK, "install"]).check()
    assert plugins(bare)[0] == OURS
    assert sorted(os.listdir(bare.path(BIN))) == before
    assert is_there(bare)


def test_entry_takes_data_dir_of_its_sibling(bare: Node) -> None:
    """The entry looks where the host-local of the same list writes."""
    write(bare, [bridge(host_local("10.66.0.0/29", dataDir="/var/lib/elsewhere"))])
    install(bare).check()
    assert plugins(bare)[0] == {**OURS, "dataDir": "/var/lib/elsewhere"}


def test_given_options_replace_those_of_the_entry(bare: Node) -> None:
    """They replace those of the entry, whose place stays; without them it keeps its own, also of a later version."""
    later = {**OURS, "ofALaterVersion": {"x": 1}, "logLevel": "debug"}
    write(bare, [later, bridge(host_local("10.66.0.0/29"))])
    install(bare).check()
    assert plugins(bare)[0] == later
    install(bare, "--options", '{"logFile": "/var/log/x.log"}').check()
    assert plugins(bare)[0] == {**OURS, "logFile": "/var/log/x.log"}


def test_wrong_options_are_refused(bare: Node) -> None:
    """All at once, and the conflist is as it was."""
    before = bare.path(FILE).read_bytes()
    ran = install(bare, "--options", '{"budgetMs": 0, "dryrun": true}')
    assert ran.rc == 1
    assert "budgetMs" in ran.text
    assert "dryRun" in ran.text
    assert bare.path(FILE).read_bytes() == before


def test_dry_run_writes_nothing(bare: Node) -> None:
    """It shows a diff."""
    before = tree(bare, BIN), tree(bare, NET_D)
    said = install(bare, "--dry-run").check().text
    assert '+\t\t{"type": "cni-reaper"},' in said.splitlines()
    assert (tree(bare, BIN), tree(bare, NET_D)) == before
    install(bare).check()
    before = tree(bare, BIN), tree(bare, NET_D)
    assert '-\t\t{"type": "cni-reaper"},' in uninstall(bare, "--dry-run").check().text.splitlines()
    assert (tree(bare, BIN), tree(bare, NET_D)) == before


def test_executable_that_does_not_run_gets_no_entry(bare: Node) -> None:
    """On a file system that is noexec the copy does not run; a conflist that names it would stop every pod."""
    bare.mount("tmpfs", BIN, "tmpfs", flags=8)  # MS_NOEXEC
    bare.path(f"{BIN}/bridge").touch(0o755)
    before = bare.path(FILE).read_bytes()
    ran = install(bare, "--bin-dir", BIN)
    assert ran.rc == 1
    assert "noexec" in ran.text
    assert bare.path(FILE).read_bytes() == before
    assert os.listdir(bare.path(BIN)) == ["bridge"]


def test_running_process_keeps_its_executable(bare: Node, tmp_path: Path) -> None:
    """Another build takes the name, not the file: a watcher of the old one goes on, and leaves the new one there."""
    install(bare).check()
    watcher = bare.start([LINK, "install", "--watch"])
    assert until(lambda: "inotify" in bare.run(["find", f"/proc/{watcher}/fd", "-printf", "%l\n"]).text)
    other = another_build(bare, tmp_path / "other")
    install(bare, source=other).check()
    assert is_there(bare, other)
    write(bare, [bridge(host_local("10.66.0.0/29"))])
    assert until(lambda: has_us(bare))
    assert bare.stop(watcher, signal.SIGTERM) == 0
    assert is_there(bare, other)
    install(bare).check()
    assert is_there(bare)


@pytest.mark.parametrize("content", [b"", bytes(300)], ids=["empty", "NUL bytes"])
def test_purge_removes_records_that_a_power_cut_has_broken(bare: Node, content: bytes) -> None:
    """A broken record is ours by its name, beside our lock; another file in that directory makes it somebody else's."""
    install(bare).check()
    bare.cnitool("add", "net", bare.pod()).check()
    (record,) = bare.path(f"{STATE_DIR}/net").glob("*:eth0")
    record.write_bytes(content)
    somebodys = record.with_name("somebodys")
    somebodys.touch()
    uninstall(bare, "--purge").check()
    assert record.exists()
    somebodys.unlink()
    uninstall(bare, "--purge").check()
    assert not bare.path(f"{STATE_DIR}/net").exists()


def test_a_conf_of_one_plugin_is_refused(bare: Node) -> None:
    """It says what to write in its place, with the options given; and that is a list which works."""
    bare.path(FILE).unlink()
    conf = f"{NET_D}/10-net.conf"
    bare.write(conf, json.dumps({"cniVersion": "0.4.0", "name": "net", **bridge(host_local("10.66.0.0/29"))}))
    before = tree(bare, NET_D)
    ran = install(bare, "--options", '{"logLevel": "debug"}')
    sentence, _, text = ran.err.decode().partition("\n")
    assert (ran.rc, FILE in sentence) == (1, True)
    assert tree(bare, NET_D) == before
    bare.write(FILE, text)
    bare.path(conf).unlink()
    assert plugins(bare) == [{**OURS, "logLevel": "debug"}, bridge(host_local("10.66.0.0/29"))]
    install(bare).check()
    assert bare.read(FILE) == text
    pod = bare.pod()
    bare.cnitool("add", "net", pod).check()
    assert set(bare.reservations("net")) == {"10.66.0.2"}
    bare.cnitool("del", "net", pod).check()


def test_what_0_1_0_has_converted_is_put_back(bare: Node) -> None:
    """Install leaves its list as it is, and uninstall brings back the .conf, byte for byte and with its mode."""
    bare.path(FILE).unlink()
    conf = f"{NET_D}/10-net.conf"
    text = json.dumps({"cniVersion": "0.4.0", "name": "net", **bridge(host_local("10.66.0.0/29"))}) + "\r\n"
    converted_by_0_1_0(bare, conf, text)
    bare.path(conf + ".before-cni-reaper").chmod(0o640)
    before = bare.path(FILE).read_bytes()
    install(bare).check()
    assert bare.path(FILE).read_bytes() == before
    assert f"would put {conf} back" in uninstall(bare, "--dry-run").check().text
    uninstall(bare).check()
    assert tree(bare, NET_D) == {"10-net.conf": text.encode()}
    assert bare.path(conf).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("left", ["both", "list only ours"])
def test_0_1_0_was_killed_while_converting(bare: Node, left: str) -> None:
    """Both files are there: the .conf counts, and uninstall brings the directory back."""
    bare.path(FILE).unlink()
    conf = f"{NET_D}/10-net.conf"
    text = json.dumps({"cniVersion": "0.4.0", "name": "net", **bridge(host_local("10.66.0.0/29"))})
    converted_by_0_1_0(bare, conf, text)
    bare.write(conf, text)
    if left == "list only ours":
        bare.path(conf + ".before-cni-reaper").unlink()
    uninstall(bare).check()
    assert tree(bare, NET_D) == {"10-net.conf": text.encode()}


def test_chain_without_host_local_is_left_alone(bare: Node) -> None:
    """A chain without host-local is left alone, unless a person insists."""
    write(bare, [{"type": "calico", "ipam": {"type": "calico-ipam"}}])
    before = bare.path(FILE).read_bytes()
    ran = install(bare)
    assert ran.rc == 1
    assert "calico-ipam" in ran.text
    assert bare.path(FILE).read_bytes() == before
    install(bare, "--conflist", FILE).check()
    assert plugins(bare)[0] == OURS


@pytest.mark.parametrize("name", ["00-multus.conf", "00-multus.conflist"])
def test_multus_own_file_is_never_edited(bare: Node, name: str) -> None:
    """Its copy is made of the next one; named on the command line it is refused. A list it is from cniVersion 1.0.0 on."""
    plugin = {"type": "multus", "delegates": [json.loads(bare.read(FILE))]}
    head = {"cniVersion": "1.0.0", "name": "multus-cni-network"}
    multus = f"{NET_D}/{name}"
    bare.write(multus, json.dumps({**head, "plugins": [plugin]} if name.endswith("list") else {**head, **plugin}))
    before = bare.path(multus).read_bytes()
    install(bare).check()
    assert plugins(bare)[0] == OURS
    assert install(bare, "--conflist", multus).rc == 1
    assert bare.path(multus).read_bytes() == before


def test_missing_conflist_gets_the_executable_only(bare: Node) -> None:
    """The executable is put there all the same, and what is missing is said."""
    bare.path(FILE).unlink()
    ran = install(bare)
    assert ran.rc == 1
    assert "--watch" in ran.text
    assert bare.path(LINK).exists()
    assert install(bare, "--no-conflist").rc == 0


def test_dry_run_tells_all_that_would_change(bare: Node) -> None:
    """Nothing that is done already, and the rest that uninstall removes, or why not."""
    assert "would put this executable" in install(bare, "--dry-run").check().text
    install(bare).check()
    assert install(bare, "--dry-run").check().text.strip() == "everything is in its place already"
    assert f"would remove {LINK}" in uninstall(bare, "--dry-run").check().text
    bare.cnitool("add", "net", bare.pod()).check()
    assert "1 attachments" in uninstall(bare, "--dry-run").check().text
    uninstall(bare).check()
    assert "1 attachments" in uninstall(bare, "--dry-run").check().text
    assert f"would remove {LINK}" in uninstall(bare, "--dry-run", "--purge").check().text
    assert runs(bare, BIN)
