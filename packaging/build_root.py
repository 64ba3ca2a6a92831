"""The build root: a Debian 13 in which cni-reaper is linked and frozen, the same on every machine that builds it.

    python packaging/build_root.py [--update]        prints its path

The packages are found, checked (by the signatures of Debian's archive) and fetched by apt with a configuration of its own, and
unpacked by dpkg-deb. None of their scripts runs, so neither root nor debootstrap is needed, and nothing of this machine changes.
In it:

    /usr             gcc for both architectures, binutils, Python 3.13 and its static library (PGO, Debian's libpython3.13-dev)
    /build/other     Python's and C's static libraries for the other architecture
    /build/cpython   the C files that this library lacks, from the same source package
    /build/orjson-<machine>.a  orjson for both architectures, made by Rust of Debian's backports, which is then removed
    /build/pyinstaller  PyInstaller's bootloader, as source
    /build/site      the Python packages that freeze (requirements/build.txt)
    /build/packages.json  what was found: {name: version}

It is kept in CNI_REAPER_CACHE, by default ~/.cache/cni-reaper, as root-<hash of this recipe>-<hash of the versions>. Without
--update the newest one of this recipe is taken, and no network is needed.

CNI_REAPER_DEBIAN_MIRROR: the mirror; by default the one that this Debian machine uses.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SUITE = "trixie"
PYTHON = "python3.13"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
LACKING = (
    r"Modules/(termios|mmapmodule|_contextvarsmodule)\.c|Modules/clinic/(termios|mmapmodule|_contextvarsmodule)\.c\.h"
    r"|Modules/_hacl/.*\.[ch]"
)
"""Files of CPython's source package that libpython3.13.a has not got, a regular expression."""
INSIDE = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C", "PYTHONUTF8": "1", "PYTHONHASHSEED": "0"}
UNUSED_S = 30 * 86400.0
HELD: list[int] = []
"""The locks of this build, which its programs hold with it: one that outlives a killed build is waited for, too."""
_RUST = ("rustc", "cargo", "libstd-rust", "libllvm")


class BuildError(Exception):
    """The build cannot go on; one sentence that says why and what to do."""


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say how long a step took."""
    begun = time.monotonic()
    print(f"build: {what} …", file=sys.stderr, flush=True)
    yield
    print(f"build: {what}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)


def architecture() -> str:
    """Return Debian's name of this machine's architecture. Raises BuildError where cni-reaper is not built."""
    name = os.uname().machine
    found = {"x86_64": "amd64", "aarch64": "arm64"}.get(name)
    if found is None:
        raise BuildError(f"cni-reaper is built on x86_64 and aarch64, and this machine is {name}.")
    return found


def other(arch: str) -> str:
    """Return the other architecture."""
    (found,) = set(TRIPLETS) - {arch}
    return found


def cache() -> Path:
    """Return the directory where the products are kept."""
    given = os.environ.get("CNI_REAPER_CACHE")
    found = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cni-reaper"
    return found.absolute()


def packages(arch: str) -> dict[str, list[str]]:
    """Return what apt is asked for: with all that it needs, and alone."""
    cross = TRIPLETS[other(arch)].replace("_", "-")
    return {
        "install": [
            *("base-files", "bash", "coreutils", "dash", "grep", "libc-bin", "sed", "tar", "gzip"),
            *("gcc", "libc6-dev", "binutils", "python3", f"lib{PYTHON}-dev", "zlib1g-dev"),
            *(f"gcc-{cross}", f"libc6-dev-{other(arch)}-cross", "rustc", "cargo"),
        ],
        # Debian makes libc6-dev-<arch>-cross anew less often: it has no security updates, so glibc itself is taken alone
        "download": [f"{name}:{other(arch)}" for name in (f"lib{PYTHON}-dev", "libc6-dev", "libstd-rust-dev")],
    }


def hashed(*parts: str | Path) -> str:
    """Return twelve digits of the SHA-256 of texts and of files' contents."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(b"%d:" % len(content) + content)
    return digest.hexdigest()[:12]


def recipe(arch: str) -> str:
    """Return the hash of all that makes the build root, but for the versions that apt finds."""
    requirements = (ROOT / "requirements" / name for name in ("build.txt", "sources.txt"))
    return hashed(arch, Path(__file__), *sorted((HERE / "root").iterdir()), *requirements)


