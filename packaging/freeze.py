"""Make the executable: python packaging/freeze.py OUT [ARCH...]. ARCH: amd64, arm64; by default this machine's.

    1. the build root   build_root.py, from the cache where it is there
    2. the bootloader   bootloader/link.sh in it, from the cache where these very files were linked before
    3. the archive      cni-reaper.spec in it; the same one for each architecture
    4. the gate         gate.py: is every module whole, and does bootstrap.py serve this orjson?
    5. the sum          at the end of the file; cni_reaper_plugin/operator/executable/frozen.py reads it
    6. a first run      VERSION and --help, where this machine can run it

Writes OUT/cni-reaper for this machine's architecture and OUT/<arch>/cni-reaper for the other one. Two builds of one commit are
equal byte by byte where the build roots have the same versions: nothing of the machine or the folder is in them.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import build_root
import modules
from build_root import HERE, ROOT, TRIPLETS, BuildError, architecture, inside, step

PROJECT, WORK = "/build/project", "/build/work"
SERVED = {"datetime.datetime_CAPI", "uuid.UUID", "enum.EnumMeta", "dataclasses._FIELD", "json.JSONDecodeError"}
PACKAGES = {"glibc": "libc6-dev", "gcc": "gcc", "rust": "rustc"}
"""Debian's packages whose versions the executable can print."""
SECTION = "pydata"  # PyInstaller's


def git(*arguments: str) -> bytes:
    """Return what git says of this tree, whoever owns it. Raises OSError, CalledProcessError."""
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


def commit() -> str:
    """Return the commit that is frozen, with `-dirty` when the tree has other changes; `unknown` outside a clone."""
    try:
        return git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*").decode().strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def committed_s() -> int:
    """Return when the commit was made, in seconds since the epoch; 0 outside a clone."""
    try:
        return int(git("show", "-s", "--format=%ct", "HEAD"))
    except (OSError, subprocess.CalledProcessError):
        return 0


