"""Every way that was found to make the first design free a live address, keep a leak or fail a pod, H1 to H18, by its name.

The frozen executable on the real kernel. In most tests a leak stands beside what has to be kept, and is freed in the end: a
plugin that keeps everything would fail, too.

| hole | what it was about | where it is held |
|---|---|---|
| H1 | a container without the host's PID namespace | test_h01_… |
| H2 | another runtime's private mount namespace | test_h02_… |
| H3 | a: two boot IDs; b: a record that cannot be replaced | test_h03a_…, test_h03b_…; test_past_lives.py has more of b |
| H4 | the same ID, address, content and file inode again | test_h04_… |
| H5 | DEL that answers success too early | test_h05a_… to test_h05c_… |
| H6 | a sibling's netns taken for somebody else's | test_h06_… |
| H7 | no record, no cache, no address in the kernel | test_h07_…; test_workloads.py has every such workload |
| H8 | ADD repeated while the first still runs | test_h08_… |
| H9 | the path lost and no address in the kernel | test_h09_… |
| H10 | GC lists that lack somebody | test_h10_… |
| H11 | a storm of ADDs on a full pool | test_h11_…; 110 pods: test_never_the_cause.py, test_the_storm_after_a_reboot |
| H12 | a record of another life on another network | test_h12_… |
| H13 | what cannot be seen | test_h13a_… to test_h13d_…; test_views.py |
| H14 | options of the wrong type | test_h14_… |
| H15 | an operator's own notes | test_h15_… |
| H16 | a memory that is not of this reservation or boot | test_h16_… |
| H17 | records that pile up, and the race of dropping one | test_h17_… |
| H18 | a cached /proc/<pid>/ns/net whose process is another | test_h18_… |
"""

import json
import os
import signal

import pytest

from tests import inside
from tests.e2e import holders
from tests.e2e.pair import NETWORK, Pair, container_id, until
from tests.e2e.test_keeps import forget, resume, stopped_at
from tests.e2e.test_past_lives import SAME_BOOT, without_namespace_ids
from tests.node import BIN, DATA_DIR, STATE_DIR, Command, Conf, Node, Pod, bridge, host_local, reaper

GRACE_S = 1500
LISTED_AFTER_S = 120
RESULTS = "/var/lib/cni/results"
LIST = "cni.dev/valid-attachments"
TASKS = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"
POD_UID = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=6f0c"


@pytest.fixture
def pair(node: Node) -> Pair:
    """A network of cni-reaper and host-local."""
    return Pair(node)


def command(pair: Pair, verb: str, options: Conf | None = None, waited: int = 0) -> Command:
    """Describe a call of our plugin for a container of its own, which has a netns on ADD only."""
    conf = {**pair.head, **(options or {})}
    if verb in ("GC", "STATUS"):
        conf["cniVersion"] = "1.1.0"
    netns = pair.node.pod() if verb == "ADD" else ""
    owner = container_id(netns.name if isinstance(netns, Pod) else "trigger")
    return pair.node.plugin_command(verb, conf, netns=netns, container_id=owner, waited=waited)


def call(pair: Pair, verb: str = "ADD", options: Conf | None = None, waited: int = 0) -> None:
    """Run our plugin for a container of its own; after an ADD its netns goes again."""
    one = command(pair, verb, options, waited)
    pair.node.together([one])[0].check()
    if verb == "ADD":
        pair.node.delete_netns(one["env"]["CNI_NETNS"])


def gc(pair: Pair, listed: list[str], waited: int = 0) -> None:
    """Run GC with a list of container IDs."""
    call(pair, "GC", {LIST: [{"containerID": owner, "ifname": "eth0"} for owner in listed]}, waited)


def cached(pair: Pair, owner: str, netns: str) -> None:
    """Write what libcni notes of an attachment after the whole chain's ADD."""
    entry = {"kind": "cniCacheV1", "containerId": owner, "ifName": "eth0", "networkName": pair.network, "netns": netns}
    pair.node.write(f"{RESULTS}/{pair.network}-{owner}-eth0", json.dumps({**entry, "result": {"cniVersion": "1.0.0"}}))


