"""The result of an ADD: prevResult as it came, or at the head of the chain the smallest one there is."""

import orjson

from cni_reaper_plugin.plugin.request import Request

_DEEP = 10_000  # levels; request.configure takes no more than 1024


def is_head(request: Request) -> bool:
    """Tell whether no plugin ran before cni-reaper: prevResult is absent (or null)."""
    return request.config.get("prevResult") is None


def of_add(request: Request) -> bytes:
    """Return what ADD prints: prevResult with all its members, and with a `cniVersion` in front if it has none.

    libcni does not convert between the plugins of a chain, so the version is the config's. All that orjson reads it also
    writes, but for more than 254 levels. Only numbers that no result of CNI has can change: docs/options.md.
    """
    found = request.config.get("prevResult")
    result = found if isinstance(found, dict) else {}
    if "cniVersion" not in result:
        result = {"cniVersion": request.cni_version, **result}
    try:
        return orjson.dumps(result)
    except TypeError:  # more than 254 levels
        return _of_many_levels(result)


def _of_many_levels(result: dict[str, object]) -> bytes:
    import json
    import sys

    sys.setrecursionlimit(_DEEP)
    return json.dumps(result).encode()
