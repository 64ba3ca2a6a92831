"""The options of our entry: given once, or written by hand, they outlive the platform's rewrites."""

import json
import os
import signal

import pytest

from tests.support.cni_calls import BIN, NET_D, bridge, host_local
from tests.support.install import (
    FILE,
    NOTES,
    OURS,
    has_us,
    install,
    nothing_is_there,
    plugins,
    start_watch,
    tree,
    uninstall,
    until,
    write,
)
from tests.support.node import Node
from tests.support.node_files import STATE_DIR, Conf

DRY: Conf = {"dryRun": True, "logFile": "/var/log/x.log"}
PLATFORM = [bridge(host_local("10.66.0.0/29")), {"type": "tuning"}]


def test_a_dry_run_stays_one(bare: Node) -> None:
    """Put in with `dryRun`, taken out by a rewrite, put back without options, as the units do: it frees nothing still."""
    install(bare, "--options", json.dumps(DRY)).check()
    for _ in range(2):
        write(bare, PLATFORM)
        install(bare).check()
        assert plugins(bare)[0] == {**OURS, **DRY}
    write(bare, PLATFORM)
    install(bare, "--settle").check()
    assert plugins(bare)[0] == {**OURS, **DRY}


def test_what_a_person_wrote_into_the_entry_stays(bare: Node) -> None:
    """By hand, and a later version's option or a wrong value among it: it comes back as it was."""
    by_hand = {**OURS, "ofALaterVersion": {"x": [1, None]}, "budgetMs": "wrong", "dryRun": True}
    write(bare, [by_hand, *PLATFORM])
    install(bare).check()
    write(bare, PLATFORM)
    install(bare).check()
    assert plugins(bare)[0] == by_hand
    write(bare, [OURS, *PLATFORM])
    install(bare).check()
    write(bare, PLATFORM)
    install(bare).check()
    assert plugins(bare)[0] == OURS


def test_watcher_remembers_options(bare: Node) -> None:
    """It sees what a person writes while it looks on."""
    watcher = start_watch(bare)
    assert until(lambda: has_us(bare))
    write(bare, [{**OURS, **DRY}, *PLATFORM])
    assert until(lambda: bare.path(NOTES).exists() and "dryRun" in bare.read(NOTES))
    write(bare, PLATFORM)
    assert until(lambda: has_us(bare))
    assert plugins(bare)[0] == {**OURS, **DRY}
    assert bare.stop(watcher, signal.SIGTERM) == 0


def test_the_store_is_the_siblings_of_now(bare: Node) -> None:
    """A dataDir that was taken over is not remembered; one that a person gave is."""
    elsewhere = [bridge(host_local("10.66.0.0/29", dataDir="/var/lib/elsewhere"))]
    write(bare, elsewhere)
    install(bare, "--options", '{"dryRun": true}').check()
    assert plugins(bare)[0] == {**OURS, "dataDir": "/var/lib/elsewhere", "dryRun": True}
    write(bare, PLATFORM)
    install(bare).check()
    assert plugins(bare)[0] == {**OURS, "dryRun": True}
    install(bare, "--options", '{"dataDir": "/var/lib/mine"}').check()
    write(bare, PLATFORM)
    install(bare).check()
    assert plugins(bare)[0] == {**OURS, "dataDir": "/var/lib/mine"}


def test_each_conflist_has_its_own(bare: Node) -> None:
    """Two networks, one directory of plugins."""
    other = f"{NET_D}/20-other.conflist"
    write(bare, PLATFORM, other, name="other")
    install(bare, "--options", json.dumps(DRY)).check()
    install(bare, "--conflist", other, "--options", '{"logLevel": "debug"}').check()
    for path in (FILE, other):
        write(bare, PLATFORM, path, name="other" if path == other else "net")
        install(bare, "--conflist", path).check()
    assert plugins(bare)[0] == {**OURS, **DRY}
    assert plugins(bare, other)[0] == {**OURS, "logLevel": "debug"}


