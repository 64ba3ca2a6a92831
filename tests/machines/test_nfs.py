"""Two nodes with one dataDir on a real NFS: Debian's server and clients, each with namespaces of its own on one machine.

flock(2) on NFS is a lock on the server: with NFSv3 lockd gives it. NFSv4 refuses an exclusive one on a descriptor that is open
for reading only (EBADF). host-local opens its lock so, does not look at the answer, and goes on without a lock (1.9.1:
go-filemutex's filemutex_flock.go, host-local's allocator.go). Without that lock nothing can be freed safely.
"""

import hashlib
import json
import os
import re
from pathlib import Path

import pytest

from tests.machines.machine import BOUND_S, Console, Machine
from tests.machines.nodes import conflist
from tests.support.cni_calls import host_local, reaper
from tests.support.node_files import DATA_DIR, LOG_FILE, Conf

ROUNDS = int(os.environ.get("CNI_REAPER_MACHINES_ROUNDS", "4"))
"""Of pods on both nodes; on a busy host a round takes 7 to 15 s."""
PROGRAMS = ("exportfs", "mount.nfs", "rpc.mountd", "rpc.nfsd", "rpc.statd", "rpcbind")
MODULES = ("nfsd", "nfsv3", "nfsv4")
LIBRARIES = {"amd64": "usr/lib/x86_64-linux-gnu", "arm64": "usr/lib/aarch64-linux-gnu"}
LOADERS = {"amd64": "lib64/ld-linux-x86-64.so.2", "arm64": "lib/ld-linux-aarch64.so.1"}
HERE = Path(__file__).parent
USERS = b"root:x:0:0::/root:/bin/sh\n_rpc:x:101:65534::/run/rpcbind:/bin/false\nstatd:x:102:65534::/var/lib/nfs:/bin/false\n"
FOUND_IN = b"passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\nrpc: files\nnetgroup: files\n"
EXPORTS = b"/srv 10.9.0.0/16(rw,no_root_squash,fsid=0,no_subtree_check,insecure)\n"
SCENARIO = f"""
cp /root/cni-reaper /opt/cni/bin/
. /nfs/machine
node a
node b
serve a b
wire a 1
wire b 2
mounted() {{
    on $1 mkdir -p {DATA_DIR}
    on $1 mount.nfs 10.9.$2.1:$3 {DATA_DIR} -o $4
    step "mounts of $1, $4" on $1 grep {DATA_DIR} /proc/mounts
}}
look() {{ step "$1" on server sh /nfs/pods list; }}
# both STEP VERB POD VERB POD: on both nodes at once
both() {{
    on a sh /nfs/pods $2 a-$3 >/tmp/a 2>&1 &
    a=$!
    on b sh /nfs/pods $4 b-$5 >/tmp/b 2>&1 &
    wait $a $!
    step "a, $1" cat /tmp/a
    step "b, $1" cat /tmp/b
}}

mounted a 1 /srv vers=3
mounted b 2 /srv vers=3
both "live" start live start live
round=0
while [ $round -lt {ROUNDS} ]; do
    both "start $round" start $round start $round
    look "round $round"
    case $((round % 3)) in
        0) both "end $round" lose $round stop $round ;;
        1) both "end $round" stop $round lose $round ;;
        2) both "end $round" stop $round stop $round ;;
    esac
    round=$((round + 1))
done
step "a, last" on a sh /nfs/pods start a-last
step "b, last" on b sh /nfs/pods start b-last
look "last"
for one in a b; do
    step "log of $one" on $one cat {LOG_FILE}
    step "doctor of $one" on $one /root/cni-reaper doctor --json
    on $one umount {DATA_DIR}
done
mounted a 1 / vers=4.2
step "a, start on NFSv4" on a sh /nfs/pods start a-four
on a sh /nfs/pods lose a-four
step "a, next on NFSv4" on a sh /nfs/pods start a-next
look "NFSv4"
step "end on NFSv4" on a sh /nfs/pods stop a-next
look "end of NFSv4"
step "log of NFSv4" on a cat {LOG_FILE}
"""


def files(debian: Path, architecture: str) -> dict[str, bytes]:
    """Return what the scenario brings along: Debian's programs and libraries, their settings, scripts and conflists."""
    libraries, loader = LIBRARIES[architecture], LOADERS[architecture]
    found: dict[str, bytes] = {}

    def need(name: str) -> None:
        found[name] = data = (debian / name).read_bytes()
        for library in set(re.findall(rb"lib[\w.+-]+\.so[.\d]*", data)):  # whatever it names, also in a text
            path = f"{libraries}/{library.decode()}"
            if path not in found and (debian / path).is_file():
                need(path)

    for program in PROGRAMS:
        need(f"usr/sbin/{program}")
    found[loader] = (debian / "usr" / loader).read_bytes()
    found |= {f"etc/{name}": (debian / "etc" / name).read_bytes() for name in ("netconfig", "services", "protocols", "rpc")}
    found |= {"etc/passwd": USERS, "etc/nsswitch.conf": FOUND_IN, "etc/exports": EXPORTS, "etc/machine-id": b""}
    scripts = {"machine": "nfs.sh", "node": "node.sh", "pods": "pods.sh"}
    found |= {f"nfs/{name}": (HERE / script).read_bytes() for name, script in scripts.items()}
    entry = reaper(logFile=LOG_FILE)
    common: Conf = {"cniVersion": "1.0.0", "name": "net"}
    ours, theirs = {**common, **entry}, {**common, "ipam": host_local("10.90.0.0/24")}
    found |= {f"nfs/{name}.json": json.dumps(conf).encode() for name, conf in (("cni-reaper", ours), ("host-local", theirs))}
    return found | {"etc/cni/net.d/net.conflist": conflist(entry)}