def dead_without_record(pair: Pair, name: str) -> str:
    """Leave a leak from before cni-reaper was in the chain; return the address."""
    pod = pair.node.pod(name)
    address = pair.take(pod, container_id(name))
    pod.delete()
    return address


def reasons(pair: Pair) -> set[str]:
    """Return why addresses were freed until now."""
    return {line["reason"] for line in pair.node.log("reaped")}


@pytest.mark.parametrize("verb", ["DEL", "GC", "STATUS"])
def test_h01_a_container_without_the_hosts_pid_namespace(pair: Pair, verb: str) -> None:
    """A debug pod sees the mounts that were copied at its start and none of the pods that came later: it frees nothing."""
    node = pair.node
    kept = {pair.add(node.pod("older"))}
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private"]
    outer = node.start([*namespaces, "sh", "-c", f"{SAME_BOOT}; touch /run/up; exec sleep infinity"])
    until(node.path("/run/up").exists, "the container is up")
    first = node.read(f"/proc/{outer}/task/{outer}/children").strip()
    kept |= {pair.add(node.pod(f"younger-{number}")) for number in range(3)}
    leak = pair.leak()
    there = command(pair, verb, {"reapOn": [verb]})
    there["argv"] = ["nsenter", "--target", first, "--mount", "--pid", *there["argv"]]
    node.together([there])[0].check()
    assert pair.held() == {*kept, leak}, node.log()
    assert node.log("sweep-skipped")[-1]["reason"].startswith("this process cannot be sure to see")
    call(pair)
    assert pair.held() == kept


@pytest.mark.parametrize("verb", ["ADD", "DEL", "GC"])
@pytest.mark.parametrize("mapped", [True, False])
def test_h02_another_runtimes_private_mount_namespace(pair: Pair, verb: str, mapped: bool) -> None:
    """A netns without a process is pinned in a mount namespace that is not ours: kept for as long as that one stands."""
    node = pair.node
    call(pair)  # proves the view, for DEL and GC
    pod = node.pod("kubens")
    address = pair.add(pod)
    leak = pair.leak()
    if not mapped:
        forget(node, container_id("kubens"))
    holder = node.start(["unshare", "--mount", "--propagation", "private", "sh", "-c", "touch /run/up; exec sleep infinity"])
    until(node.path("/run/up").exists, "the mount namespace is there")
    node.umount(pod.path)  # and no unlink: that would detach it in the other mount namespace, too
    call(pair, verb)
    assert pair.held() == {address}, (leak, node.log())
    node.stop(holder)
    call(pair, verb)
    assert pair.held() == set()


def test_h03a_two_boot_ids(pair: Pair) -> None:
    """Two views of one boot show two boot IDs, as nspawn and LXC make it: neither takes the other's live pods for rebooted."""
    node = pair.node
    node.write(f"{inside.NODE_OWN}/other_boot_id", "c0ffee00-0000-4000-8000-000000000000\n")
    other = f'mount --bind {inside.NODE_OWN}/other_boot_id {inside.BOOT_ID} && exec "$@"'

    def add(name: str, elsewhere: bool) -> str:
        pod = node.pod(name)
        one = node.plugin_command("ADD", pair.head, netns=pod, container_id=container_id(name))
        if elsewhere:
            one["argv"] = ["unshare", "--mount", "--propagation", "private", "sh", "-c", other, "sh", *one["argv"]]
        node.together([one])[0].check()
        return pair.take(pod, container_id(name))

    kept = {add("here", False), add("there", True)}
    hidden = Pod(node, "there", "/run/netns/there")
    holders.by_process(hidden)
    node.mount("/dev/null", hidden.path, flags=inside.MS_BIND)
    for round_, elsewhere in enumerate([False, True]):
        leaks = {add(f"leak-{round_}-{by}", by) for by in (False, True)}
        for by in (False, True):
            node.delete_netns(f"/run/netns/leak-{round_}-{by}")
        assert pair.held() == kept | leaks
        kept.add(add(f"next-{round_}", elsewhere))
        assert pair.held() == kept, node.log()
    assert reasons(pair) == {"netns-gone", "rebooted"}


