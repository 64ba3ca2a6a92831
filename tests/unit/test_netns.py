"""What the kernel's tables say of network namespaces and addresses."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_reaper_plugin.namespaces import addresses, netns, visible

MOUNTINFO = b"""\
22 27 0:20 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw
571 25 0:4 net:[4026532281] /run/netns/cni-1 rw shared:302 - nsfs nsfs rw
572 25 0:4 net:[4026532361] /run/netns/with\\040blank\\011tab\\134 rw - nsfs nsfs rw
573 25 0:4 mnt:[4026532400] /run/snapd/ns/lxd.mnt rw - nsfs nsfs rw
574 25 0:4 net:[4026532281] /var/run/docker/netns/default rw shared:1 master:2 - nsfs nsfs rw
575 25 0:4 uts:[4026532500] /run/net:[1] rw - nsfs nsfs rw
576 25 8:1 /home/net:[4026532999] /mnt rw - ext4 /dev/sda1 rw
577 25 0:4 net:[4026532700] /run/netns/\xff rw - nsfs nsfs rw
"""


def test_mountinfo_shows_mounted_netns_only() -> None:
    """Every mounted netns is found with its mount point, and nothing that only looks like one."""
    assert visible.parse_mountinfo(MOUNTINFO) == [
        (4026532281, "/run/netns/cni-1"),
        (4026532361, "/run/netns/with blank\ttab\\"),
        (4026532281, "/var/run/docker/netns/default"),
        (4026532700, "/run/netns/\udcff"),
    ]


def test_mountinfo_of_nothing_shows_none() -> None:
    """A mount namespace without netns has none."""
    assert visible.parse_mountinfo(b"") == []


FIB_TRIE = b"""\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.9.0.0/24 2 0 2
        |-- 10.9.0.0
           /24 link UNICAST
        |-- 10.9.0.7
           /32 host LOCAL
        |-- 10.9.0.255
           /32 link BROADCAST
Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     |-- 192.168.1.1
        /32 universe UNICAST
        /32 host LOCAL
"""


def test_fib_trie_shows_local_addresses_only() -> None:
    """Exactly the local addresses of fib_trie are found: no network, no broadcast, no other host's route."""
    assert addresses._ipv4(FIB_TRIE) == {addresses.pack(one) for one in ("10.9.0.7", "127.0.0.1", "192.168.1.1")}
    assert addresses._ipv4(b"") == set()


@given(st.ip_addresses())
def test_pack_gives_4_or_16_bytes(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """An address as Go spells it is its 4 or 16 bytes."""
    spelt = str(address)
    if address.version == 6 and address.ipv4_mapped:
        spelt = "::ffff:" + str(address.ipv4_mapped)
    assert addresses.pack(spelt) == address.packed


@pytest.mark.parametrize(
    "name",
    [
        "",
        "1",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "01.2.3.4",
        "1.2.3.4 ",
        "1.2.3.4\0",
        "FD00::1",
        "fd00:0::1",
        "fd00:0:0:0:0:0:0:1",
        "fe80::1%eth0",
        "::g",
        "fd00_1",
        "x",
        "1.2.3.4/24",
        "\udcff",
        "0x1.2.3.4",
    ],
)
def test_pack_refuses_other_spellings(name: str) -> None:
    """What is no address, or another spelling of one, is not host-local's."""
    assert addresses.pack(name) == b""


def test_plain_file_is_no_netns(tmp_path: object) -> None:
    """The file that a lazy umount leaves behind is no netns; one that is not there raises."""
    path = f"{tmp_path}/left"
    with open(path, "w"):
        assert netns.identify(path) is None
    with pytest.raises(FileNotFoundError):
        netns.identify(path + "-not")
    own = netns.identify(netns.OWN)
    assert own is not None
    assert own.ino == netns.identify_ino(netns.OWN)
