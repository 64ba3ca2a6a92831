"""The kernels that machines boot: Debian's, each with the programs of its architecture.

CNI_REAPER_MACHINES_KERNELS chooses: `all`, or names with commas between them, as `amd64-5.10,arm64-6.12`. Without it each
module runs on arm64 alone, and those of OLDEST_TOO on the oldest kernel as well.
"""

import os
from dataclasses import dataclass

NEWEST_SUITE = "trixie"
"""Debian's release whose busybox and NFS server all machines have."""


@dataclass(frozen=True)
class Kernel:
    """Debian's kernel for machines in a cloud.

    architecture: Debian's name for it. version: the first two numbers. suite: Debian's release that has it.
    """

    architecture: str
    version: str
    suite: str

    def __str__(self) -> str:
        """Return the name by which it is chosen."""
        return f"{self.architecture}-{self.version}"

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version, to compare."""
        return tuple(map(int, self.version.split(".")))


OLDEST = Kernel("amd64", "5.10", "bullseye")
ARM64 = Kernel("arm64", "6.12", "trixie")
KERNELS = (OLDEST, Kernel("amd64", "6.1", "bookworm"), Kernel("amd64", "6.12", "trixie"), ARM64)
OLDEST_TOO = {"test_kernel", "test_protocol", "test_heal"}
ON_ONE = {"test_power_cuts", "test_reboots"}
"""What is about disks and clocks, and the same on each kernel: on the first that is chosen, amd64, which is twice as fast."""
CHOSEN = os.environ.get("CNI_REAPER_MACHINES_KERNELS", "")


def chosen() -> tuple[Kernel, ...]:
    """Return the kernels that the tests need.

    Raises:
        KeyError: the variable holds a name that no kernel has.
    """
    by_name = {str(kernel): kernel for kernel in KERNELS}
    if CHOSEN == "all":
        return KERNELS
    return tuple(by_name[name] for name in CHOSEN.split(",")) if CHOSEN else (OLDEST, ARM64)


def kernels_of(module: str) -> tuple[Kernel, ...]:
    """Return the kernels on which a module's tests run, by the last part of its name."""
    if module in ON_ONE:
        return chosen()[:1]
    return chosen() if CHOSEN or module in OLDEST_TOO else (ARM64,)
