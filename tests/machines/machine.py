"""Machines: qemu boots Debian's kernel with the executable, runs a scenario there, and returns what its steps have answered.

    console = Machine(find(OLDEST)).run("step version /root/cni-reaper --version")
    console["version"].check()

A machine has one CPU, 512 MB, no network, and a disk where a test gives it one. Else all it holds is an initramfs: busybox,
cnitool, the reference plugins in /opt/cni/bin, the executable in /root, and what the scenario brings along. init.sh is its first
process.
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

from tests.machines.kernels import NEWEST_SUITE, Kernel
from tests.support.commands import Ran

BOUND_S = 1200
"""Seconds after which a machine is ended. A boot takes three to ten, a scenario one to two minutes on an idle host."""
TAIL = 60
PLUGINS = ("bridge", "host-local", "loopback", "portmap")
MODULES = ("bridge", "veth")
DISK_MODULES = ("virtio_pci", "virtio_blk")
DISK_SIZE = 640 << 20
"""Bytes of a disk, a sparse file: what a program that makes file systems has its defaults for."""
MKFS = {
    "ext4": ("mkfs.ext4", "-q"),
    "xfs": ("mkfs.xfs", "-q", "-i", "nrext64=0"),
    "btrfs": ("mkfs.btrfs", "-q"),
}
"""How each file system is made: with its defaults, but for the one of XFS that Linux before 5.19 does not mount."""
QEMU = {
    "amd64": ("qemu-system-x86_64",),
    "arm64": ("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72"),
}
OPTIONS = (
    *("-accel", "tcg", "-smp", "1"),
    *("-display", "none", "-serial", "stdio", "-monitor", "none", "-nic", "none", "-no-reboot"),
)
CONSOLES = {"amd64": "ttyS0", "arm64": "ttyAMA0"}
ARGUMENTS = "quiet panic=-1 no_timer_check"
"""Of the kernel. A panic ends the machine, and amd64's check of the timer is one on a busy host. The kernel gives init what it
does not know itself as variables.
"""
INIT = Path(__file__).with_name("init.sh")
STEP = re.compile(r"^@step:([^:]*):(\d+):([\d.]+):([\d.]+):([^:]*):([^:]*)$")


@dataclass(frozen=True)
class Programs:
    """What a machine is made of.

    kernel: which it boots. image: the directory in which that is unpacked.
    debian: a directory in which Debian's busybox and NFS server are unpacked.
    executable: cni-reaper, for the machine's architecture.
    plugins: a directory of the reference plugins and cnitool. strict: one of an old libcni's cnitool, and flannel's plugin.
    """

    kernel: Kernel
    image: Path
    debian: Path
    executable: Path
    plugins: Path
    strict: Path


def find(kernel: Kernel) -> Programs:
    """Find the programs for a kernel where `./build.sh machines` has put them.

    Raises:
        KeyError: a variable that `./build.sh machines` sets is not set.
    """
    debian = Path(os.environ["CNI_REAPER_MACHINES_DEBIAN"])
    ours = Path(os.environ["CNI_REAPER_MACHINES_PROGRAMS"]) / kernel.architecture
    return Programs(
        kernel,
        image=debian / f"kernel-{kernel.suite}-{kernel.architecture}",
        debian=debian / f"programs-{NEWEST_SUITE}-{kernel.architecture}",
        executable=ours / "cni-reaper",
        plugins=ours / "plugins",
        strict=ours / "strict",
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
    """A file system that outlives its machine, as the disk of a node does; what the machine had in memory is lost.

    file: its image. file_system: one of MKFS. clock: what the machine's clock shows at the boot, in UTC, 2026-12-01T12:00:00;
    None is the host's clock.
    """

    file: Path
    file_system: str = "ext4"
    clock: str | None = None

    @classmethod
    def make(cls, file: Path, file_system: str = "ext4") -> Self:
        """Make an empty one in a new file, with the defaults of its file system."""
        with file.open("wb") as image:
            image.truncate(DISK_SIZE)
        program, *options = MKFS[file_system]
        subprocess.run([f"/sbin/{program}", *options, file], check=True)
        return cls(file, file_system)

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
    """Boots machines of one kernel.

    programs: what it is made of. modules: the directory of the kernel's modules.
    """

    def __init__(self, programs: Programs) -> None:
        """Read the programs, which is the same for every boot."""
        self.programs = programs
        (self._image,) = (programs.image / "boot").glob("vmlinuz-*")
        usr = programs.image / "usr"  # where /lib is a link, and where it is not
        self.modules = (usr if (usr / "lib/modules").is_dir() else programs.image) / "lib/modules"
        self._files = {
            "init": INIT.read_bytes(),
            "bin/busybox": (programs.debian / "usr/bin/busybox").read_bytes(),
            "bin/cnitool": (programs.plugins / "cnitool").read_bytes(),
            "root/cni-reaper": programs.executable.read_bytes(),
        }
        self._files |= {f"opt/cni/bin/{name}": (programs.plugins / name).read_bytes() for name in PLUGINS}

    @property
    def kernel(self) -> Kernel:
        """The kernel that it boots."""
        return self.programs.kernel

    def run(
        self,
        scenario: str,
        files: Mapping[str, bytes] | None = None,
        modules: tuple[str, ...] = (),
        bound_s: int = BOUND_S,
        *,
        disk: Disk | None = None,
        images: tuple[Path, ...] = (),
        memory_mb: int = 512,
        cut: Cut | None = None,
    ) -> Console:
        """Boot, run a scenario, power off.

        Args:
            scenario: a script for busybox' sh; init.sh says what it can use.
            files: more files of the machine, by their path without the first slash.
            modules: of the kernel, loaded after MODULES.
            bound_s: seconds after which the machine is ended.
            disk: the machine's /dev/vda, and the clock with which it boots.
            images: of ext4, the machine's next disks; nothing that it writes there is kept.
            memory_mb: how much memory it has.
            cut: when the power goes; the scenario never ends then.

        Raises:
            AssertionError: the scenario did not come to its end, or to the cut; the console's tail says how far it came.
        """
        if disk or images:
            modules = (*modules, *DISK_MODULES, *([disk.file_system] if disk else []), *(["ext4"] if images else []))
        kernel = _modules(self.modules, (*MODULES, *modules))
        loaded = {f"modules/{name}.ko": data for name, data in kernel.items()}
        loaded["modules/order"] = "".join(f"{name}.ko\n" for name in kernel).encode()
        initramfs = archive({**self._files, **loaded, **(files or {}), "scenario": scenario.encode(errors="surrogateescape")})
        with tempfile.NamedTemporaryFile(prefix="initramfs-") as file:
            file.write(initramfs)
            file.flush()
            arguments = f"console={CONSOLES[self.kernel.architecture]} {ARGUMENTS} BOUND_S={bound_s}"
            boot = ["-m", str(memory_mb), "-kernel", str(self._image), "-initrd", file.name, "-append", arguments]
            drives = [*(disk.options() if disk else ()), *(one for image in images for one in _lent(image))]
            with subprocess.Popen(
                [*QEMU[self.kernel.architecture], *OPTIONS, *boot, *drives],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            ) as qemu:
                console = Console(_watched(qemu, bound_s, cut))
        reached = cut.line in console.text.splitlines() if cut else console.complete
        assert reached, f"the scenario did not come to its {'cut' if cut else 'end'}; the console's tail:\n{console.tail}"
        return console


def _lent(image: Path) -> tuple[str, str]:
    """Return qemu's options for a disk that it does not change."""
    return "-drive", f"file={image},format=raw,if=virtio,snapshot=on"


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
    """Return modules and what they depend on, unpacked, in the order in which they can be loaded, without what is built in.

    Raises:
        KeyError: the kernel has no such module.
    """
    found = {_module(file): file for file in below.rglob("*.ko*")}
    (listed,) = below.glob("*/modules.builtin")
    built_in = {_module(Path(line)) for line in listed.read_text().splitlines()}
    order: dict[str, bytes] = {}

    def need(name: str) -> None:
        if name in built_in:
            return
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


def _module(file: Path) -> str:
    return file.name.partition(".")[0].replace("-", "_")


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
