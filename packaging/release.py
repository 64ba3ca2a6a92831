"""Make the release of the commit that is checked out: python packaging/release.py OUT. As root, on Debian or Ubuntu.

    1. the old root     bullseye by debootstrap: glibc 2.31
    2. the interpreter  interpreter/build.sh in it
    3. the packages     those of requirements/, which the old root cannot fetch itself
    4. the freeze       freeze.py in it, on the files of the commit; twice, and both must be equal byte by byte
    5. the tarball      unpacks into a CNI bin directory, see `pack`
    6. the rest         the container image with the old root's glibc, the Debian package, install.sh; .sha256, .sha512

The old root with its interpreter is kept in .build/release/<hash of the recipe>. Each step says how long it took.
CNI_REAPER_DEBIAN_MIRROR: where debootstrap gets its packages, if not from where it does by default.
"""

import contextlib
import filecmp
import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import freeze as freezer
import sbom
from image import ARCHITECTURES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SUITE = "bullseye"
PACKAGES = ("build-essential", "libffi-dev", "pkg-config", "python3", "zlib1g-dev")
PYTHON = "/opt/python/bin/python3.11"
SITE = "/build/site"
BOOTLOADER = "bootloader.tar.gz"
SHARE = "share"
CHROOT = 'mount --make-rprivate / && mount -t proc proc "$1/proc" && root=$1 && shift && exec chroot "$root" "$@"'
INSIDE = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
WHEELS = ("--platform=manylinux_2_31", "--platform=manylinux_2_17", "--platform=manylinux2014", "--platform=manylinux_2_5")


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say how long a step took."""
    begun = time.monotonic()
    print(f"release: {what} …", file=sys.stderr, flush=True)
    yield
    print(f"release: {what}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)


def run(*argv: str | Path, log: Path | None = None) -> None:
    """Run a command; end when it fails. log: where its output goes, of which the end is shown then."""
    with contextlib.ExitStack() as files:
        output = files.enter_context(log.open("w")) if log else None
        done = subprocess.run([str(one) for one in argv], check=False, stdout=output, stderr=output and subprocess.STDOUT)
    if done.returncode:
        if log:
            print("\n".join(log.read_text(errors="replace").splitlines()[-30:]), file=sys.stderr)
        sys.exit(f"release: {Path(argv[0]).name} failed" + (f"; all it said is in {log}" if log else ""))


def inside(root: Path, *argv: str, environment: dict[str, str] | None = None, log: Path | None = None) -> None:
    """Run a command in the old root, with /proc, in mount and PID namespaces of its own."""
    given = [f"{name}={value}" for name, value in {**INSIDE, **(environment or {})}.items()]
    run("unshare", "--mount", "--pid", "--fork", "sh", "-c", CHROOT, "sh", root, "env", "-i", *given, *argv, log=log)


def recipe() -> str:
    """Return the hash of all that makes the old root and its interpreter."""
    digest = hashlib.sha256(f"{SUITE} {PACKAGES} {platform.machine()}".encode())
    for file in sorted((HERE / "interpreter").iterdir()):
        if file.is_file():
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def old_root(cache: Path) -> Path:
    """Return the old root with its interpreter; made when `cache` does not have it."""
    root, new = cache / recipe(), cache / "new"
    if root.exists():
        return root
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    mirror = os.environ.get("CNI_REAPER_DEBIAN_MIRROR")
    with step(f"{SUITE} by debootstrap"):
        keyring = "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg"
        options = ("--variant=minbase", keyring, f"--include={','.join(PACKAGES)}")
        run("debootstrap", *options, SUITE, new, *([mirror] if mirror else []), log=cache / "debootstrap.log")
    build = new / "build"
    shutil.copytree(HERE / "interpreter", build)
    shutil.copytree(ROOT / "cni_reaper_plugin", build / "plugin" / "cni_reaper_plugin")
    pip("install", "--target", build / "wheels", "-r", ROOT / "requirements" / "runtime.txt")
    for name in ("resolv.conf", "hosts"):
        shutil.copy(f"/etc/{name}", new / "etc" / name)
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    with step("CPython, by its own profile (ten minutes on two quiet cores)"):
        inside(new, "bash", "/build/build.sh", environment=proxies, log=cache / "interpreter.log")
    new.rename(root)
    return root


def pip(verb: str, *arguments: str | Path) -> None:
    """Have this interpreter's pip install for the old root's, or download: wheels that its glibc can take, each by its hash."""
    tags = ["--python-version=3.11", "--implementation=cp", *(f"{tag}_{platform.machine()}" for tag in WHEELS)]
    options = ("--disable-pip-version-check", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", *tags)
    run(sys.executable, "-m", "pip", verb, *options, *arguments)


def committed_s(commit: str) -> int:
    """Return when a commit was made, in seconds since the epoch."""
    git = ["git", "-C", str(ROOT), "show", "-s", "--format=%ct", commit]
    return int(subprocess.run(git, capture_output=True, check=True, text=True).stdout)


def frozen(root: Path, commit: str, number: int) -> Path:
    """Freeze the commit in the old root, in a directory of its own; return the bundle."""
    tree = f"/build/tree-{number}"
    there = root / tree[1:]
    shutil.rmtree(there, ignore_errors=True)
    there.mkdir()
    archive = subprocess.run(["git", "-C", ROOT, "archive", commit], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(there, filter="data")
    told = {
        "CNI_REAPER_COMMIT": commit,
        "CNI_REAPER_KIND": "release",
        "CNI_REAPER_SHARE": f"/build/{SHARE}",
        "CNI_REAPER_PYINSTALLER": f"/build/{BOOTLOADER}",
        "PYTHONPATH": SITE,
        "PATH": f"{SITE}/bin:{INSIDE['PATH']}",
    }
    inside(root, PYTHON, f"{tree}/packaging/freeze.py", f"{tree}/dist", environment=told)
    return there / "dist" / "cni-reaper"


def prepare(root: Path, commit: str) -> None:
    """Give the old root's interpreter, which has neither pip nor TLS, what freeze.py needs: packages, and share/."""
    os.environ["SOURCE_DATE_EPOCH"] = str(committed_s(commit))
    shutil.rmtree(root / "build" / SHARE, ignore_errors=True)
    freezer.write_share(root / "build" / SHARE)
    site = root / SITE[1:]
    shutil.rmtree(site, ignore_errors=True)
    pip("install", "--target", site, "-r", ROOT / "requirements" / "build.txt")
    # PyInstaller imports it, for macOS alone; the real one needs pyexpat, which Debian's patches keep from building as we build.
    (site / "plistlib.py").touch()
    fetched = root / "build" / "bootloader"
    shutil.rmtree(fetched, ignore_errors=True)
    fetched.mkdir()
    freezer.download_bootloader(fetched)
    (package,) = fetched.iterdir()
    package.rename(root / "build" / BOOTLOADER)