def made_s() -> int:
    """Return the time of all that is made: SOURCE_DATE_EPOCH, by default when the commit was made."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or committed_s())


def python_packages(root: Path) -> dict[str, str]:
    """Return the versions of the Python packages of a build root."""
    found = dict(one.name.removesuffix(".dist-info").rsplit("-", 1) for one in (root / "build/site").glob("*.dist-info"))
    pinned = dict(
        line.split(" ")[0].split("==") for line in (ROOT / "requirements/sources.txt").read_text().splitlines() if "==" in line
    )
    return {name.replace("_", "-"): version for name, version in {**found, **pinned}.items()}


def about(root: Path) -> dict[str, str]:
    """Return what the executable can say of its build."""
    from cni_reaper_plugin import __version__

    debian = json.loads((root / "build/packages.json").read_bytes())
    python = python_packages(root)
    return {
        "version": __version__,
        "commit": os.environ.get("CNI_REAPER_COMMIT") or commit(),
        **{name: python[name] for name in ("orjson", "rich", "pyinstaller")},
        "libpython": debian[f"lib{build_root.PYTHON}-dev"],
        **{name: debian[package] for name, package in PACKAGES.items()},
        "root": root.name,
    }


def bootloader(root: Path, arch: str) -> Path:
    """Return the static bootloader for an architecture, linked when the cache does not have it."""
    files = sorted(one for one in (HERE / "bootloader").iterdir() if one.is_file())
    kept = build_root.cache() / f"bootloader-{build_root.hashed(root.name, arch, *files)}"
    if not kept.exists():
        with step(f"linking for {arch}"), tempfile.TemporaryDirectory(prefix="link-", dir=kept.parent) as work:
            inside(root, ["bash", f"{PROJECT}/packaging/bootloader/link.sh", arch], {ROOT: PROJECT, Path(work): WORK})
            os.rename(f"{work}/bootloader", kept)
    os.utime(kept)
    return kept


def frozen(root: Path, work: Path) -> None:
    """Freeze in the build root: `work` then has dist/cni-reaper and dist/gate, of its own architecture."""
    shutil.copy2(bootloader(root, architecture()), work / "bootloader")
    project = work / "project"  # a copy: the tree may be edited meanwhile
    for name in ("cni_reaper_plugin", "packaging"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in modules.sources(project).values():
        file.write_bytes(modules.untyped(file.read_bytes()))
    binds = {project: PROJECT, work: WORK}
    told = {
        "PYTHONPATH": "/build/site",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SOURCE_DATE_EPOCH": str(made_s()),
        "CNI_REAPER_BOOTLOADER": f"{WORK}/bootloader",
        "CNI_REAPER_PACKED": f"{WORK}/packed.py",
        "PYINSTALLER_CONFIG_DIR": f"{WORK}/pyinstaller",
    }
    (work / "about.json").write_text(json.dumps(about(root)))
    share = f"python3 {PROJECT}/packaging/share.py {PROJECT} {WORK}/packed.py <{WORK}/about.json"
    inside(root, ["sh", "-e", "-c", share], binds, **told)
    options = ["--noconfirm", "--log-level", "WARN", "--distpath", f"{WORK}/dist", "--workpath", f"{WORK}/pyi"]
    inside(root, ["python3", "-m", "PyInstaller", *options, f"{PROJECT}/packaging/cni-reaper.spec"], binds, **told)


def pass_gate(gate: Path) -> None:
    """See that all modules of the archive can be imported, and that bootstrap.py serves this orjson. Raises BuildError."""

    def answer(what: str) -> list[str]:
        return build_root.run(gate, what).splitlines()

    imported = answer("everything")
    if len(imported) != 1 or not imported[0].endswith(" modules"):
        raise BuildError("modules of the archive lack something, see contents.py: " + "; ".join(imported))
    asked = set(answer("asked"))
    if asked != SERVED:
        raise BuildError(
            f"this orjson asks for {sorted(asked)}, bootstrap.py serves {sorted(SERVED)}: bootstrap.py must be changed."
        )
    if answer("light") != answer("real"):
        raise BuildError("orjson answers differently when bootstrap.py makes it: bootstrap.py must be changed.")


def moved(root: Path, work: Path, arch: str) -> Path:
    """Return the executable of another architecture: its bootloader with the same archive."""
    made = work / arch
    shutil.copy2(bootloader(root, arch), made)
    objcopy = [f"{TRIPLETS[arch]}-objcopy", f"--add-section={SECTION}={WORK}/{SECTION}", f"{WORK}/{arch}"]
    for argv in (["objcopy", f"--dump-section={SECTION}={WORK}/{SECTION}", f"{WORK}/dist/cni-reaper", "/dev/null"], objcopy):
        inside(root, argv, {work: WORK})
    return made


def seal(executable: Path) -> None:
    """Write the file's own sum at its end, as cni_reaper_plugin/operator/executable/frozen.py reads it."""
    content = executable.read_bytes()
    executable.write_bytes(content + f"\ncni-reaper sha256 {hashlib.sha256(content).hexdigest()}\n".encode())
    executable.chmod(0o755)


def main() -> None:
    """Make the executables, see the module."""
    out, wanted = Path(sys.argv[1]).resolve(), sys.argv[2:] or [architecture()]
    sys.path.insert(0, str(ROOT))
    root = build_root.build_root()
    with step("freezing"), tempfile.TemporaryDirectory(prefix="freeze-", dir=build_root.cache()) as temporary:
        work = Path(temporary)
        frozen(root, work)
        pass_gate(work / "dist" / "gate")
        for arch in wanted:
            is_native = arch == architecture()
            made = work / "dist" / "cni-reaper" if is_native else moved(root, work, arch)
            seal(made)
            if is_native:
                for argument in ("--version", "--help"):
                    build_root.run(made, argument)
                build_root.run(made, CNI_COMMAND="VERSION")
            to = out / ("" if is_native else arch) / "cni-reaper"
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(made, to.with_name(".cni-reaper.new"))
            to.with_name(".cni-reaper.new").replace(to)


if __name__ == "__main__":
    try:
        main()
    except BuildError as error:
        sys.exit(f"build: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
