"""The parts that are linked or frozen into the executable: what each is, its licence, and where its source is.

sbom.py makes the bill of materials of them. `write_licences` writes the texts of the licences, and how to link the executable
again. The versions are those of the build root.
"""

import json
import re
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import build_root
import freeze
from build_root import ROOT, BuildError
from packageurl import PackageURL

Toml = dict[str, Any]
_GCC = "GPL-3.0-or-later WITH GCC-exception-3.1"
_PYINSTALLER = "GPL-2.0-or-later WITH Bootloader-exception"
_HEADER = re.compile(r"\A/\*=*\s*(.*?)\s*=*\*/", re.DOTALL)
"""The comment at the top of a C file."""


@dataclass(frozen=True)
class Part:
    """One part of the executable. texts: files with its licence; a C file counts for the comment at its top."""

    name: str
    licence: str
    source: PackageURL
    what: str
    texts: tuple[Path, ...]

    @property
    def version(self) -> str:
        """Its version."""
        return str(self.source.version)


class _Root:
    """A build root, as the parts for one architecture are found in it."""

    def __init__(self, root: Path, arch: str) -> None:
        self.debian: dict[str, str] = json.loads((root / "build/packages.json").read_bytes())
        self.python = freeze.python_packages(root)
        self.build = root / "build"
        self.doc = root / "usr/share/doc"
        self.common = root / "usr/share/common-licenses"
        self._arch = arch
        self._is_native = arch == build_root.architecture()

    def glibc(self) -> tuple[str, str]:
        """Return the name and the version of the package that the C library comes from. Raises BuildError."""
        return "libc6-dev", self._version("libc6-dev" if self._is_native else f"libc6-dev:{self._arch}")

    def libgcc(self) -> tuple[str, str]:
        """Return the name and the version of the package that the compiler's library comes from. Raises BuildError."""
        pattern = r"libgcc-\d+-dev" + ("" if self._is_native else f"-{self._arch}-cross")
        found = [name for name in self.debian if re.fullmatch(pattern, name)]
        if len(found) != 1:
            raise BuildError(f"the build root has {found or 'no package'} for {pattern}: parts.py must be changed.")
        return found[0], re.sub(r"cross\d+$", "", self._version(found[0]))

    def _version(self, package: str) -> str:
        if package not in self.debian:
            raise BuildError(f"the build root has no {package}: parts.py must be changed.")
        return self.debian[package]

    def pypi(self, name: str) -> PackageURL:
        """Return the source of a Python package."""
        return PackageURL("pypi", None, name, self.python[name])

    def text(self, package: str, *common: str) -> tuple[Path, ...]:
        """Return what Debian says of a package's licence, with the common licences that this names."""
        return self.doc / package / "copyright", *(self.common / name for name in common)


def _debian(source: str, version: str, suite: str = build_root.SUITE) -> PackageURL:
    return PackageURL("deb", "debian", source, version, {"arch": "source", "distro": suite})


def _licences_in(directory: Path) -> tuple[Path, ...]:
    """Return the files with licences in a source package."""
    return tuple(sorted(one for one in directory.iterdir() if re.match(r"(UN)?LICEN[CS]E|COPYING", one.name, re.IGNORECASE)))


def _defined(header: Path, name: str) -> str:
    """Return a text that a C header defines. Raises BuildError."""
    found = re.search(rf'^#define {name} "([^"]+)"', header.read_text(), re.MULTILINE)
    if not found:
        raise BuildError(f"{header} does not define {name}: parts.py must be changed.")
    return found[1]


def crates(orjson: Path) -> list[Part]:
    """Return the Rust packages that orjson links: those it needs without a feature, and those that these need."""
    vendored: dict[str, tuple[Path, Toml]] = {}
    for directory in (orjson / "include/cargo").iterdir():
        about = tomllib.loads((directory / "Cargo.toml").read_text())
        vendored[about["package"]["name"]] = directory, about
    found: set[str] = set()
    waiting = [tomllib.loads((orjson / "Cargo.toml").read_text())]
    while waiting:
        for name, needed in waiting.pop().get("dependencies", {}).items():
            if name not in found and not (isinstance(needed, dict) and needed.get("optional")):
                found.add(name)
                waiting.append(vendored[name][1])
    parts = []
    for name in sorted(found):
        directory, about = vendored[name]
        licence, source = (
            about["package"]["license"].replace("/", " OR "),
            PackageURL("cargo", None, name, about["package"]["version"]),
        )
        parts.append(Part(name, licence, source, "part of orjson", _licences_in(directory)))
    return parts


