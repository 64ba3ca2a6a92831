"""An installation of version 0.1.0, played: install takes it over, and uninstall finds it. tests/packaging has the real one."""

import json
import os
import shutil
import signal

import pytest

from tests.support.cni_calls import BIN, NET_D, bridge, host_local
from tests.support.install import (
    FILE,
    LINK,
    NOTES,
    OURS,
    has_us,
    install,
    is_there,
    nothing_is_there,
    plugins,
    said,
    start_watch,
    tree,
    uninstall,
    until,
    write,
)
from tests.support.node import Node
from tests.support.node_files import STATE_DIR

ROOT = f"{BIN}/.cni-reaper"
BUNDLE = f"{ROOT}/0.1.0"
PLATFORM = [bridge(host_local("10.66.0.0/29"))]
DRY = {"dryRun": True}


@pytest.fixture
def old(bare: Node) -> Node:
    """A node with the layout of 0.1.0: what is a bundle there is here a program that waits, and its entry is a dry run."""
    bare.path(f"{BUNDLE}/_internal").mkdir(parents=True)
    bare.write(f"{BUNDLE}/_internal/build.json", "{}")
    shutil.copy("/bin/sleep", bare.path(f"{BUNDLE}/cni-reaper"))
    bare.path(LINK).symlink_to(".cni-reaper/0.1.0/cni-reaper")
    bare.write(f"{ROOT}/lock", "")
    bare.write(f"{ROOT}/entries.json", json.dumps({FILE: DRY, "/srv/net.d/10-net.conflist": {}}))
    write(bare, [{**OURS, **DRY}, *PLATFORM])
    return bare


def long_ago(node: Node) -> None:
    """Let the link have left the bundle long ago."""
    os.utime(node.path(BUNDLE), (0, 0))


@pytest.mark.parametrize("how", ["install", "--settle", "--watch"])
def test_executable_and_bundle_of_0_1_0_are_replaced(old: Node, how: str) -> None:
    """The executable at once; the bundle when no process that can be seen runs it, and ten minutes after that."""
    running = old.start([f"{BUNDLE}/cni-reaper", "1000"])
    long_ago(old)
    ran = install(old).check()
    assert is_there(old)
    assert f"{ROOT}: the files of version 0.1.0 stay" in ran.text
    assert not old.path(f"{ROOT}/entries.json").exists()
    for _ in range(2):
        long_ago(old)
        assert f"{ROOT}: the files" in install(old).check().text, "a process runs it"
    old.stop(running)
    old.path(f"{BUNDLE}/_internal").touch()
    os.utime(old.path(BUNDLE))
    assert f"{ROOT}: the files" in install(old).check().text, "a call may have begun with it"
    long_ago(old)
    if how == "--watch":
        watcher = start_watch(old)
        assert until(lambda: nothing_is_there(old, ROOT)), said(old)
        assert old.stop(watcher, signal.SIGTERM) == 0
    else:
        assert "0.1.0 stay" not in install(old, *([how] if how != "install" else [])).check().text
        assert nothing_is_there(old, ROOT)
    assert is_there(old)


def test_a_dry_run_stays_one(old: Node) -> None:
    """The platform has rewritten the conflist just before: the entry comes back with the options that 0.1.0 has noted."""
    write(old, PLATFORM)
    assert '"dryRun": true' in install(old, "--dry-run").check().text
    install(old).check()
    assert plugins(old)[0] == {**OURS, **DRY}
    noted = json.loads(old.read(NOTES))["entries"]
    assert noted[FILE] == {"options": DRY, "binDirs": [BIN]}
    assert noted["/srv/net.d/10-net.conflist"] == {"options": {}, "binDirs": [BIN]}


def test_what_cannot_be_replaced_keeps_its_notes(old: Node) -> None:
    """The new executable does not run there: 0.1.0 goes on as it is, with all that it knows."""
    before = tree(old, BIN)
    old.mount(BIN, BIN, flags=4096)  # MS_BIND
    old.mount("none", BIN, flags=4096 | 32 | 8)  # MS_BIND | MS_REMOUNT | MS_NOEXEC
    ran = install(old)
    assert (ran.rc, "noexec" in ran.text) == (1, True), str(ran)
    assert tree(old, BIN) == before
    assert nothing_is_there(old, NOTES)


def test_uninstall_alone_leaves_nothing_of_0_1_0(old: Node) -> None:
    """It finds what 0.1.0 has put in, also where no runtime looks, and leaves nothing of it."""
    old.write("/srv/net.d/10-net.conflist", json.dumps({"cniVersion": "1.0.0", "name": "n", "plugins": [OURS, *PLATFORM]}))
    uninstall(old).check()
    assert not has_us(old)
    assert not has_us(old, "/srv/net.d/10-net.conflist")
    assert nothing_is_there(old)
    assert nothing_is_there(old, ROOT)
    assert nothing_is_there(old, STATE_DIR)
    assert os.listdir(old.path(NET_D)) == ["10-net.conflist"]


def test_uninstall_leaves_a_bundle_that_runs(old: Node) -> None:
    """Its process reads its files when it needs them."""
    running = old.start([f"{BUNDLE}/cni-reaper", "1000"])
    assert f"{ROOT}: left there" in uninstall(old).check().text
    assert nothing_is_there(old)
    assert old.path(BUNDLE).exists()
    old.stop(running)
    uninstall(old).check()
    assert nothing_is_there(old, ROOT)


def test_a_command_of_0_1_0_is_waited_for(old: Node) -> None:
    """Its lock is taken while its directory is touched; the executable is there meanwhile."""
    long_ago(old)
    holder = old.start(["flock", "--no-fork", f"{ROOT}/lock", "sleep", "600"])
    assert until(lambda: old.run(["flock", "--nonblock", f"{ROOT}/lock", "true"]).rc == 1)
    watcher = start_watch(old)
    assert until(lambda: is_there(old))
    assert old.path(f"{ROOT}/entries.json").exists()
    old.stop(holder)
    assert until(lambda: not old.path(f"{ROOT}/entries.json").exists())
    assert old.stop(watcher, signal.SIGTERM) == 0
