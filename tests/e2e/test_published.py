"""What a pod has published leads nowhere when its address is free: rows of "What leads to an address" of docs/evidence.md."""

import os
from collections.abc import Callable

import pytest

from cni_reaper_plugin.published import withdraw
from tests.conftest import MakeNode
from tests.support.cni_calls import BIN, reaper
from tests.support.commands import BASE_ENV
from tests.support.node import Node
from tests.support.node_files import DATA_DIR
from tests.support.publishing import ANSWER_S, BACKENDS, DROP_IN, NOBODY, NODE_SIX, Shop, Town
from tests.support.waiting import until


@pytest.mark.parametrize(("plugins", "backend"), BACKENDS)
def test_a_published_port_leads_to_nobody_else(make_node: MakeNode, plugins: str, backend: str) -> None:
    """A pod that has published nothing gets the address, and nobody outside reaches it; the published pod is reached again."""
    node = make_node(plugins)
    town = Town(node, backend, addresses=2)
    first = town.open("shop", 8080)
    living = town.open("living")
    addresses = first.addresses()
    assert town.ask_all(8080) == {"shop"}
    first.close()
    stranger = town.open("stranger")
    assert stranger.addresses() == addresses
    assert town.ask_all(8080) == {NOBODY}
    living.end()
    again = town.open("shop", 8080)
    assert town.ask_all(8080) == {"shop"}
    assert len(town.held()) == 4
    assert {line["reason"] for line in node.log("reaped")} == {"netns-gone"}
    again.close()
    stranger.close()


ROUNDS = int(os.environ.get("CNI_REAPER_PUBLISHED_ROUNDS", "10"))


@pytest.mark.parametrize(("plugins", "backend"), BACKENDS)
def test_at_no_moment_of_many_rounds(
    make_node: MakeNode, plugins: str, backend: str, record_property: Callable[[str, object], None]
) -> None:
    """A client that asks all the time hears the shop or nobody, while each shop leaks, a stranger follows, and it is back.

    In each round the stranger gets the address of the shop, and the next shop that of the last round's stranger.
    """
    town = Town(make_node(plugins), backend, addresses=2)
    last = town.open("stranger")
    shop = town.open("shop", 8080)
    watch = town.client.watch(8080)
    for _ in range(ROUNDS):
        addresses = shop.addresses()
        shop.close()
        stranger = town.open("stranger")
        assert stranger.addresses() == addresses
        assert watch.now() == {NOBODY}
        last.end()
        last, shop = stranger, town.open("shop", 8080)
        watch.wait_for("shop")
    assert watch.ever() == {NOBODY, "shop"}
    record_property("rounds of a leak with published ports", ROUNDS)


@pytest.mark.parametrize("place", [1, 2, DROP_IN], ids=["second", "last", "drop-in"])
def test_port_is_taken_back_in_each_place_of_the_chain(node: Node, place: int) -> None:
    """The same behind others, and behind portmap itself: there an ADD frees for the next one."""
    town = Town(node, "iptables", addresses=2, place=place)
    shop = town.open("shop", 8080)
    addresses = shop.addresses()
    shop.close()
    living = town.open("living")
    assert len(node.log("reaped")) == 2
    stranger = town.open("stranger")
    assert stranger.addresses() == addresses
    assert town.ask_all(8080) == {NOBODY}
    living.end()
    town.open("shop", 8080)
    assert town.ask_all(8080) == {"shop"}


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_ports_of_a_last_life_go_before_the_next(node: Node, backend: str) -> None:
    """Podman's do: what its last life has published goes before its next life publishes the same."""
    town = Town(node, backend, addresses=2, with_args=False)
    first = town.open("shop", 8080)
    first.close()
    second = Shop(town, "shop again", node.pod(first.pod.name), first.ports)
    assert second.pod.container_id == first.pod.container_id
    second.add().check()
    second.serve()
    assert {line["reason"] for line in node.log("reaped")} == {"added-again"}
    assert town.ask_all(8080) == {"shop again"}
    assert first.pod.path == second.pod.path
    assert "10.77.0.10:80" not in town.rules()