def parts(root: Path, arch: str) -> list[Part]:
    """Return the parts of the executable for an architecture. root: the build root. Raises BuildError."""
    its = _Root(root, arch)
    orjson, pyinstaller = its.build / "orjson", its.build / "pyinstaller"
    yyjson, zlib = orjson / "include/yyjson/yyjson.h", pyinstaller / "bootloader/zlib"
    yyjson_is = PackageURL("github", "ibireme", "yyjson", _defined(yyjson, "YYJSON_VERSION_STRING"))
    zlib_is = PackageURL("generic", None, "zlib", _defined(zlib / "zlib.h", "ZLIB_VERSION"))
    python = _debian(build_root.PYTHON, its.debian[f"{build_root.PYTHON}:source"])
    rust = _debian("rustc", its.debian["libstd-rust-dev"], f"{build_root.SUITE}-backports")
    libc, libc_version = its.glibc()
    libgcc, libgcc_version = its.libgcc()
    gcc = libgcc.removeprefix("lib").partition("-dev")[0]
    (rich,) = (its.build / "site").glob("rich-*.dist-info/licenses")
    hacl = its.build / "cpython/Modules/_hacl/Hacl_Hash_SHA2.c"
    text = its.text
    return [
        Part("cpython", "PSF-2.0", python, "the interpreter and its standard library", text(f"lib{build_root.PYTHON}-dev")),
        Part("hacl-star", "MIT", python, "hash functions, part of CPython", (hacl,)),
        Part("glibc", "LGPL-2.1-or-later", _debian("glibc", libc_version), "the C library", text(libc, "LGPL-2.1", "GPL-2")),
        Part("libgcc", _GCC, _debian(gcc, libgcc_version), "the compiler's own library", text(libgcc, "GPL-3")),
        Part("orjson", "MPL-2.0 AND (Apache-2.0 OR MIT)", its.pypi("orjson"), "JSON", _licences_in(orjson)),
        *crates(orjson),
        Part("yyjson", "MIT", yyjson_is, "part of orjson", (yyjson,)),
        Part("rust-std", "MIT OR Apache-2.0", rust, "Rust's standard library, in orjson", text("libstd-rust-dev")),
        Part("pyinstaller", _PYINSTALLER, its.pypi("pyinstaller"), "the bootloader", (pyinstaller / "COPYING.txt",)),
        Part("zlib", "Zlib", zlib_is, "part of PyInstaller's bootloader", (zlib / "LICENSE",)),
        Part("rich", "MIT", its.pypi("rich"), "tables of the operator's commands", _licences_in(rich)),
    ]


SOURCES = """\
# Sources, and how to link cni-reaper again

The executable is linked statically. These are its parts:

| part | version | licence | source |
|---|---|---|---|
| cni-reaper | {version} | Apache-2.0 | commit {commit} |
{rows}

`pkg:deb/debian/NAME@VERSION` is a Debian source package: `apt-get source NAME=VERSION` with the `deb-src` line of its suite, or
Debian's archive of snapshots for a version that the suite no longer has. `pkg:pypi` is a source package of PyPI, `pkg:cargo` a
package of Rust's, which is inside orjson's source package. hacl-star is in CPython's source, yyjson in orjson's, zlib in
PyInstaller's.

## Link it with another glibc

glibc is under the LGPL 2.1, and its section 6 grants you this. All that is needed is in cni-reaper's source, at the commit above:

1. `python3 packaging/build_root.py` prints the path of the build root. It has the compiler and every other part, as object files
   or as source.
2. Replace `libc.a` in it: in `usr/lib/x86_64-linux-gnu` for amd64, in `usr/aarch64-linux-gnu/lib` for arm64 (on an arm64 machine
   the other way round).
3. `packaging/bootloader/link.sh` is the recipe of the link, `python3 packaging/freeze.py OUT amd64 arm64` runs it. Remove
   `bootloader-*` beside the build root before: they were linked with the other glibc.
"""


def write_licences(root: Path, arch: str, version: str, commit: str, into: Path) -> None:
    """Write the licences of all parts, and SOURCES.md.

    Args:
        root: the build root.
        arch: the executable's architecture.
        version: cni-reaper's.
        commit: cni-reaper's.
        into: a directory that does not exist yet.

    Raises:
        BuildError: a part is not as it was when this was written.
    """
    found = parts(root, arch)
    (into / "cni-reaper").mkdir(parents=True)
    shutil.copy(ROOT / "LICENSE", into / "cni-reaper")
    for part in found:
        (into / part.name).mkdir()
        if not part.texts:
            raise BuildError(f"{part.name} has no licence where parts.py looks for it.")
        for text in part.texts:
            if text.suffix in (".c", ".h"):
                header = _HEADER.match(text.read_text())
                if not header:
                    raise BuildError(f"{text} does not begin with its licence: parts.py must be changed.")
                (into / part.name / "LICENSE").write_text(re.sub(r"^ \*? ?", "", header[1], flags=re.MULTILINE) + "\n")
            else:
                shutil.copyfile(text, into / part.name / text.name)  # PyInstaller's have the mode of a program
    rows = "\n".join(f"| {part.name} | {part.version} | {part.licence} | `{part.source}` |" for part in found)
    (into / "SOURCES.md").write_text(SOURCES.format(version=version, commit=commit, rows=rows))
