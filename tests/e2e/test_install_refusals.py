"""What install and uninstall do not do: put us where no runtime looks, take the executable from a list that may have us."""

import os
from pathlib import Path

from tests.support.cni_calls import BIN, NET_D
from tests.support.install import (
    FILE,
    LINK,
    PLATFORM,
    another_build,
    executable,
    has_us,
    install,
    nothing_is_there,
    plugins_in,
    tree,
    uninstall,
    write,
)
from tests.support.node import Node


def test_conflists_are_read_without_proc(bare: Node) -> None:
    """As in a chroot, in which a package is removed: conflists are read all the same."""
    original = bare.path(FILE).read_bytes()
    install(bare).check()
    hide = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$0" uninstall --purge', LINK]
    bare.run(hide).check()
    assert bare.path(FILE).read_bytes() == original
    assert nothing_is_there(bare)


def test_nothing_stays_where_nothing_was_installed(bare: Node) -> None:
    """No lock, and no directory for it."""
    before = sorted(os.listdir(bare.path(BIN))), os.listdir(bare.path("/var/lib/cni"))
    assert uninstall(bare).check().text.strip() == "nothing of it is here"
    assert (sorted(os.listdir(bare.path(BIN))), os.listdir(bare.path("/var/lib/cni"))) == before


def test_a_damaged_executable_is_not_installed(bare: Node, tmp_path: Path) -> None:
    """It starts, and a byte of it that is read later is another one, or its end is missing: one sentence, and no more."""
    before = tree(bare, BIN), tree(bare, NET_D)
    raw = Path(another_build(bare, tmp_path / "whole")).read_bytes()
    for what, damaged in (("SHA-256", raw.replace(b"another\ncni-reaper", b"anothep\ncni-reaper")), ("missing", raw[:-1])):
        path = tmp_path / what
        path.write_bytes(damaged)
        path.chmod(0o755)
        bare.run([str(path), "version"]).check()
        ran = install(bare, source=str(path))
        assert (ran.rc, "is damaged" in ran.text, what in ran.text, len(ran.err.splitlines())) == (1, True, True, 1), str(ran)
        assert (tree(bare, BIN), tree(bare, NET_D)) == before


def test_unwritable_state_installs_nothing(bare: Node) -> None:
    """In a container without the node's directory, say: nothing is put anywhere, and the directory is named."""
    before = tree(bare, BIN), tree(bare, NET_D)
    bare.mount("tmpfs", "/var/lib/cni", "tmpfs", flags=1)  # MS_RDONLY
    ran = install(bare)
    assert (ran.rc, "/var/lib/cni/reaper" in ran.text, "Read-only" in ran.text) == (1, True, True), str(ran)
    assert (tree(bare, BIN), tree(bare, NET_D)) == before


def test_refusals_say_what_to_do(bare: Node) -> None:
    """What to do is said, and fits."""
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"{executable(bare)}"]
    install(bare).check()
    for verb in (["install", "--options", "{}"], ["install", "--conflist", FILE], ["uninstall"]):
        ran = bare.run([*nobody, *verb])
        assert (ran.rc, "root" in ran.text) == (1, True), str(ran)
    assert "no such directory" in install(bare, "--conf-dir", "/nope").text
    assert "logFiles: not an option" in install(bare, "--options", '{"logFiles": "/x", "logFile": "/var/log/x"}').check().text
    assert "a file is wanted" in install(bare, "--conflist", NET_D).text
    bare.path(f"{NET_D}/net").symlink_to("/nowhere")
    write(bare, PLATFORM)
    assert f"{NET_D}/net" in install(bare, "--drop-in").text


def test_full_disk_is_named_and_leaves_nothing(bare: Node) -> None:
    """It names what is full, and leaves nothing there."""
    bare.mount("tmpfs", BIN, "tmpfs", data="size=1m")
    plugins_in(bare, BIN)
    ran = install(bare)
    assert (ran.rc, f"{BIN}: No space left" in ran.text) == (1, True), str(ran)
    assert not has_us(bare)
    assert [path.name for path in bare.path(BIN).iterdir()] == ["bridge"]
