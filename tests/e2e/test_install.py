"""`cni-reaper install` and `uninstall` on private nodes: the executable goes in, works, stays, and goes without a trace."""

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.pair import Pair
from tests.node import BIN, DATA_DIR, HANG_S, NET_D, STATE_DIR, Conf, Node, Ran, bridge, host_local

LINK = f"{BIN}/cni-reaper"
NOTES = f"{STATE_DIR}/installation.json"
LOCK = f"{STATE_DIR}/installation.lock"
TRAILER = b"\ncni-reaper sha256 %s\n"
FILE = f"{NET_D}/10-net.conflist"
OURS: Conf = {"type": "cni-reaper"}


@pytest.fixture
def bare(node: Node) -> Node:
    """A node with the reference plugins and a conflist, which has started pods before, and nothing of ours."""
    node.path(LINK).unlink()
    node.path(DATA_DIR).mkdir()
    write(node, [bridge(host_local("10.66.0.0/29")), {"type": "tuning"}])
    return node


def write(node: Node, plugins: list[Conf], path: str = FILE, **more: object) -> bytes:
    """Write a conflist as a platform does, and return its bytes."""
    text = json.dumps({"cniVersion": "1.0.0", "name": "net", **more, "plugins": plugins}, indent="\t") + "\n"
    node.write(path, text)
    return text.encode()


def executable(node: Node) -> str:
    """Return the executable that the tests are about, outside of any CNI directory."""
    return str(node.neighbours.reaper)


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
    raw = node.neighbours.reaper.read_bytes()[: -len(TRAILER % (b"0" * 64))] + mark
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


def test_a_node_from_install_to_uninstall(bare: Node) -> None:
    """The chain runs with us, a leak goes with the next ADD, and afterwards the node is as it was."""
    before, conflist = tree(bare, BIN), bare.path(FILE).read_bytes()
    said = install(bare).check().text
    assert LINK in said
    assert FILE in said
    assert plugins(bare)[0] == OURS
    assert is_there(bare)
    pair = Pair(bare)
    lost, live = bare.pod(), bare.pod()
    assert pair.add(lost) == "10.66.0.2"
    lost.delete()
    assert pair.add(live) == "10.66.0.3"
    assert set(bare.reservations("net")) == {"10.66.0.3"}
    bare.cnitool("del", "net", live).check()
    uninstall(bare).check()
    assert bare.path(FILE).read_bytes() == conflist
    assert tree(bare, BIN) == before
    assert not bare.path(STATE_DIR).exists()
    assert not bare.path("/run/cni-reaper").exists()


def test_again_changes_nothing(bare: Node) -> None:
    """Not a byte, not a time: whoever watches the directory has nothing to do."""
    install(bare).check()
    before = [(path, bare.path(path).stat()) for path in (FILE, NET_D, BIN, LINK, STATE_DIR, NOTES, LOCK)]
    said = install(bare).check().text
    assert "already" in said
    assert [(path, bare.path(path).stat()[:6] + bare.path(path).stat()[8:]) for path, _ in before] == [
        (path, old[:6] + old[8:]) for path, old in before
    ]
    times = [(one.st_mtime_ns, one.st_ctime_ns) for one in (bare.path(path).stat() for path, _ in before)]
    assert times == [(old.st_mtime_ns, old.st_ctime_ns) for _, old in before]


def test_the_installed_copy_installs(bare: Node) -> None:
    """What a unit at boot runs: the executable in its place, which has nothing to copy."""
    original = bare.path(FILE).read_bytes()
    install(bare).check()
    bare.path(FILE).write_bytes(original)
    before = sorted(os.listdir(bare.path(BIN)))
    bare.run([LINK, "install"]).check()
    assert plugins(bare)[0] == OURS
    assert sorted(os.listdir(bare.path(BIN))) == before
    assert is_there(bare)


def test_options_of_the_sibling(bare: Node) -> None:
    """The entry looks where the host-local of the same list writes."""
    write(bare, [bridge(host_local("10.66.0.0/29", dataDir="/var/lib/elsewhere"))])
    install(bare).check()
    assert plugins(bare)[0] == {**OURS, "dataDir": "/var/lib/elsewhere"}


def test_options_of_the_person(bare: Node) -> None:
    """They replace those of the entry, whose place stays; without them it keeps its own, also of a later version."""
    later = {**OURS, "ofALaterVersion": {"x": 1}, "logLevel": "debug"}
    write(bare, [later, bridge(host_local("10.66.0.0/29"))])
    install(bare).check()
    assert plugins(bare)[0] == later
    install(bare, "--options", '{"logFile": "/var/log/x.log"}').check()
    assert plugins(bare)[0] == {**OURS, "logFile": "/var/log/x.log"}


