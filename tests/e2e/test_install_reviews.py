"""What two reviews of install and uninstall have found: each of these was seen to go wrong."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.e2e.pair import Pair
from tests.e2e.test_install import (
    FILE,
    LINK,
    OURS,
    another_build,
    bare,
    executable,
    has_us,
    install,
    is_there,
    nothing_is_there,
    plugins,
    said,
    start_watch,
    tree,
    uninstall,
    until,
    watched,
    write,
)
from tests.node import BIN, NET_D, Node, bridge, host_local

__all__ = ["bare", "watched"]  # fixtures

PLATFORM = [bridge(host_local("10.66.0.0/29"))]
CONF = f"{NET_D}/10-one.conf"
LIST = f"{NET_D}/10-one.conflist"


def runs(node: Node, bin_dir: str) -> bool:
    """Tell whether a runtime finds us there."""
    return node.path(f"{bin_dir}/cni-reaper").exists()


def containerd_reads(node: Node, bin_dir: str) -> None:
    """Configure it as Debian's package does."""
    told = f'[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "{bin_dir}"\nconf_dir = "{NET_D}"\n'
    node.write("/etc/containerd/config.toml", told)


def plugins_in(node: Node, bin_dir: str) -> None:
    """Put a plugin of the chain there."""
    node.path(bin_dir).mkdir(parents=True, exist_ok=True)
    node.path(f"{bin_dir}/bridge").touch(0o755)


def test_each_runtime_finds_us(bare: Node) -> None:
    """RKE2, which says nothing, beside Debian's containerd, which says another directory: the conflist is one, both read it."""
    containerd_reads(bare, "/srv/lib")
    plugins_in(bare, "/srv/lib")
    install(bare).check()
    assert runs(bare, "/srv/lib")
    assert runs(bare, BIN)
    pair = Pair(bare)
    pair.add(bare.pod())
    uninstall(bare, "--purge").check()
    assert not runs(bare, "/srv/lib")
    assert not runs(bare, BIN)


def test_a_directory_that_may_be_read_and_cannot_be_written(bare: Node) -> None:
    """What is configured counts; of the other one it is said, and no more: /usr is read-only on many a node."""
    containerd_reads(bare, BIN)
    bare.mount("tmpfs", "/usr/libexec", "tmpfs")
    plugins_in(bare, "/usr/libexec/cni")
    bare.mount("none", "/usr/libexec", flags=32 | 1)  # MS_REMOUNT | MS_RDONLY
    ran = install(bare).check()
    assert "/usr/libexec/cni" in ran.text
    assert plugins(bare)[0] == OURS
    containerd_reads(bare, "/usr/libexec/cni")
    write(bare, PLATFORM)
    assert install(bare).rc == 1
    assert not has_us(bare)


@pytest.mark.parametrize("elsewhere", ["/etc/cni/net.d/k8s/nerdctl-foo.conflist", "/srv/kube/net.d/10-net1.conflist"])
def test_uninstall_finds_what_was_named_once(bare: Node, elsewhere: str) -> None:
    """A directory of a nerdctl namespace, one that only multus' clusterNetwork names: out of both, then the executable."""
    original = write(bare, PLATFORM, elsewhere)
    install(bare).check()
    install(bare, "--conflist", elsewhere).check()
    uninstall(bare, "--conflist", FILE).check()
    assert runs(bare, BIN)
    uninstall(bare).check()
    assert bare.path(elsewhere).read_bytes() == original
    assert not runs(bare, BIN)


def test_one_directory_of_two(bare: Node) -> None:
    """Out of the one, the executable stays for the other, and so does the record of its live pod."""
    for one in ("a", "b"):
        write(bare, PLATFORM, f"/srv/{one}/10-net.conflist")
        install(bare, "--conf-dir", f"/srv/{one}").check()
    install(bare).check()
    bare.cnitool("add", "net", bare.pod()).check()
    shutil.rmtree(bare.path("/var/lib/cni/results"))
    records = bare.records("net")
    assert records
    said = uninstall(bare, "--conf-dir", "/srv/a").check().text
    assert "/srv/b" in said
    assert runs(bare, BIN)
    assert bare.records("net") == records


