"""Published ports that lead to an address which their container does not have: for `doctor`, `audit` and `explain`.

Judged by the same evidence as a sweep: a port leads where it should while its container has a reservation of the address that
is not STALE, and a STALE one's ports are taken back with it. All others are astray: older versions of cni-reaper, hands and
scripts have freed addresses before.
"""

import time
from dataclasses import dataclass

from cni_reaper_plugin.attachment import valid_name
from cni_reaper_plugin.host_local.pool import unpack
from cni_reaper_plugin.model import STALE
from cni_reaper_plugin.operator.conflists import plugin_path, runtimes
from cni_reaper_plugin.operator.inspect.inspection import AGAIN_S, Inspected, Row
from cni_reaper_plugin.published import deletion, ports
from cni_reaper_plugin.published.ports import Port

UNSEEN = "which ports are published cannot be seen, and so not whether one leads astray: %s"
MOST_NAMED = 8
_PORTMAP = "portmap"
_DEL = (
    """echo '{"cniVersion":"0.3.1","name":"%s","type":"portmap","backend":"%s","runtimeConfig":{"portMappings":"""
    """[{"hostPort":%d,"containerPort":%d,"protocol":"%s"}]}}' | """
    "CNI_COMMAND=DEL CNI_CONTAINERID=%s CNI_IFNAME=eth0 CNI_NETNS= CNI_PATH=%s %s"
)


@dataclass(frozen=True)
class Astray:
    """Published ports of one container that lead to one address, which that container does not have.

    holder: the container that has the address now, "" for none; pod: its pod, "" where nobody told; lives: the ports' container
    has another reservation, which is not STALE; portmap: where it is.
    """

    ports: tuple[Port, ...]
    holder: str
    pod: str
    lives: bool
    portmap: str

    @property
    def address(self) -> str:
        """Where the ports lead to."""
        return unpack(self.ports[0].address)

    @property
    def container(self) -> str:
        """Whose the rules are, in words."""
        return self.ports[0].container or self.ports[0].comment

    def as_json(self) -> dict[str, object]:
        """Return it as docs/audit.schema.json describes it."""
        first = self.ports[0]
        return {
            "address": self.address,
            "holder": self.holder,
            "pod": self.pod,
            "container": first.container,
            "network": first.network,
            "backend": first.backend,
            "ports": [
                {"protocol": port.protocol, "host": port.host, "hostPort": port.host_port, "port": port.port}
                for port in self.ports
            ],
            "advice": self.advice,
        }

    @property
    def what(self) -> str:
        """What is found: a sentence without its end."""
        whose = "no pod has now"
        if self.holder:
            whose = "is another pod's now: container {}{}".format(self.holder, f" ({self.pod})" if self.pod else "")
        return (
            f"{leads(self.ports)}, which {whose}; the rules (portmap, {self.ports[0].backend}) are of container {self.container}"
        )

    @property
    def advice(self) -> str:
        """What to do about it: sentences."""
        first = self.ports[0]
        if self.lives:
            restart = f"Restart the pod of container {self.container}"
            return f"{restart}: it has another address now, and its end removes all of its rules."
        network = first.network or "any"
        if not valid_name(first.container) or not valid_name(network):
            return "Look at the rules (iptables-save -t nat, nft list ruleset), and delete those of this container."
        mapping = (first.host_port, first.port, first.protocol)
        bin_dir = self.portmap.rpartition("/")[0]
        command = _DEL % (network, first.backend, *mapping, first.container, bin_dir, self.portmap)
        return f"If no runtime knows container {first.container} (crictl inspectp, podman ps --all), remove its rules: {command}"


