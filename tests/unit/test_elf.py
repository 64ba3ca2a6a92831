"""Which architecture an executable is for, by its first bytes."""

import os
import sys
from pathlib import Path

import pytest

from cni_reaper_plugin.operator.executable import elf


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"\x7fELF\2\1\1" + b"\0" * 9 + b"\2\0\x3e\0", "x86_64"),
        (b"\x7fELF\2\1\1" + b"\0" * 9 + b"\2\0\xb7\0", "aarch64"),
        (b"\x7fELF\2\2\1" + b"\0" * 9 + b"\0\2\0\x16", "s390x"),
        (b"\x7fELF\2\1\1" + b"\0" * 9 + b"\2\0\x0f\xf0", "machine 61455"),
        (b"\x7fELF\2\1\1", ""),
        (b"#!/bin/sh\nexec something\n", ""),
        (b"", ""),
    ],
)
def test_architecture_is_told_in_unames_words(tmp_path: Path, head: bytes, told: str) -> None:
    """In the words of uname(2); a file that is no executable of that kind has none."""
    path = tmp_path / "x"
    path.write_bytes(head)
    assert elf.architecture(str(path)) == told


def test_own_architecture_is_not_foreign() -> None:
    """The interpreter that runs is not; what is not known is not called foreign."""
    own = elf.architecture(os.path.realpath(sys.executable))
    assert own
    assert not elf.is_foreign(own)
    assert [elf.is_foreign(one) for one in ("s390x", "machine 61455", "")] == [os.uname().machine != "s390x", False, False]