def equal(one: Path, other: Path) -> bool:
    """Tell whether two directories hold the same files with the same bytes."""
    names = [sorted(file.relative_to(top) for file in top.rglob("*")) for top in (one, other)]
    files = [str(name) for name in names[0] if (one / name).is_file()]
    return names[0] == names[1] and filecmp.cmpfiles(one, other, files, shallow=False)[0] == files


def licences(root: Path, bundle: Path) -> None:
    """Put the licences of all that is inside beside the bundle: licences/<component>/…"""
    into = bundle / "licences"
    packages = root / SITE[1:]
    for name in ("inotify_simple", "orjson", "pyinstaller", "rich"):
        (source,) = packages.glob(f"{name}-*.dist-info/licenses")
        shutil.copytree(source, into / name)
    for name, file in (
        ("cni-reaper", ROOT / "LICENSE"),
        ("python", root / "opt/python/lib/python3.11/LICENSE.txt"),
        ("libffi", root / "usr/share/doc/libffi-dev/copyright"),
        ("zlib", root / "usr/share/doc/zlib1g-dev/copyright"),
    ):
        (into / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, into / name / file.name)


def pack(bundle: Path, version: str, out: Path, made_s: int) -> Path:
    """Make the tarball; return it.

    It holds `.cni-reaper/<version>/` and the link `cni-reaper` to the executable in there, so that it unpacks into a CNI bin
    directory. All that could differ from one run to the next is fixed: order, owner, times (made_s: of the commit), modes.
    """
    name = f"cni-reaper-linux-{ARCHITECTURES.get(platform.machine(), platform.machine())}-v{version}.tgz"
    place = f".cni-reaper/{version}"
    out.mkdir(parents=True, exist_ok=True)

    def settled(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = made_s
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    with (
        (out / name).open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=made_s) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for directory in (".cni-reaper", place):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(settled(entry))
        for one in sorted(bundle.rglob("*")):
            tar.add(one, f"{place}/{one.relative_to(bundle)}", recursive=False, filter=settled)
        link = tarfile.TarInfo("cni-reaper")
        link.type, link.linkname = tarfile.SYMTYPE, f"{place}/cni-reaper"
        tar.addfile(settled(link))
    add_sums(out / name)
    return out / name


def add_sums(file: Path) -> None:
    """Write a file's .sha256 and .sha512 beside it."""
    for kind in ("sha256", "sha512"):
        digest = hashlib.new(kind, file.read_bytes()).hexdigest()
        file.with_name(f"{file.name}.{kind}").write_text(f"{digest}  {file.name}\n")


def others(bundle: Path, root: Path, out: Path) -> None:
    """Make what a release has besides the tarball. The files' time is SOURCE_DATE_EPOCH."""
    for script, *more in (("image.py", str(root)), ("deb.py",)):
        command = [sys.executable, str(HERE / script), str(bundle), str(out), *more]
        made = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        add_sums(Path(made.stdout.strip()))
    shutil.copy(HERE / "install.sh", out)


def checksums(bundle: Path) -> None:
    """Write SHA256SUMS, for `sha256sum -c` in the bundle."""
    files = sorted(file for file in bundle.rglob("*") if file.is_file())
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(bundle)}\n" for file in files]
    (bundle / "SHA256SUMS").write_text("".join(sums))


def main() -> None:
    """Make the release, see the module."""
    out = Path(sys.argv[1]).resolve()
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=True, text=True).stdout.strip()
    made_s = committed_s(commit)
    if subprocess.run([*git, "status", "--porcelain"], capture_output=True, check=True).stdout:
        print("release: what is not committed is not in it", file=sys.stderr)
    cache = ROOT / ".build" / "release"
    cache.mkdir(parents=True, exist_ok=True)
    root = old_root(cache)
    with step("packages"):
        prepare(root, commit)
    with step("freeze, twice"):
        bundle, again = (frozen(root, commit, number) for number in (1, 2))
        if not equal(bundle, again):
            sys.exit(f"release: two freezes of one commit differ: diff -r {bundle} {again}")
    with step("tarball"):
        what = json.loads((bundle / "_internal" / "build.json").read_bytes())
        licences(root, bundle)
        sbom.write(bundle, root, root / SITE[1:], what, made_s)
        checksums(bundle)
        tarball = pack(bundle, what["version"], out, made_s)
    with step("image, Debian package"):
        others(bundle, root, out)
    print(tarball)


if __name__ == "__main__":
    main()