def test_ports_of_a_live_attachment_stay(node: Node) -> None:
    """The DEL of portmap for nftables takes all ports of a container: while another attachment of it lives it is not run."""
    town = Town(node, "nftables", addresses=2, with_args=False)
    first = town.open("shop", 8080)
    first.close()
    other = {"cniVersion": "1.0.0", "name": "other", **reaper()}
    second = node.pod(first.pod.name)
    node.plugin("ADD", other, netns=second, ifname="eth1").check()  # its record says where the container is now
    town.replace_portmap("touch /run/called; exec $REAL")
    node.plugin("ADD", town.head(), netns=node.pod()).check()
    assert {line["detail"] for line in town.kept()} == {withdraw.SHARED}
    assert not node.path("/run/called").exists()
    second.delete()
    town.try_again()
    node.plugin("ADD", town.head(), netns=node.pod()).check()
    assert town.held() == set()
    assert "10.77.0.10:80" not in town.rules()


def test_reap_finds_portmap_and_iptables(node: Node) -> None:
    """`reap` finds portmap where the runtimes have their plugins, and iptables where a person's PATH does not lead."""
    town = Town(node, "iptables", addresses=2)
    living = town.open("living")
    town.open("shop", 8080).close()
    ran = node.run([f"{BIN}/cni-reaper", "reap"], env={"PATH": "/usr/bin:/bin"}).check()
    assert "2 freed" in ran.text
    assert town.held() == set(living.addresses())
    assert "10.77.0.11:80" not in town.rules()


def test_reap_tells_what_stays(node: Node) -> None:
    """What stays for a published port is said, and makes the exit code 1."""
    town = Town(node, "iptables", addresses=2)
    town.open("living")
    town.open("shop", 8080).close()
    node.path(f"{BIN}/portmap").unlink()
    ran = node.run([f"{BIN}/cni-reaper", "reap"])
    assert ran.rc == 1
    assert "reason=port-published" in ran.text
    assert "portmap is not in CNI_PATH" in ran.text


@pytest.mark.parametrize(("plugins", "backend"), BACKENDS)
def test_without_cni_reaper_port_leads_to_next_pod(make_node: MakeNode, plugins: str, backend: str) -> None:
    """The control: an address that is freed by hand leads to a stranger's pod, so these tests can see it."""
    node = make_node(plugins)
    town = Town(node, backend, place=None)
    first = town.open("shop", 8080)
    addresses = first.addresses()
    first.close()
    for address in town.held():
        node.path(f"/var/lib/cni/networks/net/{address}").unlink()
    stranger = town.open("stranger")
    assert stranger.addresses() == addresses
    assert town.ask_all(8080) == {"stranger"}


