"""Some seconds of tests/rewriting.py: nothing of the platform is lost, and nothing fails because of us."""

from tests import rewriting
from tests.conftest import MakeNode

LENGTH_S = 12.0


def test_conflist_rewritten_by_rename_fails_no_add(make_node: MakeNode) -> None:
    """A platform that renames shows nobody half a file, so no ADD may fail; and whoever stays is back after each rewrite."""
    seen = rewriting.run({way: make_node() for way in rewriting.WAYS}, LENGTH_S, ("rename",))
    for way, one in seen.items():
        assert one.failures == [], way
        assert one.lost == 0, way
        assert one.rewrites > 0
        assert one.adds > 0
    assert seen["nothing"].without > 0
    assert seen["drop-in"].without == 0
    for way in ("watch", "path unit"):
        assert len(seen[way].away_s) == seen[way].rewrites


def test_conflist_rewritten_in_place_keeps_what_the_platform_wrote(make_node: MakeNode) -> None:
    """What the platform wrote last is there with us in it, and only half a file of its own makes an ADD fail."""
    ways = ("watch", "path unit", "drop-in")
    seen = rewriting.run({way: make_node() for way in ways}, LENGTH_S, ("at once", "in pieces"))
    for way, one in seen.items():
        assert one.lost == 0, way
        assert len(one.failures) == one.half_written, one.failures
