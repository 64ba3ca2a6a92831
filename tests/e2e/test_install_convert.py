"""`install --convert`: a .conf becomes a list, and comes back."""

import json

from tests.support.cni_calls import BIN, NET_D, bridge, host_local
from tests.support.install import FILE, converted_by_0_1_0, install, runs, tree, uninstall
from tests.support.node import Node

CONF = f"{NET_D}/10-one.conf"
LIST = f"{NET_D}/10-one.conflist"


def test_conf_written_after_conversion_stays(bare: Node) -> None:
    """Its new content stays, and what 0.1.0 had made of the old one goes."""
    bare.path(FILE).unlink()
    text = json.dumps({"cniVersion": "1.0.0", "name": "one", **bridge(host_local("10.66.0.0/29"))})
    newer = text.replace("10.66.0.0", "10.77.0.0")
    converted_by_0_1_0(bare, CONF, text)
    bare.write(CONF, newer)
    assert install(bare).rc == 1
    uninstall(bare).check()
    assert bare.read(CONF) == newer
    assert list(tree(bare, NET_D)) == ["10-one.conf"]


def test_removed_converted_list_stops_no_uninstall(bare: Node) -> None:
    """What was set aside is for a person to decide, and stops nothing."""
    bare.path(FILE).unlink()
    converted_by_0_1_0(bare, CONF, json.dumps({"cniVersion": "1.0.0", "name": "one", **bridge(host_local("10.66.0.0/29"))}))
    install(bare).check()
    bare.path(LIST).unlink()
    assert "rename it, or remove it" in uninstall(bare).check().text
    assert not runs(bare, BIN)
