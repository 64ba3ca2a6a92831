"""What install and uninstall do not do: put us where no runtime looks, take the executable from a list that may have us."""

import os
from pathlib import Path

import pytest

from tests.e2e.test_install import (
    FILE,
    LINK,
    LOCK,
    OURS,
    another_build,
    bare,
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
from tests.node import BIN, DATA_DIR, NET_D, Node, bridge, host_local

__all__ = ["bare"]  # a fixture

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def test_a_directory_without_the_chains_plugins(bare: Node) -> None:
    """A slip in --bin-dir, or a DaemonSet for /opt/cni/bin on Debian's containerd: the list would name what nobody finds."""
    before = bare.path(FILE).read_bytes()
    ran = install(bare, "--bin-dir", "/opt/cni/bni")
    assert ran.rc == 1
    assert "bridge, tuning" in ran.text
    assert "--bin-dir" in ran.text
    assert bare.path(FILE).read_bytes() == before
    assert not bare.path("/opt/cni/bni").exists()
    assert install(bare, "--conflist", FILE, "--bin-dir", "/opt/cni/bni").rc == 1
    assert install(bare, "--dry-run", "--bin-dir", "/opt/cni/bni").rc == 1


def test_one_of_them_is_enough(bare: Node) -> None:
    """Also as a link that leads nowhere, as k3s' do in a container; and what a runtime's configuration names needs none."""
    bare.path("/srv/one").mkdir(parents=True)
    bare.path("/srv/one/tuning").symlink_to("/nowhere")
    install(bare, "--bin-dir", "/srv/one").check()
    write(bare, [bridge(host_local("10.66.0.0/29"))])
    dirs = f'bin_dirs = ["{BIN}", "/srv/two"]'
    bare.write("/etc/containerd/config.toml", f'[plugins."io.containerd.cri.v1.runtime".cni]\n{dirs}\nconf_dir = "{NET_D}"\n')
    install(bare, "--bin-dir", "/srv/two").check()


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


@pytest.mark.parametrize("how", ["too large", "an error of the disk"])
def test_the_executable_stays_when_a_conflist_cannot_be_read(bare: Node, how: str) -> None:
    """A runtime may load it, with us in it."""
    install(bare).check()
    if how == "too large":
        bare.path(FILE).write_bytes(bare.path(FILE).read_bytes() + b" " * (1 << 20))
        ran = uninstall(bare, "--purge")
    else:
        inject = ["strace", "-f", "-o", "/dev/null", "-P", FILE, "-e", "trace=openat", "-e", "inject=openat:error=EIO"]
        ran = bare.run([*inject, LINK, "uninstall", "--purge"])
    assert ran.rc == 1
    assert FILE in ran.text
    assert bare.path(LINK).exists()
    assert plugins(bare)[0] == OURS


def test_without_proc(bare: Node) -> None:
    """As in a chroot, in which a package is removed: conflists are read all the same."""
    original = bare.path(FILE).read_bytes()
    install(bare).check()
    hide = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$0" uninstall --purge', LINK]
    bare.run(hide).check()
    assert bare.path(FILE).read_bytes() == original
    assert nothing_is_there(bare)


def test_a_strangers_lock_stops_nobody(bare: Node) -> None:
    """Who can read the directories can lock them; install waits a little at most, and the kubelet behind it."""
    install(bare).check()
    stranger = bare.start([*NOBODY, "flock", BIN, "flock", NET_D, "sleep", "600"])
    assert until(lambda: bare.run(["flock", "--nonblock", NET_D, "true"]).rc == 1)
    write(bare, [bridge(host_local("10.66.0.0/29"))])
    install(bare).check()
    assert has_us(bare)
    bare.stop(stranger)
    assert bare.run([*NOBODY, "flock", "--nonblock", LOCK, "true"]).rc != 0


def test_nothing_stays_where_nothing_was_installed(bare: Node) -> None:
    """No lock, and no directory for it."""
    before = sorted(os.listdir(bare.path(BIN))), os.listdir(bare.path("/var/lib/cni"))
    assert uninstall(bare).check().text.strip() == "nothing of it is here"
    assert (sorted(os.listdir(bare.path(BIN))), os.listdir(bare.path("/var/lib/cni"))) == before


def test_a_damaged_executable_is_not_installed(bare: Node, tmp_path: Path) -> None:
    """It starts, and a byte of it that is read later is another one, or its end is missing: one sentence, and no more."""
    before = tree(bare, BIN), tree(bare, NET_D)
    raw = Path(another_build(bare, tmp_path / "whole")).read_bytes()
    for what, damaged in (("SHA-256", raw.replace(b"another\ncni-reaper", b"anothep\ncni-reaper")), ("missing", raw[:-1])):
        path = tmp_path / what
        path.write_bytes(damaged)
        path.chmod(0o755)
        bare.run([str(path), "version"]).check()
        ran = install(bare, source=str(path))
        assert (ran.rc, "is damaged" in ran.text, what in ran.text, len(ran.err.splitlines())) == (1, True, True, 1), str(ran)
        assert (tree(bare, BIN), tree(bare, NET_D)) == before


def test_what_lies_in_the_place_of_the_executable(bare: Node) -> None:
    """A link and a file make way, and what the link led to stays; a directory is for a person to decide."""
    bare.write("/srv/sbin/cni-reaper", "mine")
    bare.path(LINK).symlink_to("/srv/sbin/cni-reaper")
    install(bare).check()
    assert is_there(bare)
    assert bare.read("/srv/sbin/cni-reaper") == "mine"
    uninstall(bare).check()
    bare.write(LINK, "mine")
    install(bare).check()
    assert is_there(bare)
    uninstall(bare).check()
    bare.path(LINK).mkdir()
    ran = install(bare)
    assert (ran.rc, f"{LINK} is a directory" in ran.text, has_us(bare)) == (1, True, False)


def test_uninstall_leaves_what_is_not_its_own(bare: Node) -> None:
    """A link, or a file without the sum of cni-reaper, that was put there by hand; the file is named."""
    bare.path(LINK).symlink_to("/srv/sbin/cni-reaper")
    uninstall(bare).check()
    assert bare.path(LINK).is_symlink()
    bare.path(LINK).unlink()
    bare.write(LINK, "mine")
    assert "by hand" in uninstall(bare).check().text
    assert bare.read(LINK) == "mine"


def test_a_state_that_cannot_be_written(bare: Node) -> None:
    """In a container without the node's directory, say: nothing is put anywhere, and the directory is named."""
    before = tree(bare, BIN), tree(bare, NET_D)
    bare.mount("tmpfs", "/var/lib/cni", "tmpfs", flags=1)  # MS_RDONLY
    ran = install(bare)
    assert (ran.rc, "/var/lib/cni/reaper" in ran.text, "Read-only" in ran.text) == (1, True, True), str(ran)
    assert (tree(bare, BIN), tree(bare, NET_D)) == before


def test_where_no_runtime_is_seen_the_executable_stays(bare: Node) -> None:
    """From a container that sees no cache of a runtime, and only what install has made itself."""
    bare.path(DATA_DIR).rmdir()
    install(bare).check()
    assert os.listdir(bare.path("/var/lib/cni")) == ["reaper"]
    assert "whether one can still call it is not to be seen" in uninstall(bare).check().text
    assert is_there(bare)
    assert not has_us(bare)
    uninstall(bare, "--purge").check()
    assert nothing_is_there(bare)
    assert os.listdir(bare.path("/var/lib/cni")) == []