def run(*argv: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Run a command quietly and return what it printed. Raises BuildError with all that it said when it fails."""
    done = subprocess.run(
        [str(one) for one in argv],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        pass_fds=HELD,
    )
    if done.returncode:
        raise BuildError(f"{done.stdout}{done.stderr}\n{Path(argv[0]).name} failed; its last words are above.")
    return done.stdout


ENTER = """
PATH=$PATH:/usr/sbin:/sbin # where a user's has no chroot
mount --rbind /proc "$1/proc"
mount --rbind /dev "$1/dev"
root=$1; shift
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; shift 2; done
shift
exec chroot "$root" /usr/bin/env -i "$@"
"""


def namespaces() -> list[str]:
    """Return the command that gives a process a mount namespace of its own, as root or in a user namespace. Raises BuildError."""
    ways = [["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]]
    for way in ways if os.geteuid() == 0 else ways[1:]:
        if subprocess.run([*way, "true"], capture_output=True, check=False).returncode == 0:
            return way
    raise BuildError(
        "the build needs a mount namespace of its own, and this kernel or container grants none: run it as root, or allow user "
        "namespaces (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)."
    )


def inside(root: Path, argv: list[str], binds: dict[Path, str] | None = None, **environment: str) -> str:
    """Run a command in the build root and return what it printed.

    Args:
        root: the build root.
        argv: the command.
        binds: directories of this machine by their places inside, which exist.
        environment: more variables; nothing of this process' environment is passed.

    Raises:
        BuildError: it failed.
    """
    places = [str(one) for pair in (binds or {}).items() for one in pair]
    variables = [f"{name}={value}" for name, value in {**INSIDE, **environment}.items()]
    return run(*namespaces(), "sh", "-e", "-c", ENTER, "sh", root, *places, "--", *variables, *argv)


def mirror() -> str:
    """Return the mirror that this machine's apt uses for Debian itself. Raises BuildError where it uses none."""
    given = os.environ.get("CNI_REAPER_DEBIAN_MIRROR")
    if given:
        return given
    listed = run("apt-get", "indextargets", "--format", "$(REPO_URI)|$(SUITE)", "Created-By: Packages", "Label: Debian")
    found = [line.rpartition("|")[0] for line in listed.splitlines() if "-" not in line.rpartition("|")[2]]
    if not found:
        raise BuildError(
            "this machine's apt knows no Debian mirror: run apt-get update, or name one in CNI_REAPER_DEBIAN_MIRROR."
        )
    return found[0]


class Apt:
    """apt with lists, cache and configuration of its own, below a directory."""

    def __init__(self, directory: Path, arch: str) -> None:
        """Make its configuration, and fetch the lists of packages. Raises BuildError."""
        self._directory = directory
        for name in ("state/lists/partial", "cache/archives/partial"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / "status").touch()
        place = mirror()
        binary = [
            f"deb [signed-by={KEYRING}] {place} {suite} main" for suite in (SUITE, f"{SUITE}-updates", f"{SUITE}-backports")
        ]
        source = [f"deb-src [signed-by={KEYRING}] {place} {suite} main" for suite in (SUITE, f"{SUITE}-updates")]
        (directory / "sources.list").write_text("\n".join([*binary, *source, ""]))
        pinned = " ".join(f"{name}*:any" for name in _RUST)
        (directory / "preferences").write_text(f"Package: {pinned}\nPin: release n={SUITE}-backports\nPin-Priority: 600\n")
        (directory / "apt.conf").write_text(
            f'Dir::State "{directory}/state"; Dir::State::status "{directory}/status"; Dir::Cache "{directory}/cache";\n'
            f'Dir::Etc::sourcelist "{directory}/sources.list"; Dir::Etc::sourceparts "/dev/null";\n'
            f'Dir::Etc::preferences "{directory}/preferences"; Dir::Etc::preferencesparts "/dev/null";\n'
            f'APT::Architecture "{arch}"; APT::Architectures {{ "{arch}"; "{other(arch)}"; }};\n'
            'APT::Install-Recommends "false"; Acquire::Languages "none"; APT::Sandbox::User "root";\n'
        )
        self.get("update")

    def get(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run apt-get. Raises BuildError."""
        return run("apt-get", "-qq", *arguments, cwd=cwd, APT_CONFIG=str(self._directory / "apt.conf"), LC_ALL="C.UTF-8")

    def plan(self, wanted: dict[str, list[str]]) -> dict[str, str]:
        """Return the versions of all packages that will be fetched, and of the source package of Python."""
        simulated = self.get("--simulate", "install", *wanted["install"])
        found = dict(re.findall(r"^Inst (\S+) \((\S+) ", simulated, re.MULTILINE))
        uris = [*self.get("--print-uris", "download", *wanted["download"]).splitlines()]
        uris += self.get("--print-uris", "--download-only", "source", PYTHON).splitlines()
        for uri in uris:
            package = re.fullmatch(r"(\S+?)_(\S+?)(?:_(\S+)\.deb|\.dsc)", uri.split(" ")[1])
            if package:
                found[f"{package[1]}:{package[3] or 'source'}"] = package[2]
        return dict(sorted(found.items()))

    def fetch(self, wanted: dict[str, list[str]], into: Path) -> None:
        """Fetch packages into a directory, and Python's source package."""
        into.mkdir()
        self.get("--yes", "--download-only", "install", *wanted["install"])
        for package in (self._directory / "cache/archives").glob("*.deb"):
            package.rename(into / package.name)
        self.get("download", *wanted["download"], cwd=into)
        self.get("--download-only", "source", PYTHON, cwd=into)


def unpack(fetched: Path, root: Path, arch: str) -> None:
    """Unpack the packages into the root, and those that are for the other architecture alone beside it."""
    beside = root / "build" / "other"
    beside.mkdir(parents=True)
    debs = sorted(fetched.glob("*.deb"))

    def one(package: Path) -> None:
        is_other = package.name.endswith(f"_{other(arch)}.deb")
        to = beside if is_other and package.name.startswith((f"lib{PYTHON}-dev_", "libc6-dev_")) else root
        run("dpkg-deb", "--extract", package, to)

    for package in debs:
        if package.name.startswith("base-files_"):  # it makes /bin, /lib a link to /usr's
            one(package)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, debs))


