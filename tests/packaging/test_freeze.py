"""The frozen bundle: what is in it, what a start opens, and under which odd circumstances it still starts."""

import marshal
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import inside
from tests.neighbours import ROOT, Neighbours
from tests.node import Node

sys.path.insert(0, str(ROOT / "packaging"))
import contents
import modules

VERSION = {"CNI_COMMAND": "VERSION"}
ANSWER = b'{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}'
LARGEST_MB = 13
CODECS = ("__init__", "aliases", "utf_8")


@pytest.fixture(scope="session")
def bundle(programs: Neighbours) -> Path:
    """The directory of the bundle."""
    return programs.reaper.parent


@pytest.fixture(scope="session")
def copied(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundle under a name with blanks and letters beyond ASCII; return the executable."""
    copy = tmp_path_factory.mktemp("cni bin ä→") / "cni-reaper"
    shutil.copytree(bundle, copy)
    return copy / "cni-reaper"


@pytest.fixture
def in_node(node: Node, bundle: Path) -> Iterator[str]:
    """The path of the executable inside a private node, on a read-only mount."""
    node.path("/run/bundle").mkdir()
    node.mount(str(bundle), "/run/bundle", flags=inside.MS_BIND)
    node.mount("none", "/run/bundle", flags=inside.MS_BIND | 32 | 1)  # MS_REMOUNT | MS_RDONLY
    yield "/run/bundle/cni-reaper"
    node.umount("/run/bundle")


def run(executable: Path | str, *, env: dict[str, str] | None = None, **options: object) -> bytes:
    """Run VERSION with nothing in the environment but what is given; return stdout."""
    done = subprocess.run(
        [executable], env={**VERSION, **(env or {})}, stdin=subprocess.DEVNULL, capture_output=True, check=True, **options
    )  # type: ignore[call-overload]
    assert done.stderr == b""
    answer: bytes = done.stdout
    return answer


def test_hot_modules_come_behind_what_they_import() -> None:
    """The order in which the bootloader runs the modules is read from the sources; the operator's commands are not in it."""
    sources = modules.sources(ROOT)
    hot = modules.hot(sources)
    assert hot[0] == "cni_reaper_plugin"
    assert hot[-1] == "cni_reaper_plugin.__main__"
    assert not [
        name for name in hot if ".operator" in name or name.endswith((".closer", ".addresses", ".named", ".libcni_cache"))
    ]
    assert set(hot) < set(sources)


def test_holds_no_path_of_the_machine_it_was_made_on(bundle: Path) -> None:
    """No file of the bundle names this checkout, the directory it was frozen in, or a Python that not everybody has there."""
    places = {str(ROOT), str(Path(tempfile.gettempdir()) / "freeze-"), sys.base_prefix} - {"/usr", "/usr/local"}
    files = [file for file in bundle.rglob("*") if file.is_file()]
    assert [(file, place) for file in files for place in places if place.encode() in file.read_bytes()] == []


def made(root: Path, files: dict[str, str]) -> Path:
    """Write a package of the shape of ours below `root`; names are relative to the package."""
    for name, text in files.items():
        file = root / modules.PACKAGE / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_hot_modules_may_import_each_other_in_any_way(tmp_path: Path) -> None:
    """Absolute or relative, a module or a name of it: all of them are found, and none that only a function imports."""
    root = made(
        tmp_path,
        {
            "__init__.py": "",
            "__main__.py": "from .room import first, VALUE\nimport cni_reaper_plugin.last",
            "room/__init__.py": "from cni_reaper_plugin.values import VALUE",
            "room/first.py": "from ..values import VALUE\nfrom . import second",
            "room/second.py": "def late():\n    from . import cold",
            "room/cold.py": "",
            "values.py": "VALUE = 1",
            "last.py": "if False:\n    from . import never",
            "never.py": "",
        },
    )
    short = [name.removeprefix(modules.PACKAGE).removeprefix(".") for name in modules.hot(modules.sources(root))]
    assert short == ["", "values", "room", "room.second", "room.first", "last", "__main__"]


def test_hot_modules_run_and_find_their_cold_ones(tmp_path: Path) -> None:
    """Run the way the executable runs them, modules know their package, and a package finds below its path what is cold."""
    root = made(
        tmp_path,
        {
            "__init__.py": "",
            "__main__.py": "from .room import hot\nSEEN = hot.late()",
            "room/__init__.py": "",
            "room/hot.py": "def late():\n from . import cold\n from .. import other\n return cold.WHO, other.WHO, __package__",
            "room/cold.py": "WHO = __name__",
            "other.py": "WHO = __name__",
        },
    )
    frozen = modules.bootstrap_with(ROOT / "packaging" / "bootstrap.py", root)
    (tmp_path / "bootstrap").write_bytes(marshal.dumps(frozen))
    script = """if True:
        import marshal, sys
        scope = {"__name__": "bootstrap"}
        exec(marshal.load(open(sys.argv[1], "rb")), scope)
        scope["run_modules"](scope["HOT_MODULES"], sys.argv[2])
        main = sys.modules["cni_reaper_plugin.__main__"]
        print(*main.SEEN, main.hot.late.__code__.co_filename)
    """
    argv = [sys.executable, "-I", "-S", "-c", script, str(tmp_path / "bootstrap"), str(root)]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    room = "cni_reaper_plugin.room"
    assert done.stdout.split() == [f"{room}.cold", "cni_reaper_plugin.other", room, "cni_reaper_plugin/room/hot.py"]


def test_cold_modules_are_read_from_their_files(tmp_path: Path) -> None:
    """A package reads a cold module itself; what it cannot read or understand is importlib's, with importlib's words for it."""
    sources = {"__init__.py": "", "__main__.py": "", "good.py": "from . import also", "also.py": "", "broken.py": "1 / 0"}
    root = made(tmp_path, {**sources, "old.py": "", "cut.py": "", "room/__init__.py": "", "room/cold.py": ""})
    package = root / "cni_reaper_plugin"
    for file in package.rglob("*.py"):
        py_compile.compile(str(file), str(file.with_suffix(".pyc")), doraise=True)
        file.unlink()
    (package / "old.pyc").write_bytes(b"\0" * 4 + (package / "old.pyc").read_bytes()[4:])
    (package / "cut.pyc").write_bytes((package / "cut.pyc").read_bytes()[:40])
    script = """if True:
        import marshal, sys
        scope = {"__name__": "bootstrap"}
        exec(marshal.load(open(sys.argv[1], "rb")), scope)
        scope["run_modules"]([("cni_reaper_plugin", True, compile("", "", "exec"))], sys.argv[2])
        for name in ("good", "also", "broken", "old", "cut", "missing", "room"):
            try:
                exec("from cni_reaper_plugin import " + name)
                module = sys.modules["cni_reaper_plugin." + name]
                said = "itself" if module.__spec__ is None else "importlib"
            except Exception as e:
                said = type(e).__name__
                assert "cni_reaper_plugin." + name not in sys.modules
            print(name, said)
    """
    made_without_it = modules.bootstrap_with(ROOT / "packaging" / "bootstrap.py", ROOT)
    (tmp_path / "bootstrap").write_bytes(marshal.dumps(made_without_it))
    argv = [sys.executable, "-I", "-S", "-c", script, str(tmp_path / "bootstrap"), str(root)]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    assert dict(line.split() for line in done.stdout.splitlines()) == {
        "good": "itself",
        "also": "itself",
        "broken": "ZeroDivisionError",
        "old": "ImportError",
        "cut": "EOFError",
        "missing": "ImportError",
        "room": "importlib",
    }


def test_holds_nothing_it_does_not_use(bundle: Path) -> None:
    """Each file is one of contents.py, which says what for, or a cold module of ours; none is setuid or for others to write."""
    files = [file for file in bundle.rglob("*") if file.is_file()]
    sources = modules.sources(ROOT)
    cold = set(sources) - set(modules.hot(sources))
    assert {entry.name for entry in bundle.iterdir()} <= {"cni-reaper", "_internal", "licences", "sbom", "SHA256SUMS"}
    unknown = []
    for file in (bundle / "_internal").rglob("*"):
        name = ".".join(file.relative_to(bundle / "_internal").with_suffix("").parts)
        module, extension = name.removesuffix(".__init__"), file.name.partition(".")[0]
        if file.is_dir() or (file.suffix == ".pyc" and (module in contents.MODULES or module in cold)):
            continue
        if "lib-dynload" in file.parts and extension in contents.EXTENSIONS:
            continue
        if not file.name.startswith(tuple(contents.LIBRARIES)) and file.name not in contents.DATA:
            unknown.append(file)
    assert unknown == []
    for listed in (contents.MODULES, contents.EXTENSIONS, contents.LIBRARIES, contents.DATA):
        assert all(listed.values())
    assert sum(file.stat().st_size for file in files) < LARGEST_MB * 2**20
    assert not [file for file in files if file.stat().st_mode & 0o6022]


def test_needs_no_library_of_the_node_but_glibc(bundle: Path) -> None:
    """Every other library that one of the bundle needs is in it, and is found from there, whatever the node has."""
    glibc = ("libc.so", "libm.so", "libdl.so", "libpthread.so", "librt.so", "libutil.so", "ld-linux", "libgcc_s.so")
    for file in bundle.rglob("*"):
        if not file.is_file() or file.read_bytes()[:4] != b"\x7fELF":
            continue
        told = subprocess.run(["objdump", "-p", file], capture_output=True, check=True, text=True).stdout.split("\n")
        needed = {line.split()[1] for line in told if line.strip().startswith("NEEDED")}
        places = {
            line.split()[1].replace("$ORIGIN", str(file.parent)) for line in told if line.strip().startswith(("RUNPATH", "RPATH"))
        }
        for name in needed:
            if not name.startswith(glibc):
                assert [place for place in places if (Path(place) / name).exists()], f"{file} needs {name}"


def test_a_start_opens_only_what_it_needs(bundle: Path, tmp_path: Path) -> None:
    """VERSION opens the interpreter, a codec, fcntl, _datetime, orjson and nothing else of the bundle; it writes no file."""
    trace = tmp_path / "trace"
    subprocess.run(
        ["strace", "-f", "-o", trace, "-e", "trace=openat,execve,creat,mkdir", bundle / "cni-reaper"],
        env=VERSION,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    lines = trace.read_text().splitlines()
    assert len([line for line in lines if "execve(" in line]) == 1
    assert not [line for line in lines if "O_CREAT" in line or "mkdir(" in line]
    opened = {Path(line.split('"')[1]) for line in lines if "openat(" in line and "= -1" not in line}
    ours = {file.name.partition(".")[0] for file in opened if bundle in file.parents and file.is_file()}
    assert ours <= {"cni-reaper", "libpython3", "orjson", "fcntl", "_datetime", *CODECS}, ours


def test_starts_through_symlinks(copied: Path, tmp_path: Path) -> None:
    """A link beside the bundle, a link to that link, and a linked directory lead to the same executable."""
    beside = copied.parent.parent / "link"
    beside.unlink(missing_ok=True)
    beside.symlink_to("cni-reaper/cni-reaper")
    (tmp_path / "again").symlink_to(beside)
    (tmp_path / "directory").symlink_to(copied.parent)
    for path in (copied, beside, tmp_path / "again", tmp_path / "directory" / "cni-reaper"):
        assert run(path) == ANSWER


ENVIRONMENTS = {
    "empty": {},
    "hostile to Python": {
        "PYTHONHOME": "/nonexistent",
        "PYTHONPATH": "/nonexistent",
        "PYTHONSTARTUP": "/nonexistent",
        "PYTHONINSPECT": "1",
        "PYTHONVERBOSE": "1",
        "PYTHONIOENCODING": "bogus",
        "PYTHONMALLOC": "debug",
    },
    "no such locale": {"LC_ALL": "de_DE.ISO-8859-1", "LANG": "xx"},
    "no such directories": {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "PATH": "", "LD_LIBRARY_PATH": "/nonexistent"},
    "inherited from another frozen program": {
        "_PYI_ARCHIVE_FILE": "/other",
        "_PYI_PARENT_PROCESS_LEVEL": "1",
        "_PYI_APPLICATION_HOME_DIR": "/bogus",
    },
}


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_starts_in_any_environment(copied: Path, environment: dict[str, str]) -> None:
    """Nothing in the environment keeps it from starting, or makes it say more."""
    assert run(copied, env=environment) == ANSWER


def test_starts_with_an_environment_that_is_not_utf_8(copied: Path) -> None:
    """A variable of raw bytes is no trouble."""
    done = subprocess.run(
        [copied], env={b"CNI_COMMAND": b"VERSION", b"X": b"\xff\xfe"}, stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    assert done.stdout == ANSWER


SHELL = {
    "working directory deleted": 'mkdir "$W/gone" && cd "$W/gone" && rmdir "$W/gone" && exec "$X" </dev/null',
    "stderr closed": 'exec "$X" </dev/null 2>&-',
    "stdin closed": 'exec "$X" <&-',
    "few file descriptors": 'ulimit -n 16; exec "$X" </dev/null',
    "little memory": 'ulimit -v 131072; exec "$X" </dev/null',
    "umask 077": 'umask 077; exec "$X" </dev/null',
    "no name of its own": 'exec -a "" "$X" </dev/null',
    "SIGPIPE ignored": 'trap "" PIPE; exec "$X" </dev/null',
}


@pytest.mark.parametrize("script", SHELL.values(), ids=SHELL.keys())
def test_starts_under_odd_circumstances(copied: Path, tmp_path: Path, script: str) -> None:
    """What a runtime or a shell may leave a child with is no trouble."""
    done = subprocess.run(
        ["bash", "-c", script],
        env={**VERSION, "X": str(copied), "W": str(tmp_path), "PATH": os.defpath},
        capture_output=True,
        check=True,
    )
    assert done.stdout == ANSWER


def test_starts_from_a_read_only_mount_without_proc(node: Node, in_node: str) -> None:
    """No /proc, and nowhere to write: VERSION answers."""
    node.mount("tmpfs", "/proc", "tmpfs")
    try:
        ran = node.run([in_node], env=VERSION)
    finally:
        node.umount("/proc")
    assert (ran.rc, ran.out, ran.err) == (0, ANSWER, b"")


def test_the_operators_command_line_works_frozen(copied: Path) -> None:
    """--help and --version come from cold modules, which the bundle has."""
    done = subprocess.run([copied, "--help"], env={}, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert b"conflist" in done.stdout
    done = subprocess.run([copied, "--version"], env={}, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert done.stdout.startswith(b"cni-reaper ")
