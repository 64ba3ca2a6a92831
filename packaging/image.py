"""Make the container image of a bundle: python packaging/image.py BUNDLE OUT [ROOT]. As root, with Podman; needs no network.

From scratch: the bundle, and what of a glibc it is linked with, since the image runs what a node's own glibc runs later: this
machine's, or that of ROOT, a directory with another system and the bundle in it. Two images of one bundle, made on one machine,
are equal byte by byte; files are of SOURCE_DATE_EPOCH, else of 1970.
Prints the path of the OCI archive. Podman's storage is a temporary directory, its mounts a namespace of their own.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # as the field calls them
PRIVATE = ("unshare", "--mount", "--net", "--propagation", "private")
COPYRIGHT = Path("/usr/share/doc/libc6/copyright")


def libraries(bundle: Path, root: Path) -> list[Path]:
    """Return the loader and the libraries that its programs are linked with and it lacks, as ldd(1) in the root has them."""
    inside = Path("/") / bundle.relative_to(root)
    linked: set[Path] = set()
    for path in sorted(one for one in bundle.rglob("*") if one.is_file() and one.read_bytes()[:4] == b"\x7fELF"):
        command = ["chroot", str(root), "ldd", str(inside / path.relative_to(bundle))]
        where = {"LD_LIBRARY_PATH": str(inside / "_internal"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        said = subprocess.run(command, capture_output=True, check=True, text=True, env=where)
        linked |= {Path(one) for one in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", said.stdout, re.MULTILINE)}
    return sorted(one for one in linked if not one.is_relative_to(inside))


def stage(bundle: Path, context: Path, root: Path) -> None:
    """Write what the image has in it: the bundle below /cni-reaper, the libraries where the loader looks."""
    shutil.copytree(bundle, context / "cni-reaper", symlinks=True)
    for path in [*libraries(bundle, root), COPYRIGHT]:
        found = root / str(path).lstrip("/")
        if found.exists():
            into = context / str(path).lstrip("/")
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, into)
            into.chmod(found.stat().st_mode & 0o755)
    for path in [context, *context.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)  # whatever the umask of this process is


def podman(storage: Path, *arguments: str | Path) -> None:
    """Run a command of Podman's in namespaces and a storage of its own. Ends when it fails."""
    where = ("--root", storage / "root", "--runroot", storage / "run", "--tmpdir", storage / "tmp", "--storage-driver", "vfs")
    storage.mkdir(exist_ok=True)
    conf = storage / "containers.conf"  # else it writes a lock into /etc/cni
    conf.write_text(f'[network]\nnetwork_config_dir = "{storage / "net.d"}"\n')
    environment = {**os.environ, "CONTAINERS_CONF": str(conf)}
    done = subprocess.run([*PRIVATE, "podman", *where, *arguments], check=False, stdout=sys.stderr, env=environment)
    if done.returncode:
        sys.exit(f"image: podman {arguments[0]} failed, and says why above")


def main() -> None:
    """Make the image, see the module."""
    bundle, out, root = (Path(argument).resolve() for argument in [*sys.argv[1:], "/"][:3])
    version = json.loads((bundle / "_internal" / "build.json").read_bytes())["version"]
    archive = out / f"cni-reaper-image-{ARCHITECTURES.get(platform.machine(), platform.machine())}-v{version}.tar"
    out.mkdir(parents=True, exist_ok=True)
    archive.unlink(missing_ok=True)
    tag = f"localhost/cni-reaper:{version}"
    with tempfile.TemporaryDirectory(prefix="cni-reaper-image-") as temporary:
        context, storage = Path(temporary) / "context", Path(temporary) / "storage"
        context.mkdir()
        stage(bundle, context, root)
        options = ("--quiet", "--isolation=chroot", "--no-cache", "--squash-all", f"--timestamp={epoch()}")
        named = (f"--build-arg=VERSION={version}", f"--tag={tag}", "--file", HERE / "image" / "Containerfile")
        podman(storage, "build", *options, *named, context)
        podman(storage, "save", "--quiet", "--format=oci-dir", "--output", Path(temporary) / "layout", tag)
        pack(Path(temporary) / "layout", tag, archive)
    print(archive)


def pack(layout: Path, tag: str, archive: Path) -> None:
    """Write an OCI image layout as a tar, the same for the same image, and under a name by which runtimes know it."""
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"][0]["annotations"] = {"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag}
    (layout / "index.json").write_text(json.dumps(index))
    with tarfile.open(archive, "w") as whole:
        for path in sorted(one for one in layout.rglob("*") if one.is_file()):
            about = tarfile.TarInfo(str(path.relative_to(layout)))
            about.size, about.mode, about.mtime = path.stat().st_size, 0o644, int(epoch())
            with path.open("rb") as content:
                whole.addfile(about, content)


def epoch() -> str:
    """Return the time of the image's files, in seconds since 1970."""
    return os.environ.get("SOURCE_DATE_EPOCH", "0")


if __name__ == "__main__":
    main()
