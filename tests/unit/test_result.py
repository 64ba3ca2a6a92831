"""prevResult goes through with all that it has."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_reaper_plugin.plugin.request import Request
from cni_reaper_plugin.plugin.result import is_head, of_add

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ('"', "\\", '\\"', "{", "}", "[", "]", ",", ":", "}},{", "prevResult", "cniVersion", "\u2028", "\0", "\U0001f600")
)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
layouts = st.sampled_from(
    ({}, {"indent": 1}, {"separators": (",", ":")}, {"separators": (" ,\r\n", "\t: ")}, {"ensure_ascii": False})
)


def request(document: bytes) -> Request:
    """Return an ADD with this on stdin."""
    environment = {b"CNI_CONTAINERID": b"id", b"CNI_NETNS": b"/run/netns/x", b"CNI_IFNAME": b"eth0"}
    add = Request("ADD", environment)
    add.configure(document)
    return add


def pairs_of(document: bytes) -> Any:
    """Return a JSON value with its objects as lists of pairs, in which order and repeated keys are seen."""
    return json.loads(document, object_pairs_hook=list)


@given(st.dictionaries(text, values, max_size=6), layouts)
def test_prev_result_keeps_all_it_has(previous: dict[str, Any], layout: dict[str, Any]) -> None:
    """Whatever its members are called and hold, and however it is laid out: the same members, in their order."""
    document = json.dumps({"cniVersion": "1.0.0", "name": "net", "prevResult": previous, "x": 1}, **layout).encode()
    expected = previous if "cniVersion" in previous else {"cniVersion": "1.0.0", **previous}
    assert pairs_of(of_add(request(document))) == pairs_of(json.dumps(expected).encode())


@pytest.mark.parametrize(
    ("previous", "answer"),
    [
        (b'{"cniVersion":"1.0.0","b":1,"a":2}', b'{"cniVersion":"1.0.0","b":1,"a":2}'),
        (b'{ "ips":[ ] }', b'{"cniVersion":"1.0.0","ips":[]}'),
        (b"{}", b'{"cniVersion":"1.0.0"}'),
        (b"{ \n}", b'{"cniVersion":"1.0.0"}'),
        (b'{"x":{"cniVersion":"9"}}', b'{"cniVersion":"1.0.0","x":{"cniVersion":"9"}}'),
        (b'{"x":"\\u00e9\\/"}', '{"cniVersion":"1.0.0","x":"é/"}'.encode()),
    ],
)
def test_add_behind_another_plugin_prints_its_bytes(previous: bytes, answer: bytes) -> None:
    """Members and their order stay; blanks go, and escapes where none is needed; a missing cniVersion is put in front."""
    add = request(b'{"cniVersion":"1.0.0","name":"net","prevResult":' + previous + b',"type":"cni-reaper"}')
    assert not is_head(add)
    assert of_add(add) == answer


@pytest.mark.parametrize(
    ("number", "printed"),
    [
        (b"18446744073709551615", b"18446744073709551615"),
        (b"-9223372036854775808", b"-9223372036854775808"),
        (b"18446744073709551616", b"1.8446744073709552e+19"),
        (b"-9223372036854775809", b"-9.223372036854776e+18"),
        (b"1.10", b"1.1"),
        (b"1e2", b"100.0"),
        (b"-0", b"0"),
        (b"0.1000000000000000055", b"0.1"),
    ],
)
def test_what_numbers_become(number: bytes, printed: bytes) -> None:
    """Whole ones of 64 bits stay; others become the nearest double, in its shortest spelling. A result of CNI has no such one."""
    document = b'{"cniVersion":"1.0.0","name":"net","prevResult":{"cniVersion":"1.0.0","x":%s}}'
    assert of_add(request(document % number)) == b'{"cniVersion":"1.0.0","x":%s}' % printed


def test_a_key_twice() -> None:
    """The last one counts, of prevResult itself and within it, as in Go."""
    document = b'{"name":"net","prevResult":{"x":1},"prevResult":{"cniVersion":"1.0.0","x":1,"y":2,"x":3}}'
    assert of_add(request(document)) == b'{"cniVersion":"1.0.0","x":3,"y":2}'


@pytest.mark.parametrize("levels", [200, 253, 254, 255, 1000, 1022])
@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"x":', b"}")])
def test_any_depth_that_is_read_is_printed(levels: int, opened: bytes, closed: bytes) -> None:
    """It reads 1024 levels and orjson writes 254: deeper ones are written otherwise, and no ADD fails for it."""
    limit = sys.getrecursionlimit()
    inner = opened * levels + b"1" + closed * levels
    document = b'{"cniVersion":"1.0.0","name":"net","prevResult":{"cniVersion":"1.0.0","x":%s}}' % inner
    try:
        assert of_add(request(document)).replace(b" ", b"") == b'{"cniVersion":"1.0.0","x":%s}' % inner
    finally:
        sys.setrecursionlimit(limit)


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
