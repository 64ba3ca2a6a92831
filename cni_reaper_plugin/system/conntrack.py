"""The kernel's table of connections, by ctnetlink, in our own netns: ends those of an address.

A connection that was rewritten to an address goes on leading there after the rule is gone, for as long as its client sends: what
the rule said is looked up for its first packet only. And one that a pod began, masqueraded perhaps, leads back to its address.
Imported only where something is freed.
Source: include/uapi/linux/netfilter/nfnetlink_conntrack.h; CTA_FILTER is there since Linux 5.8, and older ones list all. By an
IPv6 address it lists all but those that are wanted (seen with 6.18; ctnetlink_filter_match_tuple takes ipv6_addr_cmp() for its
opposite), so there all of the family are asked for.
"""

from __future__ import annotations

import errno
import sys
import time
from typing import TYPE_CHECKING

_NETLINK_NETFILTER = 12
_NEW, _GET, _DELETE = 0x100, 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK << 8, IPCTNL_MSG_CT_…
_REQUEST, _ACK, _DUMP = 1, 4, 0x300
_ERROR, _DONE = 2, 3
_DUMP_INTR = 0x10
_NESTED, _TYPE = 0x8000, 0x3FFF
_TUPLE_ORIG, _TUPLE_REPLY, _ZONE, _FILTER = 1, 2, 18, 25
_TUPLE_IP = 1
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_F_IP_SRC = 1
_BYTES_V4, _BYTES_V6 = 4, 16
_FAMILIES = {_BYTES_V4: 2, _BYTES_V6: 10}  # AF_INET, AF_INET6
_IP_SRC = {_BYTES_V4: 1, _BYTES_V6: 3}  # CTA_IP_V4_SRC, CTA_IP_V6_SRC
_FEW = 4  # addresses for which the kernel goes through its table each; for more all of it is read once
_ANSWER = 1 << 16
_HEADER, _FAMILY_HEADER = 16, 4
_PASSES = 3  # a list that changed while it was read may lack something
_ABSENT = (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL)
"""What a kernel answers that has no ctnetlink; EINVAL where its module cannot be loaded."""

Attributes = dict[int, bytes]


def end_flows(addresses: Collection[bytes], wait_s: float) -> int:
    """End every connection that comes from one of these addresses (packed), or is answered from there; return how many.

    A kernel that has no ctnetlink has none to end. Raises OSError, TimeoutError among them.
    """
    import _socket

    end = time.monotonic() + wait_s
    try:
        netlink = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    except OSError as e:
        if e.errno in _ABSENT:
            return 0
        raise
    ended = 0
    try:
        for size in (_BYTES_V4, _BYTES_V6):
            wanted = {one for one in addresses if len(one) == size}
            for _ in range(_PASSES if wanted else 0):
                netlink.settimeout(max(0.01, end - time.monotonic()))
                found, consistent = _leading_to(netlink, wanted, end)
                for one in found:
                    ended += _delete(netlink, size, one)
                if consistent and not found:
                    break  # the pass behind the one that has ended some found no more
    except TimeoutError as e:
        raise TimeoutError(errno.ETIMEDOUT, "the kernel's connections could not be read in time") from e
    finally:
        netlink.close()
    return ended


def _leading_to(netlink: socket, addresses: set[bytes], end: float) -> tuple[list[Attributes], bool]:
    """Return the connections of these addresses, all of one family, and whether the list did not change meanwhile."""
    size = len(next(iter(addresses)))
    if size == _BYTES_V4 and len(addresses) <= _FEW:
        filters = [_filter(which, one) for one in addresses for which in (_TUPLE_ORIG, _TUPLE_REPLY)]
        lists = [_of(netlink, addresses, size, end, one) for one in filters]
        if None not in lists:
            known = [one for one in lists if one is not None]
            return [flow for flows, _ in known for flow in flows], all(consistent for _, consistent in known)
    return _of(netlink, addresses, size, end, b"") or ([], True)