@pytest.fixture(scope="module")
def machine_of_two(machine: Machine) -> Console:
    """One boot: pods come and go on both nodes at once; one lives on each all the time, and every third leaks."""
    console = machine.run(SCENARIO, files(machine.programs.debian, machine.kernel.architecture), MODULES, BOUND_S + 20 * ROUNDS)
    print(f"{ROUNDS} rounds on both nodes")
    return console


def held(console: Console, step: str) -> dict[str, str]:
    """Return what the server has in the network's directory: container ID -> address."""
    pairs = [line.split() for line in console[step].check().out.decode().splitlines()]
    return {owner: address for address, owner in pairs}


def owner(pod: str) -> str:
    """Return the container ID of a pod."""
    return hashlib.sha256(pod.encode()).hexdigest()


def given(console: Console, step: str) -> str:
    """Return the address that host-local has given."""
    (one,) = json.loads(console[step].check().out)["ips"]
    return str(one["address"]).partition("/")[0]


def test_the_store_is_on_nfs(machine_of_two: Console) -> None:
    """Both nodes have mounted the server's directory, and the locks are the server's."""
    for node in "ab":
        (mount,) = machine_of_two[f"mounts of {node}, vers=3"].check().out.decode().splitlines()
        assert " nfs " in mount
        assert "local_lock=none" in mount


def test_no_live_address_of_either_node_is_freed(machine_of_two: Console) -> None:
    """In each round both nodes hold what their living pods were given, and no address is given twice."""
    live = {owner(f"{node}-live"): given(machine_of_two, f"{node}, live") for node in "ab"}
    for number in range(ROUNDS):
        now = {owner(f"{node}-{number}"): given(machine_of_two, f"{node}, start {number}") for node in "ab"}
        assert len({*live.values(), *now.values()}) == 4, number
        assert {**live, **now}.items() <= held(machine_of_two, f"round {number}").items(), number
    assert live.items() <= held(machine_of_two, "last").items()


def test_own_leaks_are_freed(machine_of_two: Console) -> None:
    """The next ADD that gets host-local's lock in time frees them; until then they stay. Every DEL succeeds and says nothing."""
    lost: set[str] = set()
    for number in range(ROUNDS):
        expected = {owner(f"{node}-{name}") for node in "ab" for name in ("live", number)}
        assert held(machine_of_two, f"round {number}").keys() - expected <= lost, number
        assert [machine_of_two[f"{node}, end {number}"].out for node in "ab"] == [b"", b""], number
        lost |= {owner(f"{node}-{number}") for place, node in enumerate("ab") if number % 3 == place}
    assert held(machine_of_two, "last").keys() == {owner(f"{node}-{name}") for node in "ab" for name in ("live", "last")}


def test_the_log_says_it_once_and_doctor_calls_it_an_error(machine_of_two: Console) -> None:
    """One warning per node and boot, whatever came after it."""
    for node in "ab":
        log = machine_of_two[f"log of {node}"].check().out.decode().splitlines()
        (told,) = [line for line in log if "event=store-shared" in line]
        assert "level=warning" in told
        assert "(nfs)" in told
        doctor = machine_of_two[f"doctor of {node}"]
        assert doctor.rc == 2
        assert "store-shared" in {one["key"] for one in doctor.json()["findings"]}


def test_without_host_locals_lock_nothing_is_freed(machine_of_two: Console) -> None:
    """On NFSv4 host-local has no lock and does not say so: pods start and end, leaks stay, and the log says why."""
    assert " nfs4 " in machine_of_two["mounts of a, vers=4.2"].check().text
    pods = {
        owner("a-four"): given(machine_of_two, "a, start on NFSv4"),
        owner("a-next"): given(machine_of_two, "a, next on NFSv4"),
    }
    before = held(machine_of_two, "last")
    assert held(machine_of_two, "NFSv4") == {**before, **pods}
    assert machine_of_two["end on NFSv4"].check().out == b""
    assert held(machine_of_two, "end of NFSv4").keys() == {*before, owner("a-four")}
    log = machine_of_two["log of NFSv4"].check().out.decode().splitlines()
    assert any("event=sweep-skipped" in line and "Bad file descriptor" in line for line in log)