@pytest.mark.parametrize("end", ["reboot", "DEL"])
def test_h03b_a_record_that_cannot_be_written(pair: Pair, end: str) -> None:
    """A container starts again, its ADD cannot write a record (ENOSPC): the old one does not prove the new life dead."""
    node = pair.node
    owner = container_id("podman")
    first = node.pod("podman")
    pair.add(first, owner)
    if end == "reboot":
        node.reboot()
    else:
        pair.give_back(first, owner)
        first.delete()
    second = node.pod("podman")
    add = node.plugin_command("ADD", pair.head, netns=second, container_id=owner)
    renames = "renameat,renameat2"
    add["argv"] = ["strace", "-qq", "-o", "/dev/null", "-e", f"inject={renames}:error=ENOSPC", *add["argv"]]
    node.together([add])[0].check()
    assert "No space left" in node.log("not-recorded")[-1]["reason"]
    address = pair.take(second, owner)  # not configured yet
    call(pair)
    assert pair.held() == {address}, node.log()
    second.delete()
    call(pair)
    assert pair.held() == set()


def test_h03b_a_life_while_cni_reaper_was_not_installed(pair: Pair) -> None:
    """The record is of the last boot, the container runs again without a new one: its configured address keeps it."""
    node = pair.node
    owner = container_id("podman")
    pair.add(node.pod("podman"), owner)
    node.reboot()
    leak = pair.leak()
    node.plugin("DEL", pair.ipam, binary="host-local", netns="", container_id=owner).check()
    again = node.pod("podman")
    address = pair.take(again, owner)
    node.add_address("lo", f"{address}/32", again.path)
    call(pair)
    assert pair.held() == {address}, (leak, node.log())


@pytest.mark.parametrize("recorded", [True, False])
def test_h04_the_same_id_address_content_and_inode(node: Node, recorded: bool) -> None:
    """ABA: between judgement and unlink the ID comes back with the same address, content and file inode: in flight, and kept.

    A file system that gives inode numbers again at once (ext4) is not at hand everywhere, so a hard link does it.
    """
    pair = Pair(node, first="10.66.0.9", last="10.66.0.9")
    address = pair.leak("podman") if recorded else dead_without_record(pair, "podman")
    owner = container_id("podman")
    file, pinned = node.path(f"{DATA_DIR}/{NETWORK}/{address}"), node.path("/var/lib/cni/pinned")
    os.link(file, pinned)
    judged = file.stat().st_ino, file.read_bytes()
    strace, child = stopped_at(node, pair, "lock", 1, node.pod("trigger"))
    node.plugin("DEL", pair.ipam, binary="host-local", netns="", container_id=owner).check()
    again = node.pod("podman")
    assert (pair.add(again, owner, reapOn=[]) if recorded else pair.take(again, owner)) == address
    file.unlink()
    os.link(pinned, file)
    assert (file.stat().st_ino, file.read_bytes()) == judged
    resume(node, strace, child)
    assert pair.held() == {address}, node.log()
    again.delete()
    call(pair)
    assert pair.held() == set()


def test_h05a_del_that_does_nothing_while_the_address_stands(pair: Pair) -> None:
    """Flannel answers success and releases nothing, the netns goes after DEL: the record outlives it, the next ADD frees."""
    node = pair.node
    node.pod("stranger")
    pod = node.pod("pod")
    address = pair.add(pod)
    node.add_address("lo", f"{address}/32", pod.path)
    node.plugin("DEL", pair.head, netns=pod, container_id=container_id("pod")).check()
    assert pair.held() == {address}
    pod.delete()
    call(pair)
    assert pair.held() == set()
    assert reasons(pair) == {"netns-gone"}


