"""`uninstall` takes out each entry that was ever put in, and only those that were named."""

import shutil

import pytest

from tests.support.cni_calls import BIN, NET_D
from tests.support.install import FILE, PLATFORM, install, runs, uninstall, write
from tests.support.node import Node


@pytest.mark.parametrize("elsewhere", ["/etc/cni/net.d/k8s/nerdctl-foo.conflist", "/srv/kube/net.d/10-net1.conflist"])
def test_uninstall_finds_what_was_named_once(bare: Node, elsewhere: str) -> None:
    """A directory of a nerdctl namespace, one that only multus' clusterNetwork names: out of both, then the executable."""
    original = write(bare, PLATFORM, elsewhere)
    install(bare).check()
    install(bare, "--conflist", elsewhere).check()
    uninstall(bare, "--conflist", FILE).check()
    assert runs(bare, BIN)
    uninstall(bare).check()
    assert bare.path(elsewhere).read_bytes() == original
    assert not runs(bare, BIN)


def test_uninstall_from_one_directory_keeps_the_other(bare: Node) -> None:
    """Out of the one, the executable stays for the other, and so does the record of its live pod."""
    for one in ("a", "b"):
        write(bare, PLATFORM, f"/srv/{one}/10-net.conflist")
        install(bare, "--conf-dir", f"/srv/{one}").check()
    install(bare).check()
    bare.cnitool("add", "net", bare.pod()).check()
    shutil.rmtree(bare.path("/var/lib/cni/results"))
    records = bare.records("net")
    assert records
    said = uninstall(bare, "--conf-dir", "/srv/a").check().text
    assert "/srv/b" in said
    assert runs(bare, BIN)
    assert bare.records("net") == records


def test_uninstall_cleans_list_set_aside_by_cilium(bare: Node) -> None:
    """It comes back when Cilium goes, and must not name an executable that is gone."""
    original = bare.path(FILE).read_bytes()
    install(bare).check()
    bare.path(FILE).rename(bare.path(f"{FILE}.cilium_bak"))
    uninstall(bare).check()
    assert bare.path(f"{FILE}.cilium_bak").read_bytes() == original


def test_uninstall_of_one_conflist_keeps_the_rest(bare: Node) -> None:
    """Executable and records stay, as --help says; and what is not there is no success."""
    install(bare).check()
    assert "without --conflist" in uninstall(bare, "--conflist", FILE).check().text
    assert runs(bare, BIN)
    ran = uninstall(bare, "--conflist", "/nope")
    assert (ran.rc, "no such file" in ran.text) == (1, True)
    ran = uninstall(bare, "--conflist", NET_D)
    assert ran.rc == 1
    assert runs(bare, BIN)
