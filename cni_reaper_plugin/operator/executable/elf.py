"""Which processors an executable is for: the head of an ELF file. Source: elf(5), e_machine."""

import os

_MAGIC = b"\x7fELF"
_BIG_ENDIAN = 2  # EI_DATA
_MACHINES = {
    3: "i686",
    21: "ppc64",
    22: "s390x",
    40: "armv7l",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
"""By e_machine, in the words of uname(2)."""


def architecture(path: str) -> str:
    """Return the architecture of an executable in the words of uname(2), "" for a file that is not ELF. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        head = os.read(fd, 20)
    finally:
        os.close(fd)
    if len(head) < 20 or not head.startswith(_MAGIC):
        return ""
    machine = int.from_bytes(head[18:20], "big" if head[5] == _BIG_ENDIAN else "little")
    return _MACHINES.get(machine, "machine %d" % machine)


def is_foreign(made_for: str) -> bool:
    """Tell whether an architecture is known, and is another one than the kernel's."""
    return made_for in _MACHINES.values() and made_for != _own()


def _own() -> str:
    machine = os.uname().machine
    return "armv7l" if machine.startswith("arm") else machine
