"""Addresses in the netns that our links lead to, also where nothing but the far end of a veth tells that there is one.

A netns that only a socket keeps alive is in no mountinfo and in no process's /proc; its veth still ends here. rtnetlink(7) lists
the addresses of such a peer by its nsid (IFA_TARGET_NETNSID, Linux >= 4.20), and refuses (EINVAL) one that is being torn down.
"""

import errno
import sys

_NETLINK_GET_STRICT_CHK = 12  # include/uapi/linux/netlink.h
_SOL_NETLINK = 270
_RTM_NEWADDR, _RTM_GETADDR, _RTM_NEWNSID, _RTM_GETNSID = 20, 22, 88, 90
_NLM_F_DUMP_REQUEST = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NETNSA_NSID = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_TARGET_NETNSID = 1, 2, 10
_NLM_F_DUMP_INTR = 0x10
_ANSWER = 1 << 16
_ATTEMPTS = 5
_WAIT_S = 2

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket


def addresses() -> frozenset[bytes]:
    """Return the packed addresses configured in every netns that has an nsid in ours. Raises OSError.

    One that cannot be listed counts for nothing: the far end of a node's own uplink may be another host's.
    """
    import _socket

    netlink = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, 0)
    try:
        wait = _WAIT_S.to_bytes(8, sys.byteorder) + b"\0" * 8  # struct timeval
        netlink.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, wait)
        try:
            netlink.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        except OSError:
            return frozenset()  # before Linux 4.20, which cannot list another netns
        found = set()
        for attributes in _dump(netlink, _RTM_GETNSID, b"\0" * 4, _RTM_NEWNSID, 4):
            nsid = attributes.get(_NETNSA_NSID)
            if nsid is not None:
                request = b"\0" * 8 + b"\x08\0" + _IFA_TARGET_NETNSID.to_bytes(2, sys.byteorder) + nsid
                for of_address in _dump(netlink, _RTM_GETADDR, request, _RTM_NEWADDR, 8):
                    found.add(of_address.get(_IFA_LOCAL) or of_address.get(_IFA_ADDRESS, b""))
        return frozenset(found)
    finally:
        netlink.close()


def _dump(netlink: "_socket.socket", kind: int, request: bytes, answer: int, header: int) -> list[dict[int, bytes]]:
    """Return the attributes of each message that answers a dump request; none when the kernel refuses. Raises OSError."""
    length = (16 + len(request)).to_bytes(4, sys.byteorder)
    whole = length + kind.to_bytes(2, sys.byteorder) + _NLM_F_DUMP_REQUEST.to_bytes(2, sys.byteorder) + b"\0" * 8 + request
    for _ in range(_ATTEMPTS):
        netlink.send(whole)
        found: list[dict[int, bytes]] = []
        if _receive(netlink, found, answer, header):
            return found
    raise OSError(errno.EAGAIN, "addresses change faster than they can be listed")


def _receive(netlink: "_socket.socket", found: list[dict[int, bytes]], answer: int, header: int) -> bool:
    """Receive a dump to its end; False when the kernel says that something changed meanwhile (NLM_F_DUMP_INTR)."""
    consistent = True
    while True:
        data = netlink.recv(_ANSWER)
        place = 0
        while place + 16 <= len(data):
            end = place + max(int.from_bytes(data[place : place + 4], sys.byteorder), 16)
            message = int.from_bytes(data[place + 4 : place + 6], sys.byteorder)
            consistent = consistent and not int.from_bytes(data[place + 6 : place + 8], sys.byteorder) & _NLM_F_DUMP_INTR
            if message in (_NLMSG_ERROR, _NLMSG_DONE):
                return consistent
            if message == answer:
                found.append(_attributes(data[place + 16 + header : end]))
            place = end + 3 & ~3


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    place = 0
    while place + 4 <= len(data):
        length = int.from_bytes(data[place : place + 2], sys.byteorder)
        found[int.from_bytes(data[place + 2 : place + 4], sys.byteorder) & 0x3FFF] = data[place + 4 : place + length]
        place += max(length + 3 & ~3, 4)
    return found
