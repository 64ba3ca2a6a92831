"""Reasons are told apart by their codes, and docs/evidence.md has each."""

import re

import pytest

from cni_reaper_plugin import reasons
from cni_reaper_plugin.operator import commandline
from cni_reaper_plugin.reasons import NETNS_GONE, UNACCOUNTED, Reason
from tests.support.programs import ROOT

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


def rows(document: str, title: str) -> list[list[str]]:
    """Return the cells of each row that begins with a code, of the table below a title."""
    table = (ROOT / document).read_text().split(title, 1)[1].split("\n#", 1)[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]


def codes_in(cells: list[str]) -> list[str]:
    """Return the codes that are named in cells, in order."""
    return sorted(re.findall("`([^`]+)`", " ".join(cells)))


def test_the_document_has_each() -> None:
    """The table of docs/evidence.md names each code, and no other, and says what it means."""
    table = rows("docs/evidence.md", "### Reasons\n")
    assert codes_in([row[0] for row in table]) == sorted(one.code for one in EVERY.values())
    assert [row for row in table if not all(row)] == []


def test_each_reason_to_free_is_explained_to_operators(capsys: pytest.CaptureFixture[str]) -> None:
    """By docs/operations.md, and on the node by `explain --help`."""
    to_free = codes_in([row[0] for row in rows("docs/evidence.md", "### Reasons\n") if row[1] == "STALE"])
    assert len(to_free) > 5
    assert codes_in([row[0] for row in rows("docs/operations.md", "## Read the log\n")]) == sorted(
        {*to_free, "port-published", "reason"}
    )
    assert sorted(commandline.REASONS) == to_free
    with pytest.raises(SystemExit):
        commandline.parser().parse_args(["explain", "--help"])
    said = capsys.readouterr().out
    assert [code for code in to_free if f"  {code} " not in said] == []
