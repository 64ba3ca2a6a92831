"""Our entry in a conflist's text: what it should be, and the text with it and without it. Pure: no file is read or written.

What goes in comes out without a trace (conflist_text).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin import options
from cni_reaper_plugin.cni_versions import SUPPORTED_VERSIONS
from cni_reaper_plugin.operator.conflists import conflist, go_json, position
from cni_reaper_plugin.operator.conflists.conflist import OURS, Conflist, ConflistError
from cni_reaper_plugin.operator.conflists.conflist_text import TextError, plugins, with_entry, without
from cni_reaper_plugin.options import Settings

MULTUS = "it is multus' own file, made anew again and again: put our entry into the conflist that it is made of."
_SINGLE = "it holds one plugin and no list, so there is no chain to be in. Write this as %s, then remove it.\n%s"


def parsed(path: str, raw: bytes) -> Conflist:
    """Return the conflist of a text, of a list whose `plugins` can be edited. Raises ConflistError."""
    if not path.endswith(".conflist"):
        return conflist.of_bytes(path, raw)
    try:
        plugins(raw)
    except TextError as e:
        raise ConflistError(f"{e}: correct it.") from None
    return conflist.of_bytes(path, raw)


def put(path: str, raw: bytes, given: Json | None, had: Json | None = None) -> bytes:
    """Return the text with our entry once and where it belongs, the same bytes if that is so already.

    given: options for the entry, which replace those that it has; None leaves an entry as it is, whatever is in it. had: those
    that it had when it was last seen here, for one that has to be put in again. A new entry takes the dataDir over from the
    host-local of the list. Raises ConflistError, OptionsError.
    """
    one = parsed(path, raw)
    if one.is_multus:
        raise ConflistError(MULTUS)
    if one.single:
        raise ConflistError(as_list(one, given, had))
    if one.version not in SUPPORTED_VERSIONS:
        raise ConflistError(f"its `cniVersion` {one.version} is one that we do not speak: install a newer cni-reaper.")
    others = [plugin for plugin in one.plugins if plugin["type"] != OURS]
    if not others:
        raise ConflistError("there is no other plugin in it: put the one that makes the interface there first.")
    places = _places(one)
    text = _source(raw, places[0]) if places and given is None else rendered(one, given, had)
    if len(places) == 1 and position.fits(places[0], others) and text == _source(raw, places[0]):
        return raw
    made = with_entry(take(raw), text, position.belongs(others))
    _verify(path, made, others)
    return made


def take(raw: bytes) -> bytes:
    """Return the text without any entry of ours. Raises TextError."""
    types = [go_json.plugin(value, OURS).get("type") for value in plugins(raw).values]
    for at in reversed(range(len(types))):
        if types[at] == OURS:
            raw = without(raw, at)
    return raw


def rendered(one: Conflist, given: Json | None, had: Json | None = None) -> str:
    """Return the JSON of an entry of ours for a list, with the options given, else with those it had.

    Those it had are not looked at: what a later version or a person has written comes back as it was. Raises OptionsError.
    """
    made: Json = {"type": OURS}
    store = _store(one)
    if store:
        made["dataDir"] = store
    made.update(given if given is not None else had or {})
    made["type"] = OURS
    problems = options.read(made, one.name)[1] if given is not None else []
    if problems:
        raise OptionsError("; ".join(problems))
    return spaced(made)


def options_of(one: Conflist, plugin: Json) -> Json:
    """Return the options of an entry of ours for a list, but for a dataDir that is its sibling's."""
    own = {key: value for key, value in plugin.items() if key != "type"}
    if own.get("dataDir") == _store(one):
        del own["dataDir"]
    return own


def _store(one: Conflist) -> str:
    """Return the dataDir that an entry of ours takes over, "" where it needs none."""
    stores = [ipam.data_dir for ipam in conflist.host_local(one)]
    return stores[0] if stores and stores[0] != Settings().data_dir else ""


def spaced(value: Json) -> str:
    """Return an object as JSON on one line, with a blank behind each comma and colon, as people write it."""
    import json

    return json.dumps(value, ensure_ascii=False)


def as_list(one: Conflist, given: Json | None, had: Json | None = None) -> str:
    """Return what is to be said of a file of one plugin: the list to write in its place, with our entry (`rendered`).

    Name and version stay, since the store goes by the name; libcni gives both to each plugin of a list. Raises OptionsError.
    """
    other = {key: value for key, value in one.plugins[0].items() if key not in ("cniVersion", "name")}
    entries = [spaced(other)]
    entries.insert(position.belongs([other]), rendered(one, given, had))
    head = spaced({"cniVersion": one.version, "name": one.name})[1:-1].replace(', "name"', ',\n  "name"')
    text = '{\n  %s,\n  "plugins": [\n    %s\n  ]\n}' % (head, ",\n    ".join(entries))
    return _SINGLE % (f"{one.path.rpartition('.')[0]}.conflist", text)


class OptionsError(Exception):
    """Options that are none: all that is wrong with them."""


def _places(one: Conflist) -> list[int]:
    return [at for at, kind in enumerate(one.types) if kind == OURS]


def _source(raw: bytes, at: int) -> str:
    found = plugins(raw)
    start, end = found.spans[at]
    return found.text[start:end]


def _verify(path: str, made: bytes, others: list[Json]) -> None:
    """Read what has been made as a runtime would: nothing else in it may have changed, whatever was written there."""
    after = conflist.of_bytes(path, made)
    if len(after.ours) != 1 or [plugin for plugin in after.plugins if plugin["type"] != OURS] != others:
        raise ConflistError(f"it cannot be edited without a change elsewhere in it: put {position.ENTRY} in by hand.")


if TYPE_CHECKING:
    from cni_reaper_plugin.operator.conflists.conflist import Json


def settings_of(entries: conflist.Found) -> list[tuple[str, Settings]]:
    """Return (path, settings) of each entry of ours."""
    lists = [one for _, one in entries if isinstance(one, Conflist)]
    return [(one.path, options.read(plugin, one.name)[0]) for one in lists for plugin in one.ours]
