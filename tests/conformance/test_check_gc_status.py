"""CHECK, GC and STATUS on real reservations: host-local writes them, cnitool drives the chain as the README shows it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.answers import text_of, the_error
from tests.support.cni_calls import Pod, bridge, host_local, reaper
from tests.support.commands import Ran
from tests.support.node import Node
from tests.support.node_files import DATA_DIR, STATE_DIR, Conf

NETWORK = "net"
POOL = "10.77.0.0/29"
POOL6 = "fd77::/125"
NEWER, OLDER = "cni.dev/valid-attachments", "cni.dev/attachments"
NO_OVERRIDE = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
FOREIGN_RESERVATION, NO_RESERVATION, UNAVAILABLE = 100, 101, 50


def entry(**members: Any) -> Conf:
    """Return our part of the list, as libcni passes it on."""
    return {"cniVersion": "1.1.0", "name": NETWORK, **reaper(**members)}


def ipam(*subnets: str) -> Conf:
    """Return what the interface plugin passes on to host-local."""
    return {"cniVersion": "1.1.0", "name": NETWORK, "ipam": host_local(*(subnets or (POOL,)))}


def container_id(pod: Pod) -> str:
    """Return an ID such as a runtime gives, 64 hex digits."""
    return pod.container_id.removeprefix("cnitool-").ljust(64, "0")


def add(node: Node, pod: Pod, *subnets: str, ifname: str = "eth0", recorded: bool = True) -> Conf:
    """Run ADD of our plugin (unless it was not there yet) and of host-local behind it; return the chain's result."""
    owner = container_id(pod)
    if recorded:
        node.plugin("ADD", entry(), netns=pod, container_id=owner, ifname=ifname).check()
    ran = node.plugin("ADD", ipam(*subnets), binary="host-local", netns=pod, container_id=owner, ifname=ifname)
    result: Conf = ran.check().json()
    return result


def check(node: Node, pod: Pod, result: Conf, **options: Any) -> Ran:
    """Run CHECK of our plugin."""
    return node.plugin("CHECK", entry(prevResult=result, **options), netns=pod, container_id=container_id(pod))


def gc(node: Node, valid: Iterable[Pod] | None, key: str = NEWER, more: Conf | None = None) -> Ran:
    """Run GC of our plugin with these pods in the list, or with no list. more: members of the configuration."""
    lists = {} if valid is None else {key: [{"containerID": container_id(pod), "ifname": "eth0"} for pod in valid]}
    return node.plugin("GC", entry(**lists, **(more or {})), ifname=None)


def addresses(result: Conf) -> list[str]:
    """Return the addresses of a result without their prefix lengths."""
    return [one["address"].partition("/")[0] for one in result["ips"]]


def take_over(node: Node, address: str, owner: str, ifname: str = "eth0") -> None:
    """Let a reservation that is there belong to somebody else."""
    node.path(f"{DATA_DIR}/{NETWORK}/{address}").unlink()
    node.reserve(NETWORK, address, owner, ifname)


def deleted(node: Node) -> dict[str, bool]:
    """Return of each record whether its DEL has been here, by container ID."""
    return {name.partition(":")[0]: record["deleted"] for name, record in node.records(NETWORK).items()}


def assert_error(ran: Ran, code: int, *names: str) -> None:
    """The call answered this error and named these texts."""
    assert (ran.rc, ran.err) == (1, b""), str(ran)
    error = the_error(ran.out)
    assert error["code"] == code, str(ran)
    assert not [name for name in names if name not in text_of(error)], str(ran)


def assert_silent(ran: Ran) -> None:
    """The call succeeded, and printed nothing at all."""
    assert (ran.rc, ran.out, ran.err) == (0, b"", b""), str(ran)


