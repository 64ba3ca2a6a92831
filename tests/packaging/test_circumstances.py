"""An ADD that has something to reap, under the circumstances in which a runtime, a container or an operator may start it."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.e2e.pair import NETWORK, Pair, container_id
from tests.neighbours import ROOT, Neighbours
from tests.node import STATE_DIR, Command, Node, Ran

STARTS = 200
VERSION = {"CNI_COMMAND": "VERSION"}


def under(node: Node, pair: Pair, script: str) -> Ran:
    """Run ADD of a new pod by a shell script, in which "$0" is the executable."""
    pod = node.pod()
    command: Command = node.plugin_command("ADD", pair.head, netns=pod, container_id=container_id(pod.name))
    command["argv"] = ["bash", "-c", script, *command["argv"]]
    return node.together([command])[0]


SCRIPTS = {
    "few descriptors": 'ulimit -n 32; exec "$0"',
    "umask 077": 'umask 077; exec "$0"',
    "umask 000": 'umask 000; exec "$0"',
    "no environment but CNI's": (
        'exec env -i CNI_COMMAND="$CNI_COMMAND" CNI_CONTAINERID="$CNI_CONTAINERID" CNI_NETNS="$CNI_NETNS" CNI_IFNAME=eth0 "$0"'
    ),
    "no HOME": 'unset HOME PATH LANG; exec "$0"',
    "TMPDIR is noexec": 'mkdir /run/tmp; mount -t tmpfs -o noexec tmpfs /run/tmp; TMPDIR=/run/tmp exec "$0"',
    "working directory deleted": 'mkdir /run/gone; cd /run/gone; rmdir /run/gone; exec "$0"',
    "stderr closed": 'exec "$0" 2>&-',
    "a full pipe that is read late": (
        'mkfifo /run/pipe; exec 3<>/run/pipe 5<&0; head -c 65536 /dev/zero >&3; "$0" <&5 >&3 & '
        "until grep -qE '^(1|64) 0x1 ' /proc/$!/syscall; do :; done; "  # it is in write(2), to stdout
        "head -c 65536 <&3 >/dev/null; wait $!; code=$?; exec 4</run/pipe 3>&-; cat <&4; exit $code"
    ),
    "signals ignored": "trap '' PIPE HUP TERM; exec \"$0\"",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_an_add_reaps(node: Node, script: str) -> None:
    """It frees the leak, keeps the live, and answers on stdout alone; its files are for root alone."""
    pair = Pair(node)
    live, stale = pair.add(node.pod("live")), pair.leak()
    ran = under(node, pair, script)
    assert (ran.rc, ran.err) == (0, b""), str(ran)
    assert ran.json()["cniVersion"] == "1.0.0"
    assert pair.held() == {live}, stale
    for file in node.path(f"{STATE_DIR}/{NETWORK}").iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    assert node.path(STATE_DIR).stat().st_mode & 0o077 == 0


def test_nobody_reads_the_answer(node: Node) -> None:
    """Stdout is closed: the call fails, as its result has reached nobody; the leak is freed all the same."""
    pair = Pair(node)
    live, stale = pair.add(node.pod("live")), pair.leak()
    assert stale in pair.held()
    assert under(node, pair, 'exec "$0" >&-').rc == 1
    assert pair.held() == {live}


def test_under_the_default_seccomp_profile(node: Node) -> None:
    """As in a container of a daemon without capabilities: setns(2) is forbidden, and a leak whose record proves it goes."""
    pair = Pair(node)
    live, stale = pair.add(node.pod("live")), pair.leak()
    confined = f"cd {ROOT} && exec {sys.executable} -m tests.packaging.seccomp {os.environ['CNI_REAPER_SECCOMP']}"
    forbidden = node.run(["bash", "-c", f"{confined} /usr/bin/unshare --net true"])
    assert "Operation not permitted" in forbidden.text, "the profile holds"
    assert under(node, pair, f'{confined} "$0"').rc == 0
    assert pair.held() == {live}, (stale, node.log())


def test_a_read_only_copy_of_another_user(node: Node, programs: Neighbours, tmp_path: Path) -> None:
    """Whose the files are does not matter, as long as they can be read."""
    copy = tmp_path / "copy"
    shutil.copytree(programs.reaper.parent, copy)
    for entry in [copy, *copy.rglob("*")]:
        os.chown(entry, 12345, 12345)
        entry.chmod(0o555 if entry.is_dir() or entry.stat().st_mode & 0o100 else 0o444)
    for directory in (copy, *copy.parents):
        if directory.stat().st_uid == os.getuid() and "pytest" in directory.name:
            directory.chmod(0o755)
    (tmp_path.parent).chmod(0o755)
    tmp_path.chmod(0o755)
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(copy / "cni-reaper")]
    assert b"supportedVersions" in node.run(as_nobody, env=VERSION).check().out
    pair = Pair(node)
    stale = pair.leak()
    pod = node.pod()
    node.plugin("ADD", pair.head, netns=pod, container_id=container_id(pod.name), binary=str(copy / "cni-reaper")).check()
    assert stale not in pair.held()


def upgrade(bin_dir: Path, bundle: Path, version: str) -> None:
    """Put a version beside the others and link to it, as the README says."""
    place = bin_dir / ".cni-reaper"
    script = 'cp -rT "$0" "$1/$2.new" && mv -nT "$1/$2.new" "$1/$2" && ln -sfn ".cni-reaper/$2/cni-reaper" "$1/../cni-reaper"'
    subprocess.run(["bash", "-c", script, bundle, place, version], check=True)


def test_an_upgrade_under_many_starts(programs: Neighbours, tmp_path: Path) -> None:
    """200 starts at once while versions come: each starts whole, the old one or the new one."""
    bundle = programs.reaper.parent
    (tmp_path / ".cni-reaper").mkdir()
    upgrade(tmp_path, bundle, "0")
    over = threading.Event()

    def keep_upgrading() -> None:
        number = 0
        while not over.is_set():
            number += 1
            upgrade(tmp_path, bundle, str(number))

    upgrading = threading.Thread(target=keep_upgrading)
    upgrading.start()
    try:
        for _ in range(5):
            argv = [str(tmp_path / "cni-reaper")]
            started = [
                subprocess.Popen(argv, env=VERSION, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                for _ in range(STARTS // 5)
            ]
            for process in started:
                out, err = process.communicate(timeout=120)
                assert (process.returncode, err) == (0, b"")
                assert b"supportedVersions" in out
    finally:
        over.set()
        upgrading.join()
    assert len(list((tmp_path / ".cni-reaper").iterdir())) > 2, "there were upgrades meanwhile"
