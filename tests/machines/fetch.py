"""Get from Debian what the machines boot, and print the directories: kernel and busybox for arm64, and an NFS server with all
that it needs, unpacked and not installed.

The build's own apt is used (packaging/build_root.py), so the host's dpkg learns of no other architecture. The directories are
kept in CNI_REAPER_CACHE. While they exist no network is needed; remove them for a newer kernel.
"""

import re
import sys
import tempfile
from pathlib import Path

import build_root

ARCHITECTURE = "arm64"
KERNEL = f"linux-image-cloud-{ARCHITECTURE}"
"""Depends on the package of the current version, and is empty itself."""
SERVER = "nfs-kernel-server"
"""Brings the client's programs, rpcbind and the libraries with it."""


def fetch() -> Path:
    """Return the directory, filled. Raises build_root.BuildError where the packages cannot be had."""
    place = build_root.cache() / "machines" / f"debian-{build_root.SUITE}-{ARCHITECTURE}"
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="new-") as scratch:
        at = Path(scratch)
        apt = build_root.Apt(at / "apt", build_root.architecture())
        depends = build_root.run("apt-cache", "depends", f"{KERNEL}:{ARCHITECTURE}", APT_CONFIG=str(at / "apt" / "apt.conf"))
        (kernel,) = re.findall(r"^  Depends: (linux-image-[^:\s]+)", depends, re.MULTILINE)
        apt.get("download", f"{kernel}:{ARCHITECTURE}", f"busybox-static:{ARCHITECTURE}", cwd=at)
        for package in at.glob("*.deb"):
            build_root.run("dpkg-deb", "--extract", package, at / "root")
        (at / "root").rename(place)
    return place


def fetch_server() -> Path:
    """Return the directory of the NFS server, filled. Raises build_root.BuildError where the packages cannot be had."""
    place = build_root.cache() / "machines" / f"nfs-{build_root.SUITE}-{ARCHITECTURE}"
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="new-") as scratch:
        at = Path(scratch)
        apt = build_root.Apt(at / "apt", ARCHITECTURE)
        apt.get("--yes", "--download-only", "install", SERVER)
        for package in (at / "apt/cache/archives").glob("*.deb"):
            build_root.run("dpkg-deb", "--extract", package, at / "root")
        (at / "root").rename(place)
    return place


def main() -> None:
    """Print the directories, a line each."""
    try:
        print(fetch(), fetch_server(), sep="\n")
    except build_root.BuildError as e:
        sys.exit(f"machines: {e}")


if __name__ == "__main__":
    main()
