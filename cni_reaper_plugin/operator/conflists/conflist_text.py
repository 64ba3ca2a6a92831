"""A conflist as its writer left it: our entry goes in and comes out, and every other byte stays.

What goes in comes out without a trace: `without(with_entry(raw, entry, at), at) == raw`.
"""

import json
from dataclasses import dataclass

_SPACE = " \t\r\n"  # RFC 8259, section 2


class TextError(ValueError):
    """The text is no conflist that a runtime would load; one sentence that says what it is instead."""


@dataclass(frozen=True)
class Plugins:
    """The list of plugins in a text. opened: behind its `[`; spans: (start, end) of each entry; values: the entries."""

    text: str
    opened: int
    spans: tuple[tuple[int, int], ...]
    values: tuple[dict[str, object], ...]


def plugins(raw: bytes) -> Plugins:
    """Find the list of plugins. Raises TextError.

    Of a key that is there twice the last one counts, as for libcni, which has Go's encoding/json read a map.
    """
    if raw.startswith(b"\xef\xbb\xbf"):
        raise TextError("it begins with a byte order mark, which no runtime reads: take it out")
    text = raw.decode("utf-8", "surrogateescape")
    decoder = json.JSONDecoder(parse_constant=_refuse)
    try:
        whole, end = decoder.raw_decode(text, _skip(text, 0))
        if _skip(text, end) < len(text):
            raise TextError("something stands behind its last brace")
        if not isinstance(whole, dict) or not isinstance(whole.get("plugins"), list):
            raise TextError("it has no list `plugins`")
        opened = _last_list(text, decoder)
        spans, values = _entries(text, opened, decoder)
    except (ValueError, RecursionError) as e:
        if isinstance(e, TextError):
            raise
        msg = f"it is no JSON: {e}"
        raise TextError(msg) from e
    if not all(isinstance(value, dict) for value in values):
        raise TextError("something in its list `plugins` is no object")
    return Plugins(text, opened, tuple(spans), tuple(values))


def with_entry(raw: bytes, entry: str, at: int) -> bytes:
    """Return the text with an entry (JSON) at a place of the list, 0 for the first. Raises TextError."""
    found = plugins(raw)
    if at < len(found.spans):
        start = found.spans[at][0]
        before = found.spans[at - 1][1] if at else found.opened
        space = found.text[before:start].replace(",", "", 1) if at else found.text[before:start]
        put, where = entry + "," + space, start
    elif found.spans:
        start, where = found.spans[-1]
        before = found.spans[-2][1] if len(found.spans) > 1 else found.opened
        put = "," + found.text[before:start].replace(",", "", 1) + entry
    else:
        put, where = entry, found.opened
    return _encoded(found.text[:where] + put + found.text[where:])


def without(raw: bytes, at: int) -> bytes:
    """Return the text without the entry at a place of the list. Raises TextError, IndexError."""
    found = plugins(raw)
    start, end = found.spans[at]
    if at + 1 < len(found.spans):
        end = found.spans[at + 1][0]
    elif at:
        start = found.spans[at - 1][1]
    return _encoded(found.text[:start] + found.text[end:])


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _refuse(constant: str) -> object:
    msg = f"{constant} is no value of JSON"
    raise ValueError(msg)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _last_list(text: str, decoder: json.JSONDecoder) -> int:
    """Return the place behind the `[` of the last member `plugins` of a text that is an object."""
    found = -1
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        key, end = decoder.raw_decode(text, at)
        value_at = _skip(text, _skip(text, end) + 1)
        _, end = decoder.raw_decode(text, value_at)
        if key == "plugins":
            found = value_at + 1
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _entries(text: str, opened: int, decoder: json.JSONDecoder) -> tuple[list[tuple[int, int]], list[dict[str, object]]]:
    spans, values = [], []
    at = _skip(text, opened)
    while text[at] != "]":
        value, end = decoder.raw_decode(text, at)
        spans.append((at, end))
        values.append(value)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return spans, values
