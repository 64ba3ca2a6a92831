"""What is packed into the executable: completions that their shells take, a man page that names everything, and the units."""

import argparse
import subprocess
from pathlib import Path

import pytest

from cni_reaper_plugin import __version__
from cni_reaper_plugin.operator import commandline
from tests.support.programs import ROOT, Programs

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
def test_shells_accept_the_completions(programs: Programs, tmp_path: Path, shell: str) -> None:
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


def test_man_page_names_every_option(programs: Programs) -> None:
    """Each command and each long option is in it, and troff has nothing to say against it."""
    page = subprocess.run([programs.reaper, "man"], capture_output=True, check=True, text=True).stdout
    formatted = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-rLL=200n", "-P-cbou"], input=page, capture_output=True, check=True, text=True
    )
    assert formatted.stderr == ""
    commands = next(one for one in commandline.parser()._actions if isinstance(one, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        assert f"cni-reaper {name}" in formatted.stdout
        for action in command._actions:
            for option in action.option_strings[-1:]:
                assert option in formatted.stdout or option == "--help", (name, option)


def test_units_are_printed_as_in_the_source(programs: Programs) -> None:
    """Each as it is in the source, by its name; all of them below comments with their paths; another name is refused."""
    files = sorted((ROOT / "packaging/systemd").iterdir())
    units = {path.name: path.read_text() for path in files if path.suffix in (".path", ".service", ".timer")}
    assert "cni-reaper-install.service" in units
    for name, text in units.items():
        assert subprocess.run([programs.reaper, "units", name], capture_output=True, check=True, text=True).stdout == text
    every = subprocess.run([programs.reaper, "units"], capture_output=True, check=True, text=True).stdout
    assert every == "\n".join(f"# /etc/systemd/system/{name}\n{text}" for name, text in units.items())
    ran = subprocess.run([programs.reaper, "units", "nothing.service"], capture_output=True, check=False, text=True)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert all(name in ran.stderr for name in ("nothing.service", *units))


def test_version_says_what_it_was_built_of(programs: Programs) -> None:
    """What it was built of, and the node it runs on."""
    told = subprocess.run([programs.reaper, "version", "--verbose"], capture_output=True, check=True, text=True).stdout
    first, *more = told.splitlines()
    assert first == f"cni-reaper {__version__}"
    assert {"commit", "python", "orjson", "rich", "system"} <= {line.partition(" ")[0] for line in more}
