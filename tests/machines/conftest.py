"""Machines to run scenarios on; only `./build.sh machines` provides what they boot, so only it collects these tests."""

import os
from collections.abc import Generator

import pytest

from tests.machines.kernels import CHOSEN, Kernel, kernels_of
from tests.machines.machine import Console, Machine, find

collect_ignore_glob = [] if os.environ.get("CNI_REAPER_MACHINES_DEBIAN") else ["test_*.py"]
if not CHOSEN:
    collect_ignore_glob += ["test_suites.py", "test_power_cuts.py", "test_reboots.py"]  # long: for `./build.sh kernels`
LONGEST = ("test_suites.py", "test_power_cuts.py")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test that needs a machine runs on each of its module's kernels, all tests of one kernel before the next."""
    if "machine" in metafunc.fixturenames:
        kernels = kernels_of(metafunc.module.__name__.rpartition(".")[2])
        metafunc.parametrize("machine", kernels, ids=str, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have one process run all tests of a boot, and the boots that take longest first, so that two processes end together."""
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec") and "machine" in item.callspec.params:
            item.add_marker(pytest.mark.xdist_group(f"{item.module.__name__} {item.callspec.params['machine']}"))
    if CHOSEN:
        items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> Machine:
    """A machine with one of the kernels; it boots for each scenario."""
    kernel: Kernel = request.param
    return Machine(find(kernel))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the console below a test that fails."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            for one in value if isinstance(value, list) else [value]:
                console = getattr(one, "console", one)
                if isinstance(console, Console):
                    report.sections.append((f"console: {name}", console.tail))
    return report
