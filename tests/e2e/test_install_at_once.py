"""Several install and uninstall at once, and somebody who reads the conflist all the time."""

import json
import os
import threading
from pathlib import Path

from tests.e2e import strace
from tests.e2e.pair import until
from tests.e2e.test_install import FILE, LINK, OURS, another_build, bare, bundle, install, plugins, tree, uninstall
from tests.node import BIN, NET_D, Node, command

__all__ = ["bare"]
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


def test_installers(bare: Node, tmp_path: Path) -> None:
    """Two builds, eight at once: one entry, a link to a whole bundle, nothing else in the directory."""
    builds = [bundle(bare), another_build(bare, tmp_path / "b")]
    reader = Reader(bare)
    reader.start()
    for ran in bare.together([command([f"{builds[number % 2]}/cni-reaper", "install"]) for number in range(AT_ONCE)]):
        ran.check()
    reader.stop()
    assert plugins(bare).count(OURS) == 1
    assert os.listdir(bare.path(NET_D)) == ["10-net.conflist"]
    assert [name for name in os.listdir(bare.path(f"{BIN}/.cni-reaper")) if name.startswith(".")] == []
    bare.run([LINK, "version"]).check()


def test_install_while_uninstall_removes_the_executable(bare: Node) -> None:
    """Uninstall has seen that nobody has us, and is slow: an entry that is put in now must not lose its executable."""
    before = bare.path(FILE).read_bytes(), tree(bare, BIN)
    install(bare).check()
    bare.path("/run/cni-reaper").mkdir()
    slow = [*strace.slow("unlink", REMOVAL_US), f"{bundle(bare)}/cni-reaper", "uninstall", "--purge"]
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


def test_put_back_into_a_directory_that_only_we_know(bare: Node) -> None:
    """While uninstall goes on: it must not forget the directory before it has seen that our entry stays out of it."""
    elsewhere = "/srv/net.d/10-net.conflist"
    bare.write(elsewhere, bare.read(FILE))
    install(bare, "--conf-dir", "/srv/net.d").check()
    inside = bare.path(elsewhere).read_bytes()
    bare.write("/run/cni-reaper/views", "")  # the removal of which is slow, and comes before that of the executable
    slow = [*strace.slow("unlink", REMOVAL_US), f"{bundle(bare)}/cni-reaper", "uninstall", "--purge"]
    removal = bare.start(slow)
    until(lambda: not bare.path(f"{BIN}/.cni-reaper/entries.json").exists(), "it has been forgotten")
    bare.path(elsewhere).write_bytes(inside)
    assert bare.wait(removal) == 1
    bare.run([LINK, "version"]).check()


def test_put_back_before_it_is_forgotten(bare: Node) -> None:
    """Uninstall waits for the lock in which it forgets, and the entry comes back with its options: both stay noted."""
    lock, notes = f"{BIN}/.cni-reaper/lock", f"{BIN}/.cni-reaper/entries.json"
    install(bare, "--options", '{"dryRun": true}').check()
    inside, noted = bare.path(FILE).read_bytes(), bare.read(notes)
    holder = bare.start(["flock", "--no-fork", lock, "sleep", "600"])
    until(lambda: bare.run(["flock", "--nonblock", lock, "true"]).rc == 1, "it is held")
    removal = bare.start([f"{bundle(bare)}/cni-reaper", "uninstall", "--purge"])
    until(lambda: lock in bare.run(["find", f"/proc/{removal}/fd", "-printf", "%l\\n"]).text, "uninstall waits for it")
    bare.path(FILE).write_bytes(inside)
    bare.stop(holder)
    assert bare.wait(removal) == 1
    assert bare.read(notes) == noted
    bare.run([LINK, "version"]).check()
