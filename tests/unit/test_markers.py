"""Each test has one marker, which says what it needs: `./build.sh unit` runs those that need nothing."""

import pytest

from tests.conftest import NEEDS, marker


@pytest.mark.parametrize(
    ("directory", "fixtures", "needs"),
    [
        ("unit", ["tmp_path", "monkeypatch"], "pure"),
        ("unit", ["request", "programs", "make_node", "node"], "node"),
        ("e2e", ["programs", "make_node", "node"], "node"),
        ("e2e", [], "node"),
        ("packaging", ["executable"], "node"),
        ("a new directory", [], "node"),
        ("runtimes", ["programs", "containerd"], "runtime"),
        ("machines", ["machine"], "machine"),
        ("release", ["release"], "release"),
    ],
)
def test_marker_by_directory_and_fixtures(directory: str, fixtures: list[str], needs: str) -> None:
    """Only a test of tests/unit without a private node is pure."""
    assert marker(directory, fixtures) == needs


def test_each_test_has_one_marker(request: pytest.FixtureRequest) -> None:
    """No test that was collected is without, so that none is left out by all verbs."""
    markers = {*NEEDS.values(), "node"}
    marked = {item.nodeid: markers & {mark.name for mark in item.iter_markers()} for item in request.session.items}
    assert {test: found for test, found in marked.items() if len(found) != 1} == {}


def test_a_test_of_a_private_node_is_not_pure(request: pytest.FixtureRequest) -> None:
    """Nothing that is marked pure asks for the programs of a private node."""
    pure = [item for item in request.session.items if item.get_closest_marker("pure")]
    assert [item.nodeid for item in pure if "programs" in getattr(item, "fixturenames", ())] == []
    assert request.node in pure
