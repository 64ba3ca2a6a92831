"""Into which directories `install` puts the executable, and that each runtime finds it there."""

from tests.support.cni_calls import BIN, NET_D, bridge, host_local
from tests.support.install import FILE, OURS, PLATFORM, has_us, install, plugins, plugins_in, runs, uninstall, write
from tests.support.network import Network
from tests.support.node import Node


def test_unnamed_empty_directory_is_no_trouble(bare: Node) -> None:
    """One of RKE2's that is there and empty is no trouble where another one has the conflist; one that is named is."""
    bare.path("/var/lib/rancher/rke2/agent/etc/cni/net.d").mkdir(parents=True)
    install(bare).check()
    bare.path("/etc/cni/empty").mkdir()
    ran = install(bare, "--conf-dir", NET_D, "--conf-dir", "/etc/cni/empty")
    assert (ran.rc, "no conflist yet" in ran.text) == (1, True)


def test_directory_without_the_chains_plugins_is_refused(bare: Node) -> None:
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


def test_one_plugin_of_the_chain_is_enough(bare: Node) -> None:
    """Also as a link that leads nowhere, as k3s' do in a container; and what a runtime's configuration names needs none."""
    bare.path("/srv/one").mkdir(parents=True)
    bare.path("/srv/one/tuning").symlink_to("/nowhere")
    install(bare, "--bin-dir", "/srv/one").check()
    write(bare, [bridge(host_local("10.66.0.0/29"))])
    dirs = f'bin_dirs = ["{BIN}", "/srv/two"]'
    bare.write("/etc/containerd/config.toml", f'[plugins."io.containerd.cri.v1.runtime".cni]\n{dirs}\nconf_dir = "{NET_D}"\n')
    install(bare, "--bin-dir", "/srv/two").check()


def containerd_reads(node: Node, bin_dir: str) -> None:
    """Configure it as Debian's package does."""
    told = f'[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "{bin_dir}"\nconf_dir = "{NET_D}"\n'
    node.write("/etc/containerd/config.toml", told)


def test_each_runtime_finds_the_executable(bare: Node) -> None:
    """RKE2, which says nothing, beside Debian's containerd, which says another directory: the conflist is one, both read it."""
    containerd_reads(bare, "/srv/lib")
    plugins_in(bare, "/srv/lib")
    install(bare).check()
    assert runs(bare, "/srv/lib")
    assert runs(bare, BIN)
    network = Network(bare)
    network.add(bare.pod())
    uninstall(bare, "--purge").check()
    assert not runs(bare, "/srv/lib")
    assert not runs(bare, BIN)


def test_unwritable_default_directory_is_only_noted(bare: Node) -> None:
    """What is configured counts; of the other one it is said, and no more: /usr is read-only on many a node."""
    containerd_reads(bare, BIN)
    bare.mount("tmpfs", "/usr/libexec", "tmpfs")
    plugins_in(bare, "/usr/libexec/cni")
    bare.mount("none", "/usr/libexec", flags=32 | 1)  # MS_REMOUNT | MS_RDONLY
    ran = install(bare).check()
    assert "/usr/libexec/cni" in ran.text
    assert plugins(bare)[0] == OURS
    containerd_reads(bare, "/usr/libexec/cni")
    write(bare, PLATFORM)
    assert install(bare).rc == 1
    assert not has_us(bare)
