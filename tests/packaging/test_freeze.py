"""The executable as a file: what is in it and what is not, how its modules are found, and how it is made again, byte by byte."""

import marshal
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from cni_reaper_plugin.operator.executable import frozen
from tests.packaging import archive
from tests.support.programs import ROOT, Programs

sys.path.insert(0, str(ROOT / "packaging"))
import build_root
import contents
import freeze
import modules

LARGEST_MB = 12
ET_EXEC, PT_DYNAMIC, PT_INTERP = 2, 2, 3
"""Of elf(5)."""
MODULE, PACKAGE = 0, 1
"""PyInstaller's kinds."""


@pytest.fixture(scope="session")
def whole(programs: Programs) -> bytes:
    """The executable's content."""
    return programs.reaper.read_bytes()


def printed(programs: Programs, *arguments: str) -> bytes:
    """Return what the executable prints."""
    return subprocess.run([programs.reaper, *arguments], env={}, capture_output=True, check=True).stdout


# The file


def test_is_one_static_file(whole: bytes) -> None:
    """An ELF file at a fixed address, without interpreter and dynamic section, without a symbol table, and not large."""
    assert struct.unpack_from("<H", whole, 16) == (ET_EXEC,)
    assert not archive.segments(whole) & {PT_DYNAMIC, PT_INTERP}
    assert not {".interp", ".dynamic", ".dynsym", ".symtab"} & archive.sections(whole).keys()
    assert len(whole) <= LARGEST_MB * 2**20


def test_holds_no_path_of_the_machine_it_was_made_on(whole: bytes) -> None:
    """It names neither this checkout, nor the cache, nor a temporary directory, nor a Python that not every machine has there."""
    places = {str(ROOT), str(build_root.cache()), f"{tempfile.gettempdir()}/", "freeze-", sys.base_prefix} - {"/usr", "/tmp/"}
    assert [place for place in places if place.encode() in whole] == []


def test_ends_with_its_sum(programs: Programs, arm64: Path) -> None:
    """The last line is the SHA-256 of all that comes before it, on both architectures."""
    for path in (programs.reaper, arm64):
        with path.open("rb") as file:
            told, found = frozen.sums(file.fileno()) or ("", "none")
        assert told == found, path


def test_both_architectures_have_the_same_archive(whole: bytes, arm64: Path) -> None:
    """Frozen once, linked twice."""
    assert archive.packed(whole) == archive.packed(arm64.read_bytes())


# The modules


def test_holds_each_module_once_and_none_that_is_left_out(whole: bytes) -> None:
    """The cold ones of cni-reaper, what is asked for by name, what the analysis finds; not the hot ones, which are elsewhere."""
    sources = modules.sources(ROOT)
    hot = {*modules.hot(sources, modules.VERSION), *modules.hot(sources, modules.VERBS)}
    found = archive.modules(whole)
    assert {name for name in found if name.startswith(f"{modules.PACKAGE}.")} == set(sources) - hot
    assert set(contents.BY_NAME) <= set(found)
    left_out = {name for name in found if name in contents.LEFT_OUT or name.partition(".")[0] in contents.LEFT_OUT}
    assert left_out == set()
    assert {"PyInstaller", "orjson", "inotify_simple", "ctypes"} & {name.partition(".")[0] for name in found} == set()
    for listed in (contents.BY_NAME, contents.LEFT_OUT):
        assert all(listed.values()), "each says what for"


def test_hot_modules_come_after_what_they_import() -> None:
    """The order in which the modules are run is read from the sources; the operator's commands are not in it."""
    sources = modules.sources(ROOT)
    late = (".full_evidence", ".addresses", ".runtime_names", ".libcni_cache", ".packed")
    for way in (modules.VERSION, modules.VERBS):
        hot = modules.hot(sources, way)
        assert hot[0] == "cni_reaper_plugin"
        assert hot[-1] == way
        assert modules.MAIN in hot
        assert not [name for name in hot if ".operator" in name or name.endswith(late)]
        assert set(hot) < set(sources)


