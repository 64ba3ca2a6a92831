"""host-local's directory: what is read as a reservation, and what it takes to unlink one."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cni_reaper_plugin.host_local import store, store_key
from cni_reaper_plugin.model import Reservation, SkippedError

OWNED = b"aa11bb22cc33\r\neth0"


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """The directory of a network with two reservations and what host-local keeps beside them."""
    net = tmp_path / "net"
    net.mkdir()
    for name in ("10.0.0.2", "fd00::2"):
        (net / name).write_bytes(OWNED)
    (net / "last_reserved_ip.0").write_text("10.0.0.2")
    (net / "lock").touch(0o750)
    return net


def remove(net: Path, stale: list[Reservation], still: Callable[[Reservation], bool] = lambda _: True) -> list[str]:
    """Remove what was judged stale and return the names that are gone."""
    with store.Network(str(net.parent), net.name) as directory:
        removed, refused = directory.remove(stale, still, 0)
    assert refused == []
    return sorted(one.address for one in removed)


def snapshot(net: Path) -> list[Reservation]:
    """Read all reservations."""
    with store.Network(str(net.parent), net.name) as directory:
        return sorted(directory.snapshot(directory.addresses()), key=lambda one: one.address)


@pytest.mark.parametrize("name", ["10.0.0.2", "fd00::2", "::", "1.2.3", "1.2.3.4.5", "AB:CD"])
def test_is_address_like(name: str) -> None:
    """Whatever is made of an address's characters is worth reading; the judge says whether it is one."""
    assert store.is_address_like(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "...",
        "lock",
        "last_reserved_ip.0",
        "10",
        "abc",
        "10.0.0.2~",
        "10_0_0_2",
        ".10.0.0.2.swp",
        "10.0.0.2/24",
        "\udcff.",
    ],
)
def test_is_not_address_like(name: str) -> None:
    """Locks, counters, an editor's copies and ways up are not."""
    assert not store.is_address_like(name)


def test_keeps_all_that_is_no_plain_file(net: Path) -> None:
    """Sub-directories, symlinks and special files with an address's name are not followed, not read, not removed."""
    (net / "10.0.0.3").mkdir()
    (net / "10.0.0.3" / "10.0.0.9").write_bytes(OWNED)
    (net / "10.0.0.4").symlink_to(net / "10.0.0.2")
    os.mkfifo(net / "10.0.0.5")
    assert [one.address for one in snapshot(net)] == ["10.0.0.2", "fd00::2"]


def test_keeps_what_is_too_long(net: Path) -> None:
    """A file longer than any owner is odd, whatever it begins with."""
    (net / "10.0.0.3").write_bytes(OWNED + b" " * 2000)
    assert [one.kind for one in snapshot(net)] == ["owned", "odd", "owned"]


def test_networks_are_directories_and_links_to_them(net: Path) -> None:
    """B10: host-local follows a link to a directory. A link to a file, to nowhere or to itself is no network."""
    (net.parent / "link").symlink_to(net)
    (net.parent / "file").symlink_to(net / "lock")
    (net.parent / "nowhere").symlink_to("/nowhere")
    (net.parent / "circle").symlink_to("circle")
    assert store.networks(str(net.parent)) == ["link", "net"]
    with store.Network(str(net.parent), "link") as directory:
        assert [one.network for one in directory.snapshot(directory.addresses())] == ["link", "link"]
    with pytest.raises(NotADirectoryError):
        store.Network(str(net.parent), "file")


def test_keys_are_unique_file_names() -> None:
    """B11: a key is the network's name in the default store; no two stores or networks have one key, and it is a file's name."""
    default = "/var/lib/cni/networks"
    assert store_key.key(default, "net") == "net"
    assert store_key.key("/run/a b", "net") == "net@%2Frun%2Fa b"
    stores = (default, "/a/b", "/a%2Fb", "/a/b%2F", "/größe", "/" + "x" * 300, "/" + "x" * 301, "/@", "/")
    networks = ("net", "net2", "n" * 199, "n" * 250)
    keys = [store_key.key(one, network) for one in stores for network in networks]
    assert len(set(keys)) == len(keys)
    assert all("/" not in one and len(one.encode()) <= 200 for one in keys)


