"""Fixtures of the tests of the executable as a file."""

import os
from pathlib import Path

import pytest

from tests.support.programs import ROOT, MissingProgramError


@pytest.fixture(scope="session")
def arm64() -> Path:
    """The executable for arm64; the tests fail, and do not skip, when it is missing."""
    path = Path(os.environ.get("CNI_REAPER_ARM64") or ROOT / "dist" / "arm64" / "cni-reaper")
    if not path.exists():
        message = f"the executable for arm64 is not at {path}: `./build.sh --arch arm64` builds it"
        raise MissingProgramError(message)
    return path