class Published:
    """What is published on this node, looked at before the reservations are: a port that is newer than they is not seen.

    ports: all; trouble: why some may be missing, "" where none is.
    """

    def __init__(self, conf_dirs: list[str], bin_dirs: list[str]) -> None:
        """Look. conf_dirs, bin_dirs: see places. Raises nothing."""
        self._environment = runtimes.environment(conf_dirs, bin_dirs)
        self.ports, self.trouble = ports.look(self._environment)

    def astray(self, networks: list[Inspected], is_complete: bool) -> list[Astray]:
        """Return what leads astray, by address. What is so while a pod ends is left out: it is looked at twice.

        networks: looked at since; is_complete: these are all networks of the node.
        """
        found = _Judge(networks, is_complete, self._portmap()).of(self.ports)
        if found:
            time.sleep(AGAIN_S)
            still, _ = ports.look(self._environment)
            found = [one for one in found if set(one.ports) <= set(still)]
        return found

    def _portmap(self) -> str:
        directories = deletion.directories(self._environment, b"CNI_PATH")
        return plugin_path.locate(_PORTMAP, directories) or f"{runtimes.OPT}/{_PORTMAP}"


class _Judge:
    """What is known of the addresses."""

    def __init__(self, networks: list[Inspected], is_complete: bool, portmap: str) -> None:
        self._networks = networks
        self._is_complete = is_complete
        self._portmap = portmap
        self._by_address: dict[bytes, list[Row]] = {}
        self._not_stale = {row.reservation.container_id for one in networks for row in one.rows if row.verdict != STALE}
        for row in (row for one in networks for row in one.rows if row.evidence.packed):
            self._by_address.setdefault(row.evidence.packed, []).append(row)

    def of(self, published: list[Port]) -> list[Astray]:
        """Return which of these ports are astray, those of one container and address together."""
        found: dict[tuple[str, str, bytes], tuple[list[Port], str, str]] = {}
        for port in published:
            holder = self._holder(port)
            if holder is not None:
                key = port.backend, port.comment, port.address
                found.setdefault(key, ([], *holder))[0].append(port)
        together = [
            Astray(tuple(each), holder, pod, each[0].container in self._not_stale, self._portmap)
            for each, holder, pod in found.values()
        ]
        return sorted(together, key=lambda one: (len(one.ports[0].address), one.ports[0].address))

    def _holder(self, port: Port) -> tuple[str, str] | None:
        """Return who has the address of a port astray, container and pod, "" for nobody; None where it is not astray."""
        rows = self._by_address.get(port.address, [])
        if any(port.is_of(row.reservation.network, row.reservation.container_id) for row in rows):
            return None
        alive = [row for row in rows if row.verdict != STALE and row.reservation.container_id]
        if alive:
            return alive[0].reservation.container_id, alive[0].pod
        if not rows and not self._is_given_here(port):
            return None
        held = [seen for one in self._networks for seen in one.holders.get(port.address, [])]
        if any(not seen.names or port.container in seen.names for seen in held):
            return None  # it lives there without a reservation, or nobody knows who does: audit says so
        names = sorted(name for seen in held for name in seen.names)
        return (names[0] if names else ""), ""

    def _is_given_here(self, port: Port) -> bool:
        """Tell whether host-local gives this address here, and nobody else: another IPAM reserves nothing in its store."""
        if port.network:
            return any(one.name == port.network for one in self._networks)
        return self._is_complete and any(one.pool is not None and port.address in one.pool for one in self._networks)


def leads(published: tuple[Port, ...]) -> str:
    """Return from where to where ports of one address lead, in words."""
    names = list(dict.fromkeys(_name(one) for one in published))
    named = ", ".join(names[:MOST_NAMED]) + (" and %d more" % (len(names) - MOST_NAMED) if len(names) > MOST_NAMED else "")
    one = len(names) == 1
    return f"port{'' if one else 's'} {named} of this node lead{'s' if one else ''} to {unpack(published[0].address)}"


def _name(port: Port) -> str:
    host = f"[{port.host}]:" if ":" in port.host else port.host + ":" if port.host else ""
    return "%s%d/%s" % (host, port.host_port, port.protocol)
