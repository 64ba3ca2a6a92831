"""Make the release of the commit that is checked out: python packaging/release.py OUT. On x86_64, aarch64: what freeze.py needs.

    1. the commit       into two directories; what is not committed is not in it, and does not make it
    2. the executables  by the commit's freeze.py for both architectures, in each of the directories; the second one links the
                        bootloaders again. Both builds must be equal byte by byte
    3. the rest         by the commit's tarball.py, image.py, deb.py, and install.sh; .sha256, .sha512 of each

The executables are those that `./build.sh` makes of the same commit in the same build root.
"""

import contextlib
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import freeze
from artifact import write_sums
from build_root import TRIPLETS, BuildError, step


def git(*arguments: str) -> bytes:
    """Return what git says of this tree. Raises BuildError."""
    try:
        return freeze.git(*arguments)
    except (OSError, subprocess.CalledProcessError) as e:
        raise BuildError(f"git {arguments[0]} failed ({e}): a release is made of a commit, in a clone.") from None


def check_out(commit: str, into: Path) -> Path:
    """Write the files of a commit into a directory, and return it. Raises BuildError."""
    into.mkdir()
    subprocess.run(["tar", "-x", "-C", str(into)], input=git("archive", commit), check=True)
    return into


def python(tree: Path, script: str, *arguments: str | Path, **environment: str) -> list[str]:
    """Run a script of a tree, and return the lines that it printed. Raises BuildError, which names all that went wrong."""
    command = [sys.executable, str(tree / "packaging" / script), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True, env={**os.environ, **environment})
    if done.returncode:
        raise BuildError(f"{script} of the commit failed, and says why above.")
    return done.stdout.splitlines()


def frozen(tree: Path, cache: Path) -> list[Path]:
    """Freeze a tree for all architectures, and return the executables. cache: where the build root is. Raises BuildError."""
    python(tree, "freeze.py", tree / "dist", *TRIPLETS, CNI_REAPER_CACHE=str(cache))
    return sorted(tree.glob("dist/**/cni-reaper"))


@contextlib.contextmanager
def another_cache(root: Path) -> Iterator[Path]:
    """Give a cache in which nothing is but a build root."""
    with tempfile.TemporaryDirectory(prefix="release-", dir=root.parent) as temporary:
        (Path(temporary) / root.name).symlink_to(root)
        yield Path(temporary)


def main() -> None:
    """Make the release, see the module."""
    out = Path(sys.argv[1]).resolve()
    commit = git("rev-parse", "HEAD").decode().strip()
    if git("status", "--porcelain"):
        print("release: what is not committed is not in it", file=sys.stderr)
    os.environ |= {"CNI_REAPER_COMMIT": commit, "SOURCE_DATE_EPOCH": git("show", "-s", "--format=%ct", commit).decode().strip()}
    with tempfile.TemporaryDirectory(prefix="cni-reaper-release-") as temporary:
        one, other = (check_out(commit, Path(temporary) / name) for name in ("one", "the other"))
        (root,) = map(Path, python(one, "build_root.py"))
        with step("both architectures, twice"), another_cache(root) as cache:
            executables, again = frozen(one, root.parent), frozen(other, cache)
            pairs = zip(executables, again, strict=True)
            differ = [str(made) for made, same in pairs if not filecmp.cmp(made, same, shallow=False)]
        if differ:
            raise BuildError(f"two freezes of one commit differ: {', '.join(differ)}.")
        with step("tarballs, images, Debian packages"):
            tarballs = python(one, "tarball.py", out, *executables)
            for made in (*python(one, "image.py", out, *executables), *python(one, "deb.py", out, *tarballs)):
                write_sums(Path(made))
        shutil.copy(one / "packaging/install.sh", out)
        (out / "install.sh").chmod(0o755)


if __name__ == "__main__":
    try:
        main()
    except BuildError as error:
        sys.exit(f"release: {error}")