def _of(netlink: socket, addresses: set[bytes], size: int, end: float, wanted: bytes) -> tuple[list[Attributes], bool] | None:
    """As `_leading_to`. wanted: what the kernel is asked for. None where it does not do that. Raises OSError."""
    netlink.send(_message(_GET, _REQUEST | _DUMP, size, wanted))
    found: list[Attributes] = []
    consistent = True
    while True:
        data = netlink.recv(_ANSWER)
        if time.monotonic() > end:
            raise TimeoutError(errno.ETIMEDOUT, "the kernel's connections could not be read in time")
        place = 0
        while place + _HEADER <= len(data):
            length = max(int.from_bytes(data[place : place + 4], sys.byteorder), _HEADER)
            kind = int.from_bytes(data[place + 4 : place + 6], sys.byteorder)
            consistent = consistent and not int.from_bytes(data[place + 6 : place + 8], sys.byteorder) & _DUMP_INTR
            if kind == _DONE:
                return found, consistent
            if kind == _ERROR:
                number = _error(data, place)
                if number in _ABSENT:
                    return None
                raise OSError(number, "the kernel's connections cannot be listed")
            if kind == _NEW:
                one = _attributes(data[place + _HEADER + _FAMILY_HEADER : place + length])
                if _source(one, _TUPLE_REPLY, size) in addresses or _source(one, _TUPLE_ORIG, size) in addresses:
                    found.append(one)
            place += length + 3 & ~3


def _source(one: Attributes, which: int, size: int) -> bytes:
    return _attributes(_attributes(one.get(which, b"")).get(_TUPLE_IP, b"")).get(_IP_SRC[size], b"")


def _filter(which: int, address: bytes) -> bytes:
    """Return the attributes that ask for connections with an address as the source of one direction."""
    flags = {_TUPLE_ORIG: 0, _TUPLE_REPLY: 0, which: _F_IP_SRC}
    ip = _attribute(_TUPLE_IP | _NESTED, _attribute(_IP_SRC[len(address)], address))
    both = _attribute(_FILTER_ORIG_FLAGS, _int(flags[_TUPLE_ORIG])) + _attribute(_FILTER_REPLY_FLAGS, _int(flags[_TUPLE_REPLY]))
    return _attribute(which | _NESTED, ip) + _attribute(_FILTER | _NESTED, both)


def _delete(netlink: socket, size: int, one: Attributes) -> int:
    """End a connection; 1 if it was there still. Raises OSError."""
    named = _attribute(_TUPLE_ORIG | _NESTED, one.get(_TUPLE_ORIG, b""))
    if _ZONE in one:
        named += _attribute(_ZONE, one[_ZONE])
    netlink.send(_message(_DELETE, _REQUEST | _ACK, size, named))
    number = _error(netlink.recv(_ANSWER), 0)
    if number and number != errno.ENOENT:
        raise OSError(number, "a connection cannot be ended")
    return int(not number)


def _error(data: bytes, place: int) -> int:
    return -int.from_bytes(data[place + _HEADER : place + _HEADER + 4], sys.byteorder, signed=True)


def _message(kind: int, flags: int, size: int, attributes: bytes) -> bytes:
    body = bytes((_FAMILIES[size], 0, 0, 0)) + attributes
    length = (_HEADER + len(body)).to_bytes(4, sys.byteorder)
    return length + kind.to_bytes(2, sys.byteorder) + flags.to_bytes(2, sys.byteorder) + b"\0" * 8 + body


def _int(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


def _attribute(kind: int, value: bytes) -> bytes:
    head = (4 + len(value)).to_bytes(2, sys.byteorder) + kind.to_bytes(2, sys.byteorder)
    return head + value + b"\0" * (-len(value) % 4)


def _attributes(data: bytes) -> Attributes:
    found = {}
    place = 0
    while place + 4 <= len(data):
        length = int.from_bytes(data[place : place + 2], sys.byteorder)
        found[int.from_bytes(data[place + 2 : place + 4], sys.byteorder) & _TYPE] = data[place + 4 : place + length]
        place += max(length + 3 & ~3, 4)
    return found


if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Collection
