"""The release; only `./build.sh release` makes one, so only it collects these tests.

CNI_REAPER_RELEASE is its directory.
"""

import os
from pathlib import Path

import pytest

RELEASE = os.environ.get("CNI_REAPER_RELEASE")

collect_ignore_glob = [] if RELEASE else ["test_*.py"]


@pytest.fixture(scope="session")
def release() -> Path:
    """The directory of the release."""
    assert RELEASE
    return Path(RELEASE)
