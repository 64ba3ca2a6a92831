"""Machines: qemu boots Debian's kernel with the executable, runs a scenario there, and returns what its steps have answered.

    console = Machine(programs.find()).run("step version /root/cni-reaper --version")
    console["version"].check()

A machine has one CPU, 512 MB, no disk and no network. All it holds is an initramfs: busybox, cnitool, the reference plugins
in /opt/cni/bin, the executable in /root, and what the scenario brings along. init.sh is its first process.
"""

import base64
import lzma
import os
import re
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.support.commands import Ran

BOUND_S = 1200
"""Seconds after which a machine is ended. A boot takes three to ten, a scenario one to two minutes on an idle host."""
TAIL = 60
MODULES = ("bridge", "veth")
DISK_MODULES = ("virtio_blk",)
DISK_SIZE = 64 << 20
"""Bytes of a disk; ext4 is part of the kernel."""
QEMU = (
    *("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-accel", "tcg", "-smp", "1", "-m", "512"),
    *("-display", "none", "-serial", "stdio", "-monitor", "none", "-nic", "none", "-no-reboot"),
)
ARGUMENTS = "console=ttyAMA0 quiet panic=-1"
"""Of the kernel; a panic ends the machine. The kernel gives init what it does not know itself as variables."""
INIT = Path(__file__).with_name("init.sh")
STEP = re.compile(r"^@step:([^:]*):(\d+):([\d.]+):([\d.]+):([^:]*):([^:]*)$")


@dataclass(frozen=True)
class Programs:
    """What a machine is made of.

    executable: cni-reaper, for the machine's architecture.
    debian: a directory in which Debian's kernel and busybox are unpacked.
    plugins: a directory of the reference plugins and cnitool.
    """

    executable: Path
    debian: Path
    plugins: Path


def find() -> Programs:
    """Find the programs for arm64 where `./build.sh machines` has put them.

    Raises:
        KeyError: a variable that `./build.sh machines` sets is not set.
    """
    return Programs(
        executable=Path(os.environ["CNI_REAPER_ARM64"]),
        debian=Path(os.environ["CNI_REAPER_MACHINES_DEBIAN"]),
        plugins=Path(os.environ["CNI_REAPER_MACHINES_PLUGINS"]),
    )


@dataclass(frozen=True)
class Console:
    """What a machine has written on its console."""

    text: str = field(repr=False)
    steps: Mapping[str, Ran] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", dict(_steps(self.text)))

    @property
    def complete(self) -> bool:
        """Whether the scenario has come to its end."""
        return "@end" in self.text.splitlines()

    @property
    def tail(self) -> str:
        """The last lines; what a step has said is readable there."""
        shown = [f"@step {_told(line)}" if STEP.match(line) else line for line in self.text.splitlines()]
        return "\n".join("\n".join(shown).splitlines()[-TAIL:])

    def __getitem__(self, name: str) -> Ran:
        """Return what a step has answered; fail the test where it has not run."""
        assert name in self.steps, f"no step {name!r} on the console:\n{self.tail}"
        return self.steps[name]


def _steps(text: str) -> Iterator[tuple[str, Ran]]:
    for line in text.splitlines():
        if match := STEP.match(line):
            name, code, begin, end, *streams = match.groups()
            out, err = map(base64.b64decode, streams)
            yield name, Ran([name], int(code), out, err, float(end) - float(begin))


def _told(line: str) -> str:
    return "\n".join(str(ran) for _, ran in _steps(line))


@dataclass(frozen=True)
class Disk:
    """An ext4 file system that outlives its machine, as the disk of a node does; what the machine had in memory is lost.

    file: its image. clock: what the machine's clock shows at the boot, in UTC, 2026-12-01T12:00:00; None is the host's clock.
    """

    file: Path
    clock: str | None = None

    @classmethod
    def make(cls, file: Path) -> Self:
        """Make an empty one in a new file."""
        with file.open("wb") as image:
            image.truncate(DISK_SIZE)
        subprocess.run(["/sbin/mkfs.ext4", "-q", file], check=True)
        return cls(file)

    def options(self) -> list[str]:
        """Return qemu's options for it."""
        clock = ["-rtc", f"base={self.clock}"] if self.clock else []
        return [*clock, "-drive", f"file={self.file},format=raw,if=virtio,cache=writeback"]


@dataclass(frozen=True)
class Cut:
    """The moment at which a machine loses its power: so many seconds after a line on its console."""

    line: str
    after_s: float