def test_a_list_that_cilium_has_set_aside(bare: Node) -> None:
    """It comes back when Cilium goes, and must not name an executable that is gone."""
    original = bare.path(FILE).read_bytes()
    install(bare).check()
    bare.path(FILE).rename(bare.path(f"{FILE}.cilium_bak"))
    uninstall(bare).check()
    assert bare.path(f"{FILE}.cilium_bak").read_bytes() == original


def test_a_conf_that_the_platform_has_written_since(bare: Node) -> None:
    """Its new content stays, and a second --convert takes it up."""
    bare.path(FILE).unlink()
    text = json.dumps({"cniVersion": "1.0.0", "name": "one", **bridge(host_local("10.66.0.0/29"))})
    newer = text.replace("10.66.0.0", "10.77.0.0")
    bare.write(CONF, text)
    install(bare, "--convert").check()
    bare.write(CONF, newer)
    assert install(bare).rc == 1
    install(bare, "--convert").check()
    assert "10.77.0.0" in bare.read(LIST)
    assert not bare.path(CONF).exists()
    bare.write(CONF, newer)
    uninstall(bare).check()
    assert bare.read(CONF) == newer
    assert list(tree(bare, NET_D)) == ["10-one.conf"]


def test_a_converted_list_that_somebody_has_removed(bare: Node) -> None:
    """What was set aside is for a person to decide, and stops nothing."""
    bare.path(FILE).unlink()
    bare.write(CONF, json.dumps({"cniVersion": "1.0.0", "name": "one", **bridge(host_local("10.66.0.0/29"))}))
    install(bare, "--convert").check()
    bare.path(LIST).unlink()
    assert "rename it, or remove it" in uninstall(bare).check().text
    assert not runs(bare, BIN)


def test_a_state_dir_with_other_things_in_it(bare: Node) -> None:
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


def test_others_files_that_look_like_ours(bare: Node) -> None:
    """Beside a conflist, and behind a link in the place of our memory."""
    bare.write(f"{NET_D}/.backup.cni-reaper", "mine")
    install(bare).check()
    bare.write("/srv/v/mine", "mine")
    bare.path("/run/cni-reaper").symlink_to("/srv/v")
    uninstall(bare).check()
    assert bare.read(f"{NET_D}/.backup.cni-reaper") == "mine"
    assert bare.read("/srv/v/mine") == "mine"


def test_directories_that_are_links_or_have_more_in_them(bare: Node) -> None:
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


def test_only_the_conflist_that_is_named(bare: Node) -> None:
    """Executable and records stay, as --help says; and what is not there is no success."""
    install(bare).check()
    assert "without --conflist" in uninstall(bare, "--conflist", FILE).check().text
    assert runs(bare, BIN)
    ran = uninstall(bare, "--conflist", "/nope")
    assert (ran.rc, "no such file" in ran.text) == (1, True)
    ran = uninstall(bare, "--conflist", NET_D)
    assert ran.rc == 1
    assert runs(bare, BIN)


def test_never_twice_in_a_chain(bare: Node) -> None:
    """A drop-in and the list, in this order as well; a drop-in of another name; a list that takes none, as a text."""
    install(bare, "--drop-in").check()
    ran = install(bare)
    assert (ran.rc, "twice" in ran.text) == (1, True)
    assert not has_us(bare)
    bare.path(f"{NET_D}/net/50-cni-reaper.conf").rename(bare.path(f"{NET_D}/net/10-mine.conf"))
    ran = install(bare, "--drop-in")
    assert (ran.rc, "10-mine.conf" in ran.text) == (1, True)
    bare.path(f"{NET_D}/net/10-mine.conf").unlink()
    write(bare, PLATFORM, loadOnlyInlinedPlugins="TRUE")
    ran = install(bare, "--drop-in")
    assert (ran.rc, "loadOnlyInlinedPlugins" in ran.text) == (1, True)