def unpack_cpython(fetched: Path, into: Path) -> None:
    """Take from Python's source package the files that its static library lacks. Raises BuildError where Debian patches one."""
    into.mkdir()
    (debian,) = fetched.glob(f"{PYTHON}_*.debian.tar.xz")
    with tarfile.open(debian) as patches:
        for patch in patches.getmembers():
            if patch.isfile() and patch.name.startswith("debian/patches/"):
                content = patches.extractfile(patch)
                assert content is not None
                if re.search(rb"^\+\+\+ [^/\s]+/(%s)" % LACKING.encode(), content.read(), re.MULTILINE):
                    raise BuildError(f"Debian's {patch.name} changes one of {LACKING}: build_root.py has to apply it.")
    (original,) = fetched.glob(f"{PYTHON}_*.orig.tar.xz")
    with tarfile.open(original) as files:
        for member in files:
            name = member.name.partition("/")[2]
            content = files.extractfile(member) if re.fullmatch(LACKING, name) else None
            if content is not None:
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                (into / name).write_bytes(content.read())


def pip(*arguments: str | Path, PYTHONPATH: str = "") -> None:  # noqa: N803  the variable's name
    """Run this interpreter's pip. Raises BuildError."""
    run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments, PYTHONPATH=PYTHONPATH)