FAULTS = {
    "missing": ("", "portmap is not in CNI_PATH"),
    "fails": ("""echo '{"code":11,"msg":"try again later"}'; exit 1""", "portmap's DEL failed: try again later"),
    "dies": ("kill -9 $$", "portmap's DEL failed: exit code -9"),
    "says nothing and fails": ("exit 3", "portmap's DEL failed: exit code 3"),
    "does nothing": ("exit 0", "its rules stand after portmap's DEL"),
    "hangs, with a child": ("sleep 1000 & sleep 1000", "portmap's DEL: it did not end in time"),
    "not executable": ("not executable", "portmap cannot be started"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_keeps_what_cannot_be_taken_back(node: Node, fault: str) -> None:
    """The reservation stays, with the reason; the next pod fails for want of an address, or gets another; then it is freed."""
    script, why = FAULTS[fault]
    town = Town(node, "iptables", addresses=2)
    dead = town.open("shop", 8080)
    addresses = set(dead.addresses())
    dead.close()
    place = node.path(f"{BIN}/portmap")
    real = place.readlink()
    town.replace_portmap(f'[ "$CNI_COMMAND" = DEL ] || exec $REAL\n{script}')
    if fault == "missing":
        place.rename(node.path(f"{BIN}/elsewhere"))
    if fault == "not executable":
        place.chmod(0o644)
    own = node.pod()
    node.plugin("ADD", town.head(), netns=own).check()
    assert addresses <= town.held()
    assert {line["detail"][: len(why)] for line in town.kept()} == {why}
    assert {line["level"] for line in town.kept()} == {"warning"}
    assert node.log("reaped") == []
    assert "10.77.0.10:80" in town.rules()
    tried = len(town.kept())
    for _ in range(2):  # it is tried again, and then it was tried a moment ago
        node.plugin("ADD", town.head(), netns=own).check()
        assert addresses <= town.held()
    assert len(town.kept()) - tried == 4
    assert {line["level"] for line in town.kept()[tried:]} == {"debug"}
    place.unlink(missing_ok=True)
    place.symlink_to(real)
    town.try_again()
    node.plugin("ADD", town.head(), netns=own).check()
    assert town.held() == set()
    assert "10.77.0.10:80" not in town.rules()


def test_keeps_while_the_lock_of_iptables_is_held(node: Node) -> None:
    """The legacy iptables waits for its lock; who waits is ended, and the pod is not."""
    node.path("/run/legacy").mkdir()
    for name in ("iptables", "iptables-save", "ip6tables", "ip6tables-save"):
        node.path(f"/run/legacy/{name}").symlink_to("/usr/sbin/xtables-legacy-multi")
    town = Town(node, "iptables")
    town.path = f"/run/legacy:{BASE_ENV['PATH']}"
    dead = town.open("shop", 8080)
    dead.close()
    held = town.held()
    holder = node.start(["flock", "/run/xtables.lock", "sh", "-c", "touch /run/locked; sleep 10000"])
    until(node.path("/run/locked").exists, "the lock is held")
    own = node.pod()
    node.plugin("ADD", town.head(), netns=own, env={"PATH": town.path}).check()
    assert town.held() == held
    assert {line["detail"] for line in town.kept()} == {"portmap's DEL: it did not end in time"}
    node.stop(holder)
    node.run(["pkill", "sleep"])
    town.try_again()
    node.plugin("ADD", town.head(), netns=own, env={"PATH": town.path}).check()
    assert town.held() == set()


@pytest.mark.parametrize("when", ["before", "after"])
def test_call_killed_beside_portmap_frees_nothing(node: Node, when: str) -> None:
    """Killed before or behind portmap's DEL, cni-reaper has freed nothing; the next call does all of it."""
    town = Town(node, "nftables")
    dead = town.open("shop", 8080)
    dead.close()
    held = town.held()
    place = node.path(f"{BIN}/portmap")
    real = place.readlink()
    town.replace_portmap("$REAL; kill -9 $PPID" if when == "after" else "kill -9 $PPID")
    own = node.pod()
    assert node.plugin("ADD", town.head(), netns=own).rc == -9
    assert town.held() == held
    assert ("10.77.0.10:80" in town.rules()) == (when == "before")
    place.unlink()
    place.symlink_to(real)
    node.plugin("ADD", town.head(), netns=own).check()
    assert town.held() == set()
    assert "10.77.0.10:80" not in town.rules()


def test_the_address_goes_last(node: Node) -> None:
    """While portmap takes the rules back the reservations stand; it is one DEL for both, as the SPEC has it."""
    town = Town(node, "iptables")
    dead = town.open("shop", 8080)
    dead.close()
    held = town.held()
    town.replace_portmap(f"env | grep ^CNI_ > /run/called.$$; ls {DATA_DIR}/net > /run/stood.$$; exec $REAL")
    node.plugin("ADD", town.head(), netns=node.pod()).check()
    called = list(node.path("/run").glob("called.*"))
    assert len(called) == 1
    told = dict(line.split("=", 1) for line in called[0].read_text().splitlines())
    wanted = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": dead.pod.container_id, "CNI_IFNAME": "eth0", "CNI_NETNS": ""}
    assert {name: told[name] for name in wanted} == wanted
    assert held <= set(next(node.path("/run").glob("stood.*")).read_text().split())
    assert town.held() == set()


def test_a_dry_run_takes_nothing_back(node: Node) -> None:
    """Nothing is run."""
    town = Town(node, "iptables", dryRun=True)
    town.open("shop", 8080).close()
    town.replace_portmap("touch /run/called; exec $REAL")
    node.plugin("ADD", town.head(), netns=node.pod()).check()
    assert not node.path("/run/called").exists()
    assert len(node.log("would-reap")) == 2
    assert "10.77.0.10:80" in town.rules()


@pytest.mark.parametrize("entry", ["", "{", '{"kind":"cniCacheV1"'])
@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_without_a_cache_entry_the_rules_tell(node: Node, entry: str, backend: str) -> None:
    """Where the entry is missing or broken, what portmap has written names the container."""
    town = Town(node, backend, addresses=2)
    for shop in [town.open("shop", 8080), town.open("silent")]:
        shop.close()
    for path in node.path("/var/lib/cni/results").iterdir():
        path.write_text(entry) if entry else path.unlink()
    town.replace_portmap("echo >> /run/called; exec $REAL")
    node.plugin("ADD", town.head(), netns=node.pod()).check()
    assert town.held() == set()
    assert node.read("/run/called") == "\n"  # once, for the one that has published something
    assert "10.77.0.10:80" not in town.rules()


def test_a_flow_does_not_go_on_to_the_next_pod(node: Node) -> None:
    """A client whose datagrams go on is led nowhere by what the kernel remembers of its first one."""
    town = Town(node, "iptables")
    dead = town.open("shop", 5353)
    assert town.ask(5353, "udp", source=4000) == "shop"
    assert town.ask(5353, "udp", NODE_SIX, source=4000) == "shop"
    dead.close()
    stranger = town.open("stranger")
    assert town.ask(5353, "udp", source=4000) == NOBODY
    assert town.ask(5353, "udp", NODE_SIX, source=4000) == NOBODY
    stranger.close()


def test_the_kernel_would_lead_a_flow_on(node: Node) -> None:
    """The control: where only the rules go, a client that goes on asking gets the answer of the next pod."""
    town = Town(node, "iptables", place=None)
    dead = town.open("shop", 5353)
    assert town.ask(5353, "udp", source=4000) == "shop"
    dead.close()
    dead.delete().check()
    stranger = town.open("stranger")
    assert "10.77.0.10:80" not in town.rules()
    assert town.ask(5353, "udp", source=4000) == "stranger"
    stranger.close()


PEER = """
import socket, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
    line.bind(("", 9000))
    open("/run/peer", "w").close()
    _, caller = line.recvfrom(100)
    while True:
        line.sendto(b"news", caller)
        time.sleep(0.02)
"""
SUBSCRIBER = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
    line.bind(("", 80))
    line.sendto(b"?", ("192.0.2.2", 9000))
    print(line.recv(100).decode())
"""
LISTENER = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
    line.bind(("", 80))
    line.settimeout(float(sys.argv[1]))
    try:
        print(line.recv(100).decode())
    except TimeoutError:
        print("nothing")
"""


@pytest.mark.parametrize("ended", [True, False])
def test_what_a_pod_has_asked_for_does_not_come_to_the_next_one(node: Node, ended: bool) -> None:
    """A peer outside goes on answering a dead pod; with the control, in which the kernel remembers its connection."""
    town = Town(node, addresses=1)
    town.bridge["ipMasq"] = True
    town.write(0)
    dead = town.build("dead")
    dead.add().check()
    node.start(["python3", "-c", PEER], netns=town.outside)
    until(node.path("/run/peer").exists, "the peer listens")
    assert node.run(["python3", "-c", SUBSCRIBER], netns=dead.pod).check().out == b"news\n"
    dead.close()
    if not ended:
        for address in town.held():
            node.path(f"{DATA_DIR}/net/{address}").unlink()
    following = town.build("following")
    following.add().check()
    assert len(node.log("reaped")) == 2 * ended
    heard = node.run(["python3", "-c", LISTENER, "1" if ended else str(ANSWER_S)], netns=following.pod).check().out
    assert heard == (b"nothing\n" if ended else b"news\n")


def test_leaks_without_ports_start_no_program(node: Node) -> None:
    """However many there are."""
    town = Town(node, "iptables", addresses=30)
    shops = [town.build(f"shop{number}") for number in range(12)]
    for shop in shops:
        shop.add().check()
    for shop in shops:
        shop.pod.delete()
    command = node.plugin_command("ADD", town.head(), netns=node.pod())
    command["argv"] = ["strace", "-f", "-e", "trace=process", "-o", "/run/trace", *command["argv"]]
    node.together([command])[0].check()
    assert len(node.log("reaped")) == 24
    trace = node.read("/run/trace")
    assert trace.count("execve(") == 1
    assert "fork" not in trace
    assert "clone" not in trace


def test_twenty_leaks_with_ports_go_in_one_call(node: Node) -> None:
    """They are all taken back by one call where there is time."""
    town = Town(node, "iptables", addresses=20)
    shops = [town.build(f"shop{number}", 8000 + number) for number in range(20)]
    for shop in shops:
        shop.add().check()
    for shop in shops:
        shop.pod.delete()
    node.plugin("ADD", town.head(), netns=node.pod()).check()
    assert town.held() == set()
    assert "10.77.0." not in "".join(line for line in town.rules().splitlines() if "DNAT" in line)
