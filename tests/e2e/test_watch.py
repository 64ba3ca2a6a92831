"""`install --watch` and `--settle`: the entry and the executable are put back after whatever takes them away."""

import os
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.support.cni_calls import BIN, NET_D, bridge, host_local
from tests.support.install import (
    FILE,
    LINK,
    PLATFORM,
    another_build,
    differs,
    executable,
    has_us,
    install,
    is_there,
    plugins_in,
    runs,
    said,
    start_watch,
    tree,
    until,
    write,
)
from tests.support.node import Node


def test_watch_is_told_by_the_kernel(bare: Node) -> None:
    """It has inotify watches on the directories of conflists and of plugins, and need not wait for its next look."""
    watcher = start_watch(bare)
    assert until(lambda: has_us(bare))
    wanted = {f"ino:{bare.path(directory).stat().st_ino:x} " for directory in (NET_D, BIN)}

    def watches() -> str:
        """Return proc(5)'s words on its inotify queue."""
        return bare.run(["sh", "-c", f"cat /proc/{watcher}/fdinfo/*"]).text

    assert until(lambda: all(one in watches() for one in wanted)), watches()


def test_watch_puts_it_back(watched: Node) -> None:
    """After a rewrite in place, in pieces, and after one by rename; twice in a row."""
    for _ in range(2):
        original = write(watched, [bridge(host_local("10.66.0.0/29"))])
        assert until(lambda: has_us(watched))
        with watched.path(FILE).open("wb") as file:
            file.write(original[:30])
            file.flush()
            half = original[:30]
            assert not until(partial(differs, watched, half), within_s=0.7), "half a file is left alone"
            file.write(original[30:])
        assert until(lambda: has_us(watched))
        watched.path(FILE + ".tmp").write_bytes(original)
        watched.path(FILE + ".tmp").rename(watched.path(FILE))
        assert until(lambda: has_us(watched))
    assert said(watched).count("our entry is in it") == 7


def test_watch_sees_directories_come_and_go(watched: Node) -> None:
    """The directory is replaced, its parent is replaced, a symlink's target is rewritten."""
    original = write(watched, [bridge(host_local("10.66.0.0/29"))])
    watched.path(NET_D).rename(watched.path("/etc/cni/old.d"))
    watched.write(FILE, original.decode())
    assert until(lambda: has_us(watched))
    watched.path(FILE).unlink()
    watched.write("/var/lib/platform/real.conflist", original.decode())
    watched.run(["ln", "-s", "/var/lib/platform/real.conflist", FILE]).check()
    assert until(lambda: has_us(watched, "/var/lib/platform/real.conflist"))
    watched.path("/var/lib/platform/real.conflist").write_bytes(original)
    assert until(lambda: has_us(watched, "/var/lib/platform/real.conflist"))
    assert watched.path(FILE).is_symlink()


def test_watch_waits_for_the_first_conflist(bare: Node) -> None:
    """On a node that is being set up: directory and file come later. It says so once."""
    shutil.rmtree(bare.path(NET_D))
    start_watch(bare)
    assert until(lambda: "waiting for one" in said(bare))
    write(bare, [bridge(host_local("10.66.0.0/29"))])
    assert until(lambda: has_us(bare))
    assert said(bare).count("waiting for one") == 1


def test_watch_puts_the_executable_back(watched: Node, tmp_path: Path) -> None:
    """But never its own version over one that somebody has installed since."""
    watched.path(LINK).unlink()
    assert until(lambda: is_there(watched))
    other = another_build(watched, tmp_path / "other")
    watched.run(["cp", other, f"{BIN}/new"]).check()
    watched.run(["mv", f"{BIN}/new", LINK]).check()
    write(watched, [bridge(host_local("10.66.0.0/29"))])
    assert until(lambda: has_us(watched))
    assert is_there(watched, other)


@pytest.mark.parametrize("how", ["another architecture", "half of it", "not executable", "a directory it leads to"])
def test_watch_replaces_an_executable_that_does_not_run(watched: Node, how: str) -> None:
    """The conflist names it, so no pod would start."""
    raw = watched.programs.reaper.read_bytes()
    watched.path(f"{BIN}/new").write_bytes(
        {"another architecture": raw[:18] + b"\x16" + raw[19:], "half of it": raw[:4096]}.get(how, raw)
    )
    watched.path(f"{BIN}/new").chmod(0o644 if how == "not executable" else 0o755)
    if how == "a directory it leads to":
        watched.path(f"{BIN}/new").unlink()
        watched.path(f"{BIN}/new").symlink_to(".")
    watched.run(["mv", "-T", f"{BIN}/new", LINK]).check()
    assert until(lambda: is_there(watched)), said(watched)


def test_watch_ends_cleanly(bare: Node) -> None:
    """SIGTERM: exit code 0, and everything stays: an update of the DaemonSet is no uninstallation."""
    watcher = start_watch(bare)
    assert until(lambda: has_us(bare))
    assert bare.stop(watcher, signal.SIGTERM) == 0
    assert has_us(bare)
    assert bare.path(LINK).exists()
    assert os.listdir(bare.path(NET_D)) == ["10-net.conflist"]


def test_watch_cleans_up_by_choice(bare: Node) -> None:
    """With --cleanup it uninstalls when it is ended."""
    before = tree(bare, BIN), tree(bare, NET_D)
    watcher = start_watch(bare, "--cleanup")
    assert until(lambda: has_us(bare))
    assert bare.stop(watcher, signal.SIGTERM) == 0
    assert (tree(bare, BIN), tree(bare, NET_D)) == before