def test_dropped_in(bare: Node) -> None:
    """The drop-in file keeps them, too."""
    install(bare, "--drop-in", "--options", json.dumps(DRY)).check()
    drop_in = f"{NET_D}/net/50-cni-reaper.conf"
    install(bare, "--drop-in").check()
    assert json.loads(bare.read(drop_in)) == {**OURS, **DRY}
    bare.path(drop_in).unlink()
    install(bare, "--drop-in").check()
    assert json.loads(bare.read(drop_in)) == {**OURS, **DRY}
    install(bare, "--drop-in", "--options", "{}").check()
    assert json.loads(bare.read(drop_in)) == OURS


def test_empty_options_and_uninstall_forget(bare: Node) -> None:
    """`{}` forgets the options, and uninstall all of it, also where the executable stays."""
    install(bare, "--options", json.dumps(DRY)).check()
    assert json.loads(bare.read(NOTES)) == {"entries": {FILE: {"options": DRY, "binDirs": [BIN]}}}
    assert bare.path(NOTES).stat().st_mode & 0o777 == 0o600
    install(bare, "--options", "{}").check()
    assert json.loads(bare.read(NOTES)) == {"entries": {FILE: {"options": {}, "binDirs": [BIN]}}}
    install(bare, "--options", json.dumps(DRY)).check()
    bare.cnitool("add", "net", bare.pod()).check()  # so the executable stays
    uninstall(bare).check()
    assert nothing_is_there(bare, NOTES)
    install(bare).check()
    assert plugins(bare)[0] == OURS


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"entries": {"/etc/cni/net.d/10-net.conflist": 7}}', "\0" * 40], ids=range(5)
)
def test_a_damaged_memory_stops_nothing(bare: Node, content: str) -> None:
    """It counts as none, is set aside, and goes with the rest."""
    install(bare).check()
    bare.write(NOTES, content)
    write(bare, PLATFORM)
    install(bare).check()
    assert plugins(bare)[0] == OURS
    install(bare, "--options", json.dumps(DRY)).check()
    write(bare, PLATFORM)
    install(bare).check()
    assert plugins(bare)[0] == {**OURS, **DRY}
    (aside,) = bare.path(STATE_DIR).glob("installation.json.damaged-*")
    assert aside.read_text() == content
    uninstall(bare).check()
    assert nothing_is_there(bare, STATE_DIR)


def test_what_cannot_be_noted_is_not_put_in(bare: Node) -> None:
    """Else a dry run would not stay one. Here a directory lies in the place of the notes."""
    before = write(bare, PLATFORM)
    bare.path(f"{NOTES}/x").mkdir(parents=True)
    ran = install(bare, "--options", json.dumps(DRY))
    assert (ran.rc, NOTES in ran.text) == (1, True)
    assert bare.path(FILE).read_bytes() == before


def test_uninstall_removes_the_notes(bare: Node) -> None:
    """Uninstall leaves nothing of it."""
    before = tree(bare, BIN)
    install(bare, "--options", json.dumps(DRY)).check()
    uninstall(bare).check()
    assert tree(bare, BIN) == before


def test_uninstall_knows_where_it_was_put(bare: Node) -> None:
    """Into a directory that no runtime's configuration names, and nobody names to uninstall, as in the package's prerm."""
    elsewhere = "/srv/net.d/10-net.conflist"
    original = write(bare, PLATFORM, elsewhere)
    install(bare, "--conf-dir", "/srv/net.d").check()
    assert plugins(bare, elsewhere)[0] == OURS
    uninstall(bare).check()
    assert bare.path(elsewhere).read_bytes() == original
    assert nothing_is_there(bare)
    install(bare, "--conf-dir", "/srv/net.d", "--drop-in").check()
    assert bare.path("/srv/net.d/net/50-cni-reaper.conf").exists()
    uninstall(bare).check()
    assert list(tree(bare, "/srv")) == ["net.d/10-net.conflist"]
    assert nothing_is_there(bare)