def test_h05b_a_reservation_written_after_del(pair: Pair) -> None:
    """An ADD is killed, its host-local child writes only after the DEL: the record is still there, the next ADD frees."""
    node = pair.node
    node.pod("stranger")
    pod = node.pod("pod")
    owner = container_id("pod")
    node.plugin("ADD", pair.head, netns=pod, container_id=owner).check()
    node.path(f"{DATA_DIR}/{NETWORK}").mkdir(parents=True, exist_ok=True)
    holder = node.start(["flock", pair.lock(), "sh", "-c", "touch /run/held; exec sleep infinity"])
    until(node.path("/run/held").exists, "the lock is held")
    node.write("/run/ipam.json", json.dumps(pair.ipam))
    variables = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": owner, "CNI_NETNS": pod.path, "CNI_IFNAME": "eth0", "CNI_PATH": BIN}
    late = node.start(["sh", "-c", f"exec {BIN}/host-local < /run/ipam.json"], env=variables)
    node.plugin("DEL", pair.head, netns=pod, container_id=owner).check()
    assert pair.held() == set()
    node.run(["pkill", "-P", str(holder)])
    assert node.wait(late) == 0
    node.stop(holder)
    assert len(pair.held()) == 1
    pod.delete()
    call(pair)
    assert pair.held() == set()
    assert reasons(pair) == {"netns-gone"}


def test_h05c_a_plugin_that_fails_after_our_del(pair: Pair) -> None:
    """Behind the interface plugin our DEL comes first and that one's fails: the record is still there, the next ADD frees."""
    node = pair.node
    node.pod("stranger")
    pod = node.pod("pod")
    behind = {**pair.head, "prevResult": {"cniVersion": "1.0.0"}}
    address = pair.take(pod, container_id("pod"))
    node.plugin("ADD", behind, netns=pod, container_id=container_id("pod"), args=POD_UID).check()
    node.plugin("DEL", behind, netns=pod, container_id=container_id("pod"), args=POD_UID).check()
    assert pair.held() == {address}
    pod.delete()
    call(pair)
    assert pair.held() == set()
    assert reasons(pair) == {"netns-gone"}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("known_by", ["record", "cache", "address", "cache and address"])
def test_h06_a_sibling_accounts_for_the_netns(node: Node, known_by: str, shared: bool) -> None:
    """Podman in mid ADD on its second network, where we are not: what its first attachment has is its own netns, kept.

    Also when the netns is another container's as well, which has a record of it.
    """
    one, two = Pair(node, network="one"), Pair(node, subnet="10.67.0.0/24", network="two")
    pod, owner = node.pod("podman"), container_id("podman")
    first = one.add(pod, owner) if known_by == "record" else one.take(pod, owner)
    if "cache" in known_by:
        cached(one, owner, pod.path)
    if "address" in known_by:
        node.add_address("lo", f"{first}/32", pod.path)
    if shared:
        node.plugin("ADD", {**two.head, "reapOn": []}, netns=pod, container_id=container_id("other")).check()
    second = two.take(pod, owner)
    leak = two.leak()
    call(one, options={"networks": ["*"]})
    assert (one.held(), two.held()) == ({first}, {second}), (leak, node.log())
    pod.delete()
    call(one, options={"networks": ["*"]})
    assert (one.held(), two.held()) == (set(), set())


@pytest.mark.parametrize("row", ["8", "9", "10"])
def test_h07_nothing_maps_the_owner_and_the_kernel_shows_no_address(pair: Pair, row: str) -> None:
    """No record, no cache, no address in the netns: the runtime's task directory keeps it, whichever row would free it."""
    node = pair.node
    pod, owner = node.pod("gvisor"), container_id("gvisor")
    address = pair.take(pod, owner)
    if row == "8":
        node.plugin("ADD", {**pair.head, "reapOn": []}, netns=pod, container_id=container_id("other")).check()
    tasks = node.path(f"{TASKS}/{owner}")
    tasks.mkdir(parents=True)
    call(pair)
    if row == "9":
        call(pair, waited=2 * GRACE_S)
    elif row == "10":
        gc(pair, [container_id("other")], waited=2 * LISTED_AFTER_S)
    assert pair.held() == {address}, node.log()
    tasks.rmdir()
    if row == "9":
        call(pair, waited=4 * GRACE_S)
    elif row == "10":
        gc(pair, [container_id("other")], waited=4 * LISTED_AFTER_S)
    else:
        call(pair)
    assert pair.held() == set()
    assert reasons(pair) == {{"8": "no-netns-left", "9": "unclaimed", "10": "not-in-gc-list"}[row]}