def tree(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return all that can be told of the files below a directory: inode, ctime and content."""
    found = {}
    for path in [root, *root.rglob("*")]:
        about = path.lstat()
        found[str(path)] = (about.st_ino, about.st_ctime_ns, path.read_bytes() if path.is_file() else b"")
    return found


# CHECK


def test_check_finds_its_own_reservations(node: Node) -> None:
    """CHECK of a healthy attachment, dual stack, says nothing."""
    pod = node.pod()
    assert_silent(check(node, pod, add(node, pod, POOL, POOL6)))


def test_check_keeps_an_owner_without_ifname(node: Node) -> None:
    """A reservation that host-local < 0.8 wrote holds the ID alone, and that is this attachment's."""
    pod = node.pod()
    result = add(node, pod)
    node.path(f"{DATA_DIR}/{NETWORK}/{addresses(result)[0]}").write_text(container_id(pod))
    assert_silent(check(node, pod, result))


@pytest.mark.parametrize(
    ("owner", "ifname"),
    [("f" * 64, "eth0"), ("f" * 64, "net1"), (None, "net1"), ("f" * 64, "")],
    ids=["another container", "another container's other interface", "this container's other interface", "an ID alone"],
)
@pytest.mark.parametrize("which", [0, 1], ids=["IPv4", "IPv6"])
def test_check_names_both_owners(node: Node, which: int, owner: str | None, ifname: str) -> None:
    """An address that is reserved for somebody else is error 100, which names the address, us and them."""
    pod = node.pod()
    result = add(node, pod, POOL, POOL6)
    address = addresses(result)[which]
    owner = owner or container_id(pod)
    take_over(node, address, owner, ifname)
    assert_error(check(node, pod, result), FOREIGN_RESERVATION, address, f"{container_id(pod)} eth0", f"{owner} {ifname}".strip())


def test_check_names_every_address_without_reservation(node: Node) -> None:
    """Addresses whose reservation is gone are error 101, which names all of them and no other."""
    pod = node.pod()
    result = add(node, pod, POOL, POOL6)
    first, second = addresses(result)
    node.path(f"{DATA_DIR}/{NETWORK}/{second}").unlink()
    ran = check(node, pod, result)
    assert_error(ran, NO_RESERVATION, second, container_id(pod), "eth0")
    assert first not in ran.text
    node.path(f"{DATA_DIR}/{NETWORK}/{first}").unlink()
    assert_error(check(node, pod, result), NO_RESERVATION, first, second)


def test_check_asks_nothing_of_another_ipam(node: Node) -> None:
    """Where host-local never allocated, no address has a reservation, and that is no error: static, dhcp, whereabouts."""
    pod = node.pod()
    result = {"cniVersion": "1.1.0", "ips": [{"address": "10.77.0.2/29"}]}
    assert_silent(check(node, pod, result))
    node.path(f"{DATA_DIR}/{NETWORK}").mkdir(parents=True)
    assert_silent(check(node, pod, result))


def test_check_knows_other_forms_of_the_result(node: Node) -> None:
    """`ips` of 0.4.0 count as those of 1.1.0; the same error comes of both."""
    pod = node.pod()
    add(node, pod)
    node.reserve(NETWORK, "10.77.0.6", "f" * 64)
    conf = entry(prevResult={"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.77.0.6/29", "interface": 0}]})
    conf["cniVersion"] = "0.4.0"
    ran = node.plugin("CHECK", conf, netns=pod, container_id=container_id(pod))
    assert_error(ran, FOREIGN_RESERVATION, "f" * 64)
    assert the_error(ran.out)["cniVersion"] == "0.4.0"


@pytest.mark.parametrize("is_alive", [False, True])
@pytest.mark.parametrize("recorded", [True, False])
def test_check_after_change_of_ipam_fails_only_for_live_old_owner(node: Node, is_alive: bool, recorded: bool) -> None:
    """Host-local's files stand from before, and another IPAM gives the address: an error only if the old owner still lives."""
    old = node.pod()
    address = addresses(add(node, old))[0]
    if not is_alive:
        old.delete()
    pod = node.pod()
    if recorded:
        node.plugin("ADD", entry(reapOn=[]), netns=pod, container_id=container_id(pod)).check()
    node.add_address("lo", f"{address}/32", pod.path)
    store = node.path(f"{DATA_DIR}/{NETWORK}")
    before = tree(store)
    ran = check(node, pod, {"cniVersion": "1.1.0", "ips": [{"address": f"{address}/29"}]})
    if is_alive:
        assert_error(ran, FOREIGN_RESERVATION, container_id(old))
    else:
        assert_silent(ran)
    assert tree(store) == before


def test_check_of_netns_without_the_address_is_an_error(node: Node) -> None:
    """The old owner has no netns any more, but this one's has not the address either: that is an error."""
    old = node.pod()
    address = addresses(add(node, old))[0]
    old.delete()
    pod = node.pod()
    ran = check(node, pod, {"cniVersion": "1.1.0", "ips": [{"address": f"{address}/29"}]})
    assert_error(ran, FOREIGN_RESERVATION, container_id(old))


