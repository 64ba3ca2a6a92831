"""The SPEC's rules for the names that become parts of paths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_reaper_plugin.attachment import Attachment, valid_ifname, valid_name

SPEC_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*"


@given(st.from_regex(SPEC_NAME, fullmatch=True))
def test_accepts_what_the_spec_allows(name: str) -> None:
    """A container ID or network name that matches the SPEC's expression over its whole length is valid."""
    assert valid_name(name)


@given(st.from_regex(SPEC_NAME, fullmatch=True), st.characters(exclude_characters="_.-"), st.integers(0, 99))
def test_rejects_any_other_character(name: str, char: str, at: int) -> None:
    """One character that the SPEC does not name spoils a name wherever it stands."""
    at = min(at, len(name))
    if not (char.isascii() and char.isalnum()):
        assert not valid_name(name[:at] + char + name[at:])


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".a",
        "-a",
        "_a",
        "a/b",
        "../a",
        "a\n",
        "\na",
        "a\0",
        "a b",
        "\u00e4",
        "\u0661",
        "\uff21",
        "a\u0301",
        "\udcff",
    ],
)
def test_rejects_names(name: str) -> None:
    """Neither a way up, nor a newline at the end, nor a letter beyond ASCII gets into a path."""
    assert not valid_name(name)


@pytest.mark.parametrize("ifname", ["e", "eth0", "a" * 15, "\u00e4" * 7, "a.b", "-x", "eth0@if5", "eth\udcff", "..."])
def test_accepts_ifnames(ifname: str) -> None:
    """Up to 15 bytes of nearly anything are an interface name."""
    assert valid_ifname(ifname)


@pytest.mark.parametrize(
    "ifname",
    ["", ".", "..", "a" * 16, "\u00e4" * 8, "a/b", "a:b", "a b", "a\n", "a\tb", "a\0b", "a\u00a0b", "a\u2028b", "\u0661" * 8],
)
def test_rejects_ifnames(ifname: str) -> None:
    """What the kernel or the SPEC refuses is refused: 16 bytes, a slash, a colon, white space."""
    assert not valid_ifname(ifname)


@given(st.text(), st.text())
def test_a_record_name_is_one_file_and_one_attachment(container_id: str, ifname: str) -> None:
    """Valid names make a single path component from which both can be told again."""
    if valid_name(container_id) and valid_ifname(ifname):
        name = Attachment("net", container_id, ifname).record_name
        assert "/" not in name
        assert "\0" not in name
        assert not name.startswith(".")
        assert name.partition(":") == (container_id, ":", ifname)


@pytest.mark.parametrize(
    ("owner", "owns"),
    [
        (("net", "id", "eth0"), True),
        (("net", "id", ""), True),
        (("net", "id", "net1"), False),
        (("net", "id1", "eth0"), False),
        (("net", "i", "eth0"), False),
        (("other", "id", "eth0"), False),
        (("other", "id", ""), False),
    ],
)
def test_attachment_owns_its_own_reservations_only(owner: tuple[str, str, str], owns: bool) -> None:
    """An attachment owns what host-local wrote for it, with or without ifname, and nothing of a longer or shorter ID."""
    assert Attachment("net", "id", "eth0").owns(*owner) is owns
