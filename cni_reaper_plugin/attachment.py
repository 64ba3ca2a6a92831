"""The attachment, and the SPEC's rules for the names it is made of.

An attachment is (network, container ID, ifname). All three come from outside and become parts of paths, so nothing
builds a path from them before `valid_name` and `valid_ifname` have agreed.
"""

IFNAME_BYTES = 15  # IFNAMSIZ - 1, netdevice(7)
CNITOOL = "cnitool-"  # how the container IDs begin that cnitool gives


def valid_name(name: str) -> bool:
    """Tell whether a container ID or network name is one the SPEC allows.

    The rule is ``[A-Za-z0-9][A-Za-z0-9_.-]*`` over the whole text, so a trailing newline is refused too.
    Source: SPEC 1.1.0 section 2, CNI_CONTAINERID and `name`; containernetworking/cni pkg/utils (3f51e88).
    """
    if not name.isascii() or not name[:1].isalnum():
        return False
    return name.replace("_", "").replace(".", "").replace("-", "").isalnum()


def valid_ifname(ifname: str) -> bool:
    """Tell whether an interface name is one the kernel and the SPEC allow.

    At most 15 bytes, not ``.`` or ``..``, no slash, colon, white space or NUL.
    Source: dev_valid_name() of the kernel, containernetworking/cni pkg/utils (3f51e88).
    """
    if not ifname or ifname in (".", "..") or len(ifname.encode("utf-8", "surrogateescape")) > IFNAME_BYTES:
        return False
    if ifname.isalnum():
        return True  # nearly always, and much cheaper
    return not any(c in "/:\0" or c.isspace() for c in ifname)


class Attachment:
    """One interface of one container on one network; its names are valid (see above).

    network, container_id: str by `valid_name`; ifname: str by `valid_ifname`.
    """

    __slots__ = ("container_id", "ifname", "network")

    def __init__(self, network: str, container_id: str, ifname: str) -> None:
        self.network = network
        self.container_id = container_id
        self.ifname = ifname

    @property
    def record_name(self) -> str:
        """The file name of this attachment's record; neither part can hold the colon that joins them."""
        return self.container_id + ":" + self.ifname

    def owns(self, network: str, container_id: str, ifname: str) -> bool:
        """Tell whether an owner as host-local writes it is this attachment (an empty ifname is host-local < 0.8)."""
        return self.network == network and self.container_id == container_id and ifname in ("", self.ifname)
