"""The programs that are timed, each copied anew: the way its file lies in the page cache counts as much as a change of code.

A file that was written in one piece lies there in large folios and starts faster than one that was read page by page since the
last boot. So all executables that are compared are written in the same way, just before the rows are run.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.cni_calls import BIN

OURS = "cni-reaper"
BESIDE = "cni-reaper-beside"


@dataclass(frozen=True)
class Programs:
    """Paths as text, so that they pass through JSON; "" for what there is not.

    reaper, beside: executables of cni-reaper, the build that is measured and one to compare it with; python, libpython: the bare
    interpreter and its shared library; nothing: a C program that does nothing.
    """

    reaper: str
    beside: str
    python: str
    libpython: str
    nothing: str
    cnitool: str

    def builds(self) -> list[str]:
        """Return the names in CNI_PATH of the builds that are measured."""
        return [OURS, BESIDE] if self.beside else [OURS]


def bare_python() -> tuple[str, str]:
    """Return the Python that runs this, as installed and not as in its virtual environment, and its shared library."""
    python = Path(sys.executable).resolve()
    needed = subprocess.run(["ldd", python], capture_output=True, text=True).stdout  # of a static one it fails
    found = re.search(r"libpython\S* => (\S+)", needed)
    return str(python), found[1] if found else ""


def files_of(executable: Path) -> list[Path]:
    """Return the files of a build: its executable, or all of a bundle's directory, as up to 0.1.0."""
    if not (executable.parent / "_internal").is_dir():
        return [executable]
    return [file for file in executable.parent.rglob("*") if file.is_file() and not file.is_symlink()]


def copy_in_one_piece(source: str | Path, target: str | Path) -> None:
    """Copy a file and its mode by a single write."""
    data = Path(source).read_bytes()
    with open(target, "xb", buffering=0) as file:
        written = file.write(data)
        os.fchmod(file.fileno(), os.stat(source).st_mode & 0o7777)
    if written != len(data):
        message = f"{target}: {written} of {len(data)} bytes were written"
        raise OSError(message)


def copy_anew(programs: Programs, disk: str) -> Programs:
    """Copy all programs into a directory on a disk, and make those of CNI_PATH symlinks to their copies; return the copies."""
    into = Path(disk) / "programs"
    plugins = {entry.name: entry.resolve() for entry in Path(BIN).iterdir()} | {OURS: Path(programs.reaper)}
    if programs.beside:
        plugins[BESIDE] = Path(programs.beside)
    placed = {name: _copy(plugin, into / name) for name, plugin in plugins.items()}
    for name, copy in placed.items():
        (Path(BIN) / name).unlink(missing_ok=True)
        (Path(BIN) / name).symlink_to(copy)
    copied = replace(
        programs,
        reaper=str(placed[OURS]),
        beside=str(placed.get(BESIDE, "")),
        python=str(_copy(Path(programs.python), into / "python" / "bin")),
        libpython=programs.libpython and str(_copy(Path(programs.libpython), into / "python" / "lib")),
        nothing=str(_copy(Path(programs.nothing), into / "nothing")),
        cnitool=str(_copy(Path(programs.cnitool), into / "cnitool")),
    )
    os.sync()
    return copied


def _copy(executable: Path, into: Path) -> Path:
    """Copy an executable, with its bundle if it has one, into a new directory; return the copy's path."""
    if (executable.parent / "_internal").is_dir():
        shutil.copytree(executable.parent, into, symlinks=True, copy_function=copy_in_one_piece)
    else:
        into.mkdir(parents=True)
        copy_in_one_piece(executable, into / executable.name)
    return into / executable.name


def size_bytes(executable: str) -> int:
    """Return the size of a build, all its files together."""
    return sum(file.stat().st_size for file in files_of(Path(executable)))
