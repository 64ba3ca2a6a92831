"""What the freeze makes of the commands' parser: completions that their shells take, and a man page that names everything."""

import argparse
import subprocess
from pathlib import Path

import pytest

from cni_reaper_plugin.operator import commandline
from tests.neighbours import Neighbours

COMPLETE = {
    "bash": [
        "bash",
        "-c",
        'source "$0"; COMP_WORDS=(cni-reaper au); COMP_CWORD=1; _shtab_cni_reaper cni-reaper au; echo "${COMPREPLY[@]}"',
    ],
    "zsh": ["zsh", "-fc", 'autoload -U compinit; compinit -D; source "$0"; whence -w _shtab_cni_reaper'],
    "fish": ["fish", "-Nc", 'source "$argv[1]"; complete -C "cni-reaper au"'],
}
SAYS = {"bash": "audit", "zsh": "function", "fish": "audit"}


@pytest.mark.parametrize("shell", commandline.SHELLS)
def test_completions(programs: Neighbours, tmp_path: Path, shell: str) -> None:
    """The shell itself reads the script, and knows the commands from it."""
    script = tmp_path / f"completion.{shell}"
    printed = subprocess.run([programs.reaper, "completion", shell], capture_output=True, check=True)
    script.write_bytes(printed.stdout)
    ran = subprocess.run(
        [*COMPLETE[shell], script],
        capture_output=True,
        check=True,
        text=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert SAYS[shell] in ran.stdout, ran


def test_the_man_page(programs: Neighbours) -> None:
    """Each command and each long option is in it, and troff has nothing to say against it."""
    page = programs.reaper.parent / "_internal" / "share" / "cni-reaper.8"
    formatted = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-rLL=200n", "-P-cbou", page], capture_output=True, check=True, text=True
    )
    assert formatted.stderr == ""
    commands = next(one for one in commandline.parser()._actions if isinstance(one, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        assert f"cni-reaper {name}" in formatted.stdout
        for action in command._actions:
            for option in action.option_strings[-1:]:
                assert option in formatted.stdout or option == "--help", (name, option)
