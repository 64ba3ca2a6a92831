"""Our entry goes into a conflist's text and comes out of it, and nothing else in it changes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_reaper_plugin.operator.conflists.conflist_text import TextError, plugins, with_entry, without
from tests.support.programs import ROOT

ENTRY = '{"type": "cni-reaper"}'
EXAMPLES = sorted((ROOT / "conflist-examples").glob("*.conflist"))

space = st.text(" \t\r\n", max_size=3)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
values = st.recursive(
    scalars, lambda one: st.one_of(st.lists(one, max_size=3), st.dictionaries(st.text(max_size=4), one, max_size=3))
)
entries = st.dictionaries(st.one_of(st.text(max_size=5), st.just("type")), values, max_size=4)


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """Write a value as JSON with white space wherever it may stand, escaped or not."""
    if isinstance(value, dict):
        members = [
            f"{draw(space)}{json.dumps(key)}{draw(space)}:{draw(space)}{draw(written(one))}{draw(space)}"
            for key, one in value.items()
        ]
        return "{" + (",".join(members) or draw(space)) + "}"
    if isinstance(value, list):
        items = [f"{draw(space)}{draw(written(one))}{draw(space)}" for one in value]
        return "[" + (",".join(items) or draw(space)) + "]"
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """A conflist as somebody may have written it."""
    conflist = draw(st.dictionaries(st.text(max_size=5), values, max_size=3))
    conflist["plugins"] = draw(st.lists(entries, max_size=4))
    text = draw(written(dict(draw(st.permutations(list(conflist.items()))))))
    return (draw(space) + text + draw(space)).encode("utf-8", "surrogatepass")


@given(texts(), st.integers(0, 4))
def test_entry_goes_in_and_out_byte_for_byte(raw: bytes, at: int) -> None:
    """What libcni reads has the entry at its place and is the same otherwise; without it every byte is as it was."""
    before = json.loads(raw)
    at = min(at, len(before["plugins"]))
    put = with_entry(raw, ENTRY, at)
    after = json.loads(put)
    assert after["plugins"].pop(at) == json.loads(ENTRY)
    assert after == before
    assert without(put, at) == raw


@given(texts(), st.data())
def test_any_entry_comes_out(raw: bytes, data: st.DataObject) -> None:
    """Not only one that we have put there."""
    before = json.loads(raw)
    if not before["plugins"]:
        return
    at = data.draw(st.integers(0, len(before["plugins"]) - 1))
    del before["plugins"][at]
    assert json.loads(without(raw, at)) == before


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_takes_the_entry_once(example: Any) -> None:
    """Out of it and in again at the same place: the same entries in the same order, and twice is as once."""
    raw = example.read_bytes()
    types = [one["type"] for one in plugins(raw).values]
    at = types.index("cni-reaper")
    original = without(raw, at)
    assert [one["type"] for one in plugins(original).values] == [one for one in types if one != "cni-reaper"]
    assert without(with_entry(original, ENTRY, at), at) == original


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize(
    "raw",
    [
        b'{"name":"a","plugins":[{"type":"bridge"},{"type":"portmap"}]}',
        b'{\n\t"plugins": [\n\t\t{\n\t\t\t"type": "bridge"\n\t\t}\n\t],\n\t"name": "a"\n}',
        b'{"plugins": [], "name": "a"}',
        b'{"plugins": [ ], "name": "a"}',
        b'{"plugins": [{"type": "lost"}], "name": "a", "plugins": [{"type": "bridge"}]}',
        b'{"plugins": [{"type": "bridge", "x": "\xff\xfe"}]}',
        b'{"plugin\\u0073": [{"type": "bridge"}]}',
    ],
)
def test_odd_texts_keep_their_bytes(raw: bytes, ending: bytes) -> None:
    """One line, tabs, CRLF, no plugin at all, a key twice (the last counts), bytes that are no UTF-8, an escaped key."""
    raw = raw.replace(b"\n", ending or b"\n") + ending
    put = with_entry(raw, ENTRY, 0)
    assert plugins(put).values[0] == {"type": "cni-reaper"}
    assert plugins(put).values[1:] == plugins(raw).values
    assert without(put, 0) == raw


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[]", "no list `plugins`"),
        (b"{}", "no list `plugins`"),
        (b'{"type": "bridge"}', "no list `plugins`"),
        (b'{"plugins": {}}', "no list `plugins`"),
        (b'{"plugins": [3]}', "no object"),
        (b'{"plugins": [{}], "x": NaN}', "no JSON"),
        (b'{"plugins": [{}]} {}', "behind its last brace"),
        (b'\xef\xbb\xbf{"plugins": [{}]}', "byte order mark"),
        (b'{"plugins": [{}], // comment\n "x": 1}', "no JSON"),
        (b'{"plugins": ' + b"[" * 100_000, "no JSON"),
    ],
)
def test_what_is_no_conflist_is_refused(raw: bytes, says: str) -> None:
    """It is told in a sentence, and nothing is written."""
    for attempt in (lambda: plugins(raw), lambda: with_entry(raw, ENTRY, 0), lambda: without(raw, 0)):
        with pytest.raises(TextError, match=says):
            attempt()
