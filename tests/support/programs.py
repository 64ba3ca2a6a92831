"""The real programs that the tests run: where they are, and how to get one that is missing.

`./build.sh test` and `./build.sh demo` set them up and say in the environment where; without it they are looked for
where build.sh puts them. A test never skips for want of a program: it fails with the command that provides it.
"""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class MissingProgramError(Exception):
    """A program is missing; the message says which, where it was looked for and how to get it."""


@dataclass(frozen=True)
class Programs:
    """Paths of the programs; `reaper` is the frozen executable, `plugins` and `plugins_old` are directories."""

    reaper: Path
    plugins: Path
    plugins_old: Path
    cnitool: Path
    scripts: Path | None

    def version(self, which: str) -> Path:
        """Return the directory of the reference plugins "1.9.1" or "1.1.1"."""
        return {"1.9.1": self.plugins, "1.1.1": self.plugins_old}[which]


def _present(path: Path, what: str) -> Path:
    if not path.exists():
        message = f"{what} is not at {path}: `./build.sh test` builds and installs all that the tests need"
        raise MissingProgramError(message)
    return path


def find_programs(*, old: bool = True) -> Programs:
    """Find the programs.

    Args:
        old: whether Debian's old reference plugins and the cni scripts are needed as well.

    Raises:
        MissingProgramError: one is not there.
    """

    def place(variable: str, default: Path) -> Path:
        return Path(os.environ.get(variable) or default)

    build = ROOT / ".build" / "go"
    reaper = place("CNI_REAPER_EXECUTABLE", ROOT / "dist" / "cni-reaper")
    plugins = place("CNI_REAPER_PLUGINS", build / "bin-cni-1.9.1")
    plugins_old = place("CNI_REAPER_PLUGINS_OLD", ROOT / ".build" / "plugins-debian" / "usr" / "lib" / "cni")
    cnitool = place("CNI_REAPER_CNITOOL", build / "bin" / "cnitool")
    scripts = os.environ.get("CNI_REAPER_CNI_SCRIPTS")
    _present(plugins / "host-local", "the CNI reference plugin host-local")
    if old:
        _present(plugins_old / "host-local", "Debian's CNI reference plugin host-local")
    return Programs(
        reaper=_present(reaper, "the frozen executable"),
        plugins=plugins,
        plugins_old=plugins_old,
        cnitool=_present(cnitool, "cnitool"),
        scripts=Path(scripts) if scripts else None,
    )


def strict_readers() -> tuple[Path, Path]:
    """Find what fails at a file that a power cut has left: cnitool with libcni 1.1.2, and flannel's plugin 0.9.1.

    Raises:
        MissingProgramError: one is not there.
    """
    build = ROOT / ".build" / "go"
    cnitool = Path(os.environ.get("CNI_REAPER_CNITOOL_STRICT") or build / "bin-cnitool-1.1.2" / "cnitool")
    flannel = Path(os.environ.get("CNI_REAPER_FLANNEL") or build / "bin-flannel-0.9.1" / "flannel")
    return _present(cnitool, "cnitool with libcni 1.1.2"), _present(flannel, "flannel's plugin 0.9.1")
