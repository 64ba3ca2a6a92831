r"""The CNI protocol as a table: command, environment and stdin on the left; exit code, error code and what is named on the right.

Each row is one call of the frozen executable in a private node, so options may have their defaults. Every answer is held to
the same form, see tests.conformance.answers: exit 0 with a result, or exit 1 with one error object; stderr stays empty.

Where SPEC 1.1.0 and Go's skel (containernetworking/cni 3f51e88) differ, `follows` says who is followed and why. A NUL can reach
us only as `\u0000` in JSON: execve(2) ends a variable at the first one.
"""

import sys
from collections.abc import Iterator, Mapping

import pytest

from tests.conformance.answers import VERSIONS, the_document, the_error
from tests.conformance.protocol import COMPLETE, IO, LATEST, REAPER, TABLE, VERBS, Row, assert_row, config, given
from tests.support.commands import Ran
from tests.support.node import Node
from tests.support.programs import Programs


@pytest.fixture(scope="module")
def pod_node(programs: Programs) -> Iterator[Node]:
    """One private node for the whole table, with a pod's netns at /run/netns/pod."""
    with Node(programs) as node:
        node.pod("pod")
        yield node


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_answers_as_its_row_says(pod_node: Node, row: Row) -> None:
    """The frozen executable answers one row of the table as it stands there."""
    assert_row(row, pod_node.run([REAPER], env={"CNI_COMMAND": row.command or "", **row.environment}, stdin=row.stdin))


def test_no_two_rows_are_alike() -> None:
    """Each row has a name of its own, by which it can be run."""
    names = [str(row) for row in TABLE]
    assert sorted(set(names)) == sorted(names)


def shell(
    node: Node,
    script: str,
    command: str | None = "VERSION",
    stdin: bytes | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ran:
    """Run a line of shell in the node; "$0" is the frozen executable."""
    env = {**(environment or {}), **({"CNI_COMMAND": command} if command is not None else {})}
    return node.run(["sh", "-c", script, REAPER], env=env, stdin=stdin)


NEWEST = {"cniVersion": LATEST, "supportedVersions": list(VERSIONS)}

EVENTFD = "import os, sys; os.dup2(os.eventfd(0), 0); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.mark.parametrize(
    "script",
    [
        'mkfifo /run/silent-$$; exec 3<>/run/silent-$$; exec "$0" <&3',
        'exec "$0" <&-',
        'exec "$0" </dev/null',
        'exec "$0" </dev/zero',
        'exec "$0" <&- 2>&-',
        'exec "$0" </dev/ptmx',
        f"exec timeout 100 {sys.executable} -c '{EVENTFD}' \"$0\"",
    ],
    ids=["open and silent", "closed", "/dev/null", "/dev/zero", "closed, as stderr is", "a silent terminal", "an eventfd"],
)
def test_version_needs_no_stdin(pod_node: Node, script: str) -> None:
    """VERSION answers whatever stdin is, also where nothing will ever come."""
    ran = shell(pod_node, script).check()
    assert the_document(ran.out) == NEWEST
    assert ran.err == b""


@pytest.mark.parametrize("command", VERBS)
@pytest.mark.parametrize("stdin", ["<&-", "0>/run/write-only"], ids=["closed", "only for writing"])
def test_unreadable_stdin_is_error_5(pod_node: Node, command: str, stdin: str) -> None:
    """A verb that needs stdin says with error 5 that it cannot read it."""
    ran = shell(pod_node, f'exec "$0" {stdin}', command, environment=given(command))
    assert (ran.rc, ran.err) == (1, b""), str(ran)
    error = the_error(ran.out)
    assert error["code"] == IO, str(ran)
    assert "stdin" in error["msg"]


@pytest.mark.parametrize("command", [*VERBS, "VERSION", "FOO"])
@pytest.mark.parametrize("stdout", [">&-", ">/dev/full", ">&- 2>&-"], ids=["closed", "full", "closed, as stderr is"])
def test_unwritable_stdout_exits_1_without_traceback(pod_node: Node, command: str, stdout: str) -> None:
    """Nobody can read the answer: exit 1 where there is one to give, and no traceback."""
    ran = shell(pod_node, f'exec "$0" {stdout}', command, config(command), given(command if command in VERBS else "ADD"))
    silent = command in ("DEL", "CHECK", "GC", "STATUS")
    assert ran.rc == (0 if silent else 1), str(ran)
    assert ran.text == "", str(ran)


def test_closed_stdout_shows_no_traceback(pod_node: Node) -> None:
    """A runtime that has gone away leaves a broken pipe: no traceback, and nothing hangs."""
    ran = shell(pod_node, '"$0" | true', "ADD", config("ADD", prevResult={"x": "y" * 1_000_000}), COMPLETE).check()
    assert ran.text == "", str(ran)


@pytest.mark.parametrize("command", [None, ""], ids=["unset", "empty"])
def test_no_arguments_print_versions_on_stderr(pod_node: Node, command: str | None) -> None:
    """Without CNI_COMMAND and arguments it says on stderr what it is and which versions it speaks; stdout stays empty."""
    ran = shell(pod_node, 'exec "$0"', command).check()
    assert ran.out == b""
    assert b"cni-reaper" in ran.err
    assert ", ".join(VERSIONS).encode() in ran.err


@pytest.mark.parametrize(
    ("arguments", "rc", "says"), [("--help", 0, "conflist"), ("-h", 0, "conflist"), ("--version", 0, "cni-reaper ")]
)
def test_argument_is_answered_on_stdout(pod_node: Node, arguments: str, rc: int, says: str) -> None:
    """A person who runs it with an argument gets an answer on stdout."""
    ran = shell(pod_node, f'exec "$0" {arguments}', None)
    assert (ran.rc, ran.err) == (rc, b""), str(ran)
    assert says in ran.out.decode()


@pytest.mark.parametrize("arguments", ["--no-such-option", "frobnicate", "ADD", "--version=7"])
def test_wrong_command_line_exits_2_without_traceback(pod_node: Node, arguments: str) -> None:
    """A command line that is none exits 2, names what is wrong on stderr and shows no traceback."""
    ran = shell(pod_node, f'exec "$0" {arguments}', None)
    assert (ran.rc, ran.out) == (2, b""), str(ran)
    assert arguments.partition("=")[0] in ran.err.decode()
    assert b"Traceback" not in ran.err


@pytest.mark.parametrize("stdout", [">&-", ">/dev/full"], ids=["closed", "full"])
@pytest.mark.parametrize("arguments", ["--help", "--version"])
def test_command_line_without_stdout_shows_no_traceback(pod_node: Node, arguments: str, stdout: str) -> None:
    """A person whose terminal is gone gets no traceback either."""
    ran = shell(pod_node, f'exec "$0" {arguments} {stdout}', None)
    assert ran.rc in (0, 1), str(ran)
    assert b"Traceback" not in ran.err, str(ran)


def test_command_beats_arguments(pod_node: Node) -> None:
    """CNI_COMMAND is the runtime's, whatever arguments there are."""
    ran = shell(pod_node, 'exec "$0" --help', stdin=b'{"cniVersion":"0.3.1"}').check()
    assert the_document(ran.out) == {**NEWEST, "cniVersion": "0.3.1"}
