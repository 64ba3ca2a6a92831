"""What cni-reaper has not put there stays: files, links, directories and locks of others."""

from tests.support.cni_calls import BIN, NET_D, bridge, host_local
from tests.support.install import LINK, LOCK, has_us, install, is_there, nothing_is_there, tree, uninstall, until, write
from tests.support.node import Node

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def test_a_strangers_lock_stops_nobody(bare: Node) -> None:
    """Who can read the directories can lock them; install waits a little at most, and the kubelet behind it."""
    install(bare).check()
    stranger = bare.start([*NOBODY, "flock", BIN, "flock", NET_D, "sleep", "600"])
    assert until(lambda: bare.run(["flock", "--nonblock", NET_D, "true"]).rc == 1)
    write(bare, [bridge(host_local("10.66.0.0/29"))])
    install(bare).check()
    assert has_us(bare)
    bare.stop(stranger)
    assert bare.run([*NOBODY, "flock", "--nonblock", LOCK, "true"]).rc != 0


def test_link_or_file_in_place_of_executable_makes_way(bare: Node) -> None:
    """A link and a file make way, and what the link led to stays; a directory is for a person to decide."""
    bare.write("/srv/sbin/cni-reaper", "mine")
    bare.path(LINK).symlink_to("/srv/sbin/cni-reaper")
    install(bare).check()
    assert is_there(bare)
    assert bare.read("/srv/sbin/cni-reaper") == "mine"
    uninstall(bare).check()
    bare.write(LINK, "mine")
    install(bare).check()
    assert is_there(bare)
    uninstall(bare).check()
    bare.path(LINK).mkdir()
    ran = install(bare)
    assert (ran.rc, f"{LINK} is a directory" in ran.text, has_us(bare)) == (1, True, False)


def test_uninstall_leaves_what_is_not_its_own(bare: Node) -> None:
    """A link, or a file without the sum of cni-reaper, that was put there by hand; the file is named."""
    bare.path(LINK).symlink_to("/srv/sbin/cni-reaper")
    uninstall(bare).check()
    assert bare.path(LINK).is_symlink()
    bare.path(LINK).unlink()
    bare.write(LINK, "mine")
    assert "by hand" in uninstall(bare).check().text
    assert bare.read(LINK) == "mine"


def test_foreign_files_in_state_dir_stay(bare: Node) -> None:
    """What is not ours stays: files, their names whatever they are, and empty directories."""
    strange = {"app/.lock": "precious", "home/.new-letter": "dear", "app2/x:eth0": "no record"}
    for name, content in strange.items():
        bare.write(f"/srv/decoy/{name}", content)
    bare.path("/srv/decoy/empty").mkdir()
    install(bare, "--options", '{"stateDir": "/srv/decoy"}').check()
    pod = bare.pod()
    bare.cnitool("add", "net", pod).check()
    assert list(tree(bare, "/srv/decoy/net"))
    uninstall(bare, "--purge").check()
    assert not bare.path("/srv/decoy/net").exists()
    assert tree(bare, "/srv/decoy") == {name: content.encode() for name, content in strange.items()}
    assert bare.path("/srv/decoy/empty").is_dir()


def test_foreign_files_named_like_ours_stay(bare: Node) -> None:
    """Beside a conflist, and behind a link in the place of our memory."""
    bare.write(f"{NET_D}/.backup.cni-reaper", "mine")
    install(bare).check()
    bare.write("/srv/v/mine", "mine")
    bare.path("/run/cni-reaper").symlink_to("/srv/v")
    uninstall(bare).check()
    assert bare.read(f"{NET_D}/.backup.cni-reaper") == "mine"
    assert bare.read("/srv/v/mine") == "mine"


def test_linked_and_filled_directories_stop_no_uninstall(bare: Node) -> None:
    """Uninstall gets done, and at the first try."""
    bare.path("/srv/state").mkdir()
    bare.path("/var/lib/cni/reaper").symlink_to("/srv/state")
    bare.path("/run/cni-reaper/more").mkdir(parents=True)
    install(bare).check()
    pod = bare.pod()
    bare.cnitool("add", "net", pod).check()
    bare.cnitool("del", "net", pod).check()
    uninstall(bare).check()
    assert nothing_is_there(bare)
    assert not has_us(bare)
    assert tree(bare, "/srv") == {}