@pytest.mark.parametrize("recorded", [True, False])
def test_h08_add_repeated_while_the_first_still_runs(pair: Pair, recorded: bool) -> None:
    """The client has timed out and repeats ADD; the first has reserved and not configured: its address goes to nobody else."""
    node = pair.node
    leak = pair.leak()
    pod, owner = node.pod("nomad"), container_id("nomad")
    address = pair.add(pod, owner, reapOn=[]) if recorded else pair.take(pod, owner)
    node.plugin("ADD", pair.head, netns=pod, container_id=owner).check()
    assert pair.held() == {address}, node.log()
    assert pair.add(node.pod("other")) not in (address, leak)


def test_h08_a_reservation_made_while_the_repeated_add_runs(pair: Pair) -> None:
    """The older record is of another netns, but the reservation is younger than this call: a twin of this ADD made it."""
    node = pair.node
    owner = container_id("nomad")
    first = node.pod("first")
    pair.add(first, owner)
    pair.give_back(first, owner)
    first.delete()
    second = node.pod("nomad")
    strace, child = stopped_at(node, pair, f"{DATA_DIR}/{NETWORK}", 2, second)
    address = pair.take(second, owner)
    resume(node, strace, child)
    assert pair.held() == {address}, node.log()


@pytest.mark.parametrize("kernel", ["this", "older"])
@pytest.mark.parametrize("lost", ["overmounted", "lazily unmounted"])
def test_h09_the_path_is_lost_and_the_kernel_shows_no_address(pair: Pair, lost: str, kernel: str) -> None:
    """GVisor below an overmount, or after `umount -l`: the inode is visible, so the owner is not gone."""
    node = pair.node
    if kernel == "older":
        without_namespace_ids(node)
    pod = node.pod("gvisor")
    process = holders.by_process(pod)
    leak = pair.leak()
    address = pair.add(pod, reapOn=[])
    if lost == "overmounted":
        node.mount("tmpfs", "/run/netns", "tmpfs")
    else:
        holders.unpin(pod)
    call(pair)
    assert pair.held() == {address}, (leak, node.log())
    if lost == "overmounted":
        node.umount("/run/netns")
        pod.delete()
    node.stop(process)
    call(pair)
    assert pair.held() == set()


def test_h10_a_list_that_lacks_an_add_in_flight(pair: Pair) -> None:
    """GC's list was made before this ADD began: unmapped and not in the list, and kept for its first two minutes."""
    pod = pair.node.pod("in flight")
    pair.leak()
    call(pair)
    address = pair.take(pod, container_id("in flight"))
    gc(pair, [])
    gc(pair, [], LISTED_AFTER_S - 10)
    assert pair.held() == {address}, pair.node.log()
    pod.delete()
    gc(pair, [], LISTED_AFTER_S - 5)
    assert pair.held() == set()


def test_h10_a_list_that_lacks_a_live_owner(pair: Pair) -> None:
    """Multus skips empty cache entries: a list without somebody who lives is no list, and nobody is freed by it."""
    node = pair.node
    live = pair.add(node.pod("web"))
    owner = container_id("unknown")
    address = pair.take(node.pod("unmapped"), owner)
    call(pair)
    gc(pair, [], 2 * LISTED_AFTER_S)
    assert pair.held() == {live, address}, node.log()
    gc(pair, [container_id("web")], 3 * LISTED_AFTER_S)
    assert pair.held() == {live}
    assert reasons(pair) == {"not-in-gc-list"}


def test_h11_a_storm_on_a_full_pool(node: Node) -> None:
    """Every address is leaked and as many pods start at once: each waits for the sweep that is on, and gets an address."""
    pair = Pair(node, subnet="10.66.0.0/28", network="storm")
    for number in range(13):
        pair.add(node.pod(f"leak-{number}"), reapOn=[])
    for number in range(13):
        node.delete_netns(f"/run/netns/leak-{number}")
    assert len(pair.held()) == 13
    node.conflist("storm", [reaper(), bridge(host_local("10.66.0.0/28"))])
    pods = [node.pod() for _ in range(13)]
    for ran in node.together([node.cnitool_command("add", "storm", pod) for pod in pods]):
        ran.check()
    assert {address.partition("/")[0] for pod in pods for address in pod.addresses()} == pair.held()
    assert len(node.log("reaped")) == 13


