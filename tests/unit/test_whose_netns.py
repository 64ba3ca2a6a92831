"""Whose a netns is: by the address that it shows, and by the cgroups of the processes in it, on a /proc that is made up."""

import posix
from dataclasses import dataclass, field
from typing import Any

import pytest

from cni_reaper_plugin.model import Netns, Reservation
from cni_reaper_plugin.namespaces import assigned, shown_addresses
from cni_reaper_plugin.namespaces.addresses import pack
from cni_reaper_plugin.scan_model import VisibleNetns
from cni_reaper_plugin.system import files

HOST, MINE, OTHERS = 4026531840, 4026532100, 4026532200
LOOPBACK = frozenset((pack("127.0.0.1"), pack("::1")))
ONE, TWO = "aa11bb22cc33" * 5, "dd44ee55ff66" * 5
DOCKERS = "0123456789abcdef" * 4
NEW_LINKS = "lo tunl0 gre0 gretap0 erspan0 ip_vti0 ip6_vti0 sit0 ip6tnl0 ip6gre0"


def netns(ino: int = MINE, *addresses: str, host: bool = False) -> VisibleNetns:
    """Return a visible netns."""
    return VisibleNetns(Netns(4, ino, 1), "", frozenset(pack(one) for one in addresses) | LOOPBACK, host)


@dataclass
class Shown:
    """One situation; its defaults have a netns accounted to ONE."""

    addresses: tuple[str, ...] = ("10.9.0.7",)
    others: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    reserved: tuple[tuple[str, str, str], ...] = (("net", "10.9.0.7", ONE),)
    placed: dict[int, set[str]] = field(default_factory=lambda: {MINE: {ONE}})
    named: str = ""
    known: str = ""
    of_host: bool = False

    def names(self) -> set[str]:
        """Return to whom the netns is accounted."""
        mine = netns(MINE, *self.addresses, host=self.of_host)
        mine.names = {self.known} if self.known else set()
        every = [netns(HOST, *self.hosts, host=True), mine, netns(OTHERS, *self.others)]
        made = [Reservation(network, address, f"{owner}\r\neth0".encode(), 1, 2) for network, address, owner in self.reserved]
        pairs = [(pack(one.address), one) for one in made]
        shown_addresses.account("net", every, pairs, self.placed, lambda owner, seen: seen is mine and owner == self.named)
        return mine.names


BOTH = (("net", "10.9.0.7", ONE), ("net", "10.9.0.8", TWO))
SHOWN = {
    "a path leads there": (Shown(), {ONE}),
    "a cgroup names it": (Shown(placed={}, named=ONE), {ONE}),
    "of another network, while one of this is seen": (
        Shown(reserved=(("other", "10.9.0.7", ONE), ("net", "10.9.0.8", TWO)), others=("10.9.0.8",)),
        {ONE},
    ),
    "two addresses of one container": (
        Shown(("10.9.0.7", "fd09::7"), reserved=(("net", "10.9.0.7", ONE), ("net", "fd09::7", ONE))),
        {ONE},
    ),
    "nothing leads there": (Shown(placed={}), set()),
    "a cgroup names another": (Shown(placed={}, named=TWO), set()),
    "a path leads another there": (Shown(placed={MINE: {TWO}}, named=ONE), set()),
    "a path leads another there, too": (Shown(placed={MINE: {ONE, TWO}}), set()),
    "it shows nothing": (Shown(()), set()),
    "it shows what nobody has reserved": (Shown(reserved=(("net", "10.9.0.8", ONE),)), set()),
    "another netns shows it, too": (Shown(others=("10.9.0.7",)), set()),
    "the host shows it, too": (Shown(hosts=("10.9.0.7",)), set()),
    "two have reserved it": (Shown(reserved=(("net", "10.9.0.7", ONE), ("other", "10.9.0.7", TWO))), set()),
    "it shows what two have reserved": (Shown(("10.9.0.7", "10.9.0.8"), reserved=BOTH), set()),
    "no address of this network is seen": (Shown(reserved=(("other", "10.9.0.7", ONE), ("net", "10.9.0.8", TWO))), set()),
    "only the host shows one of this network": (
        Shown(reserved=(("other", "10.9.0.7", ONE), ("net", "10.9.0.8", TWO)), hosts=("10.9.0.8",)),
        set(),
    ),
    "it is somebody's already": (Shown(known=TWO), {TWO}),
    "it is the host's": (Shown(of_host=True), set()),
}


