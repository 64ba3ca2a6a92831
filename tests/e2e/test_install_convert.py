"""`install --convert`: a .conf becomes a list, and comes back."""

import json

import pytest

from tests.support.cni_calls import BIN, NET_D, bridge, host_local
from tests.support.install import FILE, install, plugins, runs, tree, uninstall
from tests.support.node import Node


def test_a_conf_is_converted_only_when_asked(bare: Node) -> None:
    """And comes back byte for byte."""
    bare.path(FILE).unlink()
    single = {"cniVersion": "0.4.0", "name": "net", **bridge(host_local("10.66.0.0/29"))}
    text = json.dumps(single) + "\r\n"
    conf = f"{NET_D}/10-net.conf"
    bare.write(conf, text)
    bare.path(conf).chmod(0o640)
    before = tree(bare, NET_D)
    ran = install(bare)
    assert ran.rc == 1
    assert "--convert" in ran.text
    assert tree(bare, NET_D) == before
    said = install(bare, "--convert").check().text
    assert "uninstall" in said
    assert sorted(tree(bare, NET_D)) == ["10-net.conf.before-cni-reaper", "10-net.conflist"]
    assert bare.path(FILE).stat().st_mode & 0o777 == 0o640
    assert [one["type"] for one in plugins(bare)] == ["cni-reaper", "bridge"]
    assert "already" in install(bare, "--convert").check().text
    pod = bare.pod()
    bare.cnitool("add", "net", pod).check()
    assert set(bare.reservations("net")) == {"10.66.0.2"}
    bare.cnitool("del", "net", pod).check()
    uninstall(bare).check()
    assert tree(bare, NET_D) == before


@pytest.mark.parametrize("left", ["both", "list only ours"])
def test_conversion_cut_off_is_undone_by_uninstall(bare: Node, left: str) -> None:
    """Both files are there: the .conf counts, and uninstall brings the directory back."""
    bare.path(FILE).unlink()
    conf = f"{NET_D}/10-net.conf"
    bare.write(conf, json.dumps({"cniVersion": "0.4.0", "name": "net", **bridge(host_local("10.66.0.0/29"))}))
    before = tree(bare, NET_D)
    install(bare, "--convert").check()
    bare.path(conf + ".before-cni-reaper").rename(bare.path(conf))
    if left == "both":
        install(bare, "--convert").check()
        assert sorted(tree(bare, NET_D)) == ["10-net.conf.before-cni-reaper", "10-net.conflist"]
    uninstall(bare).check()
    assert tree(bare, NET_D) == before


CONF = f"{NET_D}/10-one.conf"
LIST = f"{NET_D}/10-one.conflist"


def test_conf_written_after_conversion_stays(bare: Node) -> None:
    """Its new content stays, and a second --convert takes it up."""
    bare.path(FILE).unlink()
    text = json.dumps({"cniVersion": "1.0.0", "name": "one", **bridge(host_local("10.66.0.0/29"))})
    newer = text.replace("10.66.0.0", "10.77.0.0")
    bare.write(CONF, text)
    install(bare, "--convert").check()
    bare.write(CONF, newer)
    assert install(bare).rc == 1
    install(bare, "--convert").check()
    assert "10.77.0.0" in bare.read(LIST)
    assert not bare.path(CONF).exists()
    bare.write(CONF, newer)
    uninstall(bare).check()
    assert bare.read(CONF) == newer
    assert list(tree(bare, NET_D)) == ["10-one.conf"]


def test_removed_converted_list_stops_no_uninstall(bare: Node) -> None:
    """What was set aside is for a person to decide, and stops nothing."""
    bare.path(FILE).unlink()
    bare.write(CONF, json.dumps({"cniVersion": "1.0.0", "name": "one", **bridge(host_local("10.66.0.0/29"))}))
    install(bare, "--convert").check()
    bare.path(LIST).unlink()
    assert "rename it, or remove it" in uninstall(bare).check().text
    assert not runs(bare, BIN)