def test_version_and_the_other_verbs_have_their_own_hot_modules() -> None:
    """What neither way shares with the other: VERSION does not pay for what judges, nor an ADD for what answers VERSION."""
    sources = modules.sources(ROOT)
    version, verbs = (set(modules.hot(sources, way)) for way in (modules.VERSION, modules.VERBS))
    assert version - verbs == {modules.VERSION}
    assert {
        f"{modules.PACKAGE}.{name}" for name in ("reaper.sweep", "host_local.store", "reaper.decision", "evidence.records")
    } <= verbs - version
    assert len(version) < 10


def written(root: Path, files: dict[str, str]) -> Path:
    """Write a package of the shape of cni-reaper's below `root`; names are relative to the package."""
    ways = {"plugin/__init__.py": "", "plugin/version.py": "", "plugin/verbs.py": ""}
    for name, text in {**ways, **files}.items():
        file = root / modules.PACKAGE / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_hot_modules_may_import_each_other_in_any_way(tmp_path: Path) -> None:
    """Absolute or relative, a module or a name of it: all of them are found, and none that only a function imports."""
    root = written(
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
            "plugin/verbs.py": "from cni_reaper_plugin import last, more",
            "more.py": "",
        },
    )

    def hot(way: str) -> list[str]:
        return [name.removeprefix(modules.PACKAGE).removeprefix(".") for name in modules.hot(modules.sources(root), way)]

    each = ["", "values", "room", "room.second", "room.first", "last", "__main__", "plugin"]
    assert hot(modules.VERSION) == [*each, "plugin.version"]
    assert hot(modules.VERBS) == [*each, "more", "plugin.verbs"]


