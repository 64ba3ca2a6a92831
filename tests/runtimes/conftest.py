"""Only `./build.sh e2e` builds and installs the runtimes, so only it collects these tests; it never skips one."""

from collections.abc import Iterator

import pytest

from tests.conftest import MakeNode
from tests.runtimes import programs
from tests.runtimes.cgroups import own_cgroups
from tests.runtimes.containerd import NEW, OLD, Containerd
from tests.support.node import Node

collect_ignore_glob = [] if programs.given() else ["test_*.py"]


@pytest.fixture
def node(make_node: MakeNode) -> Iterator[Node]:
    """A fresh private node whose processes have cgroups of their own."""
    made = make_node()
    with own_cgroups(made):
        yield made


@pytest.fixture(params=[NEW, OLD])
def containerd(node: Node, request: pytest.FixtureRequest) -> Containerd:
    """A containerd of the node, not started yet: it wants a conflist first."""
    return Containerd(node, request.param)


@pytest.fixture(params=[False, True], ids=["without us", "with us"])
def us(request: pytest.FixtureRequest) -> bool:
    """Whether cni-reaper is at the head of the chain."""
    with_us: bool = request.param
    return with_us
