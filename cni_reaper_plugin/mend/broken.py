"""What a broken file is: one that no verb of its plugin can use, whoever owns it.

Go's encoding/json decides, since libcni, flannel and multus read with it. A file that it takes for JSON is never broken.
"""

import orjson

EMPTY, BLANK, NUL_BYTES, NO_JSON = "empty", "blank", "NUL bytes", "no JSON"
_SPACE = b" \t\r\n"


class Broken:
    """One broken file, as it was read.

    Attributes:
        path: as its directory is configured.
        kind: of its place.
        network: by its name, "" where that holds none; so are container_id and ifname.
        container_id: see network.
        ifname: see network.
        size: in bytes.
        cause: EMPTY, BLANK, NUL_BYTES or NO_JSON.
        reason: why it is not removed, "" while nothing speaks against it.
        wait_s: of one that has to wait, in how many seconds to look again.
    """

    __slots__ = ("cause", "container_id", "ifname", "kind", "network", "path", "reason", "size", "wait_s")

    def __init__(self, path: str, kind: str, named: tuple[str, str, str], size: int, cause: str) -> None:
        self.path = path
        self.kind = kind
        self.network, self.container_id, self.ifname = named
        self.size = size
        self.cause = cause
        self.reason = ""
        self.wait_s = 0.0

    def fields(self) -> dict[str, object]:
        """Return what the log and JSON say of it, by key."""
        return {
            "file": self.path,
            "kind": self.kind,
            "network": self.network,
            "container": self.container_id,
            "ifname": self.ifname,
            "size": self.size,
            "cause": self.cause,
        }


def cause_of(data: bytes) -> str:
    """Return why a file's content is broken, "" for JSON."""
    if not data:
        return EMPTY
    if not data.strip(_SPACE):
        return BLANK
    if not data.strip(_SPACE + b"\0"):
        return NUL_BYTES
    return "" if _is_json(data) else NO_JSON


def _is_json(data: bytes) -> bool:
    """Tell whether Go's encoding/json takes this for JSON (json.Valid); in doubt it does.

    orjson is stricter: it refuses bytes that are not UTF-8, lone surrogates and numbers that are too large. What it refuses is
    parsed once more, by Python's json, which takes all of these once the bytes are text. Neither Go nor this takes NaN, a byte
    order mark or a control character in a string.
    """
    try:
        orjson.loads(data)
    except ValueError:
        return _is_lenient_json(data.decode("utf-8", "replace"))
    return True


def _is_lenient_json(text: str) -> bool:
    try:
        import json

        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)
    except ValueError:
        return False
    except (RecursionError, MemoryError, ImportError):
        return True  # not told, so it is kept
    return True


def _refuse(constant: str) -> None:
    """Refuse NaN and Infinity. Raises ValueError."""
    raise ValueError(constant)
