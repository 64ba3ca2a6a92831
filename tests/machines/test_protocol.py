"""The CNI protocol on a real kernel: all verbs in all versions, and each tenth row of tests.conformance.test_protocol."""

import shlex

import pytest

from tests.conformance.protocol import REAPER, TABLE, Row, assert_row, every_verb_at_every_version
from tests.machines.machine import Console, Machine

LARGEST = 64 * 1024
"""Bytes of stdin: a row of ten megabytes says nothing about a kernel."""
ROWS = {
    str(row): row for row in [*every_verb_at_every_version(), *[row for row in TABLE if len(row.stdin or b"") <= LARGEST][::10]]
}


@pytest.fixture(scope="module")
def answers(machine: Machine) -> Console:
    """One boot in which every row is called; the steps are named by their number."""
    script = ["cp /root/cni-reaper /opt/cni/bin/", "pod pod"]
    stdins = {}
    for number, row in enumerate(ROWS.values()):
        environment = {"CNI_COMMAND": row.command or "", **row.environment}
        given = " ".join(shlex.quote(f"{name}={value}") for name, value in environment.items())
        script.append(f"step {number} env -i {given} {REAPER} </stdin/{number}")
        stdins[f"stdin/{number}"] = row.stdin or b""
    return machine.run("\n".join(script), stdins)


@pytest.mark.parametrize(("number", "row"), list(enumerate(ROWS.values())), ids=list(ROWS))
def test_answers_as_its_row_says(answers: Console, number: int, row: Row) -> None:
    """The executable answers as the row says."""
    assert_row(row, answers[str(number)])
