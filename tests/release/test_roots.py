"""The tarball on old and new systems without Python: it unpacks into a CNI bin directory, runs there, and frees a leak."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.neighbours import Neighbours

SCRIPT = """
set -eu
mkdir -p "$1/proc" && mount --make-rprivate / && mount --bind "$1" "$1" && mount -t proc proc "$1/proc"
mount -t devtmpfs dev "$1/dev" 2>/dev/null || mount --bind /dev "$1/dev"
for directory in run tmp var/lib var/log; do mount -t tmpfs -o noexec tmpfs "$1/$directory"; done
mount -o remount,bind,ro "$1"
exec chroot "$1" /bin/sh -eu -c "$2"
"""
"""A root on a read-only file system; everything that may be written is noexec."""

ID = "ab" * 32
CALL = f"""
call() {{ # call VERB ID NETNS [PLUGIN]: with nothing in the environment but what the SPEC gives
    env -i CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=$3 CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin "${{4:-/opt/cni/bin/cni-reaper}}"
}}
conf='{{"cniVersion":"1.0.0","name":"net","logFile":"/var/log/cni-reaper.log",
"ipam":{{"type":"host-local","ranges":[[{{"subnet":"10.1.0.0/24"}}]]}}}}'
mkdir /run/netns && touch /run/netns/a /run/netns/b
unshare --net=/run/netns/a true
unshare --net=/run/netns/b true
echo "$conf" | call ADD {ID} /run/netns/a
echo "$conf" | call ADD {ID} /run/netns/a /opt/cni/bin/host-local >/dev/null
umount /run/netns/a
echo "$conf" | call ADD cd{ID[2:]} /run/netns/b
ls /var/lib/cni/networks/net
cat /var/log/cni-reaper.log
echo "$conf" | call DEL cd{ID[2:]} /run/netns/b
"""


def in_root(root: Path, script: str) -> str:
    """Run a script in a root, in namespaces of its own; return what it prints."""
    argv = ["unshare", "--mount", "--pid", "--net", "--fork", "sh", "-c", SCRIPT, "sh", str(root), script]
    ran = subprocess.run(argv, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    return ran.stdout


def test_answers_version_without_python(root: Path) -> None:
    """There is no Python in the root, and the executable answers."""
    assert list((root / "usr/bin").glob("python3*")) == []
    answer = in_root(root, "cd / && env -i CNI_COMMAND=VERSION /opt/cni/bin/cni-reaper </dev/null")
    assert "1.1.0" in json.loads(answer)["supportedVersions"]


def test_frees_a_leak(root: Path, programs: Neighbours) -> None:
    """With host-local beside it, on a read-only file system: the leak of a container without netns is freed by the next ADD."""
    shutil.copy(programs.plugins / "host-local", root / "opt/cni/bin")
    said = in_root(root, CALL)
    assert "event=reaped" in said
    assert "address=10.1.0.2" in said
    assert "\n10.1.0.2\n" not in said


def test_the_operators_commands(root: Path) -> None:
    """audit, explain, reap and doctor run there too, on nothing that the root would have to have."""
    reserved = f"mkdir -p /var/lib/cni/networks/net && printf '{ID}\\r\\neth0' >/var/lib/cni/networks/net/10.1.0.2"
    run = "env -i /opt/cni/bin/cni-reaper"
    said = in_root(root, f"{reserved}; {run} audit --map --subnet 10.1.0.0/24 2>&1 || echo code $?; {run} explain 10.1.0.2")
    assert "--?" in said
    assert "code 2" in said
    assert "verdict       UNKNOWN" in said
    assert "no-conflist" in in_root(root, f"{run} doctor || echo code $?")
    assert "_shtab_cni_reaper" in in_root(root, f"{run} completion bash")


def test_the_checksums_and_the_licences_are_inside(root: Path) -> None:
    """`sha256sum -c` in the bundle finds every file whole; each component's licence and the bill of materials are there."""
    (bundle,) = [path for path in (root / "opt/cni/bin/.cni-reaper").iterdir() if path.is_dir()]
    assert "FAILED" not in in_root(root, f"cd /opt/cni/bin/.cni-reaper/{bundle.name} && sha256sum -c --quiet SHA256SUMS")
    listed = {line.split("  ")[1] for line in (bundle / "SHA256SUMS").read_text().splitlines()}
    there = {str(file.relative_to(bundle)) for file in bundle.rglob("*") if file.is_file()} - {"SHA256SUMS"}
    assert listed == there
    named = {one["name"] for one in json.loads((bundle / "sbom/cni-reaper.cdx.json").read_bytes())["components"]}
    assert named <= {directory.name.replace("python", "cpython") for directory in (bundle / "licences").iterdir()}


def test_says_what_it_is(root: Path) -> None:
    """`version --verbose`: a release, its commit, its interpreter."""
    said = in_root(root, "env -i /opt/cni/bin/cni-reaper version --verbose")
    assert "kind    release" in said
    assert "python  3.11" in said
    (commit,) = [line.split()[1] for line in said.splitlines() if line.startswith("commit")]
    assert len(commit) == 40


def test_the_sums_beside_the_tarball(tarball: Path) -> None:
    """What is downloaded can be checked with the tools that everybody has."""
    for kind in ("sha256", "sha512"):
        subprocess.run([f"{kind}sum", "-c", "--quiet", f"{tarball.name}.{kind}"], cwd=tarball.parent, check=True)


@pytest.mark.parametrize("limit", ["2.31"])
def test_needs_no_newer_glibc(root: Path, limit: str) -> None:
    """No file of the bundle asks for a symbol of a newer glibc."""
    wanted = set()
    for file in (root / "opt/cni/bin/.cni-reaper").rglob("*"):
        if file.is_file() and file.read_bytes()[:4] == b"\x7fELF":
            table = subprocess.run(["objdump", "-T", file], capture_output=True, check=True, text=True).stdout
            wanted |= {
                word.strip("()").removeprefix("GLIBC_") for word in table.split() if word.strip("()").startswith("GLIBC_2")
            }
    assert max(tuple(map(int, version.split("."))) for version in wanted) <= tuple(map(int, limit.split(".")))