def test_check_looks_into_its_own_data_dir(node: Node) -> None:
    """The option dataDir says where the reservations are."""
    pod = node.pod()
    result = add(node, pod)
    take_over(node, addresses(result)[0], "f" * 64)
    assert_silent(check(node, pod, result, dataDir="/var/lib/cni/elsewhere"))
    assert_error(check(node, pod, result, dataDir=DATA_DIR + "/"), FOREIGN_RESERVATION)


def test_check_writes_nothing(node: Node) -> None:
    """Neither a good CHECK nor a bad one touches a file: no lock, no record, no reservation."""
    pod = node.pod()
    result = add(node, pod, POOL, POOL6)
    node.path(f"{DATA_DIR}/{NETWORK}/lock").unlink()
    gone = node.pod("gone")
    add(node, gone, recorded=False)
    node.path(f"{DATA_DIR}/{NETWORK}/lock").unlink()
    gone.delete()
    before = tree(node.path("/var/lib/cni")), tree(node.path("/run/cni-reaper"))
    assert_silent(check(node, pod, result))
    assert check(node, pod, {"ips": [{"address": "10.77.0.6/29"}]}).rc == 1
    assert (tree(node.path("/var/lib/cni")), tree(node.path("/run/cni-reaper"))) == before


# GC


def test_gc_keeps_what_is_listed(node: Node) -> None:
    """An owner that GC's list names is kept, though nothing else speaks for it; once it is not named, it is reaped."""
    live, unmapped = node.pod(), node.pod()
    add(node, live)
    address = addresses(add(node, unmapped, recorded=False))[0]
    unmapped.delete()
    for key in (NEWER, OLDER):
        assert_silent(gc(node, [live, unmapped], key))
        assert address in node.reservations(NETWORK)
    assert_silent(gc(node, [live]))
    assert address not in node.reservations(NETWORK)
    assert [line["reason"] for line in node.log("reaped")] == ["no-netns-left"]


def test_gc_keeps_what_is_listed_under_the_id_alone(node: Node) -> None:
    """A reservation without ifname is kept if the list names its ID under any."""
    add(node, node.pod())
    unmapped = node.pod()
    address = addresses(add(node, unmapped, recorded=False))[0]
    node.path(f"{DATA_DIR}/{NETWORK}/{address}").write_text(container_id(unmapped))
    unmapped.delete()
    assert_silent(gc(node, [unmapped]))
    assert address in node.reservations(NETWORK)


def test_gc_keeps_the_living(node: Node) -> None:
    """A pod with a netns stays LIVE though an empty list says that there is none, on any GC and the ADD after it."""
    pods = [node.pod() for _ in range(4)]
    held = [addresses(add(node, pod))[0] for pod in pods]
    for valid in ([], pods[:1]):
        assert_silent(gc(node, valid))
        assert sorted(node.reservations(NETWORK)) == sorted(held)
    add(node, node.pod())
    assert set(held) <= set(node.reservations(NETWORK))
    assert node.log("reaped") == []


def test_gc_logs_the_living_that_are_not_listed(node: Node) -> None:
    """A live owner that the list does not name is a contradiction between runtime and kernel, and is logged with its names."""
    listed, unlisted = node.pod(), node.pod()
    add(node, listed)
    address = addresses(add(node, unlisted))[0]
    assert_silent(gc(node, [listed]))
    lines = [line for line in node.log() if line.get("container") == container_id(unlisted)]
    assert [line.get("address") for line in lines] == [address], node.log()
    assert not [line for line in node.log() if line.get("container") == container_id(listed)]


def test_gc_marks_the_records_of_the_unlisted(node: Node) -> None:
    """Records that the list does not name are marked deleted, and only those; the reservations are a matter of evidence."""
    first, second = node.pod(), node.pod()
    for pod in (first, second):
        add(node, pod)
    assert_silent(gc(node, [first]))
    assert deleted(node) == {container_id(first): False, container_id(second): True}
    assert_silent(gc(node, []))
    assert deleted(node) == {container_id(first): True, container_id(second): True}


NO_LISTS: dict[str, Conf] = {
    "missing": {},
    "null": {NEWER: None},
    "older null": {OLDER: None},
    "both null": {NEWER: None, OLDER: None},
}


