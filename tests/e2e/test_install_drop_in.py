"""`install --drop-in`: the list stays as it is, and the entry is never twice in a chain."""

import json

from tests.support.cni_calls import NET_D, bridge, host_local
from tests.support.install import FILE, OURS, PLATFORM, has_us, install, tree, uninstall, write
from tests.support.network import Network
from tests.support.node import Node


def test_drop_in_leaves_the_list_alone(bare: Node) -> None:
    """What libcni 1.3 appends: the list is not touched, and a rewrite of it takes nothing away. What it costs is said."""
    conflist = bare.path(FILE).read_bytes()
    said = install(bare, "--drop-in").check().text
    assert "last in the chain" in said
    assert bare.path(FILE).read_bytes() == conflist
    assert json.loads(bare.read(f"{NET_D}/net/50-cni-reaper.conf")) == OURS
    assert "already" in install(bare, "--drop-in").check().text
    network = Network(bare)
    lost = bare.pod()
    assert network.add(lost) == "10.66.0.2"
    lost.delete()
    live = bare.pod()
    assert network.add(live) == "10.66.0.3"
    assert set(bare.reservations("net")) == {"10.66.0.3"}
    bare.cnitool("del", "net", live).check()
    uninstall(bare).check()
    assert list(tree(bare, NET_D)) == ["10-net.conflist"]
    assert not bare.path(f"{NET_D}/net").exists()


def test_drop_in_is_not_used_where_it_would_not_work(bare: Node) -> None:
    """The list says that nothing is to be appended, or has us already."""
    write(bare, [bridge(host_local("10.66.0.0/29"))], loadOnlyInlinedPlugins=True)
    ran = install(bare, "--drop-in")
    assert ran.rc == 1
    assert "loadOnlyInlinedPlugins" in ran.text
    write(bare, [OURS, bridge(host_local("10.66.0.0/29"))])
    ran = install(bare, "--drop-in")
    assert ran.rc == 1
    assert "twice" in ran.text
    assert list(tree(bare, NET_D)) == ["10-net.conflist"]


def test_entry_is_never_twice_in_a_chain(bare: Node) -> None:
    """A drop-in and the list, in this order as well; a drop-in of another name; a list that takes none, as a text."""
    install(bare, "--drop-in").check()
    ran = install(bare)
    assert (ran.rc, "twice" in ran.text) == (1, True)
    assert not has_us(bare)
    bare.path(f"{NET_D}/net/50-cni-reaper.conf").rename(bare.path(f"{NET_D}/net/10-mine.conf"))
    ran = install(bare, "--drop-in")
    assert (ran.rc, "10-mine.conf" in ran.text) == (1, True)
    bare.path(f"{NET_D}/net/10-mine.conf").unlink()
    write(bare, PLATFORM, loadOnlyInlinedPlugins="TRUE")
    ran = install(bare, "--drop-in")
    assert (ran.rc, "loadOnlyInlinedPlugins" in ran.text) == (1, True)