def test_wrong_options_are_refused(bare: Node) -> None:
    """All at once, and the conflist is as it was."""
    before = bare.path(FILE).read_bytes()
    ran = install(bare, "--options", '{"budgetMs": 0, "dryrun": true}')
    assert ran.rc == 1
    assert "budgetMs" in ran.text
    assert "dryRun" in ran.text
    assert bare.path(FILE).read_bytes() == before


def test_dry_run_writes_nothing(bare: Node) -> None:
    """It shows a diff."""
    before = tree(bare, BIN), tree(bare, NET_D)
    said = install(bare, "--dry-run").check().text
    assert '+\t\t{"type": "cni-reaper"},' in said.splitlines()
    assert (tree(bare, BIN), tree(bare, NET_D)) == before
    install(bare).check()
    before = tree(bare, BIN), tree(bare, NET_D)
    assert '-\t\t{"type": "cni-reaper"},' in uninstall(bare, "--dry-run").check().text.splitlines()
    assert (tree(bare, BIN), tree(bare, NET_D)) == before


def test_no_executable_no_entry(bare: Node) -> None:
    """On a file system that is noexec the copy does not run; a conflist that names it would stop every pod."""
    bare.mount("tmpfs", BIN, "tmpfs", flags=8)  # MS_NOEXEC
    bare.path(f"{BIN}/bridge").touch(0o755)
    before = bare.path(FILE).read_bytes()
    ran = install(bare, "--bin-dir", BIN)
    assert ran.rc == 1
    assert "noexec" in ran.text
    assert bare.path(FILE).read_bytes() == before
    assert os.listdir(bare.path(BIN)) == ["bridge"]


def test_a_process_that_has_started_keeps_its_own(bare: Node, tmp_path: Path) -> None:
    """Another build takes the name, not the file: a watcher of the old one goes on, and leaves the new one there."""
    install(bare).check()
    watcher = bare.start([LINK, "install", "--watch"])
    assert until(lambda: "inotify" in bare.run(["find", f"/proc/{watcher}/fd", "-printf", "%l\n"]).text)
    other = another_build(bare, tmp_path / "other")
    install(bare, source=other).check()
    assert is_there(bare, other)
    write(bare, [bridge(host_local("10.66.0.0/29"))])
    assert until(lambda: has_us(bare))
    assert bare.stop(watcher, signal.SIGTERM) == 0
    assert is_there(bare, other)
    install(bare).check()
    assert is_there(bare)


def test_executable_and_records_stay_while_a_runtime_may_call(bare: Node) -> None:
    """CRI-O and multus replay at a DEL the list of the ADD: it must find us, and the last one leaves nothing."""
    install(bare).check()
    pod = bare.pod()
    chain = bare.path(FILE).read_bytes()
    bare.cnitool("add", "net", pod).check()
    said = uninstall(bare).check().text
    assert "1 attachments" in said
    assert OURS not in plugins(bare)
    assert bare.path(LINK).exists()
    assert tree(bare, STATE_DIR)
    after = bare.path(FILE).read_bytes()
    bare.path(FILE).write_bytes(chain)  # what the runtime has in its cache
    bare.cnitool("del", "net", pod).check()
    bare.path(FILE).write_bytes(after)
    assert bare.reservations("net") == {}
    uninstall(bare).check()
    assert nothing_is_there(bare)
    assert not bare.path(STATE_DIR).exists()


def test_purge(bare: Node) -> None:
    """A person who knows that the runtime is containerd need not wait."""
    install(bare).check()
    bare.cnitool("add", "net", bare.pod()).check()
    uninstall(bare, "--purge").check()
    assert nothing_is_there(bare)
    assert not bare.path(STATE_DIR).exists()
    assert bare.reservations("net") != {}, "a reservation is never removed by it"


def test_records_stay_while_another_conflist_has_us(bare: Node) -> None:
    """An entry elsewhere on the node goes by them, and calls our executable."""
    install(bare).check()
    bare.cnitool("add", "net", bare.pod()).check()
    write(bare, [OURS, bridge(host_local("10.67.0.0/29"))], f"{NET_D}/20-other.conflist", name="other")
    said = uninstall(bare, "--conflist", FILE, "--purge").check().text
    assert "20-other.conflist" in said
    assert bare.path(LINK).exists()
    assert tree(bare, STATE_DIR)


