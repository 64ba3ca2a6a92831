"""Make the Debian package of a bundle: python packaging/deb.py BUNDLE OUT. Needs dpkg-deb and objdump.

The bundle goes to /usr/lib/cni-reaper, with a command on PATH, the man page, completions and the units of systemd/, which run
that bundle's own `install --settle`: an upgrade of the package brings the new one to the directories of plugins. Two packages of
one bundle are equal byte by byte; files are of SOURCE_DATE_EPOCH, else of 1970. Prints the path.
"""

import gzip
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from image import ARCHITECTURES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
HOME = "usr/lib/cni-reaper"
COMMAND = "usr/sbin/cni-reaper"
UNITS = "usr/lib/systemd/system"
COMPLETIONS = {
    "completion.bash": "usr/share/bash-completion/completions/cni-reaper",
    "completion.zsh": "usr/share/zsh/vendor-completions/_cni-reaper",
    "completion.fish": "usr/share/fish/vendor_completions.d/cni-reaper.fish",
}
SCRIPTS = ("postinst", "prerm", "postrm")
CONTROL = """Package: cni-reaper
Version: {version}
Architecture: {architecture}
Maintainer: The cni-reaper maintainers <maintainers@cni-reaper.invalid>
Installed-Size: {kib}
Depends: libc6 (>= {glibc})
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


def glibc(bundle: Path) -> str:
    """Return the glibc that the bundle needs, by the versions of the symbols that its programs take from it."""
    programs = [one for one in bundle.rglob("*") if one.is_file() and one.read_bytes()[:4] == b"\x7fELF"]
    table = subprocess.run(["objdump", "-T", *sorted(programs)], capture_output=True, check=True, text=True).stdout
    versions = {(int(one), int(other)) for one, other in re.findall(r"GLIBC_(\d+)\.(\d+)", table)}
    return "%d.%d" % max(versions)


def stage(bundle: Path, top: Path) -> None:
    """Write the files of the package."""
    share = bundle / "_internal" / "share"
    shutil.copytree(bundle, top / HOME, symlinks=True)
    for name, into in {**COMPLETIONS, "cni-reaper.8": "usr/share/man/man8/cni-reaper.8"}.items():
        (top / into).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(share / name, top / into)
    (top / COMMAND).parent.mkdir(parents=True)
    (top / COMMAND).symlink_to(f"../../{HOME}/cni-reaper")
    (top / UNITS).mkdir(parents=True)
    for unit in sorted((share / "systemd").glob("cni-reaper-install.*")):
        text, count = re.subn(r"^ExecStart=\S+", f"ExecStart=/{HOME}/cni-reaper", unit.read_text(), flags=re.MULTILINE)
        assert count == (unit.suffix == ".service"), unit
        (top / UNITS / unit.name).write_text(text)
    doc = top / "usr/share/doc/cni-reaper"
    doc.mkdir(parents=True)
    shutil.copy(ROOT / "LICENSE", doc / "copyright")
    shutil.copy(ROOT / "CHANGELOG.md", doc / "changelog")
    for path in (doc / "changelog", top / "usr/share/man/man8/cni-reaper.8"):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()


def control(bundle: Path, top: Path) -> str:
    """Write the control files; return the name of the package's file."""
    files = sorted(one for one in top.rglob("*") if one.is_file() and not one.is_symlink())
    told = {
        "version": json.loads((bundle / "_internal" / "build.json").read_bytes())["version"],
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "kib": sum(one.stat().st_size for one in files) // 1024,
        "glibc": glibc(bundle),
    }
    sums = [f"{hashlib.md5(one.read_bytes(), usedforsecurity=False).hexdigest()}  {one.relative_to(top)}\n" for one in files]
    directory = top / "DEBIAN"
    directory.mkdir()
    (directory / "control").write_text(CONTROL.format(**told))
    (directory / "md5sums").write_text("".join(sums))
    for script in SCRIPTS:
        shutil.copy(HERE / "deb" / script, directory / script)
    return f"cni-reaper_{told['version']}_{told['architecture']}.deb"


def settle(top: Path, made_s: int) -> None:
    """Give every file the mode and the time of a package: what the umask of this process is does not matter."""
    for path in [top, *top.rglob("*")]:
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & 0o100 or path.name in SCRIPTS
            path.chmod(0o755 if runs else 0o644)
        os.utime(path, (made_s, made_s), follow_symlinks=False)


def main() -> None:
    """Make the package, see the module."""
    bundle, out = (Path(argument).resolve() for argument in sys.argv[1:3])
    made_s = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cni-reaper-deb-") as temporary:
        top = Path(temporary) / "package"
        top.mkdir()
        stage(bundle, top)
        package = out / control(bundle, top)
        settle(top, made_s)
        package.unlink(missing_ok=True)
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(top), str(package)]
        subprocess.run(command, check=True, stdout=sys.stderr, env={**os.environ, "SOURCE_DATE_EPOCH": str(made_s)})
    print(package)


if __name__ == "__main__":
    main()
