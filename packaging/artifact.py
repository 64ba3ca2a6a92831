"""What all that is made of an executable needs to know: its architecture and its version; and sums of files."""

import hashlib
import sys
from pathlib import Path

from build_root import ROOT, BuildError

MACHINES = {62: "amd64", 183: "arm64"}
"""Debian's names of architectures by e_machine of the ELF header, elf(5)."""


def arch_of(executable: Path) -> str:
    """Return Debian's name of the architecture of an executable. Raises BuildError."""
    with executable.open("rb") as file:
        head = file.read(20)
    arch = MACHINES.get(int.from_bytes(head[18:20], "little")) if head.startswith(b"\x7fELF") else None
    if arch is None:
        raise BuildError(f"{executable} is not an executable of cni-reaper: name one that freeze.py has made.")
    return arch


def version() -> str:
    """Return the version of this tree."""
    sys.path.insert(0, str(ROOT))
    from cni_reaper_plugin import __version__

    return __version__


def write_sums(file: Path) -> None:
    """Write a file's .sha256 and .sha512 beside it."""
    for kind in ("sha256", "sha512"):
        digest = hashlib.new(kind, file.read_bytes()).hexdigest()
        file.with_name(f"{file.name}.{kind}").write_text(f"{digest}  {file.name}\n")