@pytest.mark.parametrize(("facts", "names"), SHOWN.values(), ids=SHOWN.keys())
def test_shown_address_needs_a_second_proof(facts: Shown, names: set[str]) -> None:
    """One container has reserved it, one netns shows it, and something else leads that container there and no other."""
    assert facts.names() == names


UNIT = "/system.slice/polkit.service"
SCOPE = f"/system.slice/docker-{DOCKERS}.scope"
IN_UNIT, IN_SCOPE = f"0::{UNIT}", f"0::{SCOPE}"


@dataclass
class Proc:
    """A /proc. processes: (netns, cgroup file) by ID; links: of the netns in question; mounts, others: what leads to it."""

    processes: dict[int, tuple[int, str]]
    links: str = "lo"
    mounts: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    claimed: tuple[int, ...] = ()
    unseen: bool = False
    around: str = "0::/init.scope"

    def ask(self, monkeypatch: pytest.MonkeyPatch) -> VisibleNetns:
        """Ask whose the netns is."""
        table = "Inter-| Receive\n face |bytes\n" + "".join(f"  {name}: 0 0\n" for name in self.links.split())
        every = {1: (HOST, self.around), **self.processes}

        def read(path: str, **_: Any) -> bytes:
            pid = path.split("/")[2]
            if pid == "self":
                return self.around.encode()
            return (table if path.endswith("/net/dev") else every[int(pid)][1]).encode()

        def readlink(path: str) -> str:
            ino = every[int(path.split("/")[2])][0]
            if not ino:
                raise FileNotFoundError(2, "a zombie", path)
            return f"net:[{ino}]"

        monkeypatch.setattr(files, "read", read)
        monkeypatch.setattr(posix, "readlink", readlink)
        monkeypatch.setattr(posix, "listdir", lambda _: ["self", *map(str, every)])
        seen = netns(MINE, *self.addresses)
        if self.unseen:
            seen.addresses = None
        assigned.assign([(seen, list(self.mounts), list(self.others))], self.claimed)
        return seen


def alone(cgroup: str, **more: Any) -> Proc:
    """Return a /proc with one process in the netns."""
    return Proc({7: (MINE, cgroup)}, **more)