@pytest.mark.parametrize("lists", NO_LISTS.values(), ids=NO_LISTS.keys())
def test_gc_without_a_list_marks_nothing(node: Node, lists: Conf) -> None:
    """A missing key and null are no evidence: no record is marked. What is gone anyway is reaped all the same."""
    live, dead = node.pod(), node.pod()
    kept, gone = addresses(add(node, live))[0], addresses(add(node, dead))[0]
    dead.delete()
    assert_silent(gc(node, None, more=lists))
    assert deleted(node) == {container_id(live): False, container_id(dead): False}
    assert kept in node.reservations(NETWORK)
    assert gone not in node.reservations(NETWORK)


def test_gc_with_both_keys_takes_the_newer(node: Node) -> None:
    """`cni.dev/valid-attachments` is the SPEC's; the older key counts only without it."""
    first, second = node.pod(), node.pod()
    for pod in (first, second):
        add(node, pod)
    older = [{"containerID": container_id(second), "ifname": "eth0"}]
    assert_silent(gc(node, [first], more={OLDER: older}))
    assert deleted(node) == {container_id(first): False, container_id(second): True}


@pytest.mark.parametrize("wrong", [{"dryRun": "true"}, {NEWER: ["id"]}, {"networks": "net", "graceSeconds": 1}])
def test_gc_that_is_refused_does_nothing(node: Node, wrong: Conf) -> None:
    """Error 7 names all that is wrong, and neither marks nor reaps."""
    dead = node.pod()
    add(node, node.pod())
    address = addresses(add(node, dead))[0]
    dead.delete()
    before = deleted(node)
    assert_error(gc(node, [] if NEWER not in wrong else None, more=wrong), 7, *wrong)
    assert address in node.reservations(NETWORK)
    assert deleted(node) == before


def test_gc_reaps_nothing_from_an_unproven_view(node: Node) -> None:
    """Before an ADD has shown that pods can be seen from here, an empty list frees nobody."""
    pod = node.pod()
    address = addresses(add(node, pod, recorded=False))[0]
    pod.delete()
    assert_silent(gc(node, []))
    assert address in node.reservations(NETWORK)
    assert node.log("sweep-skipped")


def test_gc_reaps_only_where_asked(node: Node) -> None:
    """Without GC in reapOn the reservation is left to others, dryRun says what it would do; records are marked either way."""
    live, dead = node.pod(), node.pod()
    add(node, live)
    address = addresses(add(node, dead))[0]
    dead.delete()
    assert_silent(gc(node, [live], more={"reapOn": ["ADD"]}))
    assert deleted(node)[container_id(dead)]
    assert_silent(gc(node, [live], more={"dryRun": True}))
    assert address in node.reservations(NETWORK)
    assert [line["address"] for line in node.log("would-reap")] == [address]


# STATUS


def status(node: Node, *prefix: str, **options: Any) -> Ran:
    """Run STATUS of our plugin, behind a command prefix."""
    command = node.plugin_command("STATUS", entry(**options), ifname=None)
    command["argv"] = [*prefix, *command["argv"]]
    return node.together([command])[0]


def test_status_of_new_node_is_ok(node: Node) -> None:
    """A store that is not there yet is fine: host-local makes it."""
    assert_silent(status(node))
    assert not node.path(DATA_DIR).exists()
    assert not node.path(STATE_DIR).exists()


def test_status_of_full_pool_is_ok(node: Node) -> None:
    """A full pool is no reason to call a node not ready: STATUS would keep away the ADD that heals it."""
    pods = [node.pod() for _ in range(5)]
    for pod in pods:
        add(node, pod)
    full = node.plugin("ADD", ipam(), binary="host-local", netns=node.pod("one-more"))
    assert "no IP addresses available" in full.text
    assert_silent(status(node))
    pods[0].delete()
    assert_silent(status(node))
    assert len(node.reservations(NETWORK)) == 5


def file_in_place(node: Node) -> None:
    """Put a file where the store should be."""
    node.write(DATA_DIR, "")


def closed(node: Node) -> None:
    """Take all permissions from the store."""
    node.path(DATA_DIR).mkdir()
    node.path(DATA_DIR).chmod(0)


