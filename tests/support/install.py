"""`install` and `uninstall` on a private node: the calls, and what is there afterwards."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.cni_calls import BIN, NET_D, bridge, host_local
from tests.support.commands import HANG_S, Ran
from tests.support.node import Node
from tests.support.node_files import STATE_DIR, Conf

LINK = f"{BIN}/cni-reaper"
NOTES = f"{STATE_DIR}/installation.json"
LOCK = f"{STATE_DIR}/installation.lock"
TRAILER = b"\ncni-reaper sha256 %s\n"
FILE = f"{NET_D}/10-net.conflist"
OURS: Conf = {"type": "cni-reaper"}

PLATFORM = [bridge(host_local("10.66.0.0/29"))]


def write(node: Node, plugins: list[Conf], path: str = FILE, **more: object) -> bytes:
    """Write a conflist as a platform does, and return its bytes."""
    text = json.dumps({"cniVersion": "1.0.0", "name": "net", **more, "plugins": plugins}, indent="\t") + "\n"
    node.write(path, text)
    return text.encode()


def executable(node: Node) -> str:
    """Return the executable that the tests are about, outside of any CNI directory."""
    return str(node.programs.reaper)


def install(node: Node, *arguments: str, verb: str = "install", source: str = "") -> Ran:
    """Run the command from the executable, as an operator does who has unpacked it somewhere."""
    return node.run([source or executable(node), verb, *arguments])


def uninstall(node: Node, *arguments: str) -> Ran:
    """Run the command from the executable."""
    return install(node, *arguments, verb="uninstall")


def plugins(node: Node, path: str = FILE) -> list[Conf]:
    """Return the plugins of a conflist."""
    found: list[Conf] = json.loads(node.read(path))["plugins"]
    return found


def tree(node: Node, directory: str) -> dict[str, bytes | str]:
    """Return each file and link below a directory, with its content or target."""
    top = node.path(directory)
    return {
        str(path.relative_to(top)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(top.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def until(what: Callable[[], bool], within_s: float = HANG_S) -> bool:
    """Look until something is so; False when it is not in time."""
    end = time.monotonic() + within_s
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)  # a poll, not an order
    return True


def another_build(node: Node, path: Path, mark: bytes = b"another") -> str:
    """Make an executable of the same version that is not the same, and return its path."""
    raw = node.programs.reaper.read_bytes()[: -len(TRAILER % (b"0" * 64))] + mark
    path.write_bytes(raw + TRAILER % hashlib.sha256(raw).hexdigest().encode())
    path.chmod(0o755)
    return str(path)


def is_there(node: Node, source: str = "", path: str = LINK) -> bool:
    """Tell whether an executable is installed: a file of the same bytes that everybody may run."""
    there = node.path(path)
    if there.is_symlink() or not there.is_file():
        return False
    return there.read_bytes() == Path(source or executable(node)).read_bytes() and there.stat().st_mode & 0o777 == 0o755


def nothing_is_there(node: Node, path: str = LINK) -> bool:
    """Tell whether neither a file nor a link is there."""
    return not os.path.lexists(node.path(path))


def start_watch(node: Node, *more: str) -> int:
    """Start a watcher, return its PID; what it says is in /run/watch.log."""
    return node.start(["sh", "-c", f"exec {executable(node)} install --watch {' '.join(more)} 2>/run/watch.log"])


def said(node: Node) -> str:
    """Return what the watcher has said."""
    log = node.path("/run/watch.log")
    return log.read_text() if log.exists() else ""


def differs(node: Node, content: bytes) -> bool:
    """Tell whether the conflist has another content."""
    return node.path(FILE).read_bytes() != content


def has_us(node: Node, path: str = FILE) -> bool:
    """Tell whether a conflist is whole and has our entry."""
    try:
        return any(one["type"] == "cni-reaper" for one in plugins(node, path))
    except (OSError, ValueError):
        return False


def runs(node: Node, bin_dir: str) -> bool:
    """Tell whether a runtime finds us there."""
    return node.path(f"{bin_dir}/cni-reaper").exists()


def plugins_in(node: Node, bin_dir: str) -> None:
    """Put a plugin of the chain there."""
    node.path(bin_dir).mkdir(parents=True, exist_ok=True)
    node.path(f"{bin_dir}/bridge").touch(0o755)


def converted_by_0_1_0(node: Node, path: str, text: str) -> None:
    """Leave a .conf of one plugin as `install --convert` of version 0.1.0 did: set aside, and a list made of it."""
    told = json.loads(text)
    head = json.dumps({"cniVersion": told["cniVersion"], "name": told["name"]})
    node.write(path + ".before-cni-reaper", text)
    node.write(f"{path}list", f'{head[:-1]}, "plugins": [{json.dumps(OURS)}, {text.strip()}]}}\n')
