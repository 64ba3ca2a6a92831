"""prevResult goes through as the bytes that came."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_reaper_plugin.plugin.request import Request
from cni_reaper_plugin.plugin.result import is_head, of_add, raw_member

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ('"', "\\", '\\"', "{", "}", "[", "]", ",", ":", "}},{", "prevResult")
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
layouts = st.sampled_from(
    ({}, {"indent": 1}, {"separators": (",", ":")}, {"separators": (" ,\r\n", "\t: ")}, {"ensure_ascii": False})
)


@given(st.dictionaries(text, values, max_size=6), values, st.integers(0, 6), layouts)
def test_raw_member_is_the_very_bytes(members: dict[str, Any], value: Any, place: int, layout: dict[str, Any]) -> None:
    """Whatever stands around it, and however it is laid out, the member's bytes come out as they went in."""
    pairs = [(key, one) for key, one in members.items() if key != "prevResult"]
    pairs.insert(place, ("prevResult", value))
    document = json.dumps(dict(pairs), **layout).encode()
    raw = raw_member(document, "prevResult")
    assert raw in document
    assert raw == raw.strip()
    found = json.loads(raw)
    assert found == value
    assert list(found) == list(value) if isinstance(value, dict) else True


@pytest.mark.parametrize(
    ("document", "raw"),
    [
        (b'{"k":1}', b"1"),
        (b' {"k" : {"a":[1,{"b":2}]} } ', b'{"a":[1,{"b":2}]}'),
        (b'{"x":"\\"k\\":1","k":2}', b"2"),
        (b'{"x":"\\\\","k":2}', b"2"),
        (b'{"x":{"k":1},"k":2}', b"2"),
        (b'{"k":1,"x":0,"k":{"b":12345678901234567890123}}', b'{"b":12345678901234567890123}'),
        (b'{"\\u006b":1e-9}', b"1e-9"),
        (b'{"k":"}\\\\\\"]"}', b'"}\\\\\\"]"'),
        (b'{"k":[]\n}', b"[]"),
    ],
)
def test_raw_member_is_what_a_json_decoder_takes(document: bytes, raw: bytes) -> None:
    """Escapes, nesting, blanks and repeated keys lead to the member that a JSON decoder would take."""
    assert raw_member(document, "k") == raw


def request(document: bytes) -> Request:
    """Return an ADD with this on stdin."""
    environment = {b"CNI_CONTAINERID": b"id", b"CNI_NETNS": b"/run/netns/x", b"CNI_IFNAME": b"eth0"}
    add = Request("ADD", environment)
    add.configure(document)
    return add


@pytest.mark.parametrize(
    ("previous", "answer"),
    [
        (b'{"cniVersion":"1.0.0","b":1,"a":1.10}', b'{"cniVersion":"1.0.0","b":1,"a":1.10}'),
        (b'{ "ips":[ ] }', b'{"cniVersion":"1.0.0","ips":[ ] }'),
        (b"{}", b'{"cniVersion":"1.0.0"}'),
        (b"{ \n}", b'{"cniVersion":"1.0.0"}'),
        (b'{"x":{"cniVersion":"9"}}', b'{"cniVersion":"1.0.0","x":{"cniVersion":"9"}}'),
    ],
)
def test_add_behind_another_plugin_prints_its_bytes(previous: bytes, answer: bytes) -> None:
    """The bytes of prevResult are not rewritten; only a missing cniVersion is put in front."""
    add = request(b'{"cniVersion":"1.0.0","name":"net","prevResult":' + previous + b',"type":"cni-reaper"}')
    assert not is_head(add)
    assert of_add(add) == answer
    json.loads(answer)


@pytest.mark.parametrize("member", [b"", b',"prevResult":null'], ids=["absent", "null"])
def test_add_at_the_head_prints_the_smallest_result(member: bytes) -> None:
    """Without prevResult the smallest result there is says the config's version."""
    add = request(b'{"cniVersion":"0.3.1","name":"net"' + member + b"}")
    assert is_head(add)
    assert of_add(add) == b'{"cniVersion":"0.3.1"}'


@pytest.mark.parametrize(
    ("args", "pod"),
    [
        ("", {}),
        ("IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=c", {"namespace": "a", "name": "b", "uid": "c"}),
        (";;=;K8S_POD_NAME;K8S_POD_UID==", {"uid": "="}),
        ("K8S_POD_NAME=;K8S_POD_UID=x", {"uid": "x"}),
    ],
)
def test_pod_is_read_from_cni_args(args: str, pod: dict[str, str]) -> None:
    """CNI_ARGS is read for what it says of the pod, and never refused."""
    add = request(b'{"name":"net"}')
    add.args = args
    assert add.pod() == pod