def test_dry_runs_tell_the_whole_truth(bare: Node) -> None:
    """Nothing that is done already, and the rest that uninstall removes, or why not."""
    assert "would put this executable" in install(bare, "--dry-run").check().text
    install(bare).check()
    assert install(bare, "--dry-run").check().text.strip() == "everything is in its place already"
    assert f"would remove {LINK}" in uninstall(bare, "--dry-run").check().text
    bare.cnitool("add", "net", bare.pod()).check()
    assert "1 attachments" in uninstall(bare, "--dry-run").check().text
    uninstall(bare).check()
    assert "1 attachments" in uninstall(bare, "--dry-run").check().text
    assert f"would remove {LINK}" in uninstall(bare, "--dry-run", "--purge").check().text
    assert runs(bare, BIN)


def test_words(bare: Node) -> None:
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


def test_a_full_disk(bare: Node) -> None:
    """It names what is full, and leaves nothing there."""
    bare.mount("tmpfs", BIN, "tmpfs", data="size=1m")
    plugins_in(bare, BIN)
    ran = install(bare)
    assert (ran.rc, f"{BIN}: No space left" in ran.text) == (1, True), str(ran)
    assert not has_us(bare)
    assert [path.name for path in bare.path(BIN).iterdir()] == ["bridge"]


def test_a_watcher_tries_again_to_put_its_version_there(bare: Node, tmp_path: Path) -> None:
    """It could not at its start, as the disk was full; it says so, and does it when there is room."""
    bare.mount("tmpfs", BIN, "tmpfs", data="size=40m")
    plugins_in(bare, BIN)
    install(bare).check()
    bare.run(["dd", "if=/dev/zero", f"of={BIN}/filler", "bs=64k"])
    other = another_build(bare, tmp_path / "b")
    bare.start(["sh", "-c", f"exec {other} install --watch 2>/run/watch.log"])
    assert until(lambda: "No space left" in said(bare))
    bare.path(f"{BIN}/filler").unlink()
    write(bare, PLATFORM)
    assert until(lambda: is_there(bare, other))


def test_a_watcher_and_the_directory_of_plugins(watched: Node) -> None:
    """All of it removed and unpacked again, or the executable alone: it is back at once, and where the runtime looks."""
    for number in range(2):
        watched.path(BIN).rename(watched.path(f"/opt/cni/gone-{number}"))
        assert until(lambda: runs(watched, BIN)), said(watched)
        watched.path(f"{BIN}/bridge").touch(0o755)
    watched.path(LINK).rename(watched.path("/opt/cni/gone"))
    assert until(lambda: runs(watched, BIN)), said(watched)


def test_a_watcher_that_cannot_put_its_executable_there(bare: Node) -> None:
    """It says so, and does not copy it again and again: its own attempts are no changes."""
    bare.mount("tmpfs", BIN, "tmpfs", flags=8)  # MS_NOEXEC
    plugins_in(bare, BIN)
    start_watch(bare)
    assert until(lambda: "noexec" in said(bare))
    before = bare.path(BIN).stat().st_mtime_ns
    assert not until(lambda: bare.path(BIN).stat().st_mtime_ns != before, within_s=2.0)


def test_a_watcher_and_the_drop_in(bare: Node) -> None:
    """Removed, alone or with its directory, it is back."""
    watcher = start_watch(bare, "--drop-in")
    path = bare.path(f"{NET_D}/net/50-cni-reaper.conf")
    assert until(path.exists)
    path.unlink()
    assert until(path.exists)
    shutil.rmtree(path.parent)
    assert until(path.exists)
    assert bare.stop(watcher, signal.SIGTERM) == 0


def test_uninstall_waits_for_a_call_that_runs(bare: Node) -> None:
    """A plugin of the chain still runs, and its runtime will call the rest of the old list: the executable stays meanwhile."""
    install(bare).check()
    call = bare.start(["sleep", "infinity"], env={"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "a-slow-one"})
    ran = uninstall(bare, "--purge")
    assert ran.rc == 1
    assert "a-slow-one" in ran.text
    assert not has_us(bare)
    assert is_there(bare)
    bare.stop(call)
    uninstall(bare, "--purge").check()
    assert nothing_is_there(bare, LINK)


def test_a_stop_of_the_executable_is_mended(watched: Node) -> None:
    """`chmod 0` of it by a person: the watcher is told, and puts it back."""
    watched.path(LINK).chmod(0)
    assert until(lambda: runs(watched, BIN)), said(watched)
