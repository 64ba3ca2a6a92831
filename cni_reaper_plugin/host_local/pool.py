"""Which addresses host-local can give: the ranges of its ipam section, as it completes them.

Source: containernetworking/plugins plugins/ipam/host-local/backend/allocator/range.go, Canonicalize (3d27709): a range begins
at the subnet's second address and ends before its broadcast address (IPv6: with its last), the gateway is the second address
and is never given.
"""

import ipaddress
from dataclasses import dataclass


class PoolError(ValueError):
    """The ranges cannot be read; the text is one sentence that says why."""


@dataclass(frozen=True)
class Range:
    """One range; its addresses are numbers.

    Attributes:
        version: 4 or 6.
        first: of the addresses that can be given.
        last: of the addresses that can be given.
        subnet: its first and its last address.
        gateway: never given.
    """

    version: int
    first: int
    last: int
    subnet: tuple[int, int]
    gateway: int

    @property
    def size(self) -> int:
        """How many addresses can be given."""
        return self.last - self.first + 1 - (self.first <= self.gateway <= self.last)

    def gives(self, number: int) -> bool:
        """Tell whether an address can be given."""
        return self.first <= number <= self.last and number != self.gateway


@dataclass(frozen=True)
class Pool:
    """All ranges of a network, in sets: a pod gets one address of each set."""

    sets: tuple[tuple[Range, ...], ...]

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The ranges of all sets."""
        return tuple(one for each in self.sets for one in each)

    @property
    def sizes(self) -> list[int]:
        """How many addresses each set has."""
        return [sum(one.size for one in each) for each in self.sets]

    def set_of(self, packed: bytes) -> int | None:
        """Return the number of the set that an address is in, None when it is in none."""
        number, version = int.from_bytes(packed, "big"), 4 if len(packed) == 4 else 6
        for at, each in enumerate(self.sets):
            if any(one.version == version and one.gives(number) for one in each):
                return at
        return None

    def __contains__(self, packed: object) -> bool:
        return isinstance(packed, bytes) and self.set_of(packed) is not None


def of_ipam(ipam: dict[str, object]) -> Pool:
    """Return the pool of a host-local section. Raises PoolError."""
    sets = ipam.get("ranges")
    single = [[ipam]] if "subnet" in ipam else []
    every = [*single, *(sets if isinstance(sets, list) else [])]
    read = [tuple(_range(one) for one in each if isinstance(one, dict)) for each in every if isinstance(each, list)]
    found = tuple(each for each in read if each)
    if not found:
        msg = "the ipam section names no range"
        raise PoolError(msg)
    return Pool(found)


def of_subnets(subnets: list[str]) -> Pool:
    """Return the pool of whole subnets (CIDR), a set for each family. Raises PoolError."""
    ranges = [_range({"subnet": subnet}) for subnet in subnets]
    sets = (tuple(one for one in ranges if one.version == version) for version in (4, 6))
    return Pool(tuple(each for each in sets if each))


def _range(given: dict[str, object]) -> Range:
    try:
        subnet = ipaddress.ip_network(str(given.get("subnet", "")), strict=False)
        low, high = int(subnet.network_address), int(subnet.broadcast_address)

        def number(key: str, default: int) -> int:
            """Return an address of the range as a number."""
            value = given.get(key)
            return int(ipaddress.ip_address(str(value))) if value else default

        first, last = number("rangeStart", low + 1), number("rangeEnd", high - (subnet.version == 4))
        gateway = number("gateway", low + 1)
    except ValueError as e:
        msg = "a range cannot be read: %s" % e
        raise PoolError(msg) from e
    if not low <= first <= last <= high:
        msg = "a range of %s has no address for a pod: it begins at %s and ends at %s" % (
            subnet,
            given.get("rangeStart") or "the second one",
            given.get("rangeEnd") or "the last one",
        )
        raise PoolError(msg)
    return Range(subnet.version, first, last, (low, high), gateway)


def pack(address: str) -> bytes:
    """Return the 4 or 16 bytes of an address, b"" for anything else."""
    try:
        return ipaddress.ip_address(address).packed
    except ValueError:
        return b""


def unpack(packed: bytes) -> str:
    """Return an address of 4 or 16 bytes as text."""
    return str(ipaddress.ip_address(packed))
