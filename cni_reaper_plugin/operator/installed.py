"""The doctor on executables: does the runtime find ours and those of the whole chain, can they be run, is our bundle whole?"""

import posix
import posixpath
import stat

from cni_reaper_plugin import files
from cni_reaper_plugin.attachment import valid_name
from cni_reaper_plugin.operator.conflist import OURS
from cni_reaper_plugin.operator.finding import Finding

SUMS = "SHA256SUMS"
INTERNAL = "_internal"
_PARTS = ("libpython", "orjson.so", "cni_reaper_plugin", "build.json")  # without which no start, or no command
_LARGEST = 1 << 28  # bytes of one file of a bundle
_AGAIN = "Run `install` of a whole bundle: a damaged one is left, and a new directory made (docs/install.md)."

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def check(types: "Iterable[str]", bin_dirs: list[str]) -> "Iterator[Finding]":
    """Yield what is to be said of the executables of these plugins, ours always among them."""
    yield from _our_own(bin_dirs)
    for kind in dict.fromkeys(types):
        if kind != OURS and not locate(kind, bin_dirs):
            what = "The plugin %s of the chain is in none of %s." % (kind, ", ".join(bin_dirs))
            yield Finding(
                "plugin-missing", bin_dirs[0], what, "Install it, or take it out of the list: without it no pod starts."
            )


def locate(kind: str, bin_dirs: list[str]) -> str:
    """Return the path at which libcni finds a plugin: the first regular file of that name; "" when there is none."""
    for directory in bin_dirs if valid_name(kind) else ():
        path = "%s/%s" % (directory, kind)
        try:
            if stat.S_ISREG(posix.stat(path).st_mode):
                return path
        except OSError:
            continue
    return ""


def _our_own(bin_dirs: list[str]) -> "Iterator[Finding]":
    path = locate(OURS, bin_dirs)
    if not path:
        yield _missing(bin_dirs)
        return
    real = posixpath.realpath(path)
    runs = True
    if not posix.stat(real).st_mode & 0o111:
        runs = False
        yield Finding("not-executable", path, "It is there, and not executable.", "chmod 755 %s" % real)
    if posix.statvfs(real).f_flag & posix.ST_NOEXEC:
        runs = False
        what = "The file system it is on is mounted noexec."
        yield Finding(
            "noexec", path, what, "Mount it without noexec, or install into a directory elsewhere and name that to the runtime."
        )
    if runs:
        yield Finding("executable", path, "The runtime finds it%s." % (", at %s" % real if real != path else ""))
    home = posixpath.realpath(posixpath.dirname(path))
    if not real.startswith(home + "/"):
        what = "It is a link to %s, outside of its directory." % real
        advice = "Where a runtime in a container (multus thick, kind) sees only %s, install it there, as README.md has it." % home
        yield Finding("link-leaves", path, what, advice)
    yield from _bundle(path, posixpath.dirname(real))


def _missing(bin_dirs: list[str]) -> Finding:
    for directory in bin_dirs:
        path = "%s/%s" % (directory, OURS)
        try:
            if stat.S_ISLNK(posix.lstat(path).st_mode):
                advice = "Run `cni-reaper install` from a bundle: docs/install.md."
                return Finding(
                    "executable-missing", path, "It is a link to %s, which is not there." % posix.readlink(path), advice
                )
        except OSError:
            continue
    what = "%s is in none of the directories in which the runtime looks: %s." % (OURS, ", ".join(bin_dirs))
    return Finding("executable-missing", bin_dirs[0], what, "Run `cni-reaper install` from the bundle: docs/install.md.")


def _bundle(path: str, home: str) -> "Iterator[Finding]":
    """Look whether what belongs beside the executable is there, and is what was released."""
    try:
        inside = posix.listdir("%s/%s" % (home, INTERNAL))
    except OSError:
        what = "It is alone: %s, which belongs beside it, is not in %s." % (INTERNAL, home)
        yield Finding("executable-alone", path, what, "Run `cni-reaper install` from the whole bundle: docs/install.md.")
        return
    missing = [part for part in _PARTS if not any(name.startswith(part) for name in inside)]
    if missing:
        yield Finding("bundle-damaged", path, "Its bundle lacks %s." % ", ".join(missing), _AGAIN)
        return
    wrong = differing(home)
    if wrong is None:
        yield Finding("bundle-whole", path, "Its bundle has what it needs; there is no %s to compare it with." % SUMS)
    elif wrong:
        what = "%d files of its bundle are not as released: %s." % (len(wrong), ", ".join(wrong[:5]))
        yield Finding("bundle-damaged", path, what, _AGAIN)
    else:
        yield Finding("bundle-whole", path, "Each file of its bundle is as released (%s)." % SUMS)


def differing(home: str) -> "list[str] | None":
    """Return the files of a bundle that are not as released, None for one that was not released and has no sums."""
    try:
        return list(_differing(home, files.read("%s/%s" % (home, SUMS), limit=1 << 20)))
    except FileNotFoundError:
        return None
    except OSError as e:
        return ["%s (%s)" % (SUMS, e.strerror)]


def _differing(home: str, sums: bytes) -> "Iterator[str]":
    """Yield the files that are not there, or are others than a list of `<SHA-256>  <file>` says."""
    for line in sums.decode("utf-8", "replace").splitlines():
        wanted, _, name = line.partition("  ")
        if name.startswith("/") or ".." in name.split("/") or not name:
            yield "%s (a line that is none: %r)" % (SUMS, line[:80])
            continue
        try:
            if _sum(home + "/" + name) != wanted:
                yield name
        except OSError as e:
            yield "%s (%s)" % (name, e.strerror)


def _sum(path: str) -> str:
    import hashlib

    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK | posix.O_NOFOLLOW)
    try:
        made, size = hashlib.sha256(), 0
        while (chunk := posix.read(fd, files.CHUNK)) and size < _LARGEST:
            made.update(chunk)
            size += len(chunk)
        return made.hexdigest()
    finally:
        posix.close(fd)