def python_packages(build: Path) -> None:
    """Fetch what freezes, for the root's Python, and source packages, each by its hash."""
    tags = [f"--platform=manylinux2014_{os.uname().machine}", "--platform=any", "--python-version=3.13", "--implementation=cp"]
    options = ("--no-deps", "--require-hashes", "--only-binary=:all:", *tags)
    pip("install", "--no-compile", "--target", build / "site", *options, "-r", ROOT / "requirements" / "build.txt")
    # pip asks a source package for its metadata before it hands it over; its build backend would first have to be installed
    backends = build / "backends"
    for name in ("maturin.py", "hatchling/build.py", "setuptools/build_meta.py"):
        (backends / name).parent.mkdir(parents=True, exist_ok=True)
        (backends / name).with_name("__init__.py").touch()  # else an installed package of that name comes first
        shutil.copy(HERE / "root" / "metadata_only.py", backends / name)
    source_only = ("--no-deps", "--no-binary=:all:", "--no-build-isolation", "--require-hashes")
    locked = ROOT / "requirements" / "sources.txt"
    pip("download", *source_only, "--dest", build / "sources", "-r", locked, PYTHONPATH=str(backends))
    shutil.rmtree(backends)
    for package in (build / "sources").iterdir():
        run("tar", "-xzf", package, "-C", build / "sources", "--no-same-owner")
    for name in ("orjson", "pyinstaller", "argparse_manpage"):
        (unpacked,) = (one for one in (build / "sources").glob(f"{name}-*") if one.is_dir())
        unpacked.rename(build / name)
    (build / "argparse_manpage" / "argparse_manpage").rename(build / "site" / "argparse_manpage")  # no wheel is released of it
    shutil.rmtree(build / "sources")


def make(new: Path, apt: Apt, found: dict[str, str], arch: str) -> None:
    """Make the root at a path that does not exist yet."""
    fetched = new.with_name(new.name + ".fetched")
    wanted = packages(arch)
    with step(f"{len(found)} Debian packages"):
        apt.fetch(wanted, fetched)
    with step("unpacking them"):
        unpack(fetched, new, arch)
        unpack_cpython(fetched, new / "build" / "cpython")
    shutil.rmtree(fetched)
    build = new / "build"
    with step("Python packages"):
        python_packages(build)
    for name in ("project", "work", "bootloader"):
        (build / name).mkdir()
    shutil.copy(HERE / "root" / "orjson.sh", build)
    targets = [f"{TRIPLETS[one].partition('-')[0]} {TRIPLETS[one]}-gcc" for one in (arch, other(arch))]
    with step("orjson, twice"):
        inside(new, ["bash", "/build/orjson.sh", *targets])
    (build / "packages.json").write_text(json.dumps(found, indent=2) + "\n")
    for rust in [
        *new.glob("usr/lib/rust*"),
        *new.glob("usr/lib/llvm*"),
        *new.glob("usr/lib/*/libLLVM*"),
        *new.glob("usr/lib/*/librustc*"),
    ]:
        shutil.rmtree(rust) if rust.is_dir() and not rust.is_symlink() else rust.unlink()  # a gigabyte that has done its work


def forget(place: Path) -> None:
    """Remove build roots, begun ones among them, and bootloaders that no build has used for a month."""
    for old in (one for kind in ("root", "bootloader", "freeze", "link") for one in place.glob(f"{kind}-*")):
        if time.time() - old.stat().st_mtime > UNUSED_S:
            shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)


def build_root(update: bool = False) -> Path:
    """Return the build root of this recipe, made when there is none. update: of the versions that Debian has now.

    Raises:
        BuildError: it cannot be made.
    """
    arch, place = architecture(), cache()
    place.mkdir(parents=True, exist_ok=True)
    name = f"root-{recipe(arch)}"
    with (place / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as long as another build of the same takes
        HELD[:] = [lock.fileno()]
        there = sorted(place.glob(f"{name}-{'[0-9a-f]' * 12}"), key=lambda one: one.stat().st_mtime)
        if there and not update:
            os.utime(there[-1])
            return there[-1]
        namespaces()
        apt = Apt(place / f"{name}.apt", arch)
        found = apt.plan(packages(arch))
        root = place / f"{name}-{hashed(json.dumps(found))}"
        if not root.exists():
            new = root.with_name(f"{root.name}.new")
            for left in (new, new.with_name(new.name + ".fetched")):
                shutil.rmtree(left, ignore_errors=True)
            make(new, apt, found, arch)
            os.utime(new)  # its time was that of some package's directory
            new.rename(root)
        shutil.rmtree(place / f"{name}.apt", ignore_errors=True)
        forget(place)
        return root


def main() -> None:
    """Print the path of the build root."""
    try:
        print(build_root("--update" in sys.argv[1:]))
    except BuildError as e:
        sys.exit(f"build: {e}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
