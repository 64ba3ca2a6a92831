"""A pool as a picture of letters, for a terminal: L live, S stale, ? unknown, . free, - never given.

A pool of up to MOST addresses has a letter each; a larger one is folded: a letter then stands for 2^n addresses, and is the
first of S, ?, L, . that is true of one of them.
"""

import ipaddress
from dataclasses import dataclass

from cni_reaper_plugin.host_local.pool import Pool, Range
from cni_reaper_plugin.model import LIVE, STALE, UNKNOWN

MOST = 1024
ACROSS = 64
FREE, NEVER = ".", "-"
LETTERS = {STALE: "S", UNKNOWN: "?", LIVE: "L"}
_RANK = "S?L.-"


@dataclass(frozen=True)
class Picture:
    """One range. each: how many addresses a letter stands for; lines: (first address of the line, letters)."""

    each: int
    lines: list[tuple[str, str]]


def pictures(pool: Pool, verdicts: dict[bytes, str]) -> list[Picture]:
    """Return a picture of each range. verdicts: packed address -> verdict of its reservation."""
    return [_picture(one, verdicts) for one in pool.ranges]


def around(packed: list[bytes]) -> Pool:
    """Return a pool to draw reservations in whose ranges nobody knows: from the first to the last, in lines of 64."""
    ranges = []
    for version, length in ((4, 4), (6, 16)):
        numbers = [int.from_bytes(one, "big") for one in packed if len(one) == length]
        if numbers:
            first, last = min(numbers) // ACROSS * ACROSS, max(numbers) | (ACROSS - 1)
            ranges.append(Range(version, first, last, (first, last), -1))
    return Pool(tuple((one,) for one in ranges))


def _picture(drawn: Range, verdicts: dict[bytes, str]) -> Picture:
    length = 4 if drawn.version == 4 else 16
    numbers = {int.from_bytes(packed, "big"): verdict for packed, verdict in verdicts.items() if len(packed) == length}
    low, high = drawn.subnet
    mine = [number for number in numbers if low <= number <= high]
    if high - low >= 1 << 20:  # IPv6: nobody scrolls through a /64; what lies behind the last reservation is free
        high = min(high, max(mine, default=low) | (MOST - 1))
    each = 1
    while (high - low + 1) // each > MOST:
        each *= 2
    letters = [FREE] * ((high - low) // each + 1)
    if each == 1:
        letters = [FREE if drawn.gives(number) else NEVER for number in range(low, high + 1)]
    for number in mine:
        if number <= high:
            place = (number - low) // each
            letters[place] = min(letters[place], LETTERS[numbers[number]], key=_RANK.index)
    kind = ipaddress.IPv4Address if drawn.version == 4 else ipaddress.IPv6Address
    lines = [
        (str(kind(low + start * each)), "".join(letters[start : start + ACROSS])) for start in range(0, len(letters), ACROSS)
    ]
    return Picture(each, lines)