@pytest.mark.parametrize("end", ["netns-gone", "rebooted"])
def test_h12_a_record_of_another_life_on_another_network(node: Node, end: str) -> None:
    """The DEL on B is lost, the container starts again, its ADD on A runs: the old record of B does not prove A dead."""
    one, two = Pair(node, network="one"), Pair(node, subnet="10.67.0.0/24", network="two")
    first, owner = node.pod("first"), container_id("podman")
    two.add(first, owner)
    if end == "rebooted":
        node.reboot()
    else:
        first.delete()
    second = node.pod("second")
    address = one.take(second, owner)
    call(two, options={"networks": ["*"]})
    assert (one.held(), two.held()) == ({address}, set()), node.log()
    assert reasons(two) == {end}


@pytest.mark.parametrize("mapped", [True, False])
def test_h13a_the_leader_thread_has_exited(pair: Pair, mapped: bool) -> None:
    """/proc/<pid>/ns/net answers ENOENT while other threads live on: their netns is seen all the same."""
    node = pair.node
    pod = node.pod("pod")
    leak = pair.leak()
    process = holders.by_a_process_whose_leader_has_exited(pod)
    address = pair.add(pod) if mapped else pair.take(pod, container_id("unmapped"))
    holders.unpin(pod)
    call(pair)
    assert pair.held() == {address}, (leak, node.log())
    node.stop(process)
    call(pair)
    assert pair.held() == set()


def test_h13b_a_mountinfo_that_skips_entries(pair: Pair) -> None:
    """Before Linux 5.8 a mountinfo read while mounts go can lack entries: one read that shows nothing is not believed.

    The kernel is told to call itself 2.6, and strace makes one read after the other come back empty.
    """
    node = pair.node
    pod = node.pod("live")
    leak = pair.leak()
    address = pair.add(pod, reapOn=[])
    node.mount("/dev/null", pod.path, flags=inside.MS_BIND)  # so that mountinfo alone shows the netns
    for when in range(1, 9):
        add = command(pair, "ADD")
        strace = f"strace -D -qq -o /dev/null -P /proc/$$/mountinfo -e trace=read -e inject=read:retval=0:when={when}"
        add["argv"] = ["setarch", "--uname-2.6", "sh", "-c", f'exec {strace} "$@"', "sh", *add["argv"]]
        node.together([add])[0].check()
        assert address in pair.held(), (leak, when, node.log())
    assert pair.held() == {address}


def test_h13c_an_ipv6_address_hides_while_its_link_is_down(node: Node) -> None:
    """The pod sets its link down and the kernel forgets the address: a process in the pod's cgroup keeps it."""
    pair = Pair(node, subnet="fd66::/64")
    pod, owner = node.pod("pod"), container_id("pod")
    process = holders.by_process(pod)
    address = pair.take(pod, owner)
    node.add_link("eth0", "veth", pod.path, peer="far")
    node.add_address("eth0", f"{address}/64", pod.path)
    call(pair)
    call(pair, waited=GRACE_S)
    assert pair.held() == {address}
    node.change_link("eth0", pod.path, state="down")
    assert pod.addresses() == []
    node.write("/run/cgroup", f"0::/system.slice/docker-{owner}.scope\n")
    node.mount("/run/cgroup", f"/proc/{process}/cgroup", flags=inside.MS_BIND)
    call(pair, waited=2 * GRACE_S)
    call(pair, waited=4 * GRACE_S)
    assert pair.held() == {address}, node.log()
    node.stop(process)
    pod.delete()
    call(pair, waited=4 * GRACE_S + 20)
    assert pair.held() == set()


@pytest.mark.parametrize("row", ["9", "10"])
def test_h13d_a_netns_that_cannot_be_looked_into(pair: Pair, row: str) -> None:
    """We may not enter it, so it may hold any address: an owner that nothing maps is kept, however long it takes."""
    node = pair.node
    pod = node.pod("pod")
    address = pair.take(pod, container_id("unmapped"))

    def blinkered(verb: str, waited: int) -> None:
        one = command(pair, verb, {LIST: []} if verb == "GC" else {}, waited)
        one["argv"] = [*one["argv"][:-1], "setpriv", "--bounding-set", "-sys_admin", one["argv"][-1]]
        node.together([one])[0].check()

    blinkered("ADD", 0)
    if row == "9":
        blinkered("ADD", 2 * GRACE_S)
    else:
        blinkered("GC", 2 * LISTED_AFTER_S)
    assert pair.held() == {address}, node.log()
    if row == "9":
        call(pair, waited=4 * GRACE_S)
    else:
        gc(pair, [], 4 * LISTED_AFTER_S)
    assert pair.held() == set()