MOUNT = "/run/docker/netns/3f2b8c1e9d47"
ASSIGNED = {
    "a unit": (alone(IN_UNIT), "unit polkit.service"),
    "a unit below a slice": (alone("0::/system.slice/system-a.slice/a@b.service"), "unit a@b.service"),
    "a unit of cgroup v1": (alone(f"3:memory:/system.slice\n2:cpu:/\n1:name=systemd:{UNIT}"), "unit polkit.service"),
    "a unit with two processes": (Proc({7: (MINE, IN_UNIT), 8: (MINE, IN_UNIT)}), "unit polkit.service"),
    "a unit with a zombie": (Proc({7: (MINE, IN_UNIT), 8: (0, IN_UNIT)}), "unit polkit.service"),
    "a unit with the links of a new netns": (alone(IN_UNIT, links=NEW_LINKS), "unit polkit.service"),
    "a unit held by itself": (alone(IN_UNIT, others=("/proc/7/fd/5",)), "unit polkit.service"),
    "a unit held by what is gone": (alone(IN_UNIT, others=("/proc/9/fd/5",)), "unit polkit.service"),
    "nobody": (Proc({7: (HOST, IN_UNIT)}), ""),
    "a zombie alone": (Proc({7: (0, IN_UNIT)}, others=("/proc/7/fd/5",)), ""),
    "two units": (Proc({7: (MINE, IN_UNIT), 8: (MINE, "0::/system.slice/b.service")}), ""),
    "a unit with a process outside": (Proc({7: (MINE, IN_UNIT), 8: (HOST, IN_UNIT)}), ""),
    "a unit's, held by another": (Proc({7: (MINE, IN_UNIT), 8: (HOST, "0::/a.service")}, others=("/proc/8/fd/5",)), ""),
    "a unit's, mounted": (alone(IN_UNIT, mounts=("/run/netns/a",)), ""),
    "a unit's, mounted where docker's are": (alone(IN_UNIT, mounts=(MOUNT,)), ""),
    "a unit's, with a link": (alone(IN_UNIT, links="lo eth0"), ""),
    "a unit's, with an address": (alone(IN_UNIT, addresses=("10.9.0.7",)), ""),
    "a unit's, with an IPv6 address": (alone(IN_UNIT, addresses=("fd09::7",)), ""),
    "a unit's, not to be looked into": (alone(IN_UNIT, unseen=True), ""),
    "a unit's, named by a cache entry": (alone(IN_UNIT, claimed=(MINE,)), ""),
    "a unit's child": (alone(f"0::{UNIT}/payload"), ""),
    "a user's unit": (alone("0::/user.slice/user-1.slice/user@1.service/app.slice/a.service"), ""),
    "a unit of a pod's slice": (alone("0::/kubepods.slice/a.service"), ""),
    "a unit outside of our cgroup namespace": (alone("0::/../a.service"), ""),
    "two hierarchies that differ": (alone("1:name=systemd:/lxc/a\n0::/system.slice/a.service"), ""),
    "a controller's group of its own": (alone(f"2:memory:/a\n1:name=systemd:{UNIT}"), ""),
    "a scope": (alone("0::/system.slice/a.scope"), ""),
    "the root": (alone("0::/"), ""),
    "no cgroups": (alone(""), ""),
    "docker's": (alone(IN_SCOPE), "docker container 0123456789ab"),
    "docker's, mounted": (alone(IN_SCOPE, mounts=(MOUNT,), links="lo eth0"), "docker container 0123456789ab"),
    "docker's, mounted elsewhere, too": (alone(IN_SCOPE, mounts=("/proc/8/root" + MOUNT, "/run/netns/a")), ""),
    "docker's, mounted in another mount namespace, too": (
        alone(IN_SCOPE, mounts=("/proc/8/task/9/root" + MOUNT, MOUNT)),
        "docker container 0123456789ab",
    ),
    "docker's of cgroup v1": (alone(f"1:name=systemd:/docker/{DOCKERS}\n0::/a.service"), "docker container 0123456789ab"),
    "docker's for a pod": (alone(f"0::/kubepods.slice/docker-{DOCKERS}.scope"), ""),
    "docker's for a pod, of cgroup v1": (alone(f"1:name=systemd:/docker/{DOCKERS}\n3:cpu:/kubepods/a"), ""),
    "below docker's": (alone(f"0::{SCOPE}/init.scope"), ""),
    "docker's with another process": (Proc({7: (MINE, IN_SCOPE), 8: (MINE, "0::/")}), ""),
    "docker's with a process outside": (Proc({7: (MINE, IN_SCOPE), 8: (OTHERS, IN_SCOPE)}), ""),
    "docker's around the node": (alone(IN_SCOPE, around=IN_SCOPE), ""),
    "docker's, named by a record": (alone(IN_SCOPE, claimed=(MINE,)), ""),
    "a short ID": (alone("0::/docker/0123456789ab"), ""),
}


@pytest.mark.parametrize(("proc", "told"), ASSIGNED.values(), ids=ASSIGNED.keys())
def test_netns_is_assigned_by_all_of_its_processes(monkeypatch: pytest.MonkeyPatch, proc: Proc, told: str) -> None:
    """All of a unit and nothing else, in a netns as the kernel makes it; or all of docker's containers, outside of pods."""
    seen = proc.ask(monkeypatch)
    assert seen.assigned == told
    assert seen.containers == ({DOCKERS} if "docker" in told else set())
