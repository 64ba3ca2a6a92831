"""Our own tests on other kernels: those of tests.e2e and tests.conformance that need no runtime, in a whole Debian root.

They are chosen for what a kernel decides: which network namespaces there are, whose they are, what they show; and for each
kind of living pod. CNI_REAPER_MACHINES_SUITES has other arguments of pytest instead.
"""

import os
import re
import shlex
from collections.abc import Callable

import pytest

from tests.machines.machine import Console, Machine
from tests.machines.root import PROGRAMS, Root

BOUND_S = 3600
E2E = "tests/e2e/test_"
SUITES = {
    "kept": f"{E2E}keeps.py --deselect {E2E}keeps.py::test_live_pods_keep_addresses_through_200_cycles",
    "healed": f"{E2E}heals.py -k 'not 24 and not 1.1.1'",
    "views": f"{E2E}views.py",
    "whose": f"{E2E}whose_netns.py",
    "stores": f"{E2E}stores.py -k 'elsewhere or link or dead_is_freed'",
    "published": f"{E2E}published.py -k '(leads_to_nobody and 1.9.1) or (each_place and second) or flow_does_not'",
    "verbs": "tests/conformance/test_check_gc_status.py",
}
if GIVEN := os.environ.get("CNI_REAPER_MACHINES_SUITES"):
    SUITES = {"given": GIVEN}
SINCE = {
    "ns_get_id": (6, 18),
    "fine_times": (6, 13),
    "statmount": (6, 8),
    "descriptors_counted": (6, 2),
    "number_of_a_descriptor": (5, 14),
    "pidfd": (5, 3),
    "addresses_of_another_netns": (4, 20),
}
"""What tests.machines.probe asks for, and since which Linux it is there."""
PYTEST = "python3 -m pytest -q -p no:cacheprovider -p no:hypothesispytest -W ignore::DeprecationWarning --durations=10"


@pytest.fixture(scope="module")
def suites(machine: Machine) -> Console:
    """One boot, in which all suites run, one after the other."""
    environment = " ".join(shlex.quote(f"{name}={value}") for name, value in PROGRAMS.items())
    scenario = [
        "cd /clone",
        "step probe python3 tests/machines/probe.py",
        *(f"step '{suite}' env {environment} {PYTEST} {arguments}" for suite, arguments in SUITES.items()),
    ]
    return Root(machine).run("\n".join(scenario), BOUND_S)


@pytest.mark.parametrize("what", SINCE)
def test_what_the_kernel_has(suites: Console, machine: Machine, what: str) -> None:
    """It has what its version says, and lacks the rest: there cni-reaper goes another way, and the suites pass with that."""
    assert suites["probe"].check().json()[what] == (machine.kernel.numbers >= SINCE[what])


@pytest.mark.parametrize("suite", SUITES)
def test_suite(suites: Console, machine: Machine, suite: str, record_property: Callable[[str, object], None]) -> None:
    """Each of its tests passes."""
    ran = suites[suite].check()
    passed = re.search(r"^(\d+) passed", ran.out.decode(), re.MULTILINE)
    assert passed, str(ran)
    record_property(f"{machine.kernel}, {suite}: seconds", int(ran.seconds))
    record_property(f"{machine.kernel}, {suite}: tests passed", int(passed[1]))
