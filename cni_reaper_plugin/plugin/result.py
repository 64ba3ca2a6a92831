"""The result of an ADD: prevResult as it came, or at the head of the chain the smallest one there is."""

import orjson

from cni_reaper_plugin.plugin.request import Request


def is_head(request: Request) -> bool:
    """Tell whether no plugin ran before us: prevResult is absent (or null)."""
    return request.config.get("prevResult") is None


def of_add(request: Request) -> bytes:
    """Return what ADD prints.

    prevResult goes through as the bytes that came, with unknown keys, key order and numbers of any size; `cniVersion` is put in
    front only if it is missing. libcni does not convert between the plugins of a chain, so the version is the config's.
    """
    if is_head(request):
        return orjson.dumps({"cniVersion": request.cni_version})
    previous = raw_member(request.document, "prevResult")
    if "cniVersion" in request.config["prevResult"]:  # type: ignore[operator]  # request checked that it is an object
        return previous
    rest = previous[1:].lstrip(b" \t\r\n")
    return b'{"cniVersion":' + orjson.dumps(request.cni_version) + (b"}" if rest == b"}" else b"," + rest)


def raw_member(document: bytes, key: str) -> bytes:
    """Return the bytes of a member of the document's object, the last one if it stands there twice, as JSON decoders do.

    document: valid JSON with an object at the top that has the member.
    """
    found = b""
    at = document.index(b"{") + 1
    while True:
        start = _skip_blanks(document, at)
        if document[start : start + 1] != b'"':
            return found
        end = _end_of_string(document, start)
        value = _skip_blanks(document, _skip_blanks(document, end) + 1)  # behind the colon
        at = _end_of_value(document, value)
        if orjson.loads(document[start:end]) == key:
            found = document[value:at].rstrip(b" \t\r\n")
        if document[at : at + 1] != b",":
            return found
        at += 1


def _skip_blanks(document: bytes, at: int) -> int:
    while document[at : at + 1] in (b" ", b"\t", b"\r", b"\n"):
        at += 1
    return at


def _end_of_string(document: bytes, at: int) -> int:
    """Return the place behind the string that starts at `at`."""
    while True:
        at = document.index(b'"', at + 1)
        before = at
        while document[before - 1] == 0x5C:
            before -= 1
        if (at - before) % 2 == 0:
            return at + 1


def _end_of_value(document: bytes, at: int) -> int:
    """Return the place of the comma or brace behind the value that starts at `at`."""
    depth = 0
    while True:
        quote = document.find(b'"', at)
        between = document[at:] if quote < 0 else document[at:quote]
        opened, closed = between.count(b"{") + between.count(b"["), between.count(b"}") + between.count(b"]")
        if depth > closed:  # the value cannot end in this stretch: no need to look at each byte
            depth += opened - closed
        else:
            for offset, char in enumerate(between):
                if char in b"{[":
                    depth += 1
                elif not depth and char in b",}]":
                    return at + offset
                elif char in b"}]":
                    depth -= 1
        at = _end_of_string(document, quote)
