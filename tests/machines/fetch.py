"""Get from Debian what the machines boot, and print the directory that holds it: kernels, busybox, and an NFS server with all
that it needs, unpacked and not installed.

apt works in a folder of its own, with one release and one architecture, so the host's dpkg learns of no other one. The
directories are kept in CNI_REAPER_CACHE. While they exist no network is needed; remove them for a newer kernel.
"""

import fcntl
import inspect
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import build_root

from tests.machines.kernels import CHOSEN, NEWEST_SUITE, Kernel, chosen

PROGRAMS = ("busybox-static", "nfs-kernel-server")
"""The server brings the client's programs, rpcbind and the libraries with it."""

ROOT = (
    *("base-files", "bash", "busybox-static", "coreutils", "dash", "diffutils", "findutils", "grep", "mawk", "sed"),
    *("iproute2", "iptables", "jq", "kmod", "libseccomp2", "mount", "nftables", "procps", "python3", "strace", "util-linux"),
    *("containernetworking-plugins", "python3-hypothesis", "python3-orjson"),
)
"""What tests.e2e wants of a machine. pytest and pyroute2 are the tests' own; what they have compiled is for another Python."""

USERS = {"passwd": "root:x:0:0::/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n", "group": "root:x:0:\nnogroup:x:65534:\n"}
IMAGE_SIZE = 2 << 30


class Apt:
    """apt for one release and one architecture, and nothing that is installed. build_root.Apt wants backports, which an old
    release has not got any more."""

    def __init__(self, directory: Path, suite: str, architecture: str) -> None:
        """Make its configuration below a directory, and fetch the lists of packages. Raises build_root.BuildError."""
        self.archives = directory / "cache/archives"
        for one in (directory / "state/lists/partial", self.archives / "partial"):
            one.mkdir(parents=True)
        (directory / "status").touch()
        (directory / "sources.list").write_text(f"deb [signed-by={build_root.KEYRING}] {build_root.mirror()} {suite} main\n")
        self._conf = directory / "apt.conf"
        self._conf.write_text(
            f'Dir::State "{directory}/state"; Dir::State::status "{directory}/status"; Dir::Cache "{directory}/cache";\n'
            f'Dir::Etc::sourcelist "{directory}/sources.list"; Dir::Etc::sourceparts "/dev/null";\n'
            f'Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null";\n'
            f'APT::Architecture "{architecture}"; APT::Architectures {{ "{architecture}"; }};\n'
            'APT::Install-Recommends "false"; Acquire::Languages "none"; APT::Sandbox::User "root";\n'
        )
        self("apt-get", "-qq", "update")

    def __call__(self, *argv: str, cwd: Path | None = None) -> str:
        """Run one of apt's programs. Raises build_root.BuildError."""
        return build_root.run(*argv, cwd=cwd, APT_CONFIG=str(self._conf), LC_ALL="C.UTF-8")


def kernel_of(kernel: Kernel) -> Path:
    """Return the directory of a kernel, filled. Raises build_root.BuildError where the package cannot be had."""
    empty = f"linux-image-cloud-{kernel.architecture}"  # depends on the package of the current version

    def download(apt: Apt, at: Path) -> Path:
        (current,) = re.findall(r"^  Depends: (linux-image-[^:\s]+)", apt("apt-cache", "depends", empty), re.MULTILINE)
        apt("apt-get", "-qq", "download", current, cwd=at)
        return at

    return _kept("kernel", kernel.suite, kernel.architecture, download)


def programs_for(architecture: str) -> Path:
    """Return the directory of PROGRAMS, filled. Raises build_root.BuildError where the packages cannot be had."""

    def download(apt: Apt, at: Path) -> Path:
        apt("apt-get", "-qq", "--yes", "--download-only", "install", *PROGRAMS, cwd=at)
        return apt.archives

    return _kept("programs", NEWEST_SUITE, architecture, download)


def root_for(architecture: str) -> Path:
    """Return the image of a whole Debian root (ext4), for a disk that no machine changes.

    Raises:
        build_root.BuildError: it cannot be made.
    """

    def download(apt: Apt, at: Path) -> Path:
        apt("apt-get", "-qq", "--yes", "--download-only", "install", *ROOT, cwd=at)
        return apt.archives

    def finish(root: Path) -> Path:
        _finish(root)
        for one in ("python3", "python3.13"):
            compile_below(root / "usr/lib" / one)
        return image(root, root.with_name("image"))

    recipe = build_root.hashed(*ROOT, *USERS.values(), inspect.getsource(_finish))
    return _kept(f"root-{recipe}", NEWEST_SUITE, architecture, download, finish)


def _finish(root: Path) -> None:
    """Do what the packages' scripts do, as far as tests.e2e needs it."""
    for name, text in USERS.items():
        (root / "etc" / name).write_text(text)
    for program in ("iptables", "ip6tables"):
        for end in ("", "-save", "-restore"):
            (root / "usr/sbin" / f"{program}{end}").symlink_to("xtables-nft-multi")
    (root / "usr/bin/awk").symlink_to("mawk")
    (root / "usr/lib/cni").rename(root / "plugins-debian")  # where no node looks for plugins
    shutil.rmtree(root / "usr/share/doc")
    for name in ("clone", "proc", "sys", "dev", "run", "tmp", "root", "var/log", "usr/lib/modules"):
        (root / name).mkdir(parents=True, exist_ok=True)


def compile_below(directory: Path) -> None:
    """Compile Python's files by the build root's Python, which is that of the same Debian; the machine would take a minute.

    Raises:
        build_root.BuildError: there is no build root, and none can be made.
    """
    command = ["python3", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "/home"]
    build_root.inside(build_root.build_root(), command, {directory: "/home"})


def image(directory: Path, file: Path) -> Path:
    """Make an ext4 image of what is in a directory; return the file, which is as large as that. Raises build_root.BuildError."""
    with file.open("wb") as opened:
        opened.truncate(IMAGE_SIZE)
    build_root.run("/sbin/mkfs.ext4", "-q", "-E", "root_owner=0:0", "-d", directory, file)
    return file


def _kept(
    what: str,
    suite: str,
    architecture: str,
    download: Callable[[Apt, Path], Path],
    finish: Callable[[Path], Path] = lambda unpacked: unpacked,
) -> Path:
    """Return what is made of packages, and kept.

    download: fetches them, and returns their directory. finish: makes of the directory in which they are unpacked what is kept.
    """
    place = build_root.cache() / "machines" / f"{what}-{suite}-{architecture}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # while another build makes it
        if not place.exists():
            new = tempfile.TemporaryDirectory(dir=place.parent, prefix="new-")
            with build_root.step(f"Debian's packages for machines, {place.name}"), new as scratch:
                at = Path(scratch)
                for package in download(Apt(at / "apt", suite, architecture), at).glob("*.deb"):
                    build_root.run("dpkg-deb", "--extract", package, at / "root")
                finish(at / "root").rename(place)
    return place


def main() -> None:
    """Fetch what the chosen kernels need, and print the directory."""
    try:
        for kernel in chosen():
            kernel_of(kernel)
            programs_for(kernel.architecture)
            if CHOSEN:
                root_for(kernel.architecture)
    except build_root.BuildError as e:
        sys.exit(f"machines: {e}")
    print(build_root.cache() / "machines")


if __name__ == "__main__":
    main()
