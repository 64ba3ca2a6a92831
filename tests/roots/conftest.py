"""Nodes whose root is another system."""

from collections.abc import Iterator

import pytest

from tests.roots import systems
from tests.support.node import Node
from tests.support.programs import Programs


@pytest.fixture(params=systems.ALL)
def foreign(request: pytest.FixtureRequest, programs: Programs) -> Iterator[Node]:
    """A private node in the root of another system: nothing of this machine is in it but its kernel and the programs."""
    with Node(programs, root=systems.system(request.param)) as node:
        yield node