def test_another_plugin_directory_keeps_a_dry_run(bare: Node) -> None:
    """The runtime is configured anew, or the directory of conflists has two names: a dry run stays one."""
    bare.path("/srv/link").symlink_to(NET_D)
    install(bare, "--conf-dir", "/srv/link", "--options", json.dumps(DRY)).check()
    bare.path("/srv/lib").mkdir()
    bare.path(f"{BIN}/bridge").rename(bare.path(f"{BIN}/kept"))
    bare.path("/srv/lib/bridge").touch(0o755)
    told = f'[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "/srv/lib"\nconf_dir = "{NET_D}"\n'
    bare.write("/etc/containerd/config.toml", told)
    write(bare, [bridge(host_local("10.66.0.0/29"))])
    install(bare).check()
    assert plugins(bare)[0] == {**OURS, **DRY}


def test_odd_names_are_noted_and_deep_options_stay(bare: Node) -> None:
    """A name that is no UTF-8 is noted; options too deep to be noted are said to be, and stay where they are."""
    name = f"{NET_D}/05-\udcff.conflist"
    write(bare, PLATFORM, name)
    install(bare, "--options", json.dumps(DRY)).check()
    write(bare, PLATFORM, name)
    install(bare).check()
    assert plugins(bare, name)[0] == {**OURS, **DRY}
    uninstall(bare).check()
    bare.path(name).unlink()
    deep: Conf = {**OURS, "x": json.loads("[" * 300 + "]" * 300)}
    write(bare, [deep, *PLATFORM])
    ran = install(bare)
    assert "Traceback" not in ran.text
    assert plugins(bare)[0] == deep


def test_uninstall_forgets_what_a_platform_has_taken_out(bare: Node) -> None:
    """The executable stays for a pod, and the entry is out already: its options go all the same."""
    install(bare, "--options", json.dumps(DRY)).check()
    bare.cnitool("add", "net", bare.pod()).check()
    write(bare, PLATFORM)
    uninstall(bare).check()
    install(bare).check()
    assert plugins(bare)[0] == OURS


def test_uninstall_needs_no_usual_directory(bare: Node) -> None:
    """Where we are is noted for the node, wherever its runtimes look."""
    original = write(bare, PLATFORM, "/srv/net.d/10-net.conflist")
    bare.path(FILE).unlink()
    bare.path(NET_D).rmdir()
    install(bare, "--conf-dir", "/srv/net.d").check()
    uninstall(bare).check()
    assert bare.path("/srv/net.d/10-net.conflist").read_bytes() == original
    assert nothing_is_there(bare)


def test_uninstall_knows_the_directory_of_plugins(bare: Node) -> None:
    """Named once, with the conflist's, by an install for a runtime of its own; plain uninstall finds both."""
    original = write(bare, PLATFORM, "/srv/net.d/10-net.conflist")
    bare.path("/srv/bin").mkdir()
    bare.path("/srv/bin/bridge").touch(0o755)
    install(bare, "--conf-dir", "/srv/net.d", "--bin-dir", "/srv/bin").check()
    assert bare.path("/srv/bin/cni-reaper").exists()
    uninstall(bare).check()
    assert bare.path("/srv/net.d/10-net.conflist").read_bytes() == original
    assert nothing_is_there(bare, "/srv/bin/cni-reaper")
    install(bare, "--bin-dir", "/srv/bin").check()
    assert bare.path("/srv/bin/cni-reaper").exists()
    uninstall(bare).check()
    assert nothing_is_there(bare, "/srv/bin/cni-reaper")


def test_a_state_dir_elsewhere_changes_nothing(bare: Node) -> None:
    """The installation is noted where it always is; an entry's own stateDir is for its records."""
    install(bare, "--options", '{"stateDir": "/srv/records"}').check()
    bare.cnitool("add", "net", bare.pod()).check()
    assert sorted(os.listdir(bare.path(STATE_DIR))) == ["installation.json", "installation.lock"]
    assert os.listdir(bare.path("/srv/records")) == ["net"]
    uninstall(bare, "--purge").check()
    assert nothing_is_there(bare, STATE_DIR)
    assert nothing_is_there(bare, "/srv/records")
