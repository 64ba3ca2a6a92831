"""The executable on other systems than the one it was built on: it runs, heals a full node, and every command of it works."""

import json
import shutil
import stat

import yaml

from cni_reaper_plugin import __version__
from tests.support.cni_calls import BIN, NET_D, bridge, host_local, reaper
from tests.support.commands import Command, command
from tests.support.node import Node
from tests.support.node_files import LOG_FILE
from tests.support.programs import ROOT
from tests.support.waiting import until

NETWORK = "net"
FILE = f"{NET_D}/{NETWORK}.conflist"
EXECUTABLE = f"{BIN}/cni-reaper"
DOWNLOADED = "/usr/local/bin/cni-reaper"
POOL = "10.90.0.0/29"
"""Five addresses for pods, 10.90.0.2 to .6; .1 is the gateway's."""
CHAIN = [bridge(host_local(POOL)), {"type": "portmap", "capabilities": {"portMappings": True}}]
ELF = b"\x7fELF"


def given(node: Node) -> set[str]:
    """Return the addresses that are reserved."""
    return set(node.reservations(NETWORK))


def leak(node: Node, name: str) -> None:
    """Start a pod, and take its network namespace away without a DEL."""
    pod = node.pod(name)
    node.cnitool("add", NETWORK, pod).check()
    pod.delete()


def test_root_has_nothing_that_python_needs(foreign: Node) -> None:
    """No Python in any of them; in the one without a libc no shared library at all, and busybox is the only program."""
    usr = foreign.path("/usr")
    assert not [*usr.rglob("python3*"), *usr.rglob("libpython*")]
    if not foreign.path("/usr/lib").exists():
        files = [one for one in foreign.path("/bin").iterdir() if not one.is_symlink()]
        assert [one.name for one in files] == ["busybox"]
        assert not [one for one in foreign.path("/").iterdir() if one.name.startswith("lib")]


def test_executable_answers_version(foreign: Node) -> None:
    """With nothing in the environment but the verb."""
    ran = foreign.plugin("VERSION", None, ifname=None, env={"CNI_PATH": None})
    assert (ran.rc, ran.err) == (0, b"")
    assert "1.1.0" in ran.json()["supportedVersions"]


def test_next_add_heals_a_full_pool(foreign: Node) -> None:
    """Without cni-reaper the pool stays full; with it the next ADD frees the four leaks, and the living pod keeps its address."""
    foreign.conflist(NETWORK, [reaper(), *CHAIN])
    living = foreign.pod("living")
    foreign.cnitool("add", NETWORK, living).check()
    kept = given(foreign)
    foreign.conflist(NETWORK, CHAIN)
    for number in range(4):
        leak(foreign, f"lost{number}")
    last = foreign.pod("refused")
    refused = foreign.cnitool("add", NETWORK, last)
    last.delete()  # as a runtime does
    assert refused.rc != 0
    assert "no IP addresses available" in refused.text
    foreign.conflist(NETWORK, [reaper(), *CHAIN])
    following = foreign.pod("following")
    foreign.cnitool("add", NETWORK, following).check()
    (address,) = following.addresses()
    assert given(foreign) == kept | {address.partition("/")[0]}
    assert len(foreign.log("reaped")) == 4, foreign.log()
    for pod in (living, following):
        foreign.cnitool("check", NETWORK, pod).check()
        foreign.cnitool("del", NETWORK, pod).check()
    assert given(foreign) == set()


def test_operator_commands_from_install_to_uninstall(foreign: Node) -> None:
    """A bare node: each command does its work, and uninstall leaves the conflist as it was and no file."""
    run = DOWNLOADED
    shutil.move(foreign.path(EXECUTABLE), foreign.path(run))
    foreign.conflist(NETWORK, CHAIN)
    original = foreign.read(FILE)

    assert FILE in foreign.run([run, "install", "--dry-run"]).text
    assert foreign.read(FILE) == original
    foreign.run([run, "install", "--options", json.dumps({"logFile": LOG_FILE})]).check()
    assert [one["type"] for one in json.loads(foreign.read(FILE))["plugins"]] == ["cni-reaper", "bridge", "portmap"]
    foreign.run(["cmp", run, EXECUTABLE]).check()

    living = foreign.pod("living")
    foreign.cnitool("add", NETWORK, living).check()
    leak(foreign, "lost")
    doctor = foreign.run([EXECUTABLE, "doctor", "--json"])
    found = {one["key"]: one["level"] for one in doctor.json()["findings"]}
    assert set(found.values()) == {"ok", "note"}, str(doctor)
    assert found["executable-intact"] == "ok"
    audit = foreign.run([EXECUTABLE, "audit", "--map"])
    assert (audit.rc, "--LS...-" in audit.text) == (1, True), str(audit)
    assert "netns" in foreign.run([EXECUTABLE, "explain", "10.90.0.3"]).check().text
    assert "10.90.0.3" in foreign.run([EXECUTABLE, "reap", "--dry-run"]).text
    assert given(foreign) == {"10.90.0.2", "10.90.0.3"}
    foreign.run([EXECUTABLE, "reap", "--yes"]).check()
    assert given(foreign) == {"10.90.0.2"}

    foreign.cnitool("del", NETWORK, living).check()
    foreign.run([EXECUTABLE, "uninstall", "--purge"]).check()
    assert foreign.read(FILE) == original
    left = foreign.run(["find", "/opt/cni", "/etc/cni", "/var/lib/cni", "/run/cni-reaper"]).out.decode()
    assert "reaper" not in left


