"""What came of an install or uninstall, and the sentences about it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field

from cni_reaper_plugin.operator import advice
from cni_reaper_plugin.operator.conflists import atomic_edit
from cni_reaper_plugin.operator.conflists.conflist import ConflistError
from cni_reaper_plugin.operator.conflists.conflist_text import TextError
from cni_reaper_plugin.operator.conflists.entry import OptionsError
from cni_reaper_plugin.operator.install.register import InstallationError

TROUBLE = (ConflistError, TextError, OptionsError, InstallationError, OSError)


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        done: a sentence for each thing that has changed.
        problems: for each that could not be done.
        waiting: directories without a conflist.
        put: conflists that our entry was put into.
        there: those that it was in already.
        fresh: one of the files with a problem was written just now.
        notes: what a person should know, and no failure.
        is_placed: the executable is everywhere.
    """

    done: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    put: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    fresh: bool = False
    notes: list[str] = field(default_factory=list)
    is_placed: bool = True

    def tell(self, command: str, nothing: str) -> int:
        """Print it, and return the exit code. nothing: what to say when nothing was to be done."""
        for line in self.done:
            sys.stdout.write(line + "\n")
        for line in [*self.notes, *self.problems]:
            sys.stderr.write(f"cni-reaper {command}: {line}\n")
        if not self.done and not self.problems:
            sys.stdout.write(nothing + "\n")
        return 1 if self.problems else 0


def problem_of(path: str, error: Exception) -> str:
    """Return a sentence about what went wrong with a conflist, and what to do."""
    if isinstance(error, OptionsError):
        return f"{path}: the options are wrong: {error}; docs/options.md has them all."
    if isinstance(error, FileNotFoundError):
        missing = error.filename
        if isinstance(missing, str) and missing.startswith("/") and os.path.realpath(missing) != os.path.realpath(path):
            return f"{path}: {missing} is missing, or leads to nothing: make it, or remove the link."
        return f"{path}: there is no such file: name one that is there."
    if isinstance(error, atomic_edit.BusyError):
        return f"{path}: {error.strerror}."
    if isinstance(error, OSError):
        return f"{path} cannot be replaced ({error.strerror or error}): {advice.on(error)}."
    return f"{path}: {error}"