class Machine:
    """Boots arm64 machines."""

    def __init__(self, programs: Programs) -> None:
        """Read the programs, which is the same for every boot."""
        (self._kernel,) = (programs.debian / "boot").glob("vmlinuz-*")
        self._files = {
            "init": INIT.read_bytes(),
            "bin/busybox": (programs.debian / "usr/bin/busybox").read_bytes(),
            "bin/cnitool": (programs.plugins / "cnitool").read_bytes(),
            "root/cni-reaper": programs.executable.read_bytes(),
        }
        for plugin in programs.plugins.iterdir():
            if plugin.name != "cnitool":
                self._files[f"opt/cni/bin/{plugin.name}"] = plugin.read_bytes()
        self._modules = programs.debian / "usr/lib/modules"

    def run(
        self,
        scenario: str,
        files: Mapping[str, bytes] | None = None,
        modules: tuple[str, ...] = (),
        bound_s: int = BOUND_S,
        *,
        disk: Disk | None = None,
        cut: Cut | None = None,
    ) -> Console:
        """Boot, run a scenario, power off.

        Args:
            scenario: a script for busybox' sh; init.sh says what it can use.
            files: more files of the machine, by their path without the first slash.
            modules: of the kernel, loaded after MODULES.
            bound_s: seconds after which the machine is ended.
            disk: the machine's /dev/vda, and the clock with which it boots.
            cut: when the power goes; the scenario never ends then.

        Raises:
            AssertionError: the scenario did not come to its end, or to the cut; the console's tail says how far it came.
        """
        modules = (*modules, *DISK_MODULES) if disk else modules
        kernel = _modules(self._modules, (*MODULES, *modules))
        loaded = {f"modules/{name}.ko": data for name, data in kernel.items()}
        loaded["modules/order"] = "".join(f"{name}.ko\n" for name in kernel).encode()
        initramfs = archive({**self._files, **loaded, **(files or {}), "scenario": scenario.encode(errors="surrogateescape")})
        with tempfile.NamedTemporaryFile(prefix="initramfs-") as file:
            file.write(initramfs)
            file.flush()
            boot = ["-kernel", str(self._kernel), "-initrd", file.name, "-append", f"{ARGUMENTS} BOUND_S={bound_s}"]
            with subprocess.Popen(
                [*QEMU, *boot, *(disk.options() if disk else ())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            ) as qemu:
                console = Console(_watched(qemu, bound_s, cut))
        reached = cut.line in console.text.splitlines() if cut else console.complete
        assert reached, f"the scenario did not come to its {'cut' if cut else 'end'}; the console's tail:\n{console.tail}"
        return console


def _watched(qemu: subprocess.Popen[bytes], bound_s: int, cut: Cut | None) -> str:
    """Return what qemu has written until it ended, was cut or ran into the bound."""
    assert qemu.stdout
    bound = threading.Timer(bound_s + 120, qemu.kill)
    bound.start()
    lines = []
    for data in qemu.stdout:
        lines.append(data.decode(errors="replace").rstrip("\r\n"))
        if cut and lines[-1] == cut.line:
            threading.Timer(cut.after_s, qemu.kill).start()
    bound.cancel()
    return "\n".join(lines)


def _modules(below: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return modules and what they depend on, unpacked, in the order in which they can be loaded."""
    found = {file.name.partition(".")[0].replace("-", "_"): file for file in below.rglob("*.ko*")}
    order: dict[str, bytes] = {}

    def need(name: str) -> None:
        file = found[name]
        data = lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()
        depends = re.search(rb"\0depends=([^\0]*)\0", data)
        assert depends, f"{file} does not say what it depends on"
        for other in filter(None, depends[1].decode().split(",")):
            need(other)
        order[name] = data

    for name in names:
        need(name)
    return order


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return an initramfs (cpio's format newc): these files, all executable, and the directories in which they are."""
    directories = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    directories |= {"proc", "sys", "dev", "run", "tmp"}
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in sorted(directories)]
    entries += [(name, stat.S_IFREG | 0o755, data) for name, data in files.items()]
    packed = bytearray()
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")]):
        path = name.encode() + b"\0"
        #       inode, mode, uid, gid, links, mtime, size, the device's four numbers, length of the name, checksum
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        packed += b"070701" + b"".join(b"%08x" % value for value in fields) + path
        packed += bytes(-len(packed) % 4) + data
        packed += bytes(-len(packed) % 4)
    return bytes(packed)