PRINTED = {
    "completion bash": "_shtab_cni_reaper",
    "completion zsh": "#compdef cni-reaper",
    "completion fish": "complete -c cni-reaper",
    "man": ".TH",
    "units": "cni-reaper-install.service",
    "version --verbose": __version__,
    "--help": "conflist",
}


def test_executable_prints_what_a_package_has_as_files(foreign: Node) -> None:
    """Completions, the manual page, units, and what it was built of."""
    for arguments, holds in PRINTED.items():
        ran = foreign.run([EXECUTABLE, *arguments.split()]).check()
        assert ran.err == b"", str(ran)
        assert holds in ran.out.decode(), str(ran)


CONTAINER = """
set -e
mkdir -p /run/image
mount -t tmpfs image /run/image
cp /usr/local/bin/cni-reaper /run/image/
for directory in $MOUNTS; do
    mkdir -p "$directory" "/run/image$directory"
    mount --bind "$directory" "/run/image$directory"
done
mkdir /run/image/proc
mount -t proc proc /run/image/proc
mount -o remount,ro /run/image
exec chroot /run/image /cni-reaper "$@" 2>&1
"""
"""A container of the image: the executable, /proc, and the directories that the DaemonSet mounts, which alone can be written."""
MANIFEST = ROOT / "packaging/kubernetes/base/daemonset.yaml"


def containers() -> list[tuple[list[str], list[str]]]:
    """Return the DaemonSet's containers in their order: arguments, directories."""
    pod = yaml.safe_load(MANIFEST.read_text())["spec"]["template"]["spec"]
    return [
        (one["args"], [mounted["mountPath"] for mounted in one["volumeMounts"]])
        for one in (*pod["initContainers"], *pod["containers"])
    ]


def contained(arguments: list[str], directories: list[str]) -> Command:
    """Describe the run of a container."""
    argv = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", CONTAINER, "sh", *arguments]
    return command(argv, env={"MOUNTS": " ".join(directories)})


def test_daemonset_installs_and_the_next_pod_starts(foreign: Node) -> None:
    """Its init container and its watcher run with nothing but the executable and the node's directories; the node heals."""
    foreign.conflist(NETWORK, CHAIN)
    shutil.move(foreign.path(EXECUTABLE), foreign.path(DOWNLOADED))
    living = foreign.pod("before")
    foreign.cnitool("add", NETWORK, living).check()

    init, watch = containers()
    assert "--watch" in watch[0]
    foreign.together([contained(*init)])[0].check()
    assert foreign.path(EXECUTABLE).stat().st_mode & stat.S_IXOTH
    assert not has_entry(foreign)
    given_to = contained(*watch)
    watcher = foreign.start(given_to["argv"], env=given_to["env"])
    until(lambda: has_entry(foreign), "the entry is in the conflist")
    foreign.conflist(NETWORK, CHAIN)  # the platform writes its conflist again
    until(lambda: has_entry(foreign), "the entry is in the conflist again")

    following = foreign.pod("following")
    foreign.cnitool("add", NETWORK, following).check()
    assert foreign.records(NETWORK), "cni-reaper has seen it"
    leak(foreign, "lost")
    foreign.cnitool("add", NETWORK, foreign.pod("next")).check()
    assert len(given(foreign)) == 3
    foreign.stop(watcher)


def has_entry(node: Node) -> bool:
    """Tell whether the conflist has cni-reaper's entry."""
    return '"cni-reaper"' in node.read(FILE)
