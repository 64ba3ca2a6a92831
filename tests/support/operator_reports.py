"""What `doctor` and `audit` print as JSON."""

import json

from tests.support.cni_calls import BIN, NET_D
from tests.support.commands import Ran
from tests.support.node import Node
from tests.support.programs import ROOT

AUDIT_SCHEMA = json.loads((ROOT / "docs" / "audit.schema.json").read_bytes())

EXECUTABLE = f"{BIN}/cni-reaper"

LEVELS = ("ok", "note", "warning", "error")


def doctor(node: Node, *arguments: str, within: tuple[str, ...] = ()) -> Ran:
    """Run the command; what follows `--conf-dir` and `--bin-dir` is the node's own unless given."""
    given = [*arguments]
    for option, directory in (("--conf-dir", NET_D), ("--bin-dir", BIN)):
        given += [] if option in given else [option, directory]
    return node.run([*within, EXECUTABLE, "doctor", *given])


def findings_of(node: Node, *arguments: str, within: tuple[str, ...] = ()) -> dict[str, list[dict[str, str]]]:
    """Run it with --json, see that the exit code is that of the gravest finding, and return the findings by key."""
    ran = doctor(node, "--json", *arguments, within=within)
    told = json.loads(ran.out)
    assert set(told) == {"findings"}
    by_key: dict[str, list[dict[str, str]]] = {}
    for one in told["findings"]:
        assert set(one) == {"level", "key", "subject", "finding", "advice"}
        assert one["level"] in ("ok", "note") or one["advice"], one
        by_key.setdefault(one["key"], []).append(one)
    gravest = max(LEVELS.index(one["level"]) for one in told["findings"])
    assert ran.rc == max(0, gravest - 1), str(ran)
    assert ran.err == b""
    return by_key
