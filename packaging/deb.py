"""Make the Debian packages of tarballs: python packaging/deb.py OUT TARBALL... Needs dpkg-deb.

A package has one executable, /usr/sbin/cni-reaper, the man page, completions, licences and the systemd units, which run it with
`install --settle`: an upgrade of the package brings the new one to the directories of plugins. It depends on nothing. Two
packages of one tarball are equal byte by byte; files are of SOURCE_DATE_EPOCH, by default of the commit's time. Prints the paths.
"""

import gzip
import hashlib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from build_root import HERE, ROOT, BuildError, run
from freeze import made_s

COMMAND = "usr/sbin/cni-reaper"
UNITS = "usr/lib/systemd/system"
MAN = "usr/share/man/man8/cni-reaper.8"
DOC = "usr/share/doc/cni-reaper"
MOVED = {
    "cni-reaper": COMMAND,
    "man/cni-reaper.8": MAN,
    "completions/cni-reaper.bash": "usr/share/bash-completion/completions/cni-reaper",
    "completions/_cni-reaper": "usr/share/zsh/vendor-completions/_cni-reaper",
    "completions/cni-reaper.fish": "usr/share/fish/vendor_completions.d/cni-reaper.fish",
}
"""Places in the package by names in the tarball."""
SCRIPTS = ("postinst", "prerm", "postrm")
CONTROL = """Package: cni-reaper
Version: {version}
Architecture: {arch}
Maintainer: The cni-reaper maintainers <maintainers@cni-reaper.invalid>
Installed-Size: {kib}
Section: net
Priority: optional
Description: frees host-local IP reservations whose container is gone
 A chained CNI plugin. On every ADD it first frees the reservations of
 host-local whose container has no network namespace left, so that a node
 does not run out of addresses because of pods that ended without a DEL.
 An address that a live pod holds is never freed.
 .
 Installing the package puts the plugin into the node's CNI conflist, and
 units of systemd keep it there; removing it takes it out again.
"""


def unpack(tarball: Path, into: Path) -> tuple[Path, str, str]:
    """Unpack a tarball; return its directory, the architecture and the version. Raises BuildError."""
    named = re.fullmatch(r"cni-reaper-linux-([a-z0-9]+)-v(.+)\.tgz", tarball.name)
    if not named:
        raise BuildError(f"{tarball} is not a release: name a file that tarball.py has made.")
    run("tar", "-xzf", tarball, "-C", into, "--no-same-owner")
    return into / tarball.name.removesuffix(".tgz"), named[1], named[2]


def stage(release: Path, top: Path) -> None:
    """Write the files of the package. release: the directory of a tarball."""
    for name, into in MOVED.items():
        (top / into).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(release / name, top / into)
    (top / UNITS).mkdir(parents=True)
    for unit in sorted((release / "systemd").glob("cni-reaper-*")):
        text, count = re.subn(r"^ExecStart=\S+", f"ExecStart=/{COMMAND}", unit.read_text(), flags=re.MULTILINE)
        assert count == (unit.suffix == ".service"), unit
        (top / UNITS / unit.name).write_text(text)
    shutil.copytree(release / "licences", top / DOC / "licences")
    copyright_ = "The parts of the executable have licences of their own: see licences/ beside this file.\n\n"
    (top / DOC / "copyright").write_text(copyright_ + (release / "licences/cni-reaper/LICENSE").read_text())
    shutil.copy(release / "sbom.cdx.json", top / DOC)
    shutil.copy(ROOT / "CHANGELOG.md", top / DOC / "changelog")
    for path in (top / DOC / "changelog", top / MAN):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()


def control(top: Path, arch: str, version: str) -> None:
    """Write the control files."""
    files = sorted(one for one in top.rglob("*") if one.is_file())
    kib = sum(one.stat().st_size for one in files) // 1024
    sums = [f"{hashlib.md5(one.read_bytes(), usedforsecurity=False).hexdigest()}  {one.relative_to(top)}\n" for one in files]
    (top / "DEBIAN").mkdir()
    (top / "DEBIAN/control").write_text(CONTROL.format(version=version, arch=arch, kib=kib))
    (top / "DEBIAN/md5sums").write_text("".join(sums))
    for script in SCRIPTS:
        shutil.copy(HERE / "deb" / script, top / "DEBIAN")


def settle(top: Path) -> None:
    """Give every file the mode and the time of a package: what the umask of this process is does not matter."""
    for path in [top, *top.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or path == top / COMMAND or path.name in SCRIPTS else 0o644)
        os.utime(path, (made_s(), made_s()))


def package(tarball: Path, out: Path) -> Path:
    """Make the package of a tarball, and return it. Raises BuildError."""
    with tempfile.TemporaryDirectory(prefix="cni-reaper-deb-") as temporary:
        release, arch, version = unpack(tarball, Path(temporary))
        top = Path(temporary) / "package"
        top.mkdir()
        stage(release, top)
        control(top, arch, version)
        settle(top)
        made = out / f"cni-reaper_{version}_{arch}.deb"
        out.mkdir(parents=True, exist_ok=True)
        run("dpkg-deb", "--root-owner-group", "-Zxz", "--build", top, made, SOURCE_DATE_EPOCH=str(made_s()))
    return made


def main() -> None:
    """Make the packages, see the module."""
    out, *tarballs = (Path(argument).resolve() for argument in sys.argv[1:])
    for tarball in tarballs:
        print(package(tarball, out))


if __name__ == "__main__":
    try:
        main()
    except BuildError as error:
        sys.exit(f"deb: {error}")
