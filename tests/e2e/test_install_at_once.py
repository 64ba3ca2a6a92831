"""Several install and uninstall at once, and somebody who reads the conflist all the time."""

import json
import os
import threading
from pathlib import Path

from tests.support import strace
from tests.support.cni_calls import BIN, NET_D
from tests.support.commands import command
from tests.support.install import (
    FILE,
    LINK,
    LOCK,
    NOTES,
    OURS,
    another_build,
    executable,
    install,
    is_there,
    nothing_is_there,
    plugins,
    tree,
    uninstall,
)
from tests.support.node import Node
from tests.support.node_files import STATE_DIR
from tests.support.waiting import until

AT_ONCE = 8
REMOVAL_US = 2_000_000


class Reader(threading.Thread):
    """Reads the conflist until it is stopped, and keeps what was no JSON, or named an executable that was not there."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.path, self.link = node.path(FILE), node.path(LINK)
        self.wrong: list[bytes] = []
        self.reads = 0
        self._end = threading.Event()

    def run(self) -> None:
        """Look again and again."""
        while not self._end.is_set():
            there = os.access(self.link, os.X_OK)
            raw = self.path.read_bytes()
            self.reads += 1
            try:
                types = [one["type"] for one in json.loads(raw)["plugins"]]
            except ValueError:
                types = ["cni-reaper", "cni-reaper"]
            if types.count("cni-reaper") > 1 or ("cni-reaper" in types and not there and not os.access(self.link, os.X_OK)):
                self.wrong.append(raw)

    def stop(self) -> None:
        """End it, and see that all was well."""
        self._end.set()
        self.join()
        assert self.wrong == []
        assert self.reads > 0


def test_installs_at_once_leave_one_entry(bare: Node, tmp_path: Path) -> None:
    """Two builds, eight at once: one entry, one whole executable, nothing else in the directories."""
    before = tree(bare, BIN)
    builds = [executable(bare), another_build(bare, tmp_path / "b")]
    reader = Reader(bare)
    reader.start()
    for ran in bare.together([command([builds[number % 2], "install"]) for number in range(AT_ONCE)]):
        ran.check()
    reader.stop()
    assert plugins(bare).count(OURS) == 1
    assert os.listdir(bare.path(NET_D)) == ["10-net.conflist"]
    assert tree(bare, BIN).keys() == before.keys() | {"cni-reaper"}
    assert sorted(os.listdir(bare.path(STATE_DIR))) == ["installation.json", "installation.lock"]
    assert any(is_there(bare, build) for build in builds)


def test_install_during_uninstall_keeps_its_executable(bare: Node) -> None:
    """Uninstall has seen that nobody has us, and is slow: an entry that is put in now must not lose its executable."""
    before = bare.path(FILE).read_bytes(), tree(bare, BIN)
    install(bare).check()
    bare.path("/run/cni-reaper").mkdir()
    slow = [*strace.slow("unlink", REMOVAL_US), executable(bare), "uninstall", "--purge"]
    removal = bare.start(slow)
    until(lambda: not bare.path("/run/cni-reaper").exists(), "only the executable is left to be removed")
    reader = Reader(bare)
    reader.start()
    install(bare).check()
    bare.wait(removal)
    assert plugins(bare)[0] == OURS
    bare.run([LINK, "version"]).check()
    reader.stop()
    uninstall(bare).check()
    assert (bare.path(FILE).read_bytes(), tree(bare, BIN)) == before


def test_entry_put_back_in_known_directory_keeps_the_executable(bare: Node) -> None:
    """While uninstall removes the rest: it looks there once more before it removes the executable, and forgets nothing."""
    elsewhere = "/srv/net.d/10-net.conflist"
    bare.write(elsewhere, bare.read(FILE))
    install(bare, "--conf-dir", "/srv/net.d").check()
    inside, noted = bare.path(elsewhere).read_bytes(), bare.read(NOTES)
    bare.write("/run/cni-reaper/views", "")  # the removal of which is slow, and comes before that of the executable
    removal = bare.start([*strace.slow("unlink", REMOVAL_US), executable(bare), "uninstall", "--purge"])
    until(lambda: b"cni-reaper" not in bare.path(elsewhere).read_bytes(), "it is out")
    until(lambda: bare.run(["flock", "--nonblock", LOCK, "true"]).rc == 1, "only the rest is left to be removed")
    bare.path(elsewhere).write_bytes(inside)
    assert bare.wait(removal) == 1
    assert bare.read(NOTES) == noted
    bare.run([LINK, "version"]).check()


def test_entry_put_back_keeps_its_options(bare: Node) -> None:
    """Uninstall waits for the lock in which it forgets, and the entry comes back with its options: both stay noted."""
    install(bare, "--options", '{"dryRun": true}').check()
    inside, noted = bare.path(FILE).read_bytes(), bare.read(NOTES)
    holder = bare.start(["flock", "--no-fork", LOCK, "sleep", "600"])
    until(lambda: bare.run(["flock", "--nonblock", LOCK, "true"]).rc == 1, "it is held")
    removal = bare.start([executable(bare), "uninstall", "--purge"])
    until(lambda: LOCK in bare.run(["find", f"/proc/{removal}/fd", "-printf", "%l\\n"]).text, "uninstall waits for it")
    bare.path(FILE).write_bytes(inside)
    bare.stop(holder)
    assert bare.wait(removal) == 1
    assert bare.read(NOTES) == noted
    bare.run([LINK, "version"]).check()


def test_uninstalls_at_once_leave_nothing(bare: Node) -> None:
    """Eight at once: each finds nothing of it in the end, and nothing is left, the lock that they waited for neither."""
    before = bare.path(FILE).read_bytes(), tree(bare, BIN)
    install(bare).check()
    for ran in bare.together([command([executable(bare), "uninstall"]) for _ in range(AT_ONCE)]):
        ran.check()
    assert (bare.path(FILE).read_bytes(), tree(bare, BIN)) == before
    assert nothing_is_there(bare, STATE_DIR)
