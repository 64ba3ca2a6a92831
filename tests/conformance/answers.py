"""What a runtime may find on stdout: exactly one result or one error object, read more strictly than any runtime does."""

import json
from typing import Any

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
ALREADY_GONE = ("not found", "no such file")
"""Words that containerd's go-cni takes for "already gone": after them it forgets the rest of the chain."""


def the_document(out: bytes) -> Any:
    """Return the one JSON document on stdout; fail on a second one, on a key that stands there twice, on NaN and on bad UTF-8."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), f"a key stands there twice: {keys}"
        return dict(pairs)

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(out.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)


def the_error(out: bytes) -> dict[str, Any]:
    """Return the error object on stdout, which is all there is and has the form of SPEC 1.1.0, section 5."""
    error = the_document(out)
    assert isinstance(error, dict)
    assert set(error) - {"details"} == {"cniVersion", "code", "msg"}, error
    assert error["cniVersion"] in VERSIONS, error
    assert type(error["code"]) is int, error
    assert error["code"] > 0, error
    assert isinstance(error["msg"], str), error
    assert error["msg"], error
    assert isinstance(error.get("details", ""), str), error
    said = text_of(error)
    assert "Traceback" not in said, error
    assert not [words for words in ALREADY_GONE if words in said.lower()], error
    return error


def text_of(error: dict[str, Any]) -> str:
    """Return all that an error says; libcni puts both parts into one line."""
    return f"{error['msg']}; {error.get('details', '')}"


def assert_result(command: str, out: bytes) -> None:
    """Stdout of a call that succeeded: a result of ADD or VERSION, and nothing at all of the other verbs."""
    if command not in ("ADD", "VERSION"):
        assert out == b"", out
        return
    result = the_document(out)
    assert isinstance(result, dict), out
    if command == "ADD":
        assert "cniVersion" in result, out
    else:
        assert set(result) == {"cniVersion", "supportedVersions"}, out
        assert result["cniVersion"] in VERSIONS, out
        assert result["supportedVersions"] == list(VERSIONS), out
