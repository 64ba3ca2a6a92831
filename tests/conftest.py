"""Fixtures: private nodes, see tests.support.node; and the marker of each test, which says what it needs.

`node` is a fresh node with the reference plugins 1.9.1; `make_node` makes more, or others. Both end with the test.
What tests have counted by `record_property` (faults injected, …) is summed up at the end.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.cni_calls import bridge, host_local
from tests.support.install import LINK, write
from tests.support.node import Node
from tests.support.node_files import DATA_DIR
from tests.support.programs import ROOT, Programs, find_programs

MakeNode = Callable[..., Node]

# On a busy machine an example may take any time. A test with a fixture of its function sees to it that examples do not mix.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("any machine")
settings.register_profile("quick", settings.get_profile("any machine"), max_examples=20)

NEEDS = {"machines": "machine", "release": "release", "runtimes": "runtime", "unit": "pure"}
"""Markers by the directory of the tests; elsewhere, and where tests/unit has a test of a private node, it is `node`."""


def marker(directory: str, fixtures: Collection[str]) -> str:
    """Return the marker of a test, by its directory below tests/ and the names of all its fixtures."""
    needs = NEEDS.get(directory, "node")
    return "node" if needs == "pure" and "programs" in fixtures else needs


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark each test with what it needs; pyproject.toml explains the markers."""
    item.add_marker(marker(item.path.relative_to(ROOT / "tests").parts[0], getattr(item, "fixturenames", ())))


@pytest.fixture(scope="session")
def programs() -> Programs:
    """The real programs the tests run; fails, and never skips, when one is missing."""
    return find_programs()


@pytest.fixture
def make_node(programs: Programs) -> Iterator[MakeNode]:
    """A function that makes nodes; its arguments are the version of the plugins, and rootless=True."""
    with contextlib.ExitStack() as nodes:

        def make(plugins: str = "1.9.1", *, rootless: bool | None = None) -> Node:
            return nodes.enter_context(Node(programs, plugins, rootless=rootless))

        yield make


@pytest.fixture
def node(make_node: MakeNode) -> Node:
    """A fresh private node."""
    return make_node()


@pytest.fixture
def bare(node: Node) -> Node:
    """A node with the reference plugins and a conflist, which has started pods before, and nothing of cni-reaper."""
    node.path(LINK).unlink()
    node.path(DATA_DIR).mkdir()
    write(node, [bridge(host_local("10.66.0.0/29")), {"type": "tuning"}])
    return node


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the sums of the numbers that tests have recorded."""
    sums: dict[str, int] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()) if getattr(report, "when", "") == "call" else ():
                if isinstance(value, int):
                    sums[name] = sums.get(name, 0) + value
    for name, total in sorted(sums.items()):
        terminalreporter.write_line(f"{name}: {total}")