@pytest.mark.parametrize(
    ("option", "value"),
    [("networks", NETWORK), ("reapOn", "ADD"), ("dryRun", "false"), ("graceSeconds", "1500"), ("budgetMs", "500")],
)
def test_h14_an_option_of_the_wrong_type(pair: Pair, option: str, value: str) -> None:
    """An operator's slip stops no pod and no node: the call succeeds, reaps nothing and says it; only GC answers error 7."""
    node = pair.node
    leak = pair.leak()
    for verb in ("ADD", "DEL", "STATUS"):
        call(pair, verb, {option: value})
        assert f"{option} must be" in node.log("bad-options")[-1]["reason"]
    assert pair.held() == {leak}
    ran = node.together([command(pair, "GC", {option: value})])[0]
    assert ran.rc == 1
    assert ran.json()["code"] == 7
    assert option in ran.json()["msg"]
    call(pair)
    assert pair.held() == set()


def test_h15_an_operators_own_notes(pair: Pair) -> None:
    """`echo reserved > 10.66.0.9` is a legal container ID: kept for ever. An empty file is host-local's own, unless in use."""
    node = pair.node
    leaks = {pair.leak(), dead_without_record(pair, "old")}
    store = node.path(f"{DATA_DIR}/{NETWORK}")
    notes = {"10.66.0.90": b"reserved\n", "10.66.0.91": b"router-of-the-lab", "10.66.0.92": b"gw 2\n", "10.66.0.93": b"cafe-01\n"}
    for address, text in notes.items():
        (store / address).write_bytes(text)
    (store / "10.66.0.94").touch()
    (store / "10.66.0.95").touch()
    node.add_address("lo", "10.66.0.95/32")
    call(pair)
    assert pair.held() == {*notes, "10.66.0.95"}, (leaks, node.log())
    call(pair, waited=2 * GRACE_S)
    gc(pair, [], 2 * GRACE_S)
    assert pair.held() == {*notes, "10.66.0.95"}
    assert {line["address"] for line in node.log("kept")} == set(notes)


@pytest.mark.parametrize("what", ["another boot", "the file is another", "graceSeconds too small"])
def test_h16_a_memory_that_does_not_count(pair: Pair, what: str) -> None:
    """/run is on disk, the same ID is back at the same address, or nobody would be waited for: kept, the time starts over."""
    node = pair.node
    stranger = node.pod("stranger")
    owner = container_id("podman")
    address = pair.take(stranger, owner)
    call(pair)
    memory = f"/run/cni-reaper/{NETWORK}.json"
    if what == "another boot":
        kept = node.read(memory)
        node.reboot()
        node.pod("stranger")
        node.write(memory, kept)
        call(pair, waited=2 * GRACE_S)
    elif what == "the file is another":
        node.path(f"{DATA_DIR}/{NETWORK}/{address}").unlink()
        node.reserve(NETWORK, address, owner)
        call(pair, waited=2 * GRACE_S)
    else:
        for grace in (0, 299):
            call(pair, "ADD", {"graceSeconds": grace}, waited=299)
        call(pair, "ADD", {"graceSeconds": 300}, waited=290)
    assert pair.held() == {address}, node.log()
    call(pair, waited=4 * GRACE_S)
    assert pair.held() == set()


