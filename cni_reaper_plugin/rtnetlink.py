"""Lists of the kernel's network objects, by rtnetlink(7), in the netns in which the socket was opened. Imported only to reap.

Every answer is waited for 2 s at most. A list that changes while it is read is read again, a few times.
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


class Rtnetlink:
    """A socket, in the netns in which its maker is; a context manager."""

    def __init__(self) -> None:
        """Open it. Raises OSError."""
        import _socket

        self._socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, 0)
        wait = _WAIT_S.to_bytes(8, sys.byteorder) + b"\0" * 8  # struct timeval
        self._socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, wait)

    def __enter__(self) -> "Rtnetlink":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def addresses(self) -> set[bytes]:
        """Return the packed addresses of this netns, of links that are down as well, but for IPv6. Raises OSError."""
        return self._addresses(b"")

    def addresses_by_nsid(self) -> set[bytes]:
        """Return the packed addresses of every netns that has an nsid here (IFA_TARGET_NETNSID). Raises OSError.

        None before Linux 4.20, which cannot list another netns; none of one that is being torn down, which is refused (EINVAL).
        """
        try:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        except OSError:
            return set()
        found = set()
        for attributes in self._dump(_RTM_GETNSID, b"\0" * 4, _RTM_NEWNSID, 4):
            nsid = attributes.get(_NETNSA_NSID)
            if nsid is not None:
                found |= self._addresses(b"\x08\0" + _IFA_TARGET_NETNSID.to_bytes(2, sys.byteorder) + nsid)
        return found

    def _addresses(self, where: bytes) -> set[bytes]:
        answers = self._dump(_RTM_GETADDR, b"\0" * 8 + where, _RTM_NEWADDR, 8)
        return {one.get(_IFA_LOCAL) or one.get(_IFA_ADDRESS, b"") for one in answers}

    def _dump(self, kind: int, request: bytes, answer: int, header: int) -> list[dict[int, bytes]]:
        """Return the attributes of each message that answers a dump request; none when the kernel refuses. Raises OSError."""
        length = (16 + len(request)).to_bytes(4, sys.byteorder)
        whole = length + kind.to_bytes(2, sys.byteorder) + _NLM_F_DUMP_REQUEST.to_bytes(2, sys.byteorder) + b"\0" * 8 + request
        for _ in range(_ATTEMPTS):
            self._socket.send(whole)
            found: list[dict[int, bytes]] = []
            if self._receive(found, answer, header):
                return found
        raise OSError(errno.EAGAIN, "addresses change faster than they can be listed")

    def _receive(self, found: list[dict[int, bytes]], answer: int, header: int) -> bool:
        """Receive a dump to its end; False when the kernel says that something changed meanwhile (NLM_F_DUMP_INTR)."""
        consistent = True
        while True:
            data = self._socket.recv(_ANSWER)
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
