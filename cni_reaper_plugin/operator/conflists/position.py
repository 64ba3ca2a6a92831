"""Which conflist of a directory our entry belongs into, and which place of its list is ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin.operator.conflists.conflist import OURS, ConflistError

ENTRY = f'{{"type": "{OURS}"}}'
CHAINED_CILIUM = ("chaining-mode", "chaining-target")

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_reaper_plugin.operator.conflists import conflist


def master(entries: conflist.Found) -> int:
    """Return the number of the file to edit: the first, but behind multus' own; -1 where there is none."""
    for number, (_, one) in enumerate(entries):
        if isinstance(one, ConflistError) or not one.is_multus:
            return number
    return -1


def fits(at: int, others: Sequence[conflist.Json]) -> bool:
    """Tell whether our entry may stay at a place of the list, 0 for the head. others: all other entries."""
    if others and must_come_first(others[0]):
        return at == 1
    return at == 0 or (at == 1 and bool(others) and others[0]["type"] == "ipvlan")


def belongs(others: Sequence[conflist.Json]) -> int:
    """Return the place where our entry belongs, 0 for the head."""
    return 1 if others and must_come_first(others[0]) else 0


def must_come_first(plugin: conflist.Json) -> bool:
    """Tell whether a plugin takes the answer of a head before it for more than it is (design: place in the chain)."""
    kind = plugin["type"]
    if kind == "cilium-cni":
        return not any(plugin.get(key) for key in CHAINED_CILIUM)
    return kind == "loopback" or (kind == "ipvlan" and not plugin.get("master"))