def test_somebody_puts_it_back(bare: Node) -> None:
    """A watcher that still runs: it is said, and the executable stays."""
    install(bare).check()
    watcher = bare.start([LINK, "install", "--watch"])
    ran = uninstall(bare)
    assert ran.rc == 1
    assert "back" in ran.text
    assert bare.path(LINK).exists()
    assert bare.stop(watcher, signal.SIGTERM) == 0
    assert plugins(bare)[0] == OURS


def test_a_conf_is_converted_only_when_asked(bare: Node) -> None:
    """And comes back byte for byte."""
    bare.path(FILE).unlink()
    single = {"cniVersion": "0.4.0", "name": "net", **bridge(host_local("10.66.0.0/29"))}
    text = json.dumps(single) + "\r\n"
    conf = f"{NET_D}/10-net.conf"
    bare.write(conf, text)
    bare.path(conf).chmod(0o640)
    before = tree(bare, NET_D)
    ran = install(bare)
    assert ran.rc == 1
    assert "--convert" in ran.text
    assert tree(bare, NET_D) == before
    said = install(bare, "--convert").check().text
    assert "uninstall" in said
    assert sorted(tree(bare, NET_D)) == ["10-net.conf.before-cni-reaper", "10-net.conflist"]
    assert bare.path(FILE).stat().st_mode & 0o777 == 0o640
    assert [one["type"] for one in plugins(bare)] == ["cni-reaper", "bridge"]
    assert "already" in install(bare, "--convert").check().text
    pod = bare.pod()
    bare.cnitool("add", "net", pod).check()
    assert set(bare.reservations("net")) == {"10.66.0.2"}
    bare.cnitool("del", "net", pod).check()
    uninstall(bare).check()
    assert tree(bare, NET_D) == before


@pytest.mark.parametrize("left", ["both", "list only ours"])
def test_killed_while_converting(bare: Node, left: str) -> None:
    """Both files are there: the .conf counts, and uninstall brings the directory back."""
    bare.path(FILE).unlink()
    conf = f"{NET_D}/10-net.conf"
    bare.write(conf, json.dumps({"cniVersion": "0.4.0", "name": "net", **bridge(host_local("10.66.0.0/29"))}))
    before = tree(bare, NET_D)
    install(bare, "--convert").check()
    bare.path(conf + ".before-cni-reaper").rename(bare.path(conf))
    if left == "both":
        install(bare, "--convert").check()
        assert sorted(tree(bare, NET_D)) == ["10-net.conf.before-cni-reaper", "10-net.conflist"]
    uninstall(bare).check()
    assert tree(bare, NET_D) == before


def test_drop_in(bare: Node) -> None:
    """What libcni 1.3 appends: the list is not touched, and a rewrite of it takes nothing away. What it costs is said."""
    conflist = bare.path(FILE).read_bytes()
    said = install(bare, "--drop-in").check().text
    assert "last in the chain" in said
    assert bare.path(FILE).read_bytes() == conflist
    assert json.loads(bare.read(f"{NET_D}/net/50-cni-reaper.conf")) == OURS
    assert "already" in install(bare, "--drop-in").check().text
    pair = Pair(bare)
    lost = bare.pod()
    assert pair.add(lost) == "10.66.0.2"
    lost.delete()
    live = bare.pod()
    assert pair.add(live) == "10.66.0.3"
    assert set(bare.reservations("net")) == {"10.66.0.3"}
    bare.cnitool("del", "net", live).check()
    uninstall(bare).check()
    assert list(tree(bare, NET_D)) == ["10-net.conflist"]
    assert not bare.path(f"{NET_D}/net").exists()


def test_drop_in_is_not_used_where_it_would_not_work(bare: Node) -> None:
    """The list says that nothing is to be appended, or has us already."""
    write(bare, [bridge(host_local("10.66.0.0/29"))], loadOnlyInlinedPlugins=True)
    ran = install(bare, "--drop-in")
    assert ran.rc == 1
    assert "loadOnlyInlinedPlugins" in ran.text
    write(bare, [OURS, bridge(host_local("10.66.0.0/29"))])
    ran = install(bare, "--drop-in")
    assert ran.rc == 1
    assert "twice" in ran.text
    assert list(tree(bare, NET_D)) == ["10-net.conflist"]


def test_nothing_to_free(bare: Node) -> None:
    """A chain without host-local is left alone, unless a person insists."""
    write(bare, [{"type": "calico", "ipam": {"type": "calico-ipam"}}])
    before = bare.path(FILE).read_bytes()
    ran = install(bare)
    assert ran.rc == 1
    assert "calico-ipam" in ran.text
    assert bare.path(FILE).read_bytes() == before
    install(bare, "--conflist", FILE).check()
    assert plugins(bare)[0] == OURS