def started(root: Path, script: str, damage: Callable[[str, bytes], bytes] = lambda _, code: code) -> str:
    """Run bootstrap.py in this Python with the modules of a package: VERSION's in it, all others in an archive; then a script.

    The call is another one than VERSION. damage: what becomes of a cold module's code, by its name. Returns what is printed.
    """
    sources = modules.sources(root)
    version, hot = (modules.hot(sources, way) for way in (modules.VERSION, modules.VERBS))
    packed, table = bytearray(16), []
    for name in sources:
        if name not in (*version, *hot):
            code = damage(name, marshal.dumps(compile(sources[name].read_bytes(), name, "exec")))
            kind = PACKAGE if sources[name].name == "__init__.py" else MODULE
            table.append((name, (kind, len(packed), len(code))))
            packed += code
    packed[8:12] = len(packed).to_bytes(4, "big")
    packed += marshal.dumps(table)
    place = len(packed), len(modules.marshalled(root, hot))
    (root / "archive").write_bytes(bytes(packed) + modules.marshalled(root, hot))
    own = modules.marshalled(root, version)
    made = modules.bootstrap_with(ROOT / "packaging" / "bootstrap.py", own, place, marshal.dumps(table))
    (root / "bootstrap").write_bytes(marshal.dumps(made))
    start = f"""if True:
        import marshal, sys
        sys._pyinstaller_pyz, sys._complete = {str(root / "archive")!r} + "?0", lambda: None
        scope = {{"__name__": "bootstrap"}}
        exec(marshal.load(open({str(root / "bootstrap")!r}, "rb")), scope)
        sys.meta_path.append(scope["finder"])
        scope["run_modules"](scope["_read"](*scope["VERBS_MODULES"]))
    """
    argv = [sys.executable, "-I", "-S", "-c", f"{start}\n{script}"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_hot_modules_run_and_find_their_cold_ones(tmp_path: Path) -> None:
    """Run the way the executable runs them, modules know their package, and a package finds in the archive what is cold."""
    root = written(
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
    script = 'main = sys.modules["cni_reaper_plugin.__main__"]; print(*main.SEEN, main.hot.late.__code__.co_filename)'
    room = "cni_reaper_plugin.room"
    expected = [f"{room}.cold", "cni_reaper_plugin.other", room, "cni_reaper_plugin/room/hot.py"]
    assert started(root, script).split() == expected


def test_a_package_that_only_says_what_it_is_costs_no_code(tmp_path: Path) -> None:
    """It is made, and nothing is run for it; one that does something is run."""
    files = {
        "__init__.py": "WHO = 1",
        "__main__.py": "from .room import hot",
        "room/__init__.py": '"""A room."""',
        "room/hot.py": "",
    }
    root = written(tmp_path, files)
    names = modules.hot(modules.sources(root), modules.VERBS)
    codes = {name: code for name, _, _, _, code in marshal.loads(modules.marshalled(root, names))}
    room = "cni_reaper_plugin.room"
    assert (codes[room], codes["cni_reaper_plugin"] is None) == (None, False)
    script = f"import {room}.hot as hot; print(sys.modules['{room}'].hot is hot, sys.modules['cni_reaper_plugin'].WHO)"
    assert started(root, script).split() == ["True", "1"]


def test_cold_modules_are_read_from_the_archive(tmp_path: Path) -> None:
    """By either way of importing; one that fails or is damaged is not left half made, and one that is missing is importlib's."""
    sources = {"__init__.py": "", "__main__.py": "", "good.py": "from . import also", "also.py": "", "broken.py": "1 / 0"}
    root = written(
        tmp_path, {**sources, "cut.py": "x = 1", "room/__init__.py": "", "room/cold.py": "import cni_reaper_plugin.also"}
    )
    script = """if True:
        for name in ("good", "also", "broken", "cut", "missing", "room.cold", "room.missing"):
            for form in ("from cni_reaper_plugin{0} import {1}", "import cni_reaper_plugin{0}.{1}"):
                package, _, own = name.rpartition(".")
                try:
                    exec(form.format(package and "." + package, own))
                    said = "found"
                except Exception as e:
                    said = type(e).__name__
                    assert "cni_reaper_plugin." + name not in sys.modules
                print(name, said)
    """
    said = started(root, script, lambda name, code: code[: len(code) // 2] if name.endswith(".cut") else code).splitlines()
    assert said[::2] == [
        "good found",
        "also found",
        "broken ZeroDivisionError",
        "cut EOFError",
        "missing ImportError",
        "room.cold found",
        "room.missing ImportError",
    ]
    assert said[1::2] == [line.replace("missing ImportError", "missing ModuleNotFoundError") for line in said[::2]]


# What a package takes out of it


def test_packed_files_are_printed(programs: Programs) -> None:
    """Completions for each shell, the manual page, and the systemd units as they are in this tree."""
    for shell in ("bash", "zsh", "fish"):
        assert b"cni-reaper" in printed(programs, "completion", shell)
    assert printed(programs, "man").startswith(b".TH CNI\\-REAPER")
    units = list((ROOT / "packaging" / "systemd").glob("cni-reaper-*"))
    assert len(units) > 2
    for unit in units:
        assert printed(programs, "units", unit.name) == unit.read_bytes()


def test_says_what_it_was_built_of(programs: Programs) -> None:
    """`version --verbose`: the commit, the interpreter, and a version of each part."""
    said = dict(line.split(None, 1) for line in printed(programs, "version", "--verbose").decode().splitlines()[1:])
    assert said["python"].startswith("3.13.")
    assert {"commit", "orjson", "rich", "pyinstaller", "glibc", "gcc", "rust"} <= said.keys()


# Making it


def copied(into: Path) -> Path:
    """Copy what a freeze reads of this tree."""
    for name in ("cni_reaper_plugin", "packaging", "requirements"):
        shutil.copytree(ROOT / name, into / name, ignore=shutil.ignore_patterns("__pycache__"))
    return into


def frozen_again(programs: Programs, tree: Path, *arches: str) -> subprocess.CompletedProcess[str]:
    """Freeze a copy of this tree as the commit that the executable says it is of."""
    (commit,) = (
        line.split()[1]
        for line in printed(programs, "version", "--verbose").decode().splitlines()
        if line.split()[:1] == ["commit"]
    )
    environment = {**os.environ, "CNI_REAPER_COMMIT": commit, "SOURCE_DATE_EPOCH": str(freeze.committed_s())}
    argv = [sys.executable, str(tree / "packaging" / "freeze.py"), str(tree / "out"), *arches]
    return subprocess.run(argv, cwd=tree, env=environment, capture_output=True, text=True)


def test_two_builds_are_equal(programs: Programs, arm64: Path, tmp_path: Path) -> None:
    """Made again in another folder, from the same sources and the same build root, for both architectures: byte by byte."""
    done = frozen_again(programs, copied(tmp_path), "amd64", "arm64")
    assert done.returncode == 0, done.stderr
    native = build_root.architecture()
    made = {arch: tmp_path / "out" / ("" if arch == native else arch) / "cni-reaper" for arch in ("amd64", "arm64")}
    assert made.pop(native).read_bytes() == programs.reaper.read_bytes()
    for other in made.values():
        assert other.read_bytes() == arm64.read_bytes()


BREAKS = {
    "a module is left out": ("contents.py", '"doctest"', '"doctest", "textwrap"', "textwrap"),
    "orjson is served another name": ("bootstrap.py", '"uuid": ("UUID", nobody)', '"uuid": ("UUIDs", nobody)', "gate failed"),
    "orjson asks for another name": ("freeze.py", '"uuid.UUID", ', "", "bootstrap.py must be changed"),
}


@pytest.mark.parametrize(("file", "old", "new", "says"), BREAKS.values(), ids=BREAKS.keys())
def test_gate_stops_a_freeze(programs: Programs, tmp_path: Path, file: str, old: str, new: str, says: str) -> None:
    """It makes no executable, and says what is wrong."""
    tree = copied(tmp_path)
    path = tree / "packaging" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    done = frozen_again(programs, tree)
    assert done.returncode == 1
    assert says in done.stderr, done.stderr
    assert not (tree / "out").exists()


ANSWERS = {"everything": "3 modules", "asked": "\n".join(sorted(freeze.SERVED)), "light": "same", "real": "same"}


@pytest.mark.parametrize(
    ("what", "answer", "says"),
    [
        ("everything", "json: ModuleNotFoundError", "json: ModuleNotFoundError"),
        ("asked", "uuid.UUID", "bootstrap.py must be changed"),
        ("light", "another", "orjson answers differently"),
        ("", "", ""),
    ],
)
def test_gate_looks_at_each_answer(tmp_path: Path, what: str, answer: str, says: str) -> None:
    """Each of its answers is looked at, with a script in its place."""
    script = "".join(f"{name})\ncat <<'END'\n{text}\nEND\n;;\n" for name, text in {**ANSWERS, what: answer}.items() if name)
    gate = tmp_path / "gate"
    gate.write_text(f"#!/bin/sh\ncase $1 in\n{script}esac\n")
    gate.chmod(0o755)
    if not says:
        freeze.pass_gate(gate)
        return
    with pytest.raises(build_root.BuildError, match=says):
        freeze.pass_gate(gate)


def test_what_is_for_types_only_is_not_frozen() -> None:
    """Every line keeps its number, and the rest of a module stays as it is."""
    kept = (b'"""A room."""', b"import posix", b"X = posix")
    for_types = (b"from typing import TYPE_CHECKING", b"if TYPE_CHECKING:\n    from os import PathLike")
    source = b"\n".join((kept[0], for_types[0], kept[1], for_types[1], kept[2]))
    assert modules.untyped(source) == b"\n".join((kept[0], b"", kept[1], b"\n", kept[2]))
    other = b"if TYPE_CHECKING:\n    X = 1\nelse:\n    X = 2\n"
    assert modules.untyped(other) == other


def test_a_cold_module_has_no_annotations_but_its_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would cost a sweep that frees something, and one of `__future__` the whole interpreter; dataclasses need theirs."""
    source = """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from nowhere import Nothing
X: Nothing = 1
@dataclass(frozen=True)
class Fields:
    one: Nothing
    two: int = 2
    def three(self, four: Nothing = 4) -> Nothing:
        five: Nothing = four
        return five
"""
    (tmp_path / "cold.py").write_text(source)
    code = modules.cold(tmp_path / "cold.py", tmp_path)
    assert "__future__" not in code.co_names
    module = types.ModuleType("cold")
    monkeypatch.setitem(sys.modules, "cold", module)
    exec(code, module.__dict__)
    made = module.Fields(1)
    assert (made.two, made.three(), module.X) == (2, 4, 1)
    assert made.three.__annotations__ == {}
