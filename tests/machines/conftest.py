"""Machines to run scenarios on; only `./build.sh machines` provides what they boot, so only it collects these tests."""

import os
from collections.abc import Generator

import pytest

from tests.machines.machine import Console, Machine, find

collect_ignore_glob = [] if os.environ.get("CNI_REAPER_MACHINES_DEBIAN") else ["test_*.py"]


@pytest.fixture(scope="session")
def machine() -> Machine:
    """An arm64 machine, which boots for each scenario."""
    return Machine(find())


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
