"""The tarball, and old and new Debian roots to unpack it in; only `./build.sh release` provides them, so only it collects these.

Roots are made by debootstrap and kept in .build/release/roots.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.neighbours import ROOT

TARBALL = os.environ.get("CNI_REAPER_TARBALL")
ROOTS = ROOT / ".build" / "release" / "roots"

collect_ignore_glob = [] if TARBALL else ["test_*.py"]


@pytest.fixture(scope="session")
def tarball() -> Path:
    """The release's tarball."""
    assert TARBALL
    return Path(TARBALL)


@pytest.fixture(scope="session", params=["bullseye", "bookworm", "trixie"])
def root(request: pytest.FixtureRequest, tarball: Path) -> Path:
    """A minimal Debian, without Python, with the tarball unpacked in its CNI bin directory."""
    suite: str = request.param
    made = ROOTS / suite
    ROOTS.mkdir(parents=True, exist_ok=True)
    if not made.exists():
        new = ROOTS / f"{suite}.new"
        subprocess.run(["rm", "-rf", new], check=True)
        new.mkdir(parents=True)
        mirror = os.environ.get("CNI_REAPER_DEBIAN_MIRROR")
        keyring = "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg"
        subprocess.run(
            ["debootstrap", "--variant=minbase", keyring, suite, new, *([mirror] if mirror else [])],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        new.rename(made)
    bin_dir = made / "opt/cni/bin"
    subprocess.run(["rm", "-rf", bin_dir], check=True)
    bin_dir.mkdir(parents=True)
    subprocess.run(["tar", "-xzf", tarball, "-C", bin_dir], check=True)
    return made
