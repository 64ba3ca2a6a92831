"""The demo: shows what it promises, in a user namespace too, fails when anything is not so, leaves nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import demo
from tests.support.node import Node
from tests.support.programs import ROOT, Programs

DEMO = [sys.executable, "-m", "tests.demo"]


def of_the_machine() -> tuple[str, list[str], list[str]]:
    """Return what a node that is not private would change: mounts, links, names of network namespaces."""
    named = Path("/run/netns")
    links = sorted(entry.name for entry in Path("/sys/class/net").iterdir())
    names = sorted(entry.name for entry in named.iterdir()) if named.exists() else []
    return Path("/proc/self/mountinfo").read_text(), links, names


@pytest.mark.usefixtures("programs")
def test_demo_shows_a_full_node_heal() -> None:
    """The demo ends well, in plain text where there is no terminal, and the machine is as it was."""
    before = of_the_machine()
    ran = subprocess.run(DEMO, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    assert "no IP addresses available" in ran.stdout
    assert ran.stdout.count("event=reaped") == 5
    assert "\033" not in ran.stdout
    assert of_the_machine() == before


def test_demo_works_in_a_user_namespace(programs: Programs) -> None:
    """The story is the same in a user namespace, which is what one gets who is not root."""
    with Node(programs, rootless=True) as node:
        demo.Story(node, demo.Page(colour=False), json.loads(demo.EXAMPLE.read_text())).tell()


@pytest.mark.usefixtures("programs")
def test_demo_fails_when_nothing_is_reaped(tmp_path: Path) -> None:
    """With a plugin that reaps nothing in our place, the demo says what is wrong and ends with an exit code."""
    idle = tmp_path / "cni-reaper"
    idle.write_text("""#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion": "1.0.0"}'\nexit 0\n""")
    idle.chmod(0o755)
    environment = {**os.environ, "CNI_REAPER_EXECUTABLE": str(tmp_path / "cni-reaper")}
    ran = subprocess.run(DEMO, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 1
    assert "ADD of next should have succeeded" in ran.stderr
    assert "no IP addresses available" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_demo_says_how_to_get_what_is_missing(tmp_path: Path) -> None:
    """Without the frozen executable the demo names it and the command that builds it, in one line."""
    environment = {**os.environ, "CNI_REAPER_EXECUTABLE": str(tmp_path / "cni-reaper")}
    ran = subprocess.run(DEMO, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 1
    assert ran.stdout.count("\n") <= 2
    assert ran.stderr.count("\n") == 1
    assert "the frozen executable" in ran.stderr
    assert "./build.sh demo" in ran.stderr
