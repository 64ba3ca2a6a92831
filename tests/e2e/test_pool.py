"""Which addresses host-local gives, by its ipam section: ours against the real one, until it has no more."""

from typing import Any

import pytest

from cni_reaper_plugin.host_local.pool import PoolError, of_ipam, of_subnets, pack, unpack
from cni_reaper_plugin.model import LIVE, STALE, UNKNOWN
from cni_reaper_plugin.operator.inspect.pool_map import around, pictures
from tests.support.node import Node

RANGES = (
    {"subnet": "10.9.0.0/29"},
    {"subnet": "10.9.0.0/28", "gateway": "10.9.0.7"},
    {"subnet": "10.9.0.0/28", "rangeStart": "10.9.0.4", "rangeEnd": "10.9.0.6"},
    {"subnet": "10.9.0.0/28", "rangeStart": "10.9.0.4", "rangeEnd": "10.9.0.9", "gateway": "10.9.0.5"},
    {"subnet": "10.9.0.0/28", "rangeEnd": "10.9.0.3"},
    {"subnet": "fd00::/125"},
    {"subnet": "fd00::/120", "rangeStart": "fd00::5", "rangeEnd": "fd00::9"},
)


@pytest.mark.parametrize("given", RANGES, ids=str)
@pytest.mark.parametrize("old_form", [False, True])
def test_pool_is_what_host_local_gives(node: Node, given: dict[str, str], old_form: bool) -> None:
    """Every address that it gives is in the pool, and there are no more of them."""
    ipam: dict[str, Any] = {"type": "host-local", **(given if old_form else {"ranges": [[given]]})}
    conf = {"cniVersion": "1.0.0", "name": "net", "ipam": ipam}
    pod = node.pod()
    for number in range(64):
        ran = node.plugin("ADD", conf, binary="host-local", netns=pod, container_id=f"{number:064x}")
        if ran.rc:
            assert b"no IP addresses available" in ran.out
            break
    addresses = list(node.reservations("net"))
    pool = of_ipam(ipam)
    assert [len(addresses)] == pool.sizes
    assert all(pack(address) in pool for address in addresses)


def test_several_ranges_add_up_and_wrong_ones_are_told() -> None:
    """Dual stack, and two ranges of one family; what is no range is told in a sentence."""
    pool = of_ipam({"ranges": [[{"subnet": "10.9.0.0/29"}, {"subnet": "10.9.1.0/29"}], [{"subnet": "fd00::/125"}]]})
    assert pool.sizes == [5 + 5, 6]
    assert pack("10.9.1.6") in pool
    assert pack("10.9.1.7") not in pool
    assert pack("10.9.0.1") not in pool
    unreadable: tuple[dict[str, Any], ...] = (
        {},
        {"ranges": []},
        {"ranges": [[{}]]},
        {"subnet": "usePodCidr"},
        {"ranges": "x"},
        {"ranges": [3, [4]]},
    )
    for wrong in unreadable:
        with pytest.raises(PoolError):
            of_ipam(wrong)
    with pytest.raises(PoolError, match="begins at"):
        of_ipam({"ranges": [[{"subnet": "10.9.0.0/29", "rangeStart": "10.9.0.6", "rangeEnd": "10.9.0.3"}]]})


def test_a_picture_has_a_letter_for_each_address() -> None:
    """The worst verdict wins in a folded one, and no reservation is lost."""
    (picture,) = pictures(
        of_subnets(["10.9.0.0/26"]), {pack("10.9.0.2"): LIVE, pack("10.9.0.3"): STALE, pack("10.9.0.1"): UNKNOWN}
    )
    assert picture.each == 1
    assert picture.lines == [("10.9.0.0", "-?LS" + "." * 59 + "-")]
    verdicts = {pack(f"10.9.{block}.{last}"): LIVE for block in range(256) for last in range(2, 250)}
    verdicts[pack("10.9.77.9")] = STALE
    (picture,) = pictures(of_subnets(["10.9.0.0/16"]), verdicts)
    letters = "".join(line for _, line in picture.lines)
    assert (picture.each, len(letters)) == (64, 1024)
    assert letters.count("S") == 1
    assert letters.index("S") == 77 * 4
    (picture,) = pictures(of_subnets(["fd00::/64"]), {pack("fd00::5:3"): STALE})
    assert "".join(line for _, line in picture.lines).count("S") == 1


def test_picture_without_range_spans_the_reservations() -> None:
    """From the first reservation to the last, in whole lines."""
    pool = around([pack("10.9.0.70"), pack("10.9.0.200"), pack("fd00::9")])
    drawn = pictures(pool, {pack("10.9.0.70"): LIVE, pack("10.9.0.200"): STALE, pack("fd00::9"): UNKNOWN})
    assert [one.lines[0][0] for one in drawn] == ["10.9.0.64", "fd00::"]
    assert [sum(len(line) for _, line in one.lines) for one in drawn] == [192, 64]


def test_addresses_go_to_text_and_back() -> None:
    """There and back."""
    for address in ("10.9.0.1", "fd00::1"):
        assert unpack(pack(address)) == address
    assert pack("lock") == b""