def test_h16_a_note_of_another_file_with_the_same_inode(pair: Pair) -> None:
    """A container gives an interface up and lives on; its address is the next one's, in a file of the same inode: that leak goes.

    A hard link does what ext4 does by itself: it gives the inode number to the next file.
    """
    node = pair.node
    pods = {pair.add(pod): pod for pod in [node.pod() for _ in range(12)]}
    call(pair)  # notes who is alive
    address, pod = next(iter(pods.items()))
    file, pinned = node.path(f"{DATA_DIR}/{NETWORK}/{address}"), node.path("/var/lib/cni/pinned")
    os.link(file, pinned)
    other = pair.add(pod, ifname="net1")
    pair.give_back(pod)
    assert address not in pair.held()
    pinned.write_bytes(f"{container_id('dead')}\r\neth0".encode())
    os.link(pinned, file)
    call(pair)
    assert pair.held() == {*pods, other} - {address}, node.log()


def test_h17_records_do_not_pile_up(pair: Pair) -> None:
    """ADDs whose IPAM never wrote a reservation leave a record each: an old one of a dead netns goes, and no other does."""
    node = pair.node
    old, young, live = (node.pod(name) for name in ("old", "young", "live"))
    for pod in (old, young, live):
        node.plugin("ADD", pair.head, netns=pod, container_id=container_id(pod.name)).check()
    pair.add(node.pod("other"))
    for pod in (old, young):
        pod.delete()
    for pod in (old, live):
        backdate(node, container_id(pod.name))
    call(pair, "DEL")
    left = node.records(NETWORK)
    assert f"{container_id('old')}:eth0" not in left
    assert {f"{container_id(name)}:eth0" for name in ("young", "live", "other")} <= set(left)


def backdate(node: Node, owner: str) -> None:
    """Let a record be older than graceSeconds."""
    path = f"{STATE_DIR}/{NETWORK}/{owner}:eth0"
    record = json.loads(node.read(path))
    node.write(path, json.dumps({**record, "boottime": record["boottime"] - 2 * GRACE_S}))


def test_h17_a_record_is_replaced_while_it_is_dropped(pair: Pair) -> None:
    """A sweep has found a record that is over; before it drops it the same ID is back: the new record stays."""
    node = pair.node
    owner = container_id("podman")
    first = node.pod("podman")
    node.plugin("ADD", pair.head, netns=first, container_id=owner).check()
    first.delete()
    backdate(node, owner)
    pair.leak()  # so that an ADD sweeps, and then drops records
    strace, child = stopped_at(node, pair, ".lock", 2, node.pod("trigger"))
    assert f"{owner}:eth0" in node.records(NETWORK)
    second = node.pod("podman")
    address = pair.add(second, owner, reapOn=[])
    resume(node, strace, child)
    assert node.records(NETWORK)[f"{owner}:eth0"]["netns"] == second.path
    call(pair)
    assert pair.held() == {address}


@pytest.mark.parametrize("reused_by", ["the host's", "another pod's"])
def test_h18_a_cached_process_path_whose_number_is_anothers(pair: Pair, reused_by: str) -> None:
    """Libcni's cache names /proc/<pid>/ns/net, the process there is another one by now: freed; where it is the owner's: kept.

    A node's PID namespace is not the host's, where alone such a path counts; strace tells the plugin otherwise.
    """
    node = pair.node
    live, other = node.pod("live"), node.pod("other")
    own, process = holders.by_process(live), holders.by_process(other)
    pair.add(other, reapOn=[])
    second = pair.add(live, container_id("of the same pod"), reapOn=[])
    address, leak = pair.take(live, container_id("live")), dead_without_record(pair, "dead")
    node.add_address("lo", f"{address}/32", live.path)
    cached(pair, container_id("live"), f"/proc/{own}/ns/net")
    holder = 1 if reused_by == "the host's" else process
    cached(pair, container_id("dead"), f"/proc/{holder}/ns/net")
    add = command(pair, "ADD")
    number = (0xEFFFFFFC).to_bytes(8, "little").hex()
    poke = ["-e", "trace=newfstatat", "-P", "/proc/self/ns/pid", "-e", f"inject=newfstatat:poke_exit=@arg3={'00' * 8}{number}"]
    add["argv"] = ["strace", "-qq", "-o", "/dev/null", *poke, *add["argv"]]
    node.together([add])[0].check()
    assert leak not in pair.held(), node.log()
    assert {address, second} <= pair.held()
    node.stop(own, signal.SIGKILL)
    live.delete()
    node.together([add])[0].check()
    assert not {address, second} & pair.held(), node.log()