def rewritten(path: Path) -> None:
    """Write the same content into the same file: the same ID back with the same address."""
    path.write_bytes(OWNED)
    os.utime(path)


def replaced(path: Path) -> None:
    """Another file with the same content."""
    other = path.with_name("new")
    other.write_bytes(OWNED)
    other.rename(path)


def of_another(path: Path) -> None:
    """Another owner in the same file."""
    path.write_bytes(b"ffffffffffff\r\neth0")


@pytest.mark.parametrize("change", [rewritten, replaced, of_another, Path.unlink])
def test_keeps_what_changed_since_it_was_judged(net: Path, change: Callable[[Path], None]) -> None:
    """Inode, ctime and content must be those judged; what is gone meanwhile is nobody's."""
    stale = snapshot(net)
    before = (net / "10.0.0.2").stat().st_ctime_ns
    change(net / "10.0.0.2")
    while (net / "10.0.0.2").exists() and (net / "10.0.0.2").stat().st_ctime_ns == before:
        change(net / "10.0.0.2")  # the clock that stamps files ticks every few milliseconds
    assert remove(net, stale) == ["fd00::2"]


def test_keeps_an_owner_whose_record_changed(net: Path) -> None:
    """The record is asked for again under the lock; a blank file has none to ask for."""
    (net / "10.0.0.3").write_bytes(b"")
    stale = snapshot(net)
    assert remove(net, stale, lambda _: False) == ["10.0.0.3"]
    assert (net / "10.0.0.2").exists()


def test_removes_what_was_judged_and_nothing_else(net: Path) -> None:
    """A stale reservation goes; its neighbour, host-local's counter and lock stay as they are."""
    first = snapshot(net)[0]
    assert remove(net, [first]) == ["10.0.0.2"]
    assert sorted(path.name for path in net.iterdir()) == ["fd00::2", "last_reserved_ip.0", "lock"]


def test_keeps_everything_while_host_local_holds_its_lock(net: Path) -> None:
    """flock(2) excludes us as it excludes another host-local."""
    stale = snapshot(net)
    with (net / "lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SkippedError):
            remove(net, stale)
    assert remove(net, stale) == ["10.0.0.2", "fd00::2"]


def test_keeps_a_blank_file_while_the_directory_is_locked(net: Path) -> None:
    """host-local up to 0.6 creates and writes under a lock on the directory; what is not blank does not wait for it."""
    (net / "10.0.0.1").write_bytes(b"")
    stale = snapshot(net)
    held = os.open(net, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with store.Network(str(net.parent), net.name) as directory:
            removed, refused = directory.remove(stale, lambda _: True, 1)
    finally:
        os.close(held)
    assert [one.address for one in removed] == ["10.0.0.2", "fd00::2"]
    assert [(one.address, error.errno) for one, error in refused] == [("10.0.0.1", errno.EWOULDBLOCK)]
    assert remove(net, snapshot(net)) == ["10.0.0.1"]


def test_makes_the_lock_as_host_local_does(net: Path) -> None:
    """Without a lock file one is made, with host-local's mode; nothing else is ever put there."""
    (net / "lock").unlink()
    before = os.umask(0)
    try:
        remove(net, snapshot(net))
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in net.iterdir() if path.name != "last_reserved_ip.0"} == {
        "lock": 0o750
    }


def test_networks_are_directories_with_valid_names(net: Path) -> None:
    """Directories with a valid name are networks; files and hidden ones are not."""
    data_dir = net.parent
    (data_dir / "cni0").mkdir()
    (data_dir / ".hidden").mkdir()
    (data_dir / "a b").mkdir()
    (data_dir / "file").touch()
    assert store.networks(str(data_dir)) == ["cni0", "net"]
