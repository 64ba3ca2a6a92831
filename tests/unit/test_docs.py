"""What the documents point to is there."""

import re

import pytest

from tests.support.programs import ROOT

PLACES = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
DOCUMENTS = sorted(
    path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *(one for place in PLACES for one in place.rglob("*.md")))
)


OF_OTHER_DOCUMENTS = (
    "test_monitoring.py",
    "test_take_over.py",
    "test_systemd.py",
    "test_image.py",
    "test_kubernetes.py",
    "test_deb.py",
    "test_life.py",
)
"""Tests with runtimes that are not about leaks: docs/metrics.md, docs/install.md."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: object) -> None:
    """Every relative link of a document leads to a file of this tree."""
    path = ROOT / str(document)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text())]
    missing = [link for link in links if link and "://" not in link and not (path.parent / link).exists()]
    assert missing == []


def test_every_row_of_runtimes_is_a_test() -> None:
    """A row of docs/runtimes.md names a test that is there, or says that it was not run; and no test is without its row."""
    text = (ROOT / "docs/runtimes.md").read_text()
    files = (ROOT / "tests/runtimes").glob("test_*.py")
    sources = "\n".join(path.read_text() for path in files if path.name not in OF_OTHER_DOCUMENTS)
    there = set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows
    assert [row for row in rows if "::test_" not in row and "not run here, by source" not in row] == []
    named = set(re.findall(r"::(test_\w+)", text))
    assert named - there == set()
    assert there - named == set()
