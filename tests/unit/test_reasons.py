"""Reasons are told apart by their codes, and docs/evidence.md has each."""

import re

from cni_reaper_plugin import reasons
from cni_reaper_plugin.reasons import NETNS_GONE, UNACCOUNTED, Reason
from tests.neighbours import ROOT

EVERY = {name: one for name, one in vars(reasons).items() if isinstance(one, Reason)}


def test_each_code_is_given_once() -> None:
    """In lower case, with hyphens; so is each text."""
    codes = [one.code for one in EVERY.values()]
    assert sorted(set(codes)) == sorted(codes)
    assert len({one.text for one in EVERY.values()}) == len(codes) > 20
    assert [code for code in codes if not re.fullmatch("[a-z]+(-[a-z]+)*", code)] == []


def test_a_detail_changes_no_reason() -> None:
    """It is the same reason, in other words, and says so."""
    detailed = UNACCOUNTED.detailed("2 netns unaccounted for")
    assert detailed == UNACCOUNTED != NETNS_GONE
    assert len({detailed, UNACCOUNTED}) == 1
    assert (detailed.text, detailed.says_more, UNACCOUNTED.says_more) == ("2 netns unaccounted for", True, False)


def test_the_document_has_each() -> None:
    """The table of docs/evidence.md names each code, and no other."""
    table = (ROOT / "docs/evidence.md").read_text().split("### Reasons", 1)[1].split("### ", 1)[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(re.findall("`([^`]+)`", "".join(first))) == sorted(one.code for one in EVERY.values())