def test_watch_polls_without_inotify(bare: Node) -> None:
    """Where the kernel gives none it looks each second, and says so."""
    tracer = ["strace", "-f", "-o", "/dev/null", "-e", "trace=inotify_init1", "-e", "inject=inotify_init1:error=EMFILE"]
    watch = [f"{executable(bare)}", "install", "--watch"]
    bare.start(["sh", "-c", f"exec {' '.join(tracer + watch)} 2>/run/watch.log"])
    assert until(lambda: "no inotify" in said(bare))
    assert until(lambda: has_us(bare))
    write(bare, [bridge(host_local("10.66.0.0/29"))])
    assert until(lambda: has_us(bare))


def test_settle_stays_for_the_platforms_next_file(bare: Node) -> None:
    """A path unit tells nothing while the service runs: what is written right behind it must be answered."""
    original = bare.path(FILE).read_bytes()
    settling = bare.start([f"{executable(bare)}", "install", "--settle"])
    for _ in range(3):
        assert until(lambda: has_us(bare))
        bare.write(f"{NET_D}/calico-kubeconfig", "")
        bare.path(FILE).write_bytes(original)
    assert bare.wait(settling) == 0
    assert has_us(bare)


def test_settle_says_what_could_not_be_done(bare: Node) -> None:
    """It ends with install's own exit code."""
    write(bare, [{"type": "calico", "ipam": {"type": "calico-ipam"}}])
    ran = install(bare, "--settle")
    assert ran.rc == 1
    assert "calico-ipam" in ran.text


def test_settle_without_conflist_is_no_failure(bare: Node) -> None:
    """No conflist: no failure for systemd to show, and nothing is put anywhere."""
    bare.path(FILE).unlink()
    before = tree(bare, BIN)
    assert "no conflist yet" in install(bare, "--settle").check().text
    assert tree(bare, BIN) == before


def test_a_watcher_waits_for_the_plugins(bare: Node) -> None:
    """On a node that joins the conflist may come before them; it says so, and needs no event in the directory of conflists."""
    bare.path("/srv/bin").mkdir(parents=True)
    start_watch(bare, "--bin-dir", "/srv/bin")
    assert until(lambda: "none of its plugins" in said(bare))
    assert not has_us(bare)
    bare.path("/srv/bin/bridge").touch(0o755)
    assert until(lambda: has_us(bare))


def test_a_watcher_says_that_all_is_well(bare: Node) -> None:
    """Started on a node that has us, it has nothing to do, and its log says on which conflist."""
    install(bare).check()
    start_watch(bare)
    assert until(lambda: f"{FILE}: our entry is in it already" in said(bare))


def test_watcher_retries_after_a_full_disk(bare: Node, tmp_path: Path) -> None:
    """It could not at its start, as the disk was full; it says so, and does it when there is room."""
    bare.mount("tmpfs", BIN, "tmpfs", data="size=40m")
    plugins_in(bare, BIN)
    install(bare).check()
    bare.run(["dd", "if=/dev/zero", f"of={BIN}/filler", "bs=64k"])
    other = another_build(bare, tmp_path / "b")
    bare.start(["sh", "-c", f"exec {other} install --watch 2>/run/watch.log"])
    assert until(lambda: "No space left" in said(bare))
    bare.path(f"{BIN}/filler").unlink()
    write(bare, PLATFORM)
    assert until(lambda: is_there(bare, other))


def test_watcher_restores_executable_after_plugin_directory(watched: Node) -> None:
    """All of it removed and unpacked again, or the executable alone: it is back at once, and where the runtime looks."""
    for number in range(2):
        watched.path(BIN).rename(watched.path(f"/opt/cni/gone-{number}"))
        assert until(lambda: runs(watched, BIN)), said(watched)
        watched.path(f"{BIN}/bridge").touch(0o755)
    watched.path(LINK).rename(watched.path("/opt/cni/gone"))
    assert until(lambda: runs(watched, BIN)), said(watched)


def test_watcher_does_not_answer_its_own_attempts(bare: Node) -> None:
    """It says so, and does not copy it again and again: its own attempts are no changes."""
    bare.mount("tmpfs", BIN, "tmpfs", flags=8)  # MS_NOEXEC
    plugins_in(bare, BIN)
    start_watch(bare)
    assert until(lambda: "noexec" in said(bare))
    before = bare.path(BIN).stat().st_mtime_ns
    assert not until(lambda: bare.path(BIN).stat().st_mtime_ns != before, within_s=2.0)


def test_watcher_restores_drop_in(bare: Node) -> None:
    """Removed, alone or with its directory, it is back."""
    watcher = start_watch(bare, "--drop-in")
    path = bare.path(f"{NET_D}/net/50-cni-reaper.conf")
    assert until(path.exists)
    path.unlink()
    assert until(path.exists)
    shutil.rmtree(path.parent)
    assert until(path.exists)
    assert bare.stop(watcher, signal.SIGTERM) == 0


def test_watcher_restores_mode_of_executable(watched: Node) -> None:
    """`chmod 0` of it by a person: the watcher is told, and puts it back."""
    watched.path(LINK).chmod(0)
    assert until(lambda: runs(watched, BIN)), said(watched)
