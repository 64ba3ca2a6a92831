"""Lists of the kernel's network objects, by rtnetlink(7), in the netns in which the socket was opened. Imported only to reap.

Every answer is waited for 2 s at most. A list that changes while it is read is read three times in all.
"""

import errno
import sys

_NETLINK_GET_STRICT_CHK = 12  # include/uapi/linux/netlink.h
_SOL_NETLINK = 270
_RTM_NEWADDR, _RTM_GETADDR, _RTM_NEWNSID, _RTM_GETNSID = 20, 22, 88, 90
_NLM_F_REQUEST, _NLM_F_DUMP_REQUEST = 1, 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NETNSA_NSID, _NETNSA_FD = 1, 3
_IFA_ADDRESS, _IFA_LOCAL, _IFA_TARGET_NETNSID = 1, 2, 10
_NLM_F_DUMP_INTR = 0x10
_ANSWER = 1 << 16
_ATTEMPTS = 3
_WAIT_S = 2


class UnsteadyError(OSError):
    """A list changed each time it was read, so that something may be missing.

    found: the packed addresses that it had all the same.
    """

    def __init__(self, found: set[bytes]) -> None:
        super().__init__(errno.EAGAIN, "addresses change faster than they can be listed")
        self.found = found


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
        """Return the packed addresses of this netns, of links that are down as well, but for IPv6.

        Raises OSError, UnsteadyError.
        """
        return self._addresses(b"")

    def nsids(self) -> set[bytes]:
        """Return the nsid, 4 bytes, of every netns that has one here. Raises OSError.

        None before Linux 4.20, which cannot list another netns.
        """
        try:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        except OSError:
            return set()
        found = self._dump(_RTM_GETNSID, b"\0" * 4, _RTM_NEWNSID, 4)
        return {one[_NETNSA_NSID] for one in found if _NETNSA_NSID in one}

    def nsid_of(self, fd: int) -> bytes:
        """Return the nsid that an open netns has here, 4 bytes, -1 or b"" where it has none. Raises OSError."""
        self._send(_RTM_GETNSID, _NLM_F_REQUEST, b"\0" * 4 + _attribute(_NETNSA_FD, fd.to_bytes(4, sys.byteorder)))
        answer = self._socket.recv(_ANSWER)
        return _attributes(answer[20:]).get(_NETNSA_NSID, b"") if _kind(answer, 0) == _RTM_NEWNSID else b""

    def addresses_of(self, nsid: bytes) -> set[bytes]:
        """Return the packed addresses of the netns with an nsid (IFA_TARGET_NETNSID). Raises OSError, UnsteadyError.

        None of one that is being torn down, which is refused (EINVAL).
        """
        return self._addresses(_attribute(_IFA_TARGET_NETNSID, nsid))

    def _addresses(self, where: bytes) -> set[bytes]:
        in_all: set[bytes] = set()
        for _ in range(_ATTEMPTS):
            answers: list[dict[int, bytes]] = []
            consistent = self._dump_once(answers, _RTM_GETADDR, b"\0" * 8 + where, _RTM_NEWADDR, 8)
            found = {one.get(_IFA_LOCAL) or one.get(_IFA_ADDRESS, b"") for one in answers}
            if consistent:
                return found
            in_all |= found
        raise UnsteadyError(in_all)

    def _dump(self, kind: int, request: bytes, answer: int, header: int) -> list[dict[int, bytes]]:
        """Return the attributes of each message that answers a dump request; none when the kernel refuses. Raises OSError."""
        for _ in range(_ATTEMPTS):
            found: list[dict[int, bytes]] = []
            if self._dump_once(found, kind, request, answer, header):
                return found
        raise OSError(errno.EAGAIN, "namespaces change faster than they can be listed")

    def _dump_once(self, found: list[dict[int, bytes]], kind: int, request: bytes, answer: int, header: int) -> bool:
        self._send(kind, _NLM_F_DUMP_REQUEST, request)
        return self._receive(found, answer, header)

    def _send(self, kind: int, flags: int, request: bytes) -> None:
        length = (16 + len(request)).to_bytes(4, sys.byteorder)
        head = length + kind.to_bytes(2, sys.byteorder) + flags.to_bytes(2, sys.byteorder)
        self._socket.send(head + b"\0" * 8 + request)

    def _receive(self, found: list[dict[int, bytes]], answer: int, header: int) -> bool:
        """Receive a dump to its end; False when the kernel says that something changed meanwhile (NLM_F_DUMP_INTR)."""
        consistent = True
        while True:
            data = self._socket.recv(_ANSWER)
            place = 0
            while place + 16 <= len(data):
                end = place + max(int.from_bytes(data[place : place + 4], sys.byteorder), 16)
                message = _kind(data, place)
                consistent = consistent and not int.from_bytes(data[place + 6 : place + 8], sys.byteorder) & _NLM_F_DUMP_INTR
                if message in (_NLMSG_ERROR, _NLMSG_DONE):
                    return consistent
                if message == answer:
                    found.append(_attributes(data[place + 16 + header : end]))
                place = end + 3 & ~3


def _kind(data: bytes, place: int) -> int:
    return int.from_bytes(data[place + 4 : place + 6], sys.byteorder)


def _attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute whose value has 4 bytes."""
    return b"\x08\0" + kind.to_bytes(2, sys.byteorder) + value


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    place = 0
    while place + 4 <= len(data):
        length = int.from_bytes(data[place : place + 2], sys.byteorder)
        found[int.from_bytes(data[place + 2 : place + 4], sys.byteorder) & 0x3FFF] = data[place + 4 : place + length]
        place += max(length + 3 & ~3, 4)
    return found
