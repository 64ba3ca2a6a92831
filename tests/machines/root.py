"""A whole Debian root for machines, in which our own tests run: two disks, which no machine changes.

/               Debian 13 with Python and what tests.e2e calls; its packages are unpacked, and none of their scripts has run
/clone          this clone's package, tests and executable, the tests' Python packages and the plugins
/clone/modules  the kernel's modules, so that it loads what it is asked for
"""

import contextlib
import importlib.metadata
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.machines.machine import Console, Machine
from tests.support.programs import ROOT

sys.path.insert(0, str(ROOT / "packaging"))
import build_root

from tests.machines import fetch

HERE = Path(__file__).parent
TESTS_NEED = ("pytest", "pyroute2")
MEMORY_MB = 1536
BOOT = """
mkdir /new
mount -t ext4 -o noatime /dev/vda /new
mount -t ext4 -o noatime /dev/vdb /new/clone
mount --move /run /new/run
cp /inside /new/run/scenario
mount --bind /new/clone/modules /new/usr/lib/modules
umount -l /dev /sys /proc
exec switch_root /new /bin/bash /clone/tests/machines/root.sh
"""
PROGRAMS = {
    "PYTHONPATH": "/clone/site",
    "PYTHONDONTWRITEBYTECODE": "1",
    "CNI_REAPER_EXECUTABLE": "/clone/programs/cni-reaper",
    "CNI_REAPER_PLUGINS": "/clone/programs/plugins",
    "CNI_REAPER_CNITOOL": "/clone/programs/cnitool",
    "CNI_REAPER_PLUGINS_OLD": "/plugins-debian",
}


class Root:
    """Boots machines of one kernel with a whole Debian root."""

    def __init__(self, machine: Machine) -> None:
        """Choose the kernel."""
        self._machine = machine

    @contextlib.contextmanager
    def _images(self) -> Iterator[tuple[Path, Path]]:
        """Make the disks; the second one, hundreds of MB, is gone afterwards. Raises build_root.BuildError."""
        with tempfile.TemporaryDirectory(prefix="cni-reaper-clone-") as scratch:
            clone = fetch.image(self._clone(Path(scratch)), Path(scratch) / "image")
            shutil.rmtree(Path(scratch) / "clone")
            yield fetch.root_for(self._machine.kernel.architecture), clone

    def _clone(self, scratch: Path) -> Path:
        """Make the second disk's directory."""
        clone, programs = scratch / "clone", self._machine.programs
        for name in ("cni_reaper_plugin", "packaging", "tests"):
            shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", clone)
        for file in _python_packages(TESTS_NEED):
            (clone / "site" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), clone / "site" / file)
        shutil.copytree(programs.plugins, clone / "programs/plugins", ignore=shutil.ignore_patterns("cnitool"))
        shutil.copy(programs.plugins / "cnitool", clone / "programs")
        shutil.copy(programs.executable, clone / "programs")
        fetch.compile_below(clone)
        shutil.copytree(self._machine.modules, clone / "modules")
        (version,) = (one.name for one in (clone / "modules").iterdir())
        (clone / "lib").mkdir()  # depmod wants to find the modules below lib
        (clone / "lib/modules").symlink_to("../modules")
        build_root.run("/sbin/depmod", "-b", clone, version)
        return clone

    def run(self, scenario: str, bound_s: int) -> Console:
        """Boot, run a scenario, power off; root.sh says what it can use.

        Raises:
            build_root.BuildError: the disks cannot be made.
            AssertionError: as Machine.run.
        """
        files = {"inside": scenario.encode()}
        with self._images() as images:
            return self._machine.run(BOOT, files, bound_s=bound_s, images=images, memory_mb=MEMORY_MB)


def _python_packages(names: tuple[str, ...]) -> Iterator[importlib.metadata.PackagePath]:
    """Yield the files of Python packages of this environment, and of all that they need."""
    wanted, seen = list(names), set[str]()
    while wanted:
        name = wanted.pop().lower()
        if name in seen:
            continue
        seen.add(name)
        found = importlib.metadata.distribution(name)
        yield from (file for file in found.files or () if file.suffix == ".py" or "dist-info" in file.parts[0])
        for need in found.requires or ():
            words = re.match(r"([\w.-]+)([^;]*)(;.*)?$", need)
            if words and not words[3]:  # with a condition it is for another Python, another system or an extra
                wanted.append(words[1])
