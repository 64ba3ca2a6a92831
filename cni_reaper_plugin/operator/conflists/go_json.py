"""A plugin's object in a conflist as Go's encoding/json reads it: keys in any case.

libcni and host-local decode a plugin into structs, for which a key counts in any case. Of several spellings the last wins, and
objects are merged. libcni has decoded the list into a map before and written it again, by which keys are in the order of their
bytes: `dataDir` comes after `DATADIR`. The keys of the list itself, and of `capabilities`, are those of a map: exact.
Sources: encoding/json decode.go, libcni conf.go (NetworkConfFromBytes, InjectConf).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

NAMES = (
    "name",
    "cniVersion",
    "type",
    "ipam",
    "delegate",
    "delegates",
    "clusterNetwork",
    "capabilities",
    "master",
    "dataDir",
    "ranges",
    "subnet",
    "rangeStart",
    "rangeEnd",
    "gateway",
)
"""What cni-reaper reads of other plugins."""
_NAMES = {name.casefold(): name for name in NAMES}
_OBJECTS = ("ipam", "delegate")

if TYPE_CHECKING:
    Json = dict[str, object]


def plugin(given: Json, ours: str = "") -> Json:
    """Return the same object with these keys as cni-reaper spells them. ours: a type that has its own rules for other keys."""
    kind = _renamed(given, {"type": "type"})
    return kind if ours and kind.get("type") == ours else _section(given)


def _section(given: Json) -> Json:
    found = _renamed(given, _NAMES)
    for name in _OBJECTS:
        inner = found.get(name)
        if isinstance(inner, dict):
            found = {**found, name: _section(inner)}
    sets = found.get("ranges")
    if isinstance(sets, list):
        found = {**found, "ranges": [_set(one) for one in sets]}
    return found


def _set(given: object) -> object:
    """Return a set of ranges with its keys spelled so."""
    if not isinstance(given, list):
        return given
    return [_renamed(one, _NAMES) if isinstance(one, dict) else one for one in given]


def _renamed(given: Json, names: dict[str, str]) -> Json:
    """Return an object with the keys of `names` (folded: as spelled here); the same one where nothing is to be renamed."""
    if all(names.get(key.casefold(), key) == key for key in given):
        return given
    found: Json = {}
    for key in sorted(given, key=lambda one: one.encode("utf-8", "surrogatepass")):
        name, value = names.get(key.casefold(), key), given[key]
        before = found.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            found[name] = {**before, **value}
        elif value is not None or name not in found:
            found[name] = value
    return found
