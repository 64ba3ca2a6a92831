"""Make the tarballs of executables: python packaging/tarball.py OUT EXECUTABLE... One of them has to run on this machine.

Each becomes cni-reaper-linux-<arch>-v<version>.tgz, which unpacks into a directory of that name:

    cni-reaper     the executable
    install.sh     what installs it
    README.md, docs/
    completions/, man/, systemd/     what the executable prints as well
    licences/      of all its parts, and SOURCES.md: where the sources are, and how to link it again
    sbom.cdx.json  the bill of materials

Two tarballs of one executable are equal byte by byte; files are of SOURCE_DATE_EPOCH, by default of the commit's time. Beside
each lie its .sha256 and .sha512. Prints the paths.
"""

import gzip
import re
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import build_root
import parts
import sbom
from artifact import arch_of, write_sums
from build_root import HERE, ROOT, BuildError
from freeze import made_s

COMPLETIONS = {"bash": "cni-reaper.bash", "zsh": "_cni-reaper", "fish": "cni-reaper.fish"}


def runs_here(executables: list[Path]) -> Path:
    """Return the executable that this machine can run. Raises BuildError."""
    found = [one for one in executables if arch_of(one) == build_root.architecture()]
    if not found:
        raise BuildError(f"none of these runs on this machine: name the executable for {build_root.architecture()} as well.")
    return found[0]


def write_printed(executable: Path, into: Path) -> None:
    """Write what an executable prints: the completions, the man page and the systemd units."""
    for name in ("completions", "man", "systemd"):
        (into / name).mkdir()
    for shell, name in COMPLETIONS.items():
        (into / "completions" / name).write_text(build_root.run(executable, "completion", shell))
    (into / "man/cni-reaper.8").write_text(build_root.run(executable, "man"))
    for unit in sorted((HERE / "systemd").iterdir()):
        if unit.suffix != ".md":
            (into / "systemd" / unit.name).write_text(build_root.run(executable, "units", unit.name))


def stage(executable: Path, printing: Path, into: Path) -> Path:
    """Write what a tarball holds into a directory of its name, and return that.

    Args:
        executable: the one that it is about.
        printing: one of the same build that runs on this machine.
        into: where the directory is made.

    Raises:
        BuildError: it cannot be made.
    """
    arch, says = arch_of(executable), build_root.run(printing, "version", "--verbose")
    version, commit = says.split()[1], re.findall(r"^commit +(\S+)$", says, re.MULTILINE)[0]
    made = into / f"cni-reaper-linux-{arch}-v{version}"
    made.mkdir()
    shutil.copy(executable, made / "cni-reaper")
    (made / "cni-reaper").chmod(0o755)
    for name in ("README.md", "packaging/install.sh"):
        shutil.copy(ROOT / name, made)
    shutil.copytree(ROOT / "docs", made / "docs")
    write_printed(printing, made)
    root = build_root.build_root()
    parts.write_licences(root, arch, version, commit, made / "licences")
    (made / "sbom.cdx.json").write_text(sbom.bill(root, arch, version, commit, made_s()))
    return made


def pack(directory: Path, out: Path) -> Path:
    """Make the tarball of a directory, with its sums beside it, and return it. Order, owner, times and modes are fixed."""

    def settled(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = made_s()
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    out.mkdir(parents=True, exist_ok=True)
    tarball = out / f"{directory.name}.tgz"
    with (
        tarball.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=made_s()) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for one in [directory, *sorted(directory.rglob("*"))]:
            tar.add(one, str(one.relative_to(directory.parent)), recursive=False, filter=settled)
    write_sums(tarball)
    return tarball


def main() -> None:
    """Make the tarballs, see the module."""
    out, *executables = (Path(argument).resolve() for argument in sys.argv[1:])
    printing = runs_here(executables)
    with tempfile.TemporaryDirectory(prefix="cni-reaper-tarball-") as temporary:
        for executable in executables:
            print(pack(stage(executable, printing, Path(temporary)), out))


if __name__ == "__main__":
    try:
        main()
    except BuildError as error:
        sys.exit(f"tarball: {error}")
