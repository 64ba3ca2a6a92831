"""What GitHub runs: the verbs of build.sh, with actions and permissions that nobody else can change."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.programs import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").iterdir())
USAGE = (ROOT / "build.sh").read_text().split("TEXT\n")[0]
VERB = re.compile(r"\./build\.sh ([a-z0-9-]+)")


def jobs(workflow: Path) -> dict[str, dict[str, Any]]:
    """Return the jobs of a workflow by name."""
    read: dict[str, dict[str, Any]] = yaml.safe_load(workflow.read_text())["jobs"]
    return read


def test_every_verb_of_ci_has_a_workflow() -> None:
    """What .ci/run runs, some workflow runs; and the release, which only a tag starts."""
    in_ci = set(VERB.findall((ROOT / ".ci/run").read_text()))
    assert {verb for path in WORKFLOWS for verb in VERB.findall(path.read_text())} == {*in_ci, "release"}
    assert {"lint", "unit", "test"} <= in_ci


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
class TestWorkflow:
    """One workflow."""

    def test_its_verbs_are_verbs_of_build_sh(self, workflow: Path) -> None:
        """A verb that is renamed is renamed here as well."""
        for verb in VERB.findall(workflow.read_text()):
            assert re.search(rf"^  {verb} ", USAGE, re.MULTILINE), verb

    def test_actions_are_pinned(self, workflow: Path) -> None:
        """An action is named by its commit, and its version stands beside it: a tag can be moved."""
        uses = re.findall(r"uses: (.*)", workflow.read_text())
        assert uses
        assert [one for one in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []

    def test_it_may_only_read(self, workflow: Path) -> None:
        """A job that runs code of a pull request cannot write to the repository, nor read the token."""
        text = workflow.read_text()
        assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
        writing = [name for name, job in jobs(workflow).items() if "write" in job.get("permissions", {}).values()]
        assert writing == (["draft"] if workflow.name == "release.yml" else [])
        for name in writing:
            assert "checkout" not in str(jobs(workflow)[name])
        assert text.count("actions/checkout@") == text.count("persist-credentials: false")

    def test_every_job_ends(self, workflow: Path) -> None:
        """A job that hangs is stopped, sooner than after GitHub's six hours."""
        assert [name for name, job in jobs(workflow).items() if not 0 < job.get("timeout-minutes", 0) <= 180] == []


def test_actions_of_one_version() -> None:
    """Each action has the same commit in all workflows."""
    used = {tuple(one.split("@")) for path in WORKFLOWS for one in re.findall(r"uses: (\S+)", path.read_text())}
    assert len(used) == len({name for name, _ in used})


def test_an_issue_asks_for_what_is_needed() -> None:
    """A report of a fault asks for doctor, explain, the log line and the versions."""
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    wanted = {"doctor --json", "explain ADDRESS", "log line", "version --verbose", "SECURITY.md"}
    assert {one for one in wanted if one not in str(form)} == set()