@pytest.mark.parametrize("name", ["00-multus.conf", "00-multus.conflist"])
def test_multus_own_file_is_never_edited(bare: Node, name: str) -> None:
    """Its copy is made of the next one; named on the command line it is refused. A list it is from cniVersion 1.0.0 on."""
    plugin = {"type": "multus", "delegates": [json.loads(bare.read(FILE))]}
    head = {"cniVersion": "1.0.0", "name": "multus-cni-network"}
    multus = f"{NET_D}/{name}"
    bare.write(multus, json.dumps({**head, "plugins": [plugin]} if name.endswith("list") else {**head, **plugin}))
    before = bare.path(multus).read_bytes()
    install(bare).check()
    assert plugins(bare)[0] == OURS
    for more in ((), ("--convert",)):
        assert install(bare, "--conflist", multus, *more).rc == 1
    assert bare.path(multus).read_bytes() == before


def test_uninstall_waits_for_multus(bare: Node) -> None:
    """Its copy still has us: what it would call stays."""
    install(bare).check()
    copy = {"cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus", "delegates": [json.loads(bare.read(FILE))]}
    bare.write(f"{NET_D}/00-multus.conf", json.dumps(copy))
    ran = uninstall(bare, "--purge")
    assert ran.rc == 1
    assert "multus has still a copy" in ran.text
    assert bare.path(LINK).exists()


def test_without_a_conflist(bare: Node) -> None:
    """The executable is put there all the same, and what is missing is said."""
    bare.path(FILE).unlink()
    ran = install(bare)
    assert ran.rc == 1
    assert "--watch" in ran.text
    assert bare.path(LINK).exists()
    assert install(bare, "--no-conflist").rc == 0


# --watch


@pytest.fixture
def watched(bare: Node) -> Node:
    """The node with a watcher that has put the entry in."""
    start_watch(bare)
    assert until(lambda: has_us(bare))
    return bare


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


def test_watch_is_told_by_the_kernel(bare: Node) -> None:
    """It has inotify watches on the directories of conflists and of plugins, and need not wait for its next look."""
    watcher = start_watch(bare)
    assert until(lambda: has_us(bare))
    wanted = {f"ino:{bare.path(directory).stat().st_ino:x} " for directory in (NET_D, BIN)}

    def watches() -> str:
        """Return proc(5)'s words on its inotify queue."""
        return bare.run(["sh", "-c", f"cat /proc/{watcher}/fdinfo/*"]).text

    assert until(lambda: all(one in watches() for one in wanted)), watches()


def test_watch_puts_it_back(watched: Node) -> None:
    """After a rewrite in place, in pieces, and after one by rename; twice in a row."""
    for _ in range(2):
        original = write(watched, [bridge(host_local("10.66.0.0/29"))])
        assert until(lambda: has_us(watched))
        with watched.path(FILE).open("wb") as file:
            file.write(original[:30])
            file.flush()
            half = original[:30]
            assert not until(partial(differs, watched, half), within_s=0.7), "half a file is left alone"
            file.write(original[30:])
        assert until(lambda: has_us(watched))
        watched.path(FILE + ".tmp").write_bytes(original)
        watched.path(FILE + ".tmp").rename(watched.path(FILE))
        assert until(lambda: has_us(watched))
    assert said(watched).count("our entry is in it") == 7


def test_watch_sees_directories_come_and_go(watched: Node) -> None:
    """The directory is replaced, its parent is replaced, a symlink's target is rewritten."""
    original = write(watched, [bridge(host_local("10.66.0.0/29"))])
    watched.path(NET_D).rename(watched.path("/etc/cni/old.d"))
    watched.write(FILE, original.decode())
    assert until(lambda: has_us(watched))
    watched.path(FILE).unlink()
    watched.write("/var/lib/platform/real.conflist", original.decode())
    watched.run(["ln", "-s", "/var/lib/platform/real.conflist", FILE]).check()
    assert until(lambda: has_us(watched, "/var/lib/platform/real.conflist"))
    watched.path("/var/lib/platform/real.conflist").write_bytes(original)
    assert until(lambda: has_us(watched, "/var/lib/platform/real.conflist"))
    assert watched.path(FILE).is_symlink()


def test_watch_waits_for_the_first_conflist(bare: Node) -> None:
    """On a node that is being set up: directory and file come later. It says so once."""
    shutil.rmtree(bare.path(NET_D))
    start_watch(bare)
    assert until(lambda: "waiting for one" in said(bare))
    write(bare, [bridge(host_local("10.66.0.0/29"))])
    assert until(lambda: has_us(bare))
    assert said(bare).count("waiting for one") == 1


