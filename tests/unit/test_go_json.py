"""Objects of a conflist as Go reads them. The real host-local is asked in tests/e2e/test_stores.py."""

from typing import Any

import pytest

from cni_reaper_plugin.operator.conflists import go_json

READ: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "a", "Mtu": 7}, {"type": "a", "Mtu": 7}),
    ({"TYPE": "a", "type": "b"}, {"type": "b"}),
    ({"type": "b", "TYPE": "a"}, {"type": "b"}),
    ({"TYPE": "a", "type": None}, {"type": "a"}),
    ({"Ipam": {"DataDir": "/a"}, "ipam": {"SUBNET": "s"}}, {"ipam": {"dataDir": "/a", "subnet": "s"}}),
    ({"IPAM": 7, "ipam": {"type": "x"}}, {"ipam": {"type": "x"}}),
    (
        {"ipam": {"Ranges": [[{"Subnet": "s", "RANGESTART": "r"}], 7]}},
        {"ipam": {"ranges": [[{"subnet": "s", "rangeStart": "r"}], 7]}},
    ),
    ({"Delegate": {"Ipam": {"TYPE": "x"}}}, {"delegate": {"ipam": {"type": "x"}}}),
    ({"capabilities": {"IPRANGES": True}}, {"capabilities": {"IPRANGES": True}}),
    ({"cla\u017f\u017f": 1, "dataD\u0131r": 1}, {"cla\u017f\u017f": 1, "dataD\u0131r": 1}),
]


@pytest.mark.parametrize(("given", "read"), READ)
def test_keys_are_read_as_go_reads_them(given: dict[str, Any], read: dict[str, Any]) -> None:
    """A key counts in any case, the last in the order of bytes wins, objects are merged; other keys stay as they are."""
    before = repr(given)
    assert go_json.plugin(given) == read
    assert repr(given) == before


def test_an_entry_of_ours_keeps_its_options() -> None:
    """Only its type is read in any case: an option in another case is named to the operator, and nothing is freed."""
    assert go_json.plugin({"Type": "cni-reaper", "DATADIR": "/a"}, "cni-reaper") == {"type": "cni-reaper", "DATADIR": "/a"}