def link_to_itself(node: Node) -> None:
    """Make the store a symlink that leads nowhere but to itself."""
    node.path(DATA_DIR).symlink_to(DATA_DIR)


@pytest.mark.parametrize("broken", [file_in_place, closed, link_to_itself])
def test_status_of_broken_store_is_error_50(node: Node, broken: Callable[[Node], None]) -> None:
    """A store that cannot be listed is error 50, which names dataDir and the system's reason."""
    broken(node)
    assert_error(status(node, *NO_OVERRIDE), UNAVAILABLE, DATA_DIR, "Errno")


def test_status_follows_a_symlink_to_the_store(node: Node) -> None:
    """An operator may have moved the store and left a symlink, as host-local allows."""
    node.path("/var/lib/cni/moved").mkdir()
    node.path(DATA_DIR).symlink_to("/var/lib/cni/moved")
    assert_silent(status(node))


def test_status_reaps_only_if_told(node: Node) -> None:
    """STATUS comes every few seconds, so it leaves a leak where it is unless reapOn names it."""
    live, dead = node.pod(), node.pod()
    kept = addresses(add(node, live))[0]
    add(node, dead)
    dead.delete()
    assert_silent(status(node))
    assert len(node.reservations(NETWORK)) == 2
    assert_silent(status(node, reapOn=["ADD", "STATUS"]))
    assert set(node.reservations(NETWORK)) == {kept}


# cnitool


def chain(node: Node, cni_version: str) -> None:
    """Write the README's list: cni-reaper at the head, bridge and host-local behind it."""
    node.conflist(NETWORK, [reaper(), bridge(host_local(POOL))], cni_version)


@pytest.mark.parametrize("cni_version", ["1.0.0", "1.1.0"])
def test_cnitool_add_check_del_leave_nothing(node: Node, cni_version: str) -> None:
    """`cnitool add`, check, status and del, as the README shows them: the pod has its address, then nothing is left of it."""
    chain(node, cni_version)
    pod = node.pod("try")
    result = node.cnitool("add", NETWORK, pod).check().json()
    address = addresses(result)[0]
    assert pod.addresses() == [f"{address}/29"]
    assert node.reservations(NETWORK) == {address: (pod.container_id, "eth0")}
    for verb in ("check", "status"):
        ran = node.cnitool(verb, NETWORK, pod).check()
        assert ran.text == "", str(ran)
    node.cnitool("del", NETWORK, pod).check()
    assert node.reservations(NETWORK) == {}
    assert pod.addresses() == []


@pytest.mark.parametrize("cni_version", ["1.0.0", "1.1.0"])
def test_cnitool_gc_releases_all_by_del(node: Node, cni_version: str) -> None:
    """`cnitool gc` gives no list, so libcni deletes each cached attachment and tells us nothing: all is released, none by us."""
    chain(node, cni_version)
    pods = [node.pod(), node.pod()]
    for pod in pods:
        node.cnitool("add", NETWORK, pod).check()
    node.cnitool("gc", NETWORK, pods[0]).check()
    assert node.reservations(NETWORK) == {}
    assert node.log("reaped") == []


@pytest.mark.parametrize("cni_version", ["0.4.0", "1.0.0", "1.1.0"])
def test_cnitool_check_shows_the_foreign_owner(node: Node, cni_version: str) -> None:
    """Through libcni the operator reads both owners, and which address has no reservation."""
    chain(node, cni_version)
    pod = node.pod()
    address = addresses(node.cnitool("add", NETWORK, pod).check().json())[0]
    take_over(node, address, "f" * 64)
    ran = node.cnitool("check", NETWORK, pod)
    assert ran.rc != 0
    assert not [text for text in (address, pod.container_id, "f" * 64) if text not in ran.text], str(ran)
    node.path(f"{DATA_DIR}/{NETWORK}/{address}").unlink()
    ran = node.cnitool("check", NETWORK, pod)
    assert ran.rc != 0
    assert f"{address} of {pod.container_id} eth0 has no reservation" in ran.text, str(ran)


def test_cnitool_status_shows_a_broken_store(node: Node) -> None:
    """Through libcni the operator reads what is wrong with the store."""
    chain(node, "1.1.0")
    node.write(DATA_DIR, "")
    ran = node.cnitool("status", NETWORK, node.pod())
    assert ran.rc != 0
    assert DATA_DIR in ran.text, str(ran)