def test_watch_puts_the_executable_back(watched: Node, tmp_path: Path) -> None:
    """But never its own version over one that somebody has installed since."""
    watched.path(LINK).unlink()
    assert until(lambda: is_there(watched))
    other = another_build(watched, tmp_path / "other")
    watched.run(["cp", other, f"{BIN}/new"]).check()
    watched.run(["mv", f"{BIN}/new", LINK]).check()
    write(watched, [bridge(host_local("10.66.0.0/29"))])
    assert until(lambda: has_us(watched))
    assert is_there(watched, other)


@pytest.mark.parametrize("how", ["another architecture", "half of it", "not executable", "a directory it leads to"])
def test_watch_replaces_an_executable_that_does_not_run(watched: Node, how: str) -> None:
    """The conflist names it, so no pod would start."""
    raw = watched.neighbours.reaper.read_bytes()
    watched.path(f"{BIN}/new").write_bytes(
        {"another architecture": raw[:18] + b"\x16" + raw[19:], "half of it": raw[:4096]}.get(how, raw)
    )
    watched.path(f"{BIN}/new").chmod(0o644 if how == "not executable" else 0o755)
    if how == "a directory it leads to":
        watched.path(f"{BIN}/new").unlink()
        watched.path(f"{BIN}/new").symlink_to(".")
    watched.run(["mv", "-T", f"{BIN}/new", LINK]).check()
    assert until(lambda: is_there(watched)), said(watched)


def test_watch_ends_cleanly(bare: Node) -> None:
    """SIGTERM: exit code 0, and everything stays: an update of the DaemonSet is no uninstallation."""
    watcher = start_watch(bare)
    assert until(lambda: has_us(bare))
    assert bare.stop(watcher, signal.SIGTERM) == 0
    assert has_us(bare)
    assert bare.path(LINK).exists()
    assert os.listdir(bare.path(NET_D)) == ["10-net.conflist"]


def test_watch_cleans_up_by_choice(bare: Node) -> None:
    """With --cleanup it uninstalls when it is ended."""
    before = tree(bare, BIN), tree(bare, NET_D)
    watcher = start_watch(bare, "--cleanup")
    assert until(lambda: has_us(bare))
    assert bare.stop(watcher, signal.SIGTERM) == 0
    assert (tree(bare, BIN), tree(bare, NET_D)) == before


def test_watch_without_inotify(bare: Node) -> None:
    """Where the kernel gives none it looks each second, and says so."""
    tracer = ["strace", "-f", "-o", "/dev/null", "-e", "trace=inotify_init1", "-e", "inject=inotify_init1:error=EMFILE"]
    watch = [f"{executable(bare)}", "install", "--watch"]
    bare.start(["sh", "-c", f"exec {' '.join(tracer + watch)} 2>/run/watch.log"])
    assert until(lambda: "no inotify" in said(bare))
    assert until(lambda: has_us(bare))
    write(bare, [bridge(host_local("10.66.0.0/29"))])
    assert until(lambda: has_us(bare))


def test_settle_stays_for_the_platforms_next_file(bare: Node) -> None:
    """A path unit tells nothing while the service runs: what is written right behind it must be answered."""
    original = bare.path(FILE).read_bytes()
    settling = bare.start([f"{executable(bare)}", "install", "--settle"])
    for _ in range(3):
        assert until(lambda: has_us(bare))
        bare.write(f"{NET_D}/calico-kubeconfig", "")
        bare.path(FILE).write_bytes(original)
    assert bare.wait(settling) == 0
    assert has_us(bare)


def test_settle_says_what_could_not_be_done(bare: Node) -> None:
    """It ends with install's own exit code."""
    write(bare, [{"type": "calico", "ipam": {"type": "calico-ipam"}}])
    ran = install(bare, "--settle")
    assert ran.rc == 1
    assert "calico-ipam" in ran.text


def test_settle_on_a_node_that_is_not_set_up(bare: Node) -> None:
    """No conflist: no failure for systemd to show, and nothing is put anywhere."""
    bare.path(FILE).unlink()
    before = tree(bare, BIN)
    assert "no conflist yet" in install(bare, "--settle").check().text
    assert tree(bare, BIN) == before


def test_a_directory_that_nobody_has_named(bare: Node) -> None:
    """One of RKE2's that is there and empty is no trouble where another one has the conflist; one that is named is."""
    bare.path("/var/lib/rancher/rke2/agent/etc/cni/net.d").mkdir(parents=True)
    install(bare).check()
    bare.path("/etc/cni/empty").mkdir()
    ran = install(bare, "--conf-dir", NET_D, "--conf-dir", "/etc/cni/empty")
    assert (ran.rc, "no conflist yet" in ran.text) == (1, True)
