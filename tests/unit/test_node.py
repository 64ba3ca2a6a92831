"""What the tests read of a node while runtimes go on in it."""

from tests.support.node import Node
from tests.support.node_files import DATA_DIR


def test_reservation_that_goes_while_it_is_read_was_never_there(node: Node) -> None:
    """A pod that ends between the directory's list and the file's content does not fail a test that waits for its end."""
    node.reserve("net", "10.9.0.2", "living")
    node.path(f"{DATA_DIR}/net/10.9.0.3").symlink_to("gone")  # what a file looks like that has gone since
    assert node.reservations("net") == {"10.9.0.2": ("living", "eth0")}
