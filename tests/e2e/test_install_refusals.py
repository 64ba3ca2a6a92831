"""What install and uninstall do not do: put us where no runtime looks, take the executable from a list that may have us."""

import subprocess

import pytest

from tests.e2e.test_install import (
    FILE,
    LINK,
    OURS,
    bare,
    has_us,
    install,
    plugins,
    said,
    start_watch,
    tree,
    uninstall,
    until,
    write,
)
from tests.node import BIN, NET_D, Node, bridge, host_local

__all__ = ["bare"]  # a fixture

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
HELD_S = 20.0


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
    assert not bare.path(LINK).is_symlink()


def test_a_strangers_lock_stops_nobody(bare: Node) -> None:
    """Who can read the directories can lock them; install waits a little at most, and the kubelet behind it."""
    install(bare).check()
    stranger = bare.start([*NOBODY, "flock", BIN, "flock", NET_D, "sleep", "600"])
    assert until(lambda: bare.run(["flock", "--nonblock", NET_D, "true"]).rc == 1)
    write(bare, [bridge(host_local("10.66.0.0/29"))])
    ran = install(bare).check()
    assert ran.seconds < HELD_S
    assert has_us(bare)
    bare.stop(stranger)
    assert bare.run([*NOBODY, "flock", "--nonblock", f"{BIN}/.cni-reaper/lock", "true"]).rc != 0


def test_nothing_stays_where_nothing_was_installed(bare: Node) -> None:
    """No lock, no directory of versions."""
    before = tree(bare, "/opt/cni")
    assert uninstall(bare).check().text.strip() == "nothing of it is here"
    assert tree(bare, "/opt/cni") == before
    assert subprocess.run(["find", bare.path(BIN), "-name", ".cni-reaper"], capture_output=True, check=True).stdout == b""
