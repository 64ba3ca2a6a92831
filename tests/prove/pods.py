"""Containers of the model: their netns, their ADD phase by phase, their DEL and their end."""

import base64
import json
from collections.abc import Generator

from tests.prove import kernel as kernels
from tests.prove.kernel import Netns
from tests.prove.node_state import NETWORKS, Attached, Box, packed
from tests.prove.plugin_calls import PluginCalls


class Pods(PluginCalls):
    """Containers from their netns over ADD and DEL to their end."""

    def _new_netns(self) -> tuple[Netns, str]:
        netns = self.kernel.create()
        netns.veth = self.random.random() < 0.7
        kind = self.random.random()
        cgroup = self._cgroup()
        if kind < 0.75:
            path = f"/run/netns/ns{self.random.randrange(6)}"  # few names, so that they are used again
            if path in self.kernel.mounts or self.random.random() < 0.3:
                self.serial += 1
                path = f"/run/netns/cni-{self.serial:08x}-0000-4000-8000-{self.serial:012x}"  # given once, as runtimes do
            self.kernel.mount(netns, path)
            if self.random.random() < 0.7:
                netns.processes.add(self.kernel.pid(cgroup))
        else:
            pid = self.kernel.pid(cgroup)
            if self.random.random() < 0.3:
                netns.descriptors.add(self.kernel.pid(kernels.RUNTIME_UNIT))
            netns.processes.add(pid)
            path = f"/proc/{pid}/ns/net"
        return netns, path

    def _cgroup(self) -> str:
        """Return the cgroup of a container's first process; a part of a runtime's own unit may have made its netns."""
        self.serial += 1
        container = f"{self.serial:064x}"
        cgroups = (
            kernels.POD,
            kernels.RUNTIME_UNIT,
            f"/machine.slice/libpod-{container}.scope",
            f"/system.slice/web.service/libpod-payload-{container}",
            f"/kubepods.slice/kubepods-pod.slice/docker-{container}.scope",
        )
        return self.random.choices(cgroups, (5, 3, 1, 1, 1))[0]

    def _new_box(self) -> Box:
        dead_ids = [box.id for box in self.boxes if not box.uid and not box.foreign and not self.kernel.alive(box.netns)]
        alive = {box.id for box in self.boxes if self.kernel.alive(box.netns)} | {one.box.id for one in self.landing}
        alive |= self.deleting  # host-local itself frees by (ID, ifname), whichever life it is
        again = [one for one in dead_ids if one not in alive]
        self.serial += 1
        if again and self.random.random() < 0.4:
            name, uid = self.random.choice(again), ""
        else:
            name, uid = f"{self.serial:064x}", f"uid-{self.serial}" if self.random.random() < 0.6 else ""
            name = "ab" * 16 + name[32:]
            if not uid and self.random.random() < 0.2:  # Nomad: its allocation's, in a docker container's netns
                name = f"{self.serial:08x}-0000-4000-8000-{self.serial:012x}"
        netns, path = self._new_netns()
        if self.random.random() < 0.2 and not uid:
            container = name if len(name) == 64 else f"{self.serial:064x}"
            for pid in netns.processes:
                self.kernel.cgroups[pid] = f"/system.slice/docker-{container}.scope"
        box = Box(name, uid, netns, path, self.kernel.boots)
        self.boxes.append(box)
        return box

    def _flight(self, attached: Attached) -> Generator[None]:
        """One ADD of a chain, phase by phase; the runtime or a plugin may die after each."""
        self.landing.append(attached)
        attached.box.attachments.append(attached)
        try:
            yield from self._phases(attached)
        finally:
            self.landing.remove(attached)

    def _phases(self, attached: Attached) -> Generator[None]:
        if self.kernel.at(attached.box.path) is not attached.box.netns or attached.box.path in self.kernel.unreadable:
            return  # the runtime finds another netns there, or none: it would be that one's ADD
        if attached.place == "head":
            if not self._add(attached):
                return
            yield
        yield from self._allocate(attached)
        if not attached.address:
            return
        yield
        if not attached.hidden and self.kernel.alive(attached.box.netns):
            attached.box.netns.addresses.add(packed(attached.address))
        attached.box.netns.linked = attached.box.netns.linked or not attached.hidden or attached.box.netns.veth
        attached.up = True
        yield
        if attached.place == "second" and self.kernel.alive(attached.box.netns):
            if not self._add(attached):
                return
            yield
        if attached.publishes and self.kernel.alive(attached.box.netns):
            self.kernel.publish(attached.network, attached.box.id, packed(attached.address))
            yield
        if self.random.random() < 0.7 and self.kernel.boots == attached.box.boot:
            entry = {"kind": "cniCacheV1", "netns": attached.box.path, "networkName": attached.network, "result": {}}
            if attached.publishes:
                plugins = [{"type": "portmap"}, {"type": "other"}]
                conflist = json.dumps({"cniVersion": "1.0.0", "name": attached.network, "plugins": plugins}).encode()
                ports = [{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}]
                entry.update(config=base64.b64encode(conflist).decode(), capabilityArgs={"portMappings": ports})
            entry.update(containerId=attached.box.id, ifName=attached.ifname)
            name = f"{attached.network}-{attached.box.id}-{attached.ifname}"
            (self.cache / "results" / name).write_text(json.dumps(entry))

    def _take_off(self) -> None:
        """Begin an ADD of a new container, or of another interface or network of one that lives."""
        living = [box for box in self.boxes if self.kernel.alive(box.netns) and not box.foreign]
        box = self.random.choice(living) if living and self.random.random() < 0.3 else self._new_box()
        network = self.random.choice(NETWORKS)
        ifname = self.random.choice(("eth0", "net1"))
        if any((one.network, one.ifname) == (network, ifname) for one in box.attachments):
            return
        # A container that comes back comes by the same chain; a chain changed in between is a known limit (H3b).
        place = self.places.setdefault(box.id, self.random.choices(("head", "second", "none"), (6, 2, 2))[0])
        attached = Attached(box, network, ifname, place, hidden=self.random.random() < 0.25)
        # Its ports are a part of the container, and the same in each of its lives.
        attached.publishes = self.publishing.setdefault((box.id, network, ifname), self.random.random() < 0.4)
        if attached.hidden:
            self.kernel.named.add(box.id)  # the runtime has its task directory, or a process its cgroup
        self.flights.append(self._flight(attached))
        self._fly_on(self.flights[-1])

    def _rush(self) -> None:
        """Begin an ADD and let it go some way, all in one gap of somebody else."""
        self._take_off()
        for _ in range(self.random.randrange(1, 4)):
            if self.flights:
                self._fly_on(self.flights[-1])

    def _fly(self) -> None:
        """Let an ADD that is on its way go on by one phase."""
        if self.flights:
            self._fly_on(self.random.choice(self.flights))

    def _fly_on(self, flight: Generator[None]) -> None:
        try:
            next(flight)
        except StopIteration:
            if flight in self.flights:
                self.flights.remove(flight)
        except ValueError:
            return  # it is the very one in whose gap this happens

    def _land(self) -> None:
        """Let all ADDs come to their end."""
        for _ in range(100):
            if not self.flights:
                return
            self._fly_on(self.flights[0])

    def _end(self, box: Box) -> None:
        """Take away all that holds a container's netns."""
        netns = box.netns
        netns.elsewhere = False
        for path in sorted(netns.places):
            while self.kernel.alive(netns) and path in netns.places:
                stack = self.kernel.mounts.get(path, [])
                if stack and stack[-1] is not netns:
                    stack.remove(netns)
                    netns.places.discard(path)
                else:
                    self.kernel.umount(path)
        netns.processes.clear()
        netns.threads.clear()
        netns.descriptors.clear()
        netns.hidden_mount = netns.socket = False
        self.kernel.settle(netns)
        if self.random.random() < 0.8 and not any(other.id == box.id and self.kernel.alive(other.netns) for other in self.boxes):
            self.kernel.named.discard(box.id)  # else its task directory stays for a while

    def _end_some_netns(self) -> None:
        living = [box for box in self.boxes if self.kernel.alive(box.netns) and not box.elsewhere]
        if living:
            self._end(self.random.choice(living))

    def _delete(self, attached: Attached) -> None:
        """One DEL of a chain, backwards; any of its parts may be lost."""
        attached.released = True
        self.deleting.add(attached.box.id)
        try:
            self._delete_all(attached)
        finally:
            self.deleting.discard(attached.box.id)

    def _delete_all(self, attached: Attached) -> None:
        given = attached.box.path if self.random.random() < 0.8 else ""
        if attached.address and self.kernel.alive(attached.box.netns):
            attached.box.netns.addresses.discard(packed(attached.address))
        if attached.place == "second":
            self._call("DEL", attached, attached.network, given)
        if self.random.random() < 0.8:  # Podman may give no ports to DEL
            self.kernel.withdraw(attached.network, attached.box.id)
            self.kernel.flows = {flow for flow in self.kernel.flows if flow[0] != attached.box.id}  # they end some day
        if self.random.random() < 0.8:  # flannel and multus may answer success and do nothing
            self._release(attached)
        if attached.place == "head" and self.random.random() < 0.9:
            self._call("DEL", attached, attached.network, given)
        name = f"{attached.network}-{attached.box.id}-{attached.ifname}"
        if self.random.random() < 0.8:
            (self.cache / "results" / name).unlink(missing_ok=True)

    def _del_now(self) -> None:
        """One DEL, perhaps late; never while another life of its container lives or starts: SPEC, no parallel operations."""
        ready = [one for one in self._attachments() if one not in self.landing and not one.released and not one.box.elsewhere]
        living = [one for one in ready if self.kernel.alive(one.box.netns)] + self.landing
        busy = {(one.box.id, id(one.box)) for one in living}
        current = [one for one in ready if not any(name == one.box.id and box != id(one.box) for name, box in busy)]
        if current:
            self._delete(self.random.choice(current))

    def _sweep_now(self) -> None:
        self._call("GC", None, self.random.choice(NETWORKS))
